//! What a configuration asks of the runtime itself, beyond the stages' requests.

use drydock_bundle::{Hooks, OciState};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The runtime's part of a configuration.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Bundled {
    /// `ociVersion`.
    pub version: String,
    /// The bundle's directory, absolute.
    pub bundle: PathBuf,
    /// `annotations`.
    pub annotations: BTreeMap<String, String>,
    /// `hooks`, all six kinds.
    pub hooks: Hooks,
    /// `process.consoleSize`: rows and columns.
    pub console_size: Option<(u16, u16)>,
    /// `linux.seccomp.listenerPath` and `listenerMetadata`.
    pub seccomp_listener: Option<SeccompListener>,
    /// `linux.netDevices`: the host's name of a network device, and its name in the container.
    pub net_devices: BTreeMap<String, String>,
    /// The container outlives its creator, who waits for nobody: `create`, and `run --detach` of a bundle.
    pub unattended: bool,
}

/// Who is asked about the system calls that a seccomp profile says to notify of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SeccompListener {
    /// An AF_UNIX stream socket that takes the descriptor.
    pub path: PathBuf,
    /// Passed on with it.
    pub metadata: String,
}

impl Bundled {
    /// As it is kept in the container's state.
    pub fn state(&self) -> OciState {
        OciState {
            version: self.version.clone(),
            bundle: self.bundle.clone(),
            annotations: self.annotations.clone(),
            hooks: self.hooks.clone(),
            unattended: self.unattended,
        }
    }
}
