//! `monitor top`: every cgroup with processes, the busiest first; on a terminal as a full screen ([`crate::tui`]).

use super::topcolumns::{Column, for_conditions, sort, value};
use super::topneeds::scope;
use crate::Session;
use crate::args::Top;
use crate::model::sampler::{Row, Sampler};
use crate::query::Query;
use drydock_cli::output::{print_text, table};
use drydock_core::{Error, Result};
use std::io::IsTerminal;

/// What a line of text shows when nothing was asked.
const USUAL: [Column; 12] = [
    Column::Name,
    Column::Procs,
    Column::Cpu,
    Column::Memory,
    Column::Anon,
    Column::File,
    Column::Kernel,
    Column::Shmem,
    Column::Swap,
    Column::Read,
    Column::Write,
    Column::PsiMemory,
];

/// What was asked, understood.
#[derive(Clone, Debug)]
pub struct Wishes {
    /// The column to sort by.
    pub sort: Column,
    /// The other way round.
    pub reverse: bool,
    /// Columns, if they were named.
    pub columns: Option<Vec<Column>>,
    /// Which rows.
    pub filter: Option<Query>,
    /// Containers only.
    pub containers: bool,
}

impl Wishes {
    /// Understands the options.
    ///
    /// # Errors
    /// Bad input: unknown columns, bad conditions.
    pub fn of(options: &Top) -> Result<Self> {
        let sort = match &options.sort {
            Some(name) => Column::named(name).ok_or_else(|| Column::unknown("--sort", name))?,
            None => Column::Cpu,
        };
        let columns =
            options.output.as_deref().map(|list| Column::list("--output", list, &USUAL)).transpose()?;
        let filter = options.filter.as_deref().map(condition).transpose()?;
        Ok(Self { sort, reverse: options.reverse, columns, filter, containers: options.containers })
    }

    /// Whether a row was asked for.
    pub fn wants(&self, row: &Row) -> bool {
        (!self.containers || row.is_container)
            && self.filter.as_ref().is_none_or(|q| q.holds(&|column| value(row, column)))
    }
}

/// A condition on these columns; a word without an operator is a part of the name.
///
/// # Errors
/// Bad input.
pub fn condition(text: &str) -> Result<Query> {
    let names = for_conditions();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    Query::parse(text, &names)
}

/// `monitor top`.
///
/// # Errors
/// When /proc or the state directory cannot be read; bad input.
pub fn top(session: &Session, options: &Top) -> Result<()> {
    let wishes = Wishes::of(options)?;
    if let Some(size) = options.snapshot {
        return print_text(&crate::tui::snapshot(session, options, wishes, size)?);
    }
    let count = if options.sampling.once { Some(1) } else { options.count };
    if !(session.json || options.batch || count.is_some()) {
        return screen(session, options, wishes);
    }
    let mut sampler = Sampler::new(session.root.as_deref());
    if !session.json {
        let mut columns = wishes.columns.clone().unwrap_or_else(|| USUAL.to_vec());
        columns.push(wishes.sort);
        sampler.scope = scope(&columns, wishes.filter.as_ref());
    }
    sampler.sample(&session.proc, &|_| true)?;
    warn_of(&sampler);
    let mut shown = 0;
    while count.is_none_or(|count| shown < count) {
        std::thread::sleep(options.sampling.interval());
        let mut rows = sampler.sample(&session.proc, &|_| true)?;
        rows.retain(|row| wishes.wants(row));
        sort(&mut rows, wishes.sort, wishes.reverse);
        shown += 1;
        print(session, &rows, &wishes, count == Some(1), count == Some(shown))?;
    }
    Ok(())
}

fn screen(session: &Session, options: &Top, wishes: Wishes) -> Result<()> {
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let term = std::env::var("TERM").unwrap_or_default();
    if !terminal || term.is_empty() || term == "dumb" {
        let problem = if terminal { "the terminal cannot be drawn on (TERM)" } else { "not a terminal" };
        let hint = "--once prints the figures once, --batch again and again, --json for programs";
        return Err(Error::bad_input("top", format!("{problem}: no full screen")).hint(hint));
    }
    crate::tui::run(session, options, wishes)
}

/// Says what could not be read.
pub fn warn_of(sampler: &Sampler) {
    match sampler.unreadable() {
        0 => {}
        1 => super::notes(&["the state of 1 container could not be read".to_string()]),
        n => super::notes(&[format!("the state of {n} containers could not be read")]),
    }
}

fn print(session: &Session, rows: &[Row], wishes: &Wishes, single: bool, last: bool) -> Result<()> {
    if session.json {
        return if single { session.print(rows) } else { session.print_sample(rows) };
    }
    let columns = wishes.columns.as_deref().unwrap_or(&USUAL);
    let gap = if last { "" } else { "\n" };
    print_text(&format!("{}{gap}", text(rows, columns)))
}

/// Rows as a table.
pub fn text(rows: &[Row], columns: &[Column]) -> String {
    let header: Vec<&str> = columns.iter().map(|c| c.name()).collect();
    let cell = |row: &Row, column: &Column| match column {
        Column::Name => drydock_core::text::shorten(&row.name, 50),
        other => other.text(row),
    };
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| columns.iter().map(|column| cell(row, column)).collect()).collect();
    table(&header, &cells)
}
