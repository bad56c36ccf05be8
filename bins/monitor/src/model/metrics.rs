//! Rows as OpenMetrics. Source: the OpenMetrics 1.0 specification.

use super::sampler::Row;
use drydock_core::text::{escape, shorten};
use std::fmt::Write;

/// More containers than this are counted, not listed: a scrape stays bounded.
pub const MAX_ROWS: usize = 2000;
/// No label is longer.
const MAX_LABEL: usize = 256;

/// A family: name without prefix, type, unit or empty, help, and the samples of a row: labels and value.
type Family =
    (&'static str, &'static str, &'static str, &'static str, fn(&Row) -> Vec<(&'static str, Option<f64>)>);

#[allow(clippy::cast_precision_loss)] // OpenMetrics has only floats
fn whole(n: Option<u64>) -> Option<f64> {
    n.map(|n| n as f64)
}

#[allow(clippy::cast_precision_loss)]
fn seconds(us: Option<u64>) -> Option<f64> {
    us.map(|us| us as f64 / 1_000_000.0)
}

fn one(value: Option<f64>) -> Vec<(&'static str, Option<f64>)> {
    vec![("", value)]
}

#[allow(clippy::cast_precision_loss)]
fn stalled(row: &Row, all: bool) -> Vec<(&'static str, Option<f64>)> {
    let of = |resource: &str| {
        let pressure = row.usage.stats.pressure.get(resource)?;
        let line = if all { pressure.full.as_ref() } else { pressure.some.as_ref() };
        line.map(|l| l.total as f64 / 1_000_000.0)
    };
    vec![
        ("resource=\"cpu\"", of("cpu")),
        ("resource=\"memory\"", of("memory")),
        ("resource=\"io\"", of("io")),
    ]
}

const FAMILIES: [Family; 20] = [
    ("cpu_seconds", "counter", "seconds", "Processor time used", |r| {
        one(seconds(r.usage.stats.cpu.usage_us))
    }),
    ("cpu_throttled_seconds", "counter", "seconds", "Time held back by the processor limit", |r| {
        one(seconds(r.usage.stats.cpu.throttled_us))
    }),
    ("cpu_periods", "counter", "", "Enforcement periods that have passed", |r| {
        one(whole(r.usage.stats.cpu.nr_periods))
    }),
    ("cpu_throttled_periods", "counter", "", "Periods in which the limit was hit", |r| {
        one(whole(r.usage.stats.cpu.nr_throttled))
    }),
    ("memory_bytes", "gauge", "bytes", "Memory in use", |r| one(whole(r.usage.stats.memory.current))),
    ("memory_peak_bytes", "gauge", "bytes", "Most memory that ever was in use", |r| {
        one(whole(r.usage.stats.memory.peak))
    }),
    ("memory_limit_bytes", "gauge", "bytes", "Memory limit; absent without one", |r| {
        one(whole(r.usage.stats.memory.max))
    }),
    (
        "memory_headroom_bytes",
        "gauge",
        "bytes",
        "Memory until the nearest limit, its own or of a cgroup above",
        |r| one(whole(r.memory_headroom.as_ref().map(|h| h.bytes))),
    ),
    ("memory_part_bytes", "gauge", "bytes", "What the memory in use is", |r| {
        let m = &r.usage.stats.memory;
        vec![
            ("part=\"anon\"", whole(m.anon)),
            ("part=\"file\"", whole(m.file)),
            ("part=\"kernel\"", whole(m.kernel)),
            ("part=\"shmem\"", whole(m.shmem)),
        ]
    }),
    ("swap_bytes", "gauge", "bytes", "Swap in use", |r| one(whole(r.usage.stats.memory.swap))),
    ("oom_kills", "counter", "", "Processes killed for want of memory", |r| {
        one(whole(r.usage.stats.memory.oom_kill))
    }),
    ("processes", "gauge", "", "Processes that are seen in it", |r| one(whole(u64::try_from(r.nprocs).ok()))),
    ("tasks", "gauge", "", "Processes and threads", |r| one(whole(r.usage.stats.pids.current))),
    ("tasks_limit", "gauge", "", "Limit of processes and threads; absent without one", |r| {
        one(whole(r.usage.stats.pids.max))
    }),
    ("io_read_bytes", "counter", "bytes", "Read from block devices", |r| one(io(r, false))),
    ("io_written_bytes", "counter", "bytes", "Written to block devices", |r| one(io(r, true))),
    ("network_received_bytes", "counter", "bytes", "Received by its own network namespace", |r| {
        one(whole(r.network.as_ref().filter(|n| !n.shared).map(|n| n.rx_bytes)))
    }),
    ("network_sent_bytes", "counter", "bytes", "Sent by its own network namespace", |r| {
        one(whole(r.network.as_ref().filter(|n| !n.shared).map(|n| n.tx_bytes)))
    }),
    ("pressure_some_seconds", "counter", "seconds", "Time in which something in it waited", |r| {
        stalled(r, false)
    }),
    ("pressure_full_seconds", "counter", "seconds", "Time in which all of it waited", |r| stalled(r, true)),
];

fn io(row: &Row, written: bool) -> Option<f64> {
    let devices = row.usage.stats.io.as_ref()?;
    let bytes = devices.values().map(|io| if written { io.wbytes } else { io.rbytes });
    whole(Some(bytes.fold(0, u64::saturating_add)))
}

/// The whole exposition; `took` is how long the look took, in seconds.
pub fn text(rows: &[Row], took: f64) -> String {
    let shown = rows.get(..MAX_ROWS.min(rows.len())).unwrap_or_default();
    let labels: Vec<String> = shown.iter().map(labels).collect();
    let mut out = String::new();
    for (name, kind, unit, help, samples) in FAMILIES {
        let _ = writeln!(out, "# TYPE drydock_{name} {kind}");
        if !unit.is_empty() {
            let _ = writeln!(out, "# UNIT drydock_{name} {unit}");
        }
        let _ = writeln!(out, "# HELP drydock_{name} {help}.");
        let suffix = if kind == "counter" { "_total" } else { "" };
        for (row, labels) in shown.iter().zip(&labels) {
            for (more, value) in samples(row) {
                let Some(value) = value else { continue };
                let comma = if more.is_empty() { "" } else { "," };
                let _ = writeln!(out, "drydock_{name}{suffix}{{{labels}{comma}{more}}} {value}");
            }
        }
    }
    let left_out = rows.len() - shown.len();
    for (name, help, value) in [
        ("containers", "Containers and cgroups that were found", rows.len().to_string()),
        ("containers_left_out", "Those that are not listed, for the bound", left_out.to_string()),
        ("look_seconds", "How long it took to look", took.to_string()),
    ] {
        let _ = writeln!(
            out,
            "# TYPE drydock_{name} gauge\n# HELP drydock_{name} {help}.\ndrydock_{name} {value}"
        );
    }
    out.push_str("# EOF\n");
    out
}

fn labels(row: &Row) -> String {
    let label = |text: &str| {
        let text = shorten(&escape(text), MAX_LABEL);
        text.replace('\\', "\\\\").replace('"', "\\\"")
    };
    // A path tells cgroups of one name apart, where there is no id.
    let id = row.id.as_deref().unwrap_or(&row.path);
    format!(
        "name=\"{}\",runtime=\"{}\",id=\"{}\"",
        label(&row.name),
        label(row.runtime.unwrap_or("")),
        label(id)
    )
}
