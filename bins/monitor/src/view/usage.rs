//! `monitor stats|psi`.

use crate::Session;
use crate::args::Stats;
use crate::model::cgroups::{self, Place};
use crate::model::network::{self, Traffic};
use crate::model::sampler::{Headroom, headroom, memory_directory};
use crate::model::target::{Target, read_stat, runs, unreadable};
use crate::model::usage::{Usage, between, pressure, read};
use crate::procfs::pressure::{Pressure, Stall};
use drydock_cgroups::Cgroup;
use drydock_cli::output::{print_text, table};
use drydock_core::size::show;
use drydock_core::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One answer of `monitor stats`.
#[derive(Serialize)]
struct Sampled<'a> {
    pid: u32,
    container: Option<&'a str>,
    /// The directories whose counters are shown.
    directories: &'a [PathBuf],
    /// The hierarchies in which the process is in the root cgroup: there the figures are the whole machine's.
    whole_machine: &'a [String],
    /// Bytes until the nearest memory limit, its own or of a cgroup above.
    memory_headroom: Option<Headroom>,
    /// What went through its network namespace, without the loopback.
    network: Option<Traffic>,
    #[serde(flatten)]
    usage: Usage,
}

/// `monitor stats`.
///
/// # Errors
/// When the process has gone before the first look, or no cgroup of it is mounted.
pub fn stats(session: &Session, target: &Target, options: &Stats) -> Result<()> {
    let (samples, interval) = (options.samples(), options.sampling.interval());
    let (directories, whole_machine) = directories(session, target)?;
    let started = read_stat(&session.proc, target.pid)?.start;
    let own = network::inode(&session.proc, "self");
    let traffic = || network::of(&session.proc, own, &[target.pid], &mut BTreeMap::new());
    let (mut before, mut old) = (read(&directories), traffic());
    let mut shown = 0;
    loop {
        std::thread::sleep(interval);
        let (after, now) = (read(&directories), traffic());
        let usage = between(&before, &after);
        let network = now.clone().map(|now| match &old {
            Some(old) => now.since(old, usage.interval_seconds),
            None => now,
        });
        let memory = memory_directory(&directories);
        let memory_headroom = memory.and_then(|own| headroom(&own, &usage.stats, &mut BTreeMap::new()));
        let container = target.container.as_ref().map(|c| c.id.as_str());
        let (directories, whole_machine) = (directories.as_slice(), whole_machine.as_slice());
        let pid = target.pid;
        let mut sample =
            Sampled { pid, container, directories, whole_machine, memory_headroom, network, usage };
        if !runs(&session.proc, target.pid, started) {
            sample.usage.status = "stopped";
        }
        print_sample(session, &sample, samples == Some(1))?;
        shown += 1;
        if samples.is_some_and(|n| shown >= n) || sample.usage.status == "stopped" {
            return Ok(());
        }
        (before, old) = (after, now);
    }
}

/// The directories to read, and the hierarchies whose root the process is in.
fn directories(session: &Session, target: &Target) -> Result<(Vec<PathBuf>, Vec<String>)> {
    let pid = target.pid;
    let named = target.container.as_ref().map(|c| c.cgroup.clone()).filter(|dirs| !dirs.is_empty());
    if let Some(dirs) = named.filter(|dirs| dirs.iter().any(|d| d.is_dir())) {
        return Ok((dirs, Vec::new()));
    }
    let mounts = cgroups::mounts(&session.proc).unwrap_or_default();
    let places = cgroups::places(&session.proc, &mounts, pid).map_err(|e| unreadable(pid, "cgroup", e))?;
    let found = cgroups::directories(&places);
    if found.is_empty() {
        return Err(Error::failed(format!("process {pid}"), "none of its cgroups is mounted here")
            .hint("mount -t cgroup2 none /sys/fs/cgroup"));
    }
    let at_root =
        |p: &&Place| p.root && p.counts() && p.directory.as_ref().is_some_and(|d| found.contains(d));
    let name = |p: &Place| match p.membership.hierarchy {
        0 => "v2".to_string(),
        _ => p.membership.controllers.join(","),
    };
    let whole_machine = places.iter().filter(at_root).map(name).collect();
    Ok((found, whole_machine))
}

fn print_sample(session: &Session, sample: &Sampled, once: bool) -> Result<()> {
    if session.json && once {
        return session.print(sample);
    }
    if session.json {
        return session.print_sample(sample);
    }
    let mut text = table(&["FIGURE", "VALUE"], &rows(sample));
    if !once {
        text.push('\n');
    }
    print_text(&text)?;
    if once && !sample.whole_machine.is_empty() {
        let list = sample.whole_machine.join(" ");
        super::notes(&[format!(
            "process {} is in the root cgroup of {list}: those figures are the whole machine's",
            sample.pid
        )]);
    }
    Ok(())
}

/// What the kernel does not keep.
const MISSING: &str = "not enabled";

fn bytes(value: Option<u64>) -> String {
    value.map_or(MISSING.to_string(), show)
}

fn count(value: Option<u64>) -> String {
    value.map_or(MISSING.to_string(), |n| n.to_string())
}

fn percent(value: Option<f64>) -> String {
    value.map_or(MISSING.to_string(), |n| format!("{n:.1}%"))
}

