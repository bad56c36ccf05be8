//! Named namespaces: files under /run/netns with the namespace bound on them. Source: ip-netns(8).

use crate::step::NetStep;
use drydock_core::error::CallExt;
use drydock_core::{Ctx, Error, Result, text};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde::Serialize;
use std::fs::{DirBuilder, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where named namespaces are, for us and for ip-netns(8).
pub const DIR: &str = "/run/netns";

/// A name and its namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Named {
    /// File name under /run/netns.
    pub name: String,
    /// Inode of the namespace; none for a file on which nothing is mounted.
    pub inode: Option<u64>,
}

/// The path of a named namespace: checks the name.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`]: empty, longer than 255 bytes, `.`, `..`, with a slash or NUL.
pub fn path_of(name: &str) -> Result<PathBuf> {
    let right =
        !name.is_empty() && name.len() <= 255 && !matches!(name, "." | "..") && !name.contains(['/', '\0']);
    if right {
        return Ok(Path::new(DIR).join(name));
    }
    let shown = text::shorten(&text::escape(name), 40);
    Err(Error::bad_input(
        format!("namespace '{shown}'"),
        "not a namespace name (allowed: 1 to 255 bytes without '/', not '.' or '..')",
    ))
}

/// The named namespaces, by name.
///
/// # Errors
/// When the directory is there and cannot be read.
pub fn list() -> Result<Vec<Named>> {
    let entries = match std::fs::read_dir(DIR) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.call(|| format!("opendir({DIR:?})"))?,
    };
    let mut all = Vec::new();
    for entry in entries {
        let entry = entry.call(|| format!("readdir({DIR:?})"))?;
        let inode = is_namespace(&entry.path());
        all.push(Named { name: entry.file_name().to_string_lossy().into_owned(), inode });
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// The inode of the namespace that is bound on a file, if one is.
fn is_namespace(path: &Path) -> Option<u64> {
    const NSFS_MAGIC: u64 = 0x6e73_6673;
    let fs = rustix::fs::statfs(path).ok()?;
    if u64::try_from(fs.f_type).ok()? != NSFS_MAGIC {
        return None;
    }
    std::fs::metadata(path).ok().map(|m| m.ino())
}

/// Makes a named namespace with only `lo` (down), visible to `ip netns list`. False if it was there already.
///
/// # Errors
/// Bad name; no privilege (CAP_SYS_ADMIN); a file of that name on which no namespace is mounted is taken over.
pub fn add(name: &str, ctx: &Ctx<'_>) -> Result<bool> {
    let path = path_of(name)?;
    if is_namespace(&path).is_some() {
        return Ok(false);
    }
    ctx.perform(&NetStep::Namespace { path: path.clone() }, |_| make(&path, None)).map(|()| true)
}

/// Gives the network namespace of a process a name (`ip netns attach`). False if the name is this namespace's already.
///
/// # Errors
/// As [`add`]; the name is another namespace's; there is no such process.
pub fn attach(name: &str, pid: i32, ctx: &Ctx<'_>) -> Result<bool> {
    let path = path_of(name)?;
    let source = PathBuf::from(format!("/proc/{pid}/ns/net"));
    let meta = std::fs::metadata(&source).map_err(|e| match e.kind() {
        ErrorKind::NotFound => Error::bad_input(format!("pid {pid}"), "no such process"),
        _ => Error::call(format!("stat({source:?})"), e),
    })?;
    match is_namespace(&path) {
        Some(inode) if inode == meta.ino() => return Ok(false),
        Some(_) => {
            return Err(Error::bad_input(
                format!("namespace '{}'", text::escape(name)),
                "is another one already",
            ));
        }
        None => {}
    }
    ctx.perform(&NetStep::Namespace { path: path.clone() }, |_| make(&path, Some(&source))).map(|()| true)
}

fn make(path: &Path, of: Option<&Path>) -> Result<()> {
    prepare_directory().map_err(|e| match e.errno() {
        Some(nix::libc::EPERM | nix::libc::EACCES) => {
            e.hint("named namespaces need CAP_SYS_ADMIN and a writable /run: run as root")
        }
        _ => e,
    })?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o0)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC)
        .open(path)
        .call(|| format!("open({path:?}, O_CREAT)"))?;
    drop(file);
    let made = match of {
        Some(source) => bind(source, path),
        None => std::thread::scope(|scope| scope.spawn(|| bind_new(path)).join())
            .unwrap_or_else(|_| Err(Error::failed("namespace thread", "ended unexpectedly"))),
    };
    if made.is_err() {
        // Nothing is mounted on it: an empty file must not stay behind.
        let _ = std::fs::remove_file(path);
    }
    made
}

/// In its own thread: only the thread gets the new namespace; the mount is seen by all.
fn bind_new(path: &Path) -> Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
        .call(|| "unshare(CLONE_NEWNET)")
        .map_err(|e| e.hint("a network namespace needs CAP_SYS_ADMIN: run as root"))?;
    bind(Path::new("/proc/thread-self/ns/net"), path)
}

fn bind(source: &Path, path: &Path) -> Result<()> {
    mount(Some(source), path, Some("none"), MsFlags::MS_BIND, None::<&str>)
        .call(|| format!("mount({source:?}, {path:?}, MS_BIND)"))
}

/// /run/netns as a shared mount, so that the names reach other mount namespaces and a delete there too.
fn prepare_directory() -> Result<()> {
    match DirBuilder::new().mode(0o755).create(DIR) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => {
            return Err(Error::call(format!("mkdir({DIR:?})"), e));
        }
        _ => {}
    }
    let share = || mount(None::<&str>, DIR, Some("none"), MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>);
    match share() {
        // Not a mount point yet: make it one.
        Err(nix::errno::Errno::EINVAL) => {
            mount(Some(DIR), DIR, Some("none"), MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
                .call(|| format!("mount({DIR:?}, {DIR:?}, MS_BIND|MS_REC)"))?;
            share().call(|| format!("mount({DIR:?}, MS_SHARED|MS_REC)"))
        }
        other => other.call(|| format!("mount({DIR:?}, MS_SHARED|MS_REC)")),
    }
}

/// Removes a named namespace: every mount on the file, then the file. False if it was not there. Processes in the
/// namespace keep it until they end.
///
/// # Errors
/// Bad name; a file with content, which is not a namespace's; no privilege.
pub fn delete(path: &Path, ctx: &Ctx<'_>) -> Result<bool> {
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(Error::call(format!("lstat({path:?})"), e)),
        Ok(meta) if is_namespace(path).is_none() && !(meta.is_file() && meta.len() == 0) => {
            return Err(Error::bad_input(
                text::escape(&path.to_string_lossy()),
                "is not a network namespace",
            ));
        }
        Ok(_) => {}
    }
    ctx.perform(&NetStep::DeleteNamespace { path: path.to_path_buf() }, |_| {
        // Somebody may have bound a second one over the first; each goes.
        for _ in 0..64 {
            match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
                Ok(()) => {}
                Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => break,
                Err(e) => {
                    return Err(Error::call(format!("umount2({path:?}, MNT_DETACH)"), e)
                        .hint("removing a namespace needs CAP_SYS_ADMIN: run as root"));
                }
            }
        }
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::call(format!("unlink({path:?})"), e)),
            _ => Ok(true),
        }
    })
}
