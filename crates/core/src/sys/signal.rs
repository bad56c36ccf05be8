//! Signal dispositions, which nix only sets through unsafe calls.

use std::io;

/// Sets every signal's disposition to the default. std ignores SIGPIPE, and callers may ignore more; exec would pass
/// that on to the command. Source: signal(7).
pub fn reset_dispositions() {
    // Straight to the kernel: glibc's signal(3) refuses 32 and 33, which a caller may have ignored all the same.
    // A kernel sigaction of zeros is SIG_DFL without flags or mask; 32 bytes hold it on every architecture.
    let default = [0u64; 4];
    for signal in 1..=64 {
        if signal == libc::SIGKILL || signal == libc::SIGSTOP {
            continue;
        }
        // SAFETY: the kernel reads at most 32 bytes from the array, which is valid; SIG_DFL runs no code of ours.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                8usize,
            )
        };
    }
}

/// Sets one signal's disposition to the default (as SIGPIPE for a tool in a pipeline).
pub fn set_default(signal: i32) {
    // SAFETY: SIG_DFL runs no code of ours.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Ignores one signal.
pub fn ignore(signal: i32) {
    // SAFETY: SIG_IGN runs no code of ours.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Empties the calling thread's signal mask. Source: sigprocmask(2).
///
/// # Errors
/// sigprocmask(2)'s, which cannot happen with these arguments.
pub fn unblock_all() -> io::Result<()> {
    nix::sys::signal::SigSet::empty().thread_set_mask().map_err(io::Error::from)
}

/// Sends a signal number (real-time ones too, which nix's enum lacks) to a process. Source: kill(2).
///
/// # Errors
/// ESRCH, EPERM, EINVAL.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: two integers; the kernel checks both.
    if unsafe { libc::kill(pid, signal) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends a signal number through a pidfd: never to a later process with the same pid. Source: pidfd_send_signal(2).
///
/// # Errors
/// ESRCH when the process has been reaped; EPERM; EINVAL.
pub fn pidfd_kill(pidfd: std::os::fd::BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: integers and a null siginfo pointer, which the call allows.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
