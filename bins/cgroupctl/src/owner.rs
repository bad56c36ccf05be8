//! `--owner ID`: the journal of a container, for cgroups that are made by hand.

use crate::args::Making;
use drydock_core::error::CallExt;
use drydock_core::paths::state_root;
use drydock_core::{ContainerId, Journal, Result};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

/// The state directory of `--owner`, checked; `None` without that flag. Touches nothing.
pub fn directory(making: &Making) -> Result<Option<PathBuf>> {
    let Some(id) = &making.owner else { return Ok(None) };
    let id = ContainerId::parse(id)?;
    Ok(Some(state_root(making.root.as_deref())?.join(id)))
}

/// Opens the journal there; missing directories are made, 0700.
pub fn journal(dir: Option<PathBuf>) -> Result<Option<Journal>> {
    let Some(dir) = dir else { return Ok(None) };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir)
        .call(|| format!("mkdir({dir:?}, 0700)"))?;
    Journal::create(&dir).map(Some)
}
