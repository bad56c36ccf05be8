//! A user namespace's view of the root file system.
//!
//! The files of the root belong to ids of the host that mean nobody inside. So the parent makes a clone of their mount
//! that shifts ids by the container's maps (an id-mapped mount, mount_setattr(2)), and the child, which may not make one,
//! attaches it. The overlay's own upper layer belongs to the ids that are 0 inside.

use crate::request::{Namespaces, Request};
use drydock_core::error::CallExt;
use drydock_core::sys::mount::{ATTR_IDMAP, Attributes, EMPTY_PATH, mount_setattr};
use drydock_core::{Ctx, Object, Result};
use drydock_namespaces::{Kind, idmap};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Gives the overlay's own directories to the ids that are 0 inside, if those are others'.
///
/// # Errors
/// chown(2)'s.
pub fn own_layers(layers: &Path, namespaces: &Namespaces) -> Result<()> {
    // The directory around them too: it is closed to others.
    own(namespaces, &[layers, &layers.join("upper"), &layers.join("work")])
}

fn own(namespaces: &Namespaces, dirs: &[&Path]) -> Result<()> {
    if !namespaces.new.contains(Kind::User) {
        return Ok(());
    }
    let (uid, gid) = (idmap::outside(&namespaces.uid_map, 0), idmap::outside(&namespaces.gid_map, 0));
    for dir in dirs {
        std::os::unix::fs::chown(dir, uid, gid).call(|| format!("chown({dir:?}, {uid:?}, {gid:?})"))?;
    }
    Ok(())
}

/// Makes the directory that the view is attached to, in the container's own directory.
///
/// # Errors
/// The journal's; mkdir(2)'s.
pub fn make_place(request: &Request, ctx: &Ctx<'_>) -> Result<()> {
    let Some((at, own_dir)) = request.mapped.as_deref().and_then(|at| Some((at, at.parent()?))) else { return Ok(()) };
    if !own_dir.exists() {
        ctx.record(&Object::Directory { path: own_dir.to_path_buf() })?;
    }
    std::fs::create_dir_all(at).call(|| format!("mkdir({at:?})"))?;
    own(&request.namespaces, &[own_dir])
}

/// The root's files as the container's user namespace shall see them. Without support of the file system (or before
/// Linux 5.12) they stay nobody's, and `lacking` says so.
///
/// # Errors
/// open_tree(2)'s.
pub fn view(request: &Request, pid: i32, lacking: &mut Vec<String>) -> Result<Option<OwnedFd>> {
    if request.mapped.is_none() {
        return Ok(None);
    }
    let path = request.rootfs.path();
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(rustix::fs::CWD, path, flags).call(|| format!("open_tree({path:?}, OPEN_TREE_CLONE)"))?;
    let file = format!("/proc/{pid}/ns/user");
    let namespace = std::fs::File::open(&file).call(|| format!("open({file:?})"))?;
    let attributes =
        Attributes { set: ATTR_IDMAP, user_namespace: Some(namespace.as_fd()), ..Attributes::default() };
    if let Err(error) = mount_setattr(tree.as_fd(), c"", EMPTY_PATH, attributes) {
        lacking.push(format!("files of the root file system belong to nobody inside: its file system has no id-mapped mounts ({error})"));
    }
    Ok(Some(tree))
}

/// Attaches the view, in the child's own mount namespace.
///
/// # Errors
/// move_mount(2)'s.
pub fn attach(view: &OwnedFd, at: &Path) -> Result<()> {
    move_mount(view, "", rustix::fs::CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .call(|| format!("move_mount(view, {at:?})"))
}
