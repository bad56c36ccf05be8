//! Paths of a root file system that may be hostile, resolved by descriptors and never leaving it.
//!
//! A symbolic link inside may point anywhere; `..` may be raced. So every path is opened relative to a descriptor of
//! the root by openat2(2) with RESOLVE_IN_ROOT, or, where something has to be made on the way, one component at a time
//! with O_NOFOLLOW. What is mounted is mounted on the descriptor that was checked, by its name in /proc/self/fd.

use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

/// What is to be at a path; made if it is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// A directory (0755).
    Directory,
    /// Anything but a directory; an empty regular file (0644) is made.
    File,
}

/// What to do with symbolic links inside the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// A link anywhere on the path is an error: /proc, /sys and /dev must be ordinary directories.
    Refuse,
    /// Follow, with the root as `/`.
    Follow,
}

/// The name of a descriptor that mount(2) takes. Follows to exactly what was opened.
pub fn fd_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// A root file system held by a descriptor.
#[derive(Debug)]
pub struct Inside {
    root: OwnedFd,
}

const PATH_FLAGS: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);
const MAX_LINKS: usize = 40;

impl Inside {
    /// `root`: an O_PATH descriptor of the root directory.
    pub fn new(root: OwnedFd) -> Self {
        Self { root }
    }

    /// The root's descriptor.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens what is at `path` (absolute, inside), as O_PATH. `None` if nothing is there.
    ///
    /// # Errors
    /// Refused links, or the call's.
    pub fn open(&self, path: &str, links: Links) -> Result<Option<OwnedFd>> {
        match self.open2(path, links, OFlags::empty()) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(Errno::NOSYS | Errno::PERM) => self.walk(path, links, None),
            Err(e) => Err(failure(path, links, e)),
        }
    }

    /// Opens what is at `path`, and makes it and the directories above it if they are missing.
    ///
    /// # Errors
    /// Refused links; a directory where a file is wanted, or the other way round; EROFS, ENOSPC, ….
    pub fn ensure(&self, path: &str, want: Want, links: Links) -> Result<OwnedFd> {
        self.ensure_told(path, want, links).map(|(fd, _)| fd)
    }

    /// [`Inside::ensure`], which also tells whether it was there before.
    ///
    /// # Errors
    /// As [`Inside::ensure`].
    pub fn ensure_told(&self, path: &str, want: Want, links: Links) -> Result<(OwnedFd, bool)> {
        let directory = if want == Want::Directory { OFlags::DIRECTORY } else { OFlags::empty() };
        let (found, existed) = match self.open2(path, links, directory) {
            Ok(fd) if want == Want::Directory => return Ok((fd, true)),
            Ok(fd) => (fd, true),
            Err(e @ (Errno::NOENT | Errno::NOSYS | Errno::PERM)) => {
                if e == Errno::NOENT
                    && let Some(made) = self.make_last(path, want, links)
                {
                    return Ok((made, false));
                }
                match self.walk(path, links, Some(want))? {
                    Some(fd) => (fd, false),
                    None => return Err(Error::call(format!("openat(root, {path:?})"), Errno::NOENT)),
                }
            }
            Err(e) => return Err(failure(path, links, e)),
        };
        let is_directory = file_type(found.as_fd(), path)? == FileType::Directory;
        match want {
            Want::Directory if !is_directory => Err(Error::failed(
                path,
                "is not a directory in the root file system: must be mounted on ordinary directory",
            )),
            Want::File if is_directory => Err(Error::failed(
                path,
                "is a directory in the root file system, but a file is to be mounted there",
            )),
            _ => Ok((found, existed)),
        }
    }

    /// The usual case of a missing path: only its last component is missing. `None`: to be found out step by step.
    fn make_last(&self, path: &str, want: Want, links: Links) -> Option<OwnedFd> {
        let (above, name) = path.rsplit_once('/')?;
        if matches!(name, "" | "." | "..") {
            return None;
        }
        let above = self.open2(above, links, OFlags::DIRECTORY).ok()?;
        if want == Want::File {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            return rustix::fs::openat(&above, name, flags, Mode::from_raw_mode(0o644)).ok();
        }
        rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(0o755)).ok()?;
        let flags = PATH_FLAGS | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        rustix::fs::openat(&above, name, flags, Mode::empty()).ok()
    }

    /// Splits `/a/b/c` into the directory `/a/b`, opened (made if missing), and the name `c`.
    ///
    /// # Errors
    /// As [`Inside::ensure`].
    pub fn parent<'p>(&self, path: &'p str, links: Links) -> Result<(OwnedFd, &'p str)> {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.ensure(if above.is_empty() { "/" } else { above }, Want::Directory, links)?, name))
    }

    fn open2(&self, path: &str, links: Links, extra: OFlags) -> rustix::io::Result<OwnedFd> {
        let relative = path.trim_start_matches('/');
        let relative = if relative.is_empty() { "." } else { relative };
        let mut resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        if links == Links::Refuse {
            resolve |= ResolveFlags::NO_SYMLINKS;
        }
        // EAGAIN: something was renamed meanwhile, and the kernel cannot tell whether ".." would have left the root.
        for _ in 0..64 {
            match rustix::fs::openat2(&self.root, relative, PATH_FLAGS | extra, Mode::empty(), resolve) {
                Err(Errno::AGAIN) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }

    /// One component at a time: follows links by hand with the root as `/`, makes what is missing if `make` says what.
    fn walk(&self, path: &str, links: Links, make: Option<Want>) -> Result<Option<OwnedFd>> {
        let mut todo = components(path.as_bytes());
        let mut above: Vec<OwnedFd> = Vec::new();
        let mut links_left = MAX_LINKS;
        while let Some(name) = todo.pop_front() {
            if name == ".." {
                // Back the way we came: a rename cannot make this leave the root.
                above.pop();
                continue;
            }
            let here = above.last().map_or(self.root.as_fd(), AsFd::as_fd);
            let next = match rustix::fs::openat(here, &name, PATH_FLAGS | OFlags::NOFOLLOW, Mode::empty()) {
                Ok(fd) => fd,
                Err(Errno::NOENT) => match make {
                    None => return Ok(None),
                    Some(want) => create(here, &name, if todo.is_empty() { want } else { Want::Directory })
                        .map_err(|e| explain_create(e, path))?,
                },
                Err(Errno::NOTDIR) if make.is_none() => return Ok(None),
                Err(e) => return Err(failure(path, links, e)),
            };
            if file_type(next.as_fd(), path)? != FileType::Symlink {
                above.push(next);
                continue;
            }
            if links == Links::Refuse {
                return Err(failure(path, links, Errno::LOOP));
            }
            links_left = links_left.checked_sub(1).ok_or_else(|| failure(path, links, Errno::LOOP))?;
            let target =
                rustix::fs::readlinkat(&next, "", Vec::new()).map_err(|e| failure(path, links, e))?;
            if target.as_bytes().starts_with(b"/") {
                above.clear();
            }
            for component in components(target.as_bytes()).into_iter().rev() {
                todo.push_front(component);
            }
        }
        match above.pop() {
            Some(fd) => Ok(Some(fd)),
            None => rustix::io::fcntl_dupfd_cloexec(&self.root, 3)
                .call(|| "fcntl(root, F_DUPFD_CLOEXEC)")
                .map(Some),
        }
    }
}

fn components(path: &[u8]) -> VecDeque<OsString> {
    let named = path.split(|b| *b == b'/').filter(|c| !c.is_empty() && *c != b".");
    named.map(|c| OsString::from_vec(c.to_vec())).collect()
}

fn create(dir: BorrowedFd<'_>, name: &OsStr, want: Want) -> Result<OwnedFd> {
    match want {
        Want::Directory => match rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o755)) {
            // Someone else made it meanwhile; what it is is checked when it is opened.
            Err(Errno::EXIST) => {}
            other => other.call(|| format!("mkdirat(dir, {name:?}, 0755)"))?,
        },
        Want::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::WRONLY;
            match rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o644)) {
                Ok(_) | Err(Errno::EXIST) => {}
                Err(e) => {
                    return Err(Error::call(
                        format!("openat(dir, {name:?}, O_CREAT|O_EXCL|O_NOFOLLOW, 0644)"),
                        e,
                    ));
                }
            }
        }
    }
    rustix::fs::openat(dir, name, PATH_FLAGS | OFlags::NOFOLLOW, Mode::empty())
        .call(|| format!("openat(dir, {name:?}, O_PATH|O_NOFOLLOW)"))
}

