//! Network namespaces: opened by path, entered by a thread, kept by name as ip-netns(8) keeps them.

mod exec;
mod named;
mod who;

pub use exec::enter;
pub use named::{DIR, Named, add, attach, delete, list, path_of};
pub use who::{Identity, identify, pids};

use crate::netlink::{Protocol, Socket};
use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use nix::sched::CloneFlags;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const CLONE_NEWNET: u32 = 0x4000_0000;

/// Opens a network namespace by path: `/run/netns/NAME` or `/proc/PID/ns/net`.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] when it is missing or is something else.
pub fn open(path: &Path) -> Result<OwnedFd> {
    use std::os::unix::fs::OpenOptionsExt;
    let shown = drydock_core::text::escape(&path.to_string_lossy());
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_CLOEXEC | nix::libc::O_NONBLOCK)
        .open(path)
        .map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Error::bad_input(shown.clone(), "no such network namespace")
                .hint("netsetup ns list shows the named ones; netsetup ns add NAME makes one"),
            _ => Error::call(format!("open({path:?}, O_RDONLY)"), e),
        })?;
    match drydock_core::sys::ns::kind(file.as_fd()) {
        Ok(CLONE_NEWNET) => Ok(file.into()),
        _ => Err(Error::bad_input(shown, "is not a network namespace")),
    }
}

/// Opens the namespace of a container or named namespace, and refuses the caller's own.
///
/// # Errors
/// As [`open`].
pub fn open_other(path: &Path) -> Result<OwnedFd> {
    let fd = open(path)?;
    if inode(fd.as_fd())? == own_inode()? {
        return Err(Error::bad_input(
            drydock_core::text::escape(&path.to_string_lossy()),
            "is the network namespace of the host itself (allowed: another one)",
        ));
    }
    Ok(fd)
}

/// The inode number that names a namespace (`net:[4026531840]`).
///
/// # Errors
/// fstat(2)'s.
pub fn inode(fd: BorrowedFd<'_>) -> Result<u64> {
    rustix::fs::fstat(fd).map(|s| s.st_ino).call(|| "fstat(namespace)")
}

/// The calling thread's network namespace.
///
/// # Errors
/// When /proc is not there.
pub fn own_inode() -> Result<u64> {
    let path = "/proc/thread-self/ns/net";
    std::fs::metadata(path).map(|m| m.ino()).call(|| format!("stat({path:?})"))
}

/// Runs `f` in a thread that stands in the namespace, and ends it. The caller's own namespace does not change.
///
/// # Errors
/// setns(2)'s: EPERM without CAP_SYS_ADMIN here and in the namespace's owner; `f`'s.
pub fn within<T: Send>(fd: BorrowedFd<'_>, f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, || {
            nix::sched::setns(fd, CloneFlags::CLONE_NEWNET)
                .call(|| "setns(namespace, CLONE_NEWNET)")
                .map_err(|e| match e.errno() {
                    Some(nix::libc::EPERM) => e.hint("this needs CAP_SYS_ADMIN: run as root"),
                    _ => e,
                })?;
            f()
        });
        match thread.call(|| "clone(CLONE_THREAD)")?.join() {
            Ok(result) => result,
            Err(_) => Err(Error::failed("namespace thread", "ended unexpectedly")),
        }
    })
}

/// A netlink socket in the namespace.
///
/// # Errors
/// As [`within`], and socket(2)'s.
pub fn socket(fd: BorrowedFd<'_>, protocol: Protocol) -> Result<Socket> {
    within(fd, || Socket::here(protocol))
}
