//! The verbs for a container that runs: pause, resume, ps, events, by what the kernel shows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test that cannot go on should stop

use drydock_testkit::{Sandbox, is_root, require};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// A container that runs until it is ended.
fn start(sandbox: &Sandbox, name: &str, options: &[&str], script: &str) -> String {
    let id = sandbox.unique(name);
    let mut words = vec!["run", "-d", "--name", &id, "--net", "none"];
    words.extend_from_slice(options);
    words.extend_from_slice(&["--", "sh", "-c", script]);
    sandbox.run("container", &words).success();
    id
}

fn pids(sandbox: &Sandbox, id: &str) -> Vec<i32> {
    let output = sandbox.run("container", &["ps", "-f", "json", id]).success();
    serde_json::from_str(&output.stdout).unwrap()
}

fn status(sandbox: &Sandbox, id: &str) -> String {
    let output = sandbox.run("container", &["list", "--json"]).success();
    let all: Value = serde_json::from_str(&output.stdout).unwrap();
    let mine = all.as_array().unwrap().iter().find(|c| c["id"] == id).unwrap();
    mine["status"].as_str().unwrap().to_string()
}

/// Processor time of a process, in ticks.
fn used(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn a_paused_container_does_nothing_until_it_is_resumed() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    let id = start(&sandbox, "p", &[], "while :; do :; done");
    let pid = pids(&sandbox, &id)[0];
    sandbox.wait_until("it works", || used(pid) > 0);
    sandbox.run("container", &["resume", &id]).fails_with(125).says("is running, not paused");
    sandbox.run("container", &["pause", &id]).success();
    assert_eq!(status(&sandbox, &id), "paused");
    let before = used(pid);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(used(pid), before, "frozen when pause returns");
    sandbox.run("container", &["pause", &id]).fails_with(125).says("is paused already");
    sandbox.run("container", &["resume", &id]).success();
    assert_eq!(status(&sandbox, &id), "running");
    sandbox.wait_until("it works again", || used(pid) > before);
    sandbox.run("container", &["delete", "-f", &id]).success();
    sandbox.run("container", &["pause", &id]).fails_with(2).says("does not exist");
}

#[test]
fn a_paused_container_can_be_killed_stopped_and_deleted() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    for how in [&["kill"][..], &["kill", "-a"], &["stop"], &["delete", "-f"]] {
        let id = start(&sandbox, "k", &[], "sleep 1000 & wait");
        let pid = pids(&sandbox, &id)[0];
        sandbox.run("container", &["pause", &id]).success();
        let mut words: Vec<&str> = how.to_vec();
        words.push(&id);
        let began = Instant::now();
        sandbox.run("container", &words).success();
        sandbox.wait_until("it has ended", || !std::path::Path::new(&format!("/proc/{pid}")).exists());
        let limit = if drydock_testkit::in_vm() { 60 } else { 5 };
        assert!(began.elapsed() < Duration::from_secs(limit), "{how:?}: not only when patience is over");
        sandbox.run("container", &["delete", "-f", &id]).success();
    }
}

#[test]
fn ps_shows_the_container_s_processes_in_three_forms() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    let id = start(&sandbox, "ps", &[], "sleep 1001 & sleep 1002 & wait");
    sandbox.wait_until("three processes", || pids(&sandbox, &id).len() == 3);
    let all = pids(&sandbox, &id);
    let output = sandbox.run("container", &["ps", "-f", "table", &id]).success();
    let lines: Vec<&str> = output.stdout.lines().collect();
    let words = |line: &str| line.split_whitespace().map(str::to_string).collect::<Vec<_>>();
    assert_eq!(words(lines[0]), ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    assert_eq!(lines.len(), 4, "{}", output.stdout);
    let shown: Vec<i32> = lines[1..].iter().map(|l| words(l)[1].parse().unwrap()).collect();
    assert_eq!(shown, all);
    assert!(lines[1].starts_with("root") && lines[2].ends_with("sleep 1001"), "{}", output.stdout);
    assert_eq!(words(lines[2])[2], all[0].to_string(), "its parent");
    let output = sandbox.run("container", &["ps", &id, "-o", "pid,comm"]).success();
    assert_eq!(output.stdout.lines().next().map(words).unwrap(), ["PID", "COMMAND"]);
    sandbox.run("container", &["ps", &id]).success().stdout_has("INSIDE");
    sandbox.run("container", &["ps", &id, "--json"]).success().stdout_has("\"inside\": 1");
    sandbox.run("container", &["ps", "-f", "xml", &id]).fails_with(2).says("allowed: table, json");
    sandbox.run("container", &["ps", &id, "--sort", "pid"]).fails_with(2).says("ps options");
    sandbox.run("container", &["stop", "-t", "0", &id]).success();
    assert_eq!(pids(&sandbox, &id), [0i32; 0], "one that has stopped has none");
    sandbox.run("container", &["delete", &id]).success();
}

