//! `monitor group --by TYPE`.

use crate::Session;
use crate::model::scan::{Depth, Scan, scan};
use drydock_cli::output::{print_line, print_text, table};
use drydock_core::Result;
use drydock_namespaces::Kind;
use serde::Serialize;
use std::collections::BTreeMap;

/// The answer: every readable process is in exactly one group.
#[derive(Serialize)]
struct Groups {
    by: &'static str,
    groups: Vec<Group>,
    /// Processes that exist but whose namespaces are closed to us.
    unreadable: Vec<u32>,
    /// Processes that have left their namespaces: they have ended and wait for their parents (zombies).
    without: Vec<u32>,
}

#[derive(Serialize)]
struct Group {
    /// `pid:[4026531836]`.
    namespace: String,
    inode: u64,
    nprocs: usize,
    processes: Vec<Member>,
}

#[derive(Serialize)]
struct Member {
    pid: u32,
    command: String,
}

/// `monitor group`.
///
/// # Errors
/// When /proc cannot be listed.
pub fn group(session: &Session, by: Kind) -> Result<()> {
    let Scan { processes, unreadable, .. } = scan(&session.proc, Depth::Processes)?;
    let mut by_inode: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    let mut without = Vec::new();
    for process in processes {
        match process.namespace(by) {
            Some(inode) => by_inode.entry(inode).or_default().push(process.pid),
            None => without.push(process.pid),
        }
    }
    let member = |pid: u32| Member { pid, command: session.proc.command(pid) };
    let group = |(inode, pids): (u64, Vec<u32>)| Group {
        namespace: format!("{by}:[{inode}]"),
        inode,
        nprocs: pids.len(),
        processes: pids.into_iter().map(member).collect(),
    };
    let groups = by_inode.into_iter().map(group).collect();
    print(session, &Groups { by: by.proc_name(), groups, unreadable, without })
}

fn print(session: &Session, found: &Groups) -> Result<()> {
    if session.json {
        return session.print(&found);
    }
    for group in &found.groups {
        let plural = if group.nprocs == 1 { "process" } else { "processes" };
        print_line(&format!("{}  {} {plural}", group.namespace, group.nprocs))?;
        let row = |m: &Member| vec![format!("  {}", m.pid), m.command.clone()];
        print_text(&table(&["  PID", "COMMAND"], &group.processes.iter().map(row).collect::<Vec<_>>()))?;
    }
    if !found.without.is_empty() {
        print_line(&format!("ended, waiting for their parents: {} processes", found.without.len()))?;
    }
    if !found.unreadable.is_empty() {
        print_line(&format!("unreadable: {} processes", found.unreadable.len()))?;
    }
    Ok(())
}
