//! Whose a container's data directory is. The state root lies on a tmpfs and is gone after a reboot, the data root stays:
//! each data directory names the state directory that it belongs to.

use crate::cleanup;
use drydock_core::{Error, Result, paths};
use drydock_mounts::layers::owner;
use std::path::{Path, PathBuf};

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
                return Err(Error::failed(
                    dir.display().to_string(),
                    format!("belongs to a container of the state root {of}"),
                )
                .hint("choose another name"));
            }
            _ => cleanup::remove_directory(dir)?,
        }
    }
    Ok(())
}

/// Data directories whose container is no more: its state directory is gone.
pub fn orphans() -> Vec<PathBuf> {
    let Ok(data) = paths::data_root() else { return Vec::new() };
    let entries = std::fs::read_dir(data.join("containers")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|dir| owner(dir).is_some_and(|owner| !owner.exists())).collect()
}
