//! OCI's process properties applied to real processes: what the kernel shows of them afterwards.
//!
//! The harness has threads, so each case runs the example program `apply`, which applies a request and execs a command.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests fail as tests do

use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

fn apply() -> Command {
    // Tests lie in target/…/debug/deps, examples beside that.
    let tests = std::env::current_exe().unwrap();
    let program: PathBuf = tests.parent().and_then(|deps| deps.parent()).unwrap().join("examples/apply");
    assert!(program.exists(), "first: cargo build -p drydock-security --examples");
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    command
}

fn run(request: &Value, command: &[&str]) -> Output {
    apply().arg(request.to_string()).args(command).output().unwrap()
}

fn shown(request: &Value, command: &[&str]) -> String {
    let output = run(request, command);
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{request} {command:?}: {text}");
    text
}

fn skip(test: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "SKIP {test}: {reason}");
}

fn there(program: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|dir| dir.join(program).exists())
}

#[test]
fn the_kernel_shows_the_scheduling_policy() {
    if !nix::unistd::geteuid().is_root() || !there("chrt") {
        return skip("the_kernel_shows_the_scheduling_policy", "needs root and chrt");
    }
    for (scheduler, wanted) in [
        (json!({"policy": "SCHED_BATCH", "nice": 5}), "SCHED_BATCH"),
        (json!({"policy": "SCHED_IDLE"}), "SCHED_IDLE"),
        (
            json!({"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_RESET_ON_FORK"]}),
            "SCHED_OTHER|SCHED_RESET_ON_FORK",
        ),
        (json!({"policy": "SCHED_FIFO", "priority": 7}), "SCHED_FIFO"),
        (json!({"policy": "SCHED_RR", "priority": 8}), "SCHED_RR"),
        (
            json!({"policy": "SCHED_DEADLINE", "runtime": 10_000_000, "deadline": 20_000_000, "period": 20_000_000}),
            "SCHED_DEADLINE",
        ),
    ] {
        let policy = format!("policy: {wanted}\n");
        let request = json!({ "scheduler": scheduler });
        // A deadline task cannot fork: the probe is the command itself, and asks about its own pid.
        let output = run(&request, &["chrt", "--pid", "0"]);
        let text =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if text.contains("sched_setattr") {
            // Real-time bandwidth belongs to cgroups on v1, and deadlines to whoever asked first.
            assert!(text.contains("EPERM") || text.contains("EBUSY"), "{text}");
            skip("the_kernel_shows_the_scheduling_policy", &format!("no real-time scheduling: {wanted}"));
            continue;
        }
        assert!(text.contains(&policy), "{wanted}: {text}");
    }
    let text = shown(&json!({"scheduler": {"policy": "SCHED_OTHER", "nice": 4}}), &["nice"]);
    assert_eq!(text.trim(), "4");
}

