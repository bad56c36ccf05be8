//! A namespace to a bridge: lease, forwarding, bridge, rules, veth pair, address and route, published ports.

use crate::address::{InterfaceAddress, Mac, Subnet};
use crate::netlink::{Batch, Protocol};
use crate::nft::{Nft, rules};
use crate::publish::{self, Publish, PublishedPorts};
use crate::rtnl::{Link, NewVeth, Rtnl, VethPeer};
use crate::state::{Network, Store};
use crate::step::NetStep;
use crate::{DEFAULT_NETWORK, STAGE, bridge, lease, name, nat, netns, sysctl};
use drydock_core::{Ctx, Error, Result};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// Subnets that are tried, in this order, for a network without one: the first that overlaps nothing.
const POOL: std::ops::RangeInclusive<u8> = 88..=127;

/// What to attach to what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Whose it is: container id or namespace name.
    pub owner: String,
    /// The namespace: `/run/netns/NAME` or `/proc/PID/ns/net`.
    pub netns: PathBuf,
    /// Network name.
    #[serde(default = "default_network")]
    pub network: String,
    /// Bridge name. Made if it is missing (see `create_bridge`).
    #[serde(default = "default_network")]
    pub bridge: String,
    /// Subnet; if not given, the network's own, else that of `address`, else the first free of 10.88.0.0/16 to 10.127.0.0/16.
    #[serde(default)]
    pub subnet: Option<Subnet>,
    /// The bridge's address and the default route; if not given, the network's own, else the subnet's first.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
    /// Address; the next free one if not given.
    #[serde(default)]
    pub address: Option<InterfaceAddress>,
    /// Interface name within the namespace.
    #[serde(default = "default_interface")]
    pub interface: String,
    /// Set a default route by the gateway.
    #[serde(default = "yes")]
    pub default_route: bool,
    /// Masquerade what leaves the subnet, and turn forwarding on.
    #[serde(default)]
    pub nat: bool,
    /// MTU; the bridge's if not given (which is the default route's when we make it).
    #[serde(default)]
    pub mtu: Option<u32>,
    /// Link-layer address; the kernel's choice if not given.
    #[serde(default)]
    pub mac: Option<Mac>,
    /// Published ports.
    #[serde(default)]
    pub publish: Vec<Publish>,
    /// Make the bridge if it is missing.
    #[serde(default = "yes")]
    pub create_bridge: bool,
    /// Where leases and references are kept: `<state root>/@networks` ([`crate::state::LEASE_DIR`]).
    pub lease_dir: PathBuf,
}

fn default_network() -> String {
    DEFAULT_NETWORK.into()
}

fn default_interface() -> String {
    "eth0".into()
}

fn yes() -> bool {
    true
}

impl Request {
    /// The default: network and bridge `drydock0`, `eth0`, next free address, default route, no NAT, nothing published.
    pub fn new(owner: impl Into<String>, netns: impl Into<PathBuf>, lease_dir: impl Into<PathBuf>) -> Self {
        Self {
            owner: owner.into(),
            netns: netns.into(),
            network: default_network(),
            bridge: default_network(),
            subnet: None,
            gateway: None,
            address: None,
            interface: default_interface(),
            default_route: true,
            nat: false,
            mtu: None,
            mac: None,
            publish: Vec::new(),
            create_bridge: true,
            lease_dir: lease_dir.into(),
        }
    }

    /// Name of the host end of the veth pair.
    pub fn host_link(&self) -> String {
        name::host_link(&self.owner, &self.netns, &self.interface)
    }

