//! Limits as the kernel has them, and as processes feel them.

mod common;
use common::*;

#[test]
fn limits_are_what_the_kernel_reads_back() {
    if !can_run("limits_are_what_the_kernel_reads_back") {
        return;
    }
    let n = Name::new();
    let args = ["create", &n.0, "--cpu", "0.5", "--memory", "100M", "--swap", "50M", "--pids", "100"];
    let made = tool(&[&args[..], &["--cpu-weight", "200", "--json", "--lenient"]].concat()).ok();
    assert!(made.out.contains("\"settings\""), "{made:?}");
    assert_eq!(file(&n.0, "pids.max").unwrap(), "100");
    let lacks_swap = made.err.contains("swap");
    if is_v2() {
        assert_eq!(file(&n.0, "cpu.max").unwrap(), "50000 100000");
        assert_eq!(file(&n.0, "cpu.weight").unwrap(), "200");
        assert_eq!(file(&n.0, "memory.max").unwrap(), "104857600");
        assert!(lacks_swap || file(&n.0, "memory.swap.max").unwrap() == "52428800");
    } else {
        assert_eq!(file(&n.0, "cpu.cfs_quota_us").unwrap(), "50000");
        assert_eq!(file(&n.0, "cpu.shares").unwrap(), "2048");
        assert_eq!(file(&n.0, "memory.limit_in_bytes").unwrap(), "104857600");
        assert!(lacks_swap || file(&n.0, "memory.memsw.limit_in_bytes").unwrap() == "157286400");
    }
    // The same by v2 names, on whatever layout.
    assert_eq!(tool(&["get", &n.0, "cpu.max"]).ok().out, "50000 100000\n");
    assert_eq!(tool(&["get", &n.0, "memory.max"]).ok().out, "104857600\n");
    tool(&["set", &n.0, "cpu.max=25%", "memory.max=200M", "pids.max=7"]).ok();
    assert_eq!(tool(&["get", &n.0, "cpu.max"]).ok().out, "25000 100000\n");
    assert_eq!(tool(&["get", &n.0, "memory.max"]).ok().out, "209715200\n");
    if !lacks_swap {
        assert_eq!(
            tool(&["get", &n.0, "memory.swap.max"]).ok().out,
            "52428800\n",
            "set of memory keeps swap"
        );
    }
    assert_eq!(file(&n.0, "pids.max").unwrap(), "7");
}

#[test]
fn the_process_beyond_pids_max_is_refused() {
    if !can_run("the_process_beyond_pids_max_is_refused") {
        return;
    }
    let n = Name::new();
    tool(&["create", &n.0, "--pids", "100"]).ok();
    // The shell and 99 sleeps are 100; the hundredth sleep is the 101st process.
    let script = "i=0; while [ $i -lt 110 ]; do sleep 300 & i=$((i+1)); done; wait";
    let run = std::process::Command::new(TOOL)
        .args(["run", &n.0, "--", "sh", "-c", script])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    eventually("pids.events max", || counter(&n.0, "pids.events", "max ").is_some_and(|max| max >= 1));
    assert!(file(&n.0, "pids.current").unwrap().parse::<u32>().unwrap() <= 100);
    tool(&["kill", &n.0]).ok();
    let mut run = run;
    run.wait().unwrap();
}

#[test]
fn a_memory_hog_is_killed_and_counted() {
    if !can_run("a_memory_hog_is_killed_and_counted") {
        return;
    }
    let n = Name::new();
    tool(&["create", &n.0, "--memory", "32M", "--swap", "0", "--lenient"]).ok();
    let kills =
        || counter(&n.0, if is_v2() { "memory.events" } else { "memory.oom_control" }, "oom_kill ").unwrap();
    assert_eq!(kills(), 0);
    // tail has to keep the whole "line".
    let ran = tool(&["run", "-q", &n.0, "--", "sh", "-c", "head -c 200000000 /dev/zero | tail -n 1 | wc -c"]);
    assert!(kills() >= 1, "{ran:?}");
    let shown = tool(&["show", &n.0, "--json"]).ok().out;
    assert!(!shown.contains("\"oom_kill\": 0"), "{shown}");
}

#[test]
fn a_busy_loop_gets_half_a_processor() {
    if !can_run("a_busy_loop_gets_half_a_processor") {
        return;
    }
    let n = Name::new();
    tool(&["create", &n.0, "--cpu", "50%"]).ok();
    let mut run = std::process::Command::new(TOOL)
        .args(["run", "-q", &n.0, "--", "sh", "-c", "while :; do :; done"])
        .spawn()
        .unwrap();
    let used = || {
        if is_v2() {
            counter(&n.0, "cpu.stat", "usage_usec ").unwrap()
        } else {
            file(&n.0, "cpuacct.usage").unwrap().parse::<u64>().unwrap() / 1000
        }
    };
    std::thread::sleep(std::time::Duration::from_millis(300));
    let (start, before) = (std::time::Instant::now(), used());
    std::thread::sleep(std::time::Duration::from_secs(3));
    let percent = (used() - before) as f64 * 100.0 / start.elapsed().as_micros() as f64;
    let monitor = tool(&["monitor", &n.0, "--once", "--json"]).ok().out;
    tool(&["kill", &n.0]).ok();
    assert_eq!(run.wait().unwrap().code(), Some(137));
    // A loaded machine may give less than the limit, never more: below 35 % it was the machine, not the limit.
    assert!(percent < 65.0, "{percent} %");
    assert!(counter(&n.0, "cpu.stat", "nr_periods ").unwrap() > 0, "the limit is not enforced");
    assert!(monitor.contains("\"cpu_percent\":") && !monitor.contains("\"cpu_percent\": null"), "{monitor}");
}

#[test]
fn what_the_kernel_lacks_is_an_error_or_said() {
    if !can_run("what_the_kernel_lacks_is_an_error_or_said") {
        return;
    }
    let n = Name::new();
    if is_v2() {
        // A v1 file on v2.
        tool(&["create", &n.0]).ok();
        tool(&["set", &n.0, "cpuacct.usage=0"]).fails(125, &["cpuacct", "does not exist in cgroup v2"]);
    } else {
        tool(&["create", &n.0, "--memory-high", "1M"]).fails(125, &["memory.high", "cgroup v1"]);
        assert!(dirs(&n.0).is_empty(), "nothing may be left of a refused create");
        let made = tool(&["create", &n.0, "--memory-high", "1M", "--lenient"]).ok();
        assert!(made.err.contains("warning: memory.high"), "{made:?}");
        tool(&["set", &n.0, "memory.swap.max=1M"]).fails(125, &["needs a memory limit"]);
    }
}
