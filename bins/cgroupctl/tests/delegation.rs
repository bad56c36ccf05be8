//! A subtree for a user without privileges, and the rules that stand in the way.
#![allow(clippy::unwrap_used)] // helpers fail as tests do

mod common;
use common::*;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

const NOBODY: u32 = 65534;

/// The tool, as nobody, started in a cgroup of root's choice.
fn as_nobody(cgroup: &str, args: &[&str]) -> Ran {
    let mut command = Command::new("sh");
    // The shell is moved by root, and then is root no more.
    let become_nobody = "shift; exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$@\"";
    command.args([
        "-c",
        &format!("\"$1\" add {cgroup} $$ >/dev/null || exit 99; {become_nobody}"),
        "sh",
        TOOL,
        TOOL,
    ]);
    command.args(args).output().unwrap().into()
}

#[test]
fn a_user_manages_what_was_delegated() {
    if !can_run("a_user_manages_what_was_delegated") {
        return;
    }
    let n = Name::new();
    let of = |name: &str| format!("{}/{name}", n.0);
    tool(&["create", &n.0, "--memory", "300M", "--pids", "60"]).ok();
    let said = tool(&["delegate", &n.0, "65534:65534"]).ok();
    assert_eq!(said.err.contains("does not confine"), !is_v2(), "{said:?}");
    for dir in dirs(&n.0) {
        let owner = |p: &std::path::Path| std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(p).unwrap());
        assert_eq!(owner(&dir), NOBODY);
        assert_eq!(owner(&dir.join("cgroup.procs")), NOBODY);
        for limit in ["pids.max", "memory.max", "memory.limit_in_bytes"].map(|f| dir.join(f)) {
            assert!(!limit.exists() || owner(&limit) == 0, "{limit:?}");
        }
    }
    // Where the user's processes are: inside, but not in the cgroup itself, which shall hand controllers on.
    tool(&["create", &of("shell")]).ok();
    let nobody = |args: &[&str]| as_nobody(&of("shell"), args);
    nobody(&["create", &of("job"), "--pids", "20", "--memory", "50M"]).ok();
    assert_eq!(file(&of("job"), "pids.max").unwrap(), "20");
    let inside = nobody(&["run", "-q", &of("job"), "--", "cat", "/proc/self/cgroup"]).ok();
    assert!(inside.out.contains(&format!("/{}", of("job"))), "{inside:?}");
    nobody(&["set", &of("job"), "pids.max=10"]).ok();
    let mut sleeper = Command::new("sleep").arg("1000").uid(NOBODY).gid(NOBODY).spawn().unwrap();
    tool(&["add", &of("shell"), &sleeper.id().to_string()]).ok();
    nobody(&["add", &of("job"), &sleeper.id().to_string()]).ok();
    nobody(&["freeze", &of("job")]).ok();
    nobody(&["thaw", &of("job")]).ok();
    nobody(&["kill", &of("job")]).ok();
    assert!(sleeper.wait().unwrap().code().is_none());
    // Not its own limits, and nothing beside it.
    nobody(&["set", &n.0, "pids.max=1000"]).fails(125, &["Permission denied"]);
    assert_eq!(file(&n.0, "pids.max").unwrap(), "60");
    let beside = format!("{}-beside", n.0);
    let refused = nobody(&["create", &beside]);
    assert_eq!(refused.code, 125, "{refused:?}");
    assert!(dirs(&beside).is_empty());
    nobody(&["cleanup", &of("job")]).ok();
    assert!(dirs(&of("job")).is_empty());
    tool(&["delegate", "system.slice", "65534"]).fails(2, &["systemd"]);
}

#[test]
fn whoever_stands_in_the_way_is_named_and_moved() {
    if !can_run("whoever_stands_in_the_way_is_named_and_moved") {
        return;
    }
    if !is_v2() {
        return skip("whoever_stands_in_the_way_is_named_and_moved", "needs cgroup v2");
    }
    let n = Name::new();
    tool(&["create", &n.0]).ok();
    let mut sleeper = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
    let pid = sleeper.id().to_string();
    tool(&["add", &n.0, &pid]).ok();
    let below = format!("{}/below", n.0);
    tool(&["create", &below, "--memory", "10M"])
        .fails(125, &[&pid, "sleep", "no-internal-process", "--make-leaf"]);
    assert!(dirs(&below).is_empty(), "nothing is left of it");
    tool(&["create", &below, "--memory", "10M", "--make-leaf"]).ok();
    assert_eq!(file(&below, "memory.max").unwrap(), "10485760");
    assert!(file(&format!("{}/leaf", n.0), "cgroup.procs").unwrap().contains(&pid), "moved");
    // The other way about: a process cannot come where controllers are handed on.
    tool(&["add", &n.0, &pid]).fails(125, &["no-internal-process", "child"]);
    tool(&["run", &n.0, "--", "true"]).fails(125, &["no-internal-process"]);
    tool(&["controllers", &below, "--enable", "pids"]).ok();
    assert!(file(&below, "cgroup.subtree_control").unwrap().contains("pids"));
    tool(&["controllers", &below, "--disable", "pids", "--json"]).ok();
    assert!(!file(&below, "cgroup.subtree_control").unwrap().contains("pids"));
    // Threads: a threaded cgroup takes threads, not foreign processes.
    let threaded = format!("{}/leaf/t", n.0);
    tool(&["create", &threaded, "--lenient"]);
    std::fs::create_dir_all(dirs(&format!("{}/leaf", n.0))[0].join("t")).unwrap();
    std::fs::write(dirs(&threaded)[0].join("cgroup.type"), "threaded").unwrap();
    tool(&["add", &threaded, &pid, "--thread"]).ok();
    assert!(file(&threaded, "cgroup.threads").unwrap().contains(&pid));
    tool(&["kill", &n.0]).ok();
    sleeper.wait().unwrap();
}

#[test]
fn a_read_only_mount_is_named_as_that() {
    if !can_run("a_read_only_mount_is_named_as_that") {
        return;
    }
    let n = Name::new();
    tool(&["create", &n.0, "--pids", "9"]).ok();
    let remount = "for m in $(awk '$3 ~ /^cgroup/ {print $2}' /proc/mounts); do mount -o bind,remount,ro $m; done; exec \"$@\"";
    let inside = |args: &[&str]| -> Ran {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", remount, "sh", TOOL]).args(args).output().unwrap().into()
    };
    for args in [
        &["create", "drydock-test-ro"][..],
        &["set", &n.0, "pids.max=1"],
        &["add", &n.0, "1"],
        &["freeze", &n.0],
        &["delete", &n.0],
        &["cleanup", &n.0],
    ] {
        let ran = inside(args);
        assert_eq!(ran.code, 125, "{args:?}: {ran:?}");
        assert!(ran.err.contains("read-only"), "{args:?}: {ran:?}");
    }
    inside(&["show", &n.0, "pids.max"]).ok();
    assert_eq!(file(&n.0, "pids.max").unwrap(), "9");
}
