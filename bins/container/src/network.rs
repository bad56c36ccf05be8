//! The network stage of a container: from its options to [`drydock_network`]'s requests.

use crate::options::{Attach, Options};
use drydock_core::{ContainerId, Ctx, Object, Result};
use drydock_network::{DEFAULT_NETWORK, InterfaceAddress, Publish, Subnet};
use drydock_network::{attach, cni, etc, names, rootless};
use serde::Serialize;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// How a container is attached to a bridge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attachment {
    /// The network's name.
    pub network: String,
    /// Its bridge.
    pub bridge: String,
    /// Its subnet; the first address is the bridge's. `None`: the network's own, or the first free one.
    pub subnet: Option<Subnet>,
    /// An address that was asked for.
    pub address: Option<InterfaceAddress>,
    /// Published ports.
    pub publish: Vec<Publish>,
    /// No default route and no NAT.
    pub internal: bool,
    /// It may ask the cloud's metadata server.
    pub metadata: bool,
    /// Interface within the container.
    pub interface: String,
    /// More networks; the default route goes over the first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub more: Vec<Attachment>,
}

impl Attachment {
    /// From the options.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] for an address or a port that cannot be.
    pub fn from_options(options: &Options) -> Result<Self> {
        let (network, bridge, subnet, internal) = match &options.attach {
            Some(other) => {
                (other.network.clone(), other.bridge.clone(), other.subnet.clone(), other.internal)
            }
            None => (DEFAULT_NETWORK.into(), DEFAULT_NETWORK.into(), None, false),
        };
        let subnet = subnet.as_deref().map(Subnet::parse).transpose()?;
        let address = match &options.ip {
            Some(text) if text.contains('/') => Some(InterfaceAddress::parse_as("--ip", text)?),
            Some(text) => Some(InterfaceAddress::parse_as(
                "--ip",
                &format!("{text}/{}", subnet.map_or(16, Subnet::prefix)),
            )?),
            None => None,
        };
        if let (Some(address), None) = (address, subnet) {
            check_in_pool(address)?;
        }
        let parsed = options.publish.iter().map(|spec| Publish::parse(spec)).collect::<Result<Vec<_>>>()?;
        let publish = parsed.into_iter().flatten().collect();
        let more = options.more_networks.iter().zip(1..).map(|((other, ip), n)| Self::another(other, ip, n));
        let mut more = more.collect::<Result<Vec<_>>>()?;
        more.iter_mut().for_each(|one| one.metadata = options.allow_metadata);
        let interface = "eth0".to_string();
        let metadata = options.allow_metadata;
        let attachment =
            Self { network, bridge, subnet, address, publish, internal, metadata, interface, more };
        // Checks addresses against the subnet and ports against each other, before anything is touched.
        for one in std::iter::once(&attachment).chain(&attachment.more) {
            one.request(&ContainerId::parse("check")?, "/proc/self/ns/net".into(), Path::new("/"))
                .validate()?;
        }
        Ok(attachment)
    }

    fn another(other: &Attach, ip: &str, number: usize) -> Result<Self> {
        Ok(Self {
            network: other.network.clone(),
            bridge: other.bridge.clone(),
            subnet: other.subnet.as_deref().map(Subnet::parse).transpose()?,
            address: Some(InterfaceAddress::parse_as("--ip", ip)?),
            publish: Vec::new(),
            internal: other.internal,
            metadata: false,
            interface: format!("eth{number}"),
            more: Vec::new(),
        })
    }

