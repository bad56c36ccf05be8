//! How a directory becomes `/`. Source: pivot_root(2), chroot(2).

use crate::table::Entry;
use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use nix::mount::{MntFlags, MsFlags};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// The three ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pivot {
    /// pivot_root(2), then the old root is unmounted: nothing of the host is left in the mount namespace.
    #[default]
    PivotRoot,
    /// chroot(2): weaker, see [`WHY_CHROOT_IS_WEAKER`].
    Chroot,
    /// The root is moved over `/` (MS_MOVE) and chrooted into, for hosts whose own root is a ramfs, from which
    /// pivot_root(2) is not possible. The host's mounts are taken away first: its proc and sysfs would let a process
    /// mount unmasked ones again.
    Move,
}

/// Why chroot is weaker, for the caller to print.
pub const WHY_CHROOT_IS_WEAKER: &str = "chroot(2) only changes where path names start: the host's mounts stay in the \
    mount namespace, and a process with CAP_SYS_CHROOT gets out again by a second chroot(2) or a directory that it \
    holds open; pivot_root(2) takes the host's mounts away";

/// Makes `root`, which is the root of a mount, the `/` of this mount namespace and the working directory.
/// `shared`: the old tree is still in peer groups with the host, so it is made a slave before it is taken away.
/// Changes the root and working directory of the caller: for the child of a clone(2) only.
///
/// # Errors
/// pivot_root(2): EINVAL when the root's parent mount is shared or the current root is a ramfs.
pub fn enter(pivot: Pivot, root: BorrowedFd<'_>, shared: bool) -> Result<()> {
    match pivot {
        Pivot::PivotRoot => pivot_root(root, shared),
        Pivot::Chroot => chroot(root),
        Pivot::Move => move_root(root),
    }
}

fn pivot_root(root: BorrowedFd<'_>, shared: bool) -> Result<()> {
    let none: Option<&str> = None;
    // The old root ends up stacked on the new one, at "."; a descriptor of it is needed only to change it first.
    let old = shared.then(|| open_directory("/")).transpose()?;
    nix::unistd::fchdir(root).call(|| "fchdir(root)")?;
    nix::unistd::pivot_root(".", ".").call(|| "pivot_root(\".\", \".\")").map_err(|e| match e.errno() {
        Some(nix::libc::EINVAL) => {
            e.hint("if this machine's own root is a ramfs (initramfs), use the move way")
        }
        Some(nix::libc::EPERM) => e.hint("needs CAP_SYS_ADMIN in the user namespace of the mount namespace"),
        _ => e,
    })?;
    if let Some(old) = old {
        nix::unistd::fchdir(old.as_fd()).call(|| "fchdir(old root)")?;
        nix::mount::mount(none, ".", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)
            .call(|| "mount(NULL, \".\", NULL, MS_REC|MS_SLAVE, NULL)")?;
    }
    nix::mount::umount2(".", MntFlags::MNT_DETACH).call(|| "umount2(\".\", MNT_DETACH)")?;
    nix::unistd::chdir("/").call(|| "chdir(\"/\")")
}

fn chroot(root: BorrowedFd<'_>) -> Result<()> {
    nix::unistd::fchdir(root).call(|| "fchdir(root)")?;
    nix::unistd::chroot(".").call(|| "chroot(\".\")")?;
    nix::unistd::chdir("/").call(|| "chdir(\"/\")")
}

fn move_root(root: BorrowedFd<'_>) -> Result<()> {
    use rustix::mount::MoveMountFlags as Flags;
    hide_host_mounts(root)?;
    let slash = open_directory("/")?;
    let empty = Flags::MOVE_MOUNT_F_EMPTY_PATH | Flags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(root, "", &slash, "", empty)
        .call(|| "move_mount(root, \"\", \"/\", MOVE_MOUNT_F_EMPTY_PATH|MOVE_MOUNT_T_EMPTY_PATH)")?;
    chroot(root)
}

/// Unmounts all that is neither below the new root nor holds it. mount(2) lets an unprivileged user namespace mount a fresh
/// proc or sysfs only if a fully visible one is there; the host's would be, and ours has masks. All others go too: one may
/// lie over a proc, which would come out of reach of names, but not of the kernel's look. No mount here is a peer of the
/// host's: unmounting goes to the peers of the mount that something is mounted on.
fn hide_host_mounts(root: BorrowedFd<'_>) -> Result<()> {
    let ours =
        std::fs::read_link(crate::inside::fd_path(root)).call(|| "readlink(\"/proc/self/fd/ROOT\")")?;
    let mounts = crate::table::read(None)?;
    let holding = holding(&mounts, &ours);
    if holding.is_empty() {
        return Err(Error::failed("root", format!("{ours:?} is not listed as a mount of this namespace")));
    }
    let goes = |m: &&Entry| {
        !m.mount_point.starts_with(&ours) && holding.iter().all(|held| held.mount_point != m.mount_point)
    };
    let none: Option<&str> = None;
    for mount in mounts.iter().rev().filter(goes) {
        let path = &mount.mount_point;
        match nix::mount::umount2(path, MntFlags::MNT_DETACH) {
            // Locked, in a user namespace: covered instead.
            Err(nix::errno::Errno::EINVAL | nix::errno::Errno::EPERM) => {
                if matches!(mount.fstype.as_str(), "proc" | "sysfs") {
                    nix::mount::mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::MS_RDONLY, none)
                        .call(|| format!("mount(\"tmpfs\", {path:?}, \"tmpfs\", MS_RDONLY, NULL)"))?;
                }
            }
            // Gone with the one that it was on.
            Err(nix::errno::Errno::ENOENT) => {}
            other => other.call(|| format!("umount2({path:?}, MNT_DETACH)"))?,
        }
    }
    Ok(())
}

/// The mount at a directory, and those that it is on.
fn holding<'a>(mounts: &'a [Entry], root: &Path) -> Vec<&'a Entry> {
    let mut chain: Vec<&Entry> = Vec::new();
    let mut next = mounts.iter().rev().find(|m| m.mount_point == root);
    while let Some(mount) = next.filter(|m| chain.iter().all(|seen| seen.id != m.id)) {
        chain.push(mount);
        next = mounts.iter().find(|m| m.id == mount.parent);
    }
    chain
}

fn open_directory(path: &str) -> Result<std::os::fd::OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .call(|| format!("open({path:?}, O_PATH|O_DIRECTORY)"))
}
