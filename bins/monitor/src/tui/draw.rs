//! Drawing: heading, table, pane, keys.

use super::app::{App, Mode};
use super::canvas::{Canvas, Line, Style, pad};
use super::{blank, details};
use crate::Session;
use crate::model::sampler::Row;
use crate::view::topcolumns::Column;
use drydock_core::size::show;

/// Fewer lines than this are the table's alone.
const SMALL: usize = 8;

impl App {
    /// One screen of this size.
    pub fn draw(&mut self, session: &Session, width: usize, height: usize) -> Canvas {
        let mut canvas = blank(width, height);
        self.width = canvas.width;
        if canvas.height >= SMALL {
            self.heading(&mut canvas);
        }
        match self.mode.clone() {
            Mode::Help => help(&mut canvas),
            Mode::Columns(at) => self.choose(&mut canvas, at),
            Mode::Table | Mode::Filter(_) => self.table(session, &mut canvas),
        }
        if canvas.height > 1 {
            canvas.fill(1);
            canvas.push(self.bottom());
        }
        canvas
    }

    fn heading(&self, canvas: &mut Canvas) {
        let m = &self.machine;
        let containers = self.all.iter().filter(|row| row.is_container).count();
        let up = match (m.uptime / 86_400, m.uptime / 3600 % 24, m.uptime / 60 % 60) {
            (0, hours, minutes) => format!("{hours}:{minutes:02}"),
            (days, hours, _) => format!("{days}d {hours}h"),
        };
        let cpu = m.cpu_percent.map_or("-".to_string(), |p| format!("{p:.0}%"));
        canvas.push(
            Line::of(Style::Bold, "monitor top")
                .and(Style::Plain, &format!("  up {up}  load {}  cpu {cpu} of {}", m.load, m.processors))
                .and(Style::Plain, &format!("  {containers} containers, {} rows", self.rows.len())),
        );
        let mut line = Line::default();
        if let Some((all, available)) = m.memory {
            let used = all.saturating_sub(available);
            line = line.and(Style::Plain, &format!("memory {} of {}", show(used), show(all)));
        }
        if let Some((all, free)) = m.swap {
            line = line
                .and(Style::Plain, &format!("  swap {} of {}", show(all.saturating_sub(free)), show(all)));
        }
        for (resource, pressure) in &m.pressure {
            let some = pressure.some.map_or(0.0, |s| s.avg10);
            line = line.and(Style::Plain, "  ").and(warmth(some), &format!("psi-{resource} {some:.1}%"));
        }
        canvas.push(line);
        let mut state = format!("every {}s", self.interval.as_secs_f64());
        if self.paused {
            state.push_str("  PAUSED");
        }
        if self.wishes.containers {
            state.push_str("  containers only");
        }
        if self.wishes.filter.is_some() {
            state.push_str(&format!("  filter: {}", self.filter_text));
        }
        canvas.push(Line::of(Style::Dim, &state));
    }

    fn table(&mut self, session: &Session, canvas: &mut Canvas) {
        let bottom = usize::from(canvas.height > 1);
        let columns = self.fitting(canvas.width);
        let name = name_width(&columns, canvas.width);
        let titles: Vec<String> = columns.iter().map(|c| self.title(*c, name)).collect();
        if canvas.height > 2 {
            canvas.push(Line::of(Style::Reverse, &titles.join(" ")));
        }
        let free = canvas.left().saturating_sub(bottom);
        let pane = if self.details && free > 6 { details::height(free) } else { 0 };
        let page = free - pane;
        self.scroll(page);
        let selected = self.at();
        for n in self.first..(self.first + page).min(self.rows.len()) {
            let Some((depth, row)) = self.rows.get(n) else { break };
            canvas.push(line(*depth, row, &columns, name, n == selected));
        }
        if self.rows.is_empty() {
            canvas.push(Line::of(Style::Dim, "nothing fits the filter"));
        }
        if pane > 0 {
            canvas.fill(pane + bottom);
            if let Some((_, row)) = self.rows.get(selected) {
                details::pane(session, row, canvas, pane);
            }
        }
    }

    /// The columns that have room.
    pub fn fitting(&self, width: usize) -> Vec<Column> {
        const LEAST_NAME: usize = 16;
        let mut left = width;
        let mut columns = Vec::new();
        for column in &self.columns {
            let needs = 1 + if *column == Column::Name { LEAST_NAME } else { column.width() };
            if needs > left {
                break;
            }
            left -= needs;
            columns.push(*column);
        }
        if columns.is_empty() { self.columns.iter().take(1).copied().collect() } else { columns }
    }

    fn title(&self, column: Column, name: usize) -> String {
        let sorted = column == self.wishes.sort;
        // An arrow beside a heading that has room for it.
        let mark = if self.wishes.reverse { "▲" } else { "▼" };
        let text = if sorted { format!("{mark}{}", column.name()) } else { column.name().to_string() };
        pad(&text, width_of(column, name), !column.is_text())
    }