    /// Attaches the namespace of a process to every network, and writes down what it has there.
    ///
    /// # Errors
    /// The network stage's.
    pub fn attach(
        &self,
        request: &crate::request::Request,
        pid: i32,
        state_root: &Path,
        state: &mut drydock_bundle::State,
        ctx: &Ctx<'_>,
    ) -> Result<()> {
        let mut own = Vec::new();
        for one in std::iter::once(self).chain(&self.more) {
            let netns = PathBuf::from(format!("/proc/{pid}/ns/net"));
            let report = one.request(&request.id, netns, state_root).validate()?.apply(ctx)?;
            own.extend(addresses(&report));
            state.addresses.push(report.address.to_string());
            state.lacking.extend(report.warnings);
        }
        self.introduce(&request.id, &request.files, &own, state_root)
    }

    /// Writes who is there into the container's hosts file, and tells the others on its networks.
    ///
    /// # Errors
    /// When its own file cannot be written.
    fn introduce(
        &self,
        id: &ContainerId,
        files: &etc::Request,
        own: &[IpAddr],
        state_root: &Path,
    ) -> Result<()> {
        let others = names::neighbours(&lease_dir(state_root), id.as_str()).unwrap_or_default();
        files.write_hosts_among(own, &others)?;
        if !others.is_empty() {
            let all = std::iter::once(self).chain(&self.more);
            let networks: Vec<String> = all.map(|one| one.network.clone()).collect();
            tell_others(id.as_str(), &networks, state_root);
        }
        Ok(())
    }

    /// The request for a namespace that exists now.
    pub fn request(&self, id: &ContainerId, netns: PathBuf, state_root: &Path) -> attach::Request {
        attach::Request {
            network: self.network.clone(),
            bridge: self.bridge.clone(),
            subnet: self.subnet,
            address: self.address,
            interface: self.interface.clone(),
            default_route: !self.internal && self.interface == "eth0",
            nat: !self.internal,
            internal: self.internal,
            metadata: self.metadata,
            publish: self.publish.clone(),
            ..attach::Request::new(id.to_string(), netns, lease_dir(state_root))
        }
    }
}

/// An address for a network whose subnet is chosen later must lie where those subnets are taken from: the bridge must
/// not come to stand for a part of the world.
fn check_in_pool(address: InterfaceAddress) -> Result<()> {
    let pool = match address.address() {
        IpAddr::V4(v4) => matches!(v4.octets(), [10, 88..=127, ..]),
        IpAddr::V6(v6) => v6.is_unique_local(),
    };
    if pool {
        return Ok(());
    }
    let problem = format!("{} is not the bridge's to give (allowed: such as 10.88.0.5)", address.address());
    Err(drydock_core::Error::bad_input("--ip", problem))
}

/// Where leases are kept: beside the containers, under a name that no container can have.
pub fn lease_dir(state_root: &Path) -> PathBuf {
    state_root.join("@networks")
}

/// A network that other programs make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Foreign {
    /// A CNI network, by name, with published ports.
    Cni(cni::Network, Vec<Publish>),
    /// pasta or slirp4netns, with published ports.
    Rootless(rootless::Program, Vec<Publish>),
}

impl Foreign {
    /// `cni:NAME`, or `pasta`.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] for a network or program that is not there.
    pub fn from_options(mode: &str, options: &Options) -> Result<Self> {
        let parsed = options.publish.iter().map(|spec| Publish::parse(spec)).collect::<Result<Vec<_>>>()?;
        let ports: Vec<Publish> = parsed.into_iter().flatten().collect();
        drydock_network::publish::check(&ports, None)?;
        match mode.strip_prefix("cni:") {
            Some(name) => Ok(Self::Cni(cni::Network::find(name)?, ports)),
            None if mode == "slirp4netns" => Ok(Self::Rootless(rootless::Program::slirp(&ports)?, ports)),
            None => Ok(Self::Rootless(rootless::Program::installed(&ports)?, ports)),
        }
    }

    /// As it is written down.
    pub fn mode(&self) -> String {
        match self {
            Self::Cni(network, _) => format!("cni:{}", network.name),
            Self::Rootless(program, _) => program.name().into(),
        }
    }

    /// The ports that it publishes.
    pub fn ports(&self) -> &[Publish] {
        let (Self::Cni(_, ports) | Self::Rootless(_, ports)) = self;
        ports
    }

