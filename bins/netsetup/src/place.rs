//! What `NS` on the command line means.

use crate::args::Common;
use drydock_core::{Error, Result};
use drydock_network::netns;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// A namespace on the command line.
#[derive(Debug)]
pub struct Place {
    /// Its path.
    pub path: PathBuf,
    /// Its name under /run/netns, if it has one.
    pub name: Option<String>,
    /// The container whose it is, if it was given by that.
    pub container: Option<String>,
}

/// The network namespace of a running container, by its state file.
fn of_container(name: &str, common: &Common) -> Option<PathBuf> {
    drydock_core::ContainerId::parse(name).ok()?;
    let root = drydock_core::paths::state_root(common.root.as_deref()).ok()?;
    let state = std::fs::read(root.join(name).join("state.json")).ok()?;
    let state: serde_json::Value = serde_json::from_slice(&state).ok()?;
    let pid = state.get("pid")?.as_i64().filter(|pid| *pid > 1)?;
    // Another process may have the pid by now: field 22 of /proc/PID/stat tells them apart (proc_pid_stat(5)).
    let started = state.get("start_time")?.as_u64()?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let now: u64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    (now == started).then(|| PathBuf::from(format!("/proc/{pid}/ns/net")))
}

impl Place {
    /// A name, or anything with a slash as a path. A path under /run/netns (or /var/run/netns) is the name. A name that no
    /// namespace has may be a running container's.
    pub fn parse(text: &str, common: &Common) -> Result<Self> {
        if !text.contains('/') {
            let path = netns::path_of(text)?;
            if std::fs::symlink_metadata(&path).is_err()
                && let Some(path) = of_container(text, common)
            {
                return Ok(Self { path, name: None, container: Some(text.to_string()) });
            }
            return Ok(Self { path, name: Some(text.to_string()), container: None });
        }
        let path = Path::new(text);
        let named = path
            .parent()
            .and_then(|p| std::fs::canonicalize(p).ok())
            .is_some_and(|p| p == Path::new(netns::DIR));
        match path.file_name().and_then(|n| n.to_str()) {
            Some(name) if named => {
                Ok(Self { path: netns::path_of(name)?, name: Some(name.to_string()), container: None })
            }
            _ => {
                let absolute = std::path::absolute(path)
                    .map_err(|_| Error::bad_input(drydock_core::text::escape(text), "is not a path"))?;
                Ok(Self { path: absolute, name: None, container: None })
            }
        }
    }

    /// Who owns what is made for it, unless `--owner` says so.
    pub fn default_owner(&self) -> String {
        match (&self.name, &self.container) {
            (Some(name), _) | (None, Some(name)) => drydock_network::name::owner_for(name),
            (None, None) => drydock_network::name::owner_for(&self.path.to_string_lossy()),
        }
    }

    /// How messages call it.
    pub fn shown(&self) -> String {
        self.name
            .clone()
            .or_else(|| self.container.clone())
            .unwrap_or_else(|| self.path.display().to_string())
    }

    /// Its global addresses; none if the namespace is gone.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.look(None).unwrap_or_default()
    }

    /// Those of one interface.
    pub fn addresses_of(&self, interface: &str) -> Vec<IpAddr> {
        self.look(Some(interface)).unwrap_or_default()
    }

    fn look(&self, interface: Option<&str>) -> Result<Vec<IpAddr>> {
        let fd = netns::open_other(&self.path)?;
        let rtnl = drydock_network::show::rtnl_in(fd.as_fd())?;
        let only = match interface {
            None => None,
            // One that is not there has none.
            Some(name) => Some(rtnl.link(name)?.map(|link| link.index)),
        };
        let mut all = rtnl.addresses()?;
        all.retain(|a| a.scope == 0 && only.is_none_or(|only| only == Some(a.index)));
        Ok(all.into_iter().map(|a| a.address.address()).collect())
    }
}

/// The address of a namespace, or an address itself; and the owner that goes with it.
pub fn target(text: &str, common: &Common) -> Result<(IpAddr, String)> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok((address, drydock_network::name::owner_for(&format!("addr-{}", text.replace(':', "-")))));
    }
    let place = Place::parse(text, common)?;
    netns::open_other(&place.path)?;
    let addresses = place.addresses();
    let first = addresses.iter().find(|a| a.is_ipv4()).or(addresses.first());
    let address = first.ok_or_else(|| {
        Error::failed(place.shown(), "has no address to publish")
            .hint(format!("netsetup attach {} --bridge BRIDGE --addr ADDRESS/PREFIX", place.shown()))
    })?;
    Ok((*address, place.default_owner()))
}
