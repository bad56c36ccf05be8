//! The last moments before a command runs: root, working directory, clean process state.

use drydock_core::Result;
use drydock_core::error::CallExt;
use std::os::fd::{AsFd, BorrowedFd};

/// Gives the command a clean start: every signal at its default and unblocked, every descriptor above 2 closed by the
/// exec.
///
/// # Errors
/// When the descriptors can be closed neither by close_range(2) nor through /proc.
pub fn clean_process() -> Result<()> {
    drydock_core::sys::signal::reset_dispositions();
    drydock_core::sys::signal::unblock_all().call(|| "sigprocmask(SIG_SETMASK, [])")?;
    drydock_core::sys::fd::close_on_exec_from(3).call(|| "close_range(3, ~0, CLOSE_RANGE_CLOEXEC)")
}

/// Makes an open directory the root and the working directory.
///
/// # Errors
/// EPERM without CAP_SYS_CHROOT in the user namespace.
pub fn enter_root(root: BorrowedFd<'_>) -> Result<()> {
    rustix::process::fchdir(root).call(|| "fchdir(root)")?;
    rustix::process::chroot(".").call(|| "chroot(\".\")")
}

/// Makes an open directory the working directory.
///
/// # Errors
/// fchdir(2)'s.
pub fn enter_directory(directory: impl AsFd) -> Result<()> {
    rustix::process::fchdir(directory).call(|| "fchdir(working directory)")
}
