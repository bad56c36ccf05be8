//! top: all cgroups, the busiest first.

use crate::args::Top;
use crate::names::{layout_for, seconds};
use crate::say::json_line;
use drydock_cgroups::{Brief, Cgroup, Layout};
use drydock_cli::Outcome;
use drydock_cli::output::{colour_on_stdout, print_json, print_text, table};
use drydock_core::{Result, size};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Where samples are drawn over each other: a terminal. Elsewhere they follow one another.
pub struct Screen {
    live: bool,
}

impl Screen {
    /// `plain`: not even on a terminal.
    pub fn new(plain: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|t| t == "dumb" || t.is_empty());
        Self { live: !plain && !dumb && std::io::stdout().is_terminal() }
    }

    /// Whether samples are drawn over each other.
    pub fn live(&self) -> bool {
        self.live
    }

    /// Draws a title and lines, each with its colour (SGR number) if it has one.
    pub fn draw(&self, title: &str, text: &str, colours: &[Option<u8>]) -> Result<()> {
        let colour = colour_on_stdout();
        let mut out = format!("\x1b[H\x1b[K{}\n", drydock_core::text::escape(title));
        for (i, line) in text.lines().enumerate().take(self.rows()) {
            match colours.get(i).copied().flatten().filter(|_| colour) {
                Some(code) => out.push_str(&format!("\x1b[{code}m{line}\x1b[0m\x1b[K\n")),
                None => out.push_str(&format!("{line}\x1b[K\n")),
            }
        }
        out.push_str("\x1b[J");
        print_text(&out)
    }

    /// Lines below the title.
    fn rows(&self) -> usize {
        let size = rustix::termios::tcgetwinsize(std::io::stdout()).map(|w| w.ws_row).unwrap_or(0);
        if size < 4 { usize::MAX } else { usize::from(size) - 2 }
    }
}

/// One row.
#[derive(Serialize, Clone, Debug, PartialEq)]
struct Row {
    name: String,
    tasks: Option<u64>,
    /// Of one processor.
    cpu_percent: Option<f64>,
    memory: Option<u64>,
    swap: Option<u64>,
    read_per_second: Option<u64>,
    written_per_second: Option<u64>,
    oom_kills: Option<u64>,
}

#[derive(Serialize)]
struct Sample<'a> {
    interval_ms: u64,
    cgroups: &'a [Row],
}

/// `cgroupctl top`.
pub fn top(args: &Top) -> Outcome {
    let mut interval = seconds("--interval", &args.interval, 0.05, 3600.0)?;
    if args.once {
        interval = interval.min(Duration::from_millis(200));
    }
    let layout = match &args.name {
        Some(name) => {
            let layout = layout_for(name)?;
            Cgroup::open(name, &layout)?;
            layout
        }
        None => Layout::detect()?,
    };
    let screen = Screen::new(args.once || args.json);
    let mut left = args.iterations.unwrap_or(if args.once { 1 } else { u64::MAX });
    let mut before = (Instant::now(), layout.survey(args.name.as_deref()));
    while left > 0 {
        std::thread::sleep(interval);
        let now = (Instant::now(), layout.survey(args.name.as_deref()));
        let elapsed = now.0.duration_since(before.0);
        let rows = rows(args, elapsed, &before.1, &now.1);
        let sample =
            Sample { interval_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX), cgroups: &rows };
        match (args.json, args.once) {
            (true, true) => print_json(&sample)?,
            (true, false) => json_line(&sample)?,
            (false, _) => show(args, &screen, &rows)?,
        }
        before = now;
        left = left.saturating_sub(1);
    }
    Ok(0)
}

fn show(args: &Top, screen: &Screen, rows: &[Row]) -> Result<()> {
    let missing = || "-".to_string();
    let count = |v: Option<u64>| v.map_or_else(missing, |v| v.to_string());
    let bytes =
        |v: Option<u64>| v.map_or_else(missing, |v| if args.raw { v.to_string() } else { size::show(v) });
    let cells = |r: &Row| {
        vec![
            r.name.clone(),
            count(r.tasks),
            r.cpu_percent.map_or_else(missing, |p| format!("{p:.1}")),
            bytes(r.memory),
            bytes(r.swap),
            bytes(r.read_per_second),
            bytes(r.written_per_second),
            count(r.oom_kills),
        ]
    };
    let head = ["NAME", "TASKS", "CPU %", "MEMORY", "SWAP", "READ/S", "WRITTEN/S", "OOM KILLS"];
    let text = table(&head, &rows.iter().map(cells).collect::<Vec<_>>());
    if !screen.live() {
        return print_text(&format!("{text}\n"));
    }
    let alarm = |r: &Row| r.oom_kills.filter(|n| *n > 0).map(|_| 31);
    let colours: Vec<Option<u8>> = std::iter::once(None).chain(rows.iter().map(alarm)).collect();
    screen.draw(&format!("{} cgroups, by {}", rows.len(), args.sort), &text, &colours)
}

