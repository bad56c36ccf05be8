//! Bridges: `ip link add br0 type bridge` with an address, up; kept until its holder lets go.

use crate::address::{InterfaceAddress, Subnet};
use crate::netlink::Batch;
use crate::nft::Nft;
use crate::rtnl::{Link, NewBridge, Rtnl};
use crate::state::{Network, Store};
use crate::step::NetStep;
use crate::{STAGE, lease, name};
use drydock_core::{Ctx, Error, Object, Result};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A bridge to make.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// Who keeps it: it stays until this owner is removed, whether or not anything is attached.
    pub owner: String,
    /// Interface name; also the name of its network.
    pub bridge: String,
    /// The host's address on it, and the subnet.
    pub address: InterfaceAddress,
    /// The host's IPv6 address beside an IPv4 one; the first of a subnet of unique local addresses if not given.
    #[serde(default)]
    pub address6: Option<InterfaceAddress>,
    /// IPv6 beside IPv4.
    #[serde(default = "yes")]
    pub ipv6: bool,
    /// Nothing leaves the network, and only published ports lead into it.
    #[serde(default)]
    pub internal: bool,
    /// MTU; the default route's if not given.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// Where leases and references are kept.
    pub lease_dir: PathBuf,
}

fn yes() -> bool {
    true
}

/// A checked [`Request`].
#[derive(Clone, Debug)]
pub struct Plan {
    request: Request,
}

/// The bridge that is there now.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Name.
    pub bridge: String,
    /// The host's address.
    pub address: InterfaceAddress,
    /// The host's IPv6 address beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address6: Option<InterfaceAddress>,
    /// Nothing leaves the network.
    pub internal: bool,
    /// MTU.
    pub mtu: Option<u32>,
    /// It was there already.
    pub already: bool,
    /// Owner that keeps it.
    pub owner: String,
    /// What may keep it from working.
    pub warnings: Vec<String>,
}

impl Request {
    /// Checks everything that can be checked without the kernel.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`].
    pub fn validate(&self) -> Result<Plan> {
        name::check_owner(&self.owner)?;
        name::check_interface("bridge", &self.bridge)?;
        name::check_network(&self.bridge)?;
        check_mtu(self.mtu)?;
        if let Some(second) = self.address6
            && (second.address().is_ipv4() || !self.address.address().is_ipv4() || !self.ipv6)
        {
            let problem = "is not an IPv6 address beside an IPv4 one (allowed: one address of each family)";
            return Err(Error::bad_input(format!("address {second}"), problem));
        }
        Ok(Plan { request: self.clone() })
    }
}

/// Refuses an MTU that Ethernet-like links cannot have.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`].
pub fn check_mtu(mtu: Option<u32>) -> Result<()> {
    match mtu {
        Some(mtu) if !(576..=65535).contains(&mtu) => {
            Err(Error::bad_input("MTU", format!("{mtu} is out of range (allowed: 576 to 65535)")))
        }
        _ => Ok(()),
    }
}

impl Plan {
    /// What will be done, in order.
    pub fn steps(&self) -> Vec<NetStep> {
        let r = &self.request;
        vec![NetStep::Bridge {
            name: r.bridge.clone(),
            network: r.bridge.clone(),
            address: Some(r.address.to_string()),
        }]
    }

    /// Makes the bridge. Idempotent.
    ///
    /// # Errors
    /// The name is another kind of link, the subnet overlaps a route, or the kernel refuses.
    pub fn apply(&self, ctx: &Ctx<'_>) -> Result<Report> {
        let r = &self.request;
        let mut store = Store::lock(&r.lease_dir).map_err(|e| e.in_stage(STAGE))?;
        let rtnl = Rtnl::here()?;
        let subnet = r.address.subnet();
        let there = find(&rtnl, &r.bridge)?;
        let network = store.network(&r.bridge)?;
        if let Some(known) = &network
            && (known.subnet != subnet || known.gateway != Some(r.address.address()))
            && there.is_some()
        {
            let has = known.gateway.map_or(known.subnet.to_string(), |g| known.subnet.with(g).to_string());
            return Err(Error::failed(r.bridge.clone(), format!("has the address {has} already"))
                .hint(format!("netsetup bridge del {}", r.bridge)));
        }
        if there.is_none() {
            check_overlap(&rtnl, &mut store, subnet, &r.bridge)?;
        }
        let fresh = there.is_none();
        let known = network.filter(|_| !fresh);
        if known.as_ref().is_some_and(|n| r.internal && !n.internal) {
            return Err(Error::failed(r.bridge.clone(), "exists and is not internal")
                .hint(format!("netsetup bridge del {}", r.bridge)));
        }
        let mut network = match known {
            Some(known) => known,
            None => {
                let gateway = Some(r.address.address());
                let mut network = lease::new_network(&r.bridge, &r.bridge, subnet, gateway, fresh);
                network.internal = r.internal;
                network.subnet6 = self.subnet6(&rtnl, &mut store, &network, fresh)?;
                network
            }
        };
        let nft = Nft::here();
        let held = network.holders.contains(&r.owner);
        if !held {
            network.holders.push(r.owner.clone());
        }
        ensure(&rtnl, &store, &network, r.mtu, there.as_ref(), true, ctx)?;
        let mut warnings = store.set_aside.clone();
        warnings.extend(isolate(&mut store, nft.as_ref().ok(), &network, &r.owner, ctx)?);
        let link = find(&rtnl, &r.bridge)?;
        Ok(Report {
            bridge: r.bridge.clone(),
            address: r.address,
            address6: network.subnet6.zip(network.gateway6()).map(|(s, g)| s.with(g)),
            internal: network.internal,
            mtu: link.and_then(|l| l.mtu),
            already: held && !fresh,
            owner: r.owner.clone(),
            warnings,
        })
    }

