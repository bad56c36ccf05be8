//! What of the target `joinns` takes on by default, what of the caller it leaves outside, and what it refuses.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that cannot go on should stop

mod common;

use common::*;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A target without most capabilities, that cannot gain any.
const HELD: [&str; 3] =
    ["setpriv", "--bounding-set=-all,+chown,+setuid,+setgid,+setpcap,+sys_admin", "--no-new-privs"];
const FIELDS: [&str; 4] = ["CapPrm:", "CapEff:", "CapBnd:", "NoNewPrivs:"];

fn field(status: &str, key: &str) -> String {
    status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim().to_string()
}

fn target(test: &str, before: &[&str], flags: &[&str]) -> Option<Target> {
    let target = (is_root() && which("setpriv").is_some()).then(|| Target::start(before, flags)).flatten();
    if target.is_none() {
        skip(test, "needs root, setpriv(1) and unshare(1)");
    }
    target
}

fn status(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    stdout(output)
}

#[test]
fn what_holds_the_target_holds_the_command() {
    let Some(target) = target("what_holds_the_target", &HELD, &["-m", "-p", "-n", "-u", "--mount-proc"])
    else {
        return;
    };
    let pid = target.pid.to_string();
    let wanted = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let look = ["--", "cat", "/proc/self/status"];
    for args in
        [&["-t", &pid, "-a"][..], &["-t", &pid, "-p", "-m"], &[&target.path("pid"), &target.path("mnt")]]
    {
        let found = status(&joinns(&[args, &look].concat()));
        for key in FIELDS {
            assert_eq!(field(&found, key), field(&wanted, key), "{args:?} {key}");
        }
        for key in ["CapInh:", "CapAmb:"] {
            assert_eq!(field(&found, key), "0000000000000000", "{args:?} {key}");
        }
    }
    for args in [&["-t", &pid, "-a", "--privileged"][..], &["-t", &pid, "-n", "-u"]] {
        let found = status(&joinns(&[args, &look].concat()));
        for key in FIELDS {
            assert_eq!(field(&found, key), field(&own, key), "{args:?} {key}");
        }
    }
}

#[test]
fn capabilities_can_be_fewer_but_not_more() {
    let Some(target) = target("capabilities_can_be_fewer", &HELD, &["-m", "-p", "--mount-proc"]) else {
        return;
    };
    let pid = target.pid.to_string();
    let caps = |args: &[&str]| {
        let output =
            joinns(&[&["-t", &pid, "-a"], args, &["--", "grep", "CapEff", "/proc/self/status"]].concat());
        (output.status.code(), stdout(&output), stderr(&output))
    };
    assert!(caps(&["--cap", "chown"]).1.ends_with("0000000000000001"));
    // Of use to somebody who is not root, too.
    assert!(caps(&["--cap", "CAP_CHOWN", "-S", "1000"]).1.ends_with("0000000000000001"));
    assert!(caps(&["-S", "1000"]).1.ends_with("0000000000000000"));
    let (code, out, errors) = caps(&["--cap", "chown,net_admin"]);
    assert!(
        code == Some(2) && out.is_empty() && errors.contains("CAP_NET_ADMIN is more than the target has"),
        "{errors}"
    );
    let (code, _, errors) = caps(&["--cap", "bogus"]);
    assert!(code == Some(2) && errors.contains("'bogus'"), "{errors}");
}

#[test]
fn capabilities_of_another_user_namespace_are_none_here() {
    let owner = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let Some(target) = target("capabilities_of_another_user_namespace", &owner, &["-U", "-r", "-p"]) else {
        return;
    };
    let pid = target.pid.to_string();
    let output = joinns(&["-t", &pid, "-p", "--", "grep", "CapEff", "/proc/self/status"]);
    assert!(stdout(&output).ends_with("0000000000000000"), "{}", stdout(&output));
    assert!(stderr(&output).contains("user namespace"), "{}", stderr(&output));
    let output = joinns(&["-t", &pid, "-a", "--", "grep", "CapEff", "/proc/self/status"]);
    assert!(!stdout(&output).ends_with("0000000000000000"), "{}", stdout(&output));
}

