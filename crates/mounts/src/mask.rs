//! Masked and read-only paths: parts of /proc and /sys that are the host's business.

use crate::dev;
use crate::inside::{self, Inside, Links};
use drydock_core::error::CallExt;
use drydock_core::sys::mount::{self as setattr, Attributes};
use drydock_core::{Error, Result};
use nix::mount::MsFlags;
use rustix::fs::{FileType, OFlags};
use rustix::mount::{MoveMountFlags, OpenTreeFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// What masks are made of; opened once, when first needed.
#[derive(Debug, Default)]
pub struct Masks {
    null: Option<Null>,
    directory: Option<OwnedFd>,
    label: Option<String>,
}

/// A verified null device.
#[derive(Debug)]
struct Null {
    fd: OwnedFd,
    /// Whether it is the container's, not the host's.
    own: bool,
}

impl Masks {
    /// Masks whose empty directory has this SELinux label.
    pub(crate) fn labelled(label: Option<String>) -> Self {
        Self { label, ..Self::default() }
    }

    /// Makes `path` read as empty: a file by the null device, a directory by an empty read-only tmpfs that all masked
    /// directories share. A missing path is left out.
    ///
    /// # Errors
    /// When no null device can be verified, or a mount fails. Never leaves the path readable without an error.
    pub fn mask(&mut self, root: &Inside, path: &str) -> Result<()> {
        let Some(target) = root.open(path, Links::Follow)? else { return Ok(()) };
        match inside::file_type(target.as_fd(), path)? {
            FileType::Directory => self.mask_directory(root, &target, path),
            FileType::Symlink => {
                Err(Error::failed(path, "a symbolic link that leads nowhere cannot be masked"))
            }
            _ => {
                let null = self.null(root)?;
                // The host's node must stay as it is even where the container's root is the host's.
                if null.own {
                    dev::bind_fd(null.fd.as_fd(), target.as_fd(), path)
                } else {
                    bind_readonly(null.fd.as_fd(), target.as_fd(), path)
                }
            }
        }
    }

    fn mask_directory(&mut self, root: &Inside, target: &OwnedFd, path: &str) -> Result<()> {
        if let Some(empty) = &self.directory {
            return dev::bind_fd(empty.as_fd(), target.as_fd(), path);
        }
        let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let to = inside::fd_path(target.as_fd());
        let mut data = "size=4k,nr_inodes=2,mode=755".to_string();
        if let Some(label) = &self.label {
            data = format!("{data},{}", crate::label::word(label));
        }
        nix::mount::mount(Some("tmpfs"), to.as_str(), Some("tmpfs"), flags, Some(data.as_str())).call(
            || format!("mount(\"tmpfs\", {path:?}, \"tmpfs\", {}, {data:?})", crate::options::show(flags)),
        )?;
        // The descriptor is of the directory below; the path now leads to the mount.
        self.directory = root.open(path, Links::Follow)?;
        Ok(())
    }

    /// The container's own null device, or the host's: whichever is verified to be one.
    fn null(&mut self, root: &Inside) -> Result<&Null> {
        if self.null.is_none() {
            self.null = Some(find_null(root)?);
        }
        self.null.as_ref().ok_or_else(|| Error::failed("/dev/null", "not there"))
    }
}

fn find_null(root: &Inside) -> Result<Null> {
    if let Ok(Some(own)) = root.open("/dev/null", Links::Refuse)
        && dev::is_null(own.as_fd())?
    {
        return Ok(Null { fd: own, own: true });
    }
    let host = inside::open_host(Path::new("/dev/null"), OFlags::NOFOLLOW)?;
    if dev::is_null(host.as_fd())? {
        return Ok(Null { fd: host, own: false });
    }
    Err(Error::failed(
        "/dev/null",
        "neither the container's nor the host's is the null device (character device 1:3)",
    ))
}

/// Makes `path` and everything below read-only. A missing path is left out.
///
/// # Errors
/// When the mount cannot be made or changed.
pub fn make_readonly(root: &Inside, path: &str) -> Result<()> {
    let Some(target) = root.open(path, Links::Follow)? else { return Ok(()) };
    bind_readonly(target.as_fd(), target.as_fd(), path)
}

/// Binds what one descriptor refers to, and everything mounted below, over what another refers to; what is seen there
/// cannot be changed. A device may still be read and written, as mount(2) says of MS_RDONLY, but its owner and mode stay.
///
/// # Errors
/// When the mount cannot be made or changed.
pub fn bind_readonly(source: BorrowedFd<'_>, target: BorrowedFd<'_>, path: &str) -> Result<()> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = rustix::mount::open_tree(source, "", flags)
        .call(|| format!("open_tree({path:?}, OPEN_TREE_CLONE|AT_RECURSIVE)"))
        .map_err(|e| e.on(path))?;
    let changed = set_attributes(tree.as_fd(), setattr::ATTR_RDONLY, 0, true);
    attach(tree.as_fd(), target, path)?;
    match changed {
        Err(e) if e.errno() == Some(nix::libc::ENOSYS) => remount_readonly(tree.as_fd(), path),
        other => other.map_err(|e| e.on(path)),
    }
}

