//! What of a container is outside of it: namespaces that it has joined, and pipes that are its standard streams.

use super::wire::Message;
use drydock_bundle::State;
use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use drydock_namespaces::Kind;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The file beside the images: what its standard streams were. runc's name for it.
pub const STREAMS: &str = "descriptors.json";

/// criu leaves these kinds of namespaces to whoever restores, and its names for them.
const KINDS: [(Kind, &str, &str); 2] =
    [(Kind::Network, "net", "extRootNetNS"), (Kind::Pid, "pid", "extRootPidNS")];

/// The namespaces that the container has joined by a path, of those that criu can leave out.
fn joined(state: &State) -> impl Iterator<Item = (&'static str, &'static str, &Path)> {
    let all = state.oci.iter().flat_map(|oci| &oci.joined);
    all.filter_map(|(name, path)| {
        let (_, word, key) = KINDS.into_iter().find(|(kind, _, _)| kind.to_string() == *name)?;
        Some((word, key, path.as_path()))
    })
}

/// For a checkpoint: they are not written, by their inode numbers.
///
/// # Errors
/// When one has gone.
pub fn leave_out(state: &State, options: &mut Message) -> Result<()> {
    for (word, key, path) in joined(state) {
        let inode = std::fs::metadata(path).call(|| format!("stat({path:?})"))?.ino();
        options.text(37, format!("{word}[{inode}]:{key}"));
    }
    Ok(())
}

/// For a restore: the namespaces that are there now, open for criu.
///
/// # Errors
/// When one is not there.
pub fn bring(state: &State, options: &mut Message) -> Result<Vec<OwnedFd>> {
    let open = |(_, key, path): (&str, &str, &Path)| {
        let file = File::open(path).call(|| format!("open({path:?}, O_RDONLY)"))?;
        inherit(options, key, file.as_raw_fd());
        Ok(OwnedFd::from(file))
    };
    joined(state).map(open).collect()
}

/// What the container's standard streams are, as JSON.
///
/// # Errors
/// When they cannot be told.
pub fn streams(pid: i32) -> Result<Vec<u8>> {
    let name = |number| {
        let path = format!("/proc/{pid}/fd/{number}");
        std::fs::read_link(path).map(|to| to.to_string_lossy().into_owned()).unwrap_or_default()
    };
    serde_json::to_vec(&[name(0), name(1), name(2)]).map_err(|e| Error::failed(STREAMS, e.to_string()))
}

/// Pipes of the container's are those of the caller now.
pub fn connect(streams: &[u8], options: &mut Message) {
    let streams: Vec<String> = serde_json::from_slice(streams).unwrap_or_default();
    for (number, name) in (0..3).zip(streams) {
        if name.starts_with("pipe:") {
            inherit(options, &name, number);
        }
    }
}

fn inherit(options: &mut Message, key: &str, number: i32) {
    let mut message = Message::default();
    message.text(1, key);
    message.number(2, number);
    options.message(27, &message);
}