#[test]
fn little_of_the_callers_environment() {
    let Some(target) = target("little_of_the_callers_environment", &[], &["-m", "-p", "--mount-proc"]) else {
        return;
    };
    let pid = target.pid.to_string();
    let env = |args: &[&str]| {
        let mut command = Command::new(JOINNS);
        command.args([&["-t", &pid], args, &["--", "env"]].concat()).stdin(Stdio::null());
        command.env("SECRET", "x").env("TERM", "dumb").env("PATH", "/tmp/none:/usr/bin:/bin");
        stdout(&command.output().unwrap())
    };
    let text = env(&["-a"]);
    assert!(!text.contains("SECRET") && text.contains("TERM=dumb"), "{text}");
    assert!(
        !text.contains("/tmp/none") && text.contains("PATH=/usr/local/sbin") && text.contains("HOME="),
        "{text}"
    );
    assert!(env(&["-a", "--setenv", "WORD=a=b", "--setenv", "PATH=/bin"]).contains("WORD=a=b\n"));
    assert!(env(&["-a", "--privileged"]).contains("SECRET=x"));
    assert!(env(&["-n"]).contains("SECRET=x"), "with the network alone nothing is entered");
    // -e: the target's, which the tests' own environment is here.
    assert!(env(&["-a", "-e"]).contains("CARGO") || std::env::var_os("CARGO").is_none());
    let output = joinns(&["-t", &pid, "-a", "--setenv", "=x", "echo", "ran"]);
    assert!(output.status.code() == Some(2) && stderr(&output).contains("NAME=VALUE"), "{}", stderr(&output));
}

