//! `monitor top`: every cgroup with processes, the busiest first.

use crate::Session;
use crate::args::Sampling;
use crate::model::cgroups;
use crate::model::target::{Container, containers};
use crate::model::usage::{Reading, Usage, between, read};
use crate::procfs::cgroup;
use crate::procfs::mountinfo::Mount;
use drydock_cli::output::{print_json, print_text, table};
use drydock_core::size::show;
use drydock_core::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;

/// One row.
#[derive(Serialize)]
struct Row {
    /// The container's name, else the cgroup's path.
    name: String,
    container: Option<String>,
    /// Processes that we see in it.
    nprocs: usize,
    directories: Vec<PathBuf>,
    #[serde(flatten)]
    usage: Usage,
}

/// A cgroup as /proc shows it.
#[derive(Default)]
struct Found {
    nprocs: usize,
    container: Option<String>,
    directories: Vec<PathBuf>,
}

/// `monitor top`.
///
/// # Errors
/// When /proc or the state directory cannot be read.
pub fn top(session: &Session, sampling: &Sampling) -> Result<()> {
    let mut before = look(session)?;
    loop {
        std::thread::sleep(sampling.interval);
        let after = look(session)?;
        let mut rows: Vec<Row> =
            after.iter().map(|(name, (found, now))| row(name, found, now, &before)).collect();
        rows.sort_by(busiest);
        print(session, &rows, sampling.once)?;
        if sampling.once {
            return Ok(());
        }
        before = after;
    }
}

type Look = BTreeMap<String, (Found, Reading)>;

fn look(session: &Session) -> Result<Look> {
    let found = find(session)?;
    Ok(found
        .into_iter()
        .map(|(name, f)| {
            let reading = read(&f.directories);
            (name, (f, reading))
        })
        .collect())
}

/// Groups all processes by where they stand, and gives each place a name.
fn find(session: &Session) -> Result<BTreeMap<String, Found>> {
    let mounts = cgroups::mounts(&session.proc).unwrap_or_default();
    // Cgroups are there without a state directory, too; a wrong --root is still an error.
    let (known, unreadable) = match containers(session.root.as_deref()) {
        Err(error) if error.kind() == drydock_core::Kind::Failed => (Vec::new(), 0),
        other => other?,
    };
    if unreadable > 0 {
        let containers = if unreadable == 1 { "container" } else { "containers" };
        super::notes(&[format!("the state of {unreadable} {containers} could not be read")]);
    }
    let mut places: BTreeMap<String, (u32, usize)> = BTreeMap::new();
    for pid in session.proc.pids()? {
        // A process that has gone or is closed to us stands nowhere.
        if let Ok(text) = session.proc.text(&format!("{pid}/cgroup")) {
            places.entry(text).or_insert((pid, 0)).1 += 1;
        }
    }
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    for (text, (pid, nprocs)) in places {
        let (name, container, directories) = name(session, &mounts, &known, &text, pid);
        let entry = found.entry(name).or_default();
        entry.nprocs += nprocs;
        (entry.container, entry.directories) = (container, directories);
    }
    Ok(found)
}

fn name(
    session: &Session,
    mounts: &[Mount],
    known: &[Container],
    text: &str,
    pid: u32,
) -> (String, Option<String>, Vec<PathBuf>) {
    let places = cgroups::places(&session.proc, mounts, pid).unwrap_or_default();
    let directories = cgroups::directories(&places);
    let inside = |c: &&Container| directories.iter().any(|d| c.cgroup.iter().any(|own| d.starts_with(own)));
    if let Some(container) = known.iter().find(inside) {
        return (container.id.clone(), Some(container.id.clone()), container.cgroup.clone());
    }
    let paths = cgroup::parse(text).into_iter().map(|m| m.path);
    (paths.max_by_key(String::len).unwrap_or_default(), None, directories)
}

fn row(name: &str, found: &Found, now: &Reading, before: &Look) -> Row {
    // A cgroup that is new has no delta yet: compared with itself, rates are null.
    let old = before.get(name).map_or(now, |(_, reading)| reading);
    Row {
        name: name.to_string(),
        container: found.container.clone(),
        nprocs: found.nprocs,
        directories: found.directories.clone(),
        usage: between(old, now),
    }
}

fn busiest(a: &Row, b: &Row) -> std::cmp::Ordering {
    let key = |r: &Row| (r.usage.cpu_percent.unwrap_or(-1.0), r.usage.stats.memory.current.unwrap_or(0));
    let ((cpu_a, memory_a), (cpu_b, memory_b)) = (key(a), key(b));
    cpu_b.total_cmp(&cpu_a).then(memory_b.cmp(&memory_a)).then_with(|| a.name.cmp(&b.name))
}

fn print(session: &Session, rows: &[Row], once: bool) -> Result<()> {
    if session.json && once {
        return print_json(rows);
    }
    if session.json {
        let line = serde_json::to_string(rows).map_err(|e| Error::failed("output", e.to_string()))?;
        return print_text(&format!("{line}\n"));
    }
    let header = [
        "NAME", "PROCS", "CPU%", "MEMORY", "ANON", "FILE", "KERNEL", "SHMEM", "SWAP", "READ/S", "WRITE/S",
        "PSI-MEM",
    ];
    let text = table(&header, &rows.iter().map(cells).collect::<Vec<_>>());
    let home = if !once && std::io::stdout().is_terminal() { "\x1b[H\x1b[J" } else { "" };
    let gap = if once || !home.is_empty() { "" } else { "\n" };
    print_text(&format!("{home}{text}{gap}"))
}

/// A dash is a figure that is not enabled for the cgroup.
fn cells(row: &Row) -> Vec<String> {
    let m = &row.usage.stats.memory;
    let bytes = |n: Option<u64>| super::or_dash(n.map(show));
    let percent = |n: Option<f64>| super::or_dash(n.map(|n| format!("{n:.1}")));
    let psi = row.usage.stats.pressure.get("memory").and_then(|p| p.some.as_ref()).map(|line| line.avg10);
    vec![
        drydock_core::text::shorten(&row.name, 50),
        row.nprocs.to_string(),
        percent(row.usage.cpu_percent),
        bytes(m.current),
        bytes(m.anon),
        bytes(m.file),
        bytes(m.kernel),
        bytes(m.shmem),
        bytes(m.swap),
        bytes(row.usage.read_bytes_per_second),
        bytes(row.usage.write_bytes_per_second),
        percent(psi),
    ]
}
