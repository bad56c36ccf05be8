//! Mounts, in a mount namespace of the probe's own.

use super::place::{self, Facts, Scratch};
use super::{Finding, Need, Probe};
use drydock_core::error::CallExt;
use drydock_core::sys::mount::{ATTR_IDMAP, ATTR_RDONLY, Attributes, EMPTY_PATH, mount_setattr};
use drydock_core::{Error, Result};
use drydock_mounts::{Overlay, Pivot, inside, pivot};
use drydock_namespaces::{Kind, Set};
use nix::libc;
use nix::mount::{MsFlags, mount};
use rustix::fs::{CWD, OFlags};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

const ROOT_FIX: &str = "run as root, or make user namespaces work for this user (see users)";
const KERNEL_FS: &str = "mount(2) refuses this in a user namespace while parts of the host's /proc or /sys are hidden, as in a container: \
     run as root outside of it";

pub(super) const PROBES: &[Probe] = &[
    probe!(
        "mounts",
        "propagation",
        "private mounts",
        "container run: its mounts would reach the host",
        ROOT_FIX,
        &[],
        All,
        private
    ),
    probe!(
        "mounts",
        "tmpfs",
        "tmpfs",
        "container run (/dev, /dev/shm), --tmpfs",
        ROOT_FIX,
        &["CONFIG_TMPFS"],
        All,
        |f| { f.on_tmpfs(Set::EMPTY, |_| Finding::ok("")) }
    ),
    probe!(
        "mounts",
        "pivot_root",
        "pivot_root",
        "container run, init --root, rootfs enter",
        "on an initramfs: rootfs enter --move",
        &[],
        All,
        pivoted
    ),
    probe!(
        "mounts",
        "proc",
        "proc",
        "container run (/proc), unshare --mount-proc",
        KERNEL_FS,
        &["CONFIG_PROC_FS"],
        All,
        |f| { kernel_fs(f, Kind::Pid, "proc", "") }
    ),
    probe!(
        "mounts",
        "sysfs",
        "sysfs",
        "a /sys of the container's own; rootless ones get a read-only bind",
        KERNEL_FS,
        &["CONFIG_SYSFS"],
        Root,
        |f| { kernel_fs(f, Kind::Network, "sysfs", "") }
    ),
    probe!(
        "mounts",
        "devpts",
        "devpts",
        "container run (/dev/pts), -t",
        ROOT_FIX,
        &["CONFIG_UNIX98_PTYS"],
        All,
        |f| {
            // Terminals are group tty's; a user namespace with one id has none.
            let tty = if f.root { ",gid=5" } else { "" };
            kernel_fs(f, Kind::Mount, "devpts", &format!("newinstance,ptmxmode=0666,mode=0620{tty}"))
        }
    ),
    probe!(
        "mounts",
        "mqueue",
        "mqueue",
        "container run (/dev/mqueue)",
        ROOT_FIX,
        &["CONFIG_POSIX_MQUEUE"],
        All,
        |f| { kernel_fs(f, Kind::Ipc, "mqueue", "") }
    ),
    probe!(
        "mounts",
        "mknod",
        "device nodes",
        "container run as root: /dev/null and the like; a user namespace binds the host's instead",
        "give CAP_MKNOD, or --userns auto",
        &[],
        Root,
        mknod
    ),
    probe!(
        "mounts",
        "overlay",
        "overlay on the data directory",
        "container run without --rootfs; rootfs mount --lower",
        "load the overlay module, or DRYDOCK_DATA on ext4, xfs, btrfs or tmpfs; or give --rootfs DIR",
        &["CONFIG_OVERLAY_FS"],
        All,
        overlay
    ),
    probe!(
        "mounts",
        "overlay-userns",
        "overlay in a user namespace",
        "container run --userns, or without root, without --rootfs",
        "Linux 5.11; or give --rootfs DIR",
        &["CONFIG_OVERLAY_FS", "CONFIG_USER_NS"],
        User,
        overlay_userns
    ),
    probe!(
        "mounts",
        "open_tree",
        "open_tree, move_mount",
        "container run (masked paths), -v, rootfs mount --bind",
        "Linux 5.2, or an outer seccomp filter that lets them through",
        &[],
        All,
        |f| { f.on_tmpfs(Set::EMPTY, moved) }
    ),
    probe!(
        "mounts",
        "mount_setattr",
        "mount_setattr",
        "mounts are made read-only one by one instead of all at once",
        "Linux 5.12",
        &[],
        None,
        |f| { f.on_tmpfs(Set::EMPTY, attributes) }
    ),
    probe!(
        "mounts",
        "idmap",
        "id-mapped mounts",
        "sharing one root file system between user namespaces without copying it",
        "Linux 5.12 and a file system that has them (ext4, xfs, btrfs, overlay; tmpfs from 6.3)",
        &[],
        None,
        idmapped
    ),
    probe!(
        "mounts",
        "openat2",
        "openat2",
        "paths in a root are resolved in one call; without it, part by part",
        "Linux 5.6, or an outer seccomp filter that lets it through",
        &[],
        None,
        openat2
    ),
];

