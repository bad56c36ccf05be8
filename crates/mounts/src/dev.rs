//! Device nodes. Source: mknod(2); in user namespaces mknod(2) is refused and the host's nodes are bound.

use crate::inside::{self, Inside, Links, Want};
use crate::request::{Device, DeviceKind, Symlink};
use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use nix::mount::MsFlags;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The multiplexer of pseudoterminals: a link to that of the container's own devpts, whatever the image has there.
pub(crate) const PTMX: &str = "/dev/ptmx";

fn file_type(kind: DeviceKind) -> FileType {
    match kind {
        DeviceKind::Char => FileType::CharacterDevice,
        DeviceKind::Block => FileType::BlockDevice,
        DeviceKind::Fifo => FileType::Fifo,
    }
}

/// Whether this is the device: the type counts too, because a regular file's number is 0:0.
fn is_device(stat: &Stat, device: &Device) -> bool {
    FileType::from_raw_mode(stat.st_mode) == file_type(device.kind)
        && (device.kind == DeviceKind::Fifo
            || stat.st_rdev == rustix::fs::makedev(device.major, device.minor))
}

/// Whether a descriptor refers to the null device: a character device with number 1:3.
///
/// # Errors
/// fstat(2)'s.
pub fn is_null(fd: BorrowedFd<'_>) -> Result<bool> {
    let stat = inside::stat(fd, "/dev/null")?;
    let character = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    Ok(character && stat.st_rdev == rustix::fs::makedev(1, 3))
}

/// The directory in which the last node or link was made: most of them are in the same.
#[derive(Debug, Default)]
pub struct Directory(Option<(String, OwnedFd)>);

impl Directory {
    /// Splits a path inside the root into its directory, opened, and its name.
    ///
    /// # Errors
    /// As [`Inside::ensure`].
    fn of<'p>(&mut self, root: &Inside, path: &'p str) -> Result<(&OwnedFd, &'p str)> {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let fd = match self.0.take() {
            Some((known, fd)) if known == above => fd,
            _ => root.parent(path, links(path))?.0,
        };
        Ok((&self.0.insert((above.to_string(), fd)).1, name))
    }
}

/// /dev itself must be an ordinary directory; other places may lie behind links of the image, inside the root.
fn links(path: &str) -> Links {
    if path.starts_with("/dev/") { Links::Refuse } else { Links::Follow }
}

/// Makes the node, or accepts the one that is there if it is this very device. The caller's umask applies.
///
/// # Errors
/// When something else is there (it is left alone), or mknod(2) fails.
pub fn make(root: &Inside, directory: &mut Directory, device: &Device) -> Result<()> {
    let (dir, name) = directory.of(root, &device.path)?;
    let mode = Mode::from_raw_mode(device.mode);
    let number = rustix::fs::makedev(device.major, device.minor);
    let call = || {
        format!("mknodat(dir, {name:?}, {:04o}, makedev({}, {}))", device.mode, device.major, device.minor)
    };
    match rustix::fs::mknodat(dir, name, file_type(device.kind), mode, number) {
        Err(Errno::EXIST) => return existing(dir, name, device),
        // Some sandboxes refuse mknod(2) to root as well: the host's node serves as it does in user namespaces.
        Err(Errno::PERM) if device.kind != DeviceKind::Fifo => return bind(root, device),
        other => other.call(call).map_err(|e| e.on(device.path.clone()))?,
    }
    if device.uid == 0 && device.gid == 0 {
        return Ok(());
    }
    let (uid, gid) = (rustix::fs::Uid::from_raw(device.uid), rustix::fs::Gid::from_raw(device.gid));
    rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .call(|| format!("fchownat(dir, {name:?}, {}, {}, AT_SYMLINK_NOFOLLOW)", device.uid, device.gid))
}

fn existing(dir: &OwnedFd, name: &str, device: &Device) -> Result<()> {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
        .call(|| format!("fstatat(dir, {name:?})"))?;
    if is_device(&stat, device) {
        return Ok(());
    }
    Err(Error::failed(
        device.path.clone(),
        "something else than this device is there in the root file system",
    ))
}

/// Binds the host's node of the same path and number over an empty file, read-only: it can be used as a device, but its
/// mode, owner and times stay as they are even if the container's root is the host's (an identity map).
///
/// # Errors
/// When the host's path is another device, or the mount fails.
pub fn bind(root: &Inside, device: &Device) -> Result<()> {
    let host = inside::open_host(Path::new(&device.path), OFlags::NOFOLLOW)?;
    if !is_device(&inside::stat(host.as_fd(), &device.path)?, device) {
        let numbers = format!("{}:{}", device.major, device.minor);
        return Err(Error::failed(device.path.clone(), format!("the host's node is not device {numbers}")));
    }
    let target = root.ensure(&device.path, Want::File, links(&device.path))?;
    crate::mask::bind_readonly(host.as_fd(), target.as_fd(), &device.path)
}

/// Binds what one descriptor refers to over what another refers to.
///
/// # Errors
/// mount(2)'s.
pub fn bind_fd(source: BorrowedFd<'_>, target: BorrowedFd<'_>, shown: &str) -> Result<()> {
    let none: Option<&str> = None;
    let (from, to) = (inside::fd_path(source), inside::fd_path(target));
    nix::mount::mount(Some(from.as_str()), to.as_str(), none, MsFlags::MS_BIND, none)
        .call(|| format!("mount({from:?}, {to:?}, NULL, MS_BIND, NULL)"))
        .map_err(|e| e.on(shown))
}

/// Makes a symbolic link where nothing is; [`PTMX`] replaces what is there.
///
/// # Errors
/// symlinkat(2)'s, except EEXIST.
pub fn symlink(root: &Inside, directory: &mut Directory, link: &Symlink) -> Result<()> {
    let (dir, name) = directory.of(root, &link.path)?;
    let mut made = rustix::fs::symlinkat(&link.target, dir, name);
    if made == Err(Errno::EXIST) && link.path == PTMX {
        rustix::fs::unlinkat(dir, name, AtFlags::empty())
            .call(|| format!("unlinkat(dir, {name:?}, 0)"))
            .map_err(|e| e.on(link.path.clone()))?;
        made = rustix::fs::symlinkat(&link.target, dir, name);
    }
    match made {
        Err(Errno::EXIST) => Ok(()),
        other => other
            .call(|| format!("symlinkat({:?}, dir, {name:?})", link.target))
            .map_err(|e| e.on(link.path.clone())),
    }
}

/// Binds an open terminal over /dev/console, which is made if it is missing. For after the pivot, in the container's
/// own child: `terminal` is of the container's own devpts, so that open_tree(2) accepts it.
///
/// # Errors
/// When something other than a file or device is at /dev/console, or the mount fails.
pub fn bind_console(terminal: BorrowedFd<'_>) -> Result<()> {
    use rustix::mount::OpenTreeFlags;
    let root = Inside::new(inside::open_host(Path::new("/"), OFlags::DIRECTORY)?);
    let target = root.ensure("/dev/console", Want::File, Links::Refuse)?;
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = rustix::mount::open_tree(terminal, "", flags)
        .call(|| "open_tree(terminal, \"\", OPEN_TREE_CLONE)")?;
    crate::mask::attach(tree.as_fd(), target.as_fd(), "/dev/console")
}
