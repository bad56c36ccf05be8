//! `monitor ns tree --by owner|parent|process`.

use crate::Session;
use crate::model::namespaces::{Inventory, inventory};
use crate::model::processes::{self, Row};
use crate::model::relations::Relation;
use crate::model::scan::{Depth, Id, scan};
use drydock_cli::output::print_text;
use drydock_core::Result;
use drydock_core::text::escape;
use drydock_namespaces::Kind;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// A namespace in the tree.
#[derive(Debug, Serialize)]
struct Node {
    ns: u64,
    #[serde(rename = "type")]
    kind: &'static str,
    nprocs: usize,
    pid: Option<u32>,
    command: Option<String>,
    /// How far below its root.
    depth: usize,
    /// What stands above it: an inode number, or why that is not known.
    above: Relation,
}

/// `monitor ns tree`.
///
/// # Errors
/// When /proc cannot be read.
pub fn tree(session: &Session, by: &str) -> Result<()> {
    if by == "process" {
        return by_process(session);
    }
    let found = inventory(&session.proc)?;
    let nodes = order(session, &found, by == "owner");
    if session.json {
        return session.print(&nodes);
    }
    print_text(&nodes.iter().map(line).collect::<String>())?;
    super::notes(&found.notes());
    Ok(())
}

/// Depth first; each namespace once. By owner, namespaces stand below the user namespace that owns them; by parent only
/// pid and user namespaces are in the tree.
fn order(session: &Session, found: &Inventory, by_owner: bool) -> Vec<Node> {
    let above = |id: &Id| {
        let ns = found.namespaces.get(id)?;
        Some(if by_owner { ns.owner } else { ns.parent })
    };
    let above_id = |id: &Id| {
        let kind = if by_owner { Kind::User } else { id.0 };
        above(id)?.inode().map(|inode| (kind, inode))
    };
    let ids = found.namespaces.keys().filter(|id| by_owner || matches!(id.0, Kind::Pid | Kind::User));
    let mut children: BTreeMap<Id, Vec<Id>> = BTreeMap::new();
    let mut waiting: Vec<(usize, Id)> = Vec::new();
    for id in ids {
        match above_id(id).filter(|above| found.namespaces.contains_key(above) && above != id) {
            Some(above) => children.entry(above).or_default().push(*id),
            None => waiting.push((0, *id)),
        }
    }
    waiting.reverse();
    let mut nodes = Vec::new();
    let mut seen = BTreeSet::new();
    while let Some((depth, id)) = waiting.pop() {
        let Some(ns) = found.namespaces.get(&id).filter(|_| seen.insert(id)) else { continue };
        nodes.push(Node {
            ns: id.1,
            kind: id.0.proc_name(),
            nprocs: ns.nprocs,
            pid: ns.pid,
            command: ns.pid.map(|pid| session.proc.command(pid)),
            depth,
            above: above(&id).unwrap_or_default(),
        });
        waiting.extend(children.remove(&id).unwrap_or_default().into_iter().rev().map(|id| (depth + 1, id)));
    }
    nodes
}

fn line(node: &Node) -> String {
    let who = match (node.pid, &node.command) {
        (Some(pid), Some(command)) => format!("  pid {pid} {}", escape(command)),
        _ => String::new(),
    };
    let above = match node.above {
        Relation::Outside if node.depth == 0 => "  (what is above is outside your view)",
        Relation::Unreadable => "  (what is above could not be read)",
        _ => "",
    };
    let plural = if node.nprocs == 1 { "process" } else { "processes" };
    format!("{}{}:[{}]  {} {plural}{who}{above}\n", "  ".repeat(node.depth), node.kind, node.ns, node.nprocs)
}

/// A process at which namespaces begin.
#[derive(Serialize)]
struct Start {
    pid: u32,
    depth: usize,
    command: String,
    /// Types in which it differs from its parent, with inode numbers; for a root of the tree all its namespaces.
    namespaces: BTreeMap<&'static str, u64>,
}

/// Processes whose namespaces differ from their parent's, under each other.
fn by_process(session: &Session) -> Result<()> {
    let found = scan(&session.proc, Depth::Processes)?;
    let spaces: BTreeMap<u32, _> = found.processes.into_iter().map(|p| (p.pid, p)).collect();
    let mut rows = processes::all(&session.proc)?;
    processes::mark_boundaries(&mut rows, &spaces);
    let mut starts = Vec::new();
    for root in processes::roots(&rows) {
        // Depth counts only the processes that are shown: kept by a stack of (tree depth, shown depth).
        let mut shown: Vec<(usize, usize)> = Vec::new();
        for (depth, pid) in processes::subtree(&rows, root) {
            let (Some(row), Some(process)) = (rows.get(&pid), spaces.get(&pid)) else { continue };
            if depth > 0 && row.new_namespaces.is_empty() {
                continue;
            }
            while shown.last().is_some_and(|(above, _)| *above >= depth) {
                shown.pop();
            }
            let level = shown.last().map_or(0, |(_, level)| level + 1);
            shown.push((depth, level));
            let kinds = Kind::ALL.into_iter().filter(|k| depth == 0 || begins(row, *k));
            let namespaces = kinds.filter_map(|k| Some((k.proc_name(), process.namespace(k)?))).collect();
            starts.push(Start { pid, depth: level, command: row.command.clone(), namespaces });
        }
    }
    if session.json {
        return session.print(&starts);
    }
    let text = |s: &Start| {
        let list: Vec<String> =
            s.namespaces.iter().map(|(kind, inode)| format!("{kind}:[{inode}]")).collect();
        format!("{}{} {}  {}\n", "  ".repeat(s.depth), s.pid, escape(&s.command), list.join(" "))
    };
    print_text(&starts.iter().map(text).collect::<String>())
}

fn begins(row: &Row, kind: Kind) -> bool {
    row.new_namespaces.contains(&kind.proc_name())
}