/// Current and limit; a missing limit is none, as long as the controller is there.
fn of_limit(current: Option<u64>, max: Option<u64>, show: fn(u64) -> String) -> String {
    match (current, max) {
        (None, _) => MISSING.to_string(),
        (Some(current), Some(max)) => format!("{} of {}", show(current), show(max)),
        (Some(current), None) => format!("{}, no limit", show(current)),
    }
}

fn headroom_text(h: &Headroom) -> String {
    format!("{} (limit of {})", show(h.bytes), h.limited_by.display())
}

fn traffic_text(t: &Traffic) -> String {
    let rate = |n: Option<u64>| n.map_or("-".to_string(), |n| format!("{}/s", show(n)));
    let whose = if t.shared { ", the machine's" } else { "" };
    let (rx, tx) = (rate(t.rx_bytes_per_second), rate(t.tx_bytes_per_second));
    format!(
        "in {rx} (all {}), out {tx} (all {}), dropped {}{whose}",
        show(t.rx_bytes),
        show(t.tx_bytes),
        t.dropped
    )
}

fn rows(sample: &Sampled) -> Vec<Vec<String>> {
    let (usage, s) = (&sample.usage, &sample.usage.stats);
    let m = &s.memory;
    let name = sample.container.map_or(sample.pid.to_string(), |id| format!("{id} (pid {})", sample.pid));
    let seconds = s.cpu.usage_us.map(|us| format!("{}.{:03}s", us / 1_000_000, us / 1000 % 1000));
    let mut rows = vec![
        ("process", name),
        ("status", usage.status.to_string()),
        ("cpu", percent(usage.cpu_percent)),
        ("cpu time", seconds.unwrap_or(MISSING.to_string())),
        ("cpu throttled", percent(usage.throttled_percent.or(s.cpu.nr_periods.map(|_| 0.0)))),
        ("memory", of_limit(m.current, m.max, show)),
        ("memory peak", bytes(m.peak)),
        ("  anon", bytes(m.anon)),
        ("  file", bytes(m.file)),
        ("  kernel", bytes(m.kernel)),
        ("  shmem", bytes(m.shmem)),
        ("  inactive file", bytes(m.inactive_file)),
        ("memory headroom", sample.memory_headroom.as_ref().map_or("no limit".to_string(), headroom_text)),
        ("swap", of_limit(m.swap, m.swap_max, show)),
        ("oom kills", count(m.oom_kill)),
        ("pids", of_limit(s.pids.current, s.pids.max, |n| n.to_string())),
        ("read/s", bytes(usage.read_bytes_per_second)),
        ("write/s", bytes(usage.write_bytes_per_second)),
        ("network", sample.network.as_ref().map_or(MISSING.to_string(), traffic_text)),
    ];
    for resource in ["cpu", "memory", "io"] {
        let some = s.pressure.get(resource).and_then(|p| p.some.as_ref()).map(|line| line.avg10);
        let label = match resource {
            "cpu" => "pressure cpu",
            "memory" => "pressure memory",
            _ => "pressure io",
        };
        rows.push((label, percent(some)));
    }
    rows.extend(sample.directories.iter().map(|d| ("cgroup", d.display().to_string())));
    rows.into_iter().map(|(name, value)| vec![name.to_string(), value]).collect()
}

/// The answer of `monitor psi`.
#[derive(Serialize)]
struct Waiting {
    /// `machine` or `cgroup`.
    scope: &'static str,
    pid: Option<u32>,
    /// By resource; null when not enabled.
    pressure: BTreeMap<&'static str, Option<Pressure>>,
}

/// `monitor psi`.
///
/// # Errors
/// When the process is unknown.
pub fn psi(session: &Session, target: Option<&str>) -> Result<()> {
    let target = target.map(|text| session.target(text)).transpose()?;
    let cgroup = match &target {
        Some(target) => Some(Cgroup::at(directories(session, target)?.0)?),
        None => None,
    };
    let found = pressure(&session.proc, cgroup.as_ref());
    if session.json {
        let scope = if cgroup.is_some() { "cgroup" } else { "machine" };
        return session.print(&Waiting { scope, pid: target.map(|t| t.pid), pressure: found });
    }
    let rows: Vec<Vec<String>> =
        found.iter().flat_map(|(resource, p)| psi_rows(resource, p.as_ref())).collect();
    print_text(&table(&["RESOURCE", "WAITING", "10S", "60S", "300S", "TOTAL"], &rows))
}

fn psi_rows(resource: &str, pressure: Option<&Pressure>) -> Vec<Vec<String>> {
    let Some(pressure) = pressure else {
        return vec![vec![resource.to_string(), MISSING.to_string()]];
    };
    let row = |who: &str, s: Stall| {
        let total = format!("{}.{:03}s", s.total_usec / 1_000_000, s.total_usec / 1000 % 1000);
        let share = |n: f64| format!("{n:.2}%");
        vec![resource.to_string(), who.to_string(), share(s.avg10), share(s.avg60), share(s.avg300), total]
    };
    let some = pressure.some.map(|s| row("some", s));
    some.into_iter().chain(pressure.full.map(|s| row("all", s))).collect()
}