fn explain_create(error: Error, path: &str) -> Error {
    let error = error.on(path).because("does not exist in the root file system and cannot be made there");
    match error.errno() {
        Some(nix::libc::EROFS) => {
            error.hint("the root file system is read-only: make the mount point in it first")
        }
        _ => error,
    }
}

fn failure(path: &str, links: Links, errno: Errno) -> Error {
    match errno {
        Errno::LOOP if links == Links::Refuse => Error::failed(
            path,
            "is or goes through a symbolic link in the root file system: must be mounted on ordinary directory",
        ),
        Errno::LOOP => Error::failed(path, "symbolic links in the root file system go round in a circle"),
        Errno::NOTDIR => {
            Error::failed(path, "goes through something that is not a directory in the root file system")
        }
        Errno::XDEV => Error::failed(path, "leaves the root file system"),
        e => Error::call(format!("openat2(root, {path:?}, O_PATH, RESOLVE_IN_ROOT)"), e),
    }
}

/// fstat(2) of an O_PATH descriptor.
///
/// # Errors
/// fstat(2)'s.
pub fn stat(fd: BorrowedFd<'_>, path: &str) -> Result<Stat> {
    rustix::fs::fstat(fd).call(|| format!("fstat({path:?})"))
}

/// The type of what a descriptor refers to.
///
/// # Errors
/// fstat(2)'s.
pub fn file_type(fd: BorrowedFd<'_>, path: &str) -> Result<FileType> {
    Ok(FileType::from_raw_mode(stat(fd, path)?.st_mode))
}

