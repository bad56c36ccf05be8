//! Taking away what an owner has: links, rules, published ports, leases; then, when it was the last user, bridges and
//! sysctls. Every part may be gone already; that is success.

use crate::netlink::Batch;
use crate::nft::{Chain, Nft, Rule, rules};
use crate::rtnl::Rtnl;
use crate::state::{Lease, Network, Store};
use crate::step::NetStep;
use crate::{STAGE, name, netns, sysctl};
use drydock_core::{Ctx, Object, Result};
use std::net::IpAddr;
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
    keep(release(owner, objects, &Scope::All, lease_dir, ctx).map(drop));
    for object in objects {
        if let Object::CniNetwork { network, container, interface } = object
            && container == owner
        {
            let place = lease_dir.with_file_name(container);
            let gone =
                crate::cni::Attachment { container, netns: None, interface, ports: &[], place: &place };
            keep(crate::cni::Network::find(network).and_then(|n| n.delete(gone, ctx)));
        }
        if let Object::NamespaceFiles { namespace } = object
            && netns::path_of(namespace).is_ok()
        {
            keep(crate::names::forget(namespace, ctx).map(drop));
        }
        if let Object::NetworkNamespace { path } = object {
            keep(netns::delete(path, ctx).map(drop));
        }
    }
    first
}

fn link_of(object: &Object) -> Option<&String> {
    match object {
        Object::Link { name } => Some(name),
        _ => None,
    }
}

/// The host ends that the journal names, if they are still the owner's.
fn delete_links(owner: &str, objects: &[Object], ctx: &Ctx<'_>) -> Result<()> {
    let names: Vec<&String> = objects.iter().filter_map(link_of).collect();
    if names.is_empty() {
        return Ok(());
    }
    let rtnl = Rtnl::here()?;
    let tag = name::alias(owner);
    for name in names {
        let Some(link) = rtnl.link(name)? else { continue };
        // Without an alias it is a pair whose maker was killed before it could sign.
        let ours = match link.alias.as_deref() {
            Some(alias) => alias == tag,
            None => link.kind.as_deref() == Some("veth"),
        };
        if !ours {
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

/// Detaches one interface of an owner: the veth pair of this host end, its lease, and the ports published for the
/// addresses. What the owner has elsewhere stays. Idempotent: false if there was nothing.
///
/// # Errors
/// The kernel's.
pub fn detach(
    owner: &str,
    link: &str,
    addresses: &[IpAddr],
    lease_dir: &Path,
    ctx: &Ctx<'_>,
) -> Result<bool> {
    let object = Object::Link { name: link.to_string() };
    let there = Rtnl::here()?.link(link)?.is_some();
    delete_links(owner, std::slice::from_ref(&object), ctx).map_err(|e| e.in_stage(STAGE))?;
    let scope = Scope::Interface { link, addresses };
    let released = release(owner, &[], &scope, lease_dir, ctx).map_err(|e| e.in_stage(STAGE))?;
    Ok(there || released)
}

/// Takes published ports of an owner for one container address away; the rest stays. False if there were none.
///
/// # Errors
/// The kernel's.
pub fn unpublish(owner: &str, address: IpAddr, lease_dir: &Path, ctx: &Ctx<'_>) -> Result<bool> {
    let scope = Scope::Interface { link: "", addresses: &[address] };
    release(owner, &[], &scope, lease_dir, ctx).map_err(|e| e.in_stage(STAGE))
}

/// What of an owner is released.
enum Scope<'a> {
    All,
    Interface { link: &'a str, addresses: &'a [IpAddr] },
}

impl Scope<'_> {
    fn has_link(&self, link: &str) -> bool {
        match self {
            Scope::All => true,
            Scope::Interface { link: wanted, .. } => *wanted == link,
        }
    }
}

/// Leases, rules and references; under the lock, because the last user takes the shared parts away.
fn release(
    owner: &str,
    objects: &[Object],
    scope: &Scope<'_>,
    lease_dir: &Path,
    ctx: &Ctx<'_>,
) -> Result<bool> {
    let shared = objects.iter().any(|o| {
        matches!(o, Object::Lease { .. } | Object::Bridge { .. } | Object::Nft { .. } | Object::Sysctl { .. })
    });
    if !lease_dir.exists() && !shared {
        return Ok(false);
    }
    let mut store = Store::lock(lease_dir)?;
    let mut freed: Vec<IpAddr> = match scope {
        Scope::All => Vec::new(),
        Scope::Interface { addresses, .. } => addresses.to_vec(),
    };
    let mut changed = false;
    let mut gone: Vec<Network> = Vec::new();
    // Also those without a lease: whoever gave it back may have been killed right after it.
    let mut links: Vec<String> = match scope {
        Scope::All => objects.iter().filter_map(link_of).cloned().collect(),
        Scope::Interface { link, .. } => vec![(*link).to_string()],
    };
    // Networks whose last user of NAT leaves, and which stay for others.
    let mut without_nat: Vec<Network> = Vec::new();
    for mut network in store.networks()? {
        let before = network.clone();
        let ours = |l: &Lease| l.owner == owner && scope.has_link(&l.link);
        freed.extend(network.leases.iter().filter(|l| ours(l)).map(|l| l.address));
        links.extend(network.leases.iter().filter(|l| ours(l)).map(|l| l.link.clone()));
        network.leases.retain(|l| !ours(l));
        if matches!(scope, Scope::All) {
            network.holders.retain(|h| h != owner);
        }
        changed |= network != before;
        if before.needs_nat() && !network.needs_nat() && !network.unused() {
            without_nat.push(network.clone());
        }
        if network.unused() {
            gone.push(network);
        } else if network != before {
            ctx.perform(&NetStep::Release { owner: owner.into() }, |_| store.save_network(&network))?;
        }
    }
    let all = matches!(scope, Scope::All);
    let published = store.host.published.len();
    store.host.published.retain(|p| p.owner != owner || !(all || freed.contains(&p.container)));
    changed |= published != store.host.published.len();
    if all {
        let before = store.host.subnets.len();
        store.host.subnets.retain(|s| s.owner != owner);
        changed |= store.host.topologies.remove(owner).is_some();
        changed |= before != store.host.subnets.len();
    }
    for subnet in gone.iter().flat_map(Network::subnets) {
        store.host.allowed.retain(|pair| pair.a != subnet && pair.b != subnet);
    }
    if !gone.is_empty() && store.host.allowed.is_empty() {
        changed |= sysctl::release(&mut store, crate::forward::USER)?;
    }
    if shared || changed || all || !gone.is_empty() {
        let addresses = if all { None } else { Some(freed.as_slice()) };
        delete_rules(
            owner,
            addresses,
            &Parted { gone: &gone, without_nat: &without_nat, links: &links },
            ctx,
        )?;
    }
    let mut first = Ok(());
    for network in &gone {
        let result = take_down(&store, network, ctx);
        if first.is_ok() {
            first = result;
        }
    }
    delete_orphaned_bridges(objects, &mut store, ctx)?;
    let idle = all || !store.forwards_for(owner)?;
    let released = if idle { sysctl::release(&mut store, owner) } else { Ok(false) };
    store.save_host()?;
    first?;
    Ok(released? || changed)
}

/// Whose shared rules are not needed any more.
struct Parted<'a> {
    /// Networks without users.
    gone: &'a [Network],
    /// Networks that need no NAT any more.
    without_nat: &'a [Network],
    /// Ports that need no check any more.
    links: &'a [String],
}