#[test]
fn events_counts_what_the_kernel_counts() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    let id = start(&sandbox, "st", &["-m", "64M", "--pids", "77"], "sleep 1000 & wait");
    sandbox.wait_until("two processes", || pids(&sandbox, &id).len() == 2);
    let output = sandbox.run("container", &["events", "--stats", &id]).success();
    assert!(
        output.stdout.starts_with(&format!("{{\"type\":\"stats\",\"id\":\"{id}\",")),
        "{}",
        output.stdout
    );
    let event: Value = serde_json::from_str(&output.stdout).unwrap();
    let data = &event["data"];
    assert_eq!((&data["pids"]["current"], &data["pids"]["limit"]), (&2.into(), &77.into()));
    assert_eq!(data["memory"]["usage"]["limit"], 64 << 20);
    assert!(data["memory"]["usage"]["usage"].as_u64().unwrap() > 0);
    assert!(data["cpu"]["usage"]["total"].as_u64().unwrap() > 0);
    for key in ["cpuset", "blkio", "hugetlb", "intel_rdt", "network_interfaces"] {
        assert!(data.get(key).is_some(), "{key}");
    }
    sandbox.run("container", &["events", "--interval", "0s", &id]).fails_with(2).says("--interval");
    sandbox.run("container", &["stop", "-t", "0", &id]).success();
    sandbox.run("container", &["events", "--stats", &id]).fails_with(125).says("not running");
    sandbox.run("container", &["delete", &id]).success();
}

#[test]
fn events_tells_when_memory_runs_out_and_ends_with_the_container() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    let go = sandbox.join("go");
    std::fs::create_dir(&go).unwrap();
    let mount = format!("{}:/go", go.display());
    let script = "while [ ! -e /go/now ]; do sleep 0.1; done; (tail /dev/zero); while [ ! -e /go/end ]; do sleep 0.1; done";
    let id = start(&sandbox, "oom", &["-m", "32M", "-v", &mount], script);
    let mut command = sandbox.command("container");
    command.args(["events", "--interval", "500ms", &id]).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().starts_with("{\"type\":\"stats\""));
    std::fs::write(go.join("now"), "").unwrap();
    let oom = lines.by_ref().find(|line| !line.starts_with("{\"type\":\"stats\"")).unwrap();
    assert_eq!(oom, format!("{{\"type\":\"oom\",\"id\":\"{id}\"}}"));
    assert!(lines.next().unwrap().starts_with("{\"type\":\"stats\""), "it goes on");
    std::fs::write(go.join("end"), "").unwrap();
    assert_eq!(lines.filter(|line| line.contains("\"oom\"")).count(), 0, "told once");
    assert!(child.wait().unwrap().success());
    sandbox.run("container", &["delete", "-f", &id]).success();
}

/// The number in a kernel file of the container's cgroup: v2's name, or v1's hierarchy and name.
fn limit(sandbox: &Sandbox, id: &str, v2: &str, v1: &str) -> String {
    let output = sandbox.run("container", &["inspect", id]).success();
    let all: Value = serde_json::from_str(&output.stdout).unwrap();
    let dirs = all["cgroup"].as_array().unwrap();
    let files = dirs.iter().flat_map(|dir| [v2, v1].map(|file| format!("{}/{file}", dir.as_str().unwrap())));
    let text = files.into_iter().find_map(|file| std::fs::read_to_string(file).ok()).unwrap();
    text.trim().to_string()
}

