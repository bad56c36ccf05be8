//! `container events`, `why` and `audit`: what is told of containers, also of those that are gone.
// A helper that cannot go on fails its test.
#![allow(clippy::unwrap_used, clippy::panic)]

use drydock_testkit::{Sandbox, is_root, require};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

fn json(sandbox: &Sandbox, args: &[&str]) -> Value {
    let output = sandbox.run("container", args);
    serde_json::from_str(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", output.describe()))
}

fn events(sandbox: &Sandbox, id: &str) -> Vec<Value> {
    let filter = format!("id={id}");
    let output =
        sandbox.run("container", &["events", "--no-follow", "--json", "--filter", &filter]).success();
    output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|e| e["type"].as_str().unwrap()).collect()
}

#[test]
fn a_life_is_told_as_it_happens_and_afterwards() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    let id = sandbox.unique("life");
    // The follower is told nothing that was before it.
    let mut follower = sandbox.command("container");
    follower.args(["events", "--json", "--filter", &format!("id={id}")]).stdout(Stdio::piped());
    let mut follower = follower.spawn().unwrap();
    let watch = format!("/proc/{}/fdinfo", follower.id());
    sandbox.wait_until("the follower to watch", || {
        let infos = std::fs::read_dir(&watch).into_iter().flatten().flatten();
        infos
            .into_iter()
            .any(|e| std::fs::read_to_string(e.path()).unwrap_or_default().contains("inotify wd"))
    });
    sandbox.run("container", &["run", "-d", "--name", &id, "--", "sleep", "60"]).success();
    sandbox.run("container", &["exec", &id, "true"]).success();
    sandbox.run("container", &["kill", &id, "KILL"]).success();
    sandbox.run("container", &["wait", &id]).success();
    sandbox.run("container", &["delete", &id]).success();
    let lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut heard = Vec::new();
    for line in lines {
        let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
        heard.push(event["type"].as_str().unwrap().to_string());
        if heard.last().is_some_and(|k| k == "delete") {
            break;
        }
    }
    let _ = follower.kill();
    let _ = follower.wait();
    let wanted = ["create", "start", "exec", "kill", "exit", "delete"];
    assert_eq!(heard, wanted);
    let told = events(&sandbox, &id);
    assert_eq!(kinds(&told), wanted);
    assert_eq!(told[4]["exit_code"].as_u64(), Some(137));
    let why = json(&sandbox, &["why", "--json", &id]);
    assert_eq!((why["status"].as_str(), why["signal"].as_str()), (Some("gone"), Some("SIGKILL")), "{why}");
    assert!(why["evidence"].to_string().contains("container kill sent SIGKILL"), "{why}");
    // Nothing is there of it, but for the file of events.
    let text = sandbox
        .run("container", &["events", "--no-follow", "--since", "1h", "--filter", "type=exit"])
        .success();
    assert!(text.stdout.contains(&id), "{}", text.describe());
}

#[test]
fn why_names_the_stage_the_errno_and_the_fix() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    let id = sandbox.unique("nosuch");
    sandbox.run("container", &["run", "--name", &id, "--", "/no/such/program"]).exits(127);
    let why = json(&sandbox, &["why", "--json", &id]);
    assert_eq!((why["what"].as_str(), why["stage"].as_str()), (Some("failed"), Some("process")), "{why}");
    assert_eq!(why["exit_code"].as_u64(), Some(127), "{why}");
    assert!(why["errno"].as_str().unwrap().contains("ENOENT") && why["fix"].is_string(), "{why}");
    assert_eq!(kinds(&events(&sandbox, &id)), ["create", "fail", "delete"]);
    let id = sandbox.unique("code");
    sandbox.run("container", &["run", "--rm", "--name", &id, "--", "sh", "-c", "exit 3"]).exits(3);
    let text = sandbox.run("container", &["why", &id]).success().stdout;
    assert!(text.contains("exit code 3") && text.contains("fix"), "{text}");
    sandbox.run("container", &["why", "no-such-container"]).fails_with(2).says("does not exist");
}