fn private(facts: &Facts) -> Result<Finding> {
    facts.inside(Set::EMPTY.with(Kind::Mount), || {
        let mounts =
            std::fs::read_to_string("/proc/self/mountinfo").call(|| "read(\"/proc/self/mountinfo\")")?;
        let shared = mounts.lines().filter(|l| l.contains(" shared:")).count();
        if shared == 0 {
            Finding::ok("")
        } else {
            Finding::missing(format!("{shared} mounts are still shared"))
        }
    })
}

fn open(path: &Path) -> Result<OwnedFd> {
    inside::open_host(path, OFlags::DIRECTORY)
}

fn pivoted(facts: &Facts) -> Result<Finding> {
    facts.on_tmpfs(Set::EMPTY.with(Kind::Pid), |dir| {
        pivot::enter(Pivot::PivotRoot, open(dir)?.as_fd(), false)?;
        let left = std::fs::read_dir("/").call(|| "open(\"/\")")?.count();
        if left == 0 { Finding::ok("") } else { Finding::missing(format!("/ still has {left} entries")) }
    })
}

fn kernel_fs(facts: &Facts, kind: Kind, name: &str, data: &str) -> Result<Finding> {
    facts.on_tmpfs(Set::EMPTY.with(kind), |dir| {
        let target = dir.join(name);
        std::fs::create_dir(&target).call(|| format!("mkdir({target:?}, 0777)"))?;
        let data = Some(data).filter(|d| !d.is_empty());
        mount(Some(name), &target, Some(name), MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, data)
            .call(|| format!("mount({name:?}, {target:?}, {name:?}, MS_NOSUID|MS_NOEXEC)"))?;
        Finding::ok("")
    })
}

fn mknod(facts: &Facts) -> Result<Finding> {
    if !facts.root {
        return Finding::ok("not needed: the host's nodes are bound");
    }
    facts.on_tmpfs(Set::EMPTY, |dir| {
        use nix::sys::stat::{Mode, SFlag, makedev, mknod};
        mknod(&dir.join("null"), SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 3))
            .call(|| "mknod(\"null\", S_IFCHR|0666, makedev(1, 3))")?;
        Finding::ok("")
    })
}

fn overlay(facts: &Facts) -> Result<Finding> {
    layered(facts, Set::EMPTY.with(Kind::Mount), !facts.root)
}

fn overlay_userns(facts: &Facts) -> Result<Finding> {
    layered(facts, Set::EMPTY.with(Kind::Mount).with(Kind::User), true)
}

/// As `container run` mounts its root: a file of the lower layer is seen, what is written lands in the upper one.
fn layered(facts: &Facts, kinds: Set, userxattr: bool) -> Result<Finding> {
    let data = facts.data.clone()?;
    let scratch = Scratch::new(&data)?;
    let overlay = Overlay {
        lower: vec![scratch.dir("lower")?],
        upper: scratch.dir("upper")?,
        work: scratch.dir("work")?,
        volatile: true,
        userxattr,
        ..Overlay::default()
    };
    let target = scratch.dir("merged")?;
    let below = scratch.0.join("lower/file");
    std::fs::write(&below, "lower").call(|| format!("write({below:?})"))?;
    let upper = overlay.upper.clone();
    facts.inside(kinds, move || {
        let shown = target.to_string_lossy().into_owned();
        overlay.mount(&shown, &shown, MsFlags::empty())?;
        let file = target.join("file");
        std::fs::write(&file, "upper").call(|| format!("write({file:?})"))?;
        let landed = std::fs::read_to_string(upper.join("file")).is_ok_and(|text| text == "upper");
        if landed {
            Finding::ok("")
        } else {
            Finding::missing("what was written did not reach the upper layer")
        }
    })
}

