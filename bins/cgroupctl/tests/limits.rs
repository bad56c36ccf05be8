//! Limits as the kernel has them, and as processes feel them.
#![allow(clippy::unwrap_used)] // helpers fail as tests do

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
    let stat = |key: &str| counter(&n.0, "cpu.stat", key).unwrap();
    // Where the limit was what held it in nearly every period, and nobody else, it has had just that.
    let measure = || {
        let (start, before) = (std::time::Instant::now(), used());
        let (periods, throttled) = (stat("nr_periods "), stat("nr_throttled "));
        std::thread::sleep(std::time::Duration::from_secs(3));
        let percent = (used() - before) as f64 * 100.0 / start.elapsed().as_micros() as f64;
        let held = (stat("nr_throttled ") - throttled) * 10 >= (stat("nr_periods ") - periods) * 9;
        (percent, held)
    };
    let mut measured = vec![measure()];
    while measured.len() < 4 && !measured.last().is_some_and(|(_, held)| *held) {
        measured.push(measure());
    }
    let monitor = tool(&["monitor", &n.0, "--once", "--json"]).ok().out;
    tool(&["kill", &n.0]).ok();
    assert_eq!(run.wait().unwrap().code(), Some(137));
    // A loaded machine may give less than the limit, never more.
    assert!(measured.iter().all(|(percent, _)| *percent <= 55.0), "{measured:?}");
    match measured.last() {
        Some((percent, true)) => assert!(*percent >= 45.0, "{measured:?}"),
        _ => skip("a_busy_loop_gets_half_a_processor", "the machine is too busy for the lower bound"),
    }
    assert!(counter(&n.0, "cpu.stat", "nr_periods ").unwrap() > 0, "the limit is not enforced");
    assert!(monitor.contains("\"cpu_percent\":") && !monitor.contains("\"cpu_percent\": null"), "{monitor}");
}

/// Microseconds of processor time.
fn used(name: &str) -> u64 {
    if is_v2() {
        counter(name, "cpu.stat", "usage_usec ").unwrap()
    } else {
        file(name, "cpuacct.usage").unwrap().parse::<u64>().unwrap() / 1000
    }
}

#[test]
fn weights_share_a_processor_one_to_two() {
    if !can_run("weights_share_a_processor_one_to_two") {
        return;
    }
    let top = Name::new();
    let (one, two) = (format!("{}/one", top.0), format!("{}/two", top.0));
    // All on one processor, so that they are in each other's way.
    tool(&["create", &top.0, "--cpuset-cpus", "0", "--lenient"]).ok();
    tool(&["create", &one, "--cpu-weight", "100", "--cpuset-cpus", "0", "--lenient"]).ok();
    tool(&["create", &two, "--cpu-weight", "200", "--cpuset-cpus", "0", "--lenient"]).ok();
    let busy = |name: &str| {
        let mut command = std::process::Command::new(TOOL);
        command.args(["run", "-q", name, "--", "sh", "-c", "while :; do :; done"]).spawn().unwrap()
    };
    let mut running = [busy(&one), busy(&two)];
    std::thread::sleep(std::time::Duration::from_millis(500));
    let before = (used(&one), used(&two));
    std::thread::sleep(std::time::Duration::from_secs(3));
    let grown = ((used(&one) - before.0) as f64, (used(&two) - before.1) as f64);
    tool(&["kill", &top.0]).ok();
    for run in &mut running {
        run.wait().unwrap();
    }
    let ratio = grown.1 / grown.0;
    // What else runs there takes from both alike.
    assert!((1.5..2.6).contains(&ratio), "{grown:?}: {ratio}");
}

