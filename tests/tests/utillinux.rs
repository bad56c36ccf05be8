//! `container unshare` and `joinns` beside unshare(1) and nsenter(1): for each flag that both have, what the kernel shows of
//! the command is the same. util-linux 2.38 (Debian 12) has no =:NSID, -N, -c, --owner, --map-subids, --forward-signals, --env
//! and follow: those are compared with the kernel alone, in the tools' own tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use drydock_testkit::{Sandbox, have, is_root, require, run};
use std::process::{Child, Command, Stdio};

const KINDS: [&str; 8] = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"];

/// What is compared: namespaces (the same as the caller's or not), ids, maps, capabilities, mounts of proc, uptime, streams.
const LOOK: &str = "for k in user mnt pid net ipc uts cgroup time; do readlink /proc/self/ns/$k; done; \
    echo id $(id -u) $(id -g) $(id -G); echo map $(cat /proc/self/uid_map) / $(cat /proc/self/gid_map) / $(cat /proc/self/setgroups); \
    grep -E '^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status; \
    echo pid $$; echo cwd $(pwd); echo root $(stat -c %i /); cut -d. -f1 /proc/uptime; cat /proc/sys/kernel/hostname; \
    grep -c ' - proc ' /proc/self/mountinfo";

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    code: Option<i32>,
    /// For each kind whether it is the caller's, or the target's.
    namespaces: Vec<String>,
    rest: Vec<String>,
    uptime: i64,
}

fn own(kind: &str) -> String {
    std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string()
}

fn seen(command: &mut Command, target: Option<&str>) -> Seen {
    let output = run(command);
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert!(lines.len() > 15, "{}", output.describe());
    let place = |(kind, link): (&&str, &&str)| {
        let of_target = target.and_then(|pid| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok());
        let shared = of_target.as_ref().is_some_and(|of| of.display().to_string() == **link);
        let place = if **link == own(kind) {
            "own"
        } else if shared {
            "target's"
        } else {
            "new"
        };
        format!("{kind} {place}")
    };
    let namespaces = KINDS.iter().zip(&lines).map(place).collect();
    let mut rest: Vec<String> = lines[8..].iter().map(ToString::to_string).collect();
    for line in rest.iter_mut().filter(|line| line.starts_with("pid ") && *line != "pid 1") {
        *line = "pid other than 1".to_string();
    }
    let at = rest.iter().position(|line| line.starts_with("root ")).unwrap() + 1;
    let uptime: i64 = rest.remove(at).parse().unwrap();
    let host: f64 =
        std::fs::read_to_string("/proc/uptime").unwrap().split(' ').next().unwrap().parse().unwrap();
    #[allow(clippy::cast_possible_truncation, reason = "seconds")]
    let ahead = uptime - host as i64;
    Seen { code: output.code, namespaces, rest, uptime: (ahead + 500).div_euclid(1000) }
}

/// The same flags for both, and what only ours need for the bare behaviour.
fn unshare_both(sandbox: &Sandbox, flags: &[&str], ours: &[&str], before: &[&str]) {
    let command = |words: Vec<&str>| {
        let all: Vec<&str> = before.iter().copied().chain(words).chain(["--", "sh", "-c", LOOK]).collect();
        let mut command = Command::new(all[0]);
        command.args(&all[1..]).stdin(Stdio::null());
        command
    };
    let container = drydock_testkit::bin("container").display().to_string();
    let _ = sandbox;
    let theirs = seen(&mut command([&["unshare"], flags].concat()), None);
    let found = seen(&mut command([&[container.as_str(), "unshare"], flags, ours].concat()), None);
    assert_eq!(found, theirs, "{before:?} {flags:?}");
}

#[test]
fn unshare_as_util_linux() {
    require!(is_root() && have("unshare"), "needs root and unshare(1)");
    let sandbox = Sandbox::new();
    let bare: &[&str] = &["--no-mount-proc"];
    let cases: &[(&[&str], &[&str])] = &[
        (&["-m"], &[]),
        (&["--uts"], &[]),
        (&["-i"], &[]),
        (&["-n"], &[]),
        (&["-C"], &[]),
        (&["-p", "-f"], bare),
        (&["-p", "-f", "--mount-proc"], &[]),
        (&["--pid", "--fork", "--mount-proc", "--kill-child"], &[]),
        (&["-U", "-r"], &[]),
        (&["-U", "-c"], &[]),
        (&["-U"], &[]),
        (&["--map-user", "5", "--map-group", "7"], &[]),
        (&["--user", "--map-root-user", "--net", "--mount", "--uts", "--ipc", "--cgroup"], &[]),
        (&["-U", "-r", "-p", "-f", "--mount-proc"], &[]),
        (&["-U", "--setgroups", "deny"], &[]),
        (&["-U", "-c", "--keep-caps"], &[]),
        (&["-T", "-f", "--boottime", "100000"], &[]),
        (&["-T", "-f", "--boottime", "100000", "--monotonic", "5000"], &[]),
        (&["-m", "--propagation", "slave"], &[]),
        (&["-m", "--propagation", "unchanged"], &[]),
        (&["-w", "/usr"], &[]),
        (&["-n", "-S", "1000", "-G", "1000"], &[]),
        (&["-m", "-R", "/", "-w", "/etc"], &[]),
    ];
    for (flags, ours) in cases {
        unshare_both(&sandbox, flags, ours, &[]);
    }
}

