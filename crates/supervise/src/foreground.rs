//! Waiting for a command that shares our terminal and process group, so that to a shell the two are one job.

use crate::wait::{Blocked, Supervised, handles};
use drydock_core::Result;
use drydock_core::error::CallExt;
use drydock_core::exit::Ended;
use drydock_core::sys::process::Child;
use drydock_core::sys::signal::pidfd_kill;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::unistd::Pid;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::os::fd::AsFd;

/// `si_code` of signals that the kernel itself raises, such as a terminal's Ctrl-C: they go to the whole process group.
const SI_KERNEL: i32 = 0x80;
/// Size of `struct signalfd_siginfo`.
const RECORD: usize = 128;

/// Waits until the child has ended and reaps it. Signals that were sent to us are forwarded; those that the terminal
/// sent to the whole group have reached the child already. When the child stops (Ctrl-Z), we stop too, and when we are
/// continued, so is the child.
///
/// `is_pid_1`: see [`Supervised::new`].
///
/// # Errors
/// poll(2)'s and waitid(2)'s.
pub fn wait_in_foreground(child: &Child, is_pid_1: bool, signals: &Blocked) -> Result<Ended> {
    let mut supervised = Supervised::new(child, is_pid_1);
    loop {
        let mut fds = [
            PollFd::new(child.pidfd.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        match nix::poll::poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            other => other.call(|| "poll(pidfd, signalfd)")?,
        };
        if fds.first().is_some_and(|fd| fd.any().unwrap_or(false)) {
            return supervised.finish();
        }
        for (signal, code) in take(signals) {
            if signal == nix::libc::SIGCHLD {
                stop_with(child);
            } else if code != SI_KERNEL || !same_group(child) || (is_pid_1 && !handles(child.pid, signal)) {
                supervised.forward(signal);
            }
        }
    }
}

/// Signal numbers with their `si_code`, which tells the terminal's from those of a process in another pid namespace.
fn take(signals: &Blocked) -> Vec<(i32, i32)> {
    let mut buffer = [0u8; RECORD * 16];
    let read = rustix::io::read(signals.as_fd(), &mut buffer).unwrap_or(0);
    let int = |record: &[u8], at: usize| {
        let bytes = record.get(at..at + 4).and_then(|b| b.try_into().ok()).unwrap_or([0; 4]);
        i32::from_ne_bytes(bytes)
    };
    let records = buffer.get(..read).unwrap_or(&[]).chunks_exact(RECORD);
    records.map(|record| (int(record, 0), int(record, 8))).collect()
}

fn same_group(child: &Child) -> bool {
    nix::unistd::getpgid(Some(Pid::from_raw(child.pid))).is_ok_and(|group| group == nix::unistd::getpgrp())
}

/// If the child has been stopped: stop too, and go on together.
fn stop_with(child: &Child) {
    let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
    let status = waitid(WaitId::PidFd(child.pidfd.as_fd()), options);
    if status.ok().flatten().is_some_and(|s| s.stopped()) {
        // SIGSTOP takes effect before kill returns to us, and we go on here when we are continued.
        let _ = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGSTOP);
        let _ = pidfd_kill(child.pidfd.as_fd(), nix::libc::SIGCONT);
    }
}
