//! Reading paths as they look from inside a root directory. Nothing outside of it is ever opened: each lookup is one
//! openat2(2) with RESOLVE_IN_ROOT.

use crate::root::{open_in, relative, shown};
use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

/// Symbolic links followed on one path before it counts as a loop; the kernel's own limit (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// Names remembered, at most: a hostile root must not use up the memory.
const MAX_REMEMBERED: usize = 200_000;

/// What one path name is, not followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A directory.
    Dir,
    /// A regular file with its permission bits.
    File {
        /// The mode's low 12 bits.
        mode: u32,
    },
    /// A symbolic link to this target.
    Link(PathBuf),
    /// A device, socket or FIFO.
    Other,
}

/// One name that was met on the way, as its real path (no part of it is a link) and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Met {
    /// Absolute path within the root.
    pub path: PathBuf,
    /// What is there.
    pub node: Node,
}

/// A path followed to its end.
#[derive(Clone, Debug)]
pub struct Walk {
    /// Every directory and link on the way and the end itself, in order of first meeting.
    pub met: Vec<Met>,
    /// Where it ends, free of links.
    pub real: PathBuf,
    /// What is there.
    pub node: Node,
}

/// A root directory that is read.
#[derive(Debug)]
pub struct View {
    fd: OwnedFd,
    prefix: PathBuf,
    nodes: RefCell<HashMap<PathBuf, Result<Node, Errno>>>,
}

impl View {
    /// The host itself.
    ///
    /// # Errors
    /// open(2)'s.
    pub fn host() -> Result<Self> {
        let fd = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .call(|| "open(\"/\", O_PATH)")?;
        Ok(Self { fd, prefix: PathBuf::new(), nodes: RefCell::default() })
    }

    /// A root directory that is already open; `path` is for messages.
    ///
    /// # Errors
    /// dup(2)'s.
    pub fn inside(root: BorrowedFd<'_>, path: &Path) -> Result<Self> {
        let fd = root.try_clone_to_owned().call(|| "dup(root)")?;
        Ok(Self { fd, prefix: path.to_path_buf(), nodes: RefCell::default() })
    }

    /// The path as seen from the host, for messages.
    pub fn outside(&self, path: &Path) -> PathBuf {
        self.prefix.join(if self.prefix.as_os_str().is_empty() { path } else { relative(path) })
    }

    /// What is at the path, its last component not followed. Remembered.
    ///
    /// # Errors
    /// openat2(2)'s.
    pub fn node(&self, path: &Path) -> Result<Node, Errno> {
        if let Some(known) = self.nodes.borrow().get(path) {
            return known.clone();
        }
        let found = self.look(path);
        let mut nodes = self.nodes.borrow_mut();
        if nodes.len() < MAX_REMEMBERED && path.as_os_str().len() <= 512 {
            nodes.insert(path.to_path_buf(), found.clone());
        }
        found
    }

    fn look(&self, path: &Path) -> Result<Node, Errno> {
        let fd = open_in(self.fd.as_fd(), relative(path), OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())?;
        let stat = rustix::fs::fstat(&fd)?;
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Node::Dir,
            FileType::RegularFile => Node::File { mode: stat.st_mode & 0o7777 },
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&fd, "", Vec::new())?;
                Node::Link(OsString::from_vec(target.into_bytes()).into())
            }
            _ => Node::Other,
        })
    }

    /// Follows a path to its end and tells each link and directory on the way.
    ///
    /// # Errors
    /// ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG, EACCES.
    pub fn walk(&self, path: &Path) -> Result<Walk, Errno> {
        let mut met: Vec<Met> = Vec::new();
        let mut real = PathBuf::from("/");
        let mut node = Node::Dir;
        let mut todo: Vec<OsString> = parts(path).collect();
        todo.reverse();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            if node != Node::Dir {
                return Err(Errno::NOTDIR);
            }
            if part == ".." {
                real.pop();
                continue;
            }
            let next = real.join(&part);
            node = self.node(&next)?;
            if !met.iter().any(|m| m.path == next) {
                met.push(Met { path: next.clone(), node: node.clone() });
            }
            if let Node::Link(target) = &node {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::LOOP);
                }
                if target.is_absolute() {
                    real = PathBuf::from("/");
                }
                let more: Vec<OsString> = parts(target).collect();
                todo.extend(more.into_iter().rev());
                node = Node::Dir;
            } else {
                real = next;
            }
        }
        Ok(Walk { met, real, node })
    }

    /// Opens a regular file for reading; a FIFO or device there is neither opened for good nor waited for.
    ///
    /// # Errors
    /// openat2(2)'s; EINVAL if it is not a regular file.
    pub fn open(&self, path: &Path) -> Result<File, Errno> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = open_in(self.fd.as_fd(), relative(path), flags, Mode::empty())?;
        match FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) {
            FileType::RegularFile => Ok(File::from(fd)),
            FileType::Directory => Err(Errno::ISDIR),
            _ => Err(Errno::INVAL),
        }
    }

    /// Reads a small file whole.
    ///
    /// # Errors
    /// As [`View::open`]; EFBIG if it has more than `limit` bytes.
    pub fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>, Errno> {
        use std::io::Read;
        let mut bytes = Vec::new();
        let file = self.open(path)?;
        file.take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|e| e.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error))?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit { Err(Errno::FBIG) } else { Ok(bytes) }
    }

    /// The names in a directory, sorted; empty if it cannot be read.
    pub fn list(&self, path: &Path) -> Vec<OsString> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let Ok(fd) = open_in(self.fd.as_fd(), relative(path), flags, Mode::empty()) else {
            return Vec::new();
        };
        let Ok(dir) = rustix::fs::Dir::read_from(&fd) else { return Vec::new() };
        let names =
            dir.filter_map(Result::ok).map(|e| OsStr::from_bytes(e.file_name().to_bytes()).to_owned());
        let mut names: Vec<OsString> = names.filter(|n| n != "." && n != "..").collect();
        names.sort();
        names
    }

    /// An error about a path of this view.
    pub fn error(&self, call: &str, path: &Path, errno: Errno) -> Error {
        let outside = self.outside(path);
        Error::call(format!("{call}({outside:?})"), errno).on(shown(&outside))
    }
}

/// The components that matter: names and `..`. (std drops `.` and doubled slashes.)
fn parts(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    })
}
