//! Whose an object is: its journal in the state directory.

use crate::args::Common;
use crate::pending::{Note, Pending, Undo};
use drydock_cli::Explainer;
use drydock_core::error::CallExt;
use drydock_core::{Ctx, Error, Journal, Object, Result, journal, paths};
use drydock_network::state::LEASE_DIR;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
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

    /// An owner by its id, whatever `--owner` says.
    pub fn of(common: &Common, id: &str) -> Result<Self> {
        let root = paths::state_root(common.root.as_deref())?;
        let explainer = Explainer { on: common.explain };
        Ok(Self { dir: root.join(id), lease_dir: root.join(LEASE_DIR), id: id.to_string(), explainer })
    }

    /// Its directory holds a journal and nothing else, or nothing at all.
    pub fn is_only_a_journal(&self) -> bool {
        std::fs::read_dir(&self.dir).is_ok_and(|all| all.flatten().all(|e| e.file_name() == journal::FILE))
    }

    /// Removes the journal: what it names is gone.
    pub fn forget_journal(&self) -> Result<()> {
        let path = self.dir.join(journal::FILE);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::call(format!("unlink({path:?})"), e))
            }
            _ => Ok(()),
        }
    }

    /// Removes the directory if nothing, or an empty journal, is in it.
    pub fn forget_if_empty(&self) -> Result<()> {
        let path = self.dir.join(journal::FILE);
        if self.is_only_a_journal() && std::fs::metadata(&path).is_ok_and(|m| m.len() == 0) {
            self.forget_journal()?;
        }
        let _ = std::fs::remove_dir(&self.dir);
        Ok(())
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

    /// Runs `act` with the owner's journal, undisturbed by signals. If it fails, what it has made is undone, by `undo` if
    /// the owner had something before, else altogether. If it is killed, `gc` does so.
    pub fn journaled<T>(&self, undo: &Undo, act: impl FnOnce(&Ctx<'_>) -> Result<T>) -> Result<T> {
        let before = self.objects()?;
        let _calm = Calm::begin();
        let note = Note { before: Some(before.len()), undo: undo.clone() };
        let pending = self.begin(&note)?;
        let journal = Journal::create(&self.dir)?;
        let result = act(&Ctx::new(&self.explainer, Some(&journal)));
        if result.is_err() {
            let made = self.objects()?.split_off(before.len());
            let quiet = Ctx::silent();
            // The failure is the error to tell; what the undo leaves, `netsetup undo` and `container gc` still find.
            if before.is_empty() {
                if drydock_network::remove(&self.id, &made, &self.lease_dir, &quiet).is_ok() {
                    self.forget(Some(pending))?;
                    return result;
                }
            } else if !made.is_empty() {
                let _ = undo.run(&self.id, &self.lease_dir, &quiet);
            }
        }
        self.tidy(pending)?;
        result
    }

    /// The directory may be taken for an empty one, and removed, until the note is in it.
    fn begin(&self, note: &Note) -> Result<Pending> {
        for _ in 0..10 {
            self.make_dir()?;
            match Pending::write(&self.dir, note) {
                Err(e) if e.errno() == Some(nix::libc::ENOENT) => {}
                other => return other,
            }
        }
        self.make_dir()?;
        Pending::write(&self.dir, note)
    }

    fn make_dir(&self) -> Result<()> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .call(|| format!("mkdir({:?}, 0700)", self.dir))
            .map_err(|e| e.hint("run as root, or give a state directory that can be written (--root DIR)"))
    }

    /// Runs what takes something away, undisturbed by signals; `gc` finishes it if it is killed.
    pub fn removing<T>(&self, undo: Undo, act: impl FnOnce(&Ctx<'_>) -> Result<T>) -> Result<T> {
        let _calm = Calm::begin();
        let pending = match self.dir.is_dir() {
            true => Some(Pending::write(&self.dir, &Note { before: None, undo })?),
            false => None,
        };
        let result = act(&self.ctx());
        drop(pending);
        result
    }

    /// Without a journal: for what cannot leak.
    pub fn ctx(&self) -> Ctx<'_> {
        Ctx::new(&self.explainer, None)
    }

    /// Removes everything of it; then its journal, unless it is a container's. False if it had nothing.
    pub fn undo(&self) -> Result<bool> {
        let _calm = Calm::begin();
        let objects = self.objects()?;
        let pending = match self.dir.is_dir() {
            true => Some(Pending::write(&self.dir, &Note { before: None, undo: Undo::Everything })?),
            false => None,
        };
        drydock_network::remove(&self.id, &objects, &self.lease_dir, &self.ctx())?;
        // What a killed command was about is gone with the rest.
        for orphan in crate::pending::orphans(&self.dir) {
            let _ = std::fs::remove_file(&orphan.path);
        }
        self.forget(pending)?;
        Ok(!objects.is_empty())
    }

    /// Removes the journal and its directory, if nothing else is there: else it is a container's. The note goes last, so
    /// that a death in the middle is seen.
    fn forget(&self, pending: Option<Pending>) -> Result<()> {
        let Ok(entries) = std::fs::read_dir(&self.dir) else { return Ok(()) };
        let own = |path: &std::path::Path| pending.as_ref().is_some_and(|p| p.is(path));
        let foreign = entries.flatten().any(|e| e.file_name() != journal::FILE && !own(&e.path()));
        if foreign || self.is_container()? {
            return Ok(());
        }
        let path = self.dir.join(journal::FILE);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::call(format!("unlink({path:?})"), e));
            }
            _ => {}
        }
        drop(pending);
        // Somebody else may have put something there meanwhile.
        let _ = std::fs::remove_dir(&self.dir);
        Ok(())
    }

    /// An owner without anything needs no journal.
    fn tidy(&self, pending: Pending) -> Result<()> {
        let path = self.dir.join(journal::FILE);
        if std::fs::metadata(&path).is_ok_and(|m| m.len() == 0) {
            return self.forget(Some(pending));
        }
        Ok(())
    }
}

/// Signals that ask a program to end wait until this is dropped: each command takes milliseconds, and half of one is
/// worse than a late end.
struct Calm(Option<SigSet>);

impl Calm {
    fn begin() -> Self {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
            set.add(signal);
        }
        Self(set.thread_swap_mask(SigmaskHow::SIG_BLOCK).ok())
    }
}

impl Drop for Calm {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = before.thread_set_mask();
        }
    }
}