fn rows(
    args: &Top,
    elapsed: Duration,
    before: &BTreeMap<String, Brief>,
    now: &BTreeMap<String, Brief>,
) -> Vec<Row> {
    let micros = elapsed.as_micros().max(1) as f64;
    let base = args.name.as_deref().map_or(0, |n| n.split('/').count());
    let shown = |name: &str, brief: &Brief| {
        let depth = name.split('/').count().saturating_sub(base);
        depth <= args.depth && (args.all || brief.tasks != Some(0))
    };
    let row = |(name, brief): (&String, &Brief)| {
        // One that was made meanwhile began with nothing.
        let none = Brief::default();
        let old = before.get(name);
        let grown = |of: fn(&Brief) -> Option<u64>| {
            let from = old.map_or(Some(0), |_| of(old.unwrap_or(&none)))?;
            of(brief)?.checked_sub(from)
        };
        let rate = |of: fn(&Brief) -> Option<u64>| grown(of).map(|n| (n as f64 * 1e6 / micros) as u64);
        Row {
            name: name.clone(),
            tasks: brief.tasks,
            cpu_percent: grown(|b| b.cpu_us).map(|us| (us as f64 * 1000.0 / micros).round() / 10.0),
            memory: brief.memory,
            swap: brief.swap,
            read_per_second: rate(|b| b.read),
            written_per_second: rate(|b| b.written),
            oom_kills: brief.oom_kills,
        }
    };
    let mut rows: Vec<Row> = now.iter().filter(|(n, b)| shown(n, b)).map(row).collect();
    let io = |r: &Row| r.read_per_second.unwrap_or(0).saturating_add(r.written_per_second.unwrap_or(0));
    // Stable: what is equal stays in the order of names.
    match args.sort.as_str() {
        "memory" => rows.sort_by_key(|r| std::cmp::Reverse(r.memory)),
        "tasks" => rows.sort_by_key(|r| std::cmp::Reverse(r.tasks)),
        "io" => rows.sort_by_key(|r| std::cmp::Reverse(io(r))),
        "name" => {}
        _ => rows.sort_by(|a, b| b.cpu_percent.unwrap_or(-1.0).total_cmp(&a.cpu_percent.unwrap_or(-1.0))),
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_comes_first() {
        let brief = |cpu, memory| Brief {
            cpu_us: Some(cpu),
            memory: Some(memory),
            tasks: Some(1),
            ..Brief::default()
        };
        let before = [("a".to_string(), brief(0, 9)), ("b".to_string(), brief(7, 1))].into();
        let now = [
            ("a".to_string(), brief(500_000, 9)),
            ("b".to_string(), brief(1_000_007, 1)),
            ("a/x/y/z".to_string(), brief(1, 1)),
            ("new".to_string(), brief(100_000, 1)),
        ]
        .into();
        let args = |sort: &str| Top {
            name: None,
            sort: sort.into(),
            depth: 3,
            once: true,
            iterations: None,
            all: false,
            raw: false,
            json: false,
            interval: "2".into(),
        };
        let names = |sort: &str| -> Vec<String> {
            rows(&args(sort), Duration::from_secs(1), &before, &now).into_iter().map(|r| r.name).collect()
        };
        assert_eq!(names("cpu"), ["b", "a", "new"]);
        assert_eq!(names("memory")[0], "a");
        let all = rows(&args("cpu"), Duration::from_secs(1), &before, &now);
        assert_eq!((all[0].cpu_percent, all[2].cpu_percent), (Some(100.0), Some(10.0)));
        // A counter that went back is not a rate.
        let back = [("b".to_string(), brief(1, 1))].into();
        assert_eq!(rows(&args("cpu"), Duration::from_secs(1), &before, &back)[0].cpu_percent, None);
    }
}
