//! Writing to this process's own files in /proc, which the container may have covered with something else
//! (CVE-2019-16884's and CVE-2025-52881's class): only the root of a true procfs is taken, and no mount is crossed.

use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use rustix::fs::{Mode, OFlags, ResolveFlags, fstat, fstatfs, open, openat2};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use std::os::fd::{AsFd, OwnedFd};

const PROC_SUPER_MAGIC: u64 = 0x9fa0;
/// The inode number of procfs's root (PROC_ROOT_INO).
const PROC_ROOT_INODE: u64 = 1;

fn root() -> Result<OwnedFd> {
    match mounted() {
        Ok(fd) => Ok(fd),
        // A container need not have /proc: a procfs of its own then, which nobody else sees.
        Err(error) => detached().map_err(|_| error),
    }
}

fn mounted() -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = open("/proc", flags, Mode::empty()).call(|| "open(\"/proc\", O_PATH|O_DIRECTORY|O_NOFOLLOW)")?;
    let magic = fstatfs(&fd).call(|| "fstatfs(\"/proc\")")?.f_type;
    let inode = fstat(&fd).call(|| "fstat(\"/proc\")")?.st_ino;
    if u64::try_from(magic).ok() == Some(PROC_SUPER_MAGIC) && inode == PROC_ROOT_INODE {
        return Ok(fd);
    }
    Err(Error::failed("/proc", "is not a proc file system, so it is not written to")
        .hint("mount proc on /proc"))
}

/// Needs CAP_SYS_ADMIN in the user namespace of the mount namespace, and of the pid namespace.
fn detached() -> rustix::io::Result<OwnedFd> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Whose files.
pub(crate) enum Of {
    /// The calling process's.
    Myself,
    /// Another's, which its parent keeps from being reaped.
    Process(i32),
}

impl Of {
    fn open(&self, file: &str, flags: OFlags) -> Result<OwnedFd> {
        let root = root()?;
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        let path = format!("{}/{file}", self.name());
        let access = if flags.contains(OFlags::WRONLY) { "O_WRONLY" } else { "O_RDONLY" };
        openat2(&root, &path, flags | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty(), how).call(|| {
            format!(
                "openat2(/proc, \"{path}\", {access}, RESOLVE_BENEATH|RESOLVE_NO_XDEV|RESOLVE_NO_MAGICLINKS)"
            )
        })
    }

    fn name(&self) -> String {
        match self {
            Of::Myself => "self".to_string(),
            Of::Process(pid) => pid.to_string(),
        }
    }

    /// Writes a value to `/proc/<it>/<file>` in one write(2).
    pub(crate) fn write(&self, file: &str, value: &str) -> Result<()> {
        let fd = self.open(file, OFlags::WRONLY)?;
        let call = || format!("write(\"/proc/{}/{file}\", {value:?})", self.name());
        let written = rustix::io::write(&fd, value.as_bytes()).call(call)?;
        if written == value.len() {
            Ok(())
        } else {
            Err(Error::failed(format!("/proc/{}/{file}", self.name()), "short write"))
        }
    }

    /// Reads a short `/proc/<it>/<file>`.
    pub(crate) fn read(&self, file: &str) -> Result<String> {
        let fd = self.open(file, OFlags::empty())?;
        let mut buffer = [0u8; 256];
        let count =
            rustix::io::read(&fd, &mut buffer).call(|| format!("read(\"/proc/{}/{file}\")", self.name()))?;
        Ok(String::from_utf8_lossy(buffer.get(..count).unwrap_or_default()).trim().to_string())
    }
}

/// Writes a value to `/proc/self/<file>` in one write(2).
pub(crate) fn write_self(file: &str, value: &str) -> Result<()> {
    Of::Myself.write(file, value)
}

/// Reads a short `/proc/self/<file>`.
pub(crate) fn read_self(file: &str) -> Result<String> {
    Of::Myself.read(file)
}

/// Whether `/proc/self/<file>` is there.
pub(crate) fn has_self(file: &str) -> bool {
    Of::Myself.open(file, OFlags::PATH).is_ok()
}
