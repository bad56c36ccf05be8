//! monitor.

use crate::args::Monitor;
use crate::names::{layout_for, seconds};
use crate::say::json_line;
use crate::top::Screen;
use drydock_cgroups::{Cgroup, Stats, check_name};
use drydock_cli::Outcome;
use drydock_cli::output::{print_error_line, print_json, print_text, table};
use drydock_core::{Result, size};
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
    let layout = layout_for(&args.name)?;
    let screen = Screen::new(args.once || args.json);
    let mut left = args.count.unwrap_or(if args.once { 1 } else { u64::MAX });
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
        print_sample(args, &screen, elapsed, &before.1, &now.1)?;
        left = left.saturating_sub(1);
        if left == 0 {
            return Ok(0);
        }
        before = now;
    }
}

fn print_sample(
    args: &Monitor,
    screen: &Screen,
    elapsed: Duration,
    before: &Stats,
    now: &Stats,
) -> Result<()> {
    let rates = rates(elapsed, before, now);
    let interval_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    let sample = Sample { name: &args.name, interval_ms, rates, stats: now };
    if args.json && args.once {
        return print_json(&sample);
    }
    if args.json {
        return json_line(&sample);
    }
    let rows = stat_rows(now, Some(&sample.rates));
    let text = table(&["WHAT", "VALUE"], &rows);
    if !screen.live() {
        return print_text(&format!("{text}\n"));
    }
    let alarm = |row: &Vec<String>| match row.as_slice() {
        [what, value] => colour_of(what, value),
        _ => None,
    };
    let colours: Vec<Option<u8>> = std::iter::once(None).chain(rows.iter().map(alarm)).collect();
    screen.draw(&format!("{}, every {:.1} s", args.name, elapsed.as_secs_f64()), &text, &colours)
}

/// Red for what was killed or refused, yellow for what is held back or waits.
fn colour_of(what: &str, value: &str) -> Option<u8> {
    let number: f64 = value.split(' ').next()?.parse().ok()?;
    match what {
        "oom" | "oom kills" | "pids refused" if number > 0.0 => Some(31),
        "cpu held back now" | "memory limit hits" | "memory high" if number > 0.0 => Some(33),
        _ if what.ends_with("pressure") && number >= 10.0 => Some(33),
        _ => None,
    }
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
    add("memory high", count(memory.high_events));
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
