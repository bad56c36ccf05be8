//! A root out of the host's static busybox.
#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on fails

mod common;

use common::rootfs;
use drydock_testkit::{Sandbox, is_root, require};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

const BUSYBOX: &str = "/bin/busybox";

fn is_static() -> bool {
    let output = Command::new("ldd").arg(BUSYBOX).output();
    Path::new(BUSYBOX).exists() && output.is_ok_and(|o| !o.status.success())
}

#[test]
fn every_applet_has_a_relative_link() {
    require!(is_static(), "no static busybox on this machine (Debian: busybox-static)");
    let sandbox = Sandbox::new();
    rootfs(&sandbox, &["busybox", "r"]).success();
    let bin = sandbox.join("r/bin");
    let names: BTreeSet<String> =
        std::fs::read_dir(&bin).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    // The oracle: what busybox says itself.
    let list = Command::new(BUSYBOX).arg("--list").output().unwrap();
    let mut expected: BTreeSet<String> =
        String::from_utf8(list.stdout).unwrap().lines().map(str::to_string).collect();
    expected.insert("busybox".to_string());
    assert_eq!(names, expected);
    for name in names.iter().filter(|n| *n != "busybox") {
        assert_eq!(std::fs::read_link(bin.join(name)).unwrap(), Path::new("busybox"), "{name}");
    }
    for file in ["passwd", "group", "hostname", "hosts"] {
        assert!(sandbox.join("r/etc").join(file).is_file(), "{file}");
    }
    rootfs(&sandbox, &["check", "r"]).success();
    require!(is_root(), "chroot needs root");
    let root = sandbox.join("r");
    let output =
        Command::new("chroot").args([root.to_str().unwrap(), "/bin/sh", "-c", "ls -ld /tmp"]).output();
    assert!(String::from_utf8_lossy(&output.unwrap().stdout).starts_with("drwxrwxrwt"));
}

#[test]
fn refuses_what_it_cannot_trust() {
    require!(is_static(), "no static busybox on this machine (Debian: busybox-static)");
    let sandbox = Sandbox::new();
    let wrong = "0".repeat(64);
    let url = format!("file://{BUSYBOX}");
    rootfs(&sandbox, &["busybox", "r", "--url", &url]).fails_with(2).says("--sha256");
    rootfs(&sandbox, &["busybox", "r", "--url", &url, "--sha256", &wrong]).fails_with(2).says("expected");
    rootfs(&sandbox, &["busybox", "r", "--url", "https://x.invalid/b", "--sha256", &wrong])
        .fails_with(2)
        .says("download");
    rootfs(&sandbox, &["busybox", "r", "--from", "/bin/bash"]).fails_with(2).says("dynamically");
    rootfs(&sandbox, &["busybox", "r", "--from", "/etc/passwd"]).fails_with(2);
    rootfs(&sandbox, &["busybox", "r", "--from", "/dev/zero"]).fails_with(2);
    assert!(!sandbox.join("r").exists(), "nothing was made");
    let sum = Command::new("sha256sum").arg(BUSYBOX).output().unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap()[..64].to_string();
    rootfs(&sandbox, &["busybox", "r", "--url", &url, "--sha256", &sum]).success();
}
