//! Addresses that are taken: one file a network, under the store's lock.

use crate::address::Subnet;
use crate::state::{Lease, Network, Store};
use drydock_core::{Error, Result};
use std::net::IpAddr;
use std::path::Path;

/// Whether a lease's holder still lives: its link is there. Not its age, nor what a file says.
pub type Alive<'a> = &'a dyn Fn(&Lease) -> bool;

/// Who takes an address.
#[derive(Clone, Copy, Debug)]
pub struct Holder<'a> {
    /// Container id or namespace name.
    pub owner: &'a str,
    /// Host end of the veth pair.
    pub link: &'a str,
    /// Interface within the namespace.
    pub interface: &'a str,
    /// It needs the network's NAT.
    pub nat: bool,
}

/// Takes an address in `network`: `asked`, or the next free one. The caller saves the network. A holder that has a
/// lease for this link keeps it. When the pool is empty, leases of owners that are not `alive` are taken.
///
/// # Errors
/// The asked address is taken or outside the subnet; the pool is exhausted (names the holders).
pub fn take(
    network: &mut Network,
    holder: Holder<'_>,
    asked: Option<IpAddr>,
    alive: Alive<'_>,
) -> Result<IpAddr> {
    let mine = |l: &Lease| l.owner == holder.owner && l.link == holder.link;
    let held = network.leases.iter().find(|l| mine(l)).map(|l| l.address);
    let address = match (asked, held) {
        (None, Some(held)) => return Ok(held),
        (Some(asked), Some(held)) if asked == held => return Ok(held),
        (Some(asked), _) => check_asked(network, asked, alive)?,
        (None, None) => next_free(network, alive)?,
    };
    network.leases.retain(|l| !mine(l) && l.address != address);
    network.leases.push(Lease {
        owner: holder.owner.into(),
        link: holder.link.into(),
        interface: holder.interface.into(),
        address,
        nat: holder.nat,
        address6: None,
        also: Vec::new(),
        mac: None,
        unchecked: false,
        metadata: false,
        netns: None,
    });
    if asked.is_none() {
        let number = network.subnet.host_number(address).unwrap_or(0);
        network.next = u64::try_from(number + 1).unwrap_or(0);
    }
    Ok(address)
}

fn check_asked(network: &Network, asked: IpAddr, alive: Alive<'_>) -> Result<IpAddr> {
    let at = format!("address {asked}");
    if network.subnet.host_number(asked).is_none() {
        return Err(Error::bad_input(
            at,
            format!("is outside the subnet {} of '{}'", network.subnet, network.network),
        ));
    }
    if network.gateway == Some(asked) {
        return Err(Error::bad_input(at, format!("is the gateway of network '{}'", network.network)));
    }
    match network.leases.iter().find(|l| l.address == asked || l.also.contains(&asked)) {
        Some(l) if alive(l) => {
            Err(Error::failed(at, format!("in use by '{}' in network '{}'", l.owner, network.network))
                .hint("choose another address, or leave it out to get the next free one"))
        }
        _ => Ok(asked),
    }
}

fn next_free(network: &mut Network, alive: Alive<'_>) -> Result<IpAddr> {
    if let Some(address) = scan(network) {
        return Ok(address);
    }
    network.leases.retain(|l| alive(l));
    scan(network).ok_or_else(|| {
        let mut holders: Vec<&str> = network.leases.iter().take(10).map(|l| l.owner.as_str()).collect();
        let of = network.pool.map_or(String::new(), |(first, last)| format!(" from {first} to {last}"));
        if network.leases.len() > holders.len() {
            holders.push("…");
        }
        let used = network.leases.len();
        Error::failed(
            network.subnet.to_string(),
            format!(
                "all {used} addresses of network '{}'{of} are used by {}",
                network.network,
                holders.join(", ")
            ),
        )
        .hint("stop a container, or use a network with a larger subnet")
    })
}

/// Next fit: starts after the last address that was given.
fn scan(network: &Network) -> Option<IpAddr> {
    let number = |address| network.subnet.host_number(address);
    let (first, hosts) = match network.pool {
        Some((first, last)) => (number(first)?, number(last)?.checked_sub(number(first)?)? + 1),
        None => (0, network.subnet.hosts()),
    };
    let next = u128::from(network.next).saturating_sub(first);
    let taken: std::collections::HashSet<IpAddr> = network
        .leases
        .iter()
        .flat_map(|l| l.also.iter().copied().chain([l.address]))
        .chain(network.gateway)
        .collect();
    // More tries than taken addresses are never needed.
    let tries = hosts.min(taken.len() as u128 + 1);
    (0..tries).filter_map(|i| network.subnet.host(first + (next + i) % hosts)).find(|a| !taken.contains(a))
}

/// A fresh network without leases.
pub fn new_network(
    name: &str,
    bridge: &str,
    subnet: Subnet,
    gateway: Option<IpAddr>,
    made_bridge: bool,
) -> Network {
    Network {
        network: name.into(),
        bridge: bridge.into(),
        made_bridge,
        subnet,
        gateway,
        holders: Vec::new(),
        leases: Vec::new(),
        subnet6: None,
        internal: false,
        nat6: false,
        pool: None,
        next: 0,
    }
}

/// The networks with their leases.
///
/// # Errors
/// When the directory cannot be read. One that does not exist has none.
pub fn list(lease_dir: &Path) -> Result<Vec<Network>> {
    if !lease_dir.exists() {
        return Ok(Vec::new());
    }
    Store::lock(lease_dir)?.networks()
}

/// Gives back the leases of owners that are not alive. Returns those owners; the caller removes their other objects.
///
/// # Errors
/// When the files cannot be read or written.
pub fn reclaim(lease_dir: &Path, alive: Alive<'_>) -> Result<Vec<String>> {
    if !lease_dir.exists() {
        return Ok(Vec::new());
    }
    let mut store = Store::lock(lease_dir)?;
    let mut gone = Vec::new();
    for mut network in store.networks()? {
        let before = network.leases.len();
        gone.extend(network.leases.iter().filter(|l| !alive(l)).map(|l| l.owner.clone()));
        network.leases.retain(|l| alive(l));
        if network.leases.len() != before {
            store.save_network(&network)?;
        }
    }
    gone.sort();
    gone.dedup();
    Ok(gone)
}

#[cfg(test)]
mod tests;