    fn subnet6(
        &self,
        rtnl: &Rtnl,
        store: &mut Store,
        network: &Network,
        fresh: bool,
    ) -> Result<Option<Subnet>> {
        let r = &self.request;
        let Some(asked) = r.address6 else {
            return if r.ipv6 && fresh { local_subnet(rtnl, store, network) } else { Ok(None) };
        };
        let subnet = asked.subnet();
        check_overlap(rtnl, store, subnet, &r.bridge)?;
        // The containers' IPv6 addresses have their IPv4 ones' host numbers, so the host's has too.
        let right = network.subnet.host_number(r.address.address()).and_then(|n| subnet.host(n));
        if right != Some(asked.address()) {
            let allowed = right.map_or(String::new(), |a| format!(" (allowed: {})", subnet.with(a)));
            let problem = format!("does not have the host number of {}{allowed}", r.address);
            return Err(Error::bad_input(format!("address {asked}"), problem));
        }
        Ok(Some(subnet))
    }
}

/// What keeps networks apart, whether or not there is NAT. A kernel without nf_tables is a warning.
pub(crate) fn isolate(
    store: &mut Store,
    nft: Option<&Nft>,
    network: &Network,
    user: &str,
    ctx: &Ctx<'_>,
) -> Result<Vec<String>> {
    let lacks = || {
        vec![format!(
            "network '{}' is not kept apart from others: the kernel has no nf_tables",
            network.network
        )]
    };
    let Some(nft) = nft else { return Ok(lacks()) };
    let parts = crate::nat::Part::of(network, false, false, false);
    match crate::nat::ensure(store, nft, user, &name::network_tag(&network.network), &parts, ctx) {
        Ok(_) => Ok(Vec::new()),
        Err(e) if matches!(e.errno(), Some(nix::libc::EOPNOTSUPP | nix::libc::EINVAL)) => Ok(lacks()),
        Err(e) => Err(e),
    }
}

/// A /64 of unique local addresses (RFC 4193) for a network: its 40 bits follow from the machine and the network's name,
/// so that they are the same after a restart. None where IPv6 is missing or off.
pub(crate) fn local_subnet(rtnl: &Rtnl, store: &mut Store, network: &Network) -> Result<Option<Subnet>> {
    if !network.subnet.address().is_ipv4() || !crate::sysctl::has_ipv6() {
        return Ok(None);
    }
    let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    for attempt in 0..8 {
        let id = name::hash(&["ula", machine.trim(), &network.network, &attempt.to_string()]);
        let [a, b, c, d, e, ..] = id.to_be_bytes();
        let mut bytes = [0u8; 16];
        for (slot, value) in bytes.iter_mut().zip([0xfd, a, b, c, d, e]) {
            *slot = value;
        }
        let subnet = Subnet::of(std::net::IpAddr::from(bytes), 64);
        if overlap(rtnl, store, subnet, &network.bridge)?.is_none() {
            return Ok(Some(subnet));
        }
    }
    Ok(None)
}

/// The bridge of this name; an error if the name is another kind of link.
pub(crate) fn find(rtnl: &Rtnl, bridge: &str) -> Result<Option<Link>> {
    match rtnl.link(bridge)? {
        Some(link) if link.kind.as_deref() != Some("bridge") => {
            let kind = link.kind.unwrap_or_else(|| "device".into());
            Err(Error::bad_input(bridge, format!("is a {kind}, not a bridge")))
        }
        other => Ok(other),
    }
}