#[test]
fn the_kernel_shows_io_priority_cpus_memory_and_domain() {
    if !there("ionice") {
        return skip("the_kernel_shows_io_priority_cpus_memory_and_domain", "no ionice");
    }
    let class = |class: &str, priority: i32| json!({"io_priority": {"class": class, "priority": priority}});
    assert_eq!(shown(&class("IOPRIO_CLASS_BE", 3), &["ionice"]).trim(), "best-effort: prio 3");
    assert_eq!(shown(&class("IOPRIO_CLASS_IDLE", 0), &["ionice"]).trim(), "idle");
    let cpus = shown(
        &json!({"exec_cpu_affinity": {"final": "0"}}),
        &["grep", "Cpus_allowed_list", "/proc/self/status"],
    );
    assert_eq!(cpus.split_whitespace().last(), Some("0"));
    let error = run(&json!({"exec_cpu_affinity": {"final": "1023"}}), &["true"]);
    assert_eq!(error.status.code(), Some(125), "no such CPU");
    assert_eq!(shown(&json!({"personality": {"domain": "LINUX32"}}), &["uname", "-m"]).trim(), "i686");
    let persona = json!({"personality": {"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}});
    assert_eq!(shown(&persona, &["cat", "/proc/self/personality"]).trim(), "00040000");
    if !std::path::Path::new("/proc/self/numa_maps").exists() {
        return skip("the_kernel_shows_io_priority_cpus_memory_and_domain", "no NUMA");
    }
    let policy =
        |mode: &str, flags: Value| json!({"memory_policy": {"mode": mode, "nodes": "0", "flags": flags}});
    let maps = |request: &Value| shown(request, &["cat", "/proc/self/numa_maps"]);
    assert!(maps(&policy("MPOL_BIND", json!([]))).contains(" bind:0 "));
    assert!(
        maps(&policy("MPOL_INTERLEAVE", json!(["MPOL_F_STATIC_NODES"]))).contains(" interleave=static:0 ")
    );
    assert!(maps(&json!({"memory_policy": {"mode": "MPOL_LOCAL"}})).contains(" local "));
    let error = run(&json!({"memory_policy": {"mode": "MPOL_BIND", "nodes": "63"}}), &["true"]);
    assert!(String::from_utf8_lossy(&error.stderr).contains("63 has no memory here"));
}

/// Limits and score of a process in a user namespace, which could not set them itself.
#[test]
fn the_parent_sets_what_a_user_namespace_cannot() {
    if !nix::unistd::geteuid().is_root() || !there("unshare") {
        return skip("the_parent_sets_what_a_user_namespace_cannot", "needs root and unshare");
    }
    let mut child = Command::new("unshare").args(["--user", "sleep", "60"]).spawn().unwrap();
    let pid = child.id();
    let file = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
    let host = std::fs::read_link("/proc/self/ns/user").unwrap();
    for _ in 0..600 {
        let ours = std::fs::read_link(format!("/proc/{pid}/ns/user")).is_ok_and(|ns| ns == host);
        if !ours || child.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    if child.try_wait().unwrap().is_some() {
        return skip("the_parent_sets_what_a_user_namespace_cannot", "user namespaces are not allowed here");
    }
    let request =
        json!({"oom_score_adj": 432, "rlimits": [{"name": "RLIMIT_NOFILE", "soft": 70, "hard": 90}]});
    let request: drydock_security::Request = serde_json::from_value(request).unwrap();
    let ctx = drydock_core::Ctx::silent();
    let done = request.validate().unwrap().apply_outside(&ctx, i32::try_from(pid).unwrap());
    let (score, limits) = (file("oom_score_adj"), file("limits"));
    child.kill().unwrap();
    child.wait().unwrap();
    done.unwrap();
    assert_eq!(score.trim(), "432");
    let row = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let own = std::fs::read_to_string("/proc/self/limits").unwrap();
    assert!(own.lines().any(|line| line == row), "lowered too early: {row}");
}

#[test]
fn a_root_without_proc_is_no_obstacle() {
    if !nix::unistd::geteuid().is_root() || !there("unshare") {
        return skip("a_root_without_proc_is_no_obstacle", "needs root and unshare");
    }
    let program = apply();
    // Something else covers /proc: it is not believed, and the value is set all the same.
    let script = "mount -t tmpfs none /proc && exec \"$0\" \"$@\"";
    let show = "umount /proc; cat /proc/self/oom_score_adj";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .arg(program.get_program())
        .args([&json!({"oom_score_adj": 321}).to_string(), "sh", "-c", show])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "321", "{output:?}");
}

#[test]
fn streams_belong_to_the_user() {
    if !nix::unistd::geteuid().is_root() {
        return skip("streams_belong_to_the_user", "not root");
    }
    let user = |own: bool| json!({"user": {"uid": 65534, "gid": 65534}, "own_streams": own});
    let again = |own: bool| {
        let mut child = apply();
        child.arg(user(own).to_string()).args(["sh", "-c", "echo again > /proc/self/fd/1"]);
        child.stdout(Stdio::piped()).stderr(Stdio::null()).output().unwrap()
    };
    assert_eq!(String::from_utf8_lossy(&again(true).stdout), "again\n");
    // The pipe is of whoever made it, and its mode lets nobody else open it.
    assert_eq!(String::from_utf8_lossy(&again(false).stdout), "");
}

/// The agent's first caller; one that never comes fails the test.
fn accept(server: &UnixListener) -> UnixStream {
    server.set_nonblocking(true).unwrap();
    for _ in 0..600 {
        if let Ok((stream, _)) = server.accept() {
            stream.set_nonblocking(false).unwrap();
            return stream;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("nobody called the agent")
}

/// A connection with its message and descriptor.
fn receive(stream: &mut UnixStream) -> (Value, OwnedFd) {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut bytes = [0u8; 4096];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut buffers = [std::io::IoSliceMut::new(&mut bytes)];
    let got = recvmsg(stream.as_fd(), &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap().bytes;
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    let mut text = String::from_utf8(bytes[..got].to_vec()).unwrap();
    stream.read_to_string(&mut text).unwrap();
    (serde_json::from_str(&text).unwrap(), fd.unwrap())
}

/// Whatever the filter asks about, the agent gets its descriptor: the process makes no call in between.
#[test]
fn the_agent_gets_the_notify_descriptor_whatever_is_filtered() {
    if !nix::unistd::geteuid().is_root() {
        return skip("the_agent_gets_the_notify_descriptor_whatever_is_filtered", "not root");
    }
    let dir = std::env::temp_dir().join(format!("drydock-notify-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let busy = [
        "mkdir",
        "sendmsg",
        "sendto",
        "recvmsg",
        "recvfrom",
        "futex",
        "close",
        "poll",
        "ppoll",
        "sched_yield",
    ];
    for (number, (no_new_privs, calls, ptrace)) in [
        (true, &busy[..1], true),
        (true, &busy[..], true),
        (false, &busy[..1], true),
        (true, &busy[..], false),
    ]
    .into_iter()
    .enumerate()
    {
        if !ptrace && !there("setpriv") {
            skip("the_agent_gets_the_notify_descriptor_whatever_is_filtered", "no setpriv");
            continue;
        }
        let socket = dir.join(format!("socket-{number}"));
        let server = UnixListener::bind(&socket).unwrap();
        let profile = json!({
            "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": socket, "listenerMetadata": "m",
            "syscalls": [{"names": calls, "action": "SCMP_ACT_NOTIFY"}],
        });
        let caps = ["CAP_CHOWN"];
        let request = json!({
            "seccomp": {"inline": profile}, "no_new_privs": no_new_privs,
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
        });
        let plain = apply();
        let mut command = if ptrace {
            plain
        } else {
            let mut command = Command::new("setpriv");
            command.args(["--bounding-set", "-sys_ptrace"]).arg(plain.get_program());
            command
        };
        let target = dir.join("made");
        let child = command.arg(request.to_string()).arg("mkdir").arg(&target).stdin(Stdio::null());
        let child = child.stderr(Stdio::piped()).spawn().unwrap();
        let (message, fd) = receive(&mut accept(&server));
        assert_eq!((&message["fds"], &message["metadata"]), (&json!(["seccompFd"]), &json!("m")));
        let link =
            std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd))).unwrap();
        assert_eq!(link.to_string_lossy(), "anon_inode:seccomp notify");
        // No agent any more: what is asked is answered ENOSYS by the kernel.
        drop(fd);
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(calls.len() > 1 || text.contains("Function not implemented"), "{text}");
        assert!(!target.exists() && text.contains("Exited"), "{text}");
    }
    std::fs::remove_dir_all(dir).unwrap();
}
