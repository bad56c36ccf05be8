//! copy, save, restore, and what makes them the same everywhere.
#![allow(clippy::unwrap_used)] // helpers fail as tests do

mod common;
use common::*;

const LIMITS: [&str; 10] = [
    "--cpu",
    "0.5",
    "--cpu-weight",
    "300",
    "--memory",
    "100M",
    "--pids",
    "100",
    "--devices",
    "allow /dev/null rw",
];

fn same(a: &str, b: &str) {
    let files = ["cpu.max", "cpu.weight", "memory.max", "pids.max"];
    for name in files {
        assert_eq!(tool(&["get", a, name]).ok().out, tool(&["get", b, name]).ok().out, "{name}");
    }
}

#[test]
fn a_saved_tree_comes_back_with_its_limits() {
    if !can_run("a_saved_tree_comes_back_with_its_limits") {
        return;
    }
    let (n, other) = (Name::new(), Name::new());
    tool(&[&["create", &n.0][..], &LIMITS].concat()).ok();
    tool(&["create", &format!("{}/below", n.0), "--pids", "7"]).ok();
    let file = std::env::temp_dir().join(format!("cgroupctl-{}.json", std::process::id()));
    let path = file.to_str().unwrap();
    let said = tool(&["save", &n.0, path, "--json"]).ok().out;
    assert!(said.contains("below"), "{said}");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains("memory_low") && text.contains("\"pids_max\": 7"), "only what was set: {text}");
    assert_eq!(tool(&["save", &n.0]).ok().out, text, "to standard output");
    tool(&["restore", path]).fails(125, &["exists already", "--reuse"]);
    tool(&["restore", path, "--name", &other.0]).ok();
    same(&n.0, &other.0);
    assert_eq!(file_of(&format!("{}/below", other.0), "pids.max"), "7");
    // The device rules are in force, too.
    let below = format!("{}/below", other.0);
    let denied = tool(&["run", "-q", &below, "--", "sh", "-c", "head -c 1 /dev/zero"]);
    assert!(denied.err.contains("Operation not permitted"), "{denied:?}");
    // The whole tree goes and comes.
    tool(&["cleanup", &n.0]).ok();
    tool(&["restore", path, "--explain"]).ok();
    same(&n.0, &other.0);
    tool(&["set", &n.0, "pids.max=3"]).ok();
    tool(&["restore", path, "--reuse"]).ok();
    assert_eq!(file_of(&n.0, "pids.max"), "100");
    tool(&["restore", path, "--replace"]).ok();
    tool(&["restore", path, "--name", "../x"]).fails(2, &["allowed"]);
    std::fs::write(&file, text.replace("\"version\": 1", "\"version\": 9")).unwrap();
    tool(&["restore", path, "--reuse"]).fails(2, &["version 9"]);
    std::fs::write(&file, &text[..text.len() / 2]).unwrap();
    tool(&["restore", path, "--reuse"]).fails(2, &["EOF"]);
    std::fs::remove_file(&file).unwrap();
    tool(&["restore", path]).fails(2, &["No such file"]);
}

fn file_of(name: &str, kernel_file: &str) -> String {
    file(name, kernel_file).unwrap()
}

#[test]
fn limits_are_copied_and_set_in_all_below() {
    if !can_run("limits_are_copied_and_set_in_all_below") {
        return;
    }
    let (n, other) = (Name::new(), Name::new());
    tool(&[&["create", &n.0][..], &LIMITS].concat()).ok();
    tool(&["copy", &n.0, &other.0]).fails(2, &["no such cgroup"]);
    tool(&["copy", &n.0, &other.0, "--create", "--json"]).ok();
    same(&n.0, &other.0);
    let (one, two) = (format!("{}/one", other.0), format!("{}/one/two", other.0));
    tool(&["create", &two]).ok();
    tool(&["set", "-r", &other.0, "cgroup.max.depth=5", "--lenient"]);
    let set = tool(&["set", "-r", &other.0, "pids.max=44", "--json"]);
    if is_v2() {
        // Above cgroups without the controller's files that is an error, below it is enabled on the way.
        set.ok();
    } else {
        assert!(set.ok().out.starts_with('['));
    }
    for name in [&other.0, &one, &two] {
        assert_eq!(file_of(name, "pids.max"), "44", "{name}");
    }
}

