//! `monitor inspect|tree|ps|mounts|ipc` and containers by name, and what is printed when things are wrong.
// A helper that cannot go on fails its test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Running, child, json, monitor, wait_comm};
use drydock_testkit::{Sandbox, have, is_root, require};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

#[test]
fn inspect_names_the_network_namespace() {
    require!(is_root() && have("ip"), "needs root and ip");
    let sandbox = Sandbox::new();
    let name = sandbox.unique("mon");
    let ip = |args: &[&str]| Command::new("ip").args(args).status().unwrap().success();
    assert!(ip(&["netns", "add", &name]));
    let inside = Running::start(Command::new("ip").args(["netns", "exec", &name, "sleep", "60"]));
    wait_comm(&sandbox, inside.pid(), "sleep");
    let pid = inside.pid().to_string();
    let found = json(&sandbox, &["inspect", &pid]);
    assert_eq!(found["netns_names"][0].as_str(), Some(name.as_str()));
    monitor(&sandbox, &["inspect", &pid]).success().stdout_has(&name);
    drop(inside);
    assert!(ip(&["netns", "del", &name]));
}

#[test]
fn inspect_says_what_proc_says() {
    require!(is_root() && have("unshare"), "needs root and unshare");
    let sandbox = Sandbox::new();
    let parent = Running::unshare(&["-pf", "--kill-child", "sh", "-c", "sleep 60 & wait"]);
    let inside = child(&sandbox, parent.pid(), "sh");
    let sleep = child(&sandbox, inside, "sleep");
    let pid = inside.to_string();
    let found = json(&sandbox, &["inspect", &pid]);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |key: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(&format!("{key}:\t")));
        line.unwrap_or_else(|| panic!("{key}")).trim().to_string()
    };
    assert_eq!(found["capabilities"]["effective"]["hex"].as_str(), Some(field("CapEff").as_str()));
    assert_eq!(found["capabilities"]["bounding"]["hex"].as_str(), Some(field("CapBnd").as_str()));
    assert_eq!(found["no_new_privs"].as_bool(), Some(field("NoNewPrivs") == "1"));
    let mode = ["none", "strict", "filter"][field("Seccomp").parse::<usize>().unwrap()];
    assert_eq!(found["seccomp"].as_str(), Some(mode));
    assert_eq!(found["process"]["inside_pid"].as_u64(), Some(1));
    let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let places = found["cgroups"].as_array().unwrap();
    assert_eq!(places.len(), cgroup.lines().count());
    for place in places {
        assert!(cgroup.lines().any(|l| l.ends_with(&format!(":{}", place["path"].as_str().unwrap()))));
    }
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    assert_eq!(found["fds"].as_u64(), Some(fds as u64));
    let tree: Vec<(u64, u64)> = found["processes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| (p["depth"].as_u64().unwrap(), p["pid"].as_u64().unwrap()))
        .collect();
    assert_eq!(tree, [(0, u64::from(inside)), (1, u64::from(sleep))]);

    let text = monitor(&sandbox, &["tree", &parent.pid().to_string()]).success().stdout;
    assert!(text.contains(&format!("  sh({inside}) inside 1 [new pid]")), "{text}");
    let text = monitor(&sandbox, &["ps", &pid]).success().stdout;
    assert_eq!(text.lines().count(), 3, "{text}");
}

#[test]
fn columns_of_ps_and_targets_without_an_option() {
    require!(is_root() && have("unshare") && have("setpriv"), "needs root, unshare and setpriv");
    let sandbox = Sandbox::new();
    let inside = Running::unshare(&["-U", "sleep", "60"]);
    wait_comm(&sandbox, inside.pid(), "sleep");
    let pid = inside.pid().to_string();
    std::fs::write(format!("/proc/{pid}/gid_map"), "6 0 1").unwrap();
    std::fs::write(format!("/proc/{pid}/uid_map"), "5 0 1").unwrap();
    let column = |pid: &str, name: &str| {
        let rows = json(
            &sandbox,
            &["ps", pid, "-o", "pid,user,huser,group,hgroup,ns,args,capbnd,capamb,seccomp,nnp"],
        );
        rows[0][name].as_str().unwrap_or_else(|| panic!("{name} in {rows}")).to_string()
    };
    for (name, wanted) in [
        ("pid", pid.as_str()),
        ("user", "5"),
        ("huser", "root"),
        ("group", "6"),
        ("hgroup", "0"),
        ("ns", "user"),
        ("command", "sleep 60"),
    ] {
        assert_eq!(column(&pid, name), wanted, "{name}");
    }
    let closed = ["--no-new-privs", "--inh-caps=-all", "--bounding-set=-all,+kill", "sleep", "60"];
    let closed = Running::start(Command::new("setpriv").args(closed));
    wait_comm(&sandbox, closed.pid(), "sleep");
    let seccomp = std::fs::read_to_string("/proc/self/status").unwrap().contains("Seccomp:\t2");
    for (name, wanted) in [
        ("capbnd", "KILL"),
        ("capamb", "none"),
        ("nnp", "yes"),
        ("seccomp", if seccomp { "filter" } else { "disabled" }),
    ] {
        assert_eq!(column(&closed.pid().to_string(), name), wanted, "{name}");
    }
    let table = monitor(&sandbox, &["ps", &pid, "-o", "+capeff"]).success().stdout;
    assert!(table.lines().next().unwrap().ends_with("CAPEFF"), "{table}");
    monitor(&sandbox, &["ps", "-o", "nope"]).fails_with(2).says("capeff");
    // The same with and without --pid.
    for verb in [&["ns", "show"][..], &["mounts"], &["ipc"]] {
        let plain = monitor(&sandbox, &[verb, &[&pid]].concat()).success().stdout;
        assert_eq!(plain, monitor(&sandbox, &[verb, &["--pid", &pid]].concat()).success().stdout);
        monitor(&sandbox, &[verb, &["nobody"]].concat()).fails_with(2).says("nobody");
    }
}

