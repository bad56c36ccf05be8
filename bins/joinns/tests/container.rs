//! `joinns NAME`: containers by their state files, and the target's root and cgroups.
#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on should stop

mod common;

use common::*;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

fn write_state(root: &Scratch, name: &str, pid: i32, start_time: u64, status: &str) {
    let dir = root.join(name);
    std::fs::create_dir_all(&dir).unwrap();
    let state =
        serde_json::json!({"version": 1, "id": name, "pid": pid, "start_time": start_time, "status": status});
    std::fs::write(dir.join("state.json"), state.to_string()).unwrap();
}

fn run(root: &Scratch, args: &[&str]) -> Output {
    Command::new(JOINNS).args(args).env("DRYDOCK_ROOT", &root.0).stdin(Stdio::null()).output().unwrap()
}

fn refused(output: &Output, words: &str) {
    assert_eq!(output.status.code(), Some(2), "{}", stderr(output));
    assert!(stderr(output).contains(words) && stdout(output).is_empty(), "{}", stderr(output));
}

#[test]
fn names() {
    if !is_root() {
        return skip("names", "needs root");
    }
    let Some(target) = Target::start(&[], &["-m", "-p", "-n", "-u", "-i"]) else {
        return skip("names", "needs unshare(1)");
    };
    let root = Scratch::new("names");
    let started = start_time(target.pid);
    write_state(&root, "web-1", target.pid, started, "running");
    write_state(&root, "gone", target.pid, started + 1, "running");
    write_state(&root, "done", 0, 0, "stopped");
    let output = run(&root, &["web-1", "--", "readlink", "/proc/self/ns/net"]);
    assert_eq!(stdout(&output), target.ns("net"), "{}", stderr(&output));
    let output = run(&root, &["web", "-n", "--", "readlink", "/proc/self/ns/uts"]);
    assert_eq!(stdout(&output), ns_of("self", "uts"), "{}", stderr(&output));
    let output = run(&root, &["web-1", "no-such-command"]);
    assert!(output.status.code() == Some(127) && stderr(&output).contains("the root of container web-1"));
    refused(&run(&root, &["gone", "echo", "ran"]), "is not running");
    refused(&run(&root, &["done", "echo", "ran"]), "is not running");
    refused(&run(&root, &["other", "echo", "ran"]), "no such container");
    refused(&run(&root, &["..", "echo", "ran"]), "not a container name");
    write_state(&root, "web-2", target.pid, started, "running");
    refused(&run(&root, &["web", "echo", "ran"]), "matches web-1, web-2");
    std::fs::write(root.join("web-2").join("state.json"), "{\"pid\": \"x").unwrap();
    assert_eq!(run(&root, &["web-2", "echo", "ran"]).status.code(), Some(125));
}

#[test]
fn the_root_and_directory_of_the_target() {
    if !is_root() || which("chroot").is_none() {
        return skip("the_root_and_directory_of_the_target", "needs root");
    }
    // A root that holds nothing: the command is sought there, and said so.
    let root = Scratch::new("root");
    std::fs::create_dir_all(root.join("inside")).unwrap();
    let me = std::process::id().to_string();
    let option = format!("--root={}", root.0.display());
    let output = joinns(&["-t", &me, &option, "--", "sh"]);
    assert!(
        output.status.code() == Some(127) && stderr(&output).contains("not found"),
        "{}",
        stderr(&output)
    );
    let option = format!("--wd={}", root.join("inside").display());
    let output = joinns(&["-t", &me, &option, "--", "pwd"]);
    assert_eq!(stdout(&output), root.join("inside").display().to_string());
}

/// A v2 cgroup of this test, thawed and removed when dropped.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Option<Cgroup> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        let line = mounts.lines().find(|l| l.contains(" - cgroup2 "))?;
        let path = PathBuf::from(line.split(' ').nth(4)?).join(format!("joinns-test-{}", std::process::id()));
        std::fs::create_dir(&path).ok()?;
        Some(Cgroup(path))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = std::fs::write(self.0.join("cgroup.freeze"), "0");
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

#[test]
fn the_cgroup_of_the_target() {
    let test = "the_cgroup_of_the_target";
    let Some(cgroup) = is_root().then(Cgroup::new).flatten() else {
        return skip(test, "needs root and a writable cgroup2 mount");
    };
    let Some(target) = Target::start(&[], &["-p", "-u"]) else { return skip(test, "needs unshare(1)") };
    std::fs::write(cgroup.0.join("cgroup.procs"), target.pid.to_string()).unwrap();
    let pid = target.pid.to_string();
    let line = |text: &str| text.lines().find(|l| l.starts_with("0::")).map(str::to_string);
    let output = joinns(&["-t", &pid, "-a", "-c", "cat", "/proc/self/cgroup"]);
    let name = cgroup.0.file_name().unwrap().to_str().unwrap();
    assert_eq!(line(&stdout(&output)).unwrap().rsplit('/').next(), Some(name), "{}", stderr(&output));
    let own = line(&std::fs::read_to_string("/proc/self/cgroup").unwrap());
    // Who enters its pid namespace is held by what holds it; with the uts namespace alone nothing is entered.
    let output = joinns(&["-t", &pid, "-p", "cat", "/proc/self/cgroup"]);
    assert_eq!(line(&stdout(&output)).unwrap().rsplit('/').next(), Some(name), "{}", stderr(&output));
    for args in [&["-a", "--privileged"][..], &["-u"]] {
        let output = joinns(&[&["-t", &pid], args, &["cat", "/proc/self/cgroup"]].concat());
        assert_eq!(line(&stdout(&output)), own, "{args:?}");
    }
    std::fs::write(cgroup.0.join("cgroup.freeze"), "1").unwrap();
    let frozen =
        || std::fs::read_to_string(cgroup.0.join("cgroup.events")).is_ok_and(|t| t.contains("frozen 1"));
    for _ in 0..100 {
        if frozen() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    refused(&joinns(&["-t", &pid, "-a", "-c", "echo", "ran"]), "frozen");
    refused(&joinns(&["-t", &pid, "-a", "echo", "ran"]), "frozen");
    drop(target);
}
