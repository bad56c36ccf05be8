//! Writing inside a root directory: every path is resolved by openat2(2) with RESOLVE_IN_ROOT below one descriptor, so
//! that a symbolic link planted there leads at most to another place of the same root.

use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// An open root directory that is written to.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    path: PathBuf,
}

/// openat2(2) below `root` with RESOLVE_IN_ROOT. EAGAIN (a rename raced with `..`) is tried again.
pub(crate) fn open_in(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let mut tries = 0;
    loop {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) if tries < 64 => tries += 1,
            other => return other,
        }
    }
}

/// The path as one that a person typed: the object of an error.
pub(crate) fn shown(path: &Path) -> String {
    let text = drydock_core::text::escape_bytes(path.as_os_str().as_bytes());
    format!("'{}'", drydock_core::text::shorten(&text, 300))
}

impl Root {
    /// Opens an existing directory as a root.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] if it is missing, not a directory, a symbolic link, not accessible, or `/`.
    pub fn open(dir: &Path) -> Result<Self> {
        // Without a trailing slash, which would follow a link.
        let path: PathBuf = dir.components().collect();
        if path.as_os_str().is_empty() {
            return Err(Error::bad_input("''", "not a directory name (allowed: the path of a directory)"));
        }
        match std::fs::symlink_metadata(&path) {
            Ok(m) if m.is_symlink() => {
                return Err(Error::bad_input(shown(dir), "is a symbolic link (allowed: a real directory)")
                    .hint("give the directory that it points to"));
            }
            Ok(m) if !m.is_dir() => {
                return Err(Error::bad_input(shown(dir), "is not a directory (allowed: a directory)"));
            }
            Ok(_) => {}
            Err(e) => return Err(no_directory(dir, &e)),
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
        let fd = rustix::fs::open(&path, flags, Mode::empty()).map_err(|e| no_directory(dir, &e.into()))?;
        let root = Self { fd, path };
        if root.is_host_root()? {
            return Err(Error::bad_input(
                shown(dir),
                "is the host's own root (allowed: a directory below it)",
            ));
        }
        Ok(root)
    }

    fn is_host_root(&self) -> Result<bool> {
        let ours = rustix::fs::fstat(&self.fd).call(|| format!("fstat({:?})", self.path))?;
        let host = std::fs::metadata("/").call(|| "stat(\"/\")")?;
        Ok(ours.st_dev == host.dev() && ours.st_ino == host.ino())
    }

    /// Makes a directory that was not there (mode 0755), with its missing parents, and opens it. Nobody else can have
    /// put anything in it.
    ///
    /// # Errors
    /// EEXIST; mkdir(2)'s; as [`Root::open`].
    pub fn create_new(dir: &Path) -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let mut builder = std::fs::DirBuilder::new();
        if let Some(parent) = dir.parent().filter(|p| !p.as_os_str().is_empty()) {
            make_parents(parent)?;
        }
        let made = builder.recursive(false).mode(0o700).create(dir);
        made.call(|| format!("mkdir({dir:?}, 0700)"))?;
        let root = Self::open(dir)?;
        rustix::fs::fchmod(&root.fd, Mode::from_raw_mode(0o755)).call(|| format!("chmod({dir:?}, 0755)"))?;
        Ok(root)
    }

    /// The path that it was opened by, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where `path` of the root is on the host, for messages.
    pub fn outside(&self, path: &Path) -> PathBuf {
        self.path.join(relative(path))
    }

    /// True if the directory has no entries.
    ///
    /// # Errors
    /// getdents64(2)'s.
    pub fn is_empty(&self) -> Result<bool> {
        let dir = rustix::fs::Dir::read_from(&self.fd).call(|| format!("getdents64({:?})", self.path))?;
        for entry in dir {
            let entry = entry.call(|| format!("getdents64({:?})", self.path))?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What is at `path`, its last component not followed: `None` if nothing.
    ///
    /// # Errors
    /// openat2(2)'s, but ENOENT.
    pub fn kind(&self, path: &Path) -> Result<Option<FileType>> {
        match open_in(self.fd.as_fd(), relative(path), OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(fd) => {
                let stat = rustix::fs::fstat(&fd).call(|| format!("fstat({:?})", self.outside(path)))?;
                Ok(Some(FileType::from_raw_mode(stat.st_mode)))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(self.failed("openat2", path, "O_PATH|O_NOFOLLOW", e)),
        }
    }

    /// True if `path` itself is a directory, not a link to one.
    pub fn has_directory(&self, path: &Path) -> bool {
        matches!(self.kind(path), Ok(Some(FileType::Directory)))
    }

    fn failed(&self, call: &str, path: &Path, rest: &str, errno: Errno) -> Error {
        Error::call(format!("{call}({:?}, {:?}, {rest})", self.path, relative(path)), errno)
            .on(shown(&self.outside(path)))
    }

    /// Makes a directory and its parents where they are missing; what is made gets `mode` (parents: 0755), what was there
    /// keeps its own, but for sticky directories (/tmp).
    ///
    /// # Errors
    /// ENOTDIR when something else has the name; mkdirat(2)'s.
    pub fn make_dirs(&self, path: &Path, mode: u32) -> Result<()> {
        let dir = self.directory(relative(path), mode)?;
        // A /tmp that others cannot write is no /tmp: this one right is given also to what was there.
        if mode & 0o1000 != 0 {
            rustix::fs::fchmod(&dir, Mode::from_raw_mode(mode))
                .map_err(|e| self.failed("fchmod", path, &format!("{mode:04o}"), e))?;
        }
        Ok(())
    }

    fn directory(&self, path: &Path, mode: u32) -> Result<OwnedFd> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY;
        match open_in(self.fd.as_fd(), path, flags, Mode::empty()) {
            Ok(fd) => return Ok(fd),
            Err(Errno::NOENT) => {}
            Err(e) => return Err(self.failed("openat2", path, "O_DIRECTORY, RESOLVE_IN_ROOT", e)),
        }
        let (parent, name) = self.parent_of(path)?;
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o700)) {
            Ok(()) => {}
            // Somebody else was faster; what it is, the open below tells.
            Err(Errno::EXIST) => {
                return open_in(self.fd.as_fd(), path, flags, Mode::empty())
                    .map_err(|e| self.failed("openat2", path, "O_DIRECTORY, RESOLVE_IN_ROOT", e));
            }
            Err(e) => return Err(self.failed("mkdirat", path, &format!("{mode:04o}"), e)),
        }
        let made =
            rustix::fs::openat(&parent, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
                .map_err(|e| self.failed("openat", path, "O_DIRECTORY|O_NOFOLLOW", e))?;
        // The caller's umask must not decide; libraries do not change it.
        rustix::fs::fchmod(&made, Mode::from_raw_mode(mode))
            .map_err(|e| self.failed("fchmod", path, &format!("{mode:04o}"), e))?;
        Ok(made)
    }

    fn parent_of<'p>(&self, path: &'p Path) -> Result<(OwnedFd, &'p std::ffi::OsStr)> {
        let name = path.file_name().ok_or_else(|| {
            Error::bad_input(shown(path), "has no file name (allowed: an absolute path below the root)")
        })?;
        Ok((self.directory(path.parent().unwrap_or(Path::new("")), 0o755)?, name))
    }

