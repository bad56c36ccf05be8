//! Taking away what an owner has: links, rules, published ports, leases; then, when it was the last user, bridges and
//! sysctls. Every part may be gone already; that is success.

use crate::netlink::Batch;
use crate::nft::Nft;
use crate::rtnl::Rtnl;
use crate::state::{Network, Store};
use crate::step::NetStep;
use crate::{STAGE, name, netns, sysctl};
use drydock_core::{Ctx, Object, Result};
use std::path::Path;

/// What to do with the owner's veth pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// Delete them now: 20 ms, because the kernel waits for its own readers.
    Delete,
    /// Their namespace dies anyway, and takes them with it a little later.
    LeaveToNamespace,
}

/// Removes everything of `owner`: what `objects` (its journal) names, and what the lease directory and our nft table
/// know of it. Idempotent; nothing that is gone already is an error. Links are deleted.
///
/// # Errors
/// The first failure that keeps something from being removed; the rest is removed all the same.
pub fn remove(owner: &str, objects: &[Object], lease_dir: &Path, ctx: &Ctx<'_>) -> Result<()> {
    remove_with(owner, objects, lease_dir, Links::Delete, ctx)
}

/// [`remove`], with a choice about the links.
///
/// # Errors
/// As there.
pub fn remove_with(
    owner: &str,
    objects: &[Object],
    lease_dir: &Path,
    links: Links,
    ctx: &Ctx<'_>,
) -> Result<()> {
    let mut first = Ok(());
    let mut keep = |result: Result<()>| {
        if first.is_ok() {
            first = result.map_err(|e| e.in_stage(STAGE));
        }
    };
    if links == Links::Delete {
        keep(delete_links(owner, objects, ctx));
    }
    keep(release(owner, objects, lease_dir, ctx));
    for object in objects {
        if let Object::NetworkNamespace { path } = object {
            keep(netns::delete(path, ctx).map(drop));
        }
    }
    first
}

/// The host ends that the journal names, if they are still the owner's.
fn delete_links(owner: &str, objects: &[Object], ctx: &Ctx<'_>) -> Result<()> {
    let names: Vec<&String> = objects
        .iter()
        .filter_map(|o| match o {
            Object::Link { name } => Some(name),
            _ => None,
        })
        .collect();
    if names.is_empty() {
        return Ok(());
    }
    let rtnl = Rtnl::here()?;
    let tag = name::tag(owner);
    for name in names {
        let Some(link) = rtnl.link(name)? else { continue };
        // Without an alias it is a pair whose maker was killed before it could sign.
        if link.alias.as_deref().is_some_and(|alias| alias != tag) {
            continue;
        }
        ctx.perform(&NetStep::DeleteLink { name: name.clone() }, |_| {
            let mut batch = Batch::new();
            batch.delete_link_index(link.index, name);
            rtnl.execute(&batch)
        })?;
    }
    Ok(())
}

/// Leases, rules and references; under the lock, because the last user takes the shared parts away.
fn release(owner: &str, objects: &[Object], lease_dir: &Path, ctx: &Ctx<'_>) -> Result<()> {
    let concerned = objects.iter().any(|o| {
        matches!(o, Object::Lease { .. } | Object::Bridge { .. } | Object::Nft { .. } | Object::Sysctl { .. })
    });
    if !lease_dir.exists() && !concerned {
        return Ok(());
    }
    let mut store = Store::lock(lease_dir)?;
    let networks = store.networks()?;
    let mut gone: Vec<Network> = Vec::new();
    for mut network in networks {
        let before = network.clone();
        network.leases.retain(|l| l.owner != owner);
        network.holders.retain(|h| h != owner);
        if network.unused() {
            gone.push(network);
        } else if network != before {
            ctx.perform(&NetStep::Release { owner: owner.into() }, |_| store.save_network(&network))?;
        }
    }
    let published = store.host.published.len();
    store.host.published.retain(|p| p.owner != owner);
    let rules = concerned || published != store.host.published.len() || !gone.is_empty();
    delete_rules(owner, rules, &gone, ctx)?;
    let mut first = Ok(());
    for network in &gone {
        let result = take_down(&store, network, ctx);
        if first.is_ok() {
            first = result;
        }
    }
    delete_orphaned_bridges(objects, &mut store, ctx)?;
    let released = sysctl::release(&mut store, owner);
    store.save_host()?;
    first.and(released.map(drop))
}

fn delete_rules(owner: &str, wanted: bool, gone: &[Network], ctx: &Ctx<'_>) -> Result<()> {
    if !wanted {
        return Ok(());
    }
    // A kernel without nf_tables has no rules.
    let Ok(nft) = Nft::here() else { return Ok(()) };
    let mut tags: Vec<String> = gone.iter().map(|n| name::network_tag(&n.network)).collect();
    tags.push(name::tag(owner));
    let there = match nft.rules() {
        Ok(rules) => rules,
        Err(e) if matches!(e.errno(), Some(nix::libc::EOPNOTSUPP | nix::libc::EINVAL)) => return Ok(()),
        Err(e) => return Err(e),
    };
    let ours = |comment: &Option<String>| comment.as_ref().is_some_and(|c| tags.contains(c));
    if !there.iter().any(|r| ours(&r.comment)) && !there.is_empty() {
        return Ok(());
    }
    if there.is_empty() {
        return nft.delete(|_| false).map(drop);
    }
    ctx.perform(&NetStep::DeleteRules { tag: name::tag(owner) }, |_| {
        nft.delete(|r| ours(&r.comment)).map(drop)
    })
}

/// A network without users: its bridge if we made it, then its file.
fn take_down(store: &Store, network: &Network, ctx: &Ctx<'_>) -> Result<()> {
    if network.made_bridge {
        delete_bridge(&network.bridge, &network.network, ctx)?;
    }
    store.forget_network(&network.network)
}

fn delete_bridge(bridge: &str, network: &str, ctx: &Ctx<'_>) -> Result<()> {
    let rtnl = Rtnl::here()?;
    let Some(link) = rtnl.link(bridge)? else { return Ok(()) };
    let tag = name::network_tag(network);
    // No alias: made, but not signed yet. Another alias: not ours any more.
    if link.kind.as_deref() != Some("bridge") || link.alias.as_deref().is_some_and(|a| a != tag) {
        return Ok(());
    }
    ctx.perform(&NetStep::DeleteLink { name: bridge.into() }, |_| {
        let mut batch = Batch::new();
        batch.delete_link_index(link.index, bridge);
        rtnl.execute(&batch)
    })
}

/// A bridge that the journal names and no network knows any more (its file was lost): ours only by its alias.
fn delete_orphaned_bridges(objects: &[Object], store: &mut Store, ctx: &Ctx<'_>) -> Result<()> {
    for object in objects {
        let Object::Bridge { name: bridge, network } = object else { continue };
        if store.network(network)?.is_some() {
            continue;
        }
        let signed = Rtnl::here()?.link(bridge)?.and_then(|l| l.alias);
        if signed.as_deref() == Some(name::network_tag(network).as_str()) {
            delete_bridge(bridge, network, ctx)?;
        }
    }
    Ok(())
}
