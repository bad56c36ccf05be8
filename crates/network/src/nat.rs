//! NAT for a subnet: forwarding on, masquerade of what leaves it, forward rules. Guide: `sysctl -w
//! net.ipv4.ip_forward=1; iptables -t nat -A POSTROUTING -s SUBNET -j MASQUERADE`.

use crate::address::Subnet;
use crate::nft::{NewRule, Nft, rules, text};
use crate::publish::forward_warnings;
use crate::state::{Network, Store, SubnetUse};
use crate::step::NetStep;
use crate::{STAGE, name, sysctl};
use drydock_core::{Ctx, Result};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// NAT for a subnet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// Whose it is; [`default_owner`] if nobody's.
    pub owner: String,
    /// The subnet.
    pub subnet: Subnet,
    /// Rewrite the source of what leaves it; without, it is only forwarded.
    pub masquerade: bool,
    /// Where leases and references are kept.
    pub lease_dir: PathBuf,
}

/// A checked [`Request`].
#[derive(Clone, Debug)]
pub struct Plan {
    request: Request,
}

/// The NAT that is on now.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Owner of the rules.
    pub owner: String,
    /// The subnet.
    pub subnet: Subnet,
    /// It was on already.
    pub already: bool,
    /// What may keep it from working.
    pub warnings: Vec<String>,
}

/// How the owners of NAT for itself begin.
pub const OWNER_PREFIX: &str = "nat-";
/// How the owners of forwarding for itself begin.
pub const FORWARD_PREFIX: &str = "forward-";

/// The owner of NAT (or forwarding) that was turned on for a subnet by itself.
pub fn default_owner(subnet: Subnet, masquerade: bool) -> String {
    let prefix = if masquerade { OWNER_PREFIX } else { FORWARD_PREFIX };
    format!("{prefix}{}", subnet.to_string().replace(['/', ':'], "-"))
}

impl Request {
    /// Checks everything that can be checked without the kernel.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`].
    pub fn validate(&self) -> Result<Plan> {
        name::check_owner(&self.owner)?;
        Ok(Plan { request: self.clone() })
    }
}

impl Plan {
    /// What will be done, in order.
    pub fn steps(&self) -> Vec<NetStep> {
        let r = &self.request;
        let path = if r.subnet.address().is_ipv4() { sysctl::IP_FORWARD } else { sysctl::IP6_FORWARD };
        vec![
            NetStep::Forwarding { path: path.into(), previous: None },
            NetStep::Rules {
                owner: r.owner.clone(),
                what: what(&name::tag(&r.owner), r.subnet, r.masquerade),
            },
        ]
    }

    /// Turns NAT on. Idempotent.
    ///
    /// # Errors
    /// The kernel's.
    pub fn apply(&self, ctx: &Ctx<'_>) -> Result<Report> {
        let r = &self.request;
        let mut store = Store::lock(&r.lease_dir).map_err(|e| e.in_stage(STAGE))?;
        let nft = Nft::here()?;
        let entry = SubnetUse { owner: r.owner.clone(), subnet: r.subnet, masquerade: r.masquerade };
        let known = store.host.subnets.contains(&entry);
        if !known {
            store.host.subnets.push(entry);
        }
        let part = Part { subnet: r.subnet, masquerade: r.masquerade, forwarding: true, internal: false };
        let already = ensure(&mut store, &nft, &r.owner, &name::tag(&r.owner), &[part], ctx)?;
        if !known {
            store.save_host()?;
        }
        let warnings = forward_warnings(&nft, None, &[r.subnet]);
        Ok(Report { owner: r.owner.clone(), subnet: r.subnet, already, warnings })
    }
}

fn what(tag: &str, subnet: Subnet, masquerade: bool) -> String {
    if !masquerade {
        return format!("forward to and from {subnet}");
    }
    let rule = rules::masquerade(tag, subnet);
    text::rule(&rule.expressions).replace(" counter packets 0 bytes 0", "")
}

/// What one subnet needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) subnet: Subnet,
    /// Rewrite the source of what leaves it.
    pub(crate) masquerade: bool,
    /// The sysctl, for the user.
    pub(crate) forwarding: bool,
    /// Nothing leaves it.
    pub(crate) internal: bool,
}