    /// Makes the symbolic link `path` → `target`, in place of a file or link of that name, not of a directory.
    ///
    /// # Errors
    /// EISDIR; symlinkat(2)'s and renameat(2)'s.
    pub fn symlink(&self, path: &Path, target: &Path) -> Result<()> {
        let path = relative(path);
        let (parent, name) = self.parent_of(path)?;
        match rustix::fs::symlinkat(target, &parent, name) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) => {}
            Err(e) => return Err(self.failed("symlinkat", path, &format!("{target:?}"), e)),
        }
        let temporary = temporary_name();
        rustix::fs::symlinkat(target, &parent, temporary.as_str())
            .map_err(|e| self.failed("symlinkat", path, &format!("{target:?}"), e))?;
        self.rename(&parent, &temporary, name, path)
    }

    fn rename(&self, parent: &OwnedFd, temporary: &str, name: &std::ffi::OsStr, path: &Path) -> Result<()> {
        rustix::fs::renameat(parent, temporary, parent, name).map_err(|e| {
            let _ = rustix::fs::unlinkat(parent, temporary, AtFlags::empty());
            self.failed("renameat", path, "…", e)
        })
    }

    /// Writes a whole file, in place of a file or link of that name, not of a directory.
    ///
    /// # Errors
    /// EISDIR; openat(2)'s, write(2)'s, renameat(2)'s.
    pub fn write(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
        self.put(path, mode, |file| file.write_all(bytes)).map(drop)
    }

    /// Copies an open file's bytes: by sharing its blocks where the file system can (ioctl_ficlonerange(2)), else by
    /// copy_file_range(2), else by reading. Returns the number of bytes.
    ///
    /// # Errors
    /// As [`Root::write`].
    pub fn copy(&self, from: &mut File, path: &Path, mode: u32) -> Result<u64> {
        self.put(path, mode, |to| {
            if rustix::fs::ioctl_ficlone(&*to, &*from).is_ok() {
                return Ok(());
            }
            std::io::copy(from, to).map(drop)
        })
    }

    fn put(
        &self,
        path: &Path,
        mode: u32,
        fill: impl FnOnce(&mut File) -> std::io::Result<()>,
    ) -> Result<u64> {
        let path = relative(path);
        let (parent, name) = self.parent_of(path)?;
        let temporary = temporary_name();
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&parent, temporary.as_str(), flags, Mode::from_raw_mode(0o600))
            .map_err(|e| self.failed("openat", path, "O_CREAT|O_EXCL|O_NOFOLLOW", e))?;
        let mut file = File::from(fd);
        let filled = fill(&mut file)
            .and_then(|()| Ok(rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?))
            .and_then(|()| file.metadata());
        match filled {
            Ok(meta) => self.rename(&parent, &temporary, name, path).map(|()| meta.len()),
            Err(e) => {
                let _ = rustix::fs::unlinkat(&parent, temporary.as_str(), AtFlags::empty());
                Err(Error::call(format!("write({:?})", self.outside(path)), e))
            }
        }
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// `/a/b` as `a/b`: openat2 takes both the same way in a root, but other calls do not.
pub(crate) fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

fn temporary_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!(".drydock-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn no_directory(dir: &Path, error: &std::io::Error) -> Error {
    let why = match error.raw_os_error() {
        Some(nix::libc::ENOENT) => "does not exist (allowed: a directory)".to_string(),
        Some(code) => drydock_core::error::errno_text(code),
        None => error.to_string(),
    };
    let bad = Error::bad_input(shown(dir), why);
    match error.raw_os_error() {
        Some(nix::libc::ENOENT) => bad.hint("make it with: rootfs new DIR"),
        _ => bad,
    }
}

/// Makes a directory with all above it.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] where something on the way is no directory; mkdir(2)'s.
pub(crate) fn make_parents(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(dir);
    let Err(error) = made else { return Ok(()) };
    if matches!(error.kind(), std::io::ErrorKind::NotADirectory | std::io::ErrorKind::AlreadyExists) {
        return Err(Error::bad_input(shown(dir), "is not a directory (allowed: a place in a directory)"));
    }
    Err(Error::call(format!("mkdir({dir:?}, 0755)"), error).on(shown(dir)))
}
