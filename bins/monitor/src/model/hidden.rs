//! Mounts of mount namespaces that no process is in: a thread of ours goes in and reads its own mountinfo.

use crate::procfs::Proc;
use nix::sched::{CloneFlags, setns, unshare};
use std::os::fd::OwnedFd;

/// The text of mountinfo as seen in mount namespace `namespace`; `None` if it cannot be entered (setns(2): CAP_SYS_ADMIN
/// and CAP_SYS_CHROOT). Our other threads stay where they are.
pub fn mountinfo(proc: &Proc, namespace: &OwnedFd) -> Option<String> {
    let read = || {
        // A thread that shares its root and working directory with others may not change the mount namespace.
        unshare(CloneFlags::CLONE_FS).ok()?;
        setns(namespace, CloneFlags::CLONE_NEWNS).ok()?;
        proc.text("thread-self/mountinfo").ok()
    };
    std::thread::scope(|scope| scope.spawn(read).join()).ok().flatten()
}
