//! Making what a topology says, and taking away what it does not say any more.

use super::file::Topology;
use crate::owner::Owner;
use drydock_core::{Ctx, Result};
use drydock_network::limit::Request as Limit;
use drydock_network::{attach, detach, forward, name, netns, state};
use serde::Serialize;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

/// A namespace's place on a network.
#[derive(Clone, Debug, Serialize)]
pub struct Place {
    /// The namespace.
    pub namespace: String,
    /// The network.
    pub network: String,
    /// Interface in the namespace.
    pub interface: String,
    /// Its address.
    pub address: String,
    /// It was there already.
    pub already: bool,
}

/// What is there now.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Whose it is.
    pub owner: String,
    /// Who is where.
    pub places: Vec<Place>,
    /// Namespaces that are not in the file any more and were removed.
    pub removed: Vec<String>,
    /// What may keep it from working.
    pub warnings: Vec<String>,
}

/// The interface of the nth network.
fn interface(number: usize) -> String {
    format!("eth{number}")
}

fn path(namespace: &str) -> Result<PathBuf> {
    netns::path_of(namespace)
}

/// Makes it. Idempotent.
pub fn apply(topology: &Topology, before: Option<&Topology>, owner: &Owner, ctx: &Ctx<'_>) -> Result<Report> {
    let mut report = Report { owner: owner.id.clone(), ..Report::default() };
    // Written first, so that whoever looks after a kill knows what was meant.
    let value = serde_json::to_value(topology).unwrap_or_default();
    state::remember_topology(&owner.lease_dir, &owner.id, Some(value))?;
    if let Some(before) = before {
        part(topology, before, owner, &mut report, ctx)?;
    }
    for (namespace, wanted) in &topology.namespaces {
        netns::add(namespace, ctx)?;
        for (number, member) in wanted.members().into_iter().enumerate() {
            let Some(network) = topology.networks.get(&member.network) else { continue };
            let mut request = attach::Request::new(&owner.id, path(namespace)?, &owner.lease_dir);
            request.network = member.network.clone();
            request.bridge = network.bridge(&member.network);
            request.subnet = network.subnet;
            request.subnet6 = network.subnet6;
            request.ipv6 = network.ipv6;
            request.internal = network.internal;
            request.isolated = network.isolated;
            request.nat = network.nat;
            request.mtu = network.mtu;
            request.check_source = !wanted.allow_spoofing;
            request.metadata = wanted.allow_metadata;
            request.address = network.subnet.zip(member.address).map(|(s, a)| s.with(a));
            request.interface = interface(number);
            // One way out: over the first network that has one.
            request.default_route = first_open(topology, wanted) == Some(number);
            request.publish = if number == 0 { wanted.ports()? } else { Vec::new() };
            let made = request.validate()?.apply(ctx)?;
            report.places.push(Place {
                namespace: namespace.clone(),
                network: member.network,
                interface: made.interface,
                address: made.address.to_string(),
                already: made.already,
            });
            report.warnings.extend(made.warnings);
        }
        limit(namespace, wanted, ctx)?;
    }
    for (a, b) in &topology.allow {
        forward::allow(a, b, true, &owner.lease_dir, ctx)?;
    }
    report.warnings.sort();
    report.warnings.dedup();
    Ok(report)
}

fn first_open(topology: &Topology, wanted: &super::file::Namespace) -> Option<usize> {
    let internal = |name: &str| topology.networks.get(name).is_some_and(|n| n.internal);
    wanted.members().iter().position(|m| !internal(&m.network))
}

fn limit(namespace: &str, wanted: &super::file::Namespace, ctx: &Ctx<'_>) -> Result<()> {
    let Some((egress, ingress)) = wanted.directions()? else { return Ok(()) };
    let request =
        Limit { netns: path(namespace)?, shown: namespace.into(), interface: interface(0), egress, ingress };
    request.set(ctx).map(drop)
}

/// Takes away what was in the file before and is not any more.
fn part(now: &Topology, before: &Topology, owner: &Owner, report: &mut Report, ctx: &Ctx<'_>) -> Result<()> {
    let pairs = |t: &Topology| -> BTreeSet<(String, String)> { t.allow.iter().cloned().collect() };
    for (a, b) in pairs(before).difference(&pairs(now)) {
        // A network that is gone has taken its permission along.
        let _ = forward::allow(a, b, false, &owner.lease_dir, ctx);
    }
    for (namespace, had) in &before.namespaces {
        let wanted = now.namespaces.get(namespace);
        let places = wanted.map(|n| n.members()).unwrap_or_default();
        for (number, member) in had.members().into_iter().enumerate() {
            let same = places
                .get(number)
                .is_some_and(|p| p.network == member.network && p.address == member.address)
                && now.networks.get(&member.network) == before.networks.get(&member.network)
                && wanted.is_some_and(|w| {
                    w.publish == had.publish
                        && w.allow_spoofing == had.allow_spoofing
                        && w.allow_metadata == had.allow_metadata
                });
            if !same {
                let path = path(namespace)?;
                let addresses = addresses(&path, &interface(number));
                let link = name::host_link(&owner.id, &path, &interface(number));
                detach::detach(&owner.id, &link, &addresses, &owner.lease_dir, ctx)?;
            }
        }
        if wanted.is_none() {
            netns::delete(&path(namespace)?, ctx)?;
            report.removed.push(namespace.clone());
        }
    }
    Ok(())
}

fn addresses(path: &std::path::Path, interface: &str) -> Vec<IpAddr> {
    use std::os::fd::AsFd;
    let look = || -> Result<Vec<IpAddr>> {
        let fd = netns::open_other(path)?;
        let rtnl = drydock_network::show::rtnl_in(fd.as_fd())?;
        let Some(link) = rtnl.link(interface)? else { return Ok(Vec::new()) };
        let all = rtnl.addresses()?.into_iter().filter(|a| a.index == link.index && a.scope == 0);
        Ok(all.map(|a| a.address.address()).collect())
    };
    look().unwrap_or_default()
}
