//! `joinns` by its effects: what the command that it runs is really in.
#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on should stop

mod common;

use common::*;
use std::process::{Command, Stdio};
use std::time::Duration;

const KINDS: [&str; 5] = ["mnt", "pid", "net", "ipc", "uts"];

fn target(test: &str) -> Option<Target> {
    let target =
        is_root().then(|| Target::start(&[], &["-m", "-p", "-n", "-i", "-u", "--mount-proc"])).flatten();
    if target.is_none() {
        skip(test, "needs root and unshare(1)");
    }
    target
}

fn links(args: &[&str]) -> Vec<String> {
    let script = "for k in mnt pid net ipc uts; do readlink /proc/self/ns/$k; done";
    let output = joinns(&[args, &["--", "sh", "-c", script]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output).lines().map(str::to_string).collect()
}

#[test]
fn all_namespaces_of_a_process() {
    let Some(target) = target("all_namespaces_of_a_process") else { return };
    let pid = target.pid.to_string();
    let want: Vec<String> = KINDS.map(|k| target.ns(k)).into();
    assert_eq!(links(&["-t", &pid, "-a"]), want);
    assert!(KINDS.iter().all(|k| ns_of("self", k) != target.ns(k)));
}

#[test]
fn a_report() {
    let Some(target) = target("a_report") else { return };
    let output = joinns(&["-t", &target.pid.to_string(), "-n", "-u", "--json", "--", "sh", "-c", "exit 5"]);
    assert_eq!(output.status.code(), Some(5));
    let report: serde_json::Value = serde_json::from_str(stderr(&output).trim()).unwrap();
    assert_eq!(report["joined"], serde_json::json!(["net", "uts"]));
    assert_eq!(report["exit_code"], 5);
}

#[test]
fn only_what_is_asked() {
    let Some(target) = target("only_what_is_asked") else { return };
    let pid = target.pid.to_string();
    let found = links(&["-t", &pid, "-n", "-u"]);
    for (kind, link) in KINDS.iter().zip(found) {
        let inside = matches!(*kind, "net" | "uts");
        assert_eq!(link, if inside { target.ns(kind) } else { ns_of("self", kind) }, "{kind}");
    }
}

#[test]
fn a_pid_namespace_really_holds_the_command() {
    let Some(target) = target("a_pid_namespace_really_holds_the_command") else { return };
    // One file, its type detected; then with the mount namespace, whose /proc shows the same.
    let output = joinns(&[&target.path("pid"), "--", "readlink", "/proc/self/ns/pid"]);
    assert_eq!(stdout(&output), target.ns("pid"));
    let output =
        joinns(&[&target.path("pid"), &target.path("mnt"), "sh", "-c", "echo $$; ls -d /proc/[0-9]*"]);
    let text = stdout(&output);
    let pid: i32 = text.lines().next().unwrap().parse().unwrap();
    assert!(pid > 1 && pid < 100 && text.contains("/proc/1\n"), "{text}");
    // -F: the command itself stays outside, as setns(2) says.
    let pid = target.pid.to_string();
    let output = joinns(&["-t", &pid, "-p", "-F", "readlink", "/proc/self/ns/pid"]);
    assert_eq!(stdout(&output), ns_of("self", "pid"));
}

#[test]
fn exit_codes_and_where_a_command_was_sought() {
    let Some(target) = target("exit_codes") else { return };
    let pid = target.pid.to_string();
    let run = |flag: &str, command: &[&str]| joinns(&[&["-t", &pid, flag, "--"], command].concat());
    for flag in ["-a", "-n"] {
        assert_eq!(run(flag, &["sh", "-c", "exit 9"]).status.code(), Some(9));
        assert_eq!(run(flag, &["/etc/passwd"]).status.code(), Some(126));
        let absent = run(flag, &["no-such-command"]);
        assert_eq!(absent.status.code(), Some(127));
        // With the network alone it is sought among the caller's files.
        let place =
            if flag == "-a" { format!("the root of process {pid}") } else { "this file system".into() };
        assert!(stderr(&absent).contains(&place), "{}", stderr(&absent));
        assert_eq!(stderr(&absent).lines().count(), 1);
    }
    assert_eq!(run("-a", &["sh", "-c", "kill -TERM $$"]).status.code(), Some(143));
    // A real-time signal.
    assert_eq!(run("-a", &["sh", "-c", "kill -40 $$"]).status.code(), Some(168));
}

#[test]
fn nothing_of_the_caller_goes_in() {
    let Some(target) = target("nothing_of_the_caller_goes_in") else { return };
    let pid = target.pid.to_string();
    // An open directory, ignored signals and an inheritable capability, as a careless caller has them.
    let inheritable = if which("setpriv").is_some() { "setpriv --inh-caps +chown" } else { "" };
    for flag in ["-a", "-n"] {
        let inner = "ls -l /proc/self/fd; grep -E \"^(CapInh|CapAmb|SigIgn|SigBlk)\" /proc/self/status";
        let script = format!(
            "trap '' HUP INT; exec 7</etc; exec {inheritable} {JOINNS} -t {pid} {flag} -- sh -c '{inner}'"
        );
        let output = Command::new("bash").args(["-c", &script]).stdin(Stdio::null()).output().unwrap();
        let text = stdout(&output);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(!text.contains("-> /etc") && text.contains("-> /dev/null"), "{text}");
        // ls has its own directory open as 3.
        assert_eq!(text.lines().filter(|l| l.contains(" -> ")).count(), 4, "{text}");
        for name in ["CapInh", "CapAmb", "SigIgn", "SigBlk"] {
            assert!(text.contains(&format!("{name}:\t0000000000000000")), "{flag} {name} {text}");
        }
    }
}

#[test]
fn loader_variables_stay_outside_another_root() {
    let Some(target) = target("loader_variables") else { return };
    let pid = target.pid.to_string();
    let value = |args: &[&str]| {
        let args = [&["-t", &pid], args, &["--", "sh", "-c", "echo $LD_DRYDOCK-$DRYDOCK_OTHER"]].concat();
        let output = Command::new(JOINNS)
            .args(args)
            .env("LD_DRYDOCK", "x")
            .env("DRYDOCK_OTHER", "y")
            .output()
            .unwrap();
        stdout(&output)
    };
    assert_eq!(value(&["-m"]), "-");
    assert_eq!(value(&["-m", "--privileged"]), "-y");
    assert_eq!(value(&["-n"]), "x-y");
}

#[test]
fn signals_reach_the_command() {
    let Some(target) = target("signals_reach_the_command") else { return };
    let pid = target.pid.to_string();
    let script = "trap 'exit 33' TERM; echo ready; sleep 100 & wait";
    let mut child = Command::new(JOINNS)
        .args(["-t", &pid, "-a", "--", "sh", "-c", script])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = [0u8; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
    let raw = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(raw, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(33));
}

#[test]
fn a_user_namespace_by_its_owner_and_by_root() {
    let name = "a_user_namespace_by_its_owner_and_by_root";
    let owner = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    if !is_root() || which("setpriv").is_none() {
        return skip(name, "needs root and setpriv(1)");
    }
    let Some(target) = Target::start(&owner, &["-U", "-r", "-n", "-p"]) else {
        return skip(name, "unprivileged user namespaces are not allowed here");
    };
    let pid = target.pid.to_string();
    let script = "id -u; readlink /proc/self/ns/user; readlink /proc/self/ns/net; readlink /proc/self/ns/pid";
    let want = format!("0\n{}\n{}\n{}", target.ns("user"), target.ns("net"), target.ns("pid"));
    let run = |before: &[&str], args: &[&str]| {
        let words = [before, &[JOINNS], args].concat();
        Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).output().unwrap()
    };
    for before in [&[][..], &owner] {
        let all = run(before, &["-t", &pid, "-a", "--", "sh", "-c", script]);
        assert_eq!(stdout(&all), want, "{before:?} {}", stderr(&all));
        // By files the order matters: last with privilege, first without.
        let files = [target.path("net"), target.path("pid"), target.path("user")];
        let files = run(before, &[&files[0], &files[1], &files[2], "--", "sh", "-c", script]);
        assert_eq!(stdout(&files), want, "{before:?} {}", stderr(&files));
    }
    let refused = run(&owner, &["-t", &pid, "-n", "true"]);
    assert_eq!(refused.status.code(), Some(125));
    assert!(stderr(&refused).contains("join its user namespace too"), "{}", stderr(&refused));
    let unmapped = run(&[], &["-t", &pid, "-U", "-S", "1000", "true"]);
    assert_eq!(unmapped.status.code(), Some(125));
    assert!(stderr(&unmapped).contains("uid 1000: not mapped"), "{}", stderr(&unmapped));
}

#[test]
fn runs_from_a_copy_that_nobody_writes_through() {
    let Some(target) = target("runs_from_a_copy_that_nobody_writes_through") else { return };
    let pid = target.pid.to_string();
    // What waits outside is the program, too.
    let is_protected = |args: &[&str]| {
        let mut command = Command::new(JOINNS);
        command.args(args).args(["--", "sh", "-c", "echo up; read line"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut out, &mut line).unwrap();
        assert_eq!(line, "up\n");
        let exe = std::fs::File::open(format!("/proc/{}/exe", child.id())).unwrap();
        let read_only = nix::sys::statvfs::fstatvfs(&exe)
            .unwrap()
            .flags()
            .contains(nix::sys::statvfs::FsFlags::ST_RDONLY);
        let seals = nix::fcntl::fcntl(&exe, nix::fcntl::FcntlArg::F_GET_SEALS).unwrap_or(0);
        drop(child.stdin.take());
        child.wait().unwrap();
        read_only || seals & nix::libc::F_SEAL_WRITE != 0
    };
    for words in [
        &["-t", &pid, "-a"][..],
        &["-t", &pid, "-mp"],
        &[&target.path("pid")],
        &["-t", &pid, "--all", "--tools"],
    ] {
        assert!(is_protected(words), "{words:?}");
    }
    // That is nsenter's way: the command has all of the caller's privileges.
    assert!(!is_protected(&["-t", &pid, "-a", "--privileged"]));
}

#[test]
fn hidden_until_it_execs() {
    let name = "hidden_until_it_execs";
    if !is_root() || which("setpriv").is_none() || which("strace").is_none() {
        return skip(name, "needs root, setpriv(1) and strace(1)");
    }
    let owner = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let Some(target) = Target::start(&owner, &["-U", "-r", "-n", "-p"]) else {
        return skip(name, "unprivileged user namespaces are not allowed here");
    };
    let pid = target.pid.to_string();
    // The exec of the command is held for a while, as is every exec before it.
    let inject = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=execve:delay_enter=700000"];
    let words = [&inject[..], &owner, &[JOINNS, "-t", &pid, "-a", "--", "true"]].concat();
    let mut child = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).spawn().unwrap();
    let mut owners = Vec::new();
    let inner = target.ns("pid");
    while child.try_wait().unwrap().is_none() {
        for entry in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
            let pid = entry.file_name().to_string_lossy().into_owned();
            let comm = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            // By where it is: the name of what was executed from a sealed copy differs between kernels.
            let joining = pid != target.pid.to_string() && comm.trim() != "true";
            if joining && ns_of(&pid, "pid") == inner {
                use std::os::unix::fs::MetadataExt;
                owners.extend(std::fs::metadata(entry.path().join("fd")).map(|m| m.uid()));
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(child.wait().unwrap().success());
    // proc(5): the files of a process that is not dumpable belong to root.
    assert!(!owners.is_empty() && owners.iter().all(|uid| *uid == 0), "{owners:?}");
}

#[test]
fn the_command_cannot_type_into_the_terminal() {
    let name = "the_command_cannot_type_into_the_terminal";
    let Some(target) = target(name) else { return };
    if which("perl").is_none() {
        return skip(name, "needs perl");
    }
    // TIOCSTI and TIOCLINUX, as a 32-bit request and with rubbish above it, which the kernel ignores.
    let program = "$c = 'x'; for $r (0x5412, 0x541c, 0x1_0000_5412) { print ioctl(STDIN, $r, $c) ? 'typed ' : \"$!;\" }";
    let pid = target.pid.to_string();
    let run = |words: &[&str]| {
        let pty = nix::pty::openpty(None, None).unwrap();
        let mut command = Command::new(words[0]);
        let output = command.args(&words[1..]).stdin(Stdio::from(pty.slave)).output().unwrap();
        drop(pty.master);
        (stdout(&output), stderr(&output))
    };
    let (text, error) = run(&[JOINNS, "-t", &pid, "-a", "--", "perl", "-e", program]);
    assert_eq!(text, "Operation not permitted;".repeat(3), "{error}");
    // Other requests work: the command has a terminal.
    assert_eq!(run(&[JOINNS, "-t", &pid, "-a", "--", "sh", "-c", "test -t 0 && stty size"]).0, "0 0");
}
