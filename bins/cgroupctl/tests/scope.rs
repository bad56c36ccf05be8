//! run --scope, with a real systemd: started by the test as PID 1 of namespaces of its own, in a cgroup of its own. The test
//! then runs itself once more in there.
#![allow(clippy::expect_used)] // helpers fail as tests do

mod common;
use common::*;
use drydock_testkit::systemd::{Systemd, available, is_inside, show, start_user_manager};
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

/// A user's own manager makes the scope, and the limits that were delegated to it hold.
#[test]
fn a_users_systemd_makes_the_scope() {
    if is_inside() {
        return inside_of_a_user();
    }
    require!(is_root(), "needs root");
    require!(available(), "needs systemd and cgroup v2 alone");
    let sandbox = Sandbox::new();
    Systemd::boot(&sandbox).run("a_users_systemd_makes_the_scope");
}

fn inside_of_a_user() {
    // systemd wants the user to have a name: daemon.
    const UID: u32 = 1;
    let place = Sandbox::new();
    let runtime = start_user_manager(&place, UID);
    let service = format!("/sys/fs/cgroup/system.slice/manager-{UID}.service");
    // From a cgroup of the user's own: who is elsewhere may not move processes into it.
    let script = "mkdir -p \"$1/test\"; chown $2 \"$1/test\" \"$1/test/cgroup.procs\" && echo $$ > \"$1/test/cgroup.procs\" && \
        uid=$2 && shift 2 && exec setpriv --reuid $uid --regid $uid --clear-groups -- env XDG_RUNTIME_DIR=/run/user/$uid \"$@\"";
    let as_user = |words: &[&str]| -> Ran {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", script, "as-user", &service, &UID.to_string(), TOOL]).args(words);
        command.env_remove("DBUS_SESSION_BUS_ADDRESS").output().expect("sh starts").into()
    };
    let look = "cat /proc/self/cgroup; cat /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/pids.max; exit 7";
    let words =
        ["run", "--scope", "--user", "mine", "--pids", "44", "--memory", "64M", "--", "sh", "-c", look];
    let ran = as_user(&words);
    let log = std::fs::read_to_string(runtime.with_extension("log")).unwrap_or_default();
    assert_eq!(ran.code, 7, "{ran:?}; its systemd: {log}");
    assert!(
        ran.out.contains("manager-1.service/app.slice/mine.scope") && ran.out.contains("\n44\n"),
        "{ran:?}"
    );
    let gone = std::path::PathBuf::from(format!("{service}/app.slice/mine.scope"));
    eventually("the scope is gone", || !gone.exists());
    // The system's systemd does not do so for a user.
    let refused = as_user(&["run", "-q", "--scope", "mine", "--", "true"]);
    assert!(refused.code == 125 && !refused.err.is_empty(), "{refused:?}");
}

#[test]
fn without_systemd_it_says_so() {
    require!(is_root(), "needs root");
    require!(
        !std::path::Path::new("/run/systemd/private").exists(),
        "needs a machine without a running systemd"
    );
    tool(&["run", "--scope", "ctl", "--", "true"]).fails(125, &["the system's systemd", "leave out --scope"]);
    let mut command = std::process::Command::new(TOOL);
    command.args(["run", "--scope", "--user", "ctl", "--", "true"]);
    let users = command.env("XDG_RUNTIME_DIR", "/nowhere").env_remove("DBUS_SESSION_BUS_ADDRESS").output();
    Ran::from(users.expect("the tool starts")).fails(125, &["the user's systemd", "leave out --scope"]);
    tool(&["run", "--scope", "a/b", "--", "true"]).fails(2, &["allowed"]);
    tool(&["run", "--slice", "x.slice", "ctl", "--", "true"]).fails(2, &["--scope"]);
}
