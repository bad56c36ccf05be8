//! A user namespace's view of the overlay: its upper layer belongs to the container's root.

use crate::request::Namespaces;
use drydock_core::Result;
use drydock_core::error::CallExt;
use drydock_namespaces::{Kind, idmap};
use std::path::Path;

/// Gives the overlay's own directories to the ids that are 0 inside, if those are others'.
///
/// # Errors
/// chown(2)'s.
pub fn own_layers(layers: &Path, namespaces: &Namespaces) -> Result<()> {
    if !namespaces.new.contains(Kind::User) {
        return Ok(());
    }
    let (uid, gid) = (idmap::outside(&namespaces.uid_map, 0), idmap::outside(&namespaces.gid_map, 0));
    for dir in [layers.join("upper"), layers.join("work")] {
        std::os::unix::fs::chown(&dir, uid, gid).call(|| format!("chown({dir:?}, {uid:?}, {gid:?})"))?;
    }
    Ok(())
}
