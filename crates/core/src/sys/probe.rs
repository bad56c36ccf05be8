//! Questions to the kernel that change nothing.

use std::io;

/// Whether clone3(2) is there: called without arguments, which a kernel that has it refuses with EINVAL.
///
/// # Errors
/// ENOSYS before Linux 5.3 or as a seccomp filter answers; EPERM under another filter.
pub fn clone3() -> io::Result<()> {
    // SAFETY: a null pointer and size 0 are refused before anything is read or made.
    let rc = unsafe { libc::syscall(libc::SYS_clone3, std::ptr::null::<u8>(), 0usize) };
    match io::Error::last_os_error() {
        _ if rc >= 0 => Ok(()),
        e if e.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        e => Err(e),
    }
}

/// The version of Landlock's interface. Source: landlock(7), LANDLOCK_CREATE_RULESET_VERSION.
///
/// # Errors
/// ENOSYS before Linux 5.13; EOPNOTSUPP when it is built but not enabled at boot.
pub fn landlock_version() -> io::Result<u32> {
    const LANDLOCK_CREATE_RULESET_VERSION: u32 = 1;
    // SAFETY: with this flag the kernel takes no ruleset and returns a number, no descriptor.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0usize,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(rc).map_err(|_| io::Error::last_os_error())
}
