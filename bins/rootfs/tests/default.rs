//! The root file system that containers share: built once, rebuilt when a source changes, never half.
#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on fails

mod common;

use common::{command, listing, rootfs};
use drydock_testkit::{Sandbox, is_root, require};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn path(sandbox: &Sandbox) -> PathBuf {
    PathBuf::from(rootfs(sandbox, &["default"]).success().stdout.trim())
}

fn built(sandbox: &Sandbox) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(sandbox.data().join("rootfs")) else { return Vec::new() };
    let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|n| n != "default" && n != "default.lock").collect()
}

#[test]
fn many_first_callers_build_it_once() {
    let sandbox = Sandbox::new();
    let start = || command(&sandbox).args(["default", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let children: Vec<_> = (0..8).map(|_| start()).collect();
    let outputs: Vec<serde_json::Value> = children
        .into_iter()
        .map(|c| serde_json::from_slice(&c.wait_with_output().unwrap().stdout).unwrap())
        .collect();
    assert_eq!(outputs.iter().filter(|o| o["built"] == true).count(), 1, "{outputs:?}");
    assert!(outputs.iter().all(|o| o["path"] == outputs[0]["path"]), "{outputs:?}");
    assert_eq!(built(&sandbox).len(), 1);
    let root = path(&sandbox);
    rootfs(&sandbox, &["check", root.to_str().unwrap()]).success();
    for entry in listing(&root) {
        let mode = u32::from_str_radix(entry.rsplit(' ').nth(2).unwrap(), 8).unwrap();
        assert_eq!(mode & 0o6000, 0, "{entry}");
        let link = mode & 0o170_000 == 0o120_000;
        assert!(link || mode & 0o444 == 0o444 || entry.contains("/root\" "), "{entry}");
    }
    require!(is_root(), "chroot needs root");
    let script = "ls / >/dev/null && cat /etc/os-release && sleep 0 && id -u && hostname >/dev/null";
    let output =
        Command::new("chroot").args([root.to_str().unwrap(), "/bin/sh", "-c", script]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_changed_source_makes_a_new_one_and_keeps_the_old() {
    let sandbox = Sandbox::new();
    let first = path(&sandbox);
    assert_eq!(path(&sandbox), first);
    let before = listing(&first);
    // A source has changed: the stamp says another size than the file has.
    let stamp = sandbox.data().join("rootfs/default");
    let text = std::fs::read_to_string(&stamp).unwrap();
    let line = text.lines().find(|l| l.ends_with("/ls")).unwrap();
    std::fs::write(&stamp, text.replace(line, &format!("1{line}"))).unwrap();
    assert_eq!(path(&sandbox), first, "the file is as it was when the root was built: nothing to do");
    assert_eq!(std::fs::read_to_string(&stamp).unwrap(), text, "and the stamp is right again");
    let again = PathBuf::from(rootfs(&sandbox, &["default", "--rebuild"]).success().stdout.trim());
    assert_ne!(again, first);
    assert_eq!(listing(&first), before, "the old one is as it was");
    assert_eq!(path(&sandbox), again);
    // One whose files are damaged (a crash before they were on the disk) is not used again.
    let text = std::fs::read_to_string(&stamp).unwrap();
    let boot = text.lines().nth(1).unwrap();
    std::fs::write(&stamp, text.replace(boot, "boot of-long-ago")).unwrap();
    std::fs::write(first.join("bin/cat"), "").unwrap();
    let third = path(&sandbox);
    assert_ne!(third, first);
    rootfs(&sandbox, &["check", third.to_str().unwrap()]).success();
    // A damaged stamp is as good as none.
    for bad in ["", "drydock-rootfs 1 x ../../etc\nend\n", "\0\0\0", "drydock-rootfs 9 a host-tools-b\nend\n"]
    {
        std::fs::write(&stamp, bad).unwrap();
        let root = path(&sandbox);
        assert!(root.starts_with(sandbox.data().join("rootfs")) && root.join("bin/sh").exists(), "{bad:?}");
    }
}

#[test]
fn a_killed_build_leaves_nothing_to_be_seen() {
    let sandbox = Sandbox::new();
    let mut killed = 0;
    for delay in [1, 3, 6, 10, 15, 20, 30, 40, 60, 80, 120, 200] {
        let mut child =
            command(&sandbox).args(["default", "--rebuild"]).stdout(Stdio::null()).spawn().unwrap();
        let until = Instant::now() + Duration::from_millis(delay);
        while Instant::now() < until && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        if child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            child.wait().unwrap();
            killed += 1;
        }
        // What can be seen by its name is whole.
        for name in built(&sandbox).iter().filter(|n| n.starts_with("host-tools-")) {
            let root = sandbox.data().join("rootfs").join(name);
            rootfs(&sandbox, &["check", root.to_str().unwrap()]).success();
        }
    }
    assert!(killed > 0, "no build was slow enough to be killed");
    let root = path(&sandbox);
    rootfs(&sandbox, &["check", root.to_str().unwrap()]).success();
    rootfs(&sandbox, &["default", "--rebuild"]).success();
    assert!(!built(&sandbox).iter().any(|n| n.starts_with(".build-")), "{:?}", built(&sandbox));
}

#[test]
fn an_unusable_place_is_said_in_one_sentence() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.join("file"), "").unwrap();
    for (data, code) in
        [("/proc/nowhere", 125), (sandbox.join("file").to_str().unwrap(), 125), ("relative", 2)]
    {
        let mut command = command(&sandbox);
        drydock_testkit::run(command.arg("default").env("DRYDOCK_DATA", data)).fails_with(code);
    }
    assert!(!Path::new("relative").exists());
}
