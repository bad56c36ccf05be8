//! Whose an object is: its journal in the state directory.

use crate::args::Common;
use drydock_cli::Explainer;
use drydock_core::error::CallExt;
use drydock_core::{Ctx, Error, Journal, Object, Result, journal, paths};
use drydock_network::state::LEASE_DIR;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

/// An owner with its place in the state directory.
pub struct Owner {
    /// Its id.
    pub id: String,
    /// Its state directory.
    pub dir: PathBuf,
    /// Where leases are.
    pub lease_dir: PathBuf,
    explainer: Explainer,
}

/// Where leases are.
pub fn lease_dir(common: &Common) -> Result<PathBuf> {
    Ok(paths::state_root(common.root.as_deref())?.join(LEASE_DIR))
}

impl Owner {
    /// `--owner`, else `default`.
    pub fn new(common: &Common, default: impl FnOnce() -> String) -> Result<Self> {
        let id = common.owner.clone().unwrap_or_else(default);
        drydock_network::name::check_owner(&id)?;
        let root = paths::state_root(common.root.as_deref())?;
        let explainer = Explainer { on: common.explain };
        Ok(Self { dir: root.join(&id), lease_dir: root.join(LEASE_DIR), id, explainer })
    }

    /// What it has, as its journal says.
    pub fn objects(&self) -> Result<Vec<Object>> {
        Journal::read(&self.dir)
    }

    /// A container's journal holds more than the network: then the container is the one to remove it.
    pub fn is_container(&self) -> Result<bool> {
        Ok(self.objects()?.iter().any(|o| {
            matches!(
                o,
                Object::Process { .. }
                    | Object::Cgroup { .. }
                    | Object::Directory { .. }
                    | Object::File { .. }
                    | Object::Mount { .. }
            )
        }))
    }

    /// Whether another owner still has a state directory: only of those that have none may a lease be taken over.
    pub fn is_alive(&self, other: &str) -> bool {
        self.dir.parent().is_none_or(|root| root.join(other).exists())
    }

    /// Runs `act` with the owner's journal. If it fails, what it has made is undone, by `undo` if the owner had something
    /// before, else altogether.
    pub fn journaled<T>(
        &self,
        undo: impl FnOnce(&Ctx<'_>) -> Result<()>,
        act: impl FnOnce(&Ctx<'_>) -> Result<T>,
    ) -> Result<T> {
        let before = self.objects()?;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .call(|| format!("mkdir({:?}, 0700)", self.dir))
            .map_err(|e| e.hint("run as root, or give a state directory that can be written (--root DIR)"))?;
        let journal = Journal::create(&self.dir)?;
        let result = act(&Ctx::new(&self.explainer, Some(&journal)));
        if result.is_err() {
            let made = self.objects()?.split_off(before.len());
            let quiet = Ctx::silent();
            // The failure is the error to tell; what the undo leaves, `netsetup undo` and `container gc` still find.
            if before.is_empty() {
                if drydock_network::remove(&self.id, &made, &self.lease_dir, &quiet).is_ok() {
                    self.forget()?;
                }
            } else if !made.is_empty() {
                let _ = undo(&quiet);
            }
        }
        self.tidy()?;
        result
    }

    /// Without a journal: for removing.
    pub fn ctx(&self) -> Ctx<'_> {
        Ctx::new(&self.explainer, None)
    }

    /// Removes everything of it; then its journal, unless it is a container's. False if it had nothing.
    pub fn undo(&self) -> Result<bool> {
        let objects = self.objects()?;
        drydock_network::remove(&self.id, &objects, &self.lease_dir, &self.ctx())?;
        self.forget()?;
        Ok(!objects.is_empty())
    }

    /// Removes the journal and its directory, if nothing else is there: else it is a container's.
    fn forget(&self) -> Result<()> {
        let Ok(entries) = std::fs::read_dir(&self.dir) else { return Ok(()) };
        if self.is_container()? || entries.flatten().any(|e| e.file_name() != journal::FILE) {
            return Ok(());
        }
        let path = self.dir.join(journal::FILE);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::call(format!("unlink({path:?})"), e));
            }
            _ => {}
        }
        // Somebody else may have put something there meanwhile.
        let _ = std::fs::remove_dir(&self.dir);
        Ok(())
    }

    /// An owner without anything needs no journal.
    fn tidy(&self) -> Result<()> {
        let path = self.dir.join(journal::FILE);
        if std::fs::metadata(&path).is_ok_and(|m| m.len() == 0) {
            return self.forget();
        }
        Ok(())
    }
}