#[test]
fn memory_high_slows_down_and_does_not_kill() {
    if !can_run("memory_high_slows_down_and_does_not_kill") {
        return;
    }
    if !is_v2() {
        return skip("memory_high_slows_down_and_does_not_kill", "needs cgroup v2");
    }
    let n = Name::new();
    tool(&["create", &n.0, "--memory-high", "8M", "--memory", "200M", "--swap", "0", "--lenient"]).ok();
    let mut run = std::process::Command::new(TOOL)
        .args(["run", "-q", &n.0, "--", "sh", "-c", "head -c 60000000 /dev/zero | tail -n 1 >/dev/null"])
        .spawn()
        .unwrap();
    eventually("memory.events high", || {
        counter(&n.0, "memory.events", "high ").is_some_and(|high| high >= 3)
    });
    let shown = tool(&["show", &n.0]).ok().out;
    let row = shown.lines().find(|l| l.starts_with("memory ")).unwrap();
    assert!(row.contains("high ") && !row.contains("high 0,"), "{shown}");
    // It is slowed down so much that it is far from its end.
    assert!(run.try_wait().unwrap().is_none());
    assert!(file(&n.0, "memory.current").unwrap().parse::<u64>().unwrap() < 50_000_000);
    assert_eq!(counter(&n.0, "memory.events", "oom_kill "), Some(0));
    tool(&["kill", &n.0]).ok();
    run.wait().unwrap();
}

#[test]
fn an_oom_kill_takes_the_group_if_asked() {
    if !can_run("an_oom_kill_takes_the_group_if_asked") {
        return;
    }
    let n = Name::new();
    if !is_v2() {
        tool(&["create", &n.0, "--oom-group"]).fails(125, &["memory.oom.group", "cgroup v1"]);
        return;
    }
    tool(&["create", &n.0, "--oom-group", "--memory", "32M", "--swap", "0", "--lenient"]).ok();
    // The shell would go on after its child's death.
    let ran = tool(&["run", &n.0, "--", "sh", "-c", "tail -n 1 /dev/zero; exit 0"]);
    assert_eq!(ran.code, 137, "{ran:?}");
    assert_eq!(counter(&n.0, "memory.events", "oom_group_kill "), Some(1));
}

#[test]
fn a_disk_is_written_to_no_faster_than_allowed() {
    if !can_run("a_disk_is_written_to_no_faster_than_allowed") {
        return;
    }
    let test = "a_disk_is_written_to_no_faster_than_allowed";
    let Some(disk) = Loop::new(64 << 20) else { return skip(test, "needs a free loop device") };
    let n = Name::new();
    tool(&["create", &n.0]).ok();
    let set = tool(&["set", &n.0, &format!("io.max={} wbps=2M", disk.device)]);
    if set.code != 0 {
        return skip(test, "needs an io or blkio controller");
    }
    let dd = |megabytes: u32| {
        let of = format!("of={}", disk.device);
        let count = format!("count={}", megabytes * 16);
        let dd = ["dd", "if=/dev/zero", &of, "bs=64k", &count, "oflag=direct", "status=none"];
        let start = std::time::Instant::now();
        tool(&[&["run", "-q", &n.0, "--"][..], &dd].concat()).ok();
        f64::from(megabytes) / start.elapsed().as_secs_f64()
    };
    // The kernel lets the first slice of time pass, so a short write would say little.
    let rate = dd(8);
    assert!(rate < 2.0 * 1.15, "{rate} MB/s");
    let shown = tool(&["get", &n.0, "io.max"]).ok().out;
    assert!(shown.contains("wbps=2097152"), "{shown}");
    tool(&["set", &n.0, &format!("io.max={} wbps=max", disk.device)]).ok();
    assert!(dd(8) > rate, "the limit is gone");
    // A partition is its disk, and that is said; a path on no disk is refused.
    tool(&["set", &n.0, "io.max=/proc wbps=1M"]).fails(2, &["without a block device"]);
}

/// A loop device over a file of ours; it goes with the value.
struct Loop {
    device: String,
    file: std::path::PathBuf,
}

impl Loop {
    fn new(bytes: u64) -> Option<Self> {
        let file = std::env::temp_dir().join(format!("cgroupctl-loop-{}", std::process::id()));
        std::fs::File::create(&file).and_then(|f| f.set_len(bytes)).ok()?;
        let path = file.to_str()?.to_string();
        let out = std::process::Command::new("losetup").args(["-f", "--show", &path]).output().ok()?;
        let device = String::from_utf8_lossy(&out.stdout).trim().to_string();
        let made = Self { device, file };
        (out.status.success() && made.device.starts_with("/dev/")).then_some(made)
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        if self.device.starts_with("/dev/") {
            let _ = std::process::Command::new("losetup").args(["-d", &self.device]).output();
        }
        let _ = std::fs::remove_file(&self.file);
    }
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