#[test]
fn mounts_have_their_propagation() {
    require!(is_root() && have("unshare"), "needs root and unshare");
    let sandbox = Sandbox::new();
    let script = "mount -t tmpfs 'a b' \"$1\" && mount --make-shared \"$1\" && exec sleep 60";
    let target = sandbox.join("mnt\x1b x");
    std::fs::create_dir(&target).unwrap();
    let inside = Running::start(
        Command::new("unshare")
            .args(["-m", "--propagation", "private", "sh", "-c", script, "sh"])
            .arg(&target),
    );
    wait_comm(&sandbox, inside.pid(), "sleep");
    let pid = inside.pid().to_string();
    let mounts = json(&sandbox, &["mounts", "--pid", &pid]);
    let found = mounts.as_array().unwrap().iter().find(|m| m["source"] == "a b").expect("the mount");
    assert!(found["propagation"].as_str().unwrap().starts_with("shared:"), "{found}");
    assert!(found["target"].as_str().unwrap().ends_with("mnt\\x1b x"), "{found}");
    for args in [&["mounts", "--pid", &pid][..], &["mounts", "--tree", "--pid", &pid]] {
        let text = monitor(&sandbox, args).success().stdout;
        assert!(text.contains("a b") && !text.contains('\x1b'), "{text}");
    }
    monitor(&sandbox, &["mounts"]).success().stdout_lacks("mnt\\x1b x");
}

#[test]
fn ipc_shows_the_objects_of_the_namespace_only() {
    require!(is_root() && have("unshare") && have("ipcmk"), "needs root, unshare and ipcmk");
    let sandbox = Sandbox::new();
    let inside = Running::unshare(&["-i", "sh", "-c", "ipcmk -M 4096 && ipcmk -S 3 && exec sleep 60"]);
    wait_comm(&sandbox, inside.pid(), "sleep");
    let host = json(&sandbox, &["ipc"]);
    let found = json(&sandbox, &["ipc", "--pid", &inside.pid().to_string()]);
    let kinds: Vec<_> = found
        .as_array()
        .unwrap()
        .iter()
        .map(|o| (o["kind"].as_str().unwrap(), o["size"].as_u64().unwrap()))
        .collect();
    assert_eq!(kinds, [("shm", 4096), ("sem", 3)]);
    assert_eq!(json(&sandbox, &["ipc"]), host);
}

/// A running container's state, as the orchestrator writes it.
fn container(sandbox: &Sandbox, id: &str, pid: Option<u32>) {
    let dir = sandbox.state().join(id);
    std::fs::create_dir(&dir).unwrap();
    let pid = pid.map(|pid| i32::try_from(pid).unwrap());
    let state = serde_json::json!({
        "version": 1, "id": id, "status": if pid.is_some() { "running" } else { "stopped" }, "pid": pid,
        "start_time": pid.and_then(drydock_bundle::state::start_time), "created": 0, "finished": null, "ended": null,
        "command": ["sleep"], "rootfs": "/", "hostname": null, "network": "none",
    });
    std::fs::write(dir.join("state.json"), state.to_string()).unwrap();
}

#[test]
fn containers_by_name_or_beginning() {
    let sandbox = Sandbox::new();
    let process = Running::start(Command::new("sleep").arg("60"));
    wait_comm(&sandbox, process.pid(), "sleep");
    container(&sandbox, "web-1", Some(process.pid()));
    container(&sandbox, "web-2", Some(std::process::id()));
    container(&sandbox, "old", None);
    let shown = json(&sandbox, &["ns", "show", "--pid", "web-1"]);
    assert_eq!(
        (shown["pid"].as_u64(), shown["container"].as_str()),
        (Some(process.pid().into()), Some("web-1"))
    );
    assert_eq!(json(&sandbox, &["inspect", "web-1"])["container"].as_str(), Some("web-1"));
    monitor(&sandbox, &["tree", "web-1"]).success().stdout_has("[container web-1]");
    monitor(&sandbox, &["ns", "diff", "web-1", "web-2"]).success().stdout_has("same");
    monitor(&sandbox, &["inspect", "web"]).fails_with(2).says("web-1").says("web-2");
    monitor(&sandbox, &["inspect", "nope"]).fails_with(2).says("the container does not exist");
    monitor(&sandbox, &["inspect", "old"]).fails_with(125).says("stopped");
    let elsewhere = sandbox.join("none");
    monitor(&sandbox, &["--root", elsewhere.to_str().unwrap(), "inspect", "web-1"]).fails_with(2);
    for id in ["web-1", "web-2", "old"] {
        std::fs::remove_dir_all(sandbox.state().join(id)).unwrap();
    }
}

