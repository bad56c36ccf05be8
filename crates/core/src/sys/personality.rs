//! The process's execution domain. Source: personality(2).

use std::io;

/// Sets the execution domain and its flags, which exec passes on: 0 is PER_LINUX without flags (such as
/// ADDR_NO_RANDOMIZE).
///
/// # Errors
/// personality(2)'s, as under a seccomp filter.
pub fn set(persona: u32) -> io::Result<()> {
    // SAFETY: takes one integer; changes how later execs are laid out, nothing of this program.
    if unsafe { libc::personality(libc::c_ulong::from(persona)) } < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
