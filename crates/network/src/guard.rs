//! Which addresses a port of our bridges may send from: its lease's, as [`crate::nft`] checks them.

use crate::netlink::Protocol;
use crate::nft::{Addresses, Nft, Source};
use crate::state::{Lease, Store};
use crate::step::NetStep;
use crate::{name, netns};
use drydock_core::{Ctx, Error, Result};
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::path::Path;

fn addresses(lease: &Lease) -> Option<Addresses> {
    let ip = std::iter::once(lease.address).chain(lease.address6).chain(lease.also.iter().copied());
    Some(Addresses { mac: lease.mac?, ip: ip.collect() })
}

/// Checks what the lease's port sends from now on. A warning where the kernel cannot.
pub(crate) fn check(nft: Option<&Nft>, owner: &str, lease: &Lease, ctx: &Ctx<'_>) -> Result<Option<String>> {
    let lacks = || {
        format!(
            "what '{owner}' sends is not checked: the kernel has no nf_tables at the ingress (CONFIG_NF_TABLES_NETDEV)"
        )
    };
    let Some(nft) = nft else { return Ok(Some(lacks())) };
    let addresses = if lease.unchecked { None } else { addresses(lease) };
    if addresses.is_none() && lease.metadata {
        return nft.uncheck(|link| link == lease.link).map(|()| None);
    }
    let mut shown: Vec<String> = addresses.iter().map(|a| a.mac.to_string()).collect();
    shown.extend(addresses.iter().flat_map(|a| &a.ip).map(ToString::to_string));
    let step = NetStep::CheckSource {
        link: lease.link.clone(),
        addresses: if shown.is_empty() { "any address".into() } else { shown.join(" ") },
    };
    let tag = name::tag(owner);
    let source =
        Source { link: &lease.link, tag: &tag, addresses: addresses.as_ref(), metadata: lease.metadata };
    match ctx.perform(&step, |_| nft.check_source(&source)) {
        Ok(()) => Ok(None),
        Err(e) if matches!(e.errno(), Some(nix::libc::EOPNOTSUPP | nix::libc::EAFNOSUPPORT)) => {
            Ok(Some(lacks()))
        }
        Err(e) => Err(e),
    }
}

/// Refuses an address for an interface on one of our networks that is the gateway's or another interface's there: its
/// port would be let to pose as that.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] for such an address; when the leases cannot be read.
pub fn check_foreign(
    netns: BorrowedFd<'_>,
    interface: &str,
    address: IpAddr,
    lease_dir: &Path,
) -> Result<()> {
    if !lease_dir.exists() {
        return Ok(());
    }
    let Some(own) = host_end(netns, interface)? else { return Ok(()) };
    let at = format!("address {address}");
    for network in Store::lock(lease_dir)?.networks()? {
        if !network.leases.iter().any(|l| l.link == own) {
            continue;
        }
        if network.gateway == Some(address) || network.gateway6() == Some(address) {
            let problem = format!("is the gateway of network '{}'", network.network);
            return Err(Error::bad_input(at, problem));
        }
        let has =
            |l: &&Lease| l.address == address || l.address6 == Some(address) || l.also.contains(&address);
        if let Some(other) = network.leases.iter().filter(|l| l.link != own).find(has) {
            let problem = format!("in use by '{}' in network '{}'", other.owner, network.network);
            return Err(Error::bad_input(at, problem));
        }
    }
    Ok(())
}

/// The host's end of an interface in a namespace, if it is a cable to here.
fn host_end(netns: BorrowedFd<'_>, interface: &str) -> Result<Option<String>> {
    let inside = crate::rtnl::Rtnl::over(netns::socket(netns, Protocol::Route)?);
    let Some(peer) = inside.link(interface)?.and_then(|link| link.peer) else { return Ok(None) };
    Ok(crate::rtnl::Rtnl::here()?.link_by_index(peer)?.map(|end| end.name))
}

/// An address was added to (or taken from) an interface by `netsetup addr`: its port may send from it (or may not any
/// longer). An interface that is on no network of ours is not checked.
///
/// # Errors
/// The kernel's; when the leases cannot be written.
pub fn learn(
    netns: BorrowedFd<'_>,
    interface: &str,
    address: IpAddr,
    there: bool,
    lease_dir: &Path,
    ctx: &Ctx<'_>,
) -> Result<()> {
    if !lease_dir.exists() {
        return Ok(());
    }
    let Some(end) = host_end(netns, interface)? else { return Ok(()) };
    let mut store = Store::lock(lease_dir)?;
    for mut network in store.networks()? {
        let Some(lease) = network.leases.iter_mut().find(|l| l.link == end) else { continue };
        let own = lease.address == address || lease.address6 == Some(address);
        lease.also.retain(|a| *a != address);
        if there && !own {
            lease.also.push(address);
        }
        let lease = lease.clone();
        store.save_network(&network)?;
        let nft = Nft::here()?;
        if nft.checked_ports()?.contains(&lease.link) {
            check(Some(&nft), &lease.owner, &lease, ctx)?;
        }
        return Ok(());
    }
    Ok(())
}
