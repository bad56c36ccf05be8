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
    /// `linux.netDevices`: the host's name of a network device, and its name in the container.
    pub net_devices: BTreeMap<String, String>,
    /// The container outlives its creator, who waits for nobody: `create`, and `run --detach` of a bundle.
    pub unattended: bool,
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
