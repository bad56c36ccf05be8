//! The state root: one directory a container, found, made, locked and removed.
//!
//! - `<root>/ID/` 0700: `state.json`, `journal`, `lock`, and what the container's parts put there.
//! - `<root>/ID/lock` is held (flock(2)) by the container's owner: its foreground `run`, or its supervisor. The kernel
//!   releases it when the owner dies, so an unlocked container has nobody left who would clean up after it.
//! - `<root>/@lock` is held shared while a container directory is made and locked, and exclusively while an unlocked one
//!   is judged or removed. `@` is not allowed in ids.

use crate::state::{Life, State};
use drydock_core::error::CallExt;
use drydock_core::{ContainerId, Error, Result};
use rustix::fs::FlockOperation;
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The state root.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

/// The lock of one container, held until it is dropped or its process dies.
///
/// It is given up by closing the file, never by LOCK_UN: a forked child that drops its copy must not unlock its parent's.
#[derive(Debug)]
pub struct Held {
    lock: File,
}

impl Held {
    /// Leaves a word in the lock file for those who wait for it ([`Store::last_words`]): they have it open, also when it
    /// has been removed.
    pub fn leave(&self, word: &str) {
        // Best effort: nobody may wait.
        let _ = self.lock.write_at(word.as_bytes(), 0);
    }
}

/// One container, held fast by its open lock file: whatever has its name later is another one.
#[derive(Debug)]
pub struct Pin {
    lock: File,
    path: PathBuf,
}

impl Pin {
    /// Whether its name still means this container.
    pub fn is_here(&self) -> bool {
        let (Ok(ours), Ok(named)) = (self.lock.metadata(), std::fs::symlink_metadata(&self.path)) else {
            return false;
        };
        (ours.dev(), ours.ino()) == (named.dev(), named.ino())
    }

    /// Whether nobody owns it, or does any more.
    ///
    /// # Errors
    /// flock(2)'s.
    pub fn is_unowned(&self) -> Result<bool> {
        match rustix::fs::flock(&self.lock, FlockOperation::NonBlockingLockShared) {
            // Others must not take us for an owner.
            Ok(()) => rustix::fs::flock(&self.lock, FlockOperation::Unlock)
                .map(|()| true)
                .call(|| format!("flock({:?}, LOCK_UN)", self.path)),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => Ok(false),
            Err(errno) => Err(Error::call(format!("flock({:?})", self.path), errno)),
        }
    }
}

/// One container as found on disk.
#[derive(Debug)]
pub struct Entry {
    /// Its name.
    pub id: ContainerId,
    /// Its state directory.
    pub dir: PathBuf,
    /// Its state, or why that cannot be read.
    pub state: Result<State>,
}

impl Store {
    /// The store at `root`; nothing is made yet.
    pub fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// The root directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A container's directory, existing or not.
    pub fn dir(&self, id: &ContainerId) -> PathBuf {
        self.root.join(id)
    }

    /// Looks whether the root is a directory, or can become one.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] when something else is there, or on the way there.
    pub fn check(&self) -> Result<()> {
        use nix::libc::{ELOOP, ENAMETOOLONG, ENOTDIR};
        match std::fs::symlink_metadata(&self.root) {
            Ok(meta) if !meta.is_dir() => Err(self.unfit("is not a directory")),
            Err(e) if matches!(e.raw_os_error(), Some(ELOOP | ENAMETOOLONG | ENOTDIR)) => {
                let why = e.raw_os_error().map(drydock_core::error::errno_text).unwrap_or_default();
                Err(self.unfit(&format!("cannot be one: {why}")))
            }
            // One that is not there is made when it is needed; what else is wrong is said by who needs it.
            _ => Ok(()),
        }
    }

    fn unfit(&self, problem: &str) -> Error {
        let shown =
            drydock_core::text::shorten(&drydock_core::text::escape(&self.root.to_string_lossy()), 200)
                .to_string();
        let problem = format!("'{shown}' {problem} (allowed: a directory, or a path where one can be made)");
        Error::bad_input("state directory", problem)
    }

