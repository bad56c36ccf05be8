//! The pane about the selected row.

use super::canvas::{Canvas, Line, Style};
use crate::Session;
use crate::model::processes::{Machine, row as process};
use crate::model::sampler::Row;
use drydock_cgroups::{Cgroup, Limits, PressureLine, UNLIMITED};
use drydock_core::size::show;

/// How many of `free` lines the pane takes.
pub fn height(free: usize) -> usize {
    (free / 2 + 2).min(16).min(free.saturating_sub(3))
}

/// Draws it, `lines` high.
pub fn pane(session: &Session, row: &Row, canvas: &mut Canvas, lines: usize) {
    let end = canvas.left().saturating_sub(lines);
    let limits = Cgroup::at(row.directories.iter().cloned()).map(|c| c.limits()).unwrap_or_default();
    let by = row.runtime.map_or(String::new(), |r| format!("  {r}"));
    let title = format!(" {}{by}  {}  pid {}", row.name, row.path, crate::view::or_dash(row.pid));
    let mut all = vec![Line::of(Style::Reverse, &title)];
    all.extend([cpu(row, &limits), memory(row, &limits), make_up(row), bar(row, canvas.width)]);
    all.extend([io(row), network(row), tasks(row)]);
    all.extend(pressure(row));
    let room = lines.saturating_sub(all.len());
    all.extend(processes(session, row, room));
    for line in all.into_iter().take(lines) {
        if canvas.left() > end {
            canvas.push(line);
        }
    }
}

fn label(name: &str) -> Line {
    Line::of(Style::Bold, &format!("{name:<9}"))
}

fn size(n: Option<u64>) -> String {
    n.map_or("-".to_string(), show)
}

#[allow(clippy::cast_precision_loss)] // a limit in processors
fn cpu(row: &Row, limits: &Limits) -> Line {
    let percent = |n: Option<f64>| n.map_or("-".to_string(), |n| format!("{n:.1}%"));
    let quota = limits.cpu.as_ref().and_then(|c| c.quota_us.zip(c.period_us));
    let of = match quota {
        Some((quota, period)) if quota != UNLIMITED && period > 0 => {
            format!("of {:.0}%", quota as f64 / period as f64 * 100.0)
        }
        _ => "no limit".to_string(),
    };
    let weight = limits.cpu_weight.map_or(String::new(), |w| format!("  weight {w}"));
    let held = row
        .usage
        .stats
        .cpu
        .throttled_us
        .map_or(String::new(), |us| format!(", {}.{:01}s in all", us / 1_000_000, us / 100_000 % 10));
    let text = format!("{} {of}{weight}  throttled ", percent(row.usage.cpu_percent));
    let throttled = row.usage.throttled_percent;
    let style = if throttled.is_some_and(|p| p >= 5.0) { Style::Warn } else { Style::Plain };
    label("cpu").and(Style::Plain, &text).and(style, &format!("{} of the periods{held}", percent(throttled)))
}

fn memory(row: &Row, limits: &Limits) -> Line {
    let m = &row.usage.stats.memory;
    let max = m.max.map_or("no limit".to_string(), |max| format!("of {}", show(max)));
    let high = limits
        .memory_high
        .filter(|n| *n != UNLIMITED)
        .map_or(String::new(), |n| format!("  high {}", show(n)));
    let mut line = label("memory").and(
        Style::Plain,
        &format!("{} {max}{high}  peak {}  swap {}", size(m.current), size(m.peak), size(m.swap)),
    );
    if let Some(headroom) = &row.memory_headroom {
        let own = row.directories.contains(&headroom.limited_by);
        let by = if own { String::new() } else { format!(" (limit of {})", headroom.limited_by.display()) };
        line = line.and(Style::Plain, &format!("  headroom {}{by}", show(headroom.bytes)));
    }
    let kills = m.oom_kill.unwrap_or(0);
    if kills > 0 { line.and(Style::Bad, &format!("  oom kills {kills}")) } else { line }
}

fn make_up(row: &Row) -> Line {
    let m = &row.usage.stats.memory;
    let parts = [
        ("anon", m.anon),
        ("file", m.file),
        ("kernel", m.kernel),
        ("shmem", m.shmem),
        ("inactive file", m.inactive_file),
    ];
    let text: Vec<String> = parts.iter().map(|(name, n)| format!("{name} {}", size(*n))).collect();
    label("").and(Style::Plain, &text.join("  "))
}

