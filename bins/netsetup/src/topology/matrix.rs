//! Who reaches whom: tried for every pair, and compared with what the topology says.

use super::file::Topology;
use drydock_core::Result;
use drydock_network::{check, netns, show};
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

/// One pair.
#[derive(Clone, Debug, Serialize)]
pub struct Pair {
    /// From this namespace.
    pub from: String,
    /// To this one.
    pub to: String,
    /// The file says that it is reached.
    pub expected: bool,
    /// It is, by one of its addresses.
    pub reached: bool,
    /// By which address, or what kept the last one from being reached.
    pub detail: String,
}

struct Place {
    fd: OwnedFd,
    addresses: Vec<IpAddr>,
}

fn place(namespace: &str) -> Result<Place> {
    let fd = netns::open_other(&netns::path_of(namespace)?)?;
    let all = show::rtnl_in(fd.as_fd())?.addresses()?;
    let addresses = all.into_iter().filter(|a| a.scope == 0).map(|a| a.address.address()).collect();
    Ok(Place { fd, addresses })
}

/// Tries every pair.
///
/// # Errors
/// A namespace of the file does not exist.
pub fn prove(topology: &Topology) -> Result<Vec<Pair>> {
    let mut places: BTreeMap<&str, Place> = BTreeMap::new();
    for name in topology.namespaces.keys() {
        places.insert(name, place(name)?);
    }
    let mut wanted = Vec::new();
    for (from, a) in &places {
        for (to, b) in places.iter().filter(|(to, _)| *to != from) {
            wanted.push((*from, *to, a.fd.as_fd(), b.addresses.as_slice()));
        }
    }
    let probes: Vec<check::Probe<'_>> =
        wanted.iter().map(|(_, _, fd, addresses)| check::Probe { from: *fd, to: addresses }).collect();
    let outcomes = check::reach_all(&probes)?;
    Ok(wanted
        .iter()
        .zip(outcomes)
        .map(|((from, to, _, _), outcome)| Pair {
            from: (*from).to_string(),
            to: (*to).to_string(),
            expected: topology.expects(from, to),
            reached: outcome.is_ok(),
            detail: match outcome {
                Ok(address) => address.to_string(),
                Err(why) => why,
            },
        })
        .collect())
}
