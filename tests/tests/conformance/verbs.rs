//! What users of runc(8) find in the verbs beside the specification.

use crate::bundle::Bundle;
use crate::needs;
use drydock_testkit::{bin, run::run};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

/// A bundle that stays.
fn sleeper() -> Bundle {
    Bundle::new().with("/process/args", json!(["sleep", "1000"]))
}

fn running() -> Bundle {
    let bundle = sleeper();
    bundle.create().success();
    bundle.start().success();
    bundle
}

/// PID 1 of a pid namespace does not hear of signals that it does not handle; a waiting container does.
#[test]
fn a_created_container_ends_by_what_ends_others() {
    needs!();
    for signal in ["TERM", "HUP", "USR1"] {
        let bundle = sleeper();
        bundle.create().success();
        bundle.container(&["kill", &bundle.id, "WINCH"]).success();
        assert_eq!(bundle.status(), "created");
        bundle.container(&["kill", &bundle.id, signal]).success();
        bundle.wait_for("stopped");
    }
    // The command has none of its runtime's handling.
    let bundle = Bundle::script("busybox grep ^SigBlk /proc/self/status > /signals");
    bundle.create().success();
    bundle.start().success();
    bundle.wait_for("stopped");
    let text = std::fs::read_to_string(bundle.dir().join("rootfs/signals")).unwrap();
    assert!(text.ends_with("\t0000000000000000\n"), "{text}");
}

/// 0 asks; `--all` of nobody is no error; a stopped container is.
#[test]
fn kill_asks_and_kills_all() {
    needs!();
    let bundle = running();
    bundle.container(&["kill", &bundle.id, "0"]).success();
    bundle.container(&["kill", &bundle.id, "KILL"]).success();
    bundle.wait_for("stopped");
    bundle.container(&["kill", &bundle.id, "0"]).fails_with(125).says("container not running");
    bundle.container(&["kill", "-a", &bundle.id, "0"]).success();
}

/// Without a pid namespace of its own, SIGKILL is for all of a container, also when its first process has gone.
#[test]
fn kill_without_a_pid_namespace() {
    needs!();
    for first_gone in [false, true] {
        let script = "sleep 1001 & echo $! > /other; exec sleep 1002";
        let mut bundle = Bundle::script(script);
        let namespaces = bundle.config.pointer_mut("/linux/namespaces").unwrap().as_array_mut().unwrap();
        namespaces.retain(|one| one["type"] != "pid");
        bundle.create().success();
        bundle.start().success();
        let file = bundle.dir().join("rootfs/other");
        let other = || std::fs::read_to_string(&file).ok()?.trim().parse::<i32>().ok();
        bundle.sandbox.wait_until("the other", || other().is_some());
        let other = format!("/proc/{}/cmdline", other().unwrap());
        // A zombie that nobody has reaped yet has no command line any more.
        let lives = || std::fs::read(&other).is_ok_and(|text| !text.is_empty());
        if first_gone {
            let pid = bundle.state()["pid"].as_i64().unwrap().to_string();
            run(Command::new("/bin/kill").args(["-9", &pid])).success();
            bundle.wait_for("stopped");
            assert!(lives(), "what is left runs on");
        }
        bundle.container(&["kill", &bundle.id, "KILL"]).success();
        bundle.sandbox.wait_until("nobody", || !lives());
        bundle.wait_for("stopped");
    }
}

/// `run --keep`: record and cgroup stay until `delete`.
#[test]
fn a_kept_container() {
    needs!();
    let bundle = Bundle::new();
    bundle.write();
    bundle.container(&["run", "--keep", "--bundle", bundle.dir().to_str().unwrap(), &bundle.id]).success();
    assert_eq!(bundle.status(), "stopped");
    let record = bundle.container(&["inspect", &bundle.id]).success().stdout;
    let record: Value = serde_json::from_str(&record).unwrap();
    let record = record.as_array().map_or(&record, |list| &list[0]);
    let cgroups: Vec<String> = serde_json::from_value(record["cgroup"].clone()).unwrap();
    let there = || cgroups.iter().filter(|dir| Path::new(dir).is_dir()).count();
    assert!(!cgroups.is_empty() && there() == cgroups.len(), "{record}");
    bundle.container(&["gc", "--check"]).success();
    bundle.container(&["delete", &bundle.id]).success();
    assert_eq!(there(), 0);
    bundle.is_gone();
}

