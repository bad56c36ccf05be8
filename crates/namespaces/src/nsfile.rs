//! Files that stand for namespaces: /proc/PID/ns/* and bind mounts of them. Source: namespaces(7), ioctl_ns(2).

use crate::Kind;
use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use nix::errno::Errno;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The file system type of namespace files (statfs(2)).
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// The identity of a namespace: equal exactly when the namespace is the same (namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NamespaceId {
    /// Device of nsfs.
    pub dev: u64,
    /// The number shown in `net:[4026531840]`.
    pub ino: u64,
}

impl NamespaceId {
    /// Of an open namespace file.
    ///
    /// # Errors
    /// fstat(2)'s.
    pub fn of_fd(fd: BorrowedFd<'_>) -> Result<Self> {
        let stat = rustix::fs::fstat(fd).call(|| "fstat(namespace)")?;
        Ok(Self { dev: stat.st_dev, ino: stat.st_ino })
    }

    /// Of the calling process.
    ///
    /// # Errors
    /// When the kernel lacks the type or /proc is not there.
    pub fn of_self(kind: Kind) -> Result<Self> {
        let path = format!("/proc/self/ns/{}", kind.proc_name());
        let is_nsfs =
            |fs: rustix::fs::StatFs| u64::try_from(fs.f_type).is_ok_and(|magic| magic == NSFS_MAGIC);
        match rustix::fs::stat(&path) {
            Ok(stat) if rustix::fs::statfs(&path).is_ok_and(is_nsfs) => {
                Ok(Self { dev: stat.st_dev, ino: stat.st_ino })
            }
            // Says what is wrong.
            _ => Self::of_path(Path::new(&path), Some(kind)),
        }
    }

    /// Of process `pid`. A single look: nothing keeps the pid from being reused afterwards (see [`crate::process`]).
    ///
    /// # Errors
    /// As [`crate::process::Process::open`].
    pub fn of_pid(pid: i32, kind: Kind) -> Result<Self> {
        let process = crate::process::Process::open(pid)?;
        process.namespace_id(kind)
    }

    /// Of a namespace file, whose kind is checked if given.
    ///
    /// # Errors
    /// As [`open`].
    pub fn of_path(path: &Path, want: Option<Kind>) -> Result<Self> {
        let (fd, _) = open(path, want)?;
        Self::of_fd(fd.as_fd())
    }
}

impl fmt::Display for NamespaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}]", self.ino)
    }
}

/// The path as it stands in messages: escaped, shortened.
pub(crate) fn shown(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    drydock_core::text::shorten(&drydock_core::text::escape_bytes(path.as_os_str().as_bytes()), 200)
}

/// The kind of an open namespace file; `None` if it is not one.
pub fn kind_of(fd: BorrowedFd<'_>) -> Option<Kind> {
    let fs = rustix::fs::fstatfs(fd).ok()?;
    // Other file systems may give the ioctl another meaning.
    if u64::try_from(fs.f_type).ok()? != NSFS_MAGIC {
        return None;
    }
    drydock_core::sys::ns::kind(fd).ok().and_then(Kind::from_flag)
}

/// Opens a namespace file and checks that it is one, and of the kind that is wanted.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`]: `/x is not a namespace file`, `/x is a net namespace, want pid`, no such file;
/// [`drydock_core::Kind::Failed`] when access is denied.
pub fn open(path: &Path, want: Option<Kind>) -> Result<(OwnedFd, Kind)> {
    let name = shown(path);
    // O_NONBLOCK: a FIFO must not hang us. Its type is checked before anything is done with it.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(e) => return Err(open_error(&name, e)),
    };
    check(&fd, &name, want).map(|kind| (fd, kind))
}

fn open_error(name: &str, errno: rustix::io::Errno) -> Error {
    let error = Error::call(format!("open(\"{name}\", O_RDONLY)"), errno);
    match Errno::from_raw(errno.raw_os_error()) {
        Errno::ENOENT if name.starts_with("/proc/") => Error::bad_input(name, "no such process or namespace file"),
        Errno::ENOENT | Errno::ENOTDIR => Error::bad_input(name, "no such file (allowed: a namespace's file, such as /proc/PID/ns/net)"),
        Errno::ELOOP | Errno::ENAMETOOLONG | Errno::ENXIO | Errno::EINVAL | Errno::EISDIR => {
            error.because("not a namespace file").with_kind(drydock_core::Kind::BadInput)
        }
        Errno::EACCES | Errno::EPERM => error.hint(
            "opening another user's namespaces needs ptrace access to the process (CAP_SYS_PTRACE in its user namespace)",
        ),
        _ => error,
    }
}

fn check(fd: &OwnedFd, name: &str, want: Option<Kind>) -> Result<Kind> {
    let Some(kind) = kind_of(fd.as_fd()) else {
        return Err(Error::bad_input(
            name,
            "not a namespace file (allowed: /proc/PID/ns/*, or a bind mount of one such as /run/netns/NAME)",
        ));
    };
    match want {
        Some(want) if want != kind => {
            Err(Error::bad_input(name, format!("is a {kind} namespace, want {want}")))
        }
        _ => Ok(kind),
    }
}

/// Whether the path is a namespace file now.
pub fn is_namespace_file(path: &Path) -> bool {
    open(path, None).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_identity() {
        for kind in Kind::ALL.into_iter().filter(|k| k.is_available()) {
            let path = format!("/proc/self/ns/{}", kind.proc_name());
            let (fd, found) = open(Path::new(&path), None).unwrap();
            assert_eq!((found, kind_of(fd.as_fd())), (kind, Some(kind)));
            let link = std::fs::read_link(&path).unwrap();
            let id = NamespaceId::of_self(kind).unwrap();
            assert_eq!(link.to_str().unwrap(), format!("{kind}:{id}"));
        }
    }

    #[test]
    fn wrong_files() {
        let err = |path: &str, want| open(Path::new(path), want).unwrap_err();
        assert!(err("/etc/passwd", None).to_string().contains("not a namespace file"));
        assert!(
            err("/proc/self/ns/net", Some(Kind::Pid)).to_string().contains("is a net namespace, want pid")
        );
        for path in ["/etc/passwd", "/", "/nonexistent", "/dev/null", "/proc/self/ns", "/proc/0/ns/net", ""] {
            assert_eq!(err(path, None).exit_code(), 2, "{path}");
        }
    }
}
