//! Where entries go: directories below one root, found by openat2(2) with RESOLVE_IN_ROOT, kept open while they are used,
//! and given back their times (and modes) when a layer is done.

use super::limits::Known;
use crate::root::open_in;
use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Directories that are kept open.
const MAX_OPEN: usize = 200;
/// Bytes of names that are remembered until times are given back.
const MAX_REMEMBERED: usize = 32 << 20;
/// Links to what is not there, one leading to the next.
const MAX_LINKS: u32 = 40;

/// What a directory gets when the layer is done.
#[derive(Debug)]
struct Later {
    path: Vec<u8>,
    mode: Option<u32>,
    times: Timestamps,
}

/// The directories of one root.
#[derive(Debug)]
pub struct Places {
    root: OwnedFd,
    open: HashMap<Vec<u8>, Rc<OwnedFd>>,
    later: HashMap<u64, Later>,
    remembered: usize,
    privileged: bool,
}

/// A path as the kernel takes it.
pub fn path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(if bytes.is_empty() { b"." } else { bytes }))
}

/// The directory's path and the last component.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default()),
        None => (b"", path),
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Places {
    /// Below this directory.
    pub fn new(root: OwnedFd) -> Self {
        let privileged = nix::unistd::geteuid().is_root();
        Self { root, open: HashMap::new(), later: HashMap::new(), remembered: 0, privileged }
    }

    /// The root itself.
    pub fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// The directory at a path, links in it followed within the root; made (0755) where it is missing. Its times will be
    /// as they are now when the layer is done.
    ///
    /// # Errors
    /// ENOTDIR when a file stands there; openat2(2)'s and mkdirat(2)'s.
    pub fn directory(&mut self, dir: &[u8]) -> Result<Rc<OwnedFd>> {
        if let Some(fd) = self.open.get(dir) {
            return Ok(Rc::clone(fd));
        }
        let fd = self.ensure(dir, MAX_LINKS).map_err(|e| explain(dir, e))?;
        self.remember(&fd, dir)?;
        if self.open.len() >= MAX_OPEN {
            self.open.clear();
        }
        let fd = Rc::new(fd);
        self.open.insert(dir.to_vec(), Rc::clone(&fd));
        Ok(fd)
    }

    /// The directory at a path, if there is one.
    ///
    /// # Errors
    /// openat2(2)'s, but for those that say that there is none.
    pub fn existing(&mut self, dir: &[u8]) -> Result<Option<Rc<OwnedFd>>> {
        match open_in(self.root.as_fd(), path(dir), DIRECTORY, Mode::empty()) {
            Ok(_) => self.directory(dir).map(Some),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(e) => Err(explain(dir, e)),
        }
    }

    fn ensure(&mut self, dir: &[u8], links: u32) -> Result<OwnedFd, Errno> {
        match open_in(self.root.as_fd(), path(dir), DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT) => {}
            Err(Errno::ACCESS) if !self.privileged => return self.open_closed(dir),
            other => return other,
        }
        let (parent, name) = split(dir);
        let above = self.ensure(parent, links)?;
        if matches!(name, b"" | b"." | b"..") {
            return open_in(self.root.as_fd(), path(dir), DIRECTORY, Mode::empty());
        }
        // What is made in it must not change its times.
        let _ = self.remember(&above, parent);
        match rustix::fs::mkdirat(&above, path(name), Mode::from_raw_mode(0o755)) {
            Ok(()) => {
                let flags = DIRECTORY | OFlags::NOFOLLOW;
                let made = rustix::fs::openat(&above, path(name), flags, Mode::empty())?;
                rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755))?;
                Ok(made)
            }
            Err(Errno::EXIST) => {
                // A link to what is not there: that is made, within the root, as if the link had been followed.
                let links = links.checked_sub(1).ok_or(Errno::LOOP)?;
                let target = rustix::fs::readlinkat(&above, path(name), Vec::new()).map_err(|e| match e {
                    Errno::INVAL => Errno::NOTDIR,
                    other => other,
                })?;
                let target = target.into_bytes();
                let mut full = if target.starts_with(b"/") { Vec::new() } else { [parent, b"/"].concat() };
                full.extend_from_slice(&target);
                self.ensure(&full, links)
            }
            Err(e) => Err(e),
        }
    }

    /// Without privileges: a directory of ours that we have no rights to any more.
    fn open_closed(&mut self, dir: &[u8]) -> Result<OwnedFd, Errno> {
        let fd = open_in(self.root.as_fd(), path(dir), OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
        let stat = rustix::fs::fstat(&fd)?;
        let name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
        let mode = stat.st_mode & 0o7777;
        self.note(stat.st_ino, dir, Some(mode), times(&stat));
        rustix::fs::chmod(name.as_str(), Mode::from_raw_mode(mode | 0o700))?;
        open_in(self.root.as_fd(), path(dir), DIRECTORY, Mode::empty())
    }

    fn remember(&mut self, fd: &OwnedFd, dir: &[u8]) -> Result<()> {
        let stat = rustix::fs::fstat(fd).call(|| format!("fstat({:?})", path(dir)))?;
        if self.later.contains_key(&stat.st_ino) {
            return Ok(());
        }
        let mode = stat.st_mode & 0o7777;
        let closed = !self.privileged && mode & 0o700 != 0o700;
        self.note(stat.st_ino, dir, closed.then_some(mode), times(&stat));
        if closed {
            rustix::fs::fchmod(fd, Mode::from_raw_mode(mode | 0o700))
                .call(|| format!("fchmod({:?})", path(dir)))?;
        }
        Ok(())
    }

    fn note(&mut self, inode: u64, dir: &[u8], mode: Option<u32>, times: Timestamps) {
        self.remembered += dir.len() + 128;
        self.later.entry(inode).or_insert(Later { path: dir.to_vec(), mode, times });
    }

    /// Sets what a directory of the archive gets when the layer is done.
    ///
    /// # Errors
    /// fstat(2)'s.
    pub fn set_later(&mut self, fd: &OwnedFd, dir: &[u8], mode: u32, times: Timestamps) -> Result<()> {
        let stat = rustix::fs::fstat(fd).call(|| format!("fstat({:?})", path(dir)))?;
        self.remembered += dir.len() + 128;
        self.later.insert(stat.st_ino, Later { path: dir.to_vec(), mode: Some(mode), times });
        if self.remembered > MAX_REMEMBERED { self.settle() } else { Ok(()) }
    }

    /// What was open may not be what its path leads to any more: a directory or link has gone.
    pub fn forget(&mut self) {
        self.open.clear();
    }

    /// Gives directories their modes and times.
    ///
    /// # Errors
    /// fchmod(2)'s and utimensat(2)'s.
    pub fn settle(&mut self) -> Result<()> {
        self.open.clear();
        self.remembered = 0;
        let mut all: Vec<(u64, Later)> = self.later.drain().collect();
        // The deepest first: a parent that we may not enter any more comes after what is in it.
        all.sort_by(|a, b| b.1.path.cmp(&a.1.path));
        for (inode, later) in all {
            let Ok(fd) = open_in(self.root.as_fd(), path(&later.path), DIRECTORY, Mode::empty()) else {
                continue;
            };
            if rustix::fs::fstat(&fd).map(|s| s.st_ino) != Ok(inode) {
                continue;
            }
            if let Some(mode) = later.mode {
                rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode))
                    .call(|| format!("fchmod({:?}, {mode:04o})", path(&later.path)))?;
            }
            rustix::fs::futimens(&fd, &later.times).call(|| format!("utimensat({:?})", path(&later.path)))?;
        }
        Ok(())
    }

    /// Removes what has this name in a directory, with all below it; what this layer has made stays. `dir` is the
    /// directory's path. True if nothing of it stays.
    ///
    /// # Errors
    /// unlinkat(2)'s.
    pub fn remove(&mut self, parent: &OwnedFd, dir: &[u8], name: &[u8], made: &Known) -> Result<bool> {
        let failed = |e: Errno| Error::call(format!("unlinkat({:?})", path(name)), e);
        match rustix::fs::unlinkat(parent, path(name), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {
                self.forget();
                return Ok(true);
            }
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(e) => return Err(failed(e)),
        }
        self.forget();
        let full = if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() };
        let below = open_below(parent, name).map_err(failed)?;
        let mut kept = made.has(&full);
        kept |= !self.empty(&below, &full, made)?;
        if kept {
            return Ok(false);
        }
        rustix::fs::unlinkat(parent, path(name), AtFlags::REMOVEDIR).map_err(failed)?;
        Ok(true)
    }

    /// Removes what is in a directory; what this layer has made stays. True if nothing stays.
    ///
    /// # Errors
    /// As [`Places::remove`].
    pub fn empty(&mut self, dir: &OwnedFd, full: &[u8], made: &Known) -> Result<bool> {
        let listing = rustix::fs::Dir::read_from(dir).call(|| format!("getdents64({:?})", path(full)))?;
        let mut names = Vec::new();
        for entry in listing {
            let entry = entry.call(|| format!("getdents64({:?})", path(full)))?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(name.to_vec());
            }
        }
        let mut all = true;
        for name in names {
            let child = if full.is_empty() { name.clone() } else { [full, b"/", &name[..]].concat() };
            let stat = rustix::fs::statat(dir, path(&name), AtFlags::SYMLINK_NOFOLLOW);
            let is_directory = stat.is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Directory);
            if made.has(&child) && !is_directory {
                all = false;
                continue;
            }
            all &= self.remove(dir, full, &name, made)?;
        }
        Ok(all)
    }
}