/// Makes the bridge with its address if it is missing, and saves the network. Returns its index and MTU. A bridge that
/// somebody else made keeps its addresses, unless `readdress` asks for ours.
pub(crate) fn ensure(
    rtnl: &Rtnl,
    store: &Store,
    network: &Network,
    mtu: Option<u32>,
    there: Option<&Link>,
    readdress: bool,
    ctx: &Ctx<'_>,
) -> Result<(u32, u32)> {
    let address = network.gateway.map(|g| network.subnet.with(g));
    let address6 = network.subnet6.zip(network.gateway6()).map(|(s, g)| s.with(g));
    let step = NetStep::Bridge {
        name: network.bridge.clone(),
        network: network.network.clone(),
        address: address.map(|a| a.to_string()),
    };
    if let Some(link) = there {
        let owned = network.made_bridge || readdress;
        // Whoever uses the bridge must find it in its own journal: it may be the last user.
        ctx.record(&Object::Bridge { name: network.bridge.clone(), network: network.network.clone() })?;
        store.save_network(network)?;
        if owned && let Some(address) = address {
            let mut batch = Batch::new();
            if !link.up {
                batch.set_up(&link.name);
            }
            batch.add_address(link.index, address);
            if let Some(address6) = address6.filter(|_| network.made_bridge) {
                batch.add_address_if_possible(link.index, address6);
            }
            rtnl.execute(&batch)?;
        }
        return Ok((link.index, link.mtu.unwrap_or(1500)));
    }
    ctx.perform(&step, |_| {
        store.save_network(network)?;
        let mtu = mtu.map_or_else(|| rtnl.default_mtu(), Ok)?;
        let mut batch = Batch::new();
        let alias = name::network_tag(&network.network);
        let mac = name::bridge_mac(&network.bridge);
        batch.new_bridge(&NewBridge { name: &network.bridge, alias: &alias, mac, mtu });
        rtnl.execute(&batch)?;
        crate::sysctl::harden_host(&network.bridge);
        let link = find(rtnl, &network.bridge)?.ok_or_else(|| gone(&network.bridge))?;
        if let Some(address) = address {
            let mut batch = Batch::new();
            batch.add_address(link.index, address);
            if let Some(address6) = address6 {
                batch.add_address_if_possible(link.index, address6);
            }
            rtnl.execute(&batch)?;
        }
        Ok((link.index, mtu))
    })
}

fn gone(bridge: &str) -> Error {
    Error::failed(bridge, "the bridge vanished while it was set up")
}

/// Refuses a subnet that a route of the host or another network of ours has.
pub(crate) fn check_overlap(rtnl: &Rtnl, store: &mut Store, subnet: Subnet, bridge: &str) -> Result<()> {
    match overlap(rtnl, store, subnet, bridge)? {
        None => Ok(()),
        Some(what) => Err(Error::bad_input(format!("subnet {subnet}"), format!("overlaps {what}"))
            .hint("choose another subnet")),
    }
}

pub(crate) fn overlap(
    rtnl: &Rtnl,
    store: &mut Store,
    subnet: Subnet,
    bridge: &str,
) -> Result<Option<String>> {
    for network in store.networks()? {
        let theirs = network.subnets().find(|s| network.bridge != bridge && s.overlaps(subnet));
        if let Some(theirs) = theirs {
            return Ok(Some(format!("network '{}' ({theirs})", network.network)));
        }
    }
    let own = rtnl.link(bridge)?.map(|l| l.index);
    for route in rtnl.routes()?.into_iter().filter(crate::rtnl::Route::is_ordinary) {
        if let Some(to) = route.destination
            && to.prefix() > 0
            && to.overlaps(subnet)
            && (route.output != own || own.is_none())
        {
            let link = route.output.map(|i| rtnl.link_by_index(i)).transpose()?.flatten();
            let via = link.map_or(String::new(), |l| format!(" on {}", l.name));
            return Ok(Some(format!("the host's route to {to}{via}")));
        }
    }
    Ok(None)
}

/// Lets a bridge go: `holder` holds it no longer (with `None`: nobody does, and what is attached loses its lease), and
/// without users it is removed with its rules. Idempotent: false if it is not there.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] for a bridge that somebody else made; the kernel's.
pub fn release(
    bridge: &str,
    holder: Option<&str>,
    lease_dir: &std::path::Path,
    ctx: &Ctx<'_>,
) -> Result<bool> {
    let there = find(&Rtnl::here()?, bridge)?;
    let foreign = || {
        Error::bad_input(bridge, "was not made by netsetup (allowed: a bridge of `netsetup bridge add`)")
            .hint(format!("ip link del {bridge}"))
    };
    let mut store = Store::lock(lease_dir).map_err(|e| e.in_stage(STAGE))?;
    let mut links: Vec<String> = Vec::new();
    let Some(mut network) = store.networks()?.into_iter().find(|n| n.bridge == bridge) else {
        return there.map_or(Ok(false), |_| Err(foreign()));
    };
    match holder {
        Some(holder) => network.holders.retain(|h| h != holder),
        None if !network.made_bridge && there.is_some() => return Err(foreign()),
        None => {
            network.holders.clear();
            links.extend(network.leases.drain(..).map(|l| l.link));
        }
    }
    if !network.unused() {
        store.save_network(&network)?;
        return Ok(true);
    }
    let tag = name::network_tag(&network.network);
    if let Ok(nft) = crate::nft::Nft::here() {
        nft.delete(|r| r.comment.as_deref() == Some(tag.as_str()))?;
        nft.uncheck(|link| links.iter().any(|l| l == link))?;
    }
    crate::detach::take_down(&store, &network, ctx)?;
    Ok(there.is_some())
}