#[test]
fn descriptors_are_passed_on_when_asked_for() {
    let Some(target) = target("descriptors_are_passed_on", &[], &["-m", "-p", "--mount-proc"]) else {
        return;
    };
    let run = |words: &str| {
        let script = format!("exec {JOINNS} -t {} -a {words} 3</etc/passwd 4</etc/group 5</etc", target.pid);
        Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).output().unwrap()
    };
    assert_eq!(
        stdout(&run("--preserve-fds 2 -- readlink /proc/self/fd/3 /proc/self/fd/4")),
        "/etc/passwd\n/etc/group"
    );
    assert_eq!(run("--preserve-fds 2 -- readlink /proc/self/fd/5").status.code(), Some(1));
    let output = run("--preserve-fds 9999 -- true");
    assert!(output.status.code() == Some(2) && stderr(&output).contains("9999"), "{}", stderr(&output));
    let output = joinns(&["-t", &target.pid.to_string(), "-a", "--preserve-fds", "1", "echo", "ran"]);
    assert!(
        output.status.code() == Some(2) && stderr(&output).contains("descriptor 3 is not open"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn names_and_follow() {
    let Some(target) = target(
        "names_and_follow",
        &["setpriv", "--regid", "7", "--clear-groups"],
        &["-p", "-m", "--mount-proc"],
    ) else {
        return;
    };
    let pid = target.pid.to_string();
    let id = |args: &[&str]| {
        joinns(&[&["-t", &pid, "-a"], args, &["--", "sh", "-c", "id -u; id -g; id -G"]].concat())
    };
    assert_eq!(stdout(&id(&["-S", "nobody"])).lines().next(), Some("65534"));
    assert_eq!(stdout(&id(&["-G", "follow"])), "0\n7\n7");
    assert_eq!(stdout(&id(&["-S", "follow", "-G", "5"])), "0\n5\n5");
    for (args, says) in [
        (["-S", "no-such-user"], "no-such-user"),
        (["-G", "no-such-group"], "no-such-group"),
        (["-S", "4294967295"], "0 to 4294967294"),
        (["-S", "1:2"], "0 to 4294967294"),
    ] {
        let output = id(&args);
        assert!(
            output.status.code() == Some(2) && stderr(&output).contains(says),
            "{args:?} {}",
            stderr(&output)
        );
    }
}

#[test]
fn directories() {
    let Some(target) = target("directories", &[], &["-m", "-p", "--mount-proc", "--wd=/usr"]) else { return };
    let pid = target.pid.to_string();
    let pwd = |args: &[&str]| joinns(&[&["-t", &pid, "-a"], args, &["--", "pwd"]].concat());
    assert_eq!(stdout(&pwd(&[])), "/");
    assert_eq!(stdout(&pwd(&["-w"])), "/usr");
    assert_eq!(stdout(&pwd(&["-W", "/etc"])), "/etc");
    let output = pwd(&["-W", "/no/such"]);
    assert!(stdout(&output) == "/" && stderr(&output).contains("using /"), "{}", stderr(&output));
    let output = pwd(&["-W", "rel"]);
    assert!(output.status.code() == Some(2) && stderr(&output).contains("absolute"), "{}", stderr(&output));
    // A directory of the outside would be a way out.
    let output = pwd(&["--wd=/etc"]);
    assert!(
        output.status.code() == Some(2) && stderr(&output).contains("--privileged"),
        "{}",
        stderr(&output)
    );
    assert!(pwd(&["--wd=/etc", "--privileged"]).status.success());
}

#[test]
fn numbers_sockets_and_parents() {
    let Some(target) = target("numbers", &[], &["-n", "-u", "-p"]) else { return };
    let pid = target.pid.to_string();
    let inode = target.ns("net");
    let number = inode.trim_start_matches("net:[").trim_end_matches(']');
    let output = joinns(&[&format!("--net=:{number}"), "--", "readlink", "/proc/self/ns/net"]);
    assert_eq!(stdout(&output), inode, "{}", stderr(&output));
    for (value, says) in [
        (format!("--pid=:{number}"), "not found"),
        ("--net=:1".into(), "not found"),
        ("--net=:x".into(), "is no number"),
        ("--net=:".into(), "is no number"),
    ] {
        let output = joinns(&[&value, "--", "echo", "ran"]);
        assert!(
            output.status.code() == Some(2) && stderr(&output).contains(says),
            "{value} {}",
            stderr(&output)
        );
    }
    let output = joinns(&["-t", &pid, "-N", "99", "echo", "ran"]);
    assert!(
        output.status.code() == Some(2) && stderr(&output).contains("no descriptor 99"),
        "{}",
        stderr(&output)
    );
    let output = joinns(&["-t", &pid, "-N", "0", "echo", "ran"]);
    assert!(
        output.status.code() == Some(2) && stderr(&output).contains("not a socket"),
        "{}",
        stderr(&output)
    );
    let output = joinns(&["--user-parent", "-t", &pid, "-r", "echo", "ran"]);
    assert!(
        output.status.code() == Some(2) && stderr(&output).contains("--user-parent"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn the_owner_of_a_namespace() {
    let owner = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let Some(target) = target("the_owner_of_a_namespace", &owner, &["-U", "-r", "-n"]) else { return };
    let pid = target.pid.to_string();
    let run = |args: &[&str]| {
        stdout(&joinns(&[&["-t", &pid], args, &["--", "readlink", "/proc/self/ns/user"]].concat()))
    };
    assert_eq!(run(&["-n", "--user-parent"]), target.ns("user"));
    // With -U it is the parent of that one: ours, which is no change.
    assert_eq!(run(&["-n", "-U", "--user-parent"]), ns_of("self", "user"));
}

#[test]
fn a_socket_leads_to_its_namespace() {
    if !is_root() || which("perl").is_none() {
        return skip("a_socket_leads_to_its_namespace", "needs root and perl(1)");
    }
    // A process that has made a socket in a network namespace and has left it.
    let script = "require 'syscall.ph' if 0; use Socket; open(my $old, '<', '/proc/self/ns/net') or die; \
        syscall(272, 0x40000000) == 0 or die $!; print readlink('/proc/self/ns/net'), \"\\n\"; \
        socket(my $s, AF_INET, SOCK_STREAM, 0) or die; syscall(308, fileno($old), 0) == 0 or die $!; \
        $| = 1; print fileno($s), \"\\n\"; <STDIN>";
    if !cfg!(target_arch = "x86_64") {
        return skip("a_socket_leads_to_its_namespace", "the numbers of system calls are x86-64's");
    }
    let mut child = Command::new("perl")
        .args(["-e", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let (inode, number) = (lines.next().unwrap().unwrap(), lines.next().unwrap().unwrap());
    let output =
        joinns(&["-t", &child.id().to_string(), "-N", &number, "--", "readlink", "/proc/self/ns/net"]);
    assert_eq!(stdout(&output), inode, "{}", stderr(&output));
    assert_ne!(inode, ns_of(&child.id().to_string(), "net"));
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[test]
fn born_with_no_more_than_the_command_has() {
    let name = "born_with_no_more_than_the_command_has";
    if which("strace").is_none() {
        return skip(name, "needs strace(1)");
    }
    let Some(target) = target(name, &HELD, &["-m", "-p", "--mount-proc"]) else { return };
    let pid = target.pid.to_string();
    let held = |pid: &str| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        FIELDS.map(|key| field(&text, key))
    };
    let (wanted, inner) = (held(&pid), target.ns("pid"));
    // Each exec is held for a while: whoever is in the pid namespace and has yet to execute the command is looked at.
    let inject = ["-f", "-qq", "-o", "/dev/null", "-e", "inject=execve:delay_enter=700000"];
    let mut command = Command::new("strace");
    command.args(inject).args([JOINNS, "-t", &pid, "-a", "--", "true"]).stdin(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut seen = Vec::new();
    while child.try_wait().unwrap().is_none() {
        for entry in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
            let other = entry.file_name().to_string_lossy().into_owned();
            if other != pid && comm(other.parse().unwrap_or(0)) != "true" && ns_of(&other, "pid") == inner {
                seen.push(held(&other));
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(child.wait().unwrap().success());
    // One that has just gone has no fields.
    seen.retain(|fields| fields.iter().all(|field| !field.is_empty()));
    assert!(!seen.is_empty() && seen.iter().all(|fields| *fields == wanted), "{seen:?}, wanted {wanted:?}");
}

/// `profile drydock-test-joinns { file, capability, network, mount, umount, pivot_root, ptrace, signal, unix,
/// change_profile, deny /etc/hostname r, }` as apparmor_parser -S (3.0.8, Linux 6.12) compiles it.
const POLICY: &[u8] = include_bytes!("common/apparmor.policy");
const PROFILE: &str = "drydock-test-joinns";
const APPARMOR: &str = "/sys/kernel/security/apparmor";

/// The profile in the kernel, for as long as this is held.
struct Loaded;

impl Loaded {
    fn new() -> Option<Loaded> {
        std::fs::write(format!("{APPARMOR}/.replace"), POLICY).ok().map(|()| Loaded)
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        let _ = std::fs::write(format!("{APPARMOR}/.remove"), PROFILE);
    }
}

#[test]
fn a_profile_is_taken_on() {
    let name = "a_profile_is_taken_on";
    if !is_root() || !Path::new("/etc/hostname").exists() {
        return skip(name, "needs root and /etc/hostname");
    }
    let Some(_loaded) = Loaded::new() else { return skip(name, "needs AppArmor (apparmor)") };
    let confine = format!("echo exec {PROFILE} > /proc/self/attr/exec && exec \"$@\"");
    let target = Target::start(&["sh", "-c", &confine, "sh"], &["-m", "-p", "-n", "--mount-proc"]);
    let target = target.expect("a confined process");
    let pid = target.pid.to_string();
    let confined = format!("{PROFILE} (enforce)");
    let look = ["--", "sh", "-c", "cat /proc/self/attr/current; cat /etc/hostname || echo refused"];
    let seen = |args: &[&str]| stdout(&joinns(&[&["-t", &pid], args, &look].concat()));
    // By default, and where it is asked for; the profile's own rule is in force.
    for args in [&["-a"][..], &["-m", "-p"], &["-n", "-Z"]] {
        assert_eq!(seen(args), format!("{confined}\nrefused"), "{args:?}");
    }
    for args in [&["-a", "--privileged"][..], &["-n"]] {
        let text = seen(args);
        assert!(text.starts_with("unconfined") && !text.contains("refused"), "{args:?}: {text}");
    }
}

#[test]
fn refusals() {
    let Some(target) = target("refusals", &[], &["-u", "-p", "-m", "--mount-proc"]) else { return };
    let pid = target.pid.to_string();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["-a", "--tty"], 2, "not a terminal"),
        (&["-u", "--tools"], 2, "--tools"),
        (&["-a", "--privileged", "--tools"], 2, "--tools"),
        (&["-a", "--cap", ""], 2, "capability"),
        (&["-N", "-1"], 2, "-1"),
        (&["-n", "--net-socket", "0"], 2, "socket"),
    ];
    for (args, code, says) in cases {
        let output = joinns(&[&["-t", &pid], *args, &["echo", "ran"]].concat());
        assert_eq!(output.status.code(), Some(*code), "{args:?} {}", stderr(&output));
        assert!(stderr(&output).contains(says) && stdout(&output).is_empty(), "{args:?} {}", stderr(&output));
    }
    let modules = std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
    if !modules.contains("apparmor") && !modules.contains("selinux") && !enabled.starts_with('Y') {
        let output = joinns(&["-t", &pid, "-a", "-Z", "echo", "ran"]);
        assert!(
            output.status.code() == Some(125) && stderr(&output).contains("is active"),
            "{}",
            stderr(&output)
        );
    }
}
