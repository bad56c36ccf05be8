//! The container's standard streams.

use std::os::fd::OwnedFd;

/// Where the container's standard streams go.
#[derive(Debug, Default)]
pub struct Streams {
    /// The child's ends: input, output, error; `None` keeps the caller's.
    pub child: [Option<OwnedFd>; 3],
}
