//! A namespace to a bridge: lease, forwarding, bridge, rules, veth pair, address and route, published ports.

mod apply;
mod network;

pub(crate) use apply::{configure, taken};

use crate::address::{InterfaceAddress, Mac, Subnet};
use crate::publish::{self, Publish, PublishedPorts};
use crate::step::NetStep;
use crate::{DEFAULT_NETWORK, STAGE, bridge, lease, name, sysctl};
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
}
