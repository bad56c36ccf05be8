//! The networks of a Compose file: their subnets and everybody's address, chosen before anything is made, so that each
//! container knows the others by name from its first moment.

use crate::compose::project::Project;
use crate::compose::service::{self, Service};
use crate::compose::tree::Node;
use crate::options::Attach;
use drydock_core::{Error, Result};
use drydock_network::{InterfaceAddress, Subnet, lease, name, show};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

/// A network of the file.
#[derive(Clone, Debug)]
pub struct Network {
    /// Its key in the file.
    pub key: String,
    /// Its name on the host: the project's and the key, or `name:`.
    pub name: String,
    /// No way out of it.
    pub internal: bool,
    /// A subnet that was asked for.
    pub subnet: Option<Subnet>,
    /// Its place in the file.
    pub at: String,
}

/// The subnets that are tried for a network without one; `drydock0` takes the first of the pool.
const POOL: std::ops::RangeInclusive<u8> = 89..=127;

impl Network {
    /// The one that services are on when they name none.
    pub fn default_of(project: &str, at: &str) -> Self {
        Self {
            key: "default".into(),
            name: format!("{project}_default"),
            internal: false,
            subnet: None,
            at: at.into(),
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] naming the field.
    pub fn read(key: &str, node: &Node<'_>, project: &str) -> Result<Self> {
        let mut network = Self {
            key: key.to_string(),
            name: format!("{project}_{key}"),
            internal: false,
            subnet: None,
            at: node.at.clone(),
        };
        if !service::is_name(key) {
            return Err(node
                .bad("not a network name (allowed: 1 to 63 of A-Z a-z 0-9 . _ -, a letter or digit first)"));
        }
        for (key, value) in node.entries()? {
            match key {
                "name" => network.name = value.text()?.to_string(),
                "internal" => network.internal = value.boolean()?,
                "ipam" => network.subnet = ipam(&value)?,
                key if key.starts_with("x-") => {}
                _ => return Err(value.unsupported(&["name", "internal", "ipam", "x-*"])),
            }
        }
        name::check_network(&network.name).map_err(|e| node.bad(e.sentence()))?;
        if network.name == drydock_network::DEFAULT_NETWORK {
            return Err(node.bad("that name is the default network's (allowed: network_mode: bridge for it)"));
        }
        Ok(network)
    }

    /// Its bridge's interface name, from its own by hash.
    pub fn bridge(&self) -> String {
        format!("br-{:010x}", name::hash(&["network", &self.name]) >> 24)
    }
}

fn ipam(node: &Node<'_>) -> Result<Option<Subnet>> {
    let mut subnets = Vec::new();
    for (key, value) in node.entries()? {
        if key != "config" {
            return Err(value.unsupported(&["config"]));
        }
        for item in value.items()? {
            for (key, value) in item.entries()? {
                match key {
                    "subnet" => subnets.push((
                        Subnet::parse(value.text()?).map_err(|e| value.bad(e.sentence()))?,
                        value.clone(),
                    )),
                    _ => return Err(value.unsupported(&["subnet"])),
                }
            }
        }
    }
    match subnets.as_slice() {
        [] => Ok(None),
        [(subnet, _)] => Ok(Some(*subnet)),
        [_, (_, second), ..] => Err(second.bad("a second subnet is not supported (allowed: one)")),
    }
}

/// What is taken already: other networks' subnets and the host's routes.
struct Taken {
    networks: Vec<drydock_network::state::Network>,
    routes: Vec<(Subnet, Option<String>)>,
}

impl Taken {
    fn look(lease_dir: &Path) -> Result<Self> {
        let view = show::view(None)?;
        let link =
            |index: Option<u32>| view.links.iter().find(|l| Some(l.index) == index).map(|l| l.name.clone());
        let routes = view.routes.iter().filter_map(|r| Some((r.destination?, link(r.output))));
        Ok(Self {
            networks: lease::list(lease_dir)?,
            routes: routes.filter(|(to, _)| to.prefix() > 0).collect(),
        })
    }

