//! A tree of files made a second time: directories new, files as further names of the same ones (link(2)). What is
//! unpacked over it replaces names and never writes into a file, so that both trees stay as they are.

use crate::unpack::path;
use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;

/// Makes everything in `from` again in `to`, an empty directory.
///
/// # Errors
/// linkat(2)'s (EMLINK: a file of 65000 names), mkdirat(2)'s.
pub fn again(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    directory(from, to)?;
    let root = nix::unistd::geteuid().is_root();
    dress(from, to, root)
}

fn directory(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    let root = nix::unistd::geteuid().is_root();
    for entry in Dir::read_from(from).call(|| "getdents64(tree)")? {
        let entry = entry.call(|| "getdents64(tree)")?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let shown = || path(name.to_bytes()).to_path_buf();
        let mut kind = entry.file_type();
        if kind == FileType::Unknown {
            let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW);
            kind = FileType::from_raw_mode(stat.call(|| format!("fstatat({:?})", shown()))?.st_mode);
        }
        if kind != FileType::Directory {
            rustix::fs::linkat(from, name, to, name, AtFlags::empty())
                .call(|| format!("linkat({:?})", shown()))?;
            continue;
        }
        rustix::fs::mkdirat(to, name, Mode::from_raw_mode(0o700))
            .call(|| format!("mkdirat({:?})", shown()))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = |at: &OwnedFd| {
            rustix::fs::openat(at, name, flags, Mode::empty()).call(|| format!("openat({:?})", shown()))
        };
        let (below, above) = (open(from)?, open(to)?);
        directory(&below, &above)?;
        dress(&below, &above, root)?;
    }
    Ok(())
}

/// Owner, mode, attributes and times of a directory.
fn dress(from: &OwnedFd, to: &OwnedFd, root: bool) -> Result<()> {
    let stat = rustix::fs::fstat(from).call(|| "fstat(tree)")?;
    if root {
        let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        rustix::fs::fchown(to, Some(uid), Some(gid)).call(|| "fchown(tree)")?;
    }
    for (key, value) in attributes(from)? {
        match rustix::fs::fsetxattr(to, path(&key), &value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => {}
            Err(e) => return Err(Error::call("fsetxattr(tree)", e)),
        }
    }
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777)).call(|| "fchmod(tree)")?;
    let time = |s: i64, n: u64| Timespec { tv_sec: s, tv_nsec: i64::try_from(n).unwrap_or(0) };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    rustix::fs::futimens(to, &times).call(|| "utimensat(tree)")
}

/// Extended attributes of an open file that belong into images: `user.*` but overlays', access lists, file capabilities.
///
/// # Errors
/// fgetxattr(2)'s.
pub fn attributes(fd: &OwnedFd) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut names = vec![0; 1024];
    let length = loop {
        match rustix::fs::flistxattr(fd, &mut names[..]) {
            Ok(length) => break length,
            Err(Errno::RANGE) if names.len() < 1 << 16 => names.resize(names.len() * 4, 0),
            // Not on this file system.
            Err(Errno::NOTSUP | Errno::BADF) => return Ok(Vec::new()),
            Err(e) => return Err(Error::call("flistxattr()", e)),
        }
    };
    let mut found = Vec::new();
    for name in names.get(..length).unwrap_or_default().split(|b| *b == 0) {
        let wanted = (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
            || name.starts_with(b"system.posix_acl_")
            || name == b"security.capability";
        if !wanted {
            continue;
        }
        let mut value = vec![0; 1 << 16];
        match rustix::fs::fgetxattr(fd, path(name), &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                found.push((name.to_vec(), value));
            }
            Err(Errno::NODATA) => {}
            Err(e) => return Err(Error::call("fgetxattr()", e)),
        }
    }
    found.sort();
    Ok(found)
}