#[test]
fn bad_input_is_one_sentence_and_2() {
    let sandbox = Sandbox::new();
    let me = std::process::id().to_string();
    let table: &[&[&str]] = &[
        &["frobnicate"],
        &["ns", "ls", "--frobnicate"],
        &["ns", "ls", "--type", "foo"],
        &["ns", "ls", "--pid", "0"],
        &["ns", "show", "--pid", "-1"],
        &["ns", "show", "--pid", "4194305"],
        &["ns", "show", "--pid", "99999999999999999999"],
        &["ns", "show", "--pid", "../x"],
        &["ns", "show", "--pid", ""],
        &["ns", "show", "--pid", &me, "--pid", &me],
        &["ns", "diff", &me],
        &["ns", "owner", "/etc/passwd"],
        &["ns", "owner", "/nonexistent"],
        &["ns", "owner", "1:frob"],
        &["ns", "parent", "/proc/self/ns/net"],
        &["ns", "tree", "--by", "age"],
        &["group", "--by", "x"],
        &["pidmap"],
        &["pidmap", "\x1b[31m"],
        &["inspect", "no such"],
        &["inspect", "é"],
        &["stats", &me, "--interval", "0"],
        &["stats", &me, "--interval", "-1"],
        &["stats", &me, "--interval", "1ns"],
        &["stats", &me, "--interval", "1e12"],
        &["top", "--interval", "abc"],
        &["top", "--root", "relative"],
    ];
    for args in table {
        let output = monitor(&sandbox, args).fails_with(2);
        assert_eq!(output.stderr.lines().count(), 1, "{}", output.describe());
        assert!(output.stdout.is_empty() && !output.stderr.contains('\x1b'), "{}", output.describe());
        assert!(output.stderr.starts_with("monitor: "), "{}", output.describe());
    }
    let huge = "9".repeat(100_000);
    let output = monitor(&sandbox, &["pidmap", &huge]).fails_with(2);
    assert!(output.stderr.len() < 5000);
    let invalid = std::ffi::OsStr::from_bytes(b"a\xff");
    let output = sandbox.command("monitor").arg("inspect").arg(invalid).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    // Without arguments: the help, as a usage error.
    monitor(&sandbox, &[]).exits(2);
    for args in [&["--help"][..], &["ns", "--help"], &["stats", "--help"], &["--version"]] {
        monitor(&sandbox, args).success();
    }
}

#[test]
fn a_fifo_does_not_hang() {
    let sandbox = Sandbox::new();
    let fifo = sandbox.join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    monitor(&sandbox, &["ns", "owner", fifo.to_str().unwrap()]).fails_with(2);
}

#[test]
fn names_that_drive_terminals_are_escaped() {
    let sandbox = Sandbox::new();
    let program = sandbox.join("e\x1b[31m\u{9b}x");
    let sleep = ["/bin/sleep", "/usr/bin/sleep"].into_iter().find(|p| std::path::Path::new(p).exists());
    std::fs::copy(sleep.expect("sleep"), &program).unwrap();
    let process = Running::start(Command::new(&program).arg("60"));
    sandbox.wait_until("exec", || {
        std::fs::read_to_string(format!("/proc/{}/comm", process.pid())).unwrap_or_default().starts_with('e')
    });
    let pid = process.pid().to_string();
    for args in
        [&["ps", &pid][..], &["tree", &pid], &["inspect", &pid], &["group"], &["ns", "ls", "--pid", &pid]]
    {
        for json in [false, true] {
            let mut args = args.to_vec();
            args.extend(json.then_some("--json"));
            let text = monitor(&sandbox, &args).success().stdout;
            assert!(!text.contains('\x1b') && !text.contains('\u{9b}'), "{args:?}: {text}");
        }
    }
    monitor(&sandbox, &["ps", &pid]).success().stdout_has("\\x1b[31m");
}

#[test]
fn a_reader_that_has_gone_is_no_error() {
    let sandbox = Sandbox::new();
    let mut child =
        sandbox.command("monitor").arg("ps").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let quiet = output.status.success() || output.status.signal() == Some(nix::libc::SIGPIPE);
    assert!(quiet && output.stderr.is_empty(), "{output:?}");
    // A full device is one.
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = sandbox.command("monitor").args(["ns", "types"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&output.stderr).contains("No space left on device"), "{output:?}");
}
