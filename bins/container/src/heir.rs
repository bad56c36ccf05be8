//! The parent's side of a process that prepares outside of the pid namespace and leaves a child there: see `handshake`.

use crate::handshake::{Channel, Message, failed};
use crate::watch::Watch;
use drydock_core::error::CallExt;
use drydock_core::sys::process::Child;
use drydock_core::{Ctx, Error, Result};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use std::os::fd::AsFd;
use std::time::Duration;

/// Takes the one that was born in the place of the one that prepared, which has ended, gives it what is not inherited, and
/// lets it go on.
///
/// # Errors
/// When it is gone already, or no child of ours; sched_setattr(2)'s.
pub fn adopt(
    prepared: &mut Child,
    pid: i32,
    channel: &Channel,
    security: &drydock_security::Plan,
    ctx: &Ctx<'_>,
) -> Result<()> {
    let gone = || Error::failed("container", "its process has gone");
    let raw = Pid::from_raw(pid).filter(|_| pid != prepared.pid).ok_or_else(gone)?;
    let pidfd = pidfd_open(raw, PidfdFlags::empty()).call(|| format!("pidfd_open({pid})"))?;
    // Our own child, whose number cannot have come to mean another: nothing else will be signalled. Who says the number can
    // be someone inside who has taken hold of the one that was born.
    waitid(
        WaitId::PidFd(pidfd.as_fd()),
        WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT,
    )
    .map_err(|_| gone())?;
    drydock_supervise::wait_exit(prepared)?;
    *prepared = Child { pid, pidfd };
    security.apply_scheduler_to(ctx, pid)?;
    channel.send(&Message::Begin)
}

/// Waits until a process that makes its namespaces itself has them.
///
/// # Errors
/// Why it has not.
pub fn until_entered(channel: &Channel, watch: &Watch) -> Result<()> {
    loop {
        match channel.receive()? {
            Some((Message::Entered, _)) => return Ok(()),
            Some((Message::Step { step, took, .. }, _)) => watch.count(&step, Duration::from_nanos(took)),
            Some((Message::Failed { sentence, hint, kind, .. }, _)) => {
                return Err(failed(sentence, hint, kind));
            }
            _ => return Err(Error::failed("container", "its first process has gone")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_child_is_adopted() {
        let mut program = std::process::Command::new("/proc/self/exe");
        let mut ended = program.arg("--help").stdout(std::process::Stdio::null()).spawn().unwrap();
        let pid = ended.id().cast_signed();
        let pidfd = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
        let mut prepared = Child { pid, pidfd };
        let (here, _there) = Channel::pair().unwrap();
        let security = drydock_security::Plan::default();
        let mut adopt = |pid| adopt(&mut prepared, pid, &here, &security, &Ctx::silent());
        assert!(adopt(1).is_err(), "somebody else's");
        assert!(adopt(pid).is_err(), "itself");
        assert_eq!(prepared.pid, pid);
        ended.wait().unwrap();
    }
}