    /// Makes sure that the root is there, ours, and 0700.
    ///
    /// # Errors
    /// When it belongs to another user, or is no directory.
    pub fn ensure_root(&self) -> Result<()> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.root);
        if let Err(e) = &made
            && let Some(errno @ (nix::libc::ENOENT | nix::libc::ENOTDIR | nix::libc::EROFS)) =
                e.raw_os_error()
        {
            return Err(self.unfit(&format!("cannot be made: {}", drydock_core::error::errno_text(errno))));
        }
        made.call(|| format!("mkdir({:?}, 0700)", self.root)).map_err(closed)?;
        let meta = std::fs::symlink_metadata(&self.root).call(|| format!("lstat({:?})", self.root))?;
        let wrong = |why: &str| Error::failed(self.root.display().to_string(), why.to_string());
        if !meta.is_dir() {
            return Err(wrong("not a directory"));
        }
        if meta.uid() != nix::unistd::geteuid().as_raw() {
            return Err(wrong("belongs to another user").hint("give --root DIR"));
        }
        if meta.mode() & 0o077 != 0 {
            let private = std::fs::Permissions::from_mode(0o700);
            std::fs::set_permissions(&self.root, private).call(|| format!("chmod({:?}, 0700)", self.root))?;
        }
        Ok(())
    }

    /// Makes the directory of a new container and takes its lock. One winner for one id.
    ///
    /// # Errors
    /// [`drydock_core::Kind::Failed`] when the id is taken, saying by what.
    pub fn create(&self, id: &ContainerId) -> Result<(PathBuf, Held)> {
        self.ensure_root()?;
        let _making = self.lock_root(FlockOperation::LockShared)?;
        let dir = self.dir(id);
        match DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => return Err(self.taken(id)),
            Err(e) => return Err(Error::call(format!("mkdir({dir:?}, 0700)"), e)),
        }
        drydock_core::failpoint::pass(|| "state-directory-made".into());
        // Who asks whether it is owned holds it for a moment.
        match lock_file(&dir.join("lock"), FlockOperation::LockExclusive) {
            Ok(held) => {
                drydock_core::failpoint::pass(|| "state-directory-locked".into());
                Ok((dir, held))
            }
            Err(error) => {
                let _ = std::fs::remove_file(dir.join("lock"));
                let _ = std::fs::remove_dir(&dir);
                Err(error)
            }
        }
    }

    fn taken(&self, id: &ContainerId) -> Error {
        let status = match State::read(&self.dir(id)) {
            Ok(state) => format!("container already exists ({})", state.life().name()),
            Err(_) => "name is taken by an unfinished container".to_string(),
        };
        Error::failed(format!("'{id}'"), status)
            .hint(format!("choose another name, or: container delete {id}"))
    }

    /// The exclusive lock of the root: nobody makes or judges a container meanwhile.
    ///
    /// # Errors
    /// open(2)'s and flock(2)'s.
    pub fn exclusive(&self) -> Result<Held> {
        self.lock_root(FlockOperation::LockExclusive)
    }

    fn lock_root(&self, how: FlockOperation) -> Result<Held> {
        lock_file(&self.root.join("@lock"), how)
    }

    /// The lock of an existing container, if its owner is dead or has finished. `None`: somebody owns it.
    ///
    /// # Errors
    /// open(2)'s.
    pub fn try_own(&self, id: &ContainerId) -> Result<Option<Held>> {
        match lock_file(&self.dir(id).join("lock"), FlockOperation::NonBlockingLockExclusive) {
            Ok(held) => Ok(Some(held)),
            Err(e) if e.errno() == Some(nix::libc::EWOULDBLOCK) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The lock of an existing container, once nobody else has it.
    ///
    /// # Errors
    /// open(2)'s and flock(2)'s.
    pub fn own(&self, id: &ContainerId) -> Result<Held> {
        lock_file(&self.dir(id).join("lock"), FlockOperation::LockExclusive)
    }

    /// Holds on to the container that has the name now; `None` without a lock file, also where something else stands for it.
    ///
    /// # Errors
    /// open(2)'s.
    pub fn pin(&self, id: &ContainerId) -> Result<Option<Pin>> {
        let path = self.dir(id).join("lock");
        if std::fs::symlink_metadata(&path).is_ok_and(|meta| !meta.is_file()) {
            return Ok(None);
        }
        let flags = nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC | nix::libc::O_NONBLOCK;
        match OpenOptions::new().read(true).custom_flags(flags).open(&path) {
            Ok(lock) => Ok(Some(Pin { lock, path })),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::call(format!("open({path:?}, O_RDONLY)"), e)),
        }
    }

    /// Waits until nobody owns the container any more.
    ///
    /// # Errors
    /// open(2)'s and flock(2)'s.
    pub fn wait_unowned(&self, id: &ContainerId) -> Result<()> {
        lock_file(&self.dir(id).join("lock"), FlockOperation::LockShared).map(drop)
    }

    /// Waits until nobody owns the container any more; what its owner has left to say. Empty: nothing.
    ///
    /// # Errors
    /// open(2)'s, flock(2)'s and read(2)'s.
    pub fn last_words(&self, id: &ContainerId) -> Result<String> {
        let path = self.dir(id).join("lock");
        let held = lock_file(&path, FlockOperation::LockShared)?;
        let mut words = [0u8; 64];
        let n = held.lock.read_at(&mut words, 0).call(|| format!("read({path:?})"))?;
        Ok(String::from_utf8_lossy(words.get(..n).unwrap_or(&[])).into_owned())
    }

    /// All containers, sorted by name. A root that is not there is empty.
    ///
    /// # Errors
    /// When the root cannot be read.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let listing = match std::fs::read_dir(&self.root) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.call(|| format!("open({:?}, O_DIRECTORY)", self.root)).map_err(closed)?,
        };
        let names = listing.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut ids: Vec<ContainerId> = names.filter_map(|name| ContainerId::parse(&name).ok()).collect();
        ids.sort();
        Ok(ids.into_iter().map(|id| self.entry(id)).collect())
    }

    fn entry(&self, id: ContainerId) -> Entry {
        let dir = self.dir(&id);
        let state = State::read(&dir);
        Entry { id, dir, state }
    }

    /// The container that a name, or the unambiguous beginning of one, means.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] when there is none or more than one.
    pub fn find(&self, name: &str) -> Result<Entry> {
        let exact = ContainerId::parse(name)?;
        if self.dir(&exact).is_dir() {
            return Ok(self.entry(exact));
        }
        let mut matching: Vec<Entry> =
            self.entries()?.into_iter().filter(|e| e.id.as_str().starts_with(name)).collect();
        match (matching.pop(), matching.len()) {
            (Some(only), 0) => Ok(only),
            (None, _) => Err(Error::bad_input(format!("'{name}'"), "error: the container does not exist")
                .hint("container list shows those that do")),
            (Some(last), _) => {
                let names = matching.iter().map(|e| e.id.as_str()).chain([last.id.as_str()]);
                let names: Vec<&str> = names.take(5).collect();
                Err(Error::bad_input(format!("'{name}'"), format!("ambiguous: matches {}", names.join(", "))))
            }
        }
    }

    /// The container of exactly this name, for what ends or removes one: the beginning of a name is too easily another's.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] when there is none.
    pub fn find_exact(&self, name: &str) -> Result<Entry> {
        let entry = self.find(name)?;
        if entry.id.as_str() == name {
            return Ok(entry);
        }
        let shown = drydock_core::text::escape(name);
        Err(Error::bad_input(
            format!("'{shown}'"),
            format!(
                "error: the container does not exist (allowed: a whole name; did you mean '{}'?)",
                entry.id
            ),
        ))
    }

    /// Removes a container's directory with all that is in it; see [`crate::remove`].
    ///
    /// # Errors
    /// unlink and rmdir errors other than "gone already".
    pub fn remove(&self, dir: &Path) -> Result<()> {
        crate::remove::remove_below(&self.root, dir)
    }
}

