//! `monitor ns ls`.

use crate::Session;
use crate::model::namespaces::{Namespace, inventory};
use crate::model::relations::Relation;
use crate::model::scan::{Depth, Id, LINKS, read_process};
use crate::model::target::{Target, unreadable};
use drydock_cli::output::{print_json, print_text, table};
use drydock_core::Result;
use drydock_namespaces::Kind;
use serde::Serialize;
use std::collections::BTreeMap;
use std::num::NonZeroU64;

/// The answer.
#[derive(Serialize)]
struct List {
    namespaces: Vec<Row>,
    /// Processes whose namespaces are closed to us.
    unreadable: usize,
    /// What could not be seen, in sentences.
    notes: Vec<String>,
}

/// One namespace; `ns`, `type`, `nprocs`, `pid` and `command` mean the same as in `lsns --json`.
#[derive(Serialize)]
struct Row {
    ns: u64,
    #[serde(rename = "type")]
    kind: &'static str,
    nprocs: usize,
    pid: Option<u32>,
    uid: Option<u32>,
    command: Option<String>,
    held_by: Holders,
    owner: Relation,
    parent: Relation,
}

/// What keeps it alive.
#[derive(Serialize)]
struct Holders {
    /// Processes in it.
    processes: usize,
    /// Threads in it whose process is not.
    threads: Vec<Thread>,
    /// Descriptors open on it.
    fds: Vec<Descriptor>,
    /// Processes whose next children will be in it.
    for_children_of: Vec<u32>,
    /// Bind mounts of it.
    mounts: Vec<Mounted>,
}

#[derive(Serialize)]
struct Thread {
    pid: u32,
    tid: u32,
}

#[derive(Serialize)]
struct Descriptor {
    pid: u32,
    fd: u32,
}

#[derive(Serialize)]
struct Mounted {
    /// Path as `seen_by` shows it.
    path: String,
    /// A process in a mount namespace that has the mount.
    seen_by: u32,
}

/// `monitor ns ls`.
///
/// # Errors
/// When /proc cannot be read, or the one process that was asked for.
pub fn list(session: &Session, only: Option<&Target>, types: &[Kind], persistent: bool) -> Result<()> {
    let of_process = only.map(|target| of_process(session, target.pid)).transpose()?;
    let found = inventory(&session.proc)?;
    let wanted = |(id, ns): &(&Id, &Namespace)| {
        (types.is_empty() || types.contains(&id.0))
            && of_process.as_ref().is_none_or(|ids| ids.contains(id))
            && !(persistent && ns.nprocs > 0)
            // Ancestors that only ioctl led to are no mounts or descriptors: nothing of their own holds them.
            && !(persistent && ns.mounts.is_empty() && ns.fds.is_empty())
    };
    let mut known = Known::new();
    let chosen = found.namespaces.iter().filter(wanted);
    let mut rows: Vec<Row> = chosen.map(|(id, ns)| row(session, &mut known, *id, ns)).collect();
    rows.sort_by_key(|r| (r.ns, r.kind));
    let notes = found.notes();
    if session.json {
        return print_json(&List { namespaces: rows, unreadable: found.scan.unreadable.len(), notes });
    }
    let header = ["NS", "TYPE", "NPROCS", "PID", "UID", "HELD-BY", "COMMAND"];
    print_text(&table(&header, &rows.iter().map(cells).collect::<Vec<_>>()))?;
    super::notes(&notes);
    Ok(())
}

fn of_process(session: &Session, pid: u32) -> Result<Vec<Id>> {
    let process = read_process(&session.proc, pid, Depth::Processes).map_err(|e| unreadable(pid, "ns", e))?;
    let links = process.map(|p| p.links).unwrap_or_default();
    let ids =
        LINKS.iter().zip(links).filter_map(|((_, kind, _), ino)| Some((*kind, ino.map(NonZeroU64::get)?)));
    Ok(ids.collect())
}

/// User and command of processes that stand for a namespace: one process often does for several.
type Known = BTreeMap<u32, (Option<u32>, String)>;

fn row(session: &Session, known: &mut Known, (kind, inode): Id, ns: &Namespace) -> Row {
    // The owner of /proc/PID is its effective uid, or root when it is not dumpable; lsns shows the same.
    let uid = |pid: u32| {
        rustix::fs::statat(session.proc.root(), pid.to_string(), rustix::fs::AtFlags::empty()).ok()
    };
    let look = |pid: u32| (uid(pid).map(|stat| stat.st_uid), session.proc.command(pid));
    let process = ns.pid.map(|pid| known.entry(pid).or_insert_with(|| look(pid)).clone());
    Row {
        ns: inode,
        kind: kind.proc_name(),
        nprocs: ns.nprocs,
        pid: ns.pid,
        uid: process.as_ref().and_then(|(uid, _)| *uid),
        command: process.map(|(_, command)| command),
        held_by: Holders {
            processes: ns.nprocs,
            threads: ns.threads.iter().map(|(pid, tid)| Thread { pid: *pid, tid: *tid }).collect(),
            fds: ns.fds.iter().map(|(pid, fd)| Descriptor { pid: *pid, fd: *fd }).collect(),
            for_children_of: ns.for_children_of.clone(),
            mounts: ns
                .mounts
                .iter()
                .map(|(pid, path)| Mounted { path: path.clone(), seen_by: *pid })
                .collect(),
        },
        owner: ns.owner,
        parent: ns.parent,
    }
}

fn cells(row: &Row) -> Vec<String> {
    vec![
        row.ns.to_string(),
        row.kind.to_string(),
        row.nprocs.to_string(),
        super::or_dash(row.pid),
        super::or_dash(row.uid),
        held_by(&row.held_by),
        row.command.clone().unwrap_or_else(|| describe(&row.held_by)),
    ]
}

/// The kinds of holders, as one word.
fn held_by(h: &Holders) -> String {
    let holders = [
        ("process", h.processes > 0),
        ("thread", !h.threads.is_empty()),
        ("fd", !h.fds.is_empty()),
        ("children", !h.for_children_of.is_empty()),
        ("mount", !h.mounts.is_empty()),
    ];
    let names: Vec<&str> = holders.iter().filter(|(_, held)| *held).map(|(name, _)| *name).collect();
    if names.is_empty() { "descendant".to_string() } else { names.join(",") }
}

/// The first holder of a namespace without processes, in words.
fn describe(h: &Holders) -> String {
    let mount = h.mounts.first().map(|m| format!("mounted at {} (seen by {})", m.path, m.seen_by));
    let thread = h.threads.first().map(|t| format!("thread {} of process {}", t.tid, t.pid));
    let fd = h.fds.first().map(|f| format!("descriptor {} of process {}", f.fd, f.pid));
    let child = h.for_children_of.first().map(|pid| format!("for children of process {pid}"));
    mount.or(thread).or(fd).or(child).unwrap_or_else(|| "above another namespace".to_string())
}
