//! A time namespace with offsets of its own: they are written before anybody is in it, so the parent makes it for its
//! children and goes back to its own once the first is born.

use crate::request::Namespaces;
use drydock_core::Result;
use drydock_core::error::CallExt;
use drydock_namespaces::{Kind, time};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::os::fd::AsFd;

/// Makes the time namespace, if one with offsets is asked for. Gives the way back.
///
/// # Errors
/// unshare(2)'s, or an offset that the kernel refuses.
pub fn set(namespaces: &Namespaces) -> Result<Option<File>> {
    if !namespaces.new.contains(Kind::Time) || namespaces.offsets.is_empty() {
        return Ok(None);
    }
    let path = "/proc/self/ns/time";
    let own = File::open(path).call(|| format!("open({path:?})"))?;
    time::unshare()?;
    time::write_offsets(&namespaces.offsets)?;
    Ok(Some(own))
}

/// The caller's later children, hooks among them, are born in its own time namespace again.
///
/// # Errors
/// setns(2)'s.
pub fn back(own: File) -> Result<()> {
    move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::Time)).call(|| "setns(CLONE_NEWTIME)")
}