impl Entry {
    /// Where the container is now; `None` when its state cannot be read.
    pub fn life(&self) -> Option<Life> {
        self.state.as_ref().ok().map(State::life)
    }

    /// Made with the stage tools' `--owner`: there is a journal, but nobody ever owned a container here.
    pub fn is_by_hand(&self) -> bool {
        self.state.is_err()
            && !self.dir.join("lock").exists()
            && self.dir.join(drydock_core::journal::FILE).exists()
    }
}

/// The state root of another user, as a DRYDOCK_ROOT that was handed down names it.
fn closed(error: Error) -> Error {
    match error.errno() {
        Some(nix::libc::EACCES | nix::libc::EPERM) => {
            error.hint("the state directory is another user's: unset DRYDOCK_ROOT, or give --root DIR")
        }
        _ => error,
    }
}

fn lock_file(path: &Path, how: FlockOperation) -> Result<Held> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC | nix::libc::O_NONBLOCK)
        .open(path)
        .call(|| format!("open({path:?}, O_RDWR|O_CREAT)"))?;
    loop {
        match rustix::fs::flock(&file, how) {
            Ok(()) => return Ok(Held { lock: file }),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(Error::call(format!("flock({path:?})"), errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(name: &str) -> Store {
        Store::at(std::env::temp_dir().join(format!("drydock-store-{name}-{}", std::process::id())))
    }

    #[test]
    fn one_winner() {
        let store = store("win");
        let id = ContainerId::parse("x").unwrap();
        let wins: usize = std::thread::scope(|scope| {
            let tries: Vec<_> =
                (0..50).map(|_| scope.spawn(|| store.create(&id).map(|(_, held)| held))).collect();
            let results: Vec<_> = tries.into_iter().map(|t| t.join().unwrap()).collect();
            results.iter().filter(|r| r.is_ok()).count()
        });
        assert_eq!(wins, 1);
        std::fs::remove_dir_all(store.root()).unwrap();
    }

    #[test]
    fn private_whatever_the_root_was() {
        let store = store("mode");
        std::fs::create_dir_all(store.root()).unwrap();
        std::fs::set_permissions(store.root(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let (dir, held) = store.create(&ContainerId::parse("y").unwrap()).unwrap();
        assert_eq!(std::fs::metadata(store.root()).unwrap().mode() & 0o777, 0o700);
        assert_eq!(std::fs::metadata(&dir).unwrap().mode() & 0o777, 0o700);
        assert!(store.try_own(&ContainerId::parse("y").unwrap()).unwrap().is_none());
        drop(held);
        assert!(store.try_own(&ContainerId::parse("y").unwrap()).unwrap().is_some());
        std::fs::remove_dir_all(store.root()).unwrap();
    }

    #[test]
    fn made_by_hand_is_not_corrupt() {
        let store = store("hand");
        let (made, hand) = (ContainerId::parse("made").unwrap(), ContainerId::parse("hand").unwrap());
        drop(store.create(&made).unwrap());
        drydock_core::Journal::create(&store.dir(&made)).unwrap();
        std::fs::create_dir(store.dir(&hand)).unwrap();
        assert!(!store.find("hand").unwrap().is_by_hand(), "nothing is journalled there");
        drydock_core::Journal::create(&store.dir(&hand)).unwrap();
        assert!(store.find("hand").unwrap().is_by_hand());
        assert!(!store.find("made").unwrap().is_by_hand(), "somebody has owned it");
        std::fs::remove_dir_all(store.root()).unwrap();
    }

    #[test]
    fn names_and_prefixes() {
        let store = store("find");
        for id in ["web-1", "web-2", "db"] {
            store.create(&ContainerId::parse(id).unwrap()).unwrap();
        }
        assert_eq!(store.find("d").unwrap().id.as_str(), "db");
        assert!(store.find("web").unwrap_err().to_string().contains("web-1, web-2"));
        assert!(store.find("nope").unwrap_err().to_string().contains("the container does not exist"));
        assert_eq!(store.find("../db").unwrap_err().exit_code(), 2);
        std::fs::remove_dir_all(store.root()).unwrap();
    }
}
