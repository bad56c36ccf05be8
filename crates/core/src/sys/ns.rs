//! Questions to a namespace file, or to a socket about its own. Source: ioctl_ns(2), netdevice(7).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const NS_GET_USERNS: libc::c_ulong = 0xb701;
const NS_GET_PARENT: libc::c_ulong = 0xb702;
const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
const NS_GET_OWNER_UID: libc::c_ulong = 0xb704;

fn related(ns: BorrowedFd<'_>, request: libc::c_ulong) -> io::Result<OwnedFd> {
    // SAFETY: these requests take no argument and return a new descriptor or -1.
    let fd = unsafe { libc::ioctl(ns.as_raw_fd(), request as _) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The user namespace that owns `ns`. EPERM: it is outside the caller's view.
///
/// # Errors
/// ioctl_ns(2)'s; ENOTTY if `ns` is not a namespace file.
pub fn owner(ns: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    related(ns, NS_GET_USERNS)
}

/// The parent of a pid or user namespace. EPERM: outside the caller's view; EINVAL: this type has no parents.
///
/// # Errors
/// As [`owner`].
pub fn parent(ns: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    related(ns, NS_GET_PARENT)
}

/// The CLONE_NEW* flag of the namespace's type.
///
/// # Errors
/// ENOTTY if it is not a namespace file.
pub fn kind(ns: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: takes no argument, returns the flag.
    let flag = unsafe { libc::ioctl(ns.as_raw_fd(), NS_GET_NSTYPE as _) };
    if flag < 0 { Err(io::Error::last_os_error()) } else { Ok(flag.cast_unsigned()) }
}

/// The network namespace of a socket (SIOCGSKNS, Linux 4.9).
///
/// # Errors
/// ENOTTY if it is no socket; EPERM without CAP_NET_ADMIN in that namespace's user namespace.
pub fn of_socket(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    const SIOCGSKNS: libc::c_ulong = 0x894c;
    related(socket, SIOCGSKNS)
}

/// The identifier of a namespace, which no other has had since boot (NS_GET_ID, Linux 6.18).
///
/// # Errors
/// ENOTTY or EINVAL before that.
pub fn id(ns: BorrowedFd<'_>) -> io::Result<u64> {
    // _IOR(0xb7, 13, __u64)
    const NS_GET_ID: libc::c_ulong = 0x8008_b70d;
    let mut id: u64 = 0;
    // SAFETY: the kernel writes one u64 to the pointer, which is valid for the call.
    let rc = unsafe { libc::ioctl(ns.as_raw_fd(), NS_GET_ID as _, &raw mut id) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(id) }
}

/// A namespace by its identifier, see [`id`] (nsfs file handles; Linux 6.19, before that they want more than it).
///
/// # Errors
/// ESTALE if there is none (any more); EBADF, EOPNOTSUPP or EINVAL before Linux 6.18.
pub fn open_by_id(id: u64) -> io::Result<OwnedFd> {
    const FILEID_NSFS: libc::c_int = 0xf1;
    const FD_NSFS_ROOT: libc::c_int = -10003;
    #[repr(C)]
    struct Handle {
        bytes: libc::c_uint,
        kind: libc::c_int,
        id: u64,
        namespace: u32,
        inode: u32,
    }
    let mut handle = Handle { bytes: 16, kind: FILEID_NSFS, id, namespace: 0, inode: 0 };
    // SAFETY: a whole handle of the size that it says, valid for the call; the kernel checks it.
    let fd = unsafe {
        let flags = libc::O_RDONLY | libc::O_CLOEXEC;
        libc::syscall(libc::SYS_open_by_handle_at, FD_NSFS_ROOT, &raw mut handle, flags)
    };
    let fd = i32::try_from(fd).unwrap_or(-1);
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The uid (in the caller's user namespace) that created a user namespace.
///
/// # Errors
/// EINVAL if it is not a user namespace.
pub fn owner_uid(ns: BorrowedFd<'_>) -> io::Result<u32> {
    let mut uid: libc::uid_t = 0;
    // SAFETY: the kernel writes one uid_t to the pointer, which is valid for the call.
    let rc = unsafe { libc::ioctl(ns.as_raw_fd(), NS_GET_OWNER_UID as _, &raw mut uid) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(uid) }
}
