//! The process that looks after a container: the foreground `run`, or the supervisor of `run -d`. It gives the lock up as the
//! last thing that it does; whoever took the container away waits for its end, too, so that nothing of it is left.

use drydock_bundle::State;
use drydock_bundle::state::start_time;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// It has nothing more to do but to end; should it hang, that is not the caller's trouble.
const LIMIT: Duration = Duration::from_secs(2);

/// This process, as a container's state names it.
pub fn own() -> Option<(i32, u64)> {
    let pid = std::process::id().cast_signed();
    Some((pid, start_time(pid)?))
}

/// An owner that lives.
#[derive(Debug)]
pub struct Owner(OwnedFd);

impl Owner {
    /// The owner that the state names, unless it has ended, or is this process.
    pub fn of(state: &State) -> Option<Self> {
        let (pid, start) = state.owner?;
        if pid == std::process::id().cast_signed() {
            return None;
        }
        let pidfd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        // The descriptor is held: the pid cannot be given away between this look and the wait.
        (start_time(pid) == Some(start)).then_some(Self(pidfd))
    }

    /// Waits for its end, for a limited time.
    pub fn wait(self) {
        crate::commands::signals::gone(&self.0, LIMIT);
    }
}