    /// What a subnet for this bridge overlaps.
    fn overlap(&self, subnet: Subnet, bridge: &str) -> Option<String> {
        let network = self.networks.iter().find(|n| n.bridge != bridge && n.subnet.overlaps(subnet));
        if let Some(network) = network {
            return Some(format!("network '{}' ({})", network.network, network.subnet));
        }
        let route =
            self.routes.iter().find(|(to, link)| to.overlaps(subnet) && link.as_deref() != Some(bridge));
        route.map(|(to, _)| format!("the host's route to {to}"))
    }
}

/// Gives every network its subnet, every service its address, and everybody everybody's names.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] for subnets and addresses that cannot be; [`drydock_core::Kind::Failed`] when none is free.
pub fn assign(project: &mut Project, lease_dir: &Path) -> Result<()> {
    let keys = project.services.iter().flat_map(|s| s.networks.iter().map(|joined| joined.key.clone()));
    let used: BTreeSet<String> = keys.collect();
    if used.is_empty() {
        return Ok(());
    }
    let taken = Taken::look(lease_dir)?;
    let mut chosen: Vec<Subnet> = Vec::new();
    let networks: Vec<Network> = project.networks.iter().filter(|n| used.contains(&n.key)).cloned().collect();
    // What was asked for comes first, so that nothing that is chosen stands in its way.
    let (asked, free): (Vec<Network>, Vec<Network>) = networks.into_iter().partition(|n| n.subnet.is_some());
    for network in asked.iter().chain(&free) {
        let known = taken.networks.iter().find(|n| n.network == network.name);
        let subnet = subnet(network, known, &taken, &chosen)?;
        chosen.push(subnet);
        let gateway = known.and_then(|n| n.gateway).or_else(|| subnet.host(0));
        let mut busy: BTreeSet<IpAddr> =
            known.iter().flat_map(|n| n.leases.iter().map(|l| l.address)).collect();
        busy.extend(gateway);
        addresses(&mut project.services, network, subnet, gateway, busy)?;
    }
    project.services.iter_mut().for_each(|service| choose_first(service, &project.networks));
    Ok(())
}

/// The service's networks in its own order; the first that leads out becomes eth0, which has the default route.
fn choose_first(service: &mut Service, networks: &[Network]) {
    let name = |key: &str| networks.iter().find(|n| n.key == key).map(|n| n.name.as_str());
    let order = |(attach, _): &(Attach, String)| {
        let position = service.networks.iter().position(|j| name(&j.key) == Some(attach.network.as_str()));
        (attach.internal, position)
    };
    let mut all = std::mem::take(&mut service.options.more_networks);
    all.sort_by_key(order);
    let mut all = all.into_iter();
    if let Some((attach, ip)) = all.next() {
        service.options.attach = Some(attach);
        service.options.ip = Some(ip);
    }
    service.options.more_networks = all.collect();
}

fn subnet(
    network: &Network,
    known: Option<&drydock_network::state::Network>,
    taken: &Taken,
    chosen: &[Subnet],
) -> Result<Subnet> {
    let bridge = network.bridge();
    if let Some(known) = known {
        return match network.subnet {
            Some(asked) if asked != known.subnet => Err(Error::bad_input(
                &network.at,
                format!("has the subnet {} already, not {asked}", known.subnet),
            )),
            _ => Ok(known.subnet),
        };
    }
    let overlap = |subnet: Subnet| {
        let mine = chosen
            .iter()
            .find(|other| other.overlaps(subnet))
            .map(|other| format!("another network's {other}"));
        mine.or_else(|| taken.overlap(subnet, &bridge))
    };
    if let Some(asked) = network.subnet {
        return match overlap(asked) {
            Some(what) => Err(Error::bad_input(&network.at, format!("the subnet {asked} overlaps {what}"))),
            None => Ok(asked),
        };
    }
    let mut pool = POOL.map(|second| Subnet::of(IpAddr::from([10, second, 0, 0]), 16));
    pool.find(|subnet| overlap(*subnet).is_none()).ok_or_else(|| {
        Error::failed(&network.at, "10.89.0.0/16 to 10.127.0.0/16 all overlap routes of this host")
            .hint("give a subnet")
    })
}

fn addresses(
    services: &mut [Service],
    network: &Network,
    subnet: Subnet,
    gateway: Option<IpAddr>,
    mut busy: BTreeSet<IpAddr>,
) -> Result<()> {
    let joined = |s: &Service| s.networks.iter().find(|joined| joined.key == network.key).cloned();
    let on = |s: &Service| joined(s).is_some();
    let asked = |s: &Service| joined(s).and_then(|joined| joined.address);
    for service in services.iter().filter(|s| on(s)) {
        let Some(address) = asked(service) else { continue };
        let at = format!("{}/networks/{}/ipv4_address", service.at, network.key);
        if subnet.host_number(address).is_none() {
            return Err(Error::bad_input(
                at,
                format!("{address} is not a host's address in the subnet {subnet}"),
            ));
        }
        if !busy.insert(address) {
            return Err(Error::bad_input(at, format!("{address} is taken")));
        }
    }
    let mut next = 1;
    let mut names: Vec<(String, IpAddr)> = Vec::new();
    for service in services.iter_mut().filter(|s| on(s)) {
        let address = match asked(service) {
            Some(address) => address,
            None => loop {
                let full =
                    || Error::failed(&network.at, format!("the subnet {subnet} has too few addresses"));
                let address = subnet.host(next).filter(|_| next < subnet.hosts()).ok_or_else(full)?;
                next += 1;
                if busy.insert(address) {
                    break address;
                }
            },
        };
        let aliases = joined(service).map(|joined| joined.aliases).unwrap_or_default();
        for name in [service.name.clone(), service.id.to_string()].into_iter().chain(aliases) {
            if !names.contains(&(name.clone(), address)) {
                names.push((name, address));
            }
        }
        let attach = Attach {
            network: network.name.clone(),
            bridge: network.bridge(),
            subnet: Some(subnet.to_string()),
            internal: network.internal,
        };
        let ip = InterfaceAddress::of(address, subnet.prefix()).to_string();
        service.options.more_networks.push((attach, ip));
    }
    for service in services.iter_mut().filter(|s| on(s)) {
        service.options.net = Some("bridge".into());
        // A container's own host name is written by the network stage.
        let own = service.options.inside.hostname.clone();
        let others =
            names.iter().filter(|(name, _)| Some(name) != own.as_ref() && *name != *service.id.as_str());
        service.options.add_host.extend(others.map(|(name, address)| format!("{name}:{address}")));
        let gateways = service.gateway_names.iter().zip(gateway.into_iter().cycle());
        let lines: Vec<String> = gateways.map(|(name, address)| format!("{name}:{address}")).collect();
        service.options.add_host.extend(lines);
    }
    Ok(())
}