impl Part {
    /// What a network's subnets need, with NAT (of IPv6 too) if asked.
    pub(crate) fn of(network: &Network, nat: bool, nat6: bool, forwarding: bool) -> Vec<Part> {
        let part = |subnet: Subnet| {
            let beside = network.subnet6 == Some(subnet);
            let masquerade = if beside { nat6 } else { nat };
            let forwarding = forwarding && (nat6 || !beside);
            Part { subnet, masquerade, forwarding, internal: network.internal }
        };
        network.subnets().map(part).collect()
    }
}

/// Forwarding for `user`, and the subnets' rules with the comment `tag` where they are missing. True if all was there.
pub(crate) fn ensure(
    store: &mut Store,
    nft: &Nft,
    user: &str,
    tag: &str,
    parts: &[Part],
    ctx: &Ctx<'_>,
) -> Result<bool> {
    let known = |store: &Store| store.host.sysctls.values().any(|s| s.users.iter().any(|u| u == user));
    let before = known(store);
    for part in parts.iter().filter(|p| p.forwarding) {
        sysctl::enable_forwarding(store, user, part.subnet.address(), ctx)?;
    }
    let forwarded = before == known(store);
    let there = nft.rules()?;
    let ours = |wanted: &NewRule| there.iter().any(|r| r.is(wanted));
    let mut add = Vec::new();
    let mut stale = Vec::new();
    for part in parts {
        if part.masquerade {
            add.extend(Some(rules::masquerade(tag, part.subnet)).filter(|r| !ours(r)));
        }
        // Their order matters: all or none.
        let forward = rules::forward(tag, part.subnet, part.internal);
        if !forward.iter().all(ours) {
            stale.extend(forward.iter().filter(|r| ours(r)).cloned());
            add.extend(forward);
        }
    }
    if add.is_empty() {
        // The rules are shared: this user must find them in its own journal too, it may be the last.
        ctx.record(&drydock_core::Object::Nft { owner: user.to_string() })?;
        return Ok(forwarded);
    }
    // What lets networks reach each other stands before what keeps them apart.
    if add.iter().any(|r| r.first) && !store.host.allowed.is_empty() {
        let allowed: Vec<NewRule> =
            store.host.allowed.iter().flat_map(|pair| rules::allow(pair.a, pair.b)).collect();
        stale.extend(allowed.iter().filter(|r| ours(r)).cloned());
        add.extend(allowed);
    }
    if !stale.is_empty() {
        nft.delete_only(|r| stale.iter().any(|f| r.is(f)))?;
    }
    if !there.iter().any(|r| r.comment.as_deref() == Some(rules::GUARD_TAG)) {
        add.insert(0, rules::guard());
    }
    let what: Vec<String> = parts.iter().map(|p| what(tag, p.subnet, p.masquerade)).collect();
    let step = NetStep::Rules { owner: user.to_string(), what: what.join("; ") };
    ctx.perform(&step, |_| nft.add(&add)).map(|()| false)
}

/// Turns NAT for one subnet of an owner off; forwarding too if nothing of the owner is left. Idempotent: false if it was
/// not on.
///
/// # Errors
/// The kernel's.
pub fn off(owner: &str, subnet: Subnet, lease_dir: &std::path::Path, ctx: &Ctx<'_>) -> Result<bool> {
    let mut store = Store::lock(lease_dir).map_err(|e| e.in_stage(STAGE))?;
    let nft = Nft::here()?;
    let tag = name::tag(owner);
    let mut wanted = rules::forward(&tag, subnet, false);
    wanted.push(rules::masquerade(&tag, subnet));
    let known = store.host.subnets.len();
    store.host.subnets.retain(|s| s.owner != owner || s.subnet != subnet);
    let known = known != store.host.subnets.len();
    let deleted = ctx.perform(&NetStep::DeleteRules { tag: tag.clone() }, |_| {
        nft.delete(|r| wanted.iter().any(|w| r.is(w)))
    })?;
    let left = store.forwards_for(owner)?;
    if (!left && sysctl::release(&mut store, owner)?) || known {
        store.save_host()?;
    }
    Ok(deleted > 0)
}
