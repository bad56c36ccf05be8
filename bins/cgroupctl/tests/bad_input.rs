//! Bad input: one sentence, exit 2, nothing made.

mod common;
use common::*;

#[test]
fn refused_before_anything_is_made() {
    let n = Name::new();
    let long = "x".repeat(256);
    let deep = "d/".repeat(2100);
    let name_cases: Vec<&str> = vec![
        "",
        "..",
        "a/../b",
        "/abs",
        "/sys/fs/cgroup/x",
        "a//b",
        "a/",
        ".",
        "a\nb",
        "a\u{1b}[31mb",
        "cgroup.procs",
        "tasks",
        "a/memory.max",
        &long,
        &deep,
    ];
    for name in name_cases {
        for verb in ["create", "show", "kill", "freeze", "delete", "cleanup", "monitor", "psi"] {
            let ran = tool(&[verb, name]);
            assert_eq!(ran.code, 2, "{verb} {name:?}: {ran:?}");
            assert_eq!(ran.err.lines().count(), 1, "{ran:?}");
            assert!(!ran.err.contains('\u{1b}') && ran.err.len() < 4200, "{ran:?}");
        }
    }
    let values: [(&str, &[&str]); 9] = [
        ("--cpu", &["0", "-1", "x", "1e3", "nan", "0.0001", "20000", "", "200%%"]),
        (
            "--memory",
            &["-2", "10x", "1e3", "9223372036854775808", "0", "1", "", "99999P", "18446744073709551615"],
        ),
        ("--swap", &["-1", "x", "9223372036854775808"]),
        ("--pids", &["-5", "abc", "0", "1.5", "4194305", ""]),
        ("--cpu-weight", &["0", "10001", "x", "max"]),
        ("--cpuset-cpus", &["3-1", "0,,1", "a", "0-99999", "", "-1"]),
        ("--cpuset-mems", &["x", "9999"]),
        ("--io-weight", &["0", "10001"]),
        (
            "--io-max",
            &["8:0", "x rbps=1", "8:0 rbps=x", "8:0 foo=1", "/no/such rbps=1", "", "8:0 rbps=1 rbps=2"],
        ),
    ];
    for (flag, bad) in values {
        for value in bad {
            let ran = tool(&["create", &n.0, &format!("{flag}={value}")]);
            assert_eq!(ran.code, 2, "{flag}={value}: {ran:?}");
            assert_eq!(ran.err.lines().count(), 1, "{ran:?}");
        }
    }
    for args in [
        &["create", &n.0, "--reuse", "--replace"][..],
        &["create", &n.0, "--owner", "../x"],
        &["create", &n.0, "--owner", "x", "--root", "relative"],
        &["create", &n.0, "--cpu", "1", "--cpu", "2"],
        &["create"],
        &["create", &n.0, "--frobnicate"],
        &["set", &n.0, "memory.max"],
        &["set", &n.0, "cpu.max=0 100000"],
        &["set", &n.0, "cpu.max=999 100000"],
        &["set", &n.0, "cpu.max=50000 0"],
        &["set", &n.0, "cpu.max=50000 1000001"],
        &["set", &n.0, "cgroup.procs=1"],
        &["set", &n.0, "../x.y=1"],
        &["set", &n.0, "pids.max=1", "pids.max=2"],
        &["set", &n.0],
        &["add", &n.0, "0"],
        &["add", &n.0, "--", "-1"],
        &["add", &n.0, "abc"],
        &["add", &n.0, "2147483648"],
        &["add", &n.0],
        &["monitor", &n.0, "--interval", "0"],
        &["monitor", &n.0, "--interval", "1e12"],
        &["monitor", &n.0, "--interval", "abc"],
        &["cleanup", &n.0, "--timeout", "-1"],
        &["run", &n.0, "--memory", "1", "--", "true"],
        &["run", &n.0, "--create", "--", ""],
        &["get", &n.0, "../../x"],
        &["cleanup", "system.slice"],
        &["kill", "init.scope/x"],
        &["frobnicate"],
        &[],
    ] {
        let ran = tool(args);
        assert_eq!(ran.code, 2, "{args:?}: {ran:?}");
        assert!(ran.out.is_empty(), "{args:?}: {ran:?}");
    }
    assert!(dirs(&n.0).is_empty());
}

#[test]
fn what_is_not_there() {
    if !can_run("what_is_not_there") {
        return;
    }
    let n = Name::new();
    for args in
        [&["show"][..], &["freeze"], &["kill"], &["monitor", "--once"], &["psi"], &["thaw"], &["list"]]
    {
        let (verb, rest) = args.split_first().unwrap();
        tool(&[&[*verb, &n.0], rest].concat()).fails(2, &["no such cgroup"]);
    }
    tool(&["set", &n.0, "pids.max=5"]).fails(2, &["no such cgroup"]);
    // Removing what is gone is fine.
    tool(&["delete", &n.0]).ok();
    assert!(tool(&["cleanup", "--json", &n.0]).ok().out.contains("\"removed\": false"));
}

#[test]
fn help_version_and_tables() {
    assert!(tool(&["--version"]).ok().out.starts_with("cgroupctl "));
    let help = tool(&["--help"]).ok().out;
    assert!(help.contains("cgroups(7)") && help.contains("--memory 100M"), "{help}");
    assert!(tool(&["compare"]).ok().out.contains("memory.memsw.limit_in_bytes"));
    assert!(tool(&["compare", "--json"]).ok().out.starts_with('['));
    let check = tool(&["check", "--json"]);
    assert!(check.out.contains("\"mode\""), "{check:?}");
    for (_, mount) in mounts() {
        assert!(check.out.contains(mount.to_str().unwrap()), "{mount:?} in {check:?}");
    }
}

#[test]
fn a_file_that_is_none_keeps_the_others_from_being_written() {
    if !can_run("a_file_that_is_none_keeps_the_others_from_being_written") {
        return;
    }
    let n = Name::new();
    tool(&["create", &n.0, "--pids", "77"]).ok();
    tool(&["set", &n.0, "pids.max=33", "pids.bogus=1"]).fails(2, &["pids.bogus"]);
    assert_eq!(file(&n.0, "pids.max").as_deref().map(str::trim), Some("77"));
    tool(&["set", &n.0, "pids.max=33"]).ok();
    assert_eq!(file(&n.0, "pids.max").as_deref().map(str::trim), Some("33"));
}

#[test]
fn no_command_is_born_frozen() {
    if !can_run("no_command_is_born_frozen") {
        return;
    }
    let n = Name::new();
    tool(&["create", &n.0]).ok();
    tool(&["freeze", &n.0]).ok();
    tool(&["run", &n.0, "--", "true"]).fails(125, &["is frozen", "thaw"]);
    tool(&["thaw", &n.0]).ok();
    tool(&["run", &n.0, "--", "true"]).ok();
}
