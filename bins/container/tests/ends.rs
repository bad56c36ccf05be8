//! How containers end that `create` and `start` have made: seen although nobody waits for them, and told by `why` and `events`.
// A helper that cannot go on fails its test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{BUSYBOX, bundle};
use drydock_testkit::{Sandbox, is_root, require};
use serde_json::{Value, json};
use std::path::Path;

fn kinds(sandbox: &Sandbox, id: &str) -> Vec<String> {
    let filter = format!("id={id}");
    let args = ["events", "--no-follow", "--json", "--filter", &filter];
    let lines = sandbox.run("container", &args).success().stdout;
    let kind =
        |line: &str| serde_json::from_str::<Value>(line).unwrap()["type"].as_str().unwrap().to_string();
    lines.lines().map(kind).collect()
}

fn why(sandbox: &Sandbox, id: &str) -> Value {
    let output = sandbox.run("container", &["why", "--json", id]);
    serde_json::from_str(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", output.describe()))
}

/// Created, started, ended; what `why` says then, and after `delete` once more the same.
fn lived(sandbox: &Sandbox, name: &str, dir: &str) -> Value {
    let id = sandbox.unique(name);
    sandbox.run("container", &["create", "--bundle", dir, &id]).success();
    sandbox.run("container", &["start", &id]).success();
    sandbox.wait_until("its end to be told", || kinds(sandbox, &id).iter().any(|kind| kind == "exit"));
    let told = why(sandbox, &id);
    sandbox.run("container", &["delete", &id]).success();
    let after = why(sandbox, &id);
    assert_eq!((&after["reason"], &after["status"]), (&told["reason"], &json!("gone")), "{after}");
    told
}

/// Whether this kernel tells others than the parent how a process ended (PIDFD_GET_INFO's PIDFD_INFO_EXIT).
fn kernel_tells() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let numbers: Vec<u32> = release.split(['.', '-']).map_while(|n| n.trim().parse().ok()).collect();
    numbers >= vec![6, 15]
}

#[test]
fn an_exit_code_is_seen_without_a_parent() {
    require!(is_root(), "needs root");
    require!(Path::new(BUSYBOX).exists(), "needs busybox");
    let sandbox = Sandbox::new();
    let dir = bundle(&sandbox, &["sh", "-c", "exit 3"], |_| {});
    let told = lived(&sandbox, "three", &dir);
    assert_eq!(told["what"], "ended", "{told}");
    // Older kernels show it only until the parent has waited: then it is said that nobody has seen it.
    if kernel_tells() || !told["exit_code"].is_null() {
        assert_eq!(told["exit_code"], 3, "{told}");
        assert!(told["reason"].as_str().unwrap().contains("exit code 3"), "{told}");
    }
    let dir = bundle(&sandbox, &["sh", "-c", "kill -SEGV $$; sleep 60"], |config| {
        config["linux"]["namespaces"] = json!([{ "type": "mount" }]);
    });
    let told = lived(&sandbox, "segv", &dir);
    if kernel_tells() || !told["signal"].is_null() {
        assert_eq!((&told["signal"], &told["exit_code"]), (&json!("SIGSEGV"), &json!(139)), "{told}");
    }
}

#[test]
fn the_limit_that_killed_it_is_found() {
    require!(is_root(), "needs root");
    require!(Path::new(BUSYBOX).exists(), "needs busybox");
    let sandbox = Sandbox::new();
    let hungry = "x=$(head -c 100000000 /dev/zero | tr '\\0' x); echo ${#x}";
    let dir = bundle(&sandbox, &["sh", "-c", hungry], |config| {
        config["linux"]["resources"] = json!({ "memory": { "limit": 20 << 20, "swap": 20 << 20 } });
    });
    let told = lived(&sandbox, "oom", &dir);
    assert!(told["reason"].as_str().unwrap().contains("want of memory"), "{told}");
    assert!(told["evidence"].to_string().contains("limit that was hit: 20M"), "{told}");
}

