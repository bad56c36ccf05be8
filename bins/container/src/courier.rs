//! One who goes ahead: joins namespaces where nobody inside sees it, leaves a child there that is the caller's own, and ends.
//!
//! The caller stays where it is. Source: clone(2), CLONE_PARENT.

use crate::handshake::{Channel, Message, failed, failure};
use drydock_core::error::CallExt;
use drydock_core::sys::process::{self, CLONE_PARENT, clone_child};
use drydock_core::{Error, Result};
use drydock_init::inside;
use std::os::fd::AsFd;

/// Sends the courier. `forget` drops what of the caller's it must not hold, `enter` joins, `child` runs in a new process that
/// is born there, in new namespaces of `flags`, and is the caller's child.
///
/// # Errors
/// What the courier could not do.
pub fn send(
    flags: u64,
    forget: impl FnOnce(),
    enter: impl FnOnce() -> Result<()>,
    child: impl FnOnce() -> u8,
) -> Result<process::Child> {
    let (hears, tells) = Channel::pair()?;
    let mut hears = Some(hears);
    let courier = clone_child(0, None, || {
        drop(hears.take());
        forget();
        match carry(flags, enter, child, &tells) {
            Ok(()) => 0,
            Err(error) => {
                // If nobody listens, nobody is left to tell.
                let _ = tells.send(&failure(&error));
                error.exit_code()
            }
        }
    })
    .call(|| "clone3(CLONE_PIDFD)")?;
    drop(tells);
    let lost = || Error::failed("courier", "has gone before its child was born");
    let hears = hears.ok_or_else(lost)?;
    drydock_supervise::wait_exit(&courier)?;
    match hears.receive()? {
        Some((Message::Born { pid }, Some(pidfd))) => Ok(process::Child { pid, pidfd }),
        Some((Message::Failed { sentence, hint, kind, .. }, _)) => Err(failed(sentence, hint, kind)),
        _ => Err(lost()),
    }
}

/// The courier's part.
fn carry(
    flags: u64,
    enter: impl FnOnce() -> Result<()>,
    child: impl FnOnce() -> u8,
    tells: &Channel,
) -> Result<()> {
    inside::hide()?;
    enter()?;
    let born = clone_child(flags | CLONE_PARENT, None, child)
        .call(|| format!("clone3({flags:#x}|CLONE_PARENT|CLONE_PIDFD)"))?;
    tells.send_with(&Message::Born { pid: born.pid }, Some(born.pidfd.as_fd()))
}
