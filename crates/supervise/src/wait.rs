//! Waiting for one child through its pidfd while forwarding signals to it.

use drydock_core::error::CallExt;
use drydock_core::exit::Ended;
use drydock_core::sys::process::Child;
use drydock_core::sys::signal::pidfd_kill;
use drydock_core::{Error, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::{AsFd, BorrowedFd};

/// Every signal blocked in this process and readable from a descriptor instead; made before the clone, so that none is
/// lost. The child unblocks them (`drydock_core::sys::signal::unblock_all`) before its exec.
#[derive(Debug)]
pub struct Blocked {
    fd: SignalFd,
}

impl Blocked {
    /// Blocks all signals that can be blocked and opens the signalfd. Source: signalfd(2).
    ///
    /// # Errors
    /// EMFILE and the like.
    pub fn all() -> Result<Self> {
        let set = SigSet::all();
        set.thread_block().call(|| "sigprocmask(SIG_BLOCK, ~[])")?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .call(|| "signalfd4(-1, ~[], SFD_CLOEXEC|SFD_NONBLOCK)")?;
        Ok(Self { fd })
    }

    /// The signals that have arrived: number, and the sender's pid (0 for the kernel, such as a terminal's Ctrl-C).
    pub fn take(&self) -> Vec<(i32, u32)> {
        let mut signals = Vec::new();
        while let Ok(Some(info)) = self.fd.read_signal() {
            signals.push((info.ssi_signo.cast_signed(), info.ssi_pid));
        }
        signals
    }
}

impl AsFd for Blocked {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A child with the way in which its signals are forwarded.
#[derive(Debug)]
pub struct Supervised<'a> {
    child: &'a Child,
    is_pid_1: bool,
    /// The signal whose default action was carried out for a PID 1 that the kernel protects.
    emulated: Option<i32>,
}

impl<'a> Supervised<'a> {
    /// `is_pid_1`: the child is the first process of its pid namespace, whose unhandled signals the kernel drops
    /// (pid_namespaces(7)). Then SIGTERM and the like, sent to us for it, would do nothing for ever; their default
    /// action, to end the process, is carried out instead.
    pub fn new(child: &'a Child, is_pid_1: bool) -> Self {
        Self { child, is_pid_1, emulated: None }
    }

    /// Forwards one signal that we received. SIGCHLD and the stop signals of job control are ours, not the child's.
    pub fn forward(&mut self, signal: i32) {
        use nix::libc::{SIGCHLD, SIGCONT, SIGKILL, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGWINCH};
        if matches!(signal, SIGCHLD | SIGTSTP | SIGTTIN | SIGTTOU) {
            return;
        }
        let ends = !matches!(signal, SIGCONT | SIGURG | SIGWINCH);
        if ends && self.is_pid_1 && !handles(self.child.pid, signal) {
            self.emulated = Some(signal);
            // Already gone is fine: the wait will see it.
            let _ = pidfd_kill(self.child.pidfd.as_fd(), SIGKILL);
            return;
        }
        let _ = pidfd_kill(self.child.pidfd.as_fd(), signal);
    }

    /// Waits until the child has ended, forwarding signals meanwhile, and reaps it.
    ///
    /// # Errors
    /// poll(2)'s and waitid(2)'s.
    pub fn wait(mut self, signals: &Blocked) -> Result<Ended> {
        loop {
            let mut fds = [
                PollFd::new(self.child.pidfd.as_fd(), PollFlags::POLLIN),
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            ];
            match nix::poll::poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                other => other.call(|| "poll(pidfd, signalfd)")?,
            };
            let ended = fds.first().is_some_and(|fd| fd.any().unwrap_or(false));
            if ended {
                return self.finish();
            }
            for (signal, _) in signals.take() {
                self.forward(signal);
            }
        }
    }

    /// Reaps a child whose pidfd is readable.
    ///
    /// # Errors
    /// waitid(2)'s.
    pub fn finish(self) -> Result<Ended> {
        let ended = wait_exit(self.child)?;
        Ok(match (self.emulated, ended) {
            (Some(signal), Ended::Signaled(9)) => Ended::Signaled(u8::try_from(signal).unwrap_or(9)),
            _ => ended,
        })
    }
}

/// Whether the process catches, ignores or blocks a signal: then it is its own business. `true` if it cannot be read.
pub fn handles(pid: i32, signal: i32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return true };
    let Some(bit) = u32::try_from(signal - 1).ok().and_then(|n| 1u64.checked_shl(n)) else { return true };
    ["SigBlk:", "SigIgn:", "SigCgt:"].iter().any(|key| {
        let value = status.lines().find_map(|line| line.strip_prefix(key));
        value.and_then(|v| u64::from_str_radix(v.trim(), 16).ok()).is_none_or(|mask| mask & bit != 0)
    })
}

/// Waits for a child through its pidfd and reaps it. Real-time signals are kept (nix's waitpid loses them).
///
/// # Errors
/// ECHILD when it is not our child.
pub fn wait_exit(child: &Child) -> Result<Ended> {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    loop {
        match waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED) {
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Error::call("waitid(P_PIDFD, WEXITED)", e)),
            Ok(status) => return Ok(ended(status.as_ref())),
        }
    }
}

fn ended(status: Option<&rustix::process::WaitIdStatus>) -> Ended {
    let byte = |n: i32| u8::try_from(n & 0xff).unwrap_or(u8::MAX);
    match status {
        Some(s) if s.exited() => Ended::Exited(s.exit_status().map_or(0, byte)),
        Some(s) => Ended::Signaled(s.terminating_signal().map_or(9, byte)),
        None => Ended::Signaled(9),
    }
}
