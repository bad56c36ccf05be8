//! Who is meant: a process by pid, or the first process of a Drydock container.

use drydock_core::error::CallExt;
use drydock_core::{ContainerId, Error, Result};
use drydock_namespaces::process::Process;
use serde::Deserialize;
use std::io::Read;
use std::path::Path;

/// The fields of a container's state file that are needed here.
#[derive(Deserialize)]
struct State {
    pid: Option<i32>,
    start_time: Option<u64>,
    #[serde(default)]
    status: String,
}

/// Takes hold of a process, and checks the inode of its pidfd if one is given.
///
/// # Errors
/// No such process; another process than the one that was meant.
pub fn by_pid(pid: i32, inode: Option<u64>) -> Result<Process> {
    let process = Process::open(pid)?;
    let Some(want) = inode else { return Ok(process) };
    let have = process.pidfd_inode()?;
    if have == want {
        return Ok(process);
    }
    Err(Error::bad_input(
        format!("process {pid}"),
        format!("not the one that was meant: its pidfd has inode {have}, not {want}"),
    ))
}

/// The first process of a container, by its name or by a beginning of it that no other has.
///
/// # Errors
/// No such container; several; not running.
pub fn by_container(name: &str, state_root: Option<&Path>) -> Result<(ContainerId, Process)> {
    let root = drydock_core::paths::state_root(state_root)?;
    let id = resolve(ContainerId::parse(name)?, &root)?;
    let stopped = |status: &str| {
        let word = if status.is_empty() || status == "running" { "stopped" } else { status };
        Error::bad_input(format!("container {id}"), format!("is not running ({word})"))
    };
    let state = read_state(&root.join(&id).join("state.json"), &id)?;
    let Some(pid) = state.pid.filter(|pid| *pid > 0 && state.status != "stopped") else {
        return Err(stopped(&state.status));
    };
    let process = Process::open(pid).map_err(|e| if e.exit_code() == 2 { stopped("stopped") } else { e })?;
    // The pid may belong to another process by now.
    if state.start_time.is_some_and(|want| process.start_time().ok() != Some(want)) {
        return Err(stopped("stopped"));
    }
    Ok((id, process))
}

fn resolve(name: ContainerId, root: &Path) -> Result<ContainerId> {
    if root.join(&name).join("state.json").exists() {
        return Ok(name);
    }
    let entries = std::fs::read_dir(root).into_iter().flatten().filter_map(std::result::Result::ok);
    let names = entries.filter_map(|e| e.file_name().into_string().ok());
    let mut found: Vec<String> =
        names.filter(|n| n.starts_with(name.as_str()) && root.join(n).join("state.json").exists()).collect();
    found.sort();
    match found.as_slice() {
        [one] => ContainerId::parse(one),
        [] => Err(Error::bad_input(format!("container {name}"), "no such container")
            .hint("container list shows them; a namespace file is a path with a slash, a process is -t PID")),
        many => Err(Error::bad_input(format!("container {name}"), format!("matches {}", many.join(", ")))),
    }
}

fn read_state(path: &Path, id: &ContainerId) -> Result<State> {
    let file = std::fs::File::open(path).call(|| format!("open({path:?}, O_RDONLY)"))?;
    let mut text = Vec::new();
    file.take(1 << 20).read_to_end(&mut text).call(|| format!("read({path:?})"))?;
    serde_json::from_slice(&text)
        .map_err(|e| Error::failed(format!("container {id}"), format!("its state file cannot be read: {e}")))
}
