//! Making processes: clone3(2) straight into namespaces and a cgroup, with a pidfd.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A child process. Dropping it neither kills nor reaps.
#[derive(Debug)]
pub struct Child {
    /// Its pid in the caller's pid namespace.
    pub pid: i32,
    /// A descriptor that refers to it and to no later process of the same pid (pidfd_open(2)).
    pub pidfd: OwnedFd,
}

#[repr(C, align(8))]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// For [`clone_child`]: the new process is a sibling of the caller's, a child of its parent.
pub const CLONE_PARENT: u64 = 0x8000;
/// The flags with which [`clone_sibling`] calls clone(2).
pub const SIBLING: u64 = CLONE_PARENT | libc::SIGCHLD as u64;
const CLONE_PIDFD: u64 = 0x1000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The number of threads of the calling process, from /proc/self/task (pure stat: nlink is threads + 2).
pub fn thread_count() -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self/task").ok().map(|m| m.nlink().saturating_sub(2))
}

/// Runs `child` in a new process, made in the namespaces of `flags` (CLONE_NEW*) and, if given, in the v2 cgroup whose
/// directory `cgroup` is. `child`'s value is its exit code; it normally ends in an exec. The exit signal is SIGCHLD.
/// With [`CLONE_PARENT`] in `flags` it is the caller's parent that is to wait for it.
///
/// The caller must be single-threaded: another thread could hold a lock that the child would wait for forever.
/// Where clone3 is refused (ENOSYS, as some seccomp filters answer) and no cgroup is asked for, clone(2) is used.
///
/// # Errors
/// clone(2)'s; EBUSY when the process has more than one thread.
pub fn clone_child(
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
    child: impl FnOnce() -> u8,
) -> io::Result<Child> {
    if thread_count().is_some_and(|n| n > 1) {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    let mut pidfd: libc::c_int = -1;
    let mut args = CloneArgs {
        flags: flags | CLONE_PIDFD,
        pidfd: (&raw mut pidfd) as u64,
        // A sibling has the caller's own, and clone3 takes no other.
        exit_signal: if flags & CLONE_PARENT == 0 { libc::SIGCHLD as u64 } else { 0 },
        ..CloneArgs::default()
    };
    if let Some(fd) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::try_from(fd.as_raw_fd()).unwrap_or(u64::MAX);
    }
    // SAFETY: no CLONE_VM and no new stack, so this returns twice like fork(2); the struct and the pidfd slot live
    // until then. The process has one thread, so the child's copy of every lock is free.
    let mut pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    if pid < 0 && cgroup.is_none() && io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS) {
        let old = args.flags | args.exit_signal;
        // SAFETY: as above; clone(2) takes the pidfd slot as its parent_tid argument.
        pid = unsafe { libc::syscall(libc::SYS_clone, old, 0usize, &raw mut pidfd, 0usize, 0usize) };
    }
    match pid {
        0 => {
            let code = child();
            // SAFETY: ends the child at once, without running the parent's exit handlers a second time.
            unsafe { libc::_exit(i32::from(code)) }
        }
        pid if pid > 0 => {
            // SAFETY: CLONE_PIDFD made it for us.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Child { pid: i32::try_from(pid).unwrap_or(i32::MAX), pidfd })
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// Runs `child` in a new process that is a sibling of the caller's: a child of its parent, born in the pid namespace that
/// the caller has joined for its children. Gives its pid as the caller's pid namespace shows it; who has it as a child can
/// ask for a pidfd. One call, clone(2), which filters allow where they allow processes at all.
///
/// # Errors
/// clone(2)'s; EBUSY when the process has more than one thread.
pub fn clone_sibling(child: impl FnOnce() -> u8) -> io::Result<i32> {
    if thread_count().is_some_and(|n| n > 1) {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    // SAFETY: no CLONE_VM and no new stack, so this returns twice like fork(2). The process has one thread, so the child's
    // copy of every lock is free.
    let pid = unsafe { libc::syscall(libc::SYS_clone, SIBLING, 0usize, 0usize, 0usize, 0usize) };
    match pid {
        0 => {
            let code = child();
            exit_now(code)
        }
        pid if pid > 0 => Ok(i32::try_from(pid).unwrap_or(i32::MAX)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ends the process at once with this code, without exit handlers. For children that must not return.
pub fn exit_now(code: u8) -> ! {
    // SAFETY: _exit(2) does not return and touches no memory of ours.
    unsafe { libc::_exit(i32::from(code)) }
}

#[cfg(test)]
mod tests {
    // The test harness has threads, so cloning is tested where a process has one: in the namespaces crate's tests.
    #[test]
    fn counts_threads() {
        assert!(super::thread_count().unwrap() >= 1);
        assert_eq!(super::clone_child(0, None, || 0).unwrap_err().raw_os_error(), Some(libc::EBUSY));
    }
}