    fn bottom(&self) -> Line {
        if let Some(message) = &self.message {
            return Line::of(Style::Bad, message);
        }
        let keys = match &self.mode {
            Mode::Filter(text) => {
                return Line::of(Style::Bold, "filter: ")
                    .and(Style::Plain, text)
                    .and(Style::Reverse, " ")
                    .and(
                        Style::Dim,
                        "  a part of the name, or a condition: cpu > 10 && memory > 100M  Enter Esc",
                    );
            }
            Mode::Help => "any key: back",
            Mode::Columns(_) => "↑↓ move  Space show or hide  Enter back",
            Mode::Table => "q quit  Enter details  e shell  s sort  / filter  c columns  t tree  ? help",
        };
        Line::of(Style::Dim, keys)
    }

    fn choose(&self, canvas: &mut Canvas, at: usize) {
        let all: Vec<Column> = Column::all().collect();
        let page = canvas.left().saturating_sub(1).max(1);
        let first = (at + 1).saturating_sub(page);
        for (n, column) in all.iter().enumerate().skip(first).take(page) {
            let mark = if self.columns.contains(column) { "x" } else { " " };
            let text = format!("[{mark}] {:<10} {}", column.name(), column.about());
            let line = Line::plain(&text);
            canvas.push(if n == at { line.all(Style::Reverse) } else { line });
        }
    }
}

fn width_of(column: Column, name: usize) -> usize {
    if column == Column::Name { name } else { column.width() }
}

/// The name takes what the others leave.
fn name_width(columns: &[Column], width: usize) -> usize {
    let others: usize = columns.iter().filter(|c| **c != Column::Name).map(|c| c.width() + 1).sum();
    width.saturating_sub(others).clamp(1, 60)
}

fn line(depth: usize, row: &Row, columns: &[Column], name: usize, selected: bool) -> Line {
    let mut line = Line::default();
    for (n, column) in columns.iter().enumerate() {
        if n > 0 {
            line = line.and(Style::Plain, " ");
        }
        let text = match column {
            Column::Name if depth > 0 => {
                let last = row.path.rsplit('/').next().unwrap_or_default();
                let shown = if row.name == row.path { last } else { &row.name };
                format!("{}{shown}", "  ".repeat(depth))
            }
            other => other.text(row),
        };
        let text = pad(&text, width_of(*column, name), !column.is_text());
        line = line.and(style(*column, row), &text);
    }
    if selected { line.all(Style::Reverse) } else { line }
}

fn style(column: Column, row: &Row) -> Style {
    match column {
        Column::Name if row.is_container => Style::Name,
        Column::Throttled | Column::PsiCpu | Column::PsiMemory | Column::PsiIo => {
            column.number(row).map_or(Style::Dim, warmth)
        }
        Column::MemoryPercent => match column.number(row) {
            Some(n) if n >= 90.0 => Style::Bad,
            Some(n) if n >= 75.0 => Style::Warn,
            _ => Style::Plain,
        },
        Column::Oom if column.number(row).is_some_and(|n| n > 0.0) => Style::Bad,
        Column::Cpu if column.number(row).is_some_and(|n| n >= 90.0) => Style::Warn,
        _ => Style::Plain,
    }
}

/// A share of time lost.
fn warmth(percent: f64) -> Style {
    match percent {
        p if p >= 20.0 => Style::Bad,
        p if p >= 5.0 => Style::Warn,
        _ => Style::Plain,
    }
}

fn help(canvas: &mut Canvas) {
    for (keys, what) in [
        ("q, Ctrl-C", "quit"),
        ("↑ ↓ j k, PgUp PgDn, Home End", "select a row"),
        ("Enter, d", "pane about the selected row: limits, pressure, processes"),
        ("e", "a shell in the selected container"),
        ("s S, ← →, < >", "sort by the next or previous column"),
        ("P M I N", "sort by processor, memory, input and output, name"),
        ("r", "the other way round"),
        ("/", "filter: a part of the name, or cpu > 10 && memory > 100M"),
        ("Esc", "close the pane, drop the filter"),
        ("c", "choose columns"),
        ("t", "cgroups as a tree"),
        ("o", "containers only"),
        ("p, Space", "pause"),
        ("+ -", "longer or shorter interval"),
        ("Ctrl-L, Ctrl-Z", "draw anew, suspend"),
    ] {
        canvas.push(Line::of(Style::Bold, &pad(keys, 32, false)).and(Style::Plain, what));
    }
    canvas.push(Line::plain(""));
    canvas.push(Line::of(
        Style::Dim,
        "'-' is a figure that the kernel does not keep for this cgroup. 100% is one processor.",
    ));
}
