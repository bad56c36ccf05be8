//! A namespace to a bridge: lease, forwarding, bridge, rules, veth pair, address and route, published ports.

mod apply;
mod network;

pub(crate) use apply::{configure, is_alive, taken};

use crate::address::{InterfaceAddress, Mac, Subnet};
use crate::publish::{self, Publish, PublishedPorts};
use crate::step::NetStep;
use crate::{DEFAULT_NETWORK, STAGE, bridge, name, sysctl};
use drydock_core::{Ctx, Error, Result};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::PathBuf;

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
    /// Link-layer address; derived from the address if not given.
    #[serde(default)]
    pub mac: Option<Mac>,
    /// IPv6 beside IPv4: a subnet of unique local addresses, unless `subnet6` says another.
    #[serde(default = "yes")]
    pub ipv6: bool,
    /// IPv6 subnet of a new network, beside an IPv4 one.
    #[serde(default)]
    pub subnet6: Option<Subnet>,
    /// IPv6 address beside an IPv4 one; the one with the same host number if not given.
    #[serde(default)]
    pub address6: Option<InterfaceAddress>,
    /// NAT of IPv6 too, and an IPv6 default route. Forwarding of IPv6 makes the host ignore router advertisements.
    #[serde(default)]
    pub nat6: bool,
    /// A network that nothing leaves, and that only published ports lead into.
    #[serde(default)]
    pub internal: bool,
    /// Frames with another sender than the interface's own addresses are dropped, router advertisements too.
    #[serde(default = "yes")]
    pub check_source: bool,
    /// It may ask the cloud's metadata server, which often gives away the machine's credentials.
    #[serde(default)]
    pub metadata: bool,
    /// Reach the host, but no neighbour on the bridge (IFLA_BRPORT_ISOLATED).
    #[serde(default)]
    pub isolated: bool,
    /// First and last address that a new network gives without being asked.
    #[serde(default)]
    pub pool: Option<(IpAddr, IpAddr)>,
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
            ipv6: true,
            subnet6: None,
            address6: None,
            nat6: false,
            internal: false,
            check_source: true,
            metadata: false,
            isolated: false,
            pool: None,
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
        self.check_internal()?;
        self.check_second(subnet)?;
        if let (Some(subnet), Some((first, last))) = (subnet, self.pool) {
            let (from, to) = (subnet.host_number(first), subnet.host_number(last));
            if from.is_none() || to.is_none() || from > to {
                return Err(Error::bad_input(
                    format!("pool {first} to {last}"),
                    format!("is not a range of host addresses in {subnet}"),
                ));
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

impl Request {
    fn check_internal(&self) -> Result<()> {
        if self.internal && (self.nat || self.nat6) {
            return Err(Error::bad_input(
                format!("network '{}'", self.network),
                "is internal: there is no NAT (allowed: one of the two)",
            ));
        }
        Ok(())
    }

    /// What is IPv6 beside IPv4 must be IPv6, and beside IPv4.
    fn check_second(&self, first: Option<Subnet>) -> Result<()> {
        let asked = self.subnet6.map(|s| (s.to_string(), s.address())).into_iter();
        let asked = asked.chain(self.address6.map(|a| (a.to_string(), a.address())));
        for (text, address) in asked {
            if address.is_ipv4() {
                return Err(Error::bad_input(
                    text,
                    "is a second IPv4 address or subnet (allowed: one of each family)",
                ));
            }
            if first.is_some_and(|s| !s.address().is_ipv4()) {
                return Err(Error::bad_input(
                    text,
                    "is a second IPv6 address or subnet (allowed: one of each family)",
                ));
            }
            if !self.ipv6 {
                return Err(Error::bad_input(
                    text,
                    "is IPv6, which was turned off (allowed: one of the two)",
                ));
            }
        }
        if let (Some(subnet), Some(address)) = (self.subnet6, self.address6)
            && (!subnet.contains(address.address()) || subnet.prefix() != address.prefix())
        {
            return Err(Error::bad_input(
                format!("address {address}"),
                format!("is not in the subnet {subnet}"),
            ));
        }
        Ok(())
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
    /// Its IPv6 address, if it has one beside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address6: Option<InterfaceAddress>,
    /// Its link-layer address.
    pub mac: Option<Mac>,
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
        if r.check_source || !r.metadata {
            steps.push(NetStep::CheckSource { link: r.host_link(), addresses: address.clone() });
        }
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
        self.run(ctx).map_err(|e| e.in_stage(STAGE))
    }
}
