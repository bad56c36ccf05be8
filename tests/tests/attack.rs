//! An attacker inside who is root and has CAP_SYS_PTRACE, against every process of ours that comes into his pid namespace.
//! It runs in the container as this executable: the ignored test `attacker`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "attack/attacker.rs"]
mod attacker;
#[path = "conformance/bundle.rs"]
#[allow(dead_code, reason = "the conformance tests use all of it")]
mod bundle;

use bundle::Bundle;
use drydock_testkit::{Sandbox, in_vm, is_root, require};
use serde_json::json;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Not a test: what the others run inside.
#[test]
#[ignore = "runs in a container"]
fn attacker() {
    attacker::attack();
}

/// A container in which the attacker runs, and a file of the host.
struct Attacked {
    id: String,
}

impl Attacked {
    fn new(sandbox: &Sandbox, options: &[&str]) -> Self {
        let id = sandbox.unique("attacked");
        let marker = sandbox.join("marker");
        std::fs::write(&marker, "host").unwrap();
        let volume = format!("{}:/attacker:ro", std::env::current_exe().unwrap().display());
        let variable = format!("{}={}", attacker::MARKER, marker.display());
        let runtime = std::fs::metadata(drydock_testkit::bin("container")).unwrap();
        let program = format!("{}={}:{}", attacker::PROGRAM, runtime.dev(), runtime.ino());
        let words = [
            "run",
            "-d",
            "--name",
            &id,
            "--cap-add",
            "SYS_PTRACE",
            "-v",
            &volume,
            "-e",
            &variable,
            "-e",
            &program,
        ];
        let program = ["--", "/attacker", "attacker", "--exact", "--ignored", "--nocapture"];
        sandbox.run("container", &[&words, options, &program].concat()).success();
        let attacked = Self { id };
        sandbox.wait_until("the attacker", || attacked.said(sandbox).contains("READY"));
        attacked
    }

    fn said(&self, sandbox: &Sandbox) -> String {
        sandbox.run("container", &["logs", &self.id]).stdout
    }

    /// What the attacker has got hold of.
    fn judge(self, sandbox: &Sandbox) {
        let said = self.said(sandbox);
        sandbox.run("container", &["delete", "--force", &self.id]).success();
        let seen: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("SEEN")).collect();
        let got: Vec<&&str> = seen.iter().filter(|got| !got.trim().is_empty()).collect();
        assert!(!seen.is_empty(), "the attacker has taken hold of nobody: {said}");
        assert!(got.is_empty(), "of {} processes seen {}: {got:?}", seen.len(), got.len());
    }
}

fn secretly(sandbox: &Sandbox, words: &[&str]) {
    let mut command = sandbox.command("container");
    command.args(words).env(attacker::SECRET, "x");
    drydock_testkit::run(&mut command).success();
}

fn trials(number: usize) -> usize {
    if in_vm() { number.div_ceil(8) } else { number }
}

/// SEC-01 (CVE-2016-9962), SEC-02: whoever takes hold of a process of `exec` has no more than its command will have.
/// Before the courier dropped the privileges, each of 3 runs was caught at the first `exec`.
#[test]
fn a_process_of_exec_is_worth_nothing() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    for options in [&[][..], &["--security-opt", "no-new-privileges=false"]] {
        let attacked = Attacked::new(&sandbox, options);
        for _ in 0..trials(25) {
            secretly(&sandbox, &["exec", &attacked.id, "--", "true"]);
            secretly(&sandbox, &["exec", "-u", "1000", "-w", "/tmp", &attacked.id, "--", "true"]);
        }
        attacked.judge(&sandbox);
    }
}

/// The same for `joinns`. With the process that joins and the one that becomes the command being one, which has its privileges
/// until its exec, 37 to 48 of about 50 processes were caught in each of 3 runs.
#[test]
fn a_process_of_joinns_is_worth_nothing() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    for options in [&[][..], &["--security-opt", "no-new-privileges=false"]] {
        let attacked = Attacked::new(&sandbox, options);
        let joins = |words: &[&str]| {
            let mut command = sandbox.command("joinns");
            command.args(words).env(attacker::SECRET, "x").stdin(std::process::Stdio::null());
            drydock_testkit::run(&mut command).success();
        };
        for _ in 0..trials(25) {
            joins(&["-t", &attacked.id, "--", "true"]);
            joins(&[&attacked.id, "-p", "-n", "-S", "1000", "-W", "/tmp", "--", "true"]);
        }
        attacked.judge(&sandbox);
    }
}

