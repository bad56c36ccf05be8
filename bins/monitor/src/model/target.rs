//! What a command line means by `PID|ID`: a process, by its number or as the first process of a Drydock container.

use crate::procfs::{Proc, stat};
use drydock_bundle::{Life, Store};
use drydock_core::text::{escape, shorten};
use drydock_core::{Error, Result};
use std::path::{Path, PathBuf};

/// A process to look at.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its pid, as /proc shows it.
    pub pid: u32,
    /// The container that was named.
    pub container: Option<Container>,
}

/// A Drydock container, as its state file has it.
#[derive(Clone, Debug)]
pub struct Container {
    /// Its name.
    pub id: String,
    /// Host pid of its first process, if it runs.
    pub pid: Option<u32>,
    /// Where it is in its life.
    pub status: &'static str,
    /// Its cgroup's directories, one a hierarchy.
    pub cgroup: Vec<PathBuf>,
}

/// Finds what `text` means. A number is a pid; anything else the name, or the unambiguous beginning of the name, of a
/// container.
///
/// # Errors
/// Bad input when there is no such process or container, or more than one; failed when the container does not run.
pub fn resolve(proc: &Proc, text: &str, root: Option<&Path>) -> Result<Target> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return by_pid(proc, text);
    }
    if let Some(number) =
        text.strip_prefix('-').filter(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    {
        return Err(not_a_pid(&format!("-{number}")));
    }
    let store = Store::at(drydock_core::paths::state_root(root)?);
    let entry = store.find(text)?;
    let container = container(entry.id.as_str().to_string(), &entry.state?);
    match container.pid {
        Some(pid) => Ok(Target { pid, container: Some(container) }),
        None => {
            let name = format!("container '{}'", container.id);
            Err(Error::failed(name, format!("{}: it has no processes to look at", container.status)))
        }
    }
}

fn by_pid(proc: &Proc, text: &str) -> Result<Target> {
    // Above 2^22 no Linux gives pids (PID_MAX_LIMIT, proc_sys_kernel(5)).
    let pid =
        text.parse::<u32>().ok().filter(|p| (1..=4_194_304).contains(p)).ok_or_else(|| not_a_pid(text))?;
    if proc.exists(pid) {
        return Ok(Target { pid, container: None });
    }
    Err(Error::bad_input(format!("process {pid}"), "no such process")
        .hint("it has ended, or belongs to another pid namespace, or /proc hides it (hidepid)"))
}

fn not_a_pid(text: &str) -> Error {
    let shown = shorten(&escape(text), 40);
    Error::bad_input(format!("'{shown}'"), "not a process id (allowed: 1 to 4194304, or a container's name)")
}

fn container(id: String, state: &drydock_bundle::State) -> Container {
    let life = state.life();
    let runs = !matches!(life, Life::Stopped);
    let pid = state.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0 && runs);
    Container { id, pid, status: life.name(), cgroup: state.cgroup.clone() }
}

/// All containers of the state root whose state can be read; with how many cannot.
///
/// # Errors
/// When the state root cannot be read.
pub fn containers(root: Option<&Path>) -> Result<(Vec<Container>, usize)> {
    let mut entries = Store::at(drydock_core::paths::state_root(root)?).entries()?;
    // What was made by hand has no state to read.
    entries.retain(|entry| !entry.is_by_hand());
    let total = entries.len();
    let read =
        |e: drydock_bundle::Entry| e.state.ok().map(|state| container(e.id.as_str().to_string(), &state));
    let found: Vec<Container> = entries.into_iter().filter_map(read).collect();
    let unreadable = total - found.len();
    Ok((found, unreadable))
}

/// `/proc/PID/stat` of the target.
///
/// # Errors
/// Bad input when the process has gone; failed when the file is closed to us.
pub fn read_stat(proc: &Proc, pid: u32) -> Result<stat::Stat> {
    let line = proc.line(&format!("{pid}/stat")).map_err(|e| unreadable(pid, "stat", e))?;
    stat::parse(&line)
        .ok_or_else(|| Error::failed(format!("/proc/{pid}/stat"), "not as proc_pid_stat(5) has it"))
}

/// Whether the process that started at `start` (clock ticks after boot) still runs: not ended, no zombie, no later
/// process with its pid.
pub fn runs(proc: &Proc, pid: u32, start: u64) -> bool {
    read_stat(proc, pid).is_ok_and(|s| s.start == start && !matches!(s.state, 'Z' | 'X' | 'x'))
}

/// The error for a file of the one process that was asked for.
pub fn unreadable(pid: u32, file: &str, error: std::io::Error) -> Error {
    if crate::procfs::is_gone(&error) {
        return Error::bad_input(format!("process {pid}"), "no such process");
    }
    Error::call(format!("open(\"/proc/{pid}/{file}\")"), error).on(format!("process {pid}")).hint(
        "this needs ptrace access: the same user and capabilities, or CAP_SYS_PTRACE in its user namespace",
    )
}
