//! A root in the making: a hidden directory beside the place where it will be, locked by whoever fills it, put into its
//! place by one rename(2) when it is complete. What a killed process left is removed by the next one.

use crate::root::{Root, make_parents, shown};
use crate::unfinished::Word;
use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// In the name of every unfinished root.
const MARK: &str = ".drydock-unpack-";

/// See the module.
#[derive(Debug)]
pub struct Staging {
    target: PathBuf,
    temporary: Option<PathBuf>,
    fd: OwnedFd,
    // Dropped last.
    _word: Option<Word>,
    /// The target is a mount point, or cannot be replaced: what is ready is moved into it.
    inside: bool,
}

impl Staging {
    /// A new root that will be `target`, a directory that is empty or not there.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] for a target that is there and not empty, or a symbolic link, or no directory;
    /// mkdir(2)'s.
    pub fn new(target: &Path) -> Result<Self> {
        let target: PathBuf = std::path::absolute(target).call(|| "getcwd()")?.components().collect();
        let there = std::fs::symlink_metadata(&target).is_ok();
        if there && !Root::open(&target)?.is_empty()? {
            return Err(Error::bad_input(shown(&target), "is not empty (allowed: a new or empty directory)")
                .hint("--force unpacks over what is there"));
        }
        let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
            return Err(Error::bad_input(
                shown(&target),
                "is the host's own root (allowed: a directory below it)",
            ));
        };
        let device = |path: &Path| std::fs::metadata(path).map(|m| m.dev()).ok();
        let inside = there && device(parent) != device(&target);
        let (place, prefix) = if inside {
            (target.clone(), OsString::new())
        } else {
            make_parents(parent)?;
            (parent.to_path_buf(), name.to_owned())
        };
        sweep(&place, &prefix);
        let mut word = None;
        let (temporary, fd) = create_said(&place, &prefix, &mut |path| word = Word::of(path))?;
        Ok(Self { target, temporary: Some(temporary), fd, _word: word, inside })
    }

    /// The open directory to fill.
    ///
    /// # Errors
    /// dup(2)'s.
    pub fn root(&self) -> Result<OwnedFd> {
        self.fd.try_clone().call(|| "dup(root)")
    }

    /// Where it is for now.
    pub fn path(&self) -> &Path {
        self.temporary.as_deref().unwrap_or(&self.target)
    }

    /// Puts it into its place.
    ///
    /// # Errors
    /// rename(2)'s.
    pub fn commit(mut self) -> Result<()> {
        let Some(temporary) = self.temporary.clone() else { return Ok(()) };
        if !self.inside {
            let moved = std::fs::rename(&temporary, &self.target);
            moved.call(|| format!("rename({temporary:?}, {:?})", self.target))?;
            self.temporary = None;
            return Ok(());
        }
        let meta = std::fs::symlink_metadata(&temporary).call(|| format!("lstat({temporary:?})"))?;
        for entry in std::fs::read_dir(&temporary).call(|| format!("getdents64({temporary:?})"))? {
            let entry = entry.call(|| format!("getdents64({temporary:?})"))?;
            let to = self.target.join(entry.file_name());
            std::fs::rename(entry.path(), &to).call(|| format!("rename({:?}, {to:?})", entry.path()))?;
        }
        std::fs::remove_dir(&temporary).call(|| format!("rmdir({temporary:?})"))?;
        self.temporary = None;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(meta.mode() & 0o7777);
        std::fs::set_permissions(&self.target, mode).call(|| format!("chmod({:?})", self.target))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Some(temporary) = self.temporary.take() {
            remove(&temporary);
        }
    }
}

/// Makes a new directory with a name that only we use, and locks it.
///
/// # Errors
/// mkdir(2)'s.
pub fn create(place: &Path, prefix: &OsStr) -> Result<(PathBuf, OwnedFd)> {
    create_said(place, prefix, &mut |_| {})
}

fn create_said(place: &Path, prefix: &OsStr, say: &mut dyn FnMut(&Path)) -> Result<(PathBuf, OwnedFd)> {
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    loop {
        let n = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut name = OsString::from(".");
        // Within NAME_MAX.
        name.push(if prefix.len() < 200 { prefix } else { OsStr::new("long") });
        name.push(format!("{MARK}{}-{n}", std::process::id()));
        let path = place.join(name);
        say(&path);
        match std::fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => continue,
            Err(e) => {
                return Err(Error::call(format!("mkdir({path:?}, 0700)"), e).on(shown(place)));
            }
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&path, flags, Mode::empty()).call(|| format!("open({path:?})"))?;
        rustix::fs::flock(fd.as_fd(), FlockOperation::NonBlockingLockExclusive)
            .call(|| format!("flock({path:?})"))?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755)).call(|| format!("fchmod({path:?}, 0755)"))?;
        return Ok((path, fd));
    }
}

/// The unfinished roots in a directory whose makers are no more.
pub fn left(place: &Path, prefix: &OsStr) -> Vec<PathBuf> {
    let mut start = OsString::from(".");
    start.push(if prefix.len() < 200 { prefix } else { OsStr::new("long") });
    start.push(MARK);
    let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
    let ours = entries.filter(|e| e.file_name().as_encoded_bytes().starts_with(start.as_encoded_bytes()));
    ours.map(|e| e.path()).filter(|path| dead(path)).collect()
}

/// Removes what processes that are no more left unfinished. Nothing that goes wrong here matters.
pub fn sweep(place: &Path, prefix: &OsStr) -> usize {
    left(place, prefix).into_iter().inspect(|path| remove(path)).count()
}

fn dead(path: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .is_ok_and(|fd| rustix::fs::flock(fd, FlockOperation::NonBlockingLockExclusive).is_ok())
}

/// Removes a directory with all in it, also what its owner has closed to himself.
pub fn remove(path: &Path) {
    if std::fs::remove_dir_all(path).is_ok() {
        return;
    }
    open_up(path, 0);
    let _ = std::fs::remove_dir_all(path);
}

fn open_up(dir: &Path, depth: usize) {
    if depth > 1100 {
        return;
    }
    let _ = std::fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o700));
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path(), depth + 1);
        }
    }
}
