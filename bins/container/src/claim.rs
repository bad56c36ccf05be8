//! Whose a container's data directory is. The state root lies on a tmpfs and is gone after a reboot, the data root stays:
//! each data directory names the state directory that it belongs to.

use crate::cleanup;
use drydock_core::error::CallExt;
use drydock_core::{Error, Result, paths};
use std::path::{Path, PathBuf};

/// The file in the data directory.
const FILE: &str = "owner";

/// Makes sure that a data directory is free for the container with this state directory: what a dead container left
/// there goes.
///
/// # Errors
/// When it is a living container's, of another state root.
pub fn clear(dir: &Path, state_dir: &Path) -> Result<()> {
    if dir.exists() {
        match owner(dir) {
            Some(other) if other != state_dir && other.exists() => {
                let of = other.parent().unwrap_or(&other).display().to_string();
                return Err(Error::failed(dir.display().to_string(), format!("belongs to a container of the state root {of}"))
                    .hint("choose another --name"));
            }
            _ => cleanup::remove_directory(dir)?,
        }
    }
    Ok(())
}

/// Writes down whose it is.
///
/// # Errors
/// write(2)'s.
pub fn mark(dir: &Path, state_dir: &Path) -> Result<()> {
    let file = dir.join(FILE);
    std::fs::write(&file, state_dir.as_os_str().as_encoded_bytes()).call(|| format!("write({file:?})"))
}

fn owner(dir: &Path) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let bytes = drydock_bundle::state::read_bounded(&dir.join(FILE), 4096).ok()?;
    Some(PathBuf::from(std::ffi::OsString::from_vec(bytes)))
}

/// Data directories whose container is no more: its state directory is gone.
pub fn orphans() -> Vec<PathBuf> {
    let Ok(data) = paths::data_root() else { return Vec::new() };
    let entries = std::fs::read_dir(data.join("containers")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|dir| owner(dir).is_some_and(|owner| !owner.exists())).collect()
}
