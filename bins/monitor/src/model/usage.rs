//! What a cgroup uses, between two looks.

use crate::procfs::Proc;
use crate::procfs::pressure::{self, Pressure};
use drydock_cgroups::{Cgroup, Stats};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// One look at the counters.
#[derive(Clone, Debug)]
pub struct Reading {
    at: Instant,
    /// `None` when the cgroup is gone.
    stats: Option<Stats>,
}

/// What is known after two looks. A figure that the kernel does not keep is null, never 0; a rate is null, too, when its
/// counter went back.
#[derive(Clone, Debug, Serialize)]
pub struct Usage {
    /// `running`, or `stopped` when the cgroup is gone.
    pub status: &'static str,
    /// Time between the two looks.
    pub interval_seconds: f64,
    /// Processor time used in it; 100 is one processor.
    pub cpu_percent: Option<f64>,
    /// Share of the enforcement periods in which it was held back.
    pub throttled_percent: Option<f64>,
    /// Bytes read from block devices each second.
    pub read_bytes_per_second: Option<u64>,
    /// Bytes written each second.
    pub write_bytes_per_second: Option<u64>,
    /// The counters themselves: `cpu`, `memory`, `pids`, `io`, `pressure`.
    #[serde(flatten)]
    pub stats: Stats,
}

/// Reads the counters of the cgroup with these directories.
pub fn read(directories: &[PathBuf]) -> Reading {
    let cgroup = Cgroup::at(directories.iter().cloned()).ok().filter(Cgroup::exists);
    Reading { at: Instant::now(), stats: cgroup.map(|c| c.stats()) }
}

/// The limit and the use of memory of one cgroup directory: `u64::MAX` for no limit, `None` without the controller.
pub fn memory_limit(directory: &Path) -> Option<(u64, u64)> {
    let number = |file: &str| -> Option<u64> {
        let text = std::fs::read_to_string(directory.join(file)).ok()?;
        if text.trim() == "max" { Some(u64::MAX) } else { text.trim().parse().ok() }
    };
    let (max, current) = match number("memory.max") {
        Some(max) => (max, number("memory.current")?),
        None => (number("memory.limit_in_bytes")?, number("memory.usage_in_bytes")?),
    };
    // v1's "no limit" is the greatest number of pages.
    Some((if max > 1 << 62 { u64::MAX } else { max }, current))
}

impl Reading {
    /// Of counters that were read just now; `None` when the cgroup is gone.
    pub fn of(stats: Option<Stats>) -> Self {
        Self { at: Instant::now(), stats }
    }

    /// Of counters that were read at another time.
    pub fn then(at: Instant, stats: Option<Stats>) -> Self {
        Self { at, stats }
    }

    /// Whether the cgroup was there.
    pub fn exists(&self) -> bool {
        self.stats.is_some()
    }
}

/// Compares two looks.
pub fn between(before: &Reading, after: &Reading) -> Usage {
    let time = after.at.saturating_duration_since(before.at);
    let old = before.stats.clone().unwrap_or_default();
    let new = after.stats.clone().unwrap_or_default();
    let delta = |old: Option<u64>, new: Option<u64>| new?.checked_sub(old?);
    let periods = delta(old.cpu.nr_periods, new.cpu.nr_periods).filter(|n| *n > 0);
    let throttled = delta(old.cpu.nr_throttled, new.cpu.nr_throttled);
    let io = |stats: &Stats, pick: fn(&drydock_cgroups::Io) -> u64| {
        stats.io.as_ref().map(|devices| devices.values().map(pick).fold(0, u64::saturating_add))
    };
    let rate = |pick| per_second(delta(io(&old, pick), io(&new, pick))?, time);
    Usage {
        status: if after.exists() { "running" } else { "stopped" },
        interval_seconds: time.as_secs_f64(),
        cpu_percent: delta(old.cpu.usage_us, new.cpu.usage_us).and_then(|us| share(us, time)),
        throttled_percent: periods
            .zip(throttled)
            .map(|(all, held)| one_decimal(f64_of(held) / f64_of(all) * 100.0)),
        read_bytes_per_second: rate(|io| io.rbytes),
        write_bytes_per_second: rate(|io| io.wbytes),
        stats: new,
    }
}

fn share(microseconds: u64, time: Duration) -> Option<f64> {
    let seconds = time.as_secs_f64();
    (seconds > 0.0).then(|| one_decimal(f64_of(microseconds) / 10_000.0 / seconds))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // `as` saturates; the number is not negative
fn per_second(count: u64, time: Duration) -> Option<u64> {
    let seconds = time.as_secs_f64();
    (seconds > 0.0).then(|| (f64_of(count) / seconds) as u64)
}

fn one_decimal(number: f64) -> f64 {
    super::processes::round(number)
}

#[allow(clippy::cast_precision_loss)] // counters of one interval
fn f64_of(number: u64) -> f64 {
    number as f64
}

/// Pressure of `cpu`, `memory`, `io`, of the machine or of a cgroup; null where the kernel has it not, or not enabled
/// (boot option `psi=1`).
pub fn pressure(proc: &Proc, cgroup: Option<&Cgroup>) -> BTreeMap<&'static str, Option<Pressure>> {
    let read = |resource: &'static str| {
        let text = match cgroup {
            Some(cgroup) => cgroup.read(&format!("{resource}.pressure")),
            None => proc.text(&format!("pressure/{resource}")).ok(),
        };
        let found = text.map(|t| pressure::parse(&t)).filter(|p| p.some.is_some() || p.full.is_some());
        (resource, found)
    };
    ["cpu", "memory", "io"].into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(at: Instant, usage: Option<u64>) -> Reading {
        let mut stats = Stats::default();
        stats.cpu.usage_us = usage;
        Reading { at, stats: Some(stats) }
    }

    #[test]
    fn percent_of_the_interval() {
        let start = Instant::now();
        let later = start + Duration::from_secs(2);
        let percent = |a, b| between(&reading(start, a), &reading(later, b)).cpu_percent;
        assert_eq!(percent(Some(0), Some(2_000_000)), Some(100.0));
        assert_eq!(percent(Some(5), Some(5)), Some(0.0));
        // A counter that went back, one that is not there, and no time between.
        assert_eq!(percent(Some(9), Some(5)), None);
        assert_eq!(percent(None, Some(5)), None);
        assert_eq!(percent(Some(5), None), None);
        assert_eq!(between(&reading(start, Some(0)), &reading(start, Some(9))).cpu_percent, None);
    }

    #[test]
    fn a_cgroup_that_went_away_is_stopped() {
        let start = Instant::now();
        let gone = Reading { at: start, stats: None };
        let usage = between(&reading(start, Some(1)), &gone);
        assert_eq!((usage.status, usage.cpu_percent), ("stopped", None));
        assert!(!read(&[PathBuf::from("/nonexistent/cgroup")]).exists());
        assert!(!read(&[]).exists());
    }
}
