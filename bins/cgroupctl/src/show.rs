//! show: a cgroup's limits, use, peaks and events.

use crate::args::Show;
use crate::names::layout_for;
use drydock_cgroups::{Cgroup, DeviceRule, Limits, Stats, UNLIMITED};
use drydock_cli::Outcome;
use drydock_cli::output::{print_json, print_line, print_text, table};
use drydock_core::size;
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Serialize)]
struct Shown {
    name: String,
    dirs: Vec<String>,
    frozen: Option<bool>,
    populated: bool,
    pids: Vec<i32>,
    limits: Limits,
    devices: Option<Vec<Device>>,
    stats: Stats,
    events: BTreeMap<String, BTreeMap<String, u64>>,
}

/// A device rule as it is written.
#[derive(Serialize)]
struct Device {
    allow: bool,
    rule: String,
}

/// `cgroupctl show`.
pub fn show(args: &Show) -> Outcome {
    let cgroup = Cgroup::open(&args.name, &layout_for(&args.name)?)?;
    if args.all || args.controller.is_some() || !args.files.is_empty() {
        return crate::files::show(&cgroup, args);
    }
    let device = |rule: DeviceRule| Device { allow: rule.allow, rule: rule.to_string() };
    let shown = Shown {
        name: args.name.clone(),
        dirs: cgroup.dirs().map(|d| d.to_string_lossy().into_owned()).collect(),
        frozen: cgroup.is_frozen(),
        populated: cgroup.populated(),
        pids: cgroup.pids()?,
        limits: cgroup.limits(),
        devices: cgroup.devices().map(|rules| rules.into_iter().map(device).collect()),
        stats: cgroup.stats(),
        events: events(&cgroup),
    };
    if args.json {
        print_json(&shown)?;
        return Ok(0);
    }
    for dir in &shown.dirs {
        print_line(dir)?;
    }
    print_text(&table(&["RESOURCE", "LIMIT", "NOW", "PEAK", "EVENTS"], &resources(&shown)))?;
    print_text("\n")?;
    print_text(&table(&["WHAT", "VALUE"], &details(&shown)))?;
    Ok(0)
}

/// The counters of what happened.
fn events(cgroup: &Cgroup) -> BTreeMap<String, BTreeMap<String, u64>> {
    let files = ["memory.events", "memory.swap.events", "memory.oom_control", "pids.events", "cgroup.events"];
    let counters = |text: String| {
        let line = |l: &str| {
            let (key, value) = l.split_once(' ')?;
            Some((key.to_string(), value.trim().parse().ok()?))
        };
        text.lines().filter_map(line).collect()
    };
    files.iter().filter_map(|f| Some(((*f).to_string(), counters(cgroup.read(f)?)))).collect()
}

const MISSING: &str = "not enabled";

fn word(value: u64) -> String {
    if value == UNLIMITED { "max".to_string() } else { value.to_string() }
}

fn bytes_or_max(value: u64) -> String {
    if value == UNLIMITED { word(value) } else { size::show(value) }
}