    /// Checks everything that can be checked without the kernel.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`].
    pub fn validate(&self) -> Result<Plan> {
        name::check_owner(&self.owner)?;
        name::check_network(&self.network)?;
        name::check_interface("bridge", &self.bridge)?;
        name::check_interface("interface", &self.interface)?;
        bridge::check_mtu(self.mtu)?;
        publish::check(&self.publish, self.address.map(InterfaceAddress::address))?;
        let subnet = self.subnet.or(self.address.map(InterfaceAddress::subnet));
        if let (Some(subnet), Some(address)) = (subnet, self.address)
            && (!subnet.contains(address.address()) || subnet.prefix() != address.prefix())
        {
            return Err(Error::bad_input(
                format!("address {address}"),
                format!("is not in the subnet {subnet}"),
            ));
        }
        if let (Some(subnet), Some(gateway)) = (subnet, self.gateway) {
            if subnet.host_number(gateway).is_none() {
                return Err(Error::bad_input(
                    format!("gateway {gateway}"),
                    format!("is outside the subnet {subnet} (allowed: a host address in it)"),
                ));
            }
            if self.address.is_some_and(|a| a.address() == gateway) {
                return Err(Error::bad_input(format!("gateway {gateway}"), "is the container's own address"));
            }
        }
        let first = subnet.and_then(|s| s.host(0));
        if self.gateway.is_none()
            && self.address.is_some_and(|a| Some(a.address()) == first)
            && self.default_route
        {
            let address = self.address.map_or(String::new(), |a| a.address().to_string());
            return Err(Error::bad_input(
                format!("address {address}"),
                "is the gateway, the first address of its subnet (allowed: another address, or another --gateway)",
            ));
        }
        Ok(Plan { request: self.clone() })
    }
}

/// A checked [`Request`].
#[derive(Clone, Debug)]
pub struct Plan {
    request: Request,
}

/// What is attached now.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Whose it is.
    pub owner: String,
    /// Host end of the veth pair.
    pub host_link: String,
    /// Interface within the namespace.
    pub interface: String,
    /// Its address.
    pub address: InterfaceAddress,
    /// The gateway.
    pub gateway: Option<IpAddr>,
    /// Network.
    pub network: String,
    /// Bridge.
    pub bridge: String,
    /// MTU.
    pub mtu: u32,
    /// Masquerade is on.
    pub nat: bool,
    /// Published ports.
    pub publish: Vec<Publish>,
    /// It was attached already; nothing was done.
    pub already: bool,
    /// What may keep it from working.
    pub warnings: Vec<String>,
}

impl Plan {
    /// What was asked.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// What will be done, in order. What only the kernel or the leases can tell is shown as such.
    pub fn steps(&self) -> Vec<NetStep> {
        let r = &self.request;
        let subnet = r.subnet.or(r.address.map(InterfaceAddress::subnet));
        let gateway = r.gateway.or(subnet.and_then(|s| s.host(0)));
        let address = r.address.map_or("next free address".to_string(), |a| a.to_string());
        let mut steps = vec![NetStep::Lease {
            network: r.network.clone(),
            owner: r.owner.clone(),
            address: address.clone(),
        }];
        steps.push(NetStep::Bridge {
            name: r.bridge.clone(),
            network: r.network.clone(),
            address: Some(gateway.map_or("the network's gateway".into(), |g| g.to_string())),
        });
        if r.nat || !r.publish.is_empty() {
            steps.push(NetStep::Forwarding { path: sysctl::IP_FORWARD.into(), previous: None });
            let what =
                if r.nat { "masquerade what leaves the subnet, forward its packets" } else { "forward" };
            steps.push(NetStep::Rules { owner: r.owner.clone(), what: what.into() });
        }
        steps.push(self.veth_step(None));
        steps.push(NetStep::Configure {
            interface: r.interface.clone(),
            address,
            gateway: r.default_route.then(|| gateway.map_or("the gateway".into(), |g| g.to_string())),
        });
        if !r.publish.is_empty() {
            steps.push(NetStep::Rules {
                owner: r.owner.clone(),
                what: PublishedPorts(&r.publish).to_string(),
            });
        }
        steps
    }

    fn veth_step(&self, mtu: Option<u32>) -> NetStep {
        let r = &self.request;
        NetStep::Veth {
            name: r.host_link(),
            alias: name::alias(&r.owner),
            peer: r.interface.clone(),
            netns: r.netns.clone(),
            bridge: Some(r.bridge.clone()),
            mtu: mtu.or(r.mtu),
        }
    }

    /// Attaches. Attaching what is attached already does nothing and says so in the report.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] before anything was touched; else the kernel's. After an error the caller removes
    /// what its journal has ([`crate::remove`]).
    pub fn apply(&self, ctx: &Ctx<'_>) -> Result<Report> {
        self.apply_reclaiming(ctx, &|_| true)
    }

