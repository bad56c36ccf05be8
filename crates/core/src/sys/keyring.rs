//! Session keyrings. Source: keyctl(2), keyrings(7).

use std::ffi::CStr;
use std::io;

/// Gives the calling process a new session keyring of this name (which may not begin with a dot), so that it does not
/// share its caller's.
///
/// # Errors
/// ENOSYS without CONFIG_KEYS; EDQUOT when the user's key quota is used up; EPERM under a seccomp filter.
pub fn join_new_session(name: &CStr) -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: the name is a NUL-terminated string that outlives the call.
    let rc = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Lets only those who possess the session keyring see or use it: not other processes of the same user, as in another
/// container. Source: keyctl_setperm(3).
///
/// # Errors
/// ENOSYS without CONFIG_KEYS; EACCES if the session keyring is not the caller's own.
pub fn possessor_only() -> io::Result<()> {
    const KEYCTL_SETPERM: libc::c_int = 5;
    const KEY_SPEC_SESSION_KEYRING: libc::c_int = -3;
    const KEY_POS_ALL: libc::c_uint = 0x3f00_0000;
    // SAFETY: integers only.
    let rc =
        unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, KEY_SPEC_SESSION_KEYRING, KEY_POS_ALL) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
