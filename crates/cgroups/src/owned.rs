//! Whose a cgroup is: those that we made on the way are ours to remove, those for a container's user are given to it.

use crate::group::Cgroup;
use crate::name::SHARED_PARENT;
use crate::step::Act;
use drydock_core::error::CallExt;
use drydock_core::{Ctx, Result};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::unistd::{Uid, fchownat};
use rustix::fs::{XattrFlags, lgetxattr, lsetxattr};
use std::path::Path;

/// On the cgroups above a container's that were made for it.
const MADE: &str = "user.drydock.made";
/// On a container's own in a hierarchy that is systemd's.
const OWN: &str = "user.drydock.own";

/// Marks a directory as made on the way by us. Best effort: without the mark (no such attributes before Linux 5.7) it
/// stays when its last child goes, empty.
pub fn mark_parent(dir: &Path) {
    let _ = lsetxattr(dir, MADE, b"1", XattrFlags::empty());
}

/// Marks a cgroup as ours among systemd's. Best effort: without the mark it is not found by its name.
pub fn mark_own(dir: &Path) {
    let _ = lsetxattr(dir, OWN, b"1", XattrFlags::empty());
}

/// Whether it is ours among systemd's.
pub fn is_own(dir: &Path) -> bool {
    has(dir, OWN)
}

fn has(dir: &Path, mark: &str) -> bool {
    lgetxattr(dir, mark, &mut [0u8; 8]).is_ok()
}

/// Removes the empty cgroups above `dir` that were made by us: up to and including the nearest `drydock`, and further
/// those that are marked. rmdir(2) refuses with EBUSY what still has children or processes, so nothing in use can go.
pub fn prune(dir: &Path) {
    let above: Vec<&Path> = dir.ancestors().skip(1).collect();
    let top = above.iter().position(|a| a.file_name().is_some_and(|n| n == SHARED_PARENT));
    for (i, parent) in above.iter().enumerate() {
        let ours = top.is_some_and(|top| i <= top) || has(parent, MADE);
        if !ours || std::fs::remove_dir(parent).is_err() {
            return;
        }
    }
}

impl Cgroup {
    /// Lets a user manage what is below this cgroup, but not its own limits: for the root of a container with a user
    /// namespace and a cgroup namespace of its own. Only on v2: v1's delegation is not safe, so there this does nothing.
    ///
    /// # Errors
    /// chown(2)'s.
    pub fn delegate(&self, uid: u32, ctx: &Ctx<'_>) -> Result<()> {
        let [dir] = self.entries() else { return Ok(()) };
        if !dir.v2 {
            return Ok(());
        }
        let dir = &dir.path;
        ctx.perform(&Act::Delegate { dir: dir.clone(), uid }, |_| {
            chown(dir, uid).call(|| format!("chown({dir:?}, {uid}, -1)"))?;
            let listed = crate::files::read_if_there(Path::new("/sys/kernel/cgroup/delegate"))
                .unwrap_or_else(|| "cgroup.procs cgroup.subtree_control cgroup.threads".to_string());
            for file in listed.split_whitespace().map(|name| dir.join(name)) {
                match chown(&file, uid) {
                    // Not each cgroup has each of them.
                    Err(Errno::ENOENT) => {}
                    other => other.call(|| format!("chown({file:?}, {uid}, -1)"))?,
                }
            }
            Ok(())
        })
    }
}

/// Files of v1 that a user needs to move processes; the limits stay the owner's of the cgroup above.
const V1_FILES: [&str; 3] = ["cgroup.procs", "tasks", "cgroup.clone_children"];

impl Cgroup {
    /// Lets a user manage what is below this cgroup in each hierarchy, as `cgcreate -t -a` and systemd's Delegate= do, but
    /// not its own limits. On v1 the kernel does not confine the user to the subtree: see [`Self::delegation_is_safe`].
    ///
    /// # Errors
    /// chown(2)'s; the root of a hierarchy.
    pub fn delegate_to(&self, uid: u32, gid: Option<u32>, ctx: &Ctx<'_>) -> Result<()> {
        self.refuse_roots("delegate")?;
        let listed = crate::files::read_if_there(Path::new("/sys/kernel/cgroup/delegate"))
            .unwrap_or_else(|| "cgroup.procs cgroup.subtree_control cgroup.threads".to_string());
        let v2: Vec<&str> = listed.split_whitespace().collect();
        for dir in self.entries() {
            let files = if dir.v2 { &v2[..] } else { &V1_FILES[..] };
            let path = &dir.path;
            ctx.perform(&Act::Delegate { dir: path.clone(), uid }, |_| {
                let give = |path: &Path| {
                    chown_to(path, uid, gid)
                        .call(|| format!("chown({path:?}, {uid})"))
                        .map_err(crate::kill::permission)
                };
                give(path)?;
                // Not each cgroup has each of them.
                files.iter().map(|f| path.join(f)).filter(|f| f.exists()).try_for_each(|f| give(&f))
            })?;
        }
        Ok(())
    }

    /// Whether the kernel confines a delegated user to the subtree: v2 does (the common ancestor must be theirs), v1 lets
    /// them move any process of theirs in, and the limits of each hierarchy are all that holds.
    pub fn delegation_is_safe(&self) -> bool {
        self.entries().iter().all(|d| d.v2)
    }
}

fn chown(path: &Path, uid: u32) -> nix::Result<()> {
    chown_to(path, uid, None)
}

fn chown_to(path: &Path, uid: u32, gid: Option<u32>) -> nix::Result<()> {
    let gid = gid.map(nix::unistd::Gid::from_raw);
    fchownat(nix::fcntl::AT_FDCWD, path, Some(Uid::from_raw(uid)), gid, AtFlags::AT_SYMLINK_NOFOLLOW)
}
