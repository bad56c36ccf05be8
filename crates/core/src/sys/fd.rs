//! File descriptors that were inherited rather than opened here.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Marks every descriptor from `first` up close-on-exec, so that an exec passes on only what was asked for.
/// Source: close_range(2), CLOSE_RANGE_CLOEXEC since Linux 5.11; before that, or under a filter that refuses the call,
/// /proc/self/fd is walked.
///
/// # Errors
/// When neither way works.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: takes three integers; setting a flag on descriptors invalidates no owner.
    let rc = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if rc == 0 {
        return Ok(());
    }
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let Some(fd) = name.to_str().and_then(|n| n.parse::<RawFd>().ok()) else { continue };
        if u32::try_from(fd).is_ok_and(|n| n >= first) {
            // SAFETY: F_SETFD on a number; a closed one answers EBADF, which is harmless.
            unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

/// Closes every descriptor from `first` to `last`, whoever has opened it: for a process that goes on with nothing but what
/// it names. No value of this process that owns one of them may be used or dropped afterwards (leave by an exec or by
/// [`exit_now`](super::process::exit_now)).
///
/// # Errors
/// close_range(2)'s (ENOSYS before Linux 5.9).
pub fn abandon(first: u32, last: u32) -> io::Result<()> {
    if first > last {
        return Ok(());
    }
    // SAFETY: takes three integers; the caller promises not to use what owned the descriptors.
    let rc = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The numbers from 3 to 255 that are open: what a caller has left, for a process that has opened nothing yet.
pub fn inherited() -> Vec<RawFd> {
    // SAFETY: F_GETFD on a number; owns nothing.
    (3..256).filter(|number| unsafe { libc::fcntl(*number, libc::F_GETFD) } >= 0).collect()
}

/// Whether descriptor `number` is open and does not outlive an exec.
pub fn closes_on_exec(number: u32) -> bool {
    let Ok(raw) = RawFd::try_from(number) else { return false };
    // SAFETY: F_GETFD on a number; owns nothing.
    let flags = unsafe { libc::fcntl(raw, libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC != 0
}

/// Lets descriptor `raw` through the next exec (clears close-on-exec). EBADF if it is not open.
///
/// # Errors
/// fcntl(2)'s.
pub fn keep_over_exec(raw: RawFd) -> io::Result<()> {
    // SAFETY: F_SETFD on a number; owns nothing.
    if unsafe { libc::fcntl(raw, libc::F_SETFD, 0) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// An owned duplicate (close-on-exec) of an inherited descriptor number, such as one given by `--preserve-fds`.
///
/// # Errors
/// EBADF if it is not open; EMFILE.
pub fn duplicate_inherited(raw: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC returns a new descriptor that nobody else owns.
    let new = unsafe { libc::fcntl(raw, libc::F_DUPFD_CLOEXEC, 3) };
    if new < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `new` was just made by the kernel for us.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}

/// Makes `fd` number `number` too, kept over an exec: for a process that is about to exec, where nothing owns that number.
/// Source: dup2(2).
///
/// # Errors
/// dup2(2)'s.
pub fn put_at(fd: std::os::fd::BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    if fd.as_raw_fd() == number {
        return keep_over_exec(number);
    }
    // SAFETY: two integers; the caller says that no owner of `number` is used any more.
    if unsafe { libc::dup2(fd.as_raw_fd(), number) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes `fd` the standard stream `number` (0, 1 or 2). Source: dup2(2).
///
/// # Errors
/// dup2(2)'s.
pub fn replace_standard_stream(fd: std::os::fd::BorrowedFd<'_>, number: u8) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let target = RawFd::from(number.min(2));
    // SAFETY: 0, 1 and 2 are not owned by any OwnedFd of ours; std's handles use the numbers.
    if unsafe { libc::dup2(fd.as_raw_fd(), target) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
