//! Removing a directory tree by descriptors: symbolic links are removed, never followed, also in the middle of the
//! path, and what is mounted on a part of the tree stays untouched: the removal fails instead.

use drydock_core::{Error, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

/// Deeper directories are moved up before they are emptied: each level holds a descriptor, and a container may have
/// made more levels than we may have descriptors.
const MAX_DEPTH: usize = 20;

/// Removes `path`, a directory or a file of any kind, which is below the directory `top`. One that is gone is fine.
/// `top` itself may be reached through links.
///
/// # Errors
/// [`drydock_core::Kind::Failed`] if `path` is not below `top`, or leads there through a link or a mount (ELOOP, EXDEV);
/// unlinkat(2)'s.
pub fn remove_below(top: &Path, path: &Path) -> Result<()> {
    let failed = |errno: Errno| {
        let error = Error::call(format!("unlinkat({path:?})"), errno);
        match errno {
            Errno::XDEV => error.hint("something is mounted there: see findmnt(8), umount(8)"),
            _ => error,
        }
    };
    let below = path.strip_prefix(top).ok().and_then(|rest| {
        let plain = rest.components().all(|c| matches!(c, Component::Normal(_)));
        let name = CString::new(rest.file_name()?.as_bytes()).ok()?;
        plain.then(|| (rest.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")), name))
    });
    let Some((parent, name)) = below else {
        return Err(Error::failed(path.display().to_string(), format!("is not below {}", top.display())));
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let removed = rustix::fs::open(top, flags, Mode::empty())
        .and_then(|top| open_in(top.as_fd(), parent, flags))
        .and_then(|parent| remove(parent.as_fd(), &name, None, 0));
    match removed {
        Err(Errno::NOENT) | Ok(()) => Ok(()),
        Err(errno) => Err(failed(errno)),
    }
}

/// openat2(2) that neither follows links nor enters mounts.
fn open_in(dir: BorrowedFd<'_>, path: impl rustix::path::Arg, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    rustix::fs::openat2(dir, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// Removes the entry `name` of `parent`. `top` is the outermost directory of the tree, once we are in it.
fn remove(
    parent: BorrowedFd<'_>,
    name: &CString,
    top: Option<BorrowedFd<'_>>,
    depth: usize,
) -> Result<(), Errno> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        other => return other,
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let dir = match open_in(parent, name, flags) {
        // Overlay's work directory has mode 0, and containers make others. A link would have been unlinked above.
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
            open_in(parent, name, flags)?
        }
        other => other?,
    };
    let mode = Mode::from_raw_mode(rustix::fs::fstat(&dir)?.st_mode);
    if !mode.contains(Mode::RWXU) {
        rustix::fs::fchmod(&dir, Mode::RWXU)?;
    }
    let top = top.unwrap_or(dir.as_fd());
    // Until a pass finds nothing: entries that are moved up may come after those that have been read.
    loop {
        let mut found = false;
        for entry in rustix::fs::Dir::read_from(&dir)? {
            let entry = entry?;
            let child = entry.file_name().to_owned();
            if matches!(child.as_bytes(), b"." | b"..") {
                continue;
            }
            found = true;
            let moved = depth >= MAX_DEPTH
                && entry.file_type() == FileType::Directory
                && move_up(dir.as_fd(), &child, top)?;
            if !moved {
                gone_is_fine(remove(dir.as_fd(), &child, Some(top), depth + 1))?;
            }
        }
        if !found {
            break;
        }
    }
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}

/// Moves a directory to the top of the tree under a name of its own. False if it must be removed where it is.
fn move_up(dir: BorrowedFd<'_>, name: &CString, top: BorrowedFd<'_>) -> Result<bool, Errno> {
    let inode = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?.st_ino;
    let flags = rustix::fs::RenameFlags::NOREPLACE;
    match rustix::fs::renameat_with(dir, name, top, format!("@up-{inode}"), flags) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST | Errno::BUSY | Errno::XDEV) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn gone_is_fine(result: Result<(), Errno>) -> Result<(), Errno> {
    if result == Err(Errno::NOENT) { Ok(()) } else { result }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;

    fn place(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("drydock-remove-{name}-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("top/tree/sub")).unwrap();
        std::fs::create_dir_all(dir.join("other/sub")).unwrap();
        std::fs::write(dir.join("other/sub/marker"), "x").unwrap();
        dir
    }

    #[test]
    fn links_are_removed_not_followed() {
        let dir = place("links");
        symlink(dir.join("other"), dir.join("top/tree/link")).unwrap();
        symlink("../../../other/sub", dir.join("top/tree/sub/link")).unwrap();
        let through = remove_below(&dir.join("top"), &dir.join("top/tree/link/sub")).unwrap_err();
        assert_eq!(through.errno(), Some(nix::libc::ELOOP));
        for outside in ["other", "top", "top/tree/../../other"] {
            assert!(remove_below(&dir.join("top"), &dir.join(outside)).is_err(), "{outside}");
        }
        remove_below(&dir.join("top"), &dir.join("top/tree")).unwrap();
        remove_below(&dir.join("top"), &dir.join("top/tree")).unwrap();
        assert!(!dir.join("top/tree").exists() && dir.join("other/sub/marker").exists());
        remove_below(&std::env::temp_dir(), &dir).unwrap();
    }

    #[test]
    fn closed_and_deep_directories() {
        let dir = place("deep");
        std::fs::set_permissions(dir.join("top/tree/sub"), std::fs::Permissions::from_mode(0o000)).unwrap();
        let mut here = rustix::fs::open(dir.join("top"), OFlags::PATH, Mode::empty()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&here, "d", Mode::RWXU).unwrap();
            here = rustix::fs::openat(&here, "d", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        }
        remove_below(&std::env::temp_dir(), &dir).unwrap();
        assert!(!dir.exists());
    }
}
