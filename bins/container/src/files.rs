//! /etc/hosts, /etc/hostname and /etc/resolv.conf: files in the state directory, copies of which are bound over the
//! container's: what it writes to them stays in a small tmpfs of its own.

use crate::options::Options;
use crate::request::Network;
use crate::rootfs::Source;
use drydock_core::{ContainerId, Result};
use drydock_network::etc;
use std::path::{Path, PathBuf};

/// The directory that they are in; in the container's mount namespace copies of them take its place.
pub const DIR: &str = "etc";

/// The request that the options make.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] for an address or a name that is none.
pub fn request(
    id: &ContainerId,
    state_root: &Path,
    hostname: Option<&str>,
    options: &Options,
    network: &Network,
) -> Result<etc::Request> {
    let dns = options.dns.iter().map(|text| etc::parse_server("--dns", text)).collect::<Result<_>>()?;
    let hosts = options.add_host.iter().map(|text| etc::parse_host(text)).collect::<Result<_>>()?;
    let request = etc::Request {
        dir: state_root.join(id).join(DIR),
        hostname: hostname.map(String::from),
        hosts,
        dns,
        forwarder: match network {
            Network::Foreign(foreign) => foreign.resolver(),
            _ => None,
        },
        host_network: *network == Network::Host,
    };
    request.validate()?;
    Ok(request)
}

/// Which file goes where; a root file system without /etc gets none.
pub fn injected(files: &etc::Request, source: &Source) -> Vec<(String, PathBuf)> {
    if !source.path().join("etc").is_dir() && matches!(source, Source::Directory(_)) {
        return Vec::new();
    }
    files.names().map(|name| (format!("/etc/{name}"), files.dir.join(name))).collect()
}