/// Opens a directory that is to be emptied, also one that its owner has closed to himself.
fn open_below(parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = DIRECTORY | OFlags::NOFOLLOW;
    let mut fd = rustix::fs::openat(parent, path(name), flags, Mode::empty());
    if matches!(fd, Err(Errno::ACCESS)) {
        rustix::fs::chmodat(parent, path(name), Mode::from_raw_mode(0o700), AtFlags::empty())?;
        fd = rustix::fs::openat(parent, path(name), flags, Mode::empty());
    }
    let fd = fd?;
    if !nix::unistd::geteuid().is_root() {
        let _ = rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o700));
    }
    Ok(fd)
}

fn times(stat: &rustix::fs::Stat) -> Timestamps {
    let time = |seconds: i64, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// Why a directory cannot be had, for whoever made the archive.
fn explain(dir: &[u8], errno: Errno) -> Error {
    let shown = PathBuf::from(OsStr::from_bytes(dir));
    let shown = crate::root::shown(&shown);
    match errno {
        Errno::NOTDIR => Error::bad_input(shown, "is not a directory, but should hold a file"),
        Errno::LOOP => Error::bad_input(shown, "is a loop of symbolic links"),
        Errno::NAMETOOLONG => Error::bad_input(shown, "has a name that is too long (allowed: 255 bytes)"),
        other => Error::call(format!("openat2(root, {shown}, O_DIRECTORY, RESOLVE_IN_ROOT)"), other),
    }
}

/// A time of an archive as the kernel takes it.
pub fn stamps(mtime: (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: mtime.0, tv_nsec: i64::from(mtime.1) };
    Timestamps { last_access: time, last_modification: time }
}
