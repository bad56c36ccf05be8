//! A probe in a process of its own: what it does to itself ends with it, and it cannot take longer than it may.

use super::Finding;
use drydock_core::error::CallExt;
use drydock_core::exit::Ended;
use drydock_core::sys::process::{Child, clone_child};
use drydock_core::sys::signal::pidfd_kill;
use drydock_core::{Error, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How the call that makes a probe's process is named in errors.
pub(super) const CALL: &str = "clone3(CLONE_PIDFD)";

/// Runs `probe` in a child made with the CLONE_NEW* `flags`, for at most `time`; then it is killed.
pub(super) fn run(flags: u64, time: Duration, probe: impl FnOnce() -> Result<Finding>) -> Result<Finding> {
    let (read, write) = std::io::pipe().call(|| "pipe2(O_CLOEXEC)")?;
    let child = clone_child(flags, None, || {
        // A probe's own children die with it when it is killed for taking too long.
        let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
        let found = Finding::of(probe());
        let bytes = serde_json::to_vec(&found).unwrap_or_default();
        // Nobody listens any more: then the time was up.
        let _ = (&write).write_all(&bytes);
        0
    })
    .call(|| CALL)?;
    drop(write);
    let said = listen(read, time);
    if said.is_none() {
        let _ = pidfd_kill(child.pidfd.as_fd(), nix::libc::SIGKILL);
    }
    let ended = reap(&child);
    match (said, ended) {
        (Some(bytes), ended) => serde_json::from_slice(&bytes).or_else(|_| died(ended)),
        (None, _) => Finding::missing(format!("no answer within {} ms", time.as_millis())),
    }
}

/// What the child wrote until it closed its end; `None` when the time is up.
fn listen(mut read: std::io::PipeReader, time: Duration) -> Option<Vec<u8>> {
    let until = Instant::now() + time;
    let mut all = Vec::new();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(read.as_fd(), PollFlags::POLLIN)];
        match nix::poll::poll(&mut fds, timeout) {
            Ok(0) => return None,
            Err(nix::errno::Errno::EINTR) => continue,
            Err(_) => return None,
            Ok(_) => {}
        }
        let mut buffer = [0u8; 4096];
        match read.read(&mut buffer) {
            Ok(0) | Err(_) => return Some(all),
            Ok(n) => all.extend_from_slice(buffer.get(..n).unwrap_or_default()),
        }
    }
}

/// How it ended; a process that cannot even be killed now (it hangs in the kernel) is left behind.
fn reap(child: &Child) -> Option<Ended> {
    let mut fds = [PollFd::new(child.pidfd.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(Duration::from_secs(1)).unwrap_or(PollTimeout::ZERO);
    match nix::poll::poll(&mut fds, timeout) {
        Ok(1..) => drydock_supervise::wait_exit(child).ok(),
        _ => None,
    }
}

fn died(ended: Option<Ended>) -> Result<Finding> {
    match ended {
        Some(Ended::Signaled(31)) => Ok(Finding::missing("the kernel ended the probe by SIGSYS")?
            .with_fix("an outer seccomp filter kills it: start without that filter")),
        Some(Ended::Signaled(n)) => Finding::missing(format!("the probe was ended by signal {n}")),
        _ => Err(Error::failed("probe", "ended without an answer")),
    }
}