    /// Where the host's name server is asked if it cannot be reached from inside.
    pub fn resolver(&self) -> Option<IpAddr> {
        match self {
            Self::Rootless(program, _) => Some(program.resolver()),
            Self::Cni(..) => None,
        }
    }

    /// What its user should know.
    pub fn warning(&self) -> Option<String> {
        match self {
            Self::Rootless(program, ports) => program.warning(ports),
            Self::Cni(..) => None,
        }
    }

    /// Makes it for the namespace of a process; returns its addresses.
    ///
    /// # Errors
    /// The plugin's or program's own words.
    pub fn attach(
        &self,
        id: &ContainerId,
        pid: i32,
        state_root: &Path,
        ctx: &Ctx<'_>,
    ) -> Result<Vec<String>> {
        match self {
            Self::Cni(network, ports) => {
                let netns = PathBuf::from(format!("/proc/{pid}/ns/net"));
                let attachment = cni::Attachment {
                    container: id.as_str(),
                    netns: Some(&netns),
                    interface: "eth0",
                    ports,
                    place: &state_root.join(id),
                };
                Ok(cni::addresses(&network.add(attachment, ctx)?))
            }
            Self::Rootless(program, ports) => {
                let dir = state_root.join(id);
                let helper = program.start(pid, ports, &dir, ctx)?;
                if let Some(start_time) = drydock_bundle::state::start_time(helper) {
                    ctx.record(&Object::Process { pid: helper, start_time })?;
                }
                program.publish(ports, &dir)
            }
        }
    }
}

/// Takes away what a container has on the host's network.
///
/// # Errors
/// The first object that could not be removed.
pub fn detach(id: &str, objects: &[Object], state_root: &Path, ctx: &Ctx<'_>) -> Result<()> {
    let ours = |o: &&Object| {
        matches!(
            o,
            Object::Link { .. }
                | Object::Bridge { .. }
                | Object::Lease { .. }
                | Object::Nft { .. }
                | Object::Sysctl { .. }
                | Object::NetworkNamespace { .. }
                | Object::NamespaceFiles { .. }
                | Object::CniNetwork { .. }
        )
    };
    if !objects.iter().any(|o| ours(&o)) {
        return Ok(());
    }
    let networks: Vec<String> = objects
        .iter()
        .filter_map(|o| match o {
            Object::Lease { network, .. } => Some(network.clone()),
            _ => None,
        })
        .collect();
    drydock_network::remove(id, objects, &lease_dir(state_root), ctx)?;
    tell_others(id, &networks, state_root);
    Ok(())
}

/// Tells the others on these networks who is there now: their /etc/hosts. A container that cannot be told (it ends just
/// now, or has made something else of the file) does not keep this one from starting or ending.
fn tell_others(id: &str, networks: &[String], state_root: &Path) {
    let leases = lease_dir(state_root);
    let members = names::members(&leases, networks).unwrap_or_default();
    for other in members.iter().filter(|other| *other != id) {
        let Some(pid) = running(state_root, other) else { continue };
        if let Ok(neighbours) = names::neighbours(&leases, other) {
            let _ = names::write_inside(pid, &neighbours);
        }
    }
    let _ = names::refresh(&leases, networks);
}

/// The first process of a running container with a mount namespace of its own.
fn running(state_root: &Path, id: &str) -> Option<i32> {
    let state = drydock_bundle::State::read(&state_root.join(ContainerId::parse(id).ok()?)).ok()?;
    let pid = state.pid.filter(|_| state.alive())?;
    crate::ours::is_process(pid).then_some(pid)
}

/// The addresses of a report.
fn addresses(report: &attach::Report) -> Vec<IpAddr> {
    let second = report.address6.map(InterfaceAddress::address);
    std::iter::once(report.address.address()).chain(second).collect()
}
