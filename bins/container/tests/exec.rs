//! `container exec` with what engines ask of it, by what the kernel shows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test that cannot go on should stop

use drydock_testkit::{CgroupMode, Output, Sandbox, cgroup_mode, is_root, require};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

struct Place {
    sandbox: Sandbox,
    id: String,
}

impl Place {
    fn with(options: &[&str]) -> Place {
        // As containerd's shim: whoever outlives exec gets the end of its command, and has to take it: until then the
        // container's pid namespace does not end.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
        let sandbox = Sandbox::new();
        let id = sandbox.unique("exec");
        let mut words = vec!["run", "-d", "--name", &id, "--net", "none"];
        words.extend_from_slice(options);
        words.extend_from_slice(&["--", "sleep", "600"]);
        sandbox.run("container", &words).success();
        Place { sandbox, id }
    }

    fn exec(&self, options: &[&str], command: &[&str]) -> Output {
        self.sandbox.run("container", &self.words(options, command))
    }

    fn words<'a>(&'a self, options: &[&'a str], command: &[&'a str]) -> Vec<&'a str> {
        [&["exec"], options, &[self.id.as_str()], command].concat()
    }

    fn sh(&self, options: &[&str], script: &str) -> Output {
        self.exec(options, &["sh", "-c", script])
    }

    fn path(&self, name: &str) -> String {
        self.sandbox.join(name).display().to_string()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.sandbox.command("container").args(["delete", "-f", &self.id]).output();
    }
}

macro_rules! place {
    ($($option:expr),*) => {{
        require!(is_root(), "needs root");
        Place::with(&[$($option),*])
    }};
}

/// A line of /proc/PID/status of a command that printed its own.
fn field(status: &str, name: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.unwrap_or_default().trim().to_string()
}

fn set(status: &str, name: &str) -> u64 {
    u64::from_str_radix(&field(status, name), 16).unwrap()
}

/// A socket that engines listen on, and what comes through it: the text and the descriptor.
struct Listening(UnixListener, PathBuf);

impl Listening {
    fn at(path: PathBuf) -> Self {
        Self(UnixListener::bind(&path).unwrap(), path)
    }

    fn path(&self) -> &str {
        self.1.to_str().unwrap()
    }

    fn take(&self) -> (String, OwnedFd) {
        let (stream, _) = self.0.accept().unwrap();
        let mut bytes = [0u8; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = recvmsg(&stream, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)
            .unwrap();
        let fd = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        (String::from_utf8(bytes[..got.bytes].to_vec()).unwrap(), fd.expect("a descriptor"))
    }
}

fn pid_in(file: &str) -> i32 {
    std::fs::read_to_string(file).unwrap().parse().unwrap()
}

fn kill(pid: i32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
}

/// Ends a detached command and reaps it.
fn end(pid: i32) {
    kill(pid, nix::sys::signal::Signal::SIGKILL);
    nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None).unwrap();
}

#[test]
fn user_groups_and_capabilities() {
    let place = place!();
    let status = "cat /proc/self/status";
    let plain = place.sh(&[], status).success().stdout;
    let more = place.sh(&["--cap", "CAP_NET_RAW", "-c", "sys_chroot"], status).success().stdout;
    for name in ["CapBnd", "CapEff", "CapPrm"] {
        assert_eq!(set(&more, name), set(&plain, name) | 1 << 13 | 1 << 18, "{name}");
    }
    assert_eq!((set(&more, "CapInh"), set(&more, "CapAmb")), (0, 0), "runc adds to neither");
    let options = ["--user", "1000:1001", "--additional-gids", "5", "-g", "4000000"];
    let other = place.sh(&options, status).success().stdout;
    assert_eq!(field(&other, "Uid"), "1000\t1000\t1000\t1000");
    assert_eq!(field(&other, "Gid"), "1001\t1001\t1001\t1001");
    assert_eq!(field(&other, "Groups"), "5 4000000");
    assert_eq!(set(&other, "CapEff"), 0);
    place.exec(&["-c", "CAP_NONE"], &["true"]).fails_with(2).says("CAP_NONE");
    place.exec(&["-g", "4294967295"], &["true"]).exits(2);
    place.exec(&["-u", "nobody-here"], &["true"]).fails_with(2).says("nobody-here");
}

#[test]
fn environment_and_directory() {
    let place = place!("-e", "A=first", "-e", "B=kept");
    let options = ["--env", "A=second", "-e", "C=x=y", "--cwd", "/tmp"];
    place.sh(&options, "echo $A $B $C; pwd").success().stdout_is("second kept x=y\n/tmp");
    place.exec(&["--cwd", "tmp"], &["true"]).fails_with(2).says("absolute");
}

