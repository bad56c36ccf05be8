//! monitor and psi.

use crate::args::{Monitor, Show1};
use crate::names::seconds;
use drydock_cgroups::{Cgroup, Layout, PressureLine, Stats, check_name};
use drydock_cli::Outcome;
use drydock_cli::output::{print_error_line, print_json, print_line, print_text, table};
use drydock_core::{Error, Result, size};
use serde::Serialize;
use std::time::{Duration, Instant};

/// What changed between two samples, a second. A counter that went back (the cgroup was made anew) gives `None`.
#[derive(Serialize, Clone, Debug, PartialEq)]
pub struct Rates {
    /// Processor time in percent of one processor.
    cpu_percent: Option<f64>,
    /// Share of the time in which it was held back by its limit, percent.
    throttled_percent: Option<f64>,
    /// Bytes read from disks a second.
    read_per_second: Option<u64>,
    /// Bytes written to disks a second.
    written_per_second: Option<u64>,
}

#[derive(Serialize)]
struct Sample<'a> {
    name: &'a str,
    interval_ms: u64,
    rates: Rates,
    stats: &'a Stats,
}

/// `cgroupctl monitor`.
pub fn monitor(args: &Monitor) -> Outcome {
    check_name(&args.name)?;
    let mut interval = seconds("--interval", &args.interval, 0.05, 3600.0)?;
    if args.once {
        interval = interval.min(Duration::from_millis(200));
    }
    let layout = Layout::detect()?;
    let mut cgroup = Cgroup::open(&args.name, &layout)?;
    let mut before = (Instant::now(), cgroup.stats());
    loop {
        std::thread::sleep(interval);
        // Opened anew each time: it may have been removed, or made again.
        match Cgroup::open(&args.name, &layout) {
            Ok(open) => cgroup = open,
            Err(_) if !args.once => {
                print_error_line(&format!("{}: the cgroup is gone", crate::TOOL));
                return Ok(0);
            }
            Err(error) => return Err(error.into()),
        }
        let now = (Instant::now(), cgroup.stats());
        let elapsed = now.0.duration_since(before.0);
        print_sample(args, elapsed, &before.1, &now.1)?;
        if args.once {
            return Ok(0);
        }
        before = now;
    }
}

fn print_sample(args: &Monitor, elapsed: Duration, before: &Stats, now: &Stats) -> Result<()> {
    let rates = rates(elapsed, before, now);
    let interval_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    let sample = Sample { name: &args.name, interval_ms, rates, stats: now };
    if args.json && args.once {
        return print_json(&sample);
    }
    if args.json {
        let line = serde_json::to_string(&sample).map_err(|e| Error::failed("output", e.to_string()))?;
        return print_text(&format!("{line}\n"));
    }
    print_text(&format!("{}\n", table(&["WHAT", "VALUE"], &stat_rows(now, Some(&sample.rates)))))
}

fn rates(elapsed: Duration, before: &Stats, now: &Stats) -> Rates {
    let micros = elapsed.as_micros() as f64;
    let percent = |a: Option<u64>, b: Option<u64>| {
        let grown = b?.checked_sub(a?)?;
        (micros > 0.0).then(|| (grown as f64 * 1000.0 / micros).round() / 10.0)
    };
    let sum = |stats: &Stats, part: fn(&drydock_cgroups::Io) -> u64| {
        stats.io.as_ref().map(|all| all.values().map(part).fold(0u64, u64::saturating_add))
    };
    let rate = |part: fn(&drydock_cgroups::Io) -> u64| {
        let grown = sum(now, part)?.checked_sub(sum(before, part)?)?;
        (micros > 0.0).then(|| (grown as f64 * 1e6 / micros) as u64)
    };
    Rates {
        cpu_percent: percent(before.cpu.usage_us, now.cpu.usage_us),
        throttled_percent: percent(before.cpu.throttled_us, now.cpu.throttled_us),
        read_per_second: rate(|io| io.rbytes),
        written_per_second: rate(|io| io.wbytes),
    }
}

