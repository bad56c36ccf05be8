//! A time namespace with offsets of its own: they are written before anybody is in it, so the parent makes it for its
//! children and goes back to its own once the first is born. Without the right to do so, the first process makes it in its
//! user namespace, for what it will execute.

use crate::request::Namespaces;
use drydock_core::error::CallExt;
use drydock_core::{Ctx, Result};
use drydock_namespaces::{Kind, join, time};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::os::fd::AsFd;

/// Who makes a time namespace with offsets.
pub enum Clock {
    /// Nobody: none is asked for.
    Nobody,
    /// The parent has; this is the way back.
    Parent(File),
    /// The child is to, with these, once it may do all in its user namespace.
    Child(time::Offsets),
}

impl Clock {
    /// Whether the clone is not to make one.
    pub fn is_apart(&self) -> bool {
        !matches!(self, Clock::Nobody)
    }

    /// For the child.
    pub fn offsets(&self) -> Option<time::Offsets> {
        match self {
            Clock::Child(offsets) => Some(*offsets),
            _ => None,
        }
    }
}

/// Makes the time namespace, if one with offsets is asked for.
///
/// # Errors
/// unshare(2)'s, or an offset that the kernel refuses.
pub fn set(namespaces: &Namespaces) -> Result<Clock> {
    if !namespaces.new.contains(Kind::Time) || namespaces.offsets.is_empty() {
        return Ok(Clock::Nobody);
    }
    let path = "/proc/self/ns/time";
    let own = File::open(path).call(|| format!("open({path:?})"))?;
    match time::unshare() {
        // Before Linux 6.1 exec would not enter it.
        Err(e)
            if e.errno() == Some(nix::libc::EPERM)
                && namespaces.new.contains(Kind::User)
                && time::exec_enters() =>
        {
            return Ok(Clock::Child(namespaces.offsets));
        }
        other => other?,
    }
    time::write_offsets(&namespaces.offsets)?;
    Ok(Clock::Parent(own))
}

/// Joins another's time namespace. `later`: a user namespace is joined after it, that may give the right; then whether it
/// has been joined.
///
/// # Errors
/// setns(2)'s.
pub fn join(plan: &join::Plan, later: bool, ctx: &Ctx<'_>) -> Result<bool> {
    match plan.apply(ctx) {
        Err(e) if later && e.errno() == Some(nix::libc::EPERM) => Ok(false),
        other => other.map(|_| true),
    }
}

/// The child's part: what it executes will be in it.
///
/// # Errors
/// As [`set`].
pub fn set_inside(offsets: &time::Offsets) -> Result<()> {
    time::unshare()?;
    time::write_offsets(offsets)
}

/// The caller's later children, hooks among them, are born in its own time namespace again.
///
/// # Errors
/// setns(2)'s.
pub fn back(clock: Clock) -> Result<()> {
    let Clock::Parent(own) = clock else { return Ok(()) };
    move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::Time)).call(|| "setns(CLONE_NEWTIME)")
}