    /// [`Plan::apply`]; when the pool is exhausted, leases of owners that are not `alive` are taken over.
    ///
    /// # Errors
    /// As there.
    pub fn apply_reclaiming(&self, ctx: &Ctx<'_>, alive: lease::Alive<'_>) -> Result<Report> {
        self.run(ctx, alive).map_err(|e| e.in_stage(STAGE))
    }

    fn run(&self, ctx: &Ctx<'_>, alive: lease::Alive<'_>) -> Result<Report> {
        let r = &self.request;
        let target = netns::open_other(&r.netns)?;
        let rtnl = Rtnl::here()?;
        let mut store = Store::lock(&r.lease_dir)?;
        let there = bridge::find(&rtnl, &r.bridge)?;
        if there.is_none() && !r.create_bridge {
            return Err(Error::bad_input(r.bridge.clone(), "no such bridge")
                .hint(format!("netsetup bridge add {} --addr ADDRESS/PREFIX", r.bridge)));
        }
        let mut network = self.network(&rtnl, &mut store, there.as_ref())?;
        let link = rtnl.link(&r.host_link())?;
        if let Some(link) = &link {
            return self.attached(&rtnl, &network, link, target.as_fd());
        }
        // Before the first effect: what can be refused is refused now.
        let nft = if r.nat || !r.publish.is_empty() { Some(Nft::here()?) } else { None };
        publish::check_free(&r.owner, &r.publish, &store.host.published)?;
        let address = {
            let holder = lease::Holder {
                owner: &r.owner,
                link: &r.host_link(),
                interface: &r.interface,
                nat: nft.is_some(),
            };
            lease::take(&mut network, holder, r.address.map(InterfaceAddress::address), alive)?
        };
        let address = network.subnet.with(address);
        publish::check(&r.publish, Some(address.address()))?;
        let step = NetStep::Lease {
            network: network.network.clone(),
            owner: r.owner.clone(),
            address: address.to_string(),
        };
        ctx.perform(&step, |_| store.save_network(&network))?;
        let (index, bridge_mtu) = bridge::ensure(&rtnl, &store, &network, r.mtu, there.as_ref(), false, ctx)?;
        let mut warnings = store.set_aside.clone();
        if let Some(nft) = &nft {
            let tag = name::network_tag(&network.network);
            nat::ensure(&mut store, nft, &r.owner, &tag, network.subnet, r.nat, ctx)?;
            warnings.extend(publish::forward_warnings(nft));
        }
        let mtu = r.mtu.unwrap_or(bridge_mtu);
        self.cable(&rtnl, target.as_fd(), index, mtu, ctx)?;
        let gateway = network.gateway.filter(|g| g.is_ipv4() == address.address().is_ipv4());
        self.configure(target.as_fd(), address, gateway, ctx)?;
        if let Some(nft) = &nft {
            self.publish(&mut store, nft, &network, address, ctx)?;
        }
        Ok(self.report(&network, address, mtu, false, warnings))
    }

    fn report(
        &self,
        network: &Network,
        address: InterfaceAddress,
        mtu: u32,
        already: bool,
        warnings: Vec<String>,
    ) -> Report {
        let r = &self.request;
        Report {
            owner: r.owner.clone(),
            host_link: r.host_link(),
            interface: r.interface.clone(),
            address,
            gateway: network.gateway,
            network: network.network.clone(),
            bridge: network.bridge.clone(),
            mtu,
            nat: r.nat,
            publish: r.publish.clone(),
            already,
            warnings,
        }
    }

