//! `monitor pidmap|tree|ps`.

use super::pscolumns::{Column, Shown};
use crate::Session;
use crate::model::processes::{self, Row};
use crate::model::scan::{Depth, scan};
use crate::model::target::{Target, unreadable};
use crate::procfs::status;
use drydock_cli::output::{print_text, table};
use drydock_core::text::escape;
use drydock_core::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Serialize)]
struct PidMap {
    pid: u32,
    /// Outermost (the reader's) first; the last is the pid inside.
    nspid: Vec<u32>,
    command: String,
}

/// `monitor pidmap`: one column for each pid namespace.
///
/// # Errors
/// When the process has gone, or the kernel does not tell (before Linux 4.1).
pub fn pidmap(session: &Session, target: &Target) -> Result<()> {
    let pid = target.pid;
    let text = session.proc.text(&format!("{pid}/status")).map_err(|e| unreadable(pid, "status", e))?;
    let nspid = status::parse(&text).nspid;
    if nspid.is_empty() {
        return Err(Error::failed(
            format!("process {pid}"),
            "the kernel shows no NSpid (Linux 4.1 and newer do)",
        ));
    }
    let command = session.proc.command(pid);
    if session.json {
        return session.print(&PidMap { pid, nspid, command });
    }
    let header: Vec<String> = (0..nspid.len()).map(|level| format!("LEVEL{level}")).collect();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    print_text(&table(&header, &[nspid.iter().map(ToString::to_string).collect()]))
}

#[derive(Serialize)]
struct Listed<'a> {
    depth: usize,
    #[serde(flatten)]
    row: &'a Row,
}

/// `monitor tree`.
///
/// # Errors
/// When the process is unknown.
pub fn tree(session: &Session, target: Option<&str>) -> Result<()> {
    let target = target.map(|text| session.target(text)).transpose()?;
    let mut rows = processes::all(&session.proc)?;
    let spaces = scan(&session.proc, Depth::Processes)?.processes.into_iter().map(|p| (p.pid, p)).collect();
    processes::mark_boundaries(&mut rows, &spaces);
    let starts = target.map_or_else(|| processes::roots(&rows), |t| vec![t.pid]);
    let order: Vec<(usize, u32)> =
        starts.into_iter().flat_map(|pid| processes::subtree(&rows, pid)).collect();
    let listed: Vec<Listed> =
        order.iter().filter_map(|(depth, pid)| Some(Listed { depth: *depth, row: rows.get(pid)? })).collect();
    if session.json {
        return session.print(&listed);
    }
    let names = container_names(session);
    print_text(&listed.iter().map(|l| tree_line(l.depth, l.row, &names)).collect::<String>())
}

/// First processes of Drydock containers by pid; none if the state cannot be read (the tree stands without names).
fn container_names(session: &Session) -> BTreeMap<u32, String> {
    let (found, _) = crate::model::target::containers(session.root.as_deref()).unwrap_or_default();
    found.into_iter().filter_map(|c| Some((c.pid?, c.id))).collect()
}

/// `name(pid)` as pstree -p has it; then the pid inside, the container, and the namespaces that begin here.
pub fn tree_line(depth: usize, row: &Row, containers: &BTreeMap<u32, String>) -> String {
    let mut text = format!("{}{}({})", "  ".repeat(depth), escape(&row.comm), row.pid);
    if row.pids.len() > 1 {
        text.push_str(&format!(" inside {}", super::or_dash(row.inside_pid)));
    }
    if let Some(name) = containers.get(&row.pid) {
        text.push_str(&format!(" [container {}]", escape(name)));
    }
    if !row.new_namespaces.is_empty() {
        text.push_str(&format!(" [new {}]", row.new_namespaces.join(" ")));
    }
    text.push('\n');
    text
}

/// `monitor ps`.
///
/// # Errors
/// When the process is unknown; unknown columns.
pub fn ps(session: &Session, target: Option<&str>, output: Option<&str>) -> Result<()> {
    let columns = Column::list(output)?;
    let target = target.map(|text| session.target(text)).transpose()?;
    let mut rows = processes::all(&session.proc)?;
    if columns.iter().any(|c| c.name() == "ns") {
        let spaces = scan(&session.proc, Depth::Processes)?.processes;
        processes::mark_boundaries(&mut rows, &spaces.into_iter().map(|p| (p.pid, p)).collect());
    }
    let members = target.map(|t| processes::members(&session.proc, &rows, t.pid));
    let listed: Vec<&Row> =
        rows.values().filter(|r| members.as_ref().is_none_or(|m| m.contains(&r.pid))).collect();
    if output.is_none() {
        if session.json {
            return session.print(&listed);
        }
        let header = ["PID", "INSIDE", "PPID", "UID", "STAT", "%CPU", "%MEM", "RSS", "TIME", "COMMAND"];
        return print_text(&table(&header, &listed.iter().map(|row| cells(row)).collect::<Vec<_>>()));
    }
    let shown = listed.into_iter().map(|row| Shown::new(session, row));
    let cells: Vec<Vec<String>> =
        shown.map(|shown| columns.iter().map(|c| c.text(&shown)).collect()).collect();
    if session.json {
        let named = |cells: &Vec<String>| -> BTreeMap<&str, String> {
            columns.iter().map(Column::name).zip(cells.iter().cloned()).collect()
        };
        return session.print(&cells.iter().map(named).collect::<Vec<_>>());
    }
    let header: Vec<String> = columns.iter().map(|c| c.name().to_ascii_uppercase()).collect();
    print_text(&table(&header.iter().map(String::as_str).collect::<Vec<_>>(), &cells))
}

/// The columns of ps.
pub fn cells(row: &Row) -> Vec<String> {
    vec![
        row.pid.to_string(),
        super::or_dash(row.inside_pid),
        row.ppid.to_string(),
        super::or_dash(row.uid),
        row.state.to_string(),
        format!("{:.1}", row.cpu_percent),
        format!("{:.1}", row.memory_percent),
        drydock_core::size::show(row.rss_bytes),
        format!("{:.1}s", row.cpu_seconds),
        row.command.clone(),
    ]
}
