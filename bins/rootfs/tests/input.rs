//! Bad input: one sentence, exit code 2, nothing touched.
#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on fails

mod common;

use common::{listing, rootfs};
use drydock_testkit::Sandbox;

#[test]
fn is_refused_before_anything_happens() {
    let sandbox = Sandbox::new();
    rootfs(&sandbox, &["new", "r"]).success();
    std::fs::write(sandbox.join("file"), "").unwrap();
    std::fs::write(sandbox.join("bad.recipe"), "from host\nfrobnicate x\n").unwrap();
    std::os::unix::fs::symlink("r", sandbox.join("link")).unwrap();
    std::os::unix::fs::symlink("loop", sandbox.join("loop")).unwrap();
    std::fs::write(sandbox.join("class"), b"\x7fELF\x05xxxxxxx").unwrap();
    std::fs::set_permissions(sandbox.join("class"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let before = listing(sandbox.path());
    let long = "x".repeat(5000);
    let cases: &[(&[&str], &str)] = &[
        (&["new"], "DIR"),
        (&["new", ""], "DIR"),
        (&["new", "/"], "/"),
        (&["new", "r"], "not empty"),
        (&["new", "file"], "not a directory"),
        (&["new", "file/x"], "not a directory"),
        (&["busybox", "file/x"], "not a directory"),
        (&["new", "link"], "symbolic link"),
        (&["new", "link/"], "symbolic link"),
        (&["copy", "r"], "BIN"),
        (&["copy", "/", "/bin/ls"], "host's own root"),
        (&["copy", "/..", "/bin/ls"], "host's own root"),
        (&["copy", "missing", "/bin/ls"], "does not exist"),
        (&["copy", "link", "/bin/ls"], "symbolic link"),
        (&["copy", "file", "/bin/ls"], "not a directory"),
        (&["copy", "r", "no-such-program"], "no such program"),
        (&["copy", "r", "/bin/ls", "/no/such"], "does not exist"),
        (&["copy", "r", "/etc/passwd"], "not executable"),
        (&["copy", "r", "/tmp"], "is a directory"),
        (&["copy", "r", "./loop"], "loop"),
        (&["copy", "r", "./class"], "ELF class 5"),
        (&["copy", "r", "a\u{1b}[31m"], "\\x1b"),
        (&["copy", "r", &long], "not a usable path"),
        (&["copy", "r", "--with", "/dev/null"], "device"),
        (&["copy", "r", "--with", "/"], "whole root"),
        (&["copy", "r", "--with", "/no/such"], "does not exist"),
        (&["check", "missing"], "does not exist"),
        (&["check", "file"], "not a directory"),
        (&["check", "/"], "host's own root"),
        (&["build", "nothing", "x"], "host-tools"),
        (&["build", "./missing.recipe", "x"], "ENOENT"),
        (&["build", "./bad.recipe", "x"], "bad.recipe:2"),
        (&["build", "host-tools", "r"], "not empty"),
        (&["busybox", "b", "--sha256", "xyz"], "SHA-256"),
        (&["busybox", "b", "--url", "gopher://x", "--sha256", "xyz"], "not a URL"),
        (&["busybox", "/"], "host's own root"),
        (&["deb", "d", "--suite=-x"], "not a name"),
        (&["deb", "d", "--suite", "a b"], "not a name"),
        (&["deb", "d", "--suite", "s", "--mirror", "gopher://x"], "not a mirror"),
        (&["deb", "d"], "--suite"),
        (&["closure", "/etc/passwd"], "neither"),
        (&["frobnicate"], "unrecognized"),
        (&["copy", "r", "--wit", "x"], "--with"),
        (&["default", "extra"], "extra"),
    ];
    for (args, text) in cases {
        let output = rootfs(&sandbox, args).fails_with(2);
        assert!(output.stderr.contains(text), "{}", output.describe());
    }
    assert_eq!(listing(sandbox.path()), before);
}

#[test]
fn help_and_version_everywhere() {
    let sandbox = Sandbox::new();
    rootfs(&sandbox, &["--version"]).success().stdout_has("rootfs ");
    for command in ["new", "copy", "closure", "check", "busybox", "build", "recipes", "deb", "default"] {
        rootfs(&sandbox, &[command, "--help"]).success().stdout_has("Usage: rootfs");
    }
    rootfs(&sandbox, &[]).exits(2);
    rootfs(&sandbox, &["recipes"]).success().stdout_has("host-tools").stdout_has("debian-minimal");
    rootfs(&sandbox, &["recipes", "--json"]).success().stdout_has("\"name\": \"busybox\"");
}
