//! What `joinns` refuses: one sentence, the right code, and the command is never run.
#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on should stop

mod common;

use common::*;
use std::process::{Command, Output, Stdio};

fn refused(output: &Output, code: i32, words: &str) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(words), "want {words:?} in {text:?}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(stdout(output).is_empty(), "the command ran: {}", stdout(output));
}

fn bad(args: &[&str], words: &str) {
    refused(&joinns(&[args, &["echo", "ran"]].concat()), 2, words);
}

#[test]
fn processes_that_cannot_be_joined() {
    for pid in ["0", "-1", "2147483648", "", "1:x", "99999999999"] {
        bad(&["-t", pid, "-a"], "not a process id");
    }
    bad(&["-t", "2147483647", "-a"], "no such process");
    let mut child = Command::new("true").spawn().unwrap();
    let pid = child.id().to_string();
    // Not waited for yet: a zombie, as soon as it has ended.
    std::thread::sleep(std::time::Duration::from_millis(300));
    bad(&["-t", &pid, "-a"], "zombie");
    child.wait().unwrap();
    bad(&["-t", &pid, "-a"], "no such process");
    bad(&[&format!("/proc/{pid}/ns/net"), "--"], "no such process");
    let kthread = std::fs::read_to_string("/proc/2/comm").is_ok_and(|c| c.trim() == "kthreadd");
    match kthread {
        true => bad(&["-t", "2", "-a"], "kernel thread"),
        false => skip("kernel thread", "pid 2 is not kthreadd here"),
    }
}

#[test]
fn a_pid_that_was_used_again() {
    let mut child = Command::new("sleep").arg("100").spawn().unwrap();
    let pid = child.id();
    let wrong = joinns(&["-t", &format!("{pid}:1"), "-a", "echo", "ran"]);
    child.kill().unwrap();
    child.wait().unwrap();
    refused(&wrong, 2, "not the one that was meant");
}

#[test]
fn files_that_are_not_namespaces() {
    let scratch = Scratch::new("files");
    let fifo = scratch.join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let link = scratch.join("link");
    std::os::unix::fs::symlink(&fifo, &link).unwrap();
    for path in
        ["/etc/passwd", "/", "/dev/null", "/proc/self/ns", link.to_str().unwrap(), fifo.to_str().unwrap()]
    {
        bad(&[path, "--"], "not a namespace file");
        bad(&[&format!("--net={path}")], "not a namespace file");
    }
    bad(&["/no/such/file", "--"], "no such file");
    bad(&["--pid=/proc/self/ns/net"], "is a net namespace, want pid");
}

#[test]
fn arguments_that_make_no_sense() {
    let me = std::process::id().to_string();
    bad(&["-t", &me], "nothing to join");
    bad(&["-n", "--"], "needs a process");
    bad(&["-a", "--"], "needs a process");
    bad(&["-t", &me, "--ns", "foo"], "--ns");
    bad(&["-t", &me, "-m", "-m"], "multiple times");
    bad(&["/proc/self/ns/net", "/proc/self/ns/net", "--"], "named twice");
    bad(&["-t", &me, "-U"], "already in this user namespace");
    bad(&["-t", &me, "-m", "-W", "relative"], "is relative");
    bad(&["-t", &me, "-m", "--wd=/no/such/dir"], "/no/such/dir");
    bad(&["-t", &me, "-m", "-S", "4294967295"], "not an id");
    bad(&["-t", &me, "-U", "-S", "0", "--preserve-credentials"], "cannot be used with");
    refused(&joinns(&[]), 2, "nothing to join");
}

#[test]
fn an_ancestor_pid_namespace() {
    if !is_root() || which("unshare").is_none() {
        return skip("an_ancestor_pid_namespace", "needs root and unshare(1)");
    }
    // /proc is still the outer one, so the outer namespace has a path.
    let outer = format!("/proc/{}/ns/pid", std::process::id());
    let output = Command::new("unshare")
        .args(["--fork", "--pid", "--", JOINNS, &outer, "--", "echo", "ran"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    refused(&output, 2, "cannot enter an ancestor");
}

#[test]
fn sharing_everything_is_said_and_harmless() {
    let me = std::process::id().to_string();
    let output = joinns(&["-t", &me, "-a", "echo", "ran"]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), "ran"));
    assert!(stderr(&output).contains("nothing to join"), "{}", stderr(&output));
}

#[test]
fn another_users_process() {
    if !is_root() || which("setpriv").is_none() {
        return skip("another_users_process", "needs root and setpriv(1)");
    }
    let me = std::process::id().to_string();
    let words =
        ["--reuid", "65534", "--regid", "65534", "--clear-groups", JOINNS, "-t", &me, "-a", "echo", "ran"];
    let output = Command::new("setpriv").args(words).stdin(Stdio::null()).output().unwrap();
    refused(&output, 125, "ptrace access");
}

#[test]
fn a_pid_namespace_without_its_first_process() {
    if !is_root() || which("unshare").is_none() {
        return skip("a_pid_namespace_without_its_first_process", "needs root and unshare(1)");
    }
    let scratch = Scratch::new("joinns-dead");
    let file = scratch.0.join("pid").display().to_string();
    let script = "touch $0; unshare --pid=$0 --fork true; $1 $0 -- echo ran; echo $?";
    let words = ["--mount", "--propagation", "private", "sh", "-c", script, &file, JOINNS];
    let output = std::process::Command::new("unshare").args(words).output().unwrap();
    assert_eq!(stdout(&output), "125", "{}", stderr(&output));
    assert!(stderr(&output).contains("its first process has ended"), "{}", stderr(&output));
}
