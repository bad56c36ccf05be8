//! `monitor stats|top|psi`: of a cgroup that the test made.
// A helper that cannot go on fails its test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Running, json, monitor, wait_comm};
use drydock_cgroups::{Hierarchy, Layout};
use drydock_testkit::{Sandbox, have, is_root, require};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A cgroup in every hierarchy, found and removed by the sandbox through its name.
fn make(sandbox: &Sandbox, name: &str) -> Vec<PathBuf> {
    let name = sandbox.unique(name);
    let layout = Layout::detect().unwrap();
    let base = |h: &Hierarchy| h.base.clone().filter(|_| h.name.is_none());
    let dirs: Vec<PathBuf> =
        layout.hierarchies().iter().filter_map(base).map(|base| base.join(&name)).collect();
    for dir in &dirs {
        std::fs::create_dir(dir).unwrap();
        // A v1 cpuset takes processes only when it has processors and memory nodes.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(all) = std::fs::read_to_string(dir.parent().unwrap().join(file)) {
                let _ = std::fs::write(dir.join(file), all);
            }
        }
    }
    dirs
}

fn enter(dirs: &[PathBuf], pid: u32) {
    for dir in dirs {
        std::fs::write(dir.join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

fn remove(sandbox: &Sandbox, dirs: &[PathBuf]) {
    for dir in dirs {
        sandbox.wait_until("an empty cgroup", || std::fs::remove_dir(dir).is_ok() || !dir.exists());
    }
}

/// Processor time of one process in seconds, by /proc/PID/stat.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<f64> =
        stat.rsplit_once(") ").unwrap().1.split(' ').map(|f| f.trim().parse().unwrap_or(0.0)).collect();
    (fields[11] + fields[12]) / 100.0
}

#[test]
fn a_busy_loop_is_measured_from_the_first_sample() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    let dirs = make(&sandbox, "busy");
    require!(!dirs.is_empty(), "needs a cgroup file system");
    let busy = Running::start(Command::new("sh").args(["-c", "while :; do :; done"]));
    enter(&dirs, busy.pid());
    let pid = busy.pid().to_string();
    let (before, started) = (cpu_seconds(busy.pid()), std::time::Instant::now());
    let sample = json(&sandbox, &["stats", &pid, "--once", "--interval", "1s"]);
    // What the loop really got: the machine may be busy with other things.
    let got = (cpu_seconds(busy.pid()) - before) / started.elapsed().as_secs_f64() * 100.0;
    let cpu = sample["cpu_percent"].as_f64().unwrap();
    assert!((cpu - got).abs() < 35.0 && cpu > 1.0 && cpu < 135.0, "monitor {cpu}, process {got}");
    assert_eq!(sample["whole_machine"].as_array().unwrap().len(), 0, "{sample}");
    for dir in &dirs {
        let shown = sample["directories"].as_array().unwrap();
        assert!(shown.iter().any(|d| d.as_str() == dir.to_str()), "{dir:?} in {sample}");
    }
    // A stream of two lines, and a row of top.
    let top = json(&sandbox, &["top", "--once", "--interval", "300ms"]);
    let row = top
        .as_array()
        .unwrap()
        .iter()
        .find(|r| r["name"].as_str().unwrap().contains(&sandbox.unique("busy")));
    assert_eq!(row.expect("a row")["nprocs"].as_u64(), Some(1));
    drop(busy);
    remove(&sandbox, &dirs);
}

#[test]
fn an_idle_cgroup_uses_nothing_and_missing_is_not_zero() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    let dirs = make(&sandbox, "idle");
    require!(!dirs.is_empty(), "needs a cgroup file system");
    let idle = Running::start(Command::new("sleep").arg("60"));
    wait_comm(&sandbox, idle.pid(), "sleep");
    enter(&dirs, idle.pid());
    let pid = idle.pid().to_string();
    let sample = json(&sandbox, &["stats", &pid, "--no-stream", "--interval", "500ms"]);
    assert!(sample["cpu_percent"].as_f64().unwrap() < 5.0, "{sample}");
    assert_eq!(sample["status"].as_str(), Some("running"));
    // Whether a controller keeps figures here is seen by its file.
    let has = |file: &str| dirs.iter().any(|d| d.join(file).exists());
    let memory = has("memory.current") || has("memory.usage_in_bytes");
    assert_eq!(sample["memory"]["current"].is_u64(), memory, "{sample}");
    assert_eq!(sample["memory"]["anon"].is_u64(), memory, "{sample}");
    assert_eq!(sample["pids"]["current"].is_u64(), has("pids.current"), "{sample}");
    let text = monitor(&sandbox, &["stats", &pid, "--once", "--interval", "100ms"]).success().stdout;
    let cell = |name: &str| text.lines().find(|l| l.starts_with(name)).unwrap_or_default().to_string();
    assert_eq!(cell("memory ").contains("not enabled"), !memory, "{text}");
    assert_eq!(cell("pids").contains("not enabled"), !has("pids.current"), "{text}");
    drop(idle);
    remove(&sandbox, &dirs);
}