/// One row a resource: what it may have, has, had at most, and what happened.
fn resources(shown: &Shown) -> Vec<Vec<String>> {
    let (limits, stats) = (&shown.limits, &shown.stats);
    let text = |v: Option<String>| v.unwrap_or_else(|| MISSING.to_string());
    let number = |v: Option<u64>| text(v.map(|v| v.to_string()));
    let bytes = |v: Option<u64>| text(v.map(size::show));
    let seconds = |v: Option<u64>| v.map(|us| format!("{:.3} s", us as f64 / 1e6));
    let said = |pairs: &[(&str, Option<u64>)]| {
        let parts = pairs.iter().filter_map(|(what, v)| v.map(|v| format!("{what} {v}")));
        let all: Vec<String> = parts.collect();
        if all.is_empty() { MISSING.to_string() } else { all.join(", ") }
    };
    let memory = &stats.memory;
    let high = memory.high_events;
    let throttled = seconds(stats.cpu.throttled_us).map_or(String::new(), |t| format!(", held back {t}"));
    let periods =
        said(&[("throttled", stats.cpu.nr_throttled), ("of", stats.cpu.nr_periods)]).replace(", of", " of");
    let row = |cells: [String; 5]| cells.to_vec();
    let mut rows = vec![
        row([
            "cpu".into(),
            text(limits.cpu.map(|c| c.to_string())),
            text(seconds(stats.cpu.usage_us)),
            "-".into(),
            format!("{periods}{throttled}"),
        ]),
        row([
            "memory".into(),
            text(limits.memory_max.map(bytes_or_max)),
            bytes(memory.current),
            bytes(memory.peak),
            said(&[
                ("high", high),
                ("max", memory.max_events),
                ("oom", memory.oom),
                ("oom_kill", memory.oom_kill),
            ]),
        ]),
        row([
            "swap".into(),
            text(limits.swap_max.map(bytes_or_max)),
            bytes(memory.swap),
            "-".into(),
            "-".into(),
        ]),
        row([
            "pids".into(),
            text(limits.pids_max.map(word)),
            number(stats.pids.current),
            number(stats.pids.peak),
            said(&[("refused", stats.pids.max_events)]),
        ]),
    ];
    for (page, limit) in &limits.hugetlb {
        rows.push(row([format!("hugetlb {page}"), bytes_or_max(*limit), "-".into(), "-".into(), "-".into()]));
    }
    for io in &limits.io_max {
        let part =
            |key: &str, v: Option<u64>| v.map_or(String::new(), |v| format!(" {key}={}", size::show(v)));
        let all =
            [part("rbps", io.rbps), part("wbps", io.wbps), part("riops", io.riops), part("wiops", io.wiops)];
        rows.push(row([
            format!("io {}", io.device),
            all.concat().trim().to_string(),
            "-".into(),
            "-".into(),
            "-".into(),
        ]));
    }
    rows
}

/// All else by its v2 name, in the kernel's own syntax.
fn details(shown: &Shown) -> Vec<Vec<String>> {
    let limits = &shown.limits;
    let number = |v: Option<u64>| v.map_or(MISSING.to_string(), word);
    let bytes = |v: Option<u64>| v.map_or(MISSING.to_string(), bytes_or_max);
    let list = |v: &Option<String>| v.clone().unwrap_or_else(|| MISSING.to_string());
    let flag = |v: Option<bool>| number(v.map(u64::from));
    let mut rows: Vec<Vec<String>> = [
        ("cpu.weight", number(limits.cpu_weight)),
        ("cpuset.cpus", list(&limits.cpuset_cpus)),
        ("cpuset.mems", list(&limits.cpuset_mems)),
        ("memory.high", bytes(limits.memory_high)),
        ("memory.low", bytes(limits.memory_low)),
        ("memory.min", bytes(limits.memory_min)),
        ("memory.oom.group", flag(limits.oom_group)),
        ("io.weight", number(limits.io_weight)),
    ]
    .into_iter()
    .map(|(what, value)| vec![what.to_string(), value])
    .collect();
    let mut add = |what: &str, value: String| rows.push(vec![what.to_string(), value]);
    for (device, limit) in &limits.rdma {
        let part = |v: Option<u32>| v.map_or("max".to_string(), |v| v.to_string());
        let shown = format!("hca_handle={} hca_object={}", part(limit.hca_handles), part(limit.hca_objects));
        add(&format!("rdma.max {device}"), shown);
    }
    for (device, weight) in &limits.io_weight_device {
        add(&format!("io.weight {device}"), weight.to_string());
    }
    for device in shown.devices.iter().flatten() {
        add("devices", format!("{} {}", if device.allow { "allow" } else { "deny" }, device.rule));
    }
    add("processes", join(&shown.pids));
    add("frozen", shown.frozen.map_or("no freezer", |f| if f { "yes" } else { "no" }).to_string());
    rows.extend(crate::monitor::stat_rows(&shown.stats, None));
    rows
}

fn join(pids: &[i32]) -> String {
    let shown: Vec<String> = pids.iter().take(20).map(ToString::to_string).collect();
    let more = pids.len().saturating_sub(20);
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    if pids.is_empty() { "none".to_string() } else { format!("{}{tail}", shown.join(" ")) }
}