#[test]
fn no_new_privileges_is_added() {
    let place = place!("--security-opt", "no-new-privileges=false");
    let script = "grep NoNewPrivs /proc/self/status";
    place.sh(&[], script).success().stdout_is("NoNewPrivs:\t0");
    place.sh(&["--no-new-privs", "--no-subreaper"], script).success().stdout_is("NoNewPrivs:\t1");
}

#[test]
fn labels_reach_their_security_module() {
    let place = place!();
    for (option, module) in [("--apparmor", "apparmor"), ("--process-label", "selinux")] {
        let output = place.exec(&[option, "drydock-none"], &["true"]);
        if drydock_testkit::probe::lsm(module) {
            assert_ne!(output.code, Some(0), "{}", output.describe());
        } else {
            assert!(
                output.code != Some(0) && output.stderr.to_lowercase().contains(module),
                "{}",
                output.describe()
            );
        }
    }
}

#[test]
fn exit_codes_and_signals() {
    let place = place!();
    place.sh(&[], "exit 42").exits(42);
    place.sh(&[], "kill -9 $$").exits(137);
    place.exec(&[], &["no-such-command"]).fails_with(127);
    place.exec(&[], &["/tmp"]).fails_with(126);
    // A signal for exec is one for the command.
    let mut command = place.sandbox.command("container");
    command
        .args(place.words(&[], &["sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done"]));
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut word = [0; 5];
    child.stdout.as_mut().unwrap().read_exact(&mut word).unwrap();
    kill(i32::try_from(child.id()).unwrap(), nix::sys::signal::Signal::SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(7));
}

#[test]
fn a_detached_command_is_its_callers_orphan() {
    let place = place!();
    let (file, out) = (place.path("pid"), place.sandbox.join("out"));
    let go = "echo started; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo done; exit 9";
    let mut command = place.sandbox.command("container");
    command.args(place.words(&["--detach", "--pid-file", &file], &["sh", "-c", go]));
    command.stdin(Stdio::null()).stdout(std::fs::File::create(&out).unwrap());
    assert!(command.status().unwrap().success());
    let pid = pid_in(&file);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert_eq!(field(&status, "PPid"), std::process::id().to_string());
    let name = PathBuf::from(&file);
    let beside = std::fs::read_dir(name.parent().unwrap()).unwrap();
    let left = beside.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(".pid"));
    assert_eq!(left.count(), 0, "nothing is left of the atomic write");
    place.sh(&[], "touch /tmp/go").success();
    let ended = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None).unwrap();
    assert_eq!(ended, nix::sys::wait::WaitStatus::Exited(nix::unistd::Pid::from_raw(pid), 9));
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "started\ndone\n", "the caller's own streams");
}

#[test]
fn a_failure_before_the_command_writes_no_pid() {
    let place = place!();
    let file = place.path("pid");
    place.exec(&["-d", "--pid-file", &file], &["no-such-command"]).fails_with(127);
    assert!(!Path::new(&file).exists());
    let nowhere = place.path("none/pid");
    place.exec(&["-d", "--pid-file", &nowhere], &["sleep", "600"]).fails_with(2).says("--pid-file");
    let ps = place.sandbox.run("container", &["ps", "-f", "json", &place.id]).success().stdout;
    assert_eq!(ps.matches(',').count(), 0, "the command was ended: {ps}");
}

#[test]
fn the_terminal_goes_to_the_console_socket() {
    let place = place!();
    let listening = Listening::at(place.sandbox.join("console"));
    let file = place.path("pid");
    let options = ["-d", "-t", "--console-socket", listening.path(), "--pid-file", &file];
    let script = "tty; ls -l /proc/self/fd/0; stty size; read line; echo got $line; sleep 600";
    place.exec(&options, &["sh", "-c", script]).success().stdout_is("");
    let (name, master) = listening.take();
    assert!(!name.is_empty(), "engines take the text as the descriptor's name");
    let mut terminal = std::fs::File::from(master);
    let mut seen = String::new();
    let mut until = |what: &str, terminal: &mut std::fs::File| {
        while !seen.contains(what) {
            let mut bytes = [0; 1024];
            let n = terminal.read(&mut bytes).unwrap();
            seen.push_str(&String::from_utf8_lossy(&bytes[..n]));
        }
    };
    until("/dev/pts/", &mut terminal);
    terminal.write_all(b"words\n").unwrap();
    until("got words", &mut terminal);
    let pid = pid_in(&file);
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    assert_ne!(fields[4], "0", "a controlling terminal: {stat}");
    end(pid);

    place.exec(&["-d", "-t"], &["true"]).fails_with(2).says("--console-socket");
    place
        .exec(&["-d", "--console-socket", listening.path()], &["true"])
        .fails_with(2)
        .says("--console-socket");
    place
        .exec(&["-t", "--console-socket", listening.path()], &["true"])
        .fails_with(2)
        .says("--console-socket");
    let none = place.path("nobody");
    place.exec(&["-d", "-t", "--console-socket", &none], &["true"]).fails_with(2).says("--console-socket");
}