/// Anonymous, page cache, kernel; and what is free below the limit.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)] // a bar
fn bar(row: &Row, width: usize) -> Line {
    let m = &row.usage.stats.memory;
    let room = width.saturating_sub(12).min(60);
    let Some(whole) = m.max.or(m.current).filter(|n| *n > 0) else { return label("") };
    let part = |n: Option<u64>| (n.unwrap_or(0) as f64 / whole as f64 * room as f64).round() as usize;
    let (anon, file, kernel) = (part(m.anon), part(m.file), part(m.kernel));
    let text = ["█".repeat(anon), "▓".repeat(file), "▒".repeat(kernel)].concat();
    let used: String = text.chars().take(room).collect();
    let free = "·".repeat(room.saturating_sub(used.chars().count()));
    label("").and(Style::Good, &used).and(Style::Dim, &free)
}

fn io(row: &Row) -> Line {
    let u = &row.usage;
    let rate = |n: Option<u64>| n.map_or("-".to_string(), |n| format!("{}/s", show(n)));
    let text = format!("read {}  write {}", rate(u.read_bytes_per_second), rate(u.write_bytes_per_second));
    let devices = u.stats.io.iter().flatten().take(3);
    let devices: String = devices
        .map(|(name, io)| format!("  {name} {} in, {} out", show(io.rbytes), show(io.wbytes)))
        .collect();
    label("io").and(Style::Plain, &text).and(Style::Plain, &devices)
}

fn network(row: &Row) -> Line {
    let Some(net) = &row.network else { return label("network").and(Style::Plain, "-") };
    if net.shared {
        return label("network").and(Style::Dim, "the machine's");
    }
    let rate = |n: Option<u64>| n.map_or("-".to_string(), |n| format!("{}/s", show(n)));
    let (rx, tx) = (rate(net.rx_bytes_per_second), rate(net.tx_bytes_per_second));
    let all = format!(
        "rx {rx}  tx {tx}  {} in, {} out, {} dropped",
        show(net.rx_bytes),
        show(net.tx_bytes),
        net.dropped
    );
    label("network").and(Style::Plain, &format!("{all}  net:[{}]", net.namespace))
}

fn tasks(row: &Row) -> Line {
    let p = &row.usage.stats.pids;
    let number = |n: Option<u64>| n.map_or("-".to_string(), |n| n.to_string());
    let max = p.max.map_or("no limit".to_string(), |max| format!("of {max}"));
    let text = format!("{} processes, {} tasks {max}", row.nprocs, number(p.current));
    let refused = p.max_events.unwrap_or(0);
    let line = label("tasks").and(Style::Plain, &text);
    if refused > 0 { line.and(Style::Bad, &format!("  {refused} forks refused")) } else { line }
}

fn pressure(row: &Row) -> Vec<Line> {
    let shown = |line: &Option<PressureLine>| match line {
        Some(l) => format!("{:.1} {:.1} {:.1}", l.avg10, l.avg60, l.avg300),
        None => "-".to_string(),
    };
    let all = &row.usage.stats.pressure;
    if all.is_empty() {
        return vec![label("pressure").and(Style::Dim, "not enabled for this cgroup")];
    }
    let text: Vec<String> = all
        .iter()
        .map(|(resource, p)| format!("{resource} some {} all {}", shown(&p.some), shown(&p.full)))
        .collect();
    vec![label("pressure").and(Style::Plain, &format!("{}  (% of 10, 60, 300 s)", text.join("  ")))]
}

fn processes(session: &Session, row: &Row, room: usize) -> Vec<Line> {
    let root = row.pid;
    if room < 2 || root.is_none() {
        return Vec::new();
    }
    let machine = Machine::read(&session.proc);
    // The first ones: a cgroup with thousands is not read whole for a few lines.
    let mut found: Vec<_> =
        row.pids.iter().take(64).filter_map(|pid| process(&session.proc, &machine, *pid)).collect();
    found.sort_by_key(|p| std::cmp::Reverse(p.rss_bytes));
    let mut lines = vec![Line::of(
        Style::Dim,
        &format!("{:>8} {:>7} {:>5} {:>8} {:>9}  COMMAND", "PID", "INSIDE", "STAT", "RSS", "TIME"),
    )];
    lines.extend(found.iter().take(room - 1).map(|p| {
        let inside = crate::view::or_dash(p.inside_pid);
        let text = format!(
            "{:>8} {inside:>7} {:>5} {:>8} {:>8.1}s  {}",
            p.pid,
            p.state,
            show(p.rss_bytes),
            p.cpu_seconds,
            p.command
        );
        Line::plain(&text)
    }));
    lines
}