#[test]
fn update_changes_what_the_kernel_enforces() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    let id = start(&sandbox, "up", &["-m", "64M"], "sleep 1000 & wait");
    let memory = || limit(&sandbox, &id, "memory.max", "memory.limit_in_bytes");
    let pids = || limit(&sandbox, &id, "pids.max", "pids.max");
    assert_eq!(memory(), (64u64 << 20).to_string());
    sandbox.run("container", &["update", "--memory", "128m", "--pids-limit", "33", &id]).success();
    assert_eq!((memory(), pids()), ((128u64 << 20).to_string(), "33".to_string()));
    sandbox.run("container", &["update", "--pids-limit", "-1", "--cpus", "0.5", &id]).success();
    assert_eq!(pids(), "max");
    let quota = limit(&sandbox, &id, "cpu.max", "cpu.cfs_quota_us");
    assert!(["50000 100000", "50000"].contains(&quota.as_str()), "{quota}");
    // As runc writes it, from a file and from standard input.
    let json = r#"{"memory":{"limit":83886080},"cpu":{"quota":20000,"period":100000},"unknown":1}"#;
    let file = sandbox.join("r.json");
    std::fs::write(&file, json).unwrap();
    sandbox.run("container", &["update", "-r", file.to_str().unwrap(), &id]).success();
    assert_eq!(memory(), (80u64 << 20).to_string());
    let mut command = sandbox.command("container");
    let input = br#"{"pids":{"limit":44}}"#;
    drydock_testkit::run_for(command.args(["update", "-r", "-", &id]), input, drydock_testkit::run::TIME)
        .success();
    assert_eq!(pids(), "44");
    assert_eq!(memory(), (80u64 << 20).to_string(), "what is not given stays");
    // A controller that the container was made without.
    sandbox.run("container", &["update", "--cpuset-cpus", "0", &id]).success();
    sandbox.run("container", &["update", "--cpuset-cpus", "0", &id]).success();
    let first = self::pids(&sandbox, &id)[0];
    let status = std::fs::read_to_string(format!("/proc/{first}/status")).unwrap();
    assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
    sandbox.run("container", &["delete", "-f", &id]).success();
}

#[test]
fn a_bad_update_changes_nothing() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    let id = start(&sandbox, "bad", &["-m", "64M", "--pids", "50"], "sleep 1000 & wait");
    for (words, says) in [
        (&["--memory", "x"][..], "--memory"),
        (&["--memory", "64m", "--memory-swap", "1m"], "--memory-swap"),
        (&["--pids-limit", "5", "--cpuset-cpus", "0-99999"], "--cpuset-cpus: "),
        (&["--pids-limit", "5", "--blkio-weight", "5000"], "weight"),
        (&["--pids-limit", "5", "--cpu-idle", "7"], "--cpu-idle"),
        (&["--pids-limit", "5", "--cpu-quota", "1"], "quota"),
        (&["--l3-cache-schema", "a\nb"], "l3CacheSchema"),
        (&["-r", "/no/such/file"], "/no/such/file"),
        (&["-r", "/dev/null"], "--resources"),
        (&["--cpus", "1", "--cpu-quota", "5000"], "cannot be used with"),
    ] {
        let mut line = vec!["update"];
        line.extend_from_slice(words);
        line.push(&id);
        let output = sandbox.run("container", &line).exits(2);
        assert!(output.stderr.contains(says), "{says}: {}", output.describe());
    }
    assert_eq!(limit(&sandbox, &id, "pids.max", "pids.max"), "50");
    sandbox.run("container", &["stop", "-t", "0", &id]).success();
    sandbox.run("container", &["update", "--pids-limit", "5", &id]).fails_with(125).says("not running");
    sandbox.run("container", &["delete", &id]).success();
    sandbox.run("container", &["update", "--pids-limit", "5", &id]).fails_with(2).says("does not exist");
}
