//! Taking away what an owner has: links, rules, published ports, leases; then, when it was the last user, bridges and
//! sysctls. Every part may be gone already; that is success.

mod doomed;

use crate::nft::{Chain, Nft, Rule, rules};
use crate::rtnl::Rtnl;
use crate::state::{Lease, Network, Store};
use crate::step::NetStep;
use crate::{STAGE, name, netns, sysctl};
use drydock_core::{Ctx, Object, Result};
use std::net::IpAddr;
use std::path::Path;

/// Removes everything of `owner`: what `objects` (its journal) names, and what the lease directory and our nft table
/// know of it. Idempotent; nothing that is gone already is an error. Links are deleted.
///
/// # Errors
/// The first failure that keeps something from being removed; the rest is removed all the same.
pub fn remove(owner: &str, objects: &[Object], lease_dir: &Path, ctx: &Ctx<'_>) -> Result<()> {
    let mut first = Ok(());
    let mut keep = |result: Result<()>| {
        if first.is_ok() {
            first = result.map_err(|e| e.in_stage(STAGE));
        }
    };
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
    let scope = Scope::Interface { link, addresses };
    let released = release(owner, std::slice::from_ref(&object), &scope, lease_dir, ctx)
        .map_err(|e| e.in_stage(STAGE))?;
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
        doomed::delete(&doomed::links(owner, objects)?, ctx)?;
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
    let mut closing = None;
    if shared || changed || all || !gone.is_empty() {
        let addresses = if all { None } else { Some(freed.as_slice()) };
        closing = delete_rules(
            owner,
            addresses,
            &Parted { gone: &gone, without_nat: &without_nat, links: &links },
            ctx,
        )?;
    }
    // The kernel waits for its readers when the socket is closed, and when a link goes: at the same time.
    let closing = closing.map(|nft| std::thread::Builder::new().spawn(move || drop(nft)));
    let first = doomed::all(owner, objects, &gone).and_then(|doomed| doomed::delete(&doomed, ctx));
    let first = first.and_then(|()| gone.iter().try_for_each(|n| store.forget_network(&n.network)));
    delete_orphaned_bridges(objects, &mut store, ctx)?;
    let idle = all || !store.forwards_for(owner)?;
    let released = if idle { sysctl::release(&mut store, owner) } else { Ok(false) };
    store.save_host()?;
    if let Some(Ok(thread)) = closing {
        let _ = thread.join();
    }
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
/// more. Gives the socket back, which takes long to close.
fn delete_rules(
    owner: &str,
    addresses: Option<&[IpAddr]>,
    parted: &Parted<'_>,
    ctx: &Ctx<'_>,
) -> Result<Option<Nft>> {
    // A kernel without nf_tables has no rules.
    let Ok(nft) = Nft::here() else { return Ok(None) };
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
            return Ok(None);
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
    Ok(Some(nft))
}

/// A network without users: its bridge if we made it, then its file.
pub(crate) fn take_down(store: &Store, network: &Network, ctx: &Ctx<'_>) -> Result<()> {
    if network.made_bridge {
        doomed::delete(doomed::bridge(&Rtnl::here()?, &network.bridge, &network.network)?.as_slice(), ctx)?;
    }
    store.forget_network(&network.network)
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
            doomed::delete(doomed::bridge(&Rtnl::here()?, bridge, network)?.as_slice(), ctx)?;
        }
    }
    Ok(())
}