    /// The network as it is known, or a new one from what was asked and what the bridge has.
    fn network(&self, rtnl: &Rtnl, store: &mut Store, there: Option<&Link>) -> Result<Network> {
        let r = &self.request;
        let asked = r.subnet.or(r.address.map(InterfaceAddress::subnet));
        if let Some(mut known) = store.network(&r.network)? {
            // The bridge went away beneath us (or its leases are of another boot): it will be ours again.
            known.made_bridge |= there.is_none();
            self.check_known(&known, asked)?;
            return Ok(known);
        }
        let on_bridge = match there {
            Some(link) => {
                let all = rtnl.addresses()?.into_iter();
                all.filter(|a| a.index == link.index && a.scope == 0).map(|a| a.address).collect()
            }
            None => Vec::new(),
        };
        let fits = |a: &&InterfaceAddress| asked.is_none_or(|s| s.contains(a.address()));
        let found = on_bridge.iter().find(fits);
        let subnet = match (asked, found) {
            (Some(subnet), _) => subnet,
            (None, Some(found)) => found.subnet(),
            (None, None) => self.free_subnet(rtnl, store)?,
        };
        if there.is_none() {
            bridge::check_overlap(rtnl, store, subnet, &r.bridge)?;
        }
        let gateway = r.gateway.or(found.map(|f| f.address())).or_else(|| subnet.host(0));
        if r.address.is_some_and(|a| Some(a.address()) == gateway) {
            let address = gateway.map_or(String::new(), |g| g.to_string());
            return Err(Error::bad_input(
                format!("address {address}"),
                format!("is the address of {}", r.bridge),
            ));
        }
        Ok(lease::new_network(&r.network, &r.bridge, subnet, gateway, there.is_none()))
    }

    fn check_known(&self, known: &Network, asked: Option<Subnet>) -> Result<()> {
        let r = &self.request;
        if known.bridge != r.bridge {
            let problem = format!("is on bridge '{}', not '{}'", known.bridge, r.bridge);
            return Err(Error::bad_input(format!("network '{}'", r.network), problem));
        }
        if let Some(asked) = asked.filter(|a| *a != known.subnet) {
            let problem = format!("has the subnet {}, not {asked}", known.subnet);
            return Err(Error::bad_input(format!("network '{}'", r.network), problem));
        }
        match r.gateway {
            Some(gateway) if known.gateway != Some(gateway) => {
                let has = known.gateway.map_or("no gateway".into(), |g| format!("the gateway {g}"));
                Err(Error::bad_input(format!("network '{}'", r.network), format!("has {has}, not {gateway}")))
            }
            _ => Ok(()),
        }
    }

    fn free_subnet(&self, rtnl: &Rtnl, store: &mut Store) -> Result<Subnet> {
        for second in POOL {
            let subnet = Subnet::of(IpAddr::from([10, second, 0, 0]), 16);
            if bridge::overlap(rtnl, store, subnet, &self.request.bridge)?.is_none() {
                return Ok(subnet);
            }
        }
        Err(Error::failed("subnet", "10.88.0.0/16 to 10.127.0.0/16 all overlap routes of this host")
            .hint("give a subnet"))
    }

    /// The host end exists: attached already, if it is the same owner's.
    fn attached(
        &self,
        rtnl: &Rtnl,
        network: &Network,
        link: &Link,
        target: BorrowedFd<'_>,
    ) -> Result<Report> {
        let r = &self.request;
        if link.alias.as_deref().is_some_and(|a| a != name::alias(&r.owner)) {
            let alias = link.alias.clone().unwrap_or_default();
            return Err(Error::failed(link.name.clone(), format!("the name is taken by '{alias}'")));
        }
        let inside = Rtnl::over(netns::socket(target, Protocol::Route)?);
        let there =
            inside.link(&r.interface)?.filter(|l| l.peer == Some(link.index) || Some(l.index) == link.peer);
        let Some(there) = there else {
            return Err(Error::failed(
                r.owner.clone(),
                format!("its {} is in another namespace", r.interface),
            )
            .hint(format!("netsetup undo --owner {}", r.owner)));
        };
        let address = inside.addresses()?.into_iter().find(|a| a.index == there.index && a.scope == 0);
        let asked = r.address;
        let _ = rtnl;
        match (address.map(|a| a.address), asked) {
            (Some(has), Some(asked)) if has != asked => {
                Err(Error::failed(r.owner.clone(), format!("is attached already, with {has}"))
                    .hint("detach it first: netsetup detach NS"))
            }
            (Some(has), _) => Ok(self.report(network, has, there.mtu.unwrap_or(1500), true, Vec::new())),
            (None, _) => {
                Err(Error::failed(r.owner.clone(), format!("{} has no address: half set up", r.interface))
                    .hint(format!("netsetup undo --owner {}, then attach again", r.owner)))
            }
        }
    }

