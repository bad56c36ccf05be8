//! `container checkpoint` and `restore`: a container's processes as files, and back, by criu(8).
//!
//! criu is a program of its own, which is executed directly and asked over a socket. Beside its images lie this tool's records of the container,
//! so that `restore` knows what it was.

pub mod checkpoint;
mod external;
mod options;
pub mod restore;
mod service;
mod wire;

use drydock_bundle::State;
use drydock_core::{Error, Result};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// The container's record in the images' directory.
const STATE: &str = "drydock-state.json";
/// What `exec` needs to know of it.
const INSIDE: &str = "drydock-inside.json";
/// Where criu is looked for after the directories of $PATH, in which those for administrators may be missing.
const PLACES: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// criu's program.
///
/// # Errors
/// When it is not installed.
fn find() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let program = |path: &PathBuf| {
        std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    let dirs = std::env::split_paths(&path).filter(|dir| dir.is_absolute());
    dirs.chain(PLACES.map(PathBuf::from)).map(|dir| dir.join("criu")).find(program).ok_or_else(|| {
        Error::failed("criu", "is not installed: it does the checkpoint and the restore")
            .hint("apt install criu, or https://criu.org/Installation")
    })
}

/// The annotation that names a criu configuration file, on the host; runc(8) knows it, too.
pub const CONFIG_ANNOTATION: &str = "org.criu.config";

/// A criu configuration file that the container asks for.
fn configuration(state: &State) -> Option<&str> {
    let annotations = &state.oci.as_ref()?.annotations;
    annotations.get(CONFIG_ANNOTATION).map(String::as_str).filter(|path| !path.is_empty())
}