/// Counters as rows; what the kernel does not offer is "not enabled".
pub fn stat_rows(stats: &Stats, rates: Option<&Rates>) -> Vec<Vec<String>> {
    let missing = || "not enabled".to_string();
    let count = |v: Option<u64>| v.map_or_else(missing, |v| v.to_string());
    let bytes = |v: Option<u64>| v.map_or_else(missing, size::show);
    let time = |v: Option<u64>| v.map_or_else(missing, |us| format!("{:.3} s", us as f64 / 1e6));
    let mut rows = Vec::new();
    let mut add = |what: &str, value: String| rows.push(vec![what.to_string(), value]);
    if let Some(rates) = rates {
        let percent = |v: Option<f64>| v.map_or_else(missing, |v| format!("{v:.1} %"));
        add("cpu now", percent(rates.cpu_percent));
        add("cpu held back now", percent(rates.throttled_percent));
        add("disk read a second", bytes(rates.read_per_second));
        add("disk written a second", bytes(rates.written_per_second));
    }
    add("cpu used", time(stats.cpu.usage_us));
    add("cpu user", time(stats.cpu.user_us));
    add("cpu system", time(stats.cpu.system_us));
    add("cpu periods throttled", count(stats.cpu.nr_throttled));
    let memory = &stats.memory;
    add("memory now", bytes(memory.current));
    add("memory peak", bytes(memory.peak));
    add("memory anon", bytes(memory.anon));
    add("memory file", bytes(memory.file));
    add("memory kernel", bytes(memory.kernel));
    add("memory shmem", bytes(memory.shmem));
    add("swap now", bytes(memory.swap));
    add("memory limit hits", count(memory.max_events));
    add("oom", count(memory.oom));
    add("oom kills", count(memory.oom_kill));
    add("pids now", count(stats.pids.current));
    add("pids refused", count(stats.pids.max_events));
    match &stats.io {
        None => add("io", missing()),
        Some(io) => io.iter().for_each(|(device, io)| {
            let read = format!("{} read, {} written", size::show(io.rbytes), size::show(io.wbytes));
            add(&format!("io {device}"), format!("{read}, {} + {} transfers", io.rios, io.wios));
        }),
    }
    for resource in ["cpu", "memory", "io"] {
        let some = stats.pressure.get(resource).and_then(|p| p.some.as_ref());
        add(
            &format!("{resource} pressure"),
            some.map_or_else(missing, |l| format!("{:.2} % (10 s)", l.avg10)),
        );
    }
    rows
}

/// `cgroupctl psi`.
pub fn psi(args: &Show1) -> Outcome {
    check_name(&args.name)?;
    let pressure = Cgroup::open(&args.name, &Layout::detect()?)?.pressure();
    if args.json {
        print_json(&pressure)?;
        return Ok(0);
    }
    if pressure.is_empty() {
        print_line("not enabled: pressure needs cgroup v2 and a kernel with CONFIG_PSI (psi=1 at boot)")?;
        return Ok(0);
    }
    let mut rows = Vec::new();
    for (resource, both) in &pressure {
        let lines = [("some", &both.some), ("full", &both.full)];
        rows.extend(
            lines.into_iter().filter_map(|(kind, line)| line.as_ref().map(|l| psi_row(resource, kind, l))),
        );
    }
    print_text(&table(&["RESOURCE", "KIND", "AVG10", "AVG60", "AVG300", "TOTAL US"], &rows))?;
    Ok(0)
}

fn psi_row(resource: &str, kind: &str, line: &PressureLine) -> Vec<String> {
    let percent = |v: f64| format!("{v:.2}");
    vec![
        resource.to_string(),
        kind.to_string(),
        percent(line.avg10),
        percent(line.avg60),
        percent(line.avg300),
        line.total.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deltas() {
        let at = |usage| {
            let mut stats = Stats::default();
            stats.cpu.usage_us = usage;
            stats
        };
        let percent = |a, b| rates(Duration::from_secs(2), &at(a), &at(b)).cpu_percent;
        assert_eq!(percent(Some(1_000_000), Some(2_000_000)), Some(50.0));
        assert_eq!(percent(Some(2), Some(1)), None, "a counter that went back is not a negative rate");
        assert_eq!(percent(None, Some(1)), None);
        assert!(stat_rows(&Stats::default(), None).iter().all(|r| r[1] == "not enabled"));
    }
}
