//! run --scope, with a real systemd: started by the test as PID 1 of namespaces of its own, in a cgroup of its own. The test
//! then runs itself once more in there.
#![allow(clippy::expect_used)] // helpers fail as tests do

mod common;
use common::*;
use drydock_testkit::systemd::{Systemd, available, is_inside, show};
use drydock_testkit::{Sandbox, is_root, require};

#[test]
fn systemd_makes_the_scope() {
    if is_inside() {
        return inside();
    }
    require!(is_root(), "needs root");
    require!(available(), "needs systemd and cgroup v2 alone");
    let sandbox = Sandbox::new();
    Systemd::boot(&sandbox).run("systemd_makes_the_scope");
}

fn inside() {
    let look = "cat /proc/self/cgroup; cat /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/pids.max; exit 6";
    let args =
        ["run", "--scope", "ctl-one", "--pids", "33", "--memory", "64M", "--property", "Description='mine'"];
    let ran = tool(&[&args[..], &["--", "sh", "-c", look]].concat());
    assert_eq!(ran.code, 6, "{ran:?}");
    assert!(ran.out.contains("system.slice/ctl-one.scope") && ran.out.contains("\n33\n"), "{ran:?}");
    assert!(ran.err.contains("PID "), "{ran:?}");
    // It is systemd's while it runs, and gone afterwards.
    let slow =
        ["run", "-q", "--scope", "ctl-two", "--slice", "ctl.slice", "--cpu", "50%", "--", "sleep", "1000"];
    let mut run = std::process::Command::new(TOOL).args(slow).spawn().expect("the tool starts");
    eventually("the scope runs", || show("ctl-two.scope").contains("ActiveState=active"));
    let unit = show("ctl-two.scope");
    assert!(
        unit.contains("ControlGroup=/ctl.slice/ctl-two.scope") && unit.contains("Delegate=yes"),
        "{unit}"
    );
    // Another of the same name is refused, and does not end the first.
    tool(&["run", "--scope", "ctl-two", "--", "true"]).fails(125, &["ctl-two.scope"]);
    assert!(show("ctl-two.scope").contains("ActiveState=active"));
    std::process::Command::new("systemctl")
        .args(["stop", "ctl-two.scope"])
        .status()
        .expect("systemctl starts");
    run.wait().expect("the command has ended");
    eventually("the scope is gone", || !show("ctl-two.scope").contains("ActiveState=active"));
    // A property that is none: systemd refuses, and nothing is left.
    tool(&["run", "--scope", "ctl-three", "-p", "NoSuchThing=true", "--", "true"])
        .fails(125, &["NoSuchThing"]);
    assert!(!show("ctl-three.scope").contains("ActiveState=active"));
}

#[test]
fn without_systemd_it_says_so() {
    require!(is_root(), "needs root");
    require!(
        !std::path::Path::new("/run/systemd/private").exists(),
        "needs a machine without a running systemd"
    );
    tool(&["run", "--scope", "ctl", "--", "true"]).fails(125, &["systemd"]);
    tool(&["run", "--scope", "a/b", "--", "true"]).fails(2, &["allowed"]);
    tool(&["run", "--slice", "x.slice", "ctl", "--", "true"]).fails(2, &["--scope"]);
}
