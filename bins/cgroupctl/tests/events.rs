//! What is told as it happens: watch and psi --watch.
#![allow(clippy::unwrap_used)] // helpers fail as tests do

mod common;
use common::*;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

/// A watching tool that has said that it watches.
struct Watching {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Watching {
    fn new(args: &[&str]) -> Self {
        let mut child =
            Command::new(TOOL).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut errors = BufReader::new(child.stderr.as_mut().unwrap());
        let mut first = String::new();
        while !first.contains("watching") {
            assert_ne!(errors.read_line(&mut first).unwrap(), 0, "{first}");
        }
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line
    }

    /// All that was still to come, and the exit code.
    fn end(mut self) -> (String, i32) {
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        (rest, self.child.wait().unwrap().code().unwrap())
    }
}

#[test]
fn an_oom_kill_is_told_with_its_victim() {
    if !can_run("an_oom_kill_is_told_with_its_victim") {
        return;
    }
    let n = Name::new();
    tool(&["create", &n.0, "--memory", "32M", "--swap", "0", "--lenient"]).ok();
    let watching = Watching::new(&["watch", &n.0, "--json", "--until", "oom_kill", "--timeout", "100"]);
    let ran = tool(&["run", &n.0, "--", "sh", "-c", "tail -n 1 /dev/zero; exit 3"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.err.contains("out of memory: the kernel killed"), "{ran:?}");
    let (told, code) = watching.end();
    assert_eq!(code, 0, "{told}");
    let last = told.lines().last().unwrap();
    assert!(last.contains("\"event\":\"counter\"") && last.contains("\"by\":"), "{told}");
    assert!(last.contains(if is_v2() { "\"key\":\"oom_kill\"" } else { "memory.oom_control" }), "{told}");
    if std::fs::File::open("/dev/kmsg").is_ok() {
        assert!(ran.err.contains("(tail)"), "by name: {ran:?}");
        let json = tool(&["run", "--json", &n.0, "--", "sh", "-c", "tail -n 1 /dev/zero; exit 3"]);
        assert!(json.err.contains("\"oom_kills\":1") && json.err.contains("\"name\":\"tail\""), "{json:?}");
    }
}

#[test]
fn states_and_refused_forks_are_told() {
    if !can_run("states_and_refused_forks_are_told") {
        return;
    }
    let n = Name::new();
    tool(&["create", &n.0, "--pids", "2"]).ok();
    let mut watching = Watching::new(&["watch", &n.0, "--timeout", "200"]);
    let mut run = Command::new(TOOL).args(["run", "-q", &n.0, "--", "sleep", "1000"]).spawn().unwrap();
    assert!(watching.line().contains(": populated"));
    tool(&["freeze", &n.0]).ok();
    assert!(watching.line().contains(": frozen"));
    tool(&["thaw", &n.0]).ok();
    assert!(watching.line().contains(": thawed"));
    // The shell, the sleep of before, and one too many.
    tool(&["run", "-q", &n.0, "--", "sh", "-c", "true & true & wait"]);
    assert!(watching.line().contains("pids.events max +"));
    tool(&["kill", &n.0]).ok();
    assert_eq!(run.wait().unwrap().code(), Some(137));
    loop {
        let line = watching.line();
        if line.contains("empty") {
            break;
        }
        assert!(line.contains("pids.events"), "{line}");
    }
    tool(&["delete", &n.0]).ok();
    let (rest, code) = watching.end();
    assert!(rest.contains(": removed"), "{rest}");
    assert_eq!(code, 0);
}

#[test]
fn a_pressure_trigger_fires_under_load() {
    if !can_run("a_pressure_trigger_fires_under_load") {
        return;
    }
    let n = Name::new();
    // The quota of v2's own cpu controller is what makes it wait; on hybrid v1 has that controller, and the wait counts
    // where the process is in the v2 tree too.
    tool(&["create", &n.0, "--cpu", "10%"]).ok();
    if tool(&["psi", &n.0]).ok().out.contains("not enabled") {
        return skip("a_pressure_trigger_fires_under_load", "needs pressure stall information");
    }
    let quiet = tool(&["psi", &n.0, "--watch", "some:1900ms/2s", "--timeout", "0.6"]);
    assert_eq!((quiet.code, quiet.out.as_str()), (1, ""), "nothing waits: {quiet:?}");
    let busy = "while :; do :; done & while :; do :; done & while :; do :; done";
    let mut run = Command::new(TOOL).args(["run", "-q", &n.0, "--", "sh", "-c", busy]).spawn().unwrap();
    let args = ["psi", &n.0, "--watch", "cpu:some:50ms/1s", "--count", "2", "--timeout", "100", "--json"];
    let (told, code) = Watching::new(&args).end();
    tool(&["kill", &n.0]).ok();
    run.wait().unwrap();
    assert_eq!((told.lines().count(), code), (2, 0), "{told}");
    for line in told.lines() {
        assert!(line.contains("\"event\":\"pressure\"") && line.contains("\"stall_us\":"), "{line}");
        assert!(line.contains("\"avg10\":"), "{line}");
    }
}

#[test]
fn levels_of_memory_pressure_are_told_on_v1() {
    if !can_run("levels_of_memory_pressure_are_told_on_v1") {
        return;
    }
    let n = Name::new();
    tool(&["create", &n.0, "--memory", "16M"]).ok();
    if file(&n.0, "memory.pressure_level").is_none()
        && !dirs(&n.0).iter().any(|d| d.join("memory.pressure_level").exists())
    {
        return skip("levels_of_memory_pressure_are_told_on_v1", "needs cgroup v1's memory controller");
    }
    let data = std::env::temp_dir().join(format!("cgroupctl-pressure-{}", std::process::id()));
    let mut watching = Watching::new(&["watch", &n.0, "--timeout", "100"]);
    // Its pages in the cache are what the kernel has to look for.
    let of = format!("of={}", data.display());
    let dd = ["dd", "if=/dev/zero", &of, "bs=1M", "count=96", "status=none"];
    tool(&[&["run", "-q", &n.0, "--"][..], &dd].concat()).ok();
    let mut told = String::new();
    while !told.contains("memory.pressure_level ") {
        let line = watching.line();
        assert_ne!(line, "", "{told}");
        told.push_str(&line);
    }
    std::fs::remove_file(data).unwrap();
    let level = told.lines().last().unwrap();
    assert!(["low", "medium", "critical"].iter().any(|word| level.contains(word)), "{told}");
    // That it ends is not taken for pressure.
    tool(&["delete", &n.0]).ok();
    let (rest, code) = watching.end();
    assert!(code == 0 && rest.lines().last().is_some_and(|line| line.ends_with(": removed")), "{rest}");
}

#[test]
fn what_cannot_be_watched() {
    for args in [
        &["psi", "x", "--watch", "low"][..],
        &["psi", "x", "--watch", "some:2s/1s"],
        &["psi", "x", "--count", "1"],
        &["watch", "x", "--psi", "memory:150ms/1s"],
        &["watch", "x", "--until", "doomsday"],
        &["watch", "x", "--count", "0"],
        &["watch", "x", "--timeout", "-1"],
        &["watch", "../x"],
    ] {
        let ran = tool(args);
        assert_eq!(ran.code, 2, "{args:?}: {ran:?}");
    }
    if can_run("what_cannot_be_watched") {
        tool(&["watch", "drydock-no-such-cgroup"]).fails(2, &["no such cgroup"]);
    }
}
