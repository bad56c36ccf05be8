//! Who sees the end of a container that `create` and `start` have made, when no engine waits for it.
//!
//! The container's process is nobody's child that we know: its maker has ended. An engine gives `--pid-file`, and is or has
//! the parent that waits. Where none was given, `start` leaves a process behind that holds a pidfd and nothing else, and
//! writes down how the container ended, for `container events` and `why`. It ends with the container, and nothing depends on it.

use drydock_bundle::State;
use drydock_core::error::CallExt;
use drydock_core::exit::Ended;
use drydock_core::sys::fd::replace_standard_stream;
use drydock_core::sys::pidfd::wait_status;
use drydock_core::sys::process::{clone_child, exit_now};
use drydock_core::{Result, sys};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

/// What it holds.
#[derive(Debug)]
pub struct Witness {
    pidfd: OwnedFd,
    /// `/proc/PID/stat`, opened while it lives: it shows the end until the parent has waited.
    stat: Option<File>,
}

impl Witness {
    /// Of a created container, whose process is there for sure as long as the caller's channel to it; `None` when an engine
    /// waits for it, or it cannot be watched.
    pub fn of(state: &State) -> Option<Self> {
        state.oci.as_ref().filter(|oci| !oci.awaited)?;
        let pid = state.pid?;
        let pidfd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        Some(Self { pidfd, stat: File::open(format!("/proc/{pid}/stat")).ok() })
    }

    /// Leaves the process behind. That it cannot be made changes nothing for the container.
    pub fn stay(self, dir: &Path, state: &State) {
        let _ = clone_child(0, None, || {
            if let Ok((stat, pidfd)) = self.alone() {
                crate::told::ended_unowned(dir, state, see(&pidfd, stat));
            }
            exit_now(0)
        });
    }

    /// With nothing of the caller's but the two descriptors, in a session of its own.
    fn alone(self) -> Result<(Option<File>, OwnedFd)> {
        let _ = nix::unistd::setsid();
        let null = File::open("/dev/null").call(|| "open(\"/dev/null\", O_RDONLY)")?;
        for number in 0..3 {
            replace_standard_stream(null.as_fd(), number).call(|| format!("dup2(/dev/null, {number})"))?;
        }
        let mut kept: Vec<u32> = [Some(self.pidfd.as_raw_fd()), self.stat.as_ref().map(AsRawFd::as_raw_fd)]
            .into_iter()
            .flatten()
            .filter_map(|n| u32::try_from(n).ok())
            .collect();
        kept.sort_unstable();
        let mut first = 3;
        for number in kept {
            let _ = sys::fd::abandon(first, number.saturating_sub(1));
            first = number.saturating_add(1);
        }
        let _ = sys::fd::abandon(first, u32::MAX);
        // It was ours, and is closed.
        std::mem::forget(null);
        let _ = std::env::set_current_dir("/");
        // SIGHUP of a terminal does not reach a session of its own; what is sent to it otherwise ends it.
        Ok((self.stat, self.pidfd))
    }
}

/// Waits for the end, and says how it was, if that can be seen: the kernel tells those who are not the parent from Linux
/// 6.15 on; before that /proc does, until the parent has waited.
fn see(pidfd: &OwnedFd, mut stat: Option<File>) -> Option<Ended> {
    loop {
        match poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE) {
            Ok(n) if n > 0 => break,
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return None,
        }
    }
    let shown = stat.as_mut().and_then(|file| {
        let mut line = String::new();
        file.rewind().and_then(|()| file.read_to_string(&mut line)).ok()?;
        of_stat(&line)
    });
    let status = shown.or_else(|| wait_status(pidfd.as_fd()).ok().flatten())?;
    Some(of_status(status))
}

/// The wait status that a zombie's line shows: the last of its fields. Source: `proc_pid_stat(5)`, `exit_code`.
fn of_stat(line: &str) -> Option<i32> {
    let (_, rest) = line.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Field 3 is the state, field 52 the status.
    matches!(fields.first(), Some(&("Z" | "X"))).then(|| fields.get(52 - 3)?.parse().ok()).flatten()
}

fn of_status(status: i32) -> Ended {
    let byte = |n: i32| u8::try_from(n & 0xff).unwrap_or(u8::MAX);
    match status & 0x7f {
        0 => Ended::Exited(byte(status >> 8)),
        signal => Ended::Signaled(byte(signal)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() {
        assert_eq!(of_status(3 << 8), Ended::Exited(3));
        assert_eq!(of_status(9), Ended::Signaled(9));
        assert_eq!(of_status(31 | 0x80), Ended::Signaled(31), "with a core file");
        let zeros = "0 ".repeat(48);
        assert_eq!(of_stat(&format!("7 (a) b) Z {zeros}768\n")), Some(768));
        assert_eq!(of_stat(&format!("7 (sh) S {zeros}768\n")), None, "it lives");
        assert_eq!(of_stat("7 (sh) Z 1"), None);
    }
}
