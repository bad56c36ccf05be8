//! Becoming a process of a named namespace, as `ip netns exec` does. Source: ip-netns(8), setns(2).

use super::open;
use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::CloneFlags;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use std::path::Path;

/// Moves the calling process into a network namespace, for the exec that follows. Unlike the rest of this crate it
/// changes its caller, which must have one thread. The process also gets a mount namespace of its own, in which /sys
/// shows the devices of that network namespace (cgroup mounts below it are kept), and files of `/etc/netns/NAME/` lie
/// over those of /etc. Returns what could not be done and is not essential.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] if it is not a namespace; EPERM without CAP_SYS_ADMIN.
pub fn enter(path: &Path, name: Option<&str>) -> Result<Vec<String>> {
    let fd = open(path)?;
    nix::sched::setns(&fd, CloneFlags::CLONE_NEWNET)
        .call(|| format!("setns({path:?}, CLONE_NEWNET)"))
        .map_err(|e| e.hint("this needs CAP_SYS_ADMIN: run as root"))?;
    let mut skipped = Vec::new();
    if let Err(e) = own_mounts() {
        skipped.push(format!("/sys still shows the host's devices ({e})"));
        return Ok(skipped);
    }
    if let Err(e) = remount_sys() {
        skipped.push(format!("/sys could not be remounted ({e})"));
    }
    if let Some(name) = name {
        bind_etc(name, &mut skipped);
    }
    Ok(skipped)
}

fn own_mounts() -> Result<()> {
    nix::sched::unshare(CloneFlags::CLONE_NEWNS).call(|| "unshare(CLONE_NEWNS)")?;
    // Nothing that is mounted here may reach the host.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_SLAVE | MsFlags::MS_REC, None::<&str>)
        .call(|| "mount(\"/\", MS_SLAVE|MS_REC)")
}

fn remount_sys() -> Result<()> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let cgroups = open_tree(rustix::fs::CWD, "/sys/fs/cgroup", flags).ok();
    match umount2("/sys", MntFlags::MNT_DETACH) {
        Ok(()) | Err(nix::errno::Errno::EINVAL) => {}
        Err(e) => return Err(Error::call("umount2(\"/sys\", MNT_DETACH)", e)),
    }
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("sysfs"), "/sys", Some("sysfs"), safe, None::<&str>).call(|| "mount(\"sysfs\", \"/sys\")")?;
    if let Some(tree) = cgroups {
        move_mount(&tree, "", rustix::fs::CWD, "/sys/fs/cgroup", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .call(|| "move_mount(\"/sys/fs/cgroup\")")?;
    }
    Ok(())
}

fn bind_etc(name: &str, skipped: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(Path::new("/etc/netns").join(name)) else { return };
    for entry in entries.flatten() {
        let (from, to) = (entry.path(), Path::new("/etc").join(entry.file_name()));
        if let Err(e) = mount(Some(&from), &to, Some("none"), MsFlags::MS_BIND, None::<&str>) {
            skipped.push(format!("{} could not be bound over {} ({e})", from.display(), to.display()));
        }
    }
}