#[test]
fn the_path_is_right_from_inside_a_cgroup_namespace() {
    require!(is_root() && have("unshare"), "needs root and unshare");
    let sandbox = Sandbox::new();
    let dirs = make(&sandbox, "ns");
    require!(!dirs.is_empty(), "needs a cgroup file system");
    for dir in &dirs {
        std::fs::create_dir(dir.join("in")).unwrap();
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(all) = std::fs::read_to_string(dir.join(file)) {
                let _ = std::fs::write(dir.join("in").join(file), all);
            }
        }
    }
    let inner: Vec<PathBuf> = dirs.iter().map(|d| d.join("in")).collect();
    let idle = Running::start(Command::new("sleep").arg("60"));
    wait_comm(&sandbox, idle.pid(), "sleep");
    enter(&inner, idle.pid());
    // The shell moves itself in, and then makes a namespace whose root is there: paths are shown from that root on,
    // while the cgroup mounts are still the machine's.
    let list: Vec<&str> = dirs.iter().filter_map(|d| d.to_str()).collect();
    let script = "m=$1 p=$2; shift 2; for d; do echo $$ > $d/cgroup.procs || exit 1; done; \
                  exec unshare -C \"$m\" stats $p --once --interval 100ms --json";
    let mut command = Command::new("sh");
    command
        .args(["-c", script, "sh"])
        .arg(drydock_testkit::bin("monitor"))
        .arg(idle.pid().to_string())
        .args(&list);
    let output = drydock_testkit::run(&mut command).success();
    let sample: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    let shown: Vec<&Path> =
        sample["directories"].as_array().unwrap().iter().filter_map(|d| d.as_str()).map(Path::new).collect();
    for dir in &inner {
        assert!(shown.contains(&dir.as_path()), "{dir:?} in {shown:?}");
    }
    drop(idle);
    remove(&sandbox, &inner);
    remove(&sandbox, &dirs);
}

#[test]
fn a_stream_ends_with_the_process() {
    let sandbox = Sandbox::new();
    let short = Running::start(Command::new("sleep").arg("3"));
    // Nobody collects it meanwhile: a zombie has ended too.
    let output =
        monitor(&sandbox, &["stats", &short.pid().to_string(), "--interval", "400ms", "--json"]).success();
    let lines: Vec<serde_json::Value> =
        output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() >= 2, "{}", output.describe());
    let (last, earlier) = lines.split_last().unwrap();
    assert_eq!(last["status"], "stopped");
    assert!(earlier.iter().all(|sample| sample["status"] == "running"));
}

#[test]
fn into_a_pipe_it_is_shown_once() {
    let sandbox = Sandbox::new();
    let own = std::process::id().to_string();
    for args in [&["stats", &own][..], &["stats"], &["stats", "--all", "-n", "1"]] {
        monitor(&sandbox, args).success();
    }
    for target in [&own, "--all"] {
        let args = ["stats", target, "-n", "3", "--interval", "100ms", "--json"];
        assert_eq!(monitor(&sandbox, &args).success().stdout.lines().count(), 3);
    }
    monitor(&sandbox, &["stats", "-n", "0"]).fails_with(2);
    monitor(&sandbox, &["stats", "-n", "2", "--once"]).fails_with(2);
}

#[test]
fn pressure_is_what_proc_says() {
    let sandbox = Sandbox::new();
    let found = json(&sandbox, &["psi"]);
    for resource in ["cpu", "memory", "io"] {
        let there = std::fs::read_to_string(format!("/proc/pressure/{resource}")).is_ok();
        assert_eq!(found["pressure"][resource].is_object(), there, "{found}");
    }
    monitor(&sandbox, &["psi"]).success().stdout_has("memory");
}