/// The same for containers that join the attacker's pid namespace: while they are made, while they wait for their start, and
/// until their command runs.
#[test]
fn a_container_in_the_attackers_pid_namespace() {
    require!(is_root(), "needs root");
    require!(bundle::busybox().is_some(), "busybox is not installed");
    let victim = Bundle::new();
    let attacked = Attacked::new(&victim.sandbox, &[]);
    let inspected = victim.sandbox.run("container", &["inspect", &attacked.id]).success().stdout;
    let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    let pid = inspected.pointer("/0/pid").or(inspected.pointer("/pid")).unwrap().as_i64().unwrap();
    let joined = json!([
        { "type": "pid", "path": format!("/proc/{pid}/ns/pid") },
        { "type": "mount" }, { "type": "ipc" }, { "type": "uts" }, { "type": "network" }
    ]);
    let rule = json!([{ "names": ["acct"], "action": "SCMP_ACT_ERRNO" }]);
    let filter = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rule });
    let victim = victim.with("/linux/namespaces", joined).with("/linux/seccomp", filter);
    victim.write();
    let bundle = victim.dir();
    for _ in 0..trials(20) {
        let file = std::fs::File::create(victim.sandbox.join("output")).unwrap();
        let mut create = victim.sandbox.command("container");
        create.args(["create", "--bundle", bundle.to_str().unwrap(), &victim.id]).env(attacker::SECRET, "x");
        create.stdin(std::process::Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        assert!(create.status().unwrap().success());
        secretly(&victim.sandbox, &["start", &victim.id]);
        victim.container(&["delete", "--force", &victim.id]).success();
    }
    attacked.judge(&victim.sandbox);
}

/// A container that waits for its start: its process has its command's privileges already, and nothing of its maker.
#[test]
fn a_created_process_has_nothing_of_the_hosts() {
    require!(is_root(), "needs root");
    require!(bundle::busybox().is_some(), "busybox is not installed");
    let bundle = Bundle::new();
    let marker = bundle.sandbox.join("marker");
    std::fs::write(&marker, "host").unwrap();
    bundle.write();
    let file = std::fs::File::create(bundle.sandbox.join("output")).unwrap();
    let mut create = bundle.sandbox.command("container");
    create
        .args(["create", "--preserve-fds", "9", "--bundle", bundle.dir().to_str().unwrap(), &bundle.id])
        .env(attacker::SECRET, "x");
    create.stdin(std::process::Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
    assert!(create.status().unwrap().success());
    let proc = PathBuf::from(format!("/proc/{}", bundle.state()["pid"]));
    let text = |name: &str| String::from_utf8_lossy(&std::fs::read(proc.join(name)).unwrap()).into_owned();
    for fd in std::fs::read_dir(proc.join("fd")).unwrap().flatten() {
        let link = std::fs::read_link(fd.path()).unwrap().display().to_string();
        let standard = fd.file_name().to_str().is_some_and(|name| ["0", "1", "2"].contains(&name));
        let own = link.starts_with("socket:") || link == "anon_inode:[signalfd]";
        // What whoever runs the tests has left open is passed on, as asked.
        let passed = std::fs::read_link(Path::new("/proc/self/fd").join(fd.file_name()));
        let passed = passed.is_ok_and(|other| other.display().to_string() == link);
        assert!(standard || own || passed, "{:?} -> {link}", fd.path());
    }
    assert!(!text("environ").contains(attacker::SECRET), "{}", text("environ"));
    assert!(!text("cmdline").contains(bundle.sandbox.path().to_str().unwrap()), "{}", text("cmdline"));
    for way in ["root", "cwd"] {
        let seen = proc.join(way).join(marker.strip_prefix("/").unwrap());
        assert!(!seen.exists(), "{}", seen.display());
    }
    for set in ["CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb"] {
        assert!(text("status").contains(&format!("{set}:\t0000000000000000")), "{set}: {}", text("status"));
    }
    let program = std::fs::OpenOptions::new().write(true).open(proc.join("exe"));
    assert!(program.is_err(), "its program can be opened for writing");
    let read_only = nix::sys::statvfs::statvfs(&proc.join("exe"))
        .is_ok_and(|fs| fs.flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY));
    let memory = std::fs::read_link(proc.join("exe")).unwrap().to_string_lossy().contains("memfd:");
    assert!(read_only || memory, "its program could be overwritten once it has ended");
    bundle.start().success();
    bundle.wait_for("stopped");
    bundle.container(&["delete", &bundle.id]).success();
}
