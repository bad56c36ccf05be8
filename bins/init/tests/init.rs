//! `init` by its effects: exit codes, reaping, signals, the inside that it sets up, and bad input.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that cannot go on should stop

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const INIT: &str = env!("CARGO_BIN_EXE_init");
const ALL: &str = "mount,pid,uts,ipc,net,cgroup";

fn skip(name: &str, reason: &str) {
    let _ = std::io::stderr().write_all(format!("SKIP {name}: {reason}\n").as_bytes());
}

macro_rules! need_root {
    ($name:expr) => {
        if !nix::unistd::geteuid().is_root() {
            return skip($name, "needs root");
        }
    };
}

/// Ten times as long in the emulated VM.
fn time(seconds: u64) -> Duration {
    Duration::from_secs(if std::env::var_os("DRYDOCK_VM").is_some() { seconds * 10 } else { seconds })
}

fn init(args: &[&str]) -> Command {
    let mut command = Command::new(INIT);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs to the end, within a time: a reaper that misses its child's end would wait for ever.
fn end(command: &mut Command) -> Output {
    finish(command.spawn().unwrap())
}

fn finish(mut child: Child) -> Output {
    let until = Instant::now() + time(10);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > until {
            let _ = child.kill();
            panic!("still running: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    child.wait_with_output().unwrap()
}

fn run(args: &[&str]) -> (i32, String, String) {
    told(&end(&mut init(args)))
}

fn told(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_string();
    (output.status.code().expect("an exit code"), text(&output.stdout), text(&output.stderr))
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + time(5);
    while !holds() {
        assert!(Instant::now() < until, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A directory of this test, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("drydock-init-test-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    fn file(&self, name: &str, text: &str, mode: u32) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        path.display().to_string()
    }

    /// A root file system whose programs are the host's, bound read-only by [`Scratch::rooted`].
    fn root(&self) -> String {
        let root = self.0.join("root");
        for dir in ["usr", "proc", "sys", "dev", "tmp", "etc", "root"] {
            std::fs::create_dir_all(root.join(dir)).unwrap();
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            let host = Path::new("/").join(name);
            if let Ok(target) = std::fs::read_link(&host) {
                let relative = target.strip_prefix("/").unwrap_or(&target).to_path_buf();
                let _ = std::os::unix::fs::symlink(relative, root.join(name));
            } else if host.is_dir() {
                std::fs::create_dir_all(root.join(name)).unwrap();
            }
        }
        root.display().to_string()
    }

    /// `init --unshare … --root DIR …` with the host's programs.
    fn rooted(&self, more: &[&str], command: &[&str]) -> Command {
        let root = self.root();
        let mut args: Vec<String> = ["--unshare", ALL, "--root", &root].map(String::from).to_vec();
        for name in ["usr", "bin", "sbin", "lib", "lib64"] {
            let host = Path::new("/").join(name);
            if host.is_dir() && !host.is_symlink() {
                args.extend(["-v".to_string(), format!("/{name}:/{name}:ro")]);
            }
        }
        let words: Vec<&str> = args
            .iter()
            .map(String::as_str)
            .chain(more.iter().copied())
            .chain(["--"])
            .chain(command.iter().copied())
            .collect();
        init(&words)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn exit_codes() {
    let scratch = Scratch::new();
    let plain = scratch.file("plain", "echo hi\n", 0o755);
    let missing = scratch.file("missing", "#!/no/such/interpreter\n", 0o755);
    let unmarked = scratch.file("unmarked", "#!/bin/sh\n", 0o644);
    let directory = scratch.0.display().to_string();
    let cases: [(&[&str], i32, &str); 10] = [
        (&["true"], 0, ""),
        (&["sh", "-c", "exit 7"], 7, ""),
        (&["sh", "-c", "kill -TERM $$"], 143, ""),
        (&["sh", "-c", "kill -KILL $$"], 137, ""),
        (&["no-such-command"], 127, "not found"),
        (&["/no/such/command"], 127, "no such file"),
        (&[&directory], 126, "directory"),
        (&[&plain], 126, "exec format"),
        (&[&missing], 126, "/no/such/interpreter"),
        (&[&unmarked], 126, &unmarked),
    ];
    for (command, code, says) in cases {
        let (got, _, errors) = run(&[&["-s", "--"], command].concat());
        assert_eq!(got, code, "{command:?}: {errors}");
        assert!(errors.contains(says), "{command:?}: {errors}");
        assert_eq!(errors.lines().count(), usize::from(code > 120 && code < 128), "{command:?}: {errors}");
    }
}

#[test]
fn a_signal_of_any_number_is_passed_on() {
    // Real-time signals too, which some wait functions lose.
    for number in [1, 34, 50, 64] {
        let (code, _, errors) = run(&["-s", "--", "sh", "-c", &format!("kill -{number} $$")]);
        assert_eq!(code, 128 + number, "{errors}");
    }
}

#[test]
fn a_report() {
    let (code, _, errors) = run(&["--json", "--", "sh", "-c", "exit 5"]);
    assert_eq!(code, 5);
    let last = errors.lines().last().unwrap();
    assert!(last.starts_with(r#"{"command":["sh","-c","exit 5"],"exit_code":5,"#), "{last}");
}

#[test]
fn not_pid_1_is_said() {
    let (code, _, errors) = run(&["--", "true"]);
    assert_eq!(code, 0);
    assert!(errors.contains("not PID 1") && errors.contains("-s"), "{errors}");
    assert_eq!(run(&["-s", "--", "true"]).2, "");
}

#[test]
fn the_environment_and_streams_are_the_callers() {
    let mut command = init(&["-s", "--", "sh", "-c", "echo $WORD; cat"]);
    command.env("WORD", "as given").stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"input").unwrap();
    assert_eq!(told(&finish(child)), (0, "as given\ninput".into(), String::new()));
    let (code, out, _) = run(&["-s", "--no-stdin", "--", "cat"]);
    assert_eq!((code, out.as_str()), (0, ""));
}

/// Processes whose parent is `pid`, with their state.
fn children(pid: u32) -> Vec<(u32, char)> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    let child = |p: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{p}/stat")).ok()?;
        let mut rest = stat.rsplit(") ").next()?.split(' ');
        let state = rest.next()?.chars().next()?;
        (rest.next()?.parse() == Ok(pid)).then_some((p, state))
    };
    pids.filter_map(child).collect()
}

#[test]
fn orphans_of_a_double_fork_are_reaped_within_a_second() {
    // Twenty grandchildren whose parents have gone, which end while the command runs on.
    let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do (sleep 0.2 & ); done; echo up; exec sleep 30";
    let mut child = init(&["-s", "--", "sh", "-c", script]).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let pid = child.id();
    wait_until("the orphans are init's", || children(pid).len() > 1);
    wait_until("only the command is left, no zombie", || children(pid).len() == 1);
    assert!(children(pid).iter().all(|(_, state)| *state != 'Z'));
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(finish(child).status.code(), Some(143));
}

/// Starts a command that prints a line when it is ready; signals init; the code and the rest of the output.
fn signalled(args: &[&str], script: &str, signal: Signal) -> (i32, String) {
    let mut child = init(&[args, &["--", "sh", "-c", script]].concat()).spawn().unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert_eq!(line.trim(), "ready");
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut reader, &mut rest).unwrap();
    (finish(child).status.code().expect("an exit code"), rest.trim().to_string())
}

#[test]
fn signals_reach_the_command() {
    for (signal, name) in [
        (Signal::SIGTERM, "TERM"),
        (Signal::SIGHUP, "HUP"),
        (Signal::SIGUSR1, "USR1"),
        (Signal::SIGWINCH, "WINCH"),
    ] {
        let script = format!("trap 'echo got; exit 9' {name}; echo ready; while :; do sleep 0.02; done");
        assert_eq!(signalled(&["-s"], &script, signal), (9, "got".into()), "{name}");
    }
    assert_eq!(signalled(&["-s"], "echo ready; exec sleep 30", Signal::SIGTERM).0, 143);
}

#[test]
fn with_group_signals_reach_the_whole_group() {
    let script = "trap 'echo parent' TERM; \
        (trap 'echo child; exit' TERM; echo ready; i=0; while [ $i -lt 30 ]; do sleep 0.02; i=$((i+1)); done) & \
        wait $!; wait $!; exit 4";
    let (code, alone) = signalled(&["-s"], script, Signal::SIGTERM);
    assert_eq!((code, alone.as_str()), (4, "parent"));
    let (code, group) = signalled(&["-s", "-g"], script, Signal::SIGTERM);
    assert!(group.contains("parent") && group.contains("child"), "{group}");
    assert_eq!(code, 4);
}

#[test]
fn what_the_caller_ignored_and_blocked_does_no_harm() {
    // env(1) of coreutils sets what a bad caller would leave.
    for option in ["--ignore-signal=CHLD", "--block-signal", "--ignore-signal=PIPE"] {
        let mut command = Command::new("env");
        command.args([
            option,
            INIT,
            "-s",
            "--",
            "sh",
            "-c",
            "grep -E '^Sig(Blk|Ign)' /proc/self/status; exit 5",
        ]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (code, out, errors) = told(&end(&mut command));
        if errors.contains("unrecognized option") {
            return skip("what_the_caller_ignored_and_blocked_does_no_harm", "env(1) has no --ignore-signal");
        }
        assert_eq!(code, 5, "{option}: {errors}");
        let clean = out.lines().all(|l| l.ends_with("\t0000000000000000"));
        assert!(clean && out.lines().count() == 2, "{option}: the command starts clean: {out}");
    }
}

#[test]
fn closed_streams_do_no_harm() {
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" -s -- sh -c 'exit 6' <&- >&- 2>&-", INIT]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    assert_eq!(told(&end(&mut command)).0, 6);
}

#[test]
fn without_proc_a_plain_init_works() {
    need_root!("without_proc_a_plain_init_works");
    let script = "mount -t tmpfs none /proc && exec \"$0\" -s -- sh -c 'exit 8'";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, INIT]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (code, _, errors) = told(&end(&mut command));
    assert_eq!(code, 8, "{errors}");
}

#[test]
fn no_more_processes_is_explained() {
    need_root!("no_more_processes_is_explained");
    let mut command = Command::new("setpriv");
    let copy = Scratch::new();
    let init = copy.0.join("init");
    std::fs::copy(INIT, &init).unwrap();
    std::fs::set_permissions(&copy.0, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    // An id that nobody has: its processes are counted for it alone.
    command.args(["--reuid", "64123", "--regid", "64123", "--clear-groups", "prlimit", "--nproc=1:1"]);
    command.arg(&init).args(["-s", "--", "true"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (code, _, errors) = told(&end(&mut command));
    assert_eq!(code, 125, "{errors}");
    assert!(errors.contains("EAGAIN") && errors.contains("RLIMIT_NPROC"), "{errors}");
}

#[test]
fn grace_ends_what_the_command_left() {
    need_root!("grace_ends_what_the_command_left");
    let scratch = Scratch::new();
    let mark = scratch.0.join("mark").display().to_string();
    // The orphan says that it was asked to end; without grace it would be killed with PID 1.
    let script = format!(
        "(trap 'echo asked > {mark}; exit' TERM; echo on > {mark}.on; while :; do sleep 0.02; done) & while [ ! -e {mark}.on ]; do sleep 0.02; done; exit 3"
    );
    for (grace, asked) in [(&["--grace", "3000"][..], true), (&[], false)] {
        let _ = std::fs::remove_file(&mark);
        let _ = std::fs::remove_file(format!("{mark}.on"));
        let (code, _, errors) = run(&[&["--unshare", "pid"], grace, &["--", "sh", "-c", &script]].concat());
        assert_eq!(code, 3, "{errors}");
        assert_eq!(Path::new(&mark).exists(), asked, "{grace:?}");
    }
}

fn own(kind: &str) -> String {
    std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string()
}

const LOOK: &str = "echo pid $$; hostname 2>/dev/null || uname -n; \
    for k in mnt pid uts ipc net cgroup; do readlink /proc/self/ns/$k; done; \
    ls -d /proc/[0-9]* | wc -l; test -c /dev/null && echo null; echo x > /dev/null && echo writable; \
    test -d /sys/class/net && ls /sys/class/net; echo t > /tmp/t && cat /tmp/t; \
    cat /proc/self/mountinfo | cut -d' ' -f5; grep -E '^(NoNewPrivs|Seccomp|CapEff):' /proc/self/status";

#[test]
fn the_inside_is_set_up() {
    need_root!("the_inside_is_set_up");
    let scratch = Scratch::new();
    let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let host = nix::unistd::gethostname().unwrap();
    let mut command = scratch.rooted(&["--hostname", "dock-7", "--exec"], &["sh", "-c", LOOK]);
    let (code, out, errors) = told(&end(&mut command));
    assert_eq!(code, 0, "{errors}\n{out}");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[..2], ["pid 1", "dock-7"], "{out}");
    for kind in ["mnt", "pid", "uts", "ipc", "net", "cgroup"] {
        let new = lines.iter().find(|l| l.starts_with(&format!("{kind}:["))).unwrap();
        assert_ne!(*new, own(kind));
    }
    for line in
        ["null", "writable", "lo", "t", "/proc", "/sys", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"]
    {
        assert!(lines.contains(&line), "{line} in {out}");
    }
    assert!(out.contains("NoNewPrivs:\t1") && out.contains("Seccomp:\t2"), "{out}");
    assert!(!out.contains(&scratch.0.display().to_string()), "nothing of the host's tree is left: {out}");
    assert_eq!(std::fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
    assert_eq!(nix::unistd::gethostname().unwrap(), host);
}

#[test]
fn without_exec_init_stays_as_pid_1() {
    need_root!("without_exec_init_stays_as_pid_1");
    let scratch = Scratch::new();
    let script = "(sleep 0.1 &); sleep 0.4; cat /proc/1/comm; echo pid $$; grep -l '^State:.Z' /proc/[0-9]*/status; exit 11";
    let (code, out, errors) = told(&end(&mut scratch.rooted(&[], &["sh", "-c", script])));
    assert_eq!(code, 11, "{errors}");
    assert!(!out.contains("pid 1\n") && !out.contains("/status"), "PID 1 reaps: {out}");
    let (code, _, errors) = told(&end(&mut scratch.rooted(&[], &["no-such-command"])));
    assert_eq!(code, 127, "{errors}");
    let (code, _, errors) = told(&end(&mut scratch.rooted(&["--exec"], &["no-such-command"])));
    assert_eq!((code, errors.lines().count()), (127, 1), "{errors}");
}

#[test]
fn a_namespace_alone_keeps_the_callers_privileges() {
    need_root!("a_namespace_alone_keeps_the_callers_privileges");
    let caps = |text: &str| text.lines().find(|l| l.starts_with("CapEff:")).map(str::to_string);
    let here = std::fs::read_to_string("/proc/self/status").unwrap();
    let look = [
        "--unshare",
        "uts",
        "--hostname",
        "dock-8",
        "--exec",
        "--",
        "sh",
        "-c",
        "uname -n; cat /proc/self/status",
    ];
    let (code, out, errors) = run(&look);
    assert_eq!(code, 0, "{errors}");
    assert_eq!(out.lines().next(), Some("dock-8"));
    assert_eq!(caps(&out), caps(&here));
    assert!(out.contains("Seccomp:\t0") == here.contains("Seccomp:\t0"));
}

#[test]
fn explain_prints_each_step_before_the_command() {
    need_root!("explain_prints_each_step_before_the_command");
    let scratch = Scratch::new();
    let (code, _, errors) =
        told(&end(&mut scratch.rooted(&["--explain", "--exec", "--hostname", "x"], &["true"])));
    assert_eq!(code, 0, "{errors}");
    for call in ["sethostname(\"x\")", "pivot_root", "execve(", "seccomp"] {
        assert!(errors.contains(call), "{call} in {errors}");
    }
}

#[test]
fn bad_input_is_one_sentence_and_touches_nothing() {
    let scratch = Scratch::new();
    let mark = scratch.0.join("ran").display().to_string();
    let root = scratch.0.join("empty");
    std::fs::create_dir(&root).unwrap();
    let root = root.display().to_string();
    let file = scratch.file("file", "", 0o644);
    let cases: [(&[&str], &str); 28] = [
        (&["--"], "command"),
        (&["--", ""], "empty"),
        (&["--no-such"], "--no-such"),
        (&["--unshare", "foo"], "namespace type"),
        (&["--unshare", ""], "namespace type"),
        (&["--root", &root], "--unshare mount"),
        (&["--unshare", "mount", "--root", "/no/such"], "--root"),
        (&["--unshare", "mount", "--root", "/"], "host"),
        (&["--unshare", "mount", "--root", &file], "not a directory"),
        (&["--unshare", "uts", "--hostname", "bad name"], "host name"),
        (&["--unshare", "uts", "--hostname", ""], "host name"),
        (&["--grace", "-1"], "--grace"),
        (&["--grace", "1e9"], "--grace"),
        (&["--grace", "99999999999"], "--grace"),
        (&["--exec", "-g"], "--exec"),
        (&["--user", "1:2:3"], "user"),
        (&["--user", "4294967296"], "user"),
        (&["--workdir", "relative"], "--workdir"),
        (&["--env", "=b"], "env"),
        (&["--env-file", "/no/such"], "env-file"),
        (&["--sysctl", "kernel.core_pattern=x"], "host"),
        (&["--cap-add", "CAP_NONE"], "CAP_NONE"),
        (&["--ulimit", "nofile=x"], "nofile"),
        (&["--read-only"], "--root"),
        (&["-v", "/a:/b"], "--root"),
        (&["--tty"], "--root"),
        (&["--map-users", "0:1:1", "--map-groups", "0:1:1"], "--unshare user"),
        (&["--request", "{}"], "--request"),
    ];
    for (args, says) in cases {
        let all = if args.contains(&"--") { args.to_vec() } else { [args, &["--", "touch", &mark]].concat() };
        let (code, out, errors) = run(&all);
        assert_eq!(code, 2, "{args:?}: {errors}");
        assert_eq!((errors.lines().count(), out.as_str()), (1, ""), "{args:?}: {errors}");
        assert!(errors.contains(says), "{args:?}: want {says:?} in {errors}");
        assert!(!Path::new(&mark).exists(), "{args:?} ran the command");
    }
    assert_eq!(run(&[]).0, 2);
}

#[test]
fn a_user_namespace_has_its_maps() {
    need_root!("a_user_namespace_has_its_maps");
    let map = |options: &[&str]| {
        let (code, out, errors) = run(&[options, &["--", "cat", "/proc/self/uid_map"]].concat());
        assert_eq!(code, 0, "{errors}");
        out.split_whitespace().map(String::from).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(map(&["--unshare", "user"]), "0 0 1");
    let maps = ["--unshare", "user", "--map-users", "0:70000:10", "--map-groups", "0:70000:10"];
    assert_eq!(map(&maps), "0 70000 10");
}

#[test]
fn a_killed_init_takes_its_container_along() {
    need_root!("a_killed_init_takes_its_container_along");
    let mut child =
        init(&["--unshare", "pid,mount", "--", "sh", "-c", "echo ready; exec sleep 300"]).spawn().unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert_eq!(line.trim(), "ready");
    let inside: Vec<u32> = children(child.id()).into_iter().map(|(pid, _)| pid).collect();
    assert!(!inside.is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    // The pipe closes when the last process inside has gone.
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut reader, &mut rest).unwrap();
    let gone = |pid: &u32| !Path::new(&format!("/proc/{pid}/exe")).exists();
    wait_until("the container is gone", || inside.iter().all(gone));
}
