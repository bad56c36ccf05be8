//! Published ports: `[HOST:]PORT:CONTAINER_PORT[/tcp|udp|sctp]`, ranges too. Without a host address only 127.0.0.1 answers.

mod spec;

pub use spec::{Publish, Transport, check};

use crate::address::Subnet;
use crate::nft::{Nft, Packet, rules};
use crate::rtnl::Rtnl;
use crate::state::{PublishedPort, Store};
use crate::step::NetStep;
use crate::{STAGE, name, sysctl};
use drydock_core::{Ctx, Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

/// Refuses ports that another owner has published, or a process of the host listens on. Binding is the kernel's own
/// answer: it is tried and given back at once.
pub(crate) fn check_free(owner: &str, ports: &[Publish], taken: &[PublishedPort]) -> Result<()> {
    for p in ports {
        if let Some(other) = taken.iter().find(|t| t.owner != owner && t.port.collides(p)) {
            let at = format!("{}:{}/{}", p.host, p.host_port, p.transport.name());
            return Err(Error::failed(at, format!("already published by '{}'", other.owner))
                .hint("choose another host port, or stop the other one"));
        }
        let address = std::net::SocketAddr::new(p.host, p.host_port);
        let tried = match p.transport {
            Transport::Tcp => std::net::TcpListener::bind(address).map(drop),
            Transport::Udp => std::net::UdpSocket::bind(address).map(drop),
            // Few kernels have SCTP sockets; the rules need none.
            Transport::Sctp => std::net::UdpSocket::bind((p.host, 0)).map(drop),
        };
        match tried.as_ref().map_err(std::io::Error::raw_os_error) {
            Err(Some(nix::libc::EADDRINUSE)) => {
                let at = format!("{}:{}/{}", p.host, p.host_port, p.transport.name());
                let who = crate::show::listener(p.transport, p.host_port)
                    .map_or(String::new(), |(pid, comm)| format!(" by pid {pid} ({comm})"));
                return Err(Error::failed(at, format!("in use{who}")).hint("choose another host port"));
            }
            // A loopback that is down has no addresses yet.
            Err(Some(nix::libc::EADDRNOTAVAIL)) if !p.host.is_loopback() => {
                return Err(Error::bad_input(
                    format!("publish '{p}'"),
                    format!(
                        "{} is not an address of this host (allowed: 127.0.0.1, 0.0.0.0 or one of its own)",
                        p.host
                    ),
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// What to publish, for an address that is reachable already.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// Whose it is: container id or namespace name.
    pub owner: String,
    /// The container's address.
    pub container: IpAddr,
    /// The ports.
    pub publish: Vec<Publish>,
    /// Where leases and references are kept.
    pub lease_dir: PathBuf,
}

/// A checked [`Request`].
#[derive(Clone, Debug)]
pub struct Plan {
    request: Request,
}

/// What is published.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whose.
    pub owner: String,
    /// The container's address.
    pub container: IpAddr,
    /// Interface of the host through which it is reached.
    pub interface: String,
    /// The ports.
    pub publish: Vec<Publish>,
    /// Nothing had to be done.
    pub already: bool,
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
        crate::address::check_unicast("container address", self.container, &self.container.to_string())?;
        check(&self.publish, Some(self.container))?;
        Ok(Plan { request: self.clone() })
    }
}

impl Plan {
    /// What will be done, in order.
    pub fn steps(&self) -> Vec<NetStep> {
        let r = &self.request;
        let mut steps = vec![NetStep::Forwarding { path: sysctl::IP_FORWARD.into(), previous: None }];
        steps.push(NetStep::Rules { owner: r.owner.clone(), what: PublishedPorts(&r.publish).to_string() });
        steps
    }

    /// Publishes. Idempotent.
    ///
    /// # Errors
    /// The port is taken, the address is not reachable through a local interface, or the kernel refuses.
    pub fn apply(&self, ctx: &Ctx<'_>) -> Result<Report> {
        let r = &self.request;
        let mut store = Store::lock(&r.lease_dir).map_err(|e| e.in_stage(STAGE))?;
        let rtnl = Rtnl::here()?;
        let (interface, gateway, subnet) = way_to(&rtnl, r.container)?;
        let wanted = |p: &Publish| PublishedPort { owner: r.owner.clone(), container: r.container, port: *p };
        let new: Vec<Publish> =
            r.publish.iter().copied().filter(|p| !store.host.published.contains(&wanted(p))).collect();
        let nft = Nft::here()?;
        let tag = name::tag(&r.owner);
        let rules_there = nft.rules()?.iter().any(|rule| rule.comment.as_deref() == Some(tag.as_str()));
        let already = new.is_empty() && rules_there;
        let near = subnet.unwrap_or(Subnet::of(r.container, crate::address::width(r.container)));
        let warnings = forward_warnings(&nft, Some(&interface), &[near]);
        if !already {
            check_free(&r.owner, &new, &store.host.published)?;
            sysctl::enable_forwarding(&mut store, &r.owner, r.container, ctx)?;
            if r.publish.iter().any(|p| p.host.is_ipv4() && (p.host.is_loopback() || p.host.is_unspecified()))
            {
                sysctl::enable_route_localnet(&mut store, &r.owner, &interface, ctx)?;
            }
            let todo = if rules_there { &new } else { &r.publish };
            store.host.published.extend(new.iter().map(wanted));
            let target = rules::Target { container: r.container, interface: &interface, gateway, subnet };
            let leases = store.networks()?.into_iter().flat_map(|n| n.leases);
            if let Some(lease) = leases.into_iter().find(|l| l.address == r.container && l.owner == r.owner) {
                allow_hairpin(&rtnl, &lease.link)?;
            }
            add_rules(&mut store, &nft, &r.owner, target, todo, Vec::new(), ctx)?;
        }
        Ok(Report {
            owner: r.owner.clone(),
            container: r.container,
            interface,
            publish: r.publish.clone(),
            already,
            warnings,
        })
    }
}

/// Ports as a step shows them.
pub(crate) struct PublishedPorts<'a>(pub(crate) &'a [Publish]);

impl fmt::Display for PublishedPorts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("publish")?;
        self.0.iter().try_for_each(|p| write!(f, " {p}"))
    }
}

/// Adds the rules of published ports (and `more` besides) in one batch, with the guard if it is missing.
pub(crate) fn add_rules(
    store: &mut Store,
    nft: &Nft,
    owner: &str,
    target: rules::Target<'_>,
    ports: &[Publish],
    more: Vec<crate::nft::NewRule>,
    ctx: &Ctx<'_>,
) -> Result<()> {
    let mut list = more;
    let tag = name::tag(owner);
    for p in ports {
        list.extend(rules::publish(&tag, target, p));
    }
    if list.is_empty() {
        return Ok(());
    }
    let guarded = nft.rules()?.iter().any(|r| r.comment.as_deref() == Some(rules::GUARD_TAG));
    if !guarded {
        list.insert(0, rules::guard());
    }
    let what = list.iter().map(|r| format!("{}: {}", r.chain.name(), crate::nft::text::rule(&r.expressions)));
    let what = what.collect::<Vec<_>>().join("; ").replace(" counter packets 0 bytes 0", "");
    ctx.perform(&NetStep::Rules { owner: owner.to_string(), what }, |_| {
        store.save_host()?;
        nft.add(&list)
    })
}

/// The interface of the host that leads to a container, the host's address there, and the subnet.
pub(crate) fn way_to(rtnl: &Rtnl, container: IpAddr) -> Result<(String, Option<IpAddr>, Option<Subnet>)> {
    let unreachable = || {
        Error::failed(container.to_string(), "no interface of this host leads there")
            .hint("attach the namespace first: netsetup attach NS --bridge BRIDGE --addr ADDRESS/PREFIX")
    };
    let route = rtnl.route_to(container).ok().flatten().ok_or_else(unreachable)?;
    let index = route.output.filter(|_| route.gateway.is_none()).ok_or_else(unreachable)?;
    let link = rtnl.link_by_index(index)?.ok_or_else(unreachable)?;
    if link.name == "lo" {
        return Err(Error::bad_input(container.to_string(), "is an address of this host itself"));
    }
    let near =
        rtnl.addresses()?.into_iter().find(|a| a.index == index && a.address.subnet().contains(container));
    Ok((link.name, near.as_ref().map(|a| a.address.address()), near.map(|a| a.address.subnet())))
}

/// Lets a container reach its own published ports. A link that is gone or no port is well: then nobody asks.
pub(crate) fn allow_hairpin(rtnl: &Rtnl, link: &str) -> Result<()> {
    if rtnl.link(link)?.is_none_or(|l| l.port_state.is_none()) {
        return Ok(());
    }
    let mut batch = crate::netlink::Batch::new();
    batch.set_hairpin(link);
    rtnl.execute(&batch)
}

/// What other tables do to forwarded packets of these subnets.
pub(crate) fn forward_warnings(nft: &Nft, input: Option<&str>, subnets: &[Subnet]) -> Vec<String> {
    let packets: Vec<Packet<'_>> = subnets.iter().map(|source| Packet { source: *source, input }).collect();
    let Ok(found) = nft.foreign_drops(&packets) else { return Vec::new() };
    let warn = |what: String| {
        format!("drops forwarded packets: {what}; that wins over our accept: allow the subnet there")
    };
    found.into_iter().map(warn).collect()
}

/// Takes some ports of an owner back, and their rules; the rest stays.
///
/// # Errors
/// The kernel's.
pub fn withdraw(
    owner: &str,
    container: IpAddr,
    ports: &[Publish],
    lease_dir: &std::path::Path,
    ctx: &Ctx<'_>,
) -> Result<()> {
    let mut store = Store::lock(lease_dir).map_err(|e| e.in_stage(STAGE))?;
    let of = |p: &PublishedPort| p.owner == owner && p.container == container && ports.contains(&p.port);
    store.host.published.retain(|p| !of(p));
    let tag = name::tag(owner);
    ctx.perform(&NetStep::DeleteRules { tag: tag.clone() }, |_| {
        Nft::here()?.delete(|r| {
            r.comment.as_deref() == Some(tag.as_str())
                && r.mentions(container)
                && ports.iter().any(|p| r.has_port(p.host_port) || r.has_port(p.container_port))
        })
    })?;
    if !store.forwards_for(owner)? {
        sysctl::release(&mut store, owner)?;
    }
    store.save_host()
}