/// Deletes the owner's rules (only those about `addresses`, if given) and those of networks that do not need them any
/// more.
fn delete_rules(owner: &str, addresses: Option<&[IpAddr]>, parted: &Parted<'_>, ctx: &Ctx<'_>) -> Result<()> {
    // A kernel without nf_tables has no rules.
    let Ok(nft) = Nft::here() else { return Ok(()) };
    let own = name::tag(owner);
    let tags = |networks: &[Network]| -> Vec<String> {
        networks.iter().map(|n| name::network_tag(&n.network)).collect()
    };
    let (gone, without_nat) = (tags(parted.gone), tags(parted.without_nat));
    let subnets: Vec<_> = parted.gone.iter().flat_map(Network::subnets).collect();
    let there = match nft.rules() {
        Ok(rules) => rules,
        // Nor has somebody who may not even look: without CAP_NET_ADMIN nothing was made.
        Err(e) if matches!(e.errno(), Some(nix::libc::EOPNOTSUPP | nix::libc::EINVAL | nix::libc::EPERM)) => {
            return Ok(());
        }
        Err(e) => return Err(e),
    };
    let ours = |rule: &Rule| {
        let Some(comment) = &rule.comment else { return false };
        gone.contains(comment)
            || (rule.chain == Chain::Postrouting && without_nat.contains(comment))
            || (comment == rules::ALLOW_TAG && subnets.iter().any(|s| rule.about(*s)))
            || (*comment == own && addresses.is_none_or(|a| a.iter().any(|a| rule.mentions(*a))))
    };
    nft.uncheck(|link| parted.links.iter().any(|l| l == link))?;
    if there.iter().any(ours) {
        ctx.perform(&NetStep::DeleteRules { tag: own.clone() }, |_| nft.delete(ours).map(drop))?;
    } else if there.is_empty() {
        // Whoever deleted the last rule may have been killed before the table.
        nft.delete(|_| false)?;
    }
    Ok(())
}

/// A network without users: its bridge if we made it, then its file.
pub(crate) fn take_down(store: &Store, network: &Network, ctx: &Ctx<'_>) -> Result<()> {
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
