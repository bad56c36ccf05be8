//! An OCI bundle as a container's request: every stage gets its part of config.json.
//!
//! What can be told from the text alone was checked when it was read ([`drydock_bundle::config`]); here is what follows
//! from how the fields fit together and from what this machine has. Source: OCI runtime specification 1.3, and runc where
//! the specification leaves it open.

mod bundled;
mod cgroup;
pub mod clock;
mod entering;
pub mod life;
pub mod mounts;
mod namespaces;
mod place;
mod process;
pub mod resources;
mod security;

pub use bundled::Bundled;
pub use entering::{placed as placed_entering, request as entering};
pub use place::{limit, place, told};

use crate::request::Request;
use crate::rootfs::Source;
use drydock_bundle::Bundle;
use drydock_core::{ContainerId, Error, Result};
use drydock_mounts::Root;
use serde::de::DeserializeOwned;
use std::path::Path;

/// What the command line adds to a bundle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `--systemd-cgroup`: systemd makes the cgroup, as a scope; `cgroupsPath` is `SLICE:PREFIX:NAME`.
    pub systemd_cgroup: bool,
    /// `--no-pivot`: the root is moved to `/` instead of pivoted to, for a root on a ramdisk.
    pub no_pivot: bool,
    /// `--no-new-keyring`: the container has its caller's session keyring.
    pub no_new_keyring: bool,
}

fn bad(pointer: &str, problem: impl Into<String>) -> Error {
    Error::bad_input(format!("config.json: {pointer}"), problem)
}

/// The part of the configuration at a JSON pointer, as one of the stages' own types; `None` if it is not there.
fn part<T: DeserializeOwned>(bundle: &Bundle, pointer: &str) -> Result<Option<T>> {
    let found = bundle.json.pointer(pointer).filter(|value| !value.is_null());
    found.map(|value| T::deserialize(value).map_err(|e| bad(pointer, e.to_string()))).transpose()
}

/// The request that a bundle makes, with nothing added by the command line.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] with the JSON pointer of what is wrong.
pub fn request(bundle: &Bundle, id: &ContainerId, state_root: &Path) -> Result<Request> {
    request_with(bundle, id, state_root, Options::default())
}

/// The request that a bundle and the command line make.
///
/// # Errors
/// As [`request`].
pub fn request_with(
    bundle: &Bundle,
    id: &ContainerId,
    state_root: &Path,
    options: Options,
) -> Result<Request> {
    let linux = &bundle.linux;
    let (namespaces, network) = namespaces::request(bundle, linux)?;
    let root = root(bundle)?;
    let mut bundled = bundled::request(bundle, &namespaces, id)?;
    let cgroup = cgroup::request(linux, id, &mut bundled, options)?;
    let inside =
        process::request(bundle, linux, (root.clone(), &namespaces), id, (options, &mut bundled.warnings))?;
    Ok(Request {
        cgroup: Some(cgroup),
        id: id.clone(),
        rootfs: Source::Directory(root.path),
        mapped: None,
        namespaces,
        network,
        files: drydock_network::etc::Request {
            dir: state_root.join(id),
            hostname: None,
            hosts: vec![],
            dns: vec![],
            forwarder: None,
            host_network: false,
        },
        inside,
        detach: false,
        interactive: true,
        remove: true,
        stop: (nix::libc::SIGTERM, 10),
        labels: bundled.annotations.clone(),
        bundled: Some(bundled),
    })
}

fn root(bundle: &Bundle) -> Result<Root> {
    let root = bundle.spec.root.as_ref().ok_or_else(|| bad("/root", "required"))?;
    let path = bundle.dir.join(root.path());
    let shown = drydock_core::text::escape(&path.to_string_lossy());
    let real = std::fs::canonicalize(&path).map_err(|e| {
        let why = e.raw_os_error().map_or_else(|| e.to_string(), drydock_core::error::errno_text);
        bad("/root/path", format!("'{shown}': {why} (allowed: an existing directory)"))
    })?;
    if !real.is_dir() {
        return Err(bad("/root/path", format!("'{shown}' is not a directory (allowed: a directory)")));
    }
    if real == Path::new("/") {
        return Err(bad("/root/path", "is the host's own root (allowed: a directory of its own)"));
    }
    // The bundle's own directory is what some take for the root, and runc runs it.
    if bundle.dir != real && bundle.dir.starts_with(&real) {
        let problem = format!("'{shown}' has the bundle itself in it (allowed: a directory that has not)");
        return Err(bad("/root/path", problem));
    }
    Ok(Root { readonly: root.readonly().unwrap_or(false), ..Root::directory(real) })
}

/// The maps of a list, as the stages have them.
fn maps(lines: Option<&[oci_spec::runtime::LinuxIdMapping]>) -> Vec<drydock_namespaces::IdMap> {
    let one = |l: &oci_spec::runtime::LinuxIdMapping| {
        drydock_namespaces::IdMap::new(l.container_id(), l.host_id(), l.size())
    };
    lines.unwrap_or_default().iter().map(one).collect()
}

/// Whether a kind of namespace is the container's: new or joined, not the runtime's own.
fn has_own(namespaces: &crate::request::Namespaces, kind: drydock_namespaces::Kind) -> bool {
    namespaces.new.contains(kind) || namespaces.join.iter().any(|(joined, _)| *joined == kind)
}

/// The words of a list that may be left out.
fn words(list: &Option<Vec<String>>) -> &[String] {
    list.as_deref().unwrap_or_default()
}

/// The paths of a list that a container without a mount namespace of its own cannot have.
fn needs_mount_namespace(linux: &oci_spec::runtime::Linux) -> Option<&'static str> {
    match (words(linux.masked_paths()), words(linux.readonly_paths())) {
        ([], []) => None,
        ([], _) => Some("/linux/readonlyPaths"),
        _ => Some("/linux/maskedPaths"),
    }
}
