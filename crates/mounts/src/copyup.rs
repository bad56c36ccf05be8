//! `tmpcopyup`: what a directory holds, copied into the tmpfs that hides it.

use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Directories may be nested this deep: each is held by a descriptor meanwhile.
const MAX_DEPTH: usize = 64;

/// Copies everything below one directory into another: owners, modes, times, links and nodes, but not extended
/// attributes. `from` may be an O_PATH descriptor of what is mounted over by now. No link is followed.
///
/// # Errors
/// The first call that failed: ENOSPC when the tmpfs is too small.
pub fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    let (from, to) = (open_directory(from, c".")?, open_directory(to, c".")?);
    copy_directory(&from, &to, MAX_DEPTH)
}

/// Gives a directory the owner and mode of another.
///
/// # Errors
/// fchown(2)'s and fchmod(2)'s.
pub fn dress(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    let stat = rustix::fs::fstat(from).call(|| "fstat(dir)")?;
    let to = open_directory(to, c".")?;
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::fchown(&to, Some(uid), Some(gid)).call(|| "fchown(dir)")?;
    rustix::fs::fchmod(&to, Mode::from_raw_mode(stat.st_mode & 0o7777)).call(|| "fchmod(dir)")
}

fn open_directory(at: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty()).call(|| format!("openat(dir, {name:?}, O_DIRECTORY)"))
}

fn copy_directory(from: &OwnedFd, to: &OwnedFd, depth: usize) -> Result<()> {
    let entries = Dir::read_from(from).call(|| "getdents64(dir)")?;
    for entry in entries {
        let entry = entry.call(|| "getdents64(dir)")?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        copy_one(from, to, name, depth)?;
    }
    Ok(())
}

fn copy_one(from: &OwnedFd, to: &OwnedFd, name: &CStr, depth: usize) -> Result<()> {
    let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)
        .call(|| format!("fstatat(dir, {name:?})"))?;
    let mode = Mode::from_raw_mode(stat.st_mode);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            let depth =
                depth.checked_sub(1).ok_or_else(|| Error::failed("tmpcopyup", "directories too deep"))?;
            let source = open_directory(from.as_fd(), name)?;
            rustix::fs::mkdirat(to, name, Mode::RWXU).call(|| format!("mkdirat(dir, {name:?}, 0700)"))?;
            copy_directory(&source, &open_directory(to.as_fd(), name)?, depth)?;
        }
        FileType::RegularFile => copy_file(from, to, name)?,
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(from, name, Vec::new())
                .call(|| format!("readlinkat(dir, {name:?})"))?;
            rustix::fs::symlinkat(&target, to, name)
                .call(|| format!("symlinkat({target:?}, dir, {name:?})"))?;
        }
        kind => rustix::fs::mknodat(to, name, kind, mode, stat.st_rdev)
            .call(|| format!("mknodat(dir, {name:?})"))?,
    }
    keep(to, name, &stat)
}

fn copy_file(from: &OwnedFd, to: &OwnedFd, name: &CStr) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let source =
        rustix::fs::openat(from, name, flags, Mode::empty()).call(|| format!("openat(dir, {name:?})"))?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR)
        .call(|| format!("openat(dir, {name:?}, O_CREAT|O_EXCL)"))?;
    let (mut source, mut target) = (std::fs::File::from(source), std::fs::File::from(target));
    std::io::copy(&mut source, &mut target).map(drop).call(|| format!("copy of {name:?}"))
}

/// Owner first: changing it takes the set-user-ID bit away.
fn keep(to: &OwnedFd, name: &CStr, stat: &Stat) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .call(|| format!("fchownat(dir, {name:?}, {}, {})", stat.st_uid, stat.st_gid))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        rustix::fs::chmodat(to, name, Mode::from_raw_mode(stat.st_mode), AtFlags::empty())
            .call(|| format!("fchmodat(dir, {name:?}, {:04o})", stat.st_mode & 0o7777))?;
    }
    let time = |seconds, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.try_into().unwrap_or(0),
    };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    rustix::fs::utimensat(to, name, &times, AtFlags::SYMLINK_NOFOLLOW)
        .call(|| format!("utimensat(dir, {name:?})"))
}
