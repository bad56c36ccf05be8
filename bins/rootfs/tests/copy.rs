//! Roots made of host programs: they run, and nothing outside of them is written.
#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on fails

mod common;

use common::{listing, rootfs};
use drydock_testkit::{Sandbox, is_root, require};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn the_guides_mini_root_runs() {
    let sandbox = Sandbox::new();
    rootfs(&sandbox, &["new", "r"]).success();
    rootfs(&sandbox, &["copy", "r", "/bin/bash", "/bin/ls", "ps"]).success();
    rootfs(&sandbox, &["check", "r"]).success().stdout_has("0 unresolved");
    let root = sandbox.join("r");
    for (dir, bits) in
        [("tmp", 0o1777), ("var/tmp", 0o1777), ("root", 0o700), ("proc", 0o755), ("usr/bin", 0o755)]
    {
        assert_eq!(mode(&root.join(dir)), bits, "{dir}");
    }
    for file in ["passwd", "group", "hostname", "hosts", "os-release", "nsswitch.conf", "resolv.conf"] {
        assert_eq!(mode(&root.join("etc").join(file)), 0o644, "{file}");
    }
    // The same links as on the host.
    assert_eq!(std::fs::read_link("/bin").ok(), std::fs::read_link(root.join("bin")).ok());
    require!(is_root(), "chroot needs root");
    let output = Command::new("chroot")
        .args([root.to_str().unwrap(), "/bin/bash", "-c", "ls / && type ps && echo $BASH"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("proc\n"), "{output:?}");
}

#[test]
fn works_in_plain_directories_made_by_hand() {
    let sandbox = Sandbox::new();
    for dir in ["bin", "lib", "lib64", "usr", "proc", "tmp"] {
        std::fs::create_dir_all(sandbox.join("r").join(dir)).unwrap();
    }
    rootfs(&sandbox, &["copy", "r", "/bin/bash", "/bin/ls"]).success();
    rootfs(&sandbox, &["check", "r"]).success();
    assert!(sandbox.join("r/bin/bash").is_file(), "bash is at the path that was asked for");
    require!(is_root(), "chroot needs root");
    let root = sandbox.join("r");
    let status =
        Command::new("chroot").args([root.to_str().unwrap(), "/bin/bash", "-c", "/bin/ls /"]).status();
    assert!(status.unwrap().success());
}

#[test]
fn check_names_what_was_removed_and_never_looks_at_the_host() {
    let sandbox = Sandbox::new();
    rootfs(&sandbox, &["new", "r"]).success();
    rootfs(&sandbox, &["copy", "r", "/bin/bash"]).success();
    let closure = rootfs(&sandbox, &["closure", "/bin/bash"]).success();
    let library = closure.stdout.lines().find(|l| l.contains("libc.so")).unwrap().to_string();
    let real = std::fs::canonicalize(&library).unwrap();
    std::fs::remove_file(sandbox.join("r").join(real.strip_prefix("/").unwrap())).unwrap();
    let name = Path::new(&library).file_name().unwrap().to_str().unwrap();
    let output = rootfs(&sandbox, &["check", "r"]).exits(1);
    assert!(output.stdout.contains(name) && output.stdout.contains("bash"), "{}", output.describe());
    // A link that leads to the host's library is none in the root.
    let link = sandbox.join("r").join(real.strip_prefix("/").unwrap());
    symlink(Path::new("/../../../../..").join(real.strip_prefix("/").unwrap()), &link).unwrap();
    rootfs(&sandbox, &["check", "r"]).exits(1);
    // Nor is a FIFO, and nobody waits for it.
    std::fs::remove_file(&link).unwrap();
    nix::unistd::mkfifo(&link, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let output = rootfs(&sandbox, &["check", "--json", "r"]).exits(1);
    assert!(output.stdout.contains("\"unresolved\""), "{}", output.describe());
}

#[test]
fn planted_links_do_not_lead_out() {
    let sandbox = Sandbox::new();
    let host = sandbox.join("host");
    std::fs::create_dir_all(host.join("bin")).unwrap();
    std::fs::write(host.join("bash"), "marker").unwrap();
    std::fs::write(host.join("passwd"), "marker").unwrap();
    let before = listing(&host);
    let up = "../".repeat(20) + host.strip_prefix("/").unwrap().to_str().unwrap();
    let absolute = host.to_str().unwrap().to_string();
    for (n, target) in [absolute, up].into_iter().enumerate() {
        for at in ["usr", "usr/bin", "bin", "lib", "lib64", "etc", "tmp"] {
            let name = format!("r{n}-{}", at.replace('/', "-"));
            let root = sandbox.join(&name);
            std::fs::create_dir_all(root.join(at).parent().unwrap()).unwrap();
            symlink(&target, root.join(at)).unwrap();
            // It may work within the root or be refused; it may not touch the host.
            rootfs(&sandbox, &["copy", &name, "/bin/bash", "--with", "/etc/passwd"]);
            rootfs(&sandbox, &["new", "--force", &name]);
            rootfs(&sandbox, &["busybox", &name]);
            assert_eq!(listing(&host), before, "{name}");
        }
        let name = format!("files{n}");
        let root = sandbox.join(&name);
        rootfs(&sandbox, &["new", &name]).success();
        let bash = std::fs::canonicalize("/bin/bash").unwrap();
        std::fs::create_dir_all(root.join(bash.strip_prefix("/").unwrap()).parent().unwrap()).unwrap();
        symlink(host.join("bash"), root.join(bash.strip_prefix("/").unwrap())).unwrap();
        std::fs::remove_file(root.join("etc/passwd")).unwrap();
        symlink(format!("{target}/passwd"), root.join("etc/passwd")).unwrap();
        std::fs::remove_file(root.join("etc/hosts")).unwrap();
        nix::unistd::mkfifo(&root.join("etc/hosts"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        rootfs(&sandbox, &["copy", &name, "/bin/bash", "--with", "/etc/passwd"]).success();
        rootfs(&sandbox, &["new", "--force", &name]).success();
        assert!(std::fs::symlink_metadata(root.join("etc/hosts")).unwrap().is_file());
        assert!(std::fs::symlink_metadata(root.join(bash.strip_prefix("/").unwrap())).unwrap().is_file());
        assert_eq!(listing(&host), before, "{name}");
    }
}

#[test]
fn set_user_id_is_not_copied_and_umask_does_not_matter() {
    let sandbox = Sandbox::new();
    let program = sandbox.join("suid");
    std::fs::copy("/bin/true", &program).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o6755)).unwrap();
    let script = "umask 077; \"$0\" new r && \"$0\" copy r ./suid";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_rootfs")]).current_dir(sandbox.path());
    drydock_testkit::run(&mut command).success();
    let copy = sandbox.join("r").join(program.strip_prefix("/").unwrap());
    assert_eq!(mode(&copy), 0o755);
    assert_eq!(mode(&sandbox.join("r")), 0o755);
    assert_eq!(mode(&sandbox.join("r/etc")), 0o755);
    assert_eq!(mode(&sandbox.join("r/etc/passwd")), 0o644);
}

#[test]
fn explains_the_steps_that_it_does() {
    let sandbox = Sandbox::new();
    let output = rootfs(&sandbox, &["new", "r", "--explain"]).success();
    assert!(output.stderr.contains("mkdirat(root, \"/tmp\", 1777)"), "{}", output.stderr);
    let output = rootfs(&sandbox, &["copy", "r", "/bin/true", "--explain", "--json"]).success();
    assert!(output.stderr.contains("copy_file_range("), "{}", output.stderr);
    let report: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    let files = report["files"].as_array().unwrap();
    assert!(
        !files.is_empty() && files.iter().all(|f| sandbox.join("r").join(&f.as_str().unwrap()[1..]).exists())
    );
}