    fn cable(&self, rtnl: &Rtnl, target: BorrowedFd<'_>, master: u32, mtu: u32, ctx: &Ctx<'_>) -> Result<()> {
        let r = &self.request;
        let (host, alias) = (r.host_link(), name::alias(&r.owner));
        ctx.perform(&self.veth_step(Some(mtu)), |_| {
            let peer = VethPeer { name: &r.interface, namespace: target, mac: r.mac };
            let mut batch = Batch::new();
            batch.new_veth(&NewVeth { name: &host, alias: &alias, master: Some(master), mtu, peer });
            rtnl.execute(&batch).map_err(|e| taken(e, &r.interface, &r.netns))
        })
    }

    fn configure(
        &self,
        target: BorrowedFd<'_>,
        address: InterfaceAddress,
        gateway: Option<IpAddr>,
        ctx: &Ctx<'_>,
    ) -> Result<()> {
        let r = &self.request;
        let gateway = gateway.filter(|_| r.default_route);
        let step = NetStep::Configure {
            interface: r.interface.clone(),
            address: address.to_string(),
            gateway: gateway.map(|g| g.to_string()),
        };
        ctx.perform(&step, |_| configure(target, &r.interface, address, gateway, &[]))
    }

    fn publish(
        &self,
        store: &mut Store,
        nft: &Nft,
        network: &Network,
        address: InterfaceAddress,
        ctx: &Ctx<'_>,
    ) -> Result<()> {
        let r = &self.request;
        if r.publish.is_empty() {
            return Ok(());
        }
        if r.publish.iter().any(|p| p.host.is_loopback()) {
            sysctl::enable_route_localnet(store, &r.owner, &r.bridge, ctx)?;
        }
        let container = address.address();
        let entry = |p: &Publish| crate::state::PublishedPort { owner: r.owner.clone(), container, port: *p };
        store.host.published.extend(r.publish.iter().map(entry));
        let target = rules::Target {
            container,
            interface: &r.bridge,
            gateway: network.gateway,
            subnet: Some(network.subnet),
        };
        publish::add_rules(store, nft, &r.owner, target, &r.publish, Vec::new(), ctx)
    }
}

/// EEXIST of a veth pair is about the name in the namespace: the host's was looked for before.
pub(crate) fn taken(error: Error, interface: &str, netns: &Path) -> Error {
    match error.errno() {
        Some(nix::libc::EEXIST) => error
            .on(netns.display().to_string())
            .because(format!("an interface '{interface}' exists there already"))
            .hint("give another --interface NAME"),
        _ => error,
    }
}

/// Within a namespace: loopback and interface up, no router advertisements, the address, the default route (errors in `allow` mean
/// that another one may stay).
pub(crate) fn configure(
    target: BorrowedFd<'_>,
    interface: &str,
    address: InterfaceAddress,
    gateway: Option<IpAddr>,
    allow: &'static [i32],
) -> Result<()> {
    let socket = netns::within(target, || {
        sysctl::harden(interface);
        crate::netlink::Socket::here(Protocol::Route)
    })?;
    let inside = Rtnl::over(socket);
    let vanished = || Error::failed(interface, "the interface vanished while it was set up");
    let link = inside.link(interface)?.ok_or_else(vanished)?;
    let mut batch = Batch::new();
    batch.set_up("lo");
    batch.set_up(interface);
    batch.add_address(link.index, address);
    if let Some(gateway) = gateway {
        batch.add_route(None, gateway, link.index, allow);
    }
    inside.execute(&batch).map_err(|e| match (e.errno(), e.failed_call()) {
        (Some(nix::libc::EEXIST), Some(call)) if call.contains("ROUTE") => {
            e.hint("the namespace has a default route already: give --no-default-route")
        }
        (Some(nix::libc::EACCES | nix::libc::EOPNOTSUPP), _) if address.address().is_ipv6() => {
            e.hint("IPv6 is off in the namespace: net.ipv6.conf.all.disable_ipv6")
        }
        _ => e,
    })
}
