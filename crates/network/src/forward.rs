//! Which networks may reach each other: none, unless it is said here.

use crate::address::Subnet;
use crate::nft::{NewRule, Nft, rules};
use crate::state::{Allowed, Store, SubnetUse};
use crate::step::NetStep;
use crate::{STAGE, sysctl};
use drydock_core::{Ctx, Error, Result, text};
use serde::Serialize;
use std::path::Path;

/// Who needs forwarding as long as any two networks may reach each other. No container has a name like this.
pub(crate) const USER: &str = "@allow";

/// What is on besides the networks' own rules.
#[derive(Clone, Debug, Default, Serialize)]
pub struct List {
    /// NAT and forwarding of subnets.
    pub subnets: Vec<SubnetUse>,
    /// Which subnets may reach each other.
    pub allowed: Vec<Allowed>,
}

/// What is on.
///
/// # Errors
/// When the lease directory cannot be read.
pub fn list(lease_dir: &Path) -> Result<List> {
    if !lease_dir.exists() {
        return Ok(List::default());
    }
    let store = Store::lock(lease_dir)?;
    Ok(List { subnets: store.host.subnets.clone(), allowed: store.host.allowed.clone() })
}

/// The subnets that a word means: a network's, or itself.
fn subnets(store: &mut Store, word: &str) -> Result<Vec<Subnet>> {
    if word.contains('/') {
        return Ok(vec![Subnet::parse(word)?]);
    }
    let shown = text::shorten(&text::escape(word), 60);
    let networks = store.networks()?;
    match networks.iter().find(|n| n.network == word || n.bridge == word) {
        Some(network) => Ok(network.subnets().collect()),
        None => Err(Error::bad_input(
            format!("network '{shown}'"),
            "does not exist (allowed: a network, or a subnet)",
        )
        .hint("netsetup leases lists them")),
    }
}

/// Lets two networks (by name, or as subnets) reach each other, or no longer. Returns whether that changed anything.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] for a network that does not exist; the kernel's.
pub fn allow(a: &str, b: &str, yes: bool, lease_dir: &Path, ctx: &Ctx<'_>) -> Result<bool> {
    let mut store = Store::lock(lease_dir).map_err(|e| e.in_stage(STAGE))?;
    let (from, to) = (subnets(&mut store, a)?, subnets(&mut store, b)?);
    let same = |x: &Subnet, y: &Subnet| x.address().is_ipv4() == y.address().is_ipv4();
    let pairs: Vec<Allowed> = from
        .iter()
        .flat_map(|x| to.iter().filter(move |y| same(x, y)).map(|y| Allowed { a: *x, b: *y }))
        .collect();
    if pairs.is_empty() || pairs.iter().any(|p| p.a == p.b) {
        return Err(Error::bad_input(
            format!("'{}' and '{}'", text::escape(a), text::escape(b)),
            "are not two networks of one family (allowed: two different ones)",
        ));
    }
    let nft = Nft::here()?;
    let there = |p: &Allowed, q: &Allowed| (p.a == q.a && p.b == q.b) || (p.a == q.b && p.b == q.a);
    let known = |store: &Store, p: &Allowed| store.host.allowed.iter().any(|q| there(p, q));
    if !yes {
        let had = pairs.iter().any(|p| known(&store, p));
        store.host.allowed.retain(|q| !pairs.iter().any(|p| there(p, q)));
        let gone: Vec<NewRule> = pairs.iter().flat_map(|p| rules::allow(p.a, p.b)).collect();
        ctx.perform(&NetStep::DeleteRules { tag: rules::ALLOW_TAG.into() }, |_| {
            nft.delete(|r| gone.iter().any(|w| r.is(w)))
        })?;
        if store.host.allowed.is_empty() {
            sysctl::release(&mut store, USER)?;
        }
        store.save_host()?;
        return Ok(had);
    }
    let new: Vec<Allowed> = pairs.into_iter().filter(|p| !known(&store, p)).collect();
    for pair in &new {
        sysctl::enable_forwarding(&mut store, USER, pair.a.address(), ctx)?;
    }
    store.host.allowed.extend(&new);
    store.save_host()?;
    let add = missing(&store, &nft)?;
    if !add.is_empty() {
        let what: Vec<String> =
            new.iter().map(|p| format!("{} and {} may reach each other", p.a, p.b)).collect();
        ctx.perform(&NetStep::Rules { owner: USER.into(), what: what.join("; ") }, |_| nft.add(&add))?;
    }
    Ok(!new.is_empty())
}

/// What a killed [`allow`] has left: it had not written down yet what may be reached, or not made the rules. Without
/// `check` the one is forgotten, the other made. True if there was something.
///
/// # Errors
/// The kernel's; when the lease directory cannot be read.
pub fn mend(lease_dir: &Path, check: bool, ctx: &Ctx<'_>) -> Result<bool> {
    if !lease_dir.exists() {
        return Ok(false);
    }
    let mut store = Store::lock(lease_dir)?;
    if store.host.allowed.is_empty() {
        let users = |store: &Store| store.host.sysctls.values().any(|s| s.users.iter().any(|u| u == USER));
        let left = users(&store);
        if left && !check {
            sysctl::release(&mut store, USER)?;
            store.save_host()?;
        }
        return Ok(left);
    }
    let nft = Nft::here()?;
    let add = missing(&store, &nft)?;
    if !add.is_empty() && !check {
        let what = format!("{} rules of allowed networks", add.len());
        ctx.perform(&NetStep::Rules { owner: USER.into(), what }, |_| nft.add(&add))?;
    }
    Ok(!add.is_empty())
}

/// The rules of allowed pairs that are not there.
pub(crate) fn missing(store: &Store, nft: &Nft) -> Result<Vec<NewRule>> {
    let there = nft.rules()?;
    let all = store.host.allowed.iter().flat_map(|p| rules::allow(p.a, p.b));
    Ok(all.filter(|w| !there.iter().any(|r| r.is(w))).collect())
}