/// The tables and the line of JSON that runc prints.
#[test]
fn list_and_ps_of_bundles() {
    needs!();
    let bundle = running();
    let table = bundle.container(&["list"]).success().stdout;
    let words: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(words[..5], ["ID", "PID", "STATUS", "BUNDLE", "CREATED"]);
    assert!(table.contains(bundle.dir().canonicalize().unwrap().to_str().unwrap()), "{table}");
    let line = bundle.container(&["list", "-f", "json"]).success().stdout;
    assert!(line.lines().count() == 1 && line.starts_with("[{\"ociVersion\":\"1.3.0\",\"id\":\""), "{line}");
    let list: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&list[0]["id"], &list[0]["status"]), (&json!(bundle.id), &json!("running")));
    let table = bundle.container(&["ps", &bundle.id]).success().stdout;
    let words: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(words, ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    assert!(table.contains("sleep 1000"), "{table}");
}

/// A policy that children do not inherit reaches the command itself: config-linux, scheduler; sched(7).
#[test]
fn exec_with_a_policy_of_its_own() {
    needs!();
    let bundle = running();
    let process = json!({
        "args": ["cat", "/proc/self/stat"], "env": ["PATH=/bin"], "cwd": "/", "user": { "uid": 0, "gid": 0 },
        "scheduler": { "policy": "SCHED_BATCH", "nice": 7, "flags": ["SCHED_FLAG_RESET_ON_FORK"] }
    });
    let file = bundle.sandbox.join("process.json");
    std::fs::write(&file, process.to_string()).unwrap();
    let stat = bundle.container(&["exec", "--process", file.to_str().unwrap(), &bundle.id]).success().stdout;
    // proc_pid_stat(5), from field 3 on: 19 is the nice value, 41 the policy.
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    assert_eq!((fields[16], fields[38]), ("7", "3"), "SCHED_BATCH is 3: {stat}");
}

/// A process object through a pipe, and what `--debug` tells of it.
#[test]
fn exec_of_a_process_in_a_pipe() {
    needs!();
    let bundle = running();
    let process = json!({
        "args": ["sh", "-c", "echo $0 $MARK; exec ls /proc/self/fd", "name"], "env": ["PATH=/bin", "MARK=set"], "cwd": "/",
        "user": { "uid": 0, "gid": 0 }, "execCPUAffinity": { "initial": "0" }
    });
    let line = format!(
        "echo \"$1\" | {{ \"$2\" --debug --root \"$3\" exec --process /proc/self/fd/7 {} 7<&0 </dev/null; }}",
        bundle.id
    );
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &line, "sh", &process.to_string()]).arg(bin("container")).arg(bundle.sandbox.state());
    let output = run(&mut shell).success();
    assert!(output.stdout.starts_with("name set\n0\n1\n2\n"), "{}", output.describe());
    assert_eq!(output.stdout.lines().count(), 5, "beside them only ls's own: {}", output.describe());
    assert!(output.stderr.contains("level=debug msg=\"nsexec: affinity: 0x1\""), "{}", output.describe());
}

/// With another's pid and user namespace: pids are the host's, and so are the hooks of the host.
#[test]
fn joined_pid_and_user_namespaces() {
    needs!();
    let mut target = sleeper();
    let linux = target.config.pointer_mut("/linux").unwrap();
    linux["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
    linux["uidMappings"] = json!([{ "containerID": 0, "hostID": 100_000, "size": 1000 }]);
    linux["gidMappings"] = json!([{ "containerID": 0, "hostID": 100_000, "size": 1000 }]);
    target.create().success();
    target.start().success();
    let pid = target.state()["pid"].as_i64().unwrap();
    for with_user in [false, true] {
        let mut bundle = sleeper();
        let log = bundle.sandbox.join("log").display().to_string();
        for one in bundle.config.pointer_mut("/linux/namespaces").unwrap().as_array_mut().unwrap() {
            if one["type"] == "pid" {
                one["path"] = json!(format!("/proc/{pid}/ns/pid"));
            }
        }
        if with_user {
            let namespaces = bundle.config.pointer_mut("/linux/namespaces").unwrap().as_array_mut().unwrap();
            namespaces.push(json!({ "type": "user", "path": format!("/proc/{pid}/ns/user") }));
        }
        let script = format!("readlink /proc/self/ns/pid >> {log}");
        let bundle = bundle
            .with("/process/rlimits", json!([{ "type": "RLIMIT_NOFILE", "soft": 512, "hard": 512 }]))
            .with(
                "/hooks",
                json!({ "createRuntime": [
                { "path": crate::bundle::busybox().unwrap(), "args": ["sh", "-c", script] }
            ] }),
            );
        // Measured: what joins says so before it is in.
        bundle.create_with(&["--timings"]).success();
        bundle.start().success();
        let own = bundle.state()["pid"].as_i64().unwrap();
        let limits = std::fs::read_to_string(format!("/proc/{own}/limits")).unwrap();
        let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        assert!(files.contains("512"), "{files}");
        let link =
            |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).unwrap().display().to_string();
        assert_eq!(link(&own.to_string()), link(&pid.to_string()));
        assert_eq!(std::fs::read_to_string(&log).unwrap().trim(), link("self"));
    }
}