#[test]
fn rounding_is_said_and_names_of_both_versions_work() {
    if !can_run("rounding_is_said_and_names_of_both_versions_work") {
        return;
    }
    let n = Name::new();
    tool(&["create", &n.0]).ok();
    let set = tool(&["set", &n.0, "memory.limit_in_bytes=10000000"]).ok();
    assert!(set.out.contains("rounded by the kernel") && set.out.contains("9998336"), "{set:?}");
    assert_eq!(tool(&["get", &n.0, "memory.max"]).ok().out, "9998336\n");
    let json = tool(&["set", &n.0, "memory.max=10000000", "--json"]).ok().out;
    assert!(json.contains("\"rounded\": true"), "{json}");
    tool(&["set", &n.0, "cpu.cfs_quota_us=30000"]).ok();
    assert_eq!(tool(&["get", &n.0, "cpu.max"]).ok().out, "30000 100000\n");
    assert_eq!(tool(&["get", &n.0, "cpu.cfs_quota_us"]).ok().out, "30000\n");
    tool(&["set", &n.0, "memory=20M", "pids=9", "cpu=0.25"]).ok();
    assert_eq!(tool(&["get", &n.0, "memory.limit_in_bytes"]).ok().out, "20971520\n");
    assert_eq!(tool(&["get", &n.0, "cpu.cfs_quota_us", "pids.max", "-v"]).ok().out, "25000\n9\n");
    // Unknown names are bad input, whatever kind they are of.
    for words in [
        &["set", "frob.max=1"][..],
        &["set", "memory.frob=1"],
        &["set", "hugetlb.3MB.max=3M"],
        &["set", "io.max=99999:1 rbps=1M"],
        &["set", "devices=allow /etc/passwd r"],
        &["get", "memory.frob"],
        &["get", "-c", "frob"],
        &["delegate", "no-such-user-x"],
        &["controllers", "--enable", "frob"],
    ] {
        let (verb, rest) = words.split_first().unwrap();
        tool(&[&[*verb, &n.0], rest].concat()).fails(2, &[]);
    }
    let all = tool(&["get", &n.0, "--all"]).ok().out;
    assert!(
        all.contains("pids.max: 9") && all.contains("cgroup.procs") == all.contains("cgroup.procs: "),
        "{all}"
    );
    let memory = tool(&["get", &n.0, "-c", "memory", "--json"]).ok().out;
    assert!(memory.contains("memory.stat") && !memory.contains("pids.max"), "{memory}");
}

#[test]
fn every_acting_command_explains_and_reports() {
    if !can_run("every_acting_command_explains_and_reports") {
        return;
    }
    let (n, other) = (Name::new(), Name::new());
    let mut sleeper = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let pid = sleeper.id().to_string();
    let says = |args: &[&str], call: &str, json: &str| {
        let ran = tool(&[args, &["--explain", "--json"]].concat()).ok();
        assert!(ran.err.contains(call) && ran.err.contains('['), "{call} in {ran:?}");
        assert!(ran.out.starts_with(['{', '[']) && ran.out.contains(json), "{json} in {ran:?}");
    };
    says(&["create", &n.0, "--pids", "50"], "mkdir(", "\"dirs\"");
    says(&["create", &other.0], "mkdir(", "\"dirs\"");
    says(&["set", &n.0, "pids.max=60"], "pids.max", "\"settings\"");
    says(&["add", &n.0, &pid], "cgroup.procs", "\"added\"");
    says(&["freeze", &n.0], "1\")", "\"frozen\": true");
    says(&["thaw", &n.0], "write(", "\"thawed\": true");
    says(&["move", &n.0, &other.0], "cgroup.procs", "\"moved\"");
    says(&["kill", &other.0], "cgroup.kill", "\"killed\": true");
    assert!(sleeper.wait().unwrap().code().is_none(), "killed");
    says(&["copy", &n.0, &other.0], "pids.max", "\"settings\"");
    says(&["delegate", &n.0, "65534"], "chown(", "\"uid\": 65534");
    says(&["delete", &n.0], "rmdir(", "\"removed\": true");
    says(&["cleanup", &other.0], "rmdir(", "\"removed\": true");
    let log = tool(&["--log-format", "json", "kill", &n.0]);
    assert_eq!(log.code, 2);
    assert!(log.err.starts_with('{') && log.err.contains("\"level\":\"error\""), "{log:?}");
}

#[test]
fn one_pass_lists_what_single_files_say() {
    if !can_run("one_pass_lists_what_single_files_say") {
        return;
    }
    let n = Name::new();
    tool(&["create", &format!("{}/a", n.0), "--memory", "50M"]).ok();
    tool(&[
        "run",
        "-q",
        &format!("{}/a", n.0),
        "--",
        "sh",
        "-c",
        "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done",
    ])
    .ok();
    let json = tool(&["list", &n.0, "--stats", "--json"]).ok().out;
    let cpu = tool(&["show", &format!("{}/a", n.0), "--json"]).ok().out;
    let field = |text: &str, key: &str| -> u64 {
        let at = text.rfind(&format!("\"{key}\":")).unwrap();
        text[at..].split([':', ',', '\n']).nth(1).unwrap().trim().parse().unwrap()
    };
    assert_eq!(field(&json, "cpu_us"), field(&cpu, "usage_us"), "{json}\n{cpu}");
    assert!(field(&json, "cpu_us") > 0);
    assert!(tool(&["list", &n.0, "--stats"]).ok().out.contains(&format!("{}/a", n.0)));
    let top = tool(&["top", &n.0, "--once", "--all", "--sort", "name", "--json"]).ok().out;
    assert!(top.contains("\"cpu_percent\": 0.0") && top.contains(&format!("{}/a", n.0)), "{top}");
    assert!(!tool(&["top", &n.0, "--once"]).ok().out.contains(&n.0), "without processes");
    let monitor = tool(&["monitor", &n.0, "--count", "2", "--interval", "0.05", "--json"]).ok().out;
    assert_eq!(monitor.lines().count(), 2, "{monitor}");
    tool(&["top", "--sort", "beauty"]).fails(2, &["beauty"]);
    let controllers = tool(&["controllers", &n.0, "--json"]).ok().out;
    assert!(
        controllers.contains("\"memory\"") && controllers.contains("\"available\": true"),
        "{controllers}"
    );
}

