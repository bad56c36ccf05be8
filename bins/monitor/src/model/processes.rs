//! Processes with both their pids, their share of the machine, and who started whom.

use super::scan::{Depth, Process, read_process};
use crate::procfs::{Proc, stat, status};
use drydock_namespaces::Kind;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// One process, as ps shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Pid as the reader sees it.
    pub pid: u32,
    /// Parent, as the reader sees it.
    pub ppid: u32,
    /// Pid in the process's own pid namespace.
    pub inside_pid: Option<u32>,
    /// Pid in every pid namespace from the reader's to its own.
    pub pids: Vec<u32>,
    /// Real user id.
    pub uid: Option<u32>,
    /// R, S, D, Z, T …
    pub state: char,
    /// Processor time used so far, in seconds.
    pub cpu_seconds: f64,
    /// Share of one processor over the process's life, as ps counts %CPU.
    pub cpu_percent: f64,
    /// Share of the machine's memory, as ps counts %MEM.
    pub memory_percent: f64,
    /// Resident memory in bytes.
    pub rss_bytes: u64,
    /// Threads.
    pub threads: u32,
    /// Its command line, or `[comm]`.
    pub command: String,
    /// Its short name.
    pub comm: String,
    /// Namespaces that differ from its parent's.
    pub new_namespaces: Vec<&'static str>,
}

/// The machine's figures that percentages need.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    ticks: f64,
    uptime: f64,
    memory: u64,
    page: u64,
}

impl Machine {
    /// Reads `/proc/uptime` and `/proc/meminfo`; what cannot be read counts as unknown, and percentages as 0.
    pub fn read(proc: &Proc) -> Self {
        let first = |text: String| text.split_ascii_whitespace().next().and_then(|w| w.parse().ok());
        let uptime = proc.text("uptime").ok().and_then(first).unwrap_or(0.0);
        let meminfo = proc.text("meminfo").unwrap_or_default();
        let total = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"));
        let kib = total.and_then(|t| t.split_ascii_whitespace().next()).and_then(|w| w.parse::<u64>().ok());
        Self {
            ticks: f64_of(rustix::param::clock_ticks_per_second()),
            uptime,
            memory: kib.unwrap_or(0).saturating_mul(1024),
            page: u64::try_from(rustix::param::page_size()).unwrap_or(4096),
        }
    }

    /// Processor seconds, and per cent of the process's life.
    fn cpu(&self, s: &stat::Stat) -> (f64, f64) {
        let used = f64_of(s.utime.saturating_add(s.stime)) / self.ticks;
        let lived = self.uptime - f64_of(s.start) / self.ticks;
        let percent = if lived > 0.0 { used / lived * 100.0 } else { 0.0 };
        (round(used), round(percent))
    }
}

/// To one decimal, as ps.
pub fn round(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

#[allow(clippy::cast_precision_loss)] // ticks and bytes stay far below 2^53
fn f64_of(number: u64) -> f64 {
    number as f64
}

/// Reads one process; `None` when it has gone or its stat file makes no sense.
pub fn row(proc: &Proc, machine: &Machine, pid: u32) -> Option<Row> {
    let s = stat::parse(&proc.line(&format!("{pid}/stat")).ok()?)?;
    let status = status::parse(&proc.text(&format!("{pid}/status")).unwrap_or_default());
    let (cpu_seconds, cpu_percent) = machine.cpu(&s);
    let rss = s.rss.saturating_mul(machine.page);
    let share = if machine.memory > 0 { f64_of(rss) / f64_of(machine.memory) * 100.0 } else { 0.0 };
    Some(Row {
        pid,
        ppid: s.ppid,
        inside_pid: status.nspid.last().copied(),
        pids: status.nspid,
        uid: status.uid,
        state: s.state,
        cpu_seconds,
        cpu_percent,
        memory_percent: round(share),
        rss_bytes: rss,
        threads: s.threads,
        command: proc.command(pid),
        comm: s.comm,
        new_namespaces: Vec::new(),
    })
}

/// All processes by pid, with the namespaces in which each differs from its parent.
///
/// # Errors
/// When /proc cannot be listed.
pub fn all(proc: &Proc) -> drydock_core::Result<BTreeMap<u32, Row>> {
    let machine = Machine::read(proc);
    let rows = proc.pids()?.into_iter().filter_map(|pid| Some((pid, row(proc, &machine, pid)?)));
    Ok(rows.collect())
}

/// Fills [`Row::new_namespaces`].
pub fn mark_boundaries(rows: &mut BTreeMap<u32, Row>, namespaces: &BTreeMap<u32, Process>) {
    for row in rows.values_mut() {
        let (Some(own), Some(parent)) = (namespaces.get(&row.pid), namespaces.get(&row.ppid)) else {
            continue;
        };
        let differs = |kind: &Kind| match (own.namespace(*kind), parent.namespace(*kind)) {
            (Some(own), Some(parent)) => own != parent,
            _ => false,
        };
        row.new_namespaces = Kind::ALL.into_iter().filter(differs).map(Kind::proc_name).collect();
    }
}

/// `pid` and all that descend from it, parents before children: (depth, pid).
pub fn subtree(rows: &BTreeMap<u32, Row>, pid: u32) -> Vec<(usize, u32)> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for row in rows.values() {
        children.entry(row.ppid).or_default().push(row.pid);
    }
    let mut seen = BTreeSet::new();
    let mut waiting = vec![(0, pid)];
    let mut order = Vec::new();
    while let Some((depth, pid)) = waiting.pop() {
        // Rows are read one after another: a reused pid could close a circle.
        if !rows.contains_key(&pid) || !seen.insert(pid) {
            continue;
        }
        order.push((depth, pid));
        for child in children.get(&pid).into_iter().flatten().rev() {
            waiting.push((depth + 1, *child));
        }
    }
    order
}