#[test]
fn a_filter_that_kills_is_named() {
    require!(is_root(), "needs root");
    require!(Path::new(BUSYBOX).exists(), "needs busybox");
    let sandbox = Sandbox::new();
    let dir = bundle(&sandbox, &["mkdir", "/tmp"], |config| {
        let killed = json!({ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS" });
        config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [killed] });
    });
    let told = lived(&sandbox, "sys", &dir);
    if kernel_tells() || !told["signal"].is_null() {
        assert_eq!(told["signal"], "SIGSYS", "{told}");
        assert!(told["reason"].as_str().unwrap().contains("seccomp"), "{told}");
    }
}

#[test]
fn a_missing_interpreter_is_named() {
    require!(is_root(), "needs root");
    require!(Path::new(BUSYBOX).exists(), "needs busybox");
    let sandbox = Sandbox::new();
    let id = sandbox.unique("interp");
    let dir = bundle(&sandbox, &["/bin/script"], |_| {});
    sandbox.run("container", &["create", "--bundle", &dir, &id]).success();
    sandbox.run("container", &["start", &id]).fails_with(126).says("/no/such/interpreter");
    let told = why(&sandbox, &id);
    assert_eq!((&told["what"], &told["exit_code"]), (&json!("failed"), &json!(126)), "{told}");
    assert!(told["fix"].as_str().unwrap().contains("/no/such/interpreter"), "{told}");
    sandbox.run("container", &["delete", &id]).success();
}

/// Processes that hold a pidfd of this one.
fn holders(pid: &str) -> usize {
    let line = format!("Pid:\t{pid}\n");
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|e| e.path());
    let holds = |path: &Path| {
        if std::fs::read_to_string(path.join("comm")).unwrap_or_default() != "container\n" {
            return false;
        }
        let infos = std::fs::read_dir(path.join("fdinfo")).into_iter().flatten().flatten();
        infos.into_iter().any(|e| std::fs::read_to_string(e.path()).unwrap_or_default().contains(&line))
    };
    processes.filter(|path| holds(path)).count()
}

#[test]
fn an_update_is_told_and_an_engine_is_left_alone() {
    require!(is_root(), "needs root");
    require!(Path::new(BUSYBOX).exists(), "needs busybox");
    let sandbox = Sandbox::new();
    let id = sandbox.unique("engine");
    let dir = bundle(&sandbox, &["sleep", "600"], |_| {});
    let pid_file = sandbox.join("pid").display().to_string();
    sandbox.run("container", &["create", "--bundle", &dir, "--pid-file", &pid_file, &id]).success();
    sandbox.run("container", &["start", &id]).success();
    sandbox.run("container", &["update", "--pids-limit", "50", &id]).success();
    sandbox.run("container", &["update", "--pids-limit", "x", &id]).fails_with(2);
    let filter = format!("id={id}");
    let args = ["events", "--no-follow", "--json", "--filter", &filter, "--filter", "type=update"];
    let lines = sandbox.run("container", &args).success().stdout;
    let events: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), 1, "what was refused is none: {lines}");
    assert_eq!(events[0]["limits"], json!({ "pids_max": 50 }));
    // Who gives a pid file waits itself: nobody of ours holds the process.
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    assert_eq!(holders(pid.trim()), 0);
    sandbox.run("container", &["delete", "--force", &id]).success();
    assert!(!kinds(&sandbox, &id).contains(&"exit".to_string()));
    // Without one there is a holder, which ends with the container.
    let id = sandbox.unique("shell");
    let pid_of = |id: &str| {
        let state = sandbox.run("container", &["state", id]).success().stdout;
        serde_json::from_str::<Value>(&state).unwrap()["pid"].to_string()
    };
    sandbox.run("container", &["create", "--bundle", &dir, &id]).success();
    sandbox.run("container", &["start", &id]).success();
    let pid = pid_of(&id);
    sandbox.wait_until("the witness", || holders(&pid) == 1);
    sandbox.run("container", &["delete", "--force", &id]).success();
    sandbox.wait_until("the witness to end", || holders(&pid) == 0);
    sandbox.wait_until("the end to be told", || kinds(&sandbox, &id).contains(&"exit".to_string()));
}
