//! Making anew what somebody else has taken away: a firewall that restarts flushes every table, a script turns forwarding
//! off. What should be there is in the lease directory; what is there is asked of the kernel.

use crate::nft::{NewRule, Nft, rules};
use crate::rtnl::Rtnl;
use crate::state::{Network, PublishedPort, Store};
use crate::step::NetStep;
use crate::{STAGE, attach, bridge, forward, guard, name, nat, publish, sysctl};
use drydock_core::{Ctx, Result};
use serde::Serialize;
use std::path::Path;

/// What was made anew.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Rules of the table.
    pub rules: usize,
    /// Ports whose senders are checked again.
    pub checks: usize,
    /// Settings under /proc/sys.
    pub settings: Vec<String>,
    /// What could not be.
    pub warnings: Vec<String>,
}

/// Makes anew what is missing. Nothing else is touched, and connections that are established go on.
///
/// # Errors
/// The kernel's; when the lease directory cannot be read.
pub fn reload(lease_dir: &Path, ctx: &Ctx<'_>) -> Result<Report> {
    run(lease_dir, ctx).map_err(|e| e.in_stage(STAGE))
}

fn run(lease_dir: &Path, ctx: &Ctx<'_>) -> Result<Report> {
    let mut report = Report::default();
    if !lease_dir.exists() {
        return Ok(report);
    }
    let mut store = Store::lock(lease_dir)?;
    report.warnings.extend(store.set_aside.clone());
    settings(&store, &mut report, ctx)?;
    let networks = store.networks()?;
    let nft = match Nft::here() {
        Ok(nft) => nft,
        Err(_) if networks.is_empty() && store.host.published.is_empty() => return Ok(report),
        Err(e) => return Err(e),
    };
    let before = nft.rules()?.len();
    let rtnl = Rtnl::here()?;
    for network in &networks {
        let parts = nat::Part::of(network, network.needs_nat(), network.nat6, false);
        nat::ensure(&mut store, &nft, "", &name::network_tag(&network.network), &parts, ctx)?;
        checks(&rtnl, &nft, network, &mut report, ctx)?;
    }
    for subnet in store.host.subnets.clone() {
        let part = nat::Part {
            subnet: subnet.subnet,
            masquerade: subnet.masquerade,
            forwarding: true,
            internal: false,
        };
        nat::ensure(&mut store, &nft, &subnet.owner, &name::tag(&subnet.owner), &[part], ctx)?;
    }
    let mut add = forward::missing(&store, &nft)?;
    let there = nft.rules()?;
    let mut published: Vec<NewRule> = Vec::new();
    for port in store.host.published.clone() {
        match rules_of(&rtnl, &networks, &port) {
            Ok(wanted) => published.extend(wanted.into_iter().filter(|w| !there.iter().any(|r| r.is(w)))),
            Err(e) => report.warnings.push(e.sentence()),
        }
    }
    add.extend(published);
    if !add.is_empty() {
        if !there.iter().any(|r| r.comment.as_deref() == Some(rules::GUARD_TAG)) {
            add.insert(0, rules::guard());
        }
        let what = format!("{} rules of published ports and allowed networks", add.len());
        ctx.perform(&NetStep::Rules { owner: "reload".into(), what }, |_| nft.add(&add))?;
    }
    report.rules = nft.rules()?.len().saturating_sub(before);
    Ok(report)
}

fn settings(store: &Store, report: &mut Report, ctx: &Ctx<'_>) -> Result<()> {
    for (path, entry) in &store.host.sysctls {
        // An interface that is gone has taken its settings along.
        let Ok(now) = sysctl::read(path) else { continue };
        if now == entry.set {
            continue;
        }
        let step = NetStep::Forwarding { path: path.into(), previous: Some(entry.previous.clone()) };
        ctx.perform(&step, |_| sysctl::write(path, &entry.set))?;
        report.settings.push(path.clone());
    }
    Ok(())
}

fn checks(rtnl: &Rtnl, nft: &Nft, network: &Network, report: &mut Report, ctx: &Ctx<'_>) -> Result<()> {
    let there = nft.checked_ports()?;
    for lease in network
        .leases
        .iter()
        .filter(|l| !there.contains(&l.link) && !(l.metadata && (l.unchecked || l.mac.is_none())))
    {
        if attach::is_alive(rtnl, lease) {
            match guard::check(Some(nft), &lease.owner, lease, ctx)? {
                None => report.checks += 1,
                Some(warning) => report.warnings.push(warning),
            }
        }
    }
    if bridge::find(rtnl, &network.bridge)?.is_none() {
        report.warnings.push(format!("the bridge of network '{}' is gone: attach again", network.network));
    }
    Ok(())
}

fn rules_of(rtnl: &Rtnl, networks: &[Network], p: &PublishedPort) -> Result<Vec<NewRule>> {
    let own =
        networks.iter().find(|n| n.leases.iter().any(|l| l.owner == p.owner && l.address == p.container));
    let tag = name::tag(&p.owner);
    let (interface, gateway, subnet) = match own {
        Some(network) => (network.bridge.clone(), network.gateway, Some(network.subnet)),
        None => publish::way_to(rtnl, p.container)?,
    };
    let target = rules::Target { container: p.container, interface: &interface, gateway, subnet };
    Ok(rules::publish(&tag, target, &p.port))
}