fn clone_of(dir: &Path) -> Result<OwnedFd> {
    open_tree(CWD, dir, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
        .call(|| format!("open_tree(AT_FDCWD, {dir:?}, OPEN_TREE_CLONE)"))
}

fn moved(dir: &Path) -> Result<Finding> {
    let tree = clone_of(dir)?;
    let target = dir.join("target");
    std::fs::create_dir(&target).call(|| format!("mkdir({target:?}, 0777)"))?;
    move_mount(&tree, "", CWD, &target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .call(|| format!("move_mount(tree, \"\", AT_FDCWD, {target:?}, MOVE_MOUNT_F_EMPTY_PATH)"))?;
    Finding::ok("")
}

fn attributes(dir: &Path) -> Result<Finding> {
    let tree = clone_of(dir)?;
    let set = Attributes { set: ATTR_RDONLY, ..Attributes::default() };
    match mount_setattr(tree.as_fd(), c"", EMPTY_PATH, set) {
        Ok(()) => Finding::ok(""),
        Err(e) if e.raw_os_error() == Some(libc::ENOSYS) => {
            Finding::degraded("ENOSYS: mounts are remounted instead")
        }
        Err(e) => Err(Error::call("mount_setattr(tree, \"\", AT_EMPTY_PATH, MOUNT_ATTR_RDONLY)", e)),
    }
}

/// For root where the data is; for others, who may not map the host's file systems, on a tmpfs of their own.
fn idmapped(facts: &Facts) -> Result<Finding> {
    if !facts.root {
        return facts.on_tmpfs(Set::EMPTY, map_mount);
    }
    let scratch = Scratch::new(&facts.data.clone()?)?;
    let dir = scratch.0.clone();
    facts.inside(Set::EMPTY.with(Kind::Mount), move || map_mount(&dir))
}

fn map_mount(dir: &Path) -> Result<Finding> {
    let tree = clone_of(dir)?;
    let (wait, go) = std::io::pipe().call(|| "pipe2(O_CLOEXEC)")?;
    let holder = drydock_core::sys::process::clone_child(u64::from(Kind::User.flag()), None, || {
        // The child's copy of the parent's end would keep it waiting for itself.
        let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
        let mut fds = [nix::poll::PollFd::new(wait.as_fd(), nix::poll::PollFlags::POLLIN)];
        let _ = nix::poll::poll(&mut fds, 1000u16);
        0
    })
    .map_err(|e| place::refused(Set::EMPTY.with(Kind::User), e.raw_os_error().unwrap_or(libc::EIO)))?;
    let mapped = map_with(&tree, holder.pid);
    let _ = std::io::Write::write_all(&mut &go, b"x");
    let _ = drydock_supervise::wait_exit(&holder);
    mapped.and_then(|()| Finding::ok(""))
}

fn map_with(tree: &OwnedFd, pid: i32) -> Result<()> {
    for (file, text) in [("setgroups", "deny"), ("uid_map", "0 0 1"), ("gid_map", "0 0 1")] {
        let path = format!("/proc/{pid}/{file}");
        std::fs::write(&path, text).call(|| format!("write({path:?}, {text:?})"))?;
    }
    let path = format!("/proc/{pid}/ns/user");
    let user = std::fs::File::open(&path).call(|| format!("open({path:?}, O_RDONLY)"))?;
    let attributes =
        Attributes { set: ATTR_IDMAP, user_namespace: Some(user.as_fd()), ..Attributes::default() };
    mount_setattr(tree.as_fd(), c"", EMPTY_PATH, attributes)
        .call(|| "mount_setattr(tree, \"\", AT_EMPTY_PATH, MOUNT_ATTR_IDMAP)")
}

fn openat2(_: &Facts) -> Result<Finding> {
    use rustix::fs::{Mode, ResolveFlags, openat2};
    match openat2(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::NO_MAGICLINKS) {
        Ok(_) => Finding::ok(""),
        Err(e @ (rustix::io::Errno::NOSYS | rustix::io::Errno::PERM)) => Finding::degraded(format!(
            "{}: paths are walked part by part",
            drydock_core::error::errno_text(e.raw_os_error())
        )),
        Err(e) => Err(Error::call("openat2(AT_FDCWD, \"/\", O_PATH, RESOLVE_NO_MAGICLINKS)", e)),
    }
}
