//! What a command reads when it does not read the caller's input.

use drydock_core::Result;
use drydock_core::error::CallExt;
pub use drydock_supervise::relay::relay;
use std::os::fd::OwnedFd;

/// Standard input for a command that does not read the caller's: /dev/null. `None` keeps the caller's.
///
/// # Errors
/// When /dev/null cannot be opened.
pub fn standard_input(keep: bool) -> Result<Option<OwnedFd>> {
    if keep {
        return Ok(None);
    }
    let null = std::fs::File::open("/dev/null").call(|| "open(\"/dev/null\", O_RDONLY)")?;
    Ok(Some(null.into()))
}
