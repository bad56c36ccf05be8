//! PID 1's loop: forward signals to the main child, reap every orphan, end with the main child's status.

use crate::wait::Blocked;
use drydock_core::error::CallExt;
use drydock_core::exit::Ended;
use drydock_core::sys::process::Child;
use drydock_core::sys::signal;
use drydock_core::{Error, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use std::os::fd::AsFd;

/// How the reaper treats signals and what is left when the main child ends.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Forward to the main child's whole process group rather than to it alone (tini -g).
    pub group: bool,
    /// How long the other processes may take after SIGTERM once the main child has ended; then SIGKILL. Milliseconds.
    pub grace_ms: u64,
}

/// Runs until the main child has ended and every other process that can be reaped has been.
///
/// Source: pid_namespaces(7), "the namespace init process"; wait(2) "zombie".
///
/// # Errors
/// poll(2)'s and wait4(2)'s.
pub fn run(main: &Child, signals: &Blocked, policy: Policy) -> Result<Ended> {
    loop {
        for (number, _) in signals.take() {
            if number != nix::libc::SIGCHLD {
                let target = if policy.group { -main.pid } else { main.pid };
                // The child may have ended in between; reaping below sees it.
                let _ = signal::kill(target, number);
            }
        }
        if let Some(ended) = reap_all(main.pid)? {
            finish_others(signals, policy)?;
            return Ok(ended);
        }
        let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        match nix::poll::poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(Error::call("poll(signalfd)", e)),
        }
    }
}

/// Reaps everything that has ended; SIGCHLD coalesces, so one signal may stand for many. The main child's end, if seen.
fn reap_all(main: i32) -> Result<Option<Ended>> {
    use rustix::process::{WaitOptions, wait};
    let mut ended = None;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                if pid.as_raw_pid() == main {
                    ended = Some(how(status));
                }
            }
            Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(ended),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Error::call("wait4(-1, WNOHANG)", e)),
        }
    }
}

fn how(status: rustix::process::WaitStatus) -> Ended {
    let byte = |n: i32| u8::try_from(n & 0xff).unwrap_or(u8::MAX);
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Ended::Exited(byte(code)),
        (None, signal) => Ended::Signaled(signal.map_or(9, byte)),
    }
}

/// The main child is gone: ask the rest to end, wait up to the grace time, and let the kernel kill what stays when PID 1
/// exits.
fn finish_others(signals: &Blocked, policy: Policy) -> Result<()> {
    let is_init = std::process::id() == 1;
    if policy.grace_ms == 0 || !is_init || signal::kill(-1, nix::libc::SIGTERM).is_err() {
        return Ok(());
    }
    let deadline = std::time::Instant::now() + std::time::Duration::from_millis(policy.grace_ms);
    while has_children() {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        if left.is_zero() {
            break;
        }
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        let _ =
            nix::poll::poll(&mut fds, timeout).or_else(|e| if e == Errno::EINTR { Ok(0) } else { Err(e) });
        signals.take();
        reap_all(0)?;
    }
    Ok(())
}

fn has_children() -> bool {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT).is_ok()
}

/// Makes the calling process the reaper of its orphaned descendants when it is not PID 1. Source: prctl(2).
///
/// # Errors
/// prctl(2)'s.
pub fn become_subreaper() -> Result<()> {
    rustix::process::set_child_subreaper(rustix::process::Pid::from_raw(1))
        .call(|| "prctl(PR_SET_CHILD_SUBREAPER, 1)")
}
