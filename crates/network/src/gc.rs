//! What nobody has any more: leases whose link is gone, checks of ports that are gone, owners of whom nothing is left.
//! Whether something lives is asked of the kernel, never of a clock.

use crate::nft::Nft;
use crate::rtnl::Rtnl;
use crate::state::{Lease, Store};
use crate::{attach, name, netns};
use drydock_core::{Ctx, Object, Result};
use std::path::Path;

/// Leases whose links are gone, with their networks' names.
///
/// # Errors
/// When the lease directory or the links cannot be read.
pub fn dead_leases(lease_dir: &Path) -> Result<Vec<(String, Lease)>> {
    if !lease_dir.exists() {
        return Ok(Vec::new());
    }
    // Locked: whoever attaches something holds the lock from the lease to the link.
    let mut store = Store::lock(lease_dir)?;
    let rtnl = Rtnl::here()?;
    let mut dead = Vec::new();
    for network in store.networks()? {
        let gone = network.leases.iter().filter(|l| !attach::is_alive(&rtnl, l));
        dead.extend(gone.map(|l| (network.network.clone(), l.clone())));
    }
    Ok(dead)
}

/// Takes back what is left of a lease whose link is gone.
///
/// # Errors
/// The kernel's.
pub fn take_back(lease: &Lease, lease_dir: &Path, ctx: &Ctx<'_>) -> Result<bool> {
    crate::detach::detach(&lease.owner, &lease.link, &[lease.address], lease_dir, ctx)
}

/// Checks of ports that are gone: kernels from 6.16 on keep the chains of a device that went.
///
/// # Errors
/// The kernel's.
pub fn dead_checks() -> Result<Vec<String>> {
    let Ok(nft) = Nft::here() else { return Ok(Vec::new()) };
    let rtnl = Rtnl::here()?;
    let mut dead = Vec::new();
    for port in nft.checked_ports()? {
        if rtnl.link(&port)?.is_none() {
            dead.push(port);
        }
    }
    Ok(dead)
}

/// Removes them.
///
/// # Errors
/// The kernel's.
pub fn forget_checks(dead: &[String]) -> Result<()> {
    match Nft::here() {
        Ok(nft) if !dead.is_empty() => nft.uncheck(|link| dead.iter().any(|d| d == link)),
        _ => Ok(()),
    }
}

/// Whether anything of an owner is there: one of the objects of its journal, a lease, a bridge that it holds, a published
/// port, a rule.
///
/// # Errors
/// When that cannot be told: then it must not be forgotten.
pub fn has_anything(owner: &str, objects: &[Object], lease_dir: &Path) -> Result<bool> {
    let rtnl = Rtnl::here()?;
    for object in objects {
        let there = match object {
            Object::NetworkNamespace { path } => netns::open(path).is_ok(),
            Object::Link { name } => {
                let alias = name::alias(owner);
                rtnl.link(name)?.is_some_and(|l| l.alias.is_none_or(|a| a == alias))
            }
            _ => false,
        };
        if there {
            return Ok(true);
        }
    }
    if lease_dir.exists() {
        let mut store = Store::lock(lease_dir)?;
        let host = &store.host;
        let used =
            host.published.iter().any(|p| p.owner == owner) || host.subnets.iter().any(|s| s.owner == owner);
        let networks = store.networks()?;
        let held = networks.iter().any(|n| {
            n.holders.iter().any(|h| h == owner) && rtnl.link(&n.bridge).is_ok_and(|l| l.is_some())
                || n.leases.iter().any(|l| l.owner == owner)
        });
        if used || held {
            return Ok(true);
        }
    }
    Ok(false)
}