#[test]
fn why_finds_the_memory_limit_that_was_hit() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    let id = sandbox.unique("oom");
    let hungry = "x=$(head -c 100000000 /dev/zero | tr '\\0' x); echo ${#x}";
    let run = ["run", "--name", &id, "--memory", "20M", "--swap", "0", "--", "sh", "-c", hungry];
    let output = sandbox.run("container", &run);
    require!(!output.stderr.contains("memory"), "needs the memory controller");
    let why = json(&sandbox, &["why", "--json", &id]);
    assert!(why["reason"].as_str().unwrap().contains("want of memory"), "{why} after {}", output.describe());
    let evidence = why["evidence"].to_string();
    assert!(
        evidence.contains("limit 20M") && evidence.contains("limit that was hit: 20M of /sys/fs/cgroup"),
        "{evidence}"
    );
    assert!(why["fix"].as_str().unwrap().contains("--memory"), "{why}");
    assert!(kinds(&events(&sandbox, &id)).contains(&"oom"));
    sandbox.run("container", &["delete", &id]).success();
}

#[test]
fn audit_tells_a_closed_container_from_an_open_one() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    let (closed, open) = (sandbox.unique("closed"), sandbox.unique("open"));
    let hard = [
        "run",
        "-d",
        "--name",
        &closed,
        "--userns",
        "auto",
        "--read-only",
        "--cap-drop",
        "ALL",
        "--memory",
        "100M",
        "--cpus",
        "0.5",
        "--pids",
        "20",
        "--",
        "sleep",
        "60",
    ];
    sandbox.run("container", &hard).success();
    let dir = sandbox.join("shared");
    std::fs::create_dir(&dir).unwrap();
    let volume = format!("{}:/shared", dir.display());
    let soft = [
        "run",
        "-d",
        "--name",
        &open,
        "--net",
        "host",
        "--cap-add",
        "SYS_ADMIN",
        "--security-opt",
        "seccomp=unconfined",
        "--security-opt",
        "no-new-privileges=false",
        "-v",
        &volume,
        "--",
        "sleep",
        "60",
    ];
    sandbox.run("container", &soft).success();
    let verdicts = |id: &str| -> std::collections::BTreeMap<String, String> {
        let report = json(&sandbox, &["audit", "--json", id]);
        let both = ["practices", "reach"].into_iter().flat_map(|k| report[k].as_array().unwrap().clone());
        both.map(|f| {
            assert!(f["proof"].as_str().is_some_and(|p| !p.is_empty()), "{f}");
            (f["check"].as_str().unwrap().to_string(), f["verdict"].as_str().unwrap().to_string())
        })
        .collect()
    };
    let (good, bad) = (verdicts(&closed), verdicts(&open));
    assert_eq!((good.len(), bad.len()), (20, 20), "ten practices, ten reaches");
    for check in [
        "1 user namespace",
        "2 capabilities",
        "3 seccomp",
        "6 read-only root",
        "7 no-new-privileges",
        "8 network isolation",
        "shared namespaces",
        "writable directories",
    ] {
        assert_eq!(good[check], "pass", "{check}: {good:?}");
        assert_eq!(bad[check], "fail", "{check}: {bad:?}");
    }
    assert_eq!(sandbox.run("container", &["audit", &open]).code, Some(1));
    for id in [&closed, &open] {
        sandbox.run("container", &["delete", "--force", id]).success();
    }
    sandbox.run("container", &["audit", &open]).fails_with(2).says(&open);
}

#[test]
fn bad_words_for_events() {
    let sandbox = Sandbox::new();
    for (args, word) in [
        (&["events", "--filter", "a"][..], "type="),
        (&["events", "--filter", "a==b"], "type="),
        (&["events", "--filter", "type=nope"], "unknown type"),
        (&["events", "--since", "yesterday"], "10m"),
        (&["events", "--since", "now", "--until", "1h"], "before"),
        (&["events", "--stats"], "NAME"),
    ] {
        sandbox.run("container", args).fails_with(2).says(word);
    }
    // Lines that make no sense are left out, and said.
    std::fs::create_dir_all(sandbox.state()).unwrap();
    std::fs::write(sandbox.state().join("@events"), "{\"time\":1,\"type\":\"exit\",\"id\":\"x\"}\nrubbish\n")
        .unwrap();
    let output = sandbox.run("container", &["events", "--no-follow"]).success();
    assert!(
        output.stdout.contains("1970-01-01T00:00:01.000Z exit") && output.stderr.contains("line 2"),
        "{}",
        output.describe()
    );
}
