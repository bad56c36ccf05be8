//! The process's execution domain. Source: personality(2).

use std::io;

/// Sets PER_LINUX without flags (such as ADDR_NO_RANDOMIZE), which exec would pass on.
///
/// # Errors
/// personality(2)'s, as under a seccomp filter.
pub fn reset() -> io::Result<()> {
    // SAFETY: takes one integer; changes how later execs are laid out, nothing of this program.
    if unsafe { libc::personality(0) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
