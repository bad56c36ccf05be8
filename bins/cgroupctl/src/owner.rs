//! `--owner ID`: the journal of a container, for cgroups that are made by hand.

use crate::args::Making;
use drydock_cgroups::Plan;
use drydock_core::error::CallExt;
use drydock_core::paths::state_root;
use drydock_core::{ContainerId, Journal, Result, journal};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

/// The state directory of `--owner`, checked; `None` without that flag. Touches nothing.
pub fn directory(making: &Making) -> Result<Option<PathBuf>> {
    let Some(id) = &making.owner else { return Ok(None) };
    let id = ContainerId::parse(id)?;
    Ok(Some(state_root(making.root.as_deref())?.join(id)))
}

/// The journal of an owner, and whether its directory was made for it.
pub struct Owner {
    dir: PathBuf,
    fresh: bool,
    /// The open journal.
    pub journal: Journal,
}

/// Opens the journal there; missing directories are made, 0700.
pub fn open(dir: Option<PathBuf>) -> Result<Option<Owner>> {
    let Some(dir) = dir else { return Ok(None) };
    let fresh = !dir.exists();
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir)
        .call(|| format!("mkdir({dir:?}, 0700)"))?;
    let journal = Journal::create(&dir)?;
    Ok(Some(Owner { dir, fresh, journal }))
}

impl Owner {
    /// Takes back the directory that was made for a cgroup that is not there, or was not made by us.
    pub fn forget_if_nothing(&self, plan: &Plan, made: bool) {
        let recorded = Journal::read(&self.dir).is_ok_and(|objects| !objects.is_empty());
        let left = plan.dirs().iter().any(|d| d.exists());
        let needed = if made { recorded } else { recorded && left };
        if self.fresh && !needed {
            // Best effort: an empty journal is harmless.
            let _ = std::fs::remove_file(self.dir.join(journal::FILE));
            let _ = std::fs::remove_dir(&self.dir);
        }
    }
}
