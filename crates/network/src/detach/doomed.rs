//! Links that are to go. The kernel waits some 25 ms for its own readers whenever a link goes: those that go together go
//! in one call.

use super::link_of;
use crate::name;
use crate::netlink::Batch;
use crate::rtnl::{Link, Rtnl};
use crate::state::Network;
use crate::step::NetStep;
use drydock_core::{Ctx, Object, Result};

/// The host ends that the journal names, if they are still the owner's.
pub(super) fn links(owner: &str, objects: &[Object]) -> Result<Vec<Link>> {
    let names: Vec<&String> = objects.iter().filter_map(link_of).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let rtnl = Rtnl::here()?;
    let tag = name::alias(owner);
    // Without an alias it is a pair whose maker was killed before it could sign.
    let ours = |link: &Link| match link.alias.as_deref() {
        Some(alias) => alias == tag,
        None => link.kind.as_deref() == Some("veth"),
    };
    let mut found: Vec<Link> = Vec::new();
    for name in names {
        if let Some(link) = rtnl.link(name)?.filter(&ours)
            && !found.iter().any(|l| l.index == link.index)
        {
            found.push(link);
        }
    }
    Ok(found)
}

/// A network's bridge, if it is still ours. Without an alias: made, but not signed yet.
pub(super) fn bridge(rtnl: &Rtnl, bridge: &str, network: &str) -> Result<Option<Link>> {
    let tag = name::network_tag(network);
    let ours =
        |l: &Link| l.kind.as_deref() == Some("bridge") && l.alias.as_deref().is_none_or(|alias| alias == tag);
    Ok(rtnl.link(bridge)?.filter(ours))
}

/// The owner's links, and the bridges of networks that nobody uses any more.
pub(super) fn all(owner: &str, objects: &[Object], gone: &[Network]) -> Result<Vec<Link>> {
    let mut all = links(owner, objects)?;
    if gone.iter().any(|n| n.made_bridge) {
        let rtnl = Rtnl::here()?;
        for network in gone.iter().filter(|n| n.made_bridge) {
            all.extend(bridge(&rtnl, &network.bridge, &network.network)?);
        }
    }
    Ok(all)
}

/// Deletes them. What is gone meanwhile is well.
pub(super) fn delete(doomed: &[Link], ctx: &Ctx<'_>) -> Result<()> {
    let Some((last, others)) = doomed.split_last() else { return Ok(()) };
    let rtnl = Rtnl::here()?;
    for link in others {
        ctx.perform(&NetStep::DeleteLink { name: link.name.clone() }, |_| Ok(()))?;
    }
    ctx.perform(&NetStep::DeleteLink { name: last.name.clone() }, |_| {
        if others.is_empty() || rtnl.execute(&together(doomed)).is_err() {
            let mut batch = Batch::new();
            doomed.iter().for_each(|link| batch.delete_link_index(link.index, &link.name));
            return rtnl.execute(&batch);
        }
        Ok(())
    })
}

/// A group of their own, which is deleted in one call. No two processes choose the same at once; few others use groups
/// at all, and hardly numbers like this.
fn together(doomed: &[Link]) -> Batch {
    let group = 0x6464_0000 ^ std::process::id();
    let mut batch = Batch::new();
    doomed.iter().for_each(|link| batch.set_group(link.index, &link.name, group));
    batch.delete_group(group);
    batch
}