/// The roots of the forest: processes whose parent is not shown (pid 0, or outside).
pub fn roots(rows: &BTreeMap<u32, Row>) -> Vec<u32> {
    rows.values().filter(|r| !rows.contains_key(&r.ppid)).map(|r| r.pid).collect()
}

/// The pids that belong together with `pid`: everything in its pid namespace and those nested in it, when that is not
/// our own; else it and its descendants.
pub fn members(proc: &Proc, rows: &BTreeMap<u32, Row>, pid: u32) -> BTreeSet<u32> {
    let mut found: BTreeSet<u32> = subtree(rows, pid).into_iter().map(|(_, pid)| pid).collect();
    let space = |pid: u32| read_process(proc, pid, Depth::Processes).ok().flatten()?.namespace(Kind::Pid);
    let (Some(own), Some(theirs)) = (space(std::process::id()), space(pid)) else { return found };
    if own == theirs {
        return found;
    }
    let depth = rows.get(&pid).map_or(0, |r| r.pids.len());
    // A process is in the namespace or below it if its pids run through it: found by its ancestors' namespace, so only
    // processes with at least as many pids are worth a look.
    let candidates = rows.values().filter(|r| depth > 0 && r.pids.len() >= depth);
    let here: BTreeSet<u32> = candidates.filter(|r| space(r.pid) == Some(theirs)).map(|r| r.pid).collect();
    for pid in here {
        found.extend(subtree(rows, pid).into_iter().map(|(_, pid)| pid));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forest(pairs: &[(u32, u32)]) -> BTreeMap<u32, Row> {
        let row = |pid, ppid| Row {
            pid,
            ppid,
            inside_pid: None,
            pids: vec![],
            uid: None,
            state: 'S',
            cpu_seconds: 0.0,
            cpu_percent: 0.0,
            memory_percent: 0.0,
            rss_bytes: 0,
            threads: 1,
            command: String::new(),
            comm: String::new(),
            new_namespaces: vec![],
        };
        pairs.iter().map(|(pid, ppid)| (*pid, row(*pid, *ppid))).collect()
    }

    #[test]
    fn trees() {
        let rows = forest(&[(1, 0), (2, 0), (5, 1), (6, 5), (7, 1)]);
        assert_eq!(subtree(&rows, 1), [(0, 1), (1, 5), (2, 6), (1, 7)]);
        assert_eq!(roots(&rows), [1, 2]);
        assert_eq!(subtree(&rows, 99), []);
    }

    #[test]
    fn a_circle_ends() {
        let rows = forest(&[(5, 6), (6, 5), (7, 7)]);
        assert_eq!(subtree(&rows, 5), [(0, 5), (1, 6)]);
        assert_eq!(subtree(&rows, 7), [(0, 7)]);
    }
}