/// Attaches a detached mount tree on what `target` refers to.
///
/// # Errors
/// move_mount(2)'s: ENOTDIR when one is a directory and the other is not.
pub fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>, shown: &str) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(tree, "", target, "", flags)
        .call(|| {
            format!(
                "move_mount(tree, \"\", {shown:?}, \"\", MOVE_MOUNT_F_EMPTY_PATH|MOVE_MOUNT_T_EMPTY_PATH)"
            )
        })
        .map_err(|e| e.on(shown))
}

/// mount_setattr(2) on the mount that a descriptor is the root of.
///
/// # Errors
/// The call's; ENOSYS before Linux 5.12.
pub fn set_attributes(mount: BorrowedFd<'_>, set: u64, clear: u64, recursive: bool) -> Result<()> {
    let flags = if recursive { setattr::EMPTY_PATH | setattr::RECURSIVE } else { setattr::EMPTY_PATH };
    setattr::mount_setattr(mount, c"", flags, Attributes { set, clear, ..Attributes::default() })
        .call(|| format!("mount_setattr(fd, \"\", {flags:#x}, {{attr_set={set:#x}, attr_clr={clear:#x}}})"))
}

/// Before Linux 5.12: one mount at a time, by remounting, which keeps the flags that statfs(2) shows.
///
/// # Errors
/// mount(2)'s.
pub fn remount_readonly(mount: BorrowedFd<'_>, shown: &str) -> Result<()> {
    let none: Option<&str> = None;
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | current_flags(mount);
    nix::mount::mount(none, inside::fd_path(mount).as_str(), none, flags, none)
        .call(|| format!("mount(NULL, {shown:?}, NULL, {}, NULL)", crate::options::show(flags)))
        .map_err(|e| e.on(shown))
}

/// The flags of a mount, which a remount has to repeat: some are locked in user namespaces.
pub fn current_flags(mount: BorrowedFd<'_>) -> MsFlags {
    use rustix::fs::StatVfsMountFlags as Shown;
    let Ok(stat) = rustix::fs::fstatvfs(mount) else { return MsFlags::empty() };
    let pairs = [
        (Shown::RDONLY, MsFlags::MS_RDONLY),
        (Shown::NOSUID, MsFlags::MS_NOSUID),
        (Shown::NODEV, MsFlags::MS_NODEV),
        (Shown::NOEXEC, MsFlags::MS_NOEXEC),
        (Shown::NOATIME, MsFlags::MS_NOATIME),
        (Shown::NODIRATIME, MsFlags::MS_NODIRATIME),
        (Shown::RELATIME, MsFlags::MS_RELATIME),
    ];
    pairs
        .iter()
        .filter(|(shown, _)| stat.f_flag.contains(*shown))
        .fold(MsFlags::empty(), |all, (_, flag)| all | *flag)
}
