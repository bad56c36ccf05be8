//! `container checkpoint` and `restore`: a container's processes as files, and back, by criu(8).
//!
//! criu is a program of its own, which is executed directly. Beside its images lie this tool's records of the container,
//! so that `restore` knows what it was.

pub mod checkpoint;
mod options;
pub mod restore;

use drydock_core::error::CallExt;
use drydock_core::exit::Ended;
use drydock_core::sys::process::clone_child;
use drydock_core::{Error, Result, text};
use drydock_supervise::exec::Command;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The container's record in the images' directory.
const STATE: &str = "drydock-state.json";
/// What `exec` needs to know of it.
const INSIDE: &str = "drydock-inside.json";
/// Where criu is looked for after the directories of $PATH, in which those for administrators may be missing.
const PLACES: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// criu's program.
///
/// # Errors
/// When it is not installed.
fn find() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let program = |path: &PathBuf| {
        std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    let dirs = std::env::split_paths(&path).filter(|dir| dir.is_absolute());
    dirs.chain(PLACES.map(PathBuf::from)).map(|dir| dir.join("criu")).find(program).ok_or_else(|| {
        Error::failed("criu", "is not installed: it does the checkpoint and the restore")
            .hint("apt install criu, or https://criu.org/Installation")
    })
}

/// Runs criu to its end. `before`: what its process does first.
///
/// # Errors
/// When it fails: with the last error in its log.
fn run(program: &Path, words: Vec<String>, log: &Path, before: impl FnOnce() -> Result<()>) -> Result<()> {
    let name = program.to_string_lossy().into_owned();
    let action = words.first().cloned().unwrap_or_default();
    let env = crate::hooks::own_environment();
    let command = Command::new(&[vec![name], words].concat(), &env)?;
    let child = clone_child(0, None, || {
        let error = before().err().unwrap_or_else(|| command.exec());
        drydock_cli::report("container", &error.into())
    })
    .call(|| "clone3(CLONE_PIDFD)")?;
    let problem = match drydock_supervise::wait_exit(&child)? {
        Ended::Exited(0) => return Ok(()),
        Ended::Exited(code) => format!("exit code {code}"),
        Ended::Signaled(signal) => format!("signal {signal}"),
    };
    let said =
        std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let line = said.lines().rev().find(|line| line.contains("Error"));
    let line =
        line.map(|line| format!(": {}", text::shorten(&text::escape(line.trim()), 300))).unwrap_or_default();
    Err(Error::failed(format!("criu {action}"), format!("{problem}{line}"))
        .hint(format!("all of it is in {}", text::escape(&log.to_string_lossy()))))
}

/// A directory of criu's, made if missing.
fn directory(option: &str, path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).call(|| format!("mkdir({path:?})")).map_err(|e| e.on(option.to_string()))
}