/// Words that configurations have without a meaning: data of a tmpfs at a bind mount, `a` among accesses.
#[test]
fn words_without_a_meaning() {
    needs!();
    let bundle = Bundle::script("touch /mnt/x 2>/dev/null || echo readonly");
    let source = bundle.sandbox.path().display().to_string();
    let bundle = bundle
        .with("/mounts/-", json!({ "destination": "/mnt", "source": source, "options": ["bind", "ro", "mode=755", "size=1k"] }))
        .with("/linux/resources", json!({ "devices": [
            { "allow": false, "access": "rwm" },
            { "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwa" }
        ] }));
    bundle.run().success().stdout_is("readonly");
}

/// Where the time goes is told for each verb, and the parts make up the whole.
#[test]
fn timings_add_up() {
    needs!();
    let bundle = sleeper();
    let file = bundle.sandbox.join("timings.json");
    let option = format!("--timings={}", file.display());
    let told = |stages: &[&str]| {
        let report: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let rows = report["stages"].as_array().unwrap();
        for stage in stages {
            assert!(rows.iter().any(|row| row["stage"] == *stage), "{stage}: {report}");
        }
        let sum: u64 = rows.iter().map(|row| row["wall_us"].as_u64().unwrap()).sum();
        assert_eq!(report["total_us"], sum, "{report}");
        std::fs::remove_file(&file).unwrap();
    };
    bundle.create_with(&[&option]).success();
    told(&["bundle", "state", "clone", "mounts", "settle", "other"]);
    bundle.container(&["start", &option, &bundle.id]).success();
    told(&["state", "exec", "hooks", "other"]);
    bundle.container(&["delete", "--force", &option, &bundle.id]).success();
    told(&["state", "process", "other"]);
    let run = Bundle::new();
    run.write();
    run.container(&["run", &option, "--bundle", run.dir().to_str().unwrap(), &run.id]).success();
    told(&["bundle", "clone", "command", "other"]);
    let refused = bundle.container(&["delete", "--timings=/nosuch/x", &bundle.id]);
    refused.fails_with(2).says("--timings");
}

/// Streams become the command's user's, but for the null device, which is everybody's: whatever the container has made of
/// its own /dev/null.
#[test]
fn the_null_device_keeps_its_owner() {
    needs!();
    use std::os::unix::fs::MetadataExt;
    let bundle = running();
    bundle.container(&["exec", &bundle.id, "busybox", "rm", "-f", "/dev/null"]).success();
    let node = bundle.sandbox.join("null");
    run(Command::new("mknod").arg(&node).args(["c", "1", "3"])).success();
    let open = std::fs::OpenOptions::new().read(true).write(true).open(&node).unwrap();
    let mut exec = bundle.sandbox.command("container");
    exec.args(["exec", "--user", "1000", &bundle.id, "true"]).stdin(open);
    assert!(exec.status().unwrap().success());
    assert_eq!(std::fs::metadata(&node).unwrap().uid(), 0);
}

/// An inheritable capability beyond the bounding set is refused in the kernel's word, with the unknown name that may be why.
#[test]
fn inheritable_beyond_the_bounding_set() {
    needs!();
    let sets = json!({ "bounding": ["CAP_NONE_SUCH"], "inheritable": ["CAP_KILL"], "permitted": [], "effective": [] });
    let bundle = Bundle::new().with("/process/capabilities", sets);
    bundle.is_refused("/process/capabilities/inheritable");
    let refused = bundle.create().fails_with(2);
    refused.says("EPERM").says("ignoring unknown or unavailable capabilities: [CAP_NONE_SUCH]");
}
