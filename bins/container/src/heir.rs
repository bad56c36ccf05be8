//! The parent's side of a process that prepares outside of the pid namespace and leaves a child there: see `handshake`.

use crate::handshake::{Channel, Message, failed};
use drydock_core::error::CallExt;
use drydock_core::sys::process::Child;
use drydock_core::{Error, Result};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Takes the one that was born in the place of the one that prepared, which has ended, and lets it go on.
///
/// # Errors
/// When it is gone already.
pub fn adopt(prepared: &mut Child, pid: i32, channel: &Channel) -> Result<()> {
    // It is our own child, so that the number cannot have come to mean another.
    let gone = || Error::failed("container", "its process has gone");
    let raw = Pid::from_raw(pid).ok_or_else(gone)?;
    let pidfd = pidfd_open(raw, PidfdFlags::empty()).call(|| format!("pidfd_open({pid})"))?;
    drydock_supervise::wait_exit(prepared)?;
    *prepared = Child { pid, pidfd };
    channel.send(&Message::Begin)
}

/// Waits until a process that makes its namespaces itself has them.
///
/// # Errors
/// Why it has not.
pub fn until_entered(channel: &Channel) -> Result<()> {
    match channel.receive()? {
        Some((Message::Entered, _)) => Ok(()),
        Some((Message::Failed { sentence, hint, kind, .. }, _)) => Err(failed(sentence, hint, kind)),
        _ => Err(Error::failed("container", "its first process has gone")),
    }
}
