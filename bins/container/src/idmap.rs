//! A user namespace's view of the root file system.
//!
//! The files of the root belong to ids of the host that mean nobody inside. So the parent makes a clone of their mount
//! that shifts ids by the container's maps (an id-mapped mount, mount_setattr(2)), and the child, which may not make one,
//! attaches it.

use crate::request::Request;
use drydock_core::error::CallExt;
use drydock_core::sys::mount::{ATTR_IDMAP, Attributes, EMPTY_PATH, mount_setattr};
use drydock_core::{Ctx, Object, Result};
use drydock_namespaces::idmap;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Makes the container's own directory under the data root, with the place that the view is attached to. It belongs to the
/// ids that are 0 inside: the state directory is closed to them.
///
/// # Errors
/// The journal's; mkdir(2)'s and chown(2)'s; a directory that a container of another state root uses.
pub fn make_place(request: &Request, state_dir: &Path, ctx: &Ctx<'_>) -> Result<()> {
    let Some((at, own)) = request.mapped.as_deref().and_then(|at| Some((at, at.parent()?))) else {
        return Ok(());
    };
    ctx.record(&Object::Directory { path: own.to_path_buf() })?;
    crate::claim::clear(own, state_dir)?;
    make(own.parent().unwrap_or(own), 0o711)?;
    make(own, 0o700)?;
    drydock_mounts::layers::mark(own, state_dir)?;
    make(at, 0o755)?;
    let namespaces = &request.namespaces;
    let (uid, gid) = (idmap::outside(&namespaces.uid_map, 0), idmap::outside(&namespaces.gid_map, 0));
    std::os::unix::fs::chown(own, uid, gid).call(|| format!("chown({own:?}, {uid:?}, {gid:?})"))
}

/// Makes a directory with exactly this mode, if it is not there.
fn make(dir: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    match std::fs::create_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
        other => other.call(|| format!("mkdir({dir:?})"))?,
    }
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode))
        .call(|| format!("chmod({dir:?}, {mode:#o})"))
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
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let tree =
        open_tree(rustix::fs::CWD, path, flags).call(|| format!("open_tree({path:?}, OPEN_TREE_CLONE)"))?;
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