#[test]
fn a_pidfd_of_the_command() {
    let place = place!();
    let listening = Listening::at(place.sandbox.join("pidfd"));
    let file = place.path("pid");
    let mut command = place.sandbox.command("container");
    let options = ["-d", "--pidfd-socket", listening.path(), "--pid-file", &file];
    command.args(place.words(&options, &["sleep", "600"]));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(command.status().unwrap().success());
    let (_, pidfd) = listening.take();
    let info =
        std::fs::read_to_string(format!("/proc/self/fdinfo/{}", std::os::fd::AsRawFd::as_raw_fd(&pidfd)))
            .unwrap();
    assert_eq!(field(&info, "Pid"), pid_in(&file).to_string());
    rustix::process::pidfd_send_signal(pidfd.as_fd(), rustix::process::Signal::KILL).unwrap();
    nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid_in(&file)), None).unwrap();
}

#[test]
fn descriptors_that_are_passed_on() {
    let place = place!();
    std::fs::write(place.sandbox.join("a"), "A").unwrap();
    std::fs::write(place.sandbox.join("b"), "B").unwrap();
    let tool = drydock_testkit::bin("container");
    let run = |open: &str, env: &str, options: &str, script: &str| {
        let text =
            format!("{open}; {env} exec {} exec {options} {} sh -c '{script}'", tool.display(), place.id);
        let mut command = Command::new("bash");
        command.args(["-c", &text]).current_dir(place.sandbox.path());
        command.env("DRYDOCK_ROOT", place.sandbox.state()).env("DRYDOCK_DATA", place.sandbox.data());
        drydock_testkit::run(&mut command)
    };
    let both = "exec 3<a 4<b 5</";
    let list = "ls /proc/$$/fd";
    run(both, "", "", list).success().stdout_is("0\n1\n2");
    run(both, "", "--preserve-fds 1", &format!("{list}; cat <&3")).success().stdout_is("0\n1\n2\n3\nA");
    run(both, "", "--preserve-fds 2", &format!("{list}; cat <&4")).success().stdout_is("0\n1\n2\n3\n4\nB");
    let activated = "echo $LISTEN_FDS $LISTEN_PID; cat <&4";
    let env = "export LISTEN_FDS=1 LISTEN_PID=$$;";
    run(both, env, "--preserve-fds 1", activated).success().stdout_has("1 ").stdout_has("B");
    run(both, "export LISTEN_FDS=2 LISTEN_PID=1;", "", list).success().stdout_is("0\n1\n2");
    run("true", "", "--preserve-fds 7", list).success().stdout_is("0\n1\n2");
    run("exec 4<b", "", "--preserve-fds 2", &format!("{list}; cat <&4")).success().stdout_is("0\n1\n2\n4\nB");
    run("true", "export LISTEN_FDS=1 LISTEN_PID=$$;", "", "true")
        .fails_with(2)
        .says("$LISTEN_FDS: descriptor 3 is not open");
}

#[test]
fn a_paused_container_is_left_alone() {
    let place = place!();
    place.sandbox.run("container", &["pause", &place.id]).success();
    place.exec(&[], &["true"]).fails_with(125).says("is paused");
    let mut command = place.sandbox.command("container");
    command.args(place.words(&["--ignore-paused"], &["echo", "ran"])).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "nothing runs in a paused container");
    place.sandbox.run("container", &["resume", &place.id]).success();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), b"ran\n".as_slice()));
}