#[test]
fn unshare_as_util_linux_for_an_ordinary_user() {
    require!(is_root() && have("unshare") && have("setpriv"), "needs root, unshare(1) and setpriv(1)");
    let sandbox = Sandbox::new();
    let user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let allowed =
        Command::new(user[0]).args(&user[1..]).args(["unshare", "-U", "true"]).stderr(Stdio::null()).status();
    require!(allowed.unwrap().success(), "user namespaces are for root only here");
    for flags in [
        &["-U"][..],
        &["-r"],
        &["-c"],
        &["-r", "-n", "-m", "-u"],
        &["-r", "-p", "-f", "--mount-proc"],
        &["--map-user=3"],
        &["-c", "--keep-caps"],
    ] {
        unshare_both(&sandbox, flags, &[], &user);
    }
}

/// A process in namespaces of its own.
struct Target {
    pid: String,
    outer: Child,
}

impl Target {
    fn start(sandbox: &Sandbox, flags: &[&str]) -> Self {
        let mut command = Command::new("unshare");
        command.args(flags).args(["--fork", "--kill-child", "--", "sleep", "1003"]).stdin(Stdio::null());
        let outer = command.spawn().unwrap();
        let children = format!("/proc/{0}/task/{0}/children", outer.id());
        let mut pid = String::new();
        sandbox.wait_until("the target runs", || {
            pid = std::fs::read_to_string(&children).unwrap_or_default().trim().to_string();
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "sleep\n")
        });
        Self { pid, outer }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.outer.kill();
        let _ = self.outer.wait();
        let pid = nix::unistd::Pid::from_raw(self.pid.parse().unwrap_or(0));
        if pid.as_raw() > 1 {
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
    }
}

#[test]
fn joinns_as_nsenter() {
    require!(is_root() && have("nsenter") && have("unshare"), "needs root, nsenter(1) and unshare(1)");
    let sandbox = Sandbox::new();
    // With the host's /proc, so that a command in some of its namespaces only can look at itself.
    let target = Target::start(&sandbox, &["-m", "-p", "-n", "-i", "-u", "-C"]);
    let user = Target::start(&sandbox, &["-U", "-r", "-m", "-p", "-n", "-u"]);
    let file = format!("--net=/proc/{}/ns/net", target.pid);
    let root = format!("--root=/proc/{}/root", target.pid);
    let cases: &[(&Target, &[&str])] = &[
        (&target, &["-m"]),
        (&target, &["--uts"]),
        (&target, &["-i"]),
        (&target, &["-n"]),
        (&target, &["-p"]),
        (&target, &["-C"]),
        (&target, &["-p", "-F"]),
        (&target, &["-m", "-p"]),
        (&target, &["-a"]),
        (&target, &["-a", "-S", "1000", "-G", "1000"]),
        (&target, &["-a", "-r", "-w"]),
        (&target, &["-m", "-w"]),
        (&target, &["-u", "--wd=/usr"]),
        (&target, &[&file]),
        // Without -w nsenter keeps the directory that it was started in, outside of the new root; joinns goes there.
        (&target, &["-n", &root, "-w"]),
        (&user, &["-a"]),
        (&user, &["-U"]),
        (&user, &["-U", "--preserve-credentials"]),
        (&user, &["-U", "-n", "-S", "0", "-G", "0"]),
    ];
    for (target, flags) in cases {
        let words = [&["-t", target.pid.as_str()], *flags].concat();
        let command = |program: &str, more: &[&str]| {
            let mut command = Command::new(program);
            command.args(&words).args(more).args(["--", "sh", "-c", LOOK]).stdin(Stdio::null());
            command
        };
        let joinns = drydock_testkit::bin("joinns").display().to_string();
        let theirs = seen(&mut command("nsenter", &[]), Some(&target.pid));
        let found = seen(&mut command(&joinns, &["--privileged"]), Some(&target.pid));
        assert_eq!(found, theirs, "{flags:?}");
        // What is taken on by default changes nothing about where the command is.
        let held = seen(&mut command(&joinns, &[]), Some(&target.pid));
        assert_eq!(held.namespaces, theirs.namespaces, "{flags:?}");
    }
    // Exit codes.
    for script in ["exit 0", "exit 7", "kill -TERM $$", "kill -KILL $$"] {
        let code = |program: &str| {
            run(Command::new(program).args(["-t", &target.pid, "-a", "--", "sh", "-c", script])).code
        };
        let joinns = drydock_testkit::bin("joinns").display().to_string();
        // nsenter ends itself by the signal; a shell sees 128+n of both.
        let theirs = code("nsenter").unwrap_or(if script.contains("TERM") { 143 } else { 137 });
        assert_eq!(code(&joinns), Some(theirs), "{script}");
    }
}
