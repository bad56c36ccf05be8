//! mount_setattr(2), which nix and rustix lack.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// MOUNT_ATTR_IDMAP.
pub const ATTR_IDMAP: u64 = 0x0010_0000;
/// MOUNT_ATTR_RDONLY.
pub const ATTR_RDONLY: u64 = 1;
/// MOUNT_ATTR_NOSUID.
pub const ATTR_NOSUID: u64 = 2;
/// MOUNT_ATTR_NODEV.
pub const ATTR_NODEV: u64 = 4;
/// MOUNT_ATTR_NOEXEC.
pub const ATTR_NOEXEC: u64 = 8;
/// MOUNT_ATTR_NOSYMFOLLOW.
pub const ATTR_NOSYMFOLLOW: u64 = 0x0020_0000;
/// AT_RECURSIVE: the whole tree below.
pub const RECURSIVE: u32 = 0x8000;
/// AT_EMPTY_PATH: the mount that the descriptor is.
pub const EMPTY_PATH: u32 = 0x1000;

/// What to change on a mount. Source: mount_setattr(2).
#[derive(Clone, Copy, Debug, Default)]
pub struct Attributes<'a> {
    /// `ATTR_*` to set.
    pub set: u64,
    /// `ATTR_*` to clear.
    pub clear: u64,
    /// MS_PRIVATE, MS_SLAVE, MS_SHARED or MS_UNBINDABLE, or 0 to leave it.
    pub propagation: u64,
    /// User namespace whose maps an `ATTR_IDMAP` mount takes.
    pub user_namespace: Option<BorrowedFd<'a>>,
}

/// Changes the attributes of the mount at `path` below `dir` (with [`EMPTY_PATH`] and an empty path: of `dir` itself).
///
/// # Errors
/// mount_setattr(2)'s; ENOSYS before Linux 5.12.
pub fn mount_setattr(dir: BorrowedFd<'_>, path: &CStr, flags: u32, attr: Attributes<'_>) -> io::Result<()> {
    #[repr(C)]
    struct MountAttr {
        attr_set: u64,
        attr_clr: u64,
        propagation: u64,
        userns_fd: u64,
    }
    let userns_fd = attr.user_namespace.map_or(0, |fd| u64::try_from(fd.as_raw_fd()).unwrap_or(0));
    let raw =
        MountAttr { attr_set: attr.set, attr_clr: attr.clear, propagation: attr.propagation, userns_fd };
    // SAFETY: path and struct are valid for the call; the size passed is the struct's; descriptors are borrowed.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir.as_raw_fd(),
            path.as_ptr(),
            flags,
            &raw const raw,
            size_of::<MountAttr>(),
        )
    };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
