//! `monitor ns ls`.

use super::nscolumns::{Column, Row, Rows};
use crate::Session;
use crate::args::List;
use crate::model::namespaces::{Namespace, inventory};
use crate::model::scan::{Depth, Id, LINKS, read_process};
use crate::model::target::unreadable;
use crate::query::Query;
use drydock_cli::output::print_text;
use drydock_core::{Error, Result};
use serde::Serialize;
use std::num::NonZeroU64;

/// The answer.
#[derive(Serialize)]
struct Document<'a> {
    namespaces: &'a [Row],
    /// Processes whose namespaces are closed to us.
    unreadable: usize,
    /// What could not be seen, in sentences.
    notes: Vec<String>,
}

/// What to show when nothing was asked.
const DEFAULT: [Column; 7] =
    [Column::Ns, Column::Type, Column::Nprocs, Column::Pid, Column::Uid, Column::HeldBy, Column::Command];

/// `monitor ns ls`.
///
/// # Errors
/// When /proc cannot be read, or the one process that was asked for; bad columns and filters.
pub fn list(session: &Session, options: &List) -> Result<()> {
    let columns = columns(options)?;
    let names: Vec<String> = Column::ALL.iter().map(|c| c.name().to_ascii_lowercase()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let query = options.filter.as_deref().map(|text| Query::parse(text, &names)).transpose()?;
    let of_process = match &options.pid {
        Some(text) => Some(of_process(session, session.target(text)?.pid)?),
        None => None,
    };
    let found = inventory(&session.proc)?;
    if let Some(inode) = options.namespace {
        return super::nsmembers::members(session, &found, inode, options);
    }
    let wanted = |(id, ns): &(&Id, &Namespace)| {
        (options.types.is_empty() || options.types.contains(&id.0))
            && of_process.as_ref().is_none_or(|ids| ids.contains(id))
            // Ancestors that only ioctl led to are no mounts or descriptors: nothing of their own holds them.
            && !(options.persistent && (ns.nprocs > 0 || !ns.is_held()))
    };
    let needs = Column::needs(&columns, query.is_some() || session.json);
    let mut rows = Rows::new(session, needs);
    let chosen = found.namespaces.iter().filter(wanted);
    let mut rows: Vec<Row> = chosen.map(|(id, ns)| rows.row(*id, ns)).collect();
    rows.retain(|row| query.as_ref().is_none_or(|q| q.holds(&|column| Column::named(column)?.value(row))));
    rows.sort_by_key(|r| (r.ns, r.kind));
    let notes = found.notes();
    if session.json {
        let document = Document { namespaces: &rows, unreadable: found.scan.unreadable.len(), notes };
        return session.print_rows(&document, &rows);
    }
    let header: Vec<&str> = columns.iter().map(|c| c.name()).collect();
    let cell = |row: &Row, column: &Column| column.value(row).unwrap_or_else(|| "-".to_string());
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| columns.iter().map(|column| cell(row, column)).collect()).collect();
    print_text(&super::table::render(&header, &cells, &options.look()))?;
    super::notes(&notes);
    Ok(())
}

/// The columns that were asked for; a leading `+` adds to the usual ones.
fn columns(options: &List) -> Result<Vec<Column>> {
    if options.output_all {
        return Ok(Column::ALL.to_vec());
    }
    let Some(list) = options.output.as_deref() else { return Ok(DEFAULT.to_vec()) };
    let (mut columns, list) = match list.strip_prefix('+') {
        Some(rest) => (DEFAULT.to_vec(), rest),
        None => (Vec::new(), list),
    };
    for name in list.split(',') {
        let column = Column::named(name.trim()).ok_or_else(|| {
            let shown = drydock_core::text::shorten(&drydock_core::text::escape(name), 40);
            let all: Vec<&str> = Column::ALL.iter().map(|c| c.name()).collect();
            Error::bad_input("--output", format!("unknown column '{shown}' (allowed: {})", all.join(", ")))
        })?;
        columns.push(column);
    }
    Ok(columns)
}

fn of_process(session: &Session, pid: u32) -> Result<Vec<Id>> {
    let process = read_process(&session.proc, pid, Depth::Processes).map_err(|e| unreadable(pid, "ns", e))?;
    let links = process.map(|p| p.links).unwrap_or_default();
    let ids =
        LINKS.iter().zip(links).filter_map(|((_, kind, _), ino)| Some((*kind, ino.map(NonZeroU64::get)?)));
    Ok(ids.collect())
}
