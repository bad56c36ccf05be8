//! `monitor stats` of several containers, or of all, in one pass.

use super::top::{text, warn_of};
use super::topcolumns::{Column, sort};
use super::topneeds::scope;
use crate::Session;
use crate::args::Stats;
use crate::model::sampler::{Row, Sampler};
use crate::model::units::Unit;
use drydock_cli::output::print_text;
use drydock_core::Result;

const COLUMNS: [Column; 14] = [
    Column::Name,
    Column::Runtime,
    Column::Cpu,
    Column::Throttled,
    Column::Memory,
    Column::Limit,
    Column::MemoryPercent,
    Column::Peak,
    Column::Read,
    Column::Write,
    Column::Rx,
    Column::Tx,
    Column::Pids,
    Column::PsiMemory,
];

/// `monitor stats [PID|ID]…`.
///
/// # Errors
/// Unknown targets; when /proc or the state directory cannot be read.
pub fn stats(session: &Session, options: &Stats) -> Result<()> {
    let pids: Vec<u32> =
        options.targets.iter().map(|t| session.target(t).map(|t| t.pid)).collect::<Result<_>>()?;
    let wanted = |unit: &Unit| match pids.as_slice() {
        [] => options.all || unit.is_container(),
        pids => unit.pids.iter().any(|pid| pids.contains(pid)),
    };
    let samples = options.samples();
    let mut sampler = Sampler::new(session.root.as_deref());
    if !session.json {
        sampler.scope = scope(&COLUMNS, None);
    }
    sampler.sample(&session.proc, &wanted)?;
    warn_of(&sampler);
    let mut shown = 0;
    loop {
        std::thread::sleep(options.sampling.interval());
        let mut rows = sampler.sample(&session.proc, &wanted)?;
        sort(&mut rows, Column::Name, false);
        print(session, &rows, samples == Some(1))?;
        shown += 1;
        // Those that were named have all ended.
        if samples.is_some_and(|n| shown >= n) || (rows.is_empty() && !pids.is_empty()) {
            return Ok(());
        }
    }
}

fn print(session: &Session, rows: &[Row], once: bool) -> Result<()> {
    match (session.json, once) {
        (true, true) => session.print(rows),
        (true, false) => session.print_sample(rows),
        (false, true) => print_text(&text(rows, &COLUMNS)),
        (false, false) => print_text(&format!("{}\n", text(rows, &COLUMNS))),
    }
}