/// As `save` wrote it on cgroup v1.
const SAVED_ON_V1: &str = r#"{ "version": 1, "cgroups": [
    { "name": "demo", "limits": {
        "cpu": { "quota_us": 50000, "period_us": 100000 }, "cpu_weight": 300, "cpuset_cpus": "0",
        "memory_max": 104857600, "memory_low": 8388608, "swap_max": 52428800, "pids_max": 100,
        "devices": [{ "allow": true, "kind": "char", "major": 1, "minor": 3, "access": "rw" }] } },
    { "name": "demo/below", "limits": { "cpu": { "quota_us": 25000, "period_us": 100000 }, "pids_max": 7 } } ] }"#;
/// And on v2, with what v1 has no counterpart of.
const SAVED_ON_V2: &str = r#"{ "version": 1, "cgroups": [
    { "name": "demo", "limits": {
        "cpu": { "quota_us": 50000, "period_us": 100000 }, "cpu_weight": 300, "cpuset_cpus": "0",
        "memory_max": 104857600, "memory_high": 94371840, "memory_low": 8388608, "memory_min": 1048576,
        "oom_group": true, "swap_max": 52428800, "pids_max": 100,
        "devices": [{ "allow": true, "kind": "char", "major": 1, "minor": 3, "access": "rw" }] } },
    { "name": "demo/below", "limits": { "cpu": { "quota_us": 25000, "period_us": 100000 }, "pids_max": 7 } } ] }"#;

/// What both files mean, as this machine's kernel shows it.
fn has_the_limits(name: &str) {
    let v1 = [
        ("cpu.cfs_quota_us", "50000"),
        ("cpu.shares", "3072"),
        ("memory.limit_in_bytes", "104857600"),
        ("memory.memsw.limit_in_bytes", "157286400"),
        ("memory.soft_limit_in_bytes", "8388608"),
    ];
    let v2 = [
        ("cpu.max", "50000 100000"),
        ("cpu.weight", "300"),
        ("memory.max", "104857600"),
        ("memory.swap.max", "52428800"),
        ("memory.low", "8388608"),
    ];
    let both = [("pids.max", "100"), ("cpuset.cpus", "0")];
    for (kernel_file, value) in (if is_v2() { v2 } else { v1 }).into_iter().chain(both) {
        assert_eq!(file_of(name, kernel_file), value, "{kernel_file}");
    }
    let below = format!("{name}/below");
    assert_eq!(file_of(&below, "pids.max"), "7");
    let denied = tool(&["run", "-q", &below, "--", "sh", "-c", "echo x >/dev/null && head -c 1 /dev/zero"]);
    assert!(denied.code != 0 && denied.err.contains("/dev/zero"), "{denied:?}");
    assert!(denied.err.contains("Operation not permitted"), "{denied:?}");
}

#[test]
fn what_one_version_saved_the_other_restores() {
    if !can_run("what_one_version_saved_the_other_restores") {
        return;
    }
    let path = std::env::temp_dir().join(format!("cgroupctl-versions-{}.json", std::process::id()));
    let words = path.to_str().unwrap();
    let (one, two) = (Name::new(), Name::new());
    std::fs::write(&path, SAVED_ON_V1).unwrap();
    let restore = |name: &str, more: &[&str]| tool(&[&["restore", words, "--name", name], more].concat());
    restore(&one.0, &[]).ok();
    has_the_limits(&one.0);
    std::fs::write(&path, SAVED_ON_V2).unwrap();
    if is_v2() {
        restore(&two.0, &[]).ok();
        assert_eq!(file_of(&two.0, "memory.high"), "94371840");
        assert_eq!(file_of(&two.0, "memory.min"), "1048576");
        assert_eq!(file_of(&two.0, "memory.oom.group"), "1");
    } else {
        // What cannot be is said, and nothing is made; or left out, by name.
        restore(&two.0, &[]).fails(125, &["cgroup v1"]);
        assert!(dirs(&two.0).is_empty());
        let left_out = restore(&two.0, &["--lenient"]).ok().err;
        for what in ["memory.high", "memory.min", "memory.oom.group"] {
            assert!(left_out.contains(what), "{what}: {left_out}");
        }
    }
    has_the_limits(&two.0);
    // What is saved here is what was saved there, but for what is left out.
    let saved = |name: &str| tool(&["save", name]).ok().out.replace(name, "demo");
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(json(&saved(&one.0)), json(SAVED_ON_V1));
    assert_eq!(json(&saved(&two.0)), json(if is_v2() { SAVED_ON_V2 } else { SAVED_ON_V1 }));
    std::fs::remove_file(path).unwrap();
}