#[test]
fn a_cgroup_below_the_containers() {
    let place = place!();
    let state = std::fs::read_to_string(place.sandbox.state().join(&place.id).join("state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    let dirs: Vec<PathBuf> = serde_json::from_value(state["cgroup"].clone()).unwrap();
    for dir in &dirs {
        let below = dir.join("below");
        std::fs::create_dir(&below).unwrap();
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let (Ok(above), true) =
                (std::fs::read_to_string(dir.join(file)), cgroup_mode() != CgroupMode::V2)
            {
                std::fs::write(below.join(file), above.trim()).unwrap();
            }
        }
    }
    let file = place.path("pid");
    let in_cgroup = |options: &[&str]| {
        let mut command = place.sandbox.command("container");
        let options = [&["-d", "--pid-file", &file], options].concat();
        command.args(place.words(&options, &["sleep", "600"]));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(command.status().unwrap().success());
        let pid = pid_in(&file);
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        end(pid);
        text
    };
    let of = |text: &str, controller: &str| {
        let line =
            text.lines().find(|line| line.split(':').nth(1).unwrap().split(',').any(|c| c == controller));
        line.unwrap().rsplit(':').next().unwrap().to_string()
    };
    let below = in_cgroup(&["--cgroup", "below"]);
    if cgroup_mode() == CgroupMode::V2 {
        assert!(of(&below, "").ends_with(&format!("{}/below", place.id)), "{below}");
    } else {
        assert!(of(&below, "pids").ends_with(&format!("{}/below", place.id)), "{below}");
        let one = in_cgroup(&["--cgroup", "pids:below"]);
        assert!(of(&one, "pids").ends_with("/below") && of(&one, "memory").ends_with(&place.id), "{one}");
        place.exec(&["--cgroup", "nosuch:below"], &["true"]).fails_with(2).says("nosuch");
    }
    place.exec(&["--cgroup", "absent"], &["true"]).fails_with(2).says("absent");
    place.exec(&["--cgroup", "../.."], &["true"]).fails_with(2).says("--cgroup");
    place.sandbox.wait_until("the commands have gone", || {
        dirs.iter().all(|dir| std::fs::remove_dir(dir.join("below")).is_ok() || !dir.join("below").exists())
    });
}

#[test]
fn a_process_from_a_file() {
    let place = place!("-e", "A=first");
    let file = place.path("process.json");
    let run = |process: serde_json::Value, options: &[&str]| {
        std::fs::write(&file, process.to_string()).unwrap();
        let mut words = vec!["exec", "--process", file.as_str()];
        words.extend_from_slice(options);
        words.push(&place.id);
        place.sandbox.run("container", &words)
    };
    let script = "cat /proc/self/status; pwd; umask; echo A=$A B=$B; ulimit -n; cat /proc/self/oom_score_adj";
    let process = serde_json::json!({
        "user": { "uid": 1000, "gid": 1001, "additionalGids": [5, 6], "umask": 0o77 },
        "args": ["sh", "-c", script],
        "env": ["PATH=/bin:/usr/bin", "B=given"],
        "cwd": "/tmp",
        "capabilities": { "bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"] },
        "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 99, "hard": 100 }],
        "noNewPrivileges": true,
        "oomScoreAdj": 500,
        "execCPUAffinity": { "initial": "0", "final": "0" },
    });
    let output = run(process.clone(), &[]).success().stdout;
    assert_eq!(field(&output, "Uid"), "1000\t1000\t1000\t1000");
    assert_eq!(field(&output, "Gid"), "1001\t1001\t1001\t1001");
    assert_eq!(field(&output, "Groups"), "5 6");
    assert_eq!((set(&output, "CapBnd"), set(&output, "CapInh")), (1 << 5, 0));
    assert_eq!((field(&output, "NoNewPrivs"), field(&output, "Cpus_allowed_list")), ("1".into(), "0".into()));
    assert_eq!(field(&output, "Seccomp"), "2", "the container's filter");
    assert!(output.ends_with("/tmp\n0077\nA= B=given\n99\n500\n"), "{output}");
    // Options come on top.
    run(process.clone(), &["-e", "A=option"]).success().stdout_has("A=option B=given");
    let with = |pointer: &str, value: serde_json::Value| {
        let mut process = process.clone();
        process[pointer] = value;
        process
    };
    for (process, says) in [
        (with("args", serde_json::json!([])), "/args"),
        (with("cwd", "tmp".into()), "/cwd"),
        (with("user", "root".into()), "/user"),
        (with("execCPUAffinity", serde_json::json!({ "initial": "x" })), "execCPUAffinity"),
        (serde_json::json!([]), "--process"),
    ] {
        run(process, &[]).fails_with(2).says(says);
    }
    let mut both = place.words(&["--process", &file], &["true"]);
    place.sandbox.run("container", &both).exits(2);
    both = vec!["exec", "--process", "/no/such/file", &place.id];
    place.sandbox.run("container", &both).fails_with(2).says("/no/such/file");
}