/// Whether a descriptor is on a procfs.
pub fn is_proc(fd: BorrowedFd<'_>) -> bool {
    rustix::fs::fstatfs(fd).is_ok_and(|s| s.f_type == rustix::fs::PROC_SUPER_MAGIC)
}

/// The id of the mount that a descriptor is on; `None` before Linux 5.8.
pub fn mount_id(fd: BorrowedFd<'_>) -> Option<u64> {
    use rustix::fs::StatxFlags;
    let flags = AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
    let stat = rustix::fs::statx(fd, "", flags, StatxFlags::MNT_ID).ok()?;
    (stat.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(stat.stx_mnt_id)
}

/// Opens a host path as O_PATH.
///
/// # Errors
/// open(2)'s.
pub fn open_host(path: &Path, extra: OFlags) -> Result<OwnedFd> {
    rustix::fs::open(path, PATH_FLAGS | extra, Mode::empty()).call(|| format!("open({path:?}, O_PATH)"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    struct Tree(PathBuf);
    impl Tree {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("drydock-inside-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&dir);
            std::fs::create_dir_all(dir.join("root")).unwrap();
            Self(dir)
        }
        fn inside(&self) -> Inside {
            Inside::new(open_host(&self.0.join("root"), OFlags::DIRECTORY).unwrap())
        }
    }
    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn stays_inside() {
        let tree = Tree::new("stay");
        let outside = tree.0.join("outside");
        std::fs::create_dir(&outside).unwrap();
        symlink(&outside, tree.0.join("root/abs")).unwrap();
        symlink("../../outside", tree.0.join("root/rel")).unwrap();
        let inside = tree.inside();
        // Absolute: clamped, made below the root. Relative with too many "..": clamped too.
        inside.ensure("/abs/x", Want::File, Links::Follow).unwrap();
        inside.ensure("/rel/y/z", Want::Directory, Links::Follow).unwrap();
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
        assert!(tree.0.join("root/outside/y/z").is_dir());
        let clamped = tree.0.join("root").join(outside.strip_prefix("/").unwrap());
        assert!(clamped.join("x").is_file());
        for path in ["/abs", "/abs/x", "/rel"] {
            let e = inside.ensure(path, Want::Directory, Links::Refuse).unwrap_err();
            assert!(e.to_string().contains("ordinary directory"), "{e}");
        }
    }

    #[test]
    fn kinds_loops_and_the_walk() {
        let tree = Tree::new("kinds");
        let root = tree.0.join("root");
        std::fs::write(root.join("file"), "").unwrap();
        symlink("b", root.join("a")).unwrap();
        symlink("a", root.join("b")).unwrap();
        symlink("missing/target", root.join("dangling")).unwrap();
        let inside = tree.inside();
        assert!(inside.ensure("/file", Want::Directory, Links::Follow).is_err());
        assert!(inside.ensure("/", Want::File, Links::Follow).is_err());
        assert!(inside.ensure("/file/x", Want::File, Links::Follow).is_err());
        assert!(inside.ensure("/a", Want::File, Links::Follow).unwrap_err().to_string().contains("circle"));
        inside.ensure("/dangling", Want::File, Links::Follow).unwrap();
        assert!(root.join("missing/target").is_file());
        assert!(inside.open("/nothing", Links::Follow).unwrap().is_none());
        assert!(inside.walk("/nothing", Links::Follow, None).unwrap().is_none());
        assert!(inside.walk("/dangling", Links::Follow, None).unwrap().is_some());
        assert!(inside.walk("/..", Links::Follow, None).unwrap().is_some());
        assert!(inside.walk("/dangling", Links::Refuse, None).is_err());
    }
}
