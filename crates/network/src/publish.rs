//! Published ports: `[HOST:]PORT:CONTAINER_PORT[/tcp|udp]`, ranges too. Without a host address only 127.0.0.1 answers.

use crate::address::Subnet;
use crate::nft::{Nft, rules};
use crate::rtnl::Rtnl;
use crate::state::{PublishedPort, Store};
use crate::step::NetStep;
use crate::{STAGE, name, sysctl};
use drydock_core::{Ctx, Error, Result, text};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

/// Transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// IP protocol number.
    pub fn number(self) -> u8 {
        match self {
            Transport::Tcp => 6,
            Transport::Udp => 17,
        }
    }

    /// `tcp` or `udp`.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        }
    }
}

/// One published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Publish {
    /// Address of the host that answers: 127.0.0.1 (default), another of its own, or 0.0.0.0 for all.
    pub host: IpAddr,
    /// Port on the host.
    pub host_port: u16,
    /// Port in the container.
    pub container_port: u16,
    /// Transport protocol.
    pub transport: Transport,
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = if self.host.is_ipv6() { format!("[{}]", self.host) } else { self.host.to_string() };
        write!(f, "{host}:{}:{}/{}", self.host_port, self.container_port, self.transport.name())
    }
}

impl Publish {
    /// Parses `8080:80`, `8080` (the same port), `0.0.0.0:8080:80/udp`, `8000-8010:9000-9010`. A range gives one entry a port.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] with what is allowed.
    pub fn parse(spec: &str) -> Result<Vec<Self>> {
        let bad = |why: String| {
            let shown = text::shorten(&text::escape(spec), 60);
            let object = format!("publish '{shown}'");
            Error::bad_input(object, format!("{why} (allowed: [HOST_ADDRESS:]PORT:CONTAINER_PORT[/tcp|udp])"))
        };
        let (ports, protocol) = spec.rsplit_once('/').unwrap_or((spec, "tcp"));
        let transport = match protocol {
            "tcp" => Transport::Tcp,
            "udp" => Transport::Udp,
            other => return Err(bad(format!("'{other}' is not a protocol"))),
        };
        let (host, ports) = host_part(ports).map_err(|why| bad(why.into()))?;
        let (outside, inside) = ports.split_once(':').unwrap_or((ports, ports));
        let outside = range(outside).map_err(&bad)?;
        let inside = range(inside).map_err(&bad)?;
        let length = |r: (u16, u16)| r.1 - r.0;
        if length(outside) != length(inside) {
            return Err(bad("the two ranges differ in length".into()));
        }
        let pairs = (outside.0..=outside.1).zip(inside.0..=inside.1);
        Ok(pairs
            .map(|(host_port, container_port)| Self { host, host_port, container_port, transport })
            .collect())
    }

    fn collides(&self, other: &Publish) -> bool {
        let same = self.host == other.host || self.host.is_unspecified() || other.host.is_unspecified();
        self.host_port == other.host_port && self.transport == other.transport && same
    }
}

fn host_part(ports: &str) -> std::result::Result<(IpAddr, &str), &'static str> {
    const DEFAULT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    if let Some(rest) = ports.strip_prefix('[') {
        let (address, rest) = rest.split_once("]:").ok_or("the address in brackets does not end")?;
        let address: std::net::Ipv6Addr = address.parse().map_err(|_| "bad IPv6 address")?;
        return Ok((IpAddr::V6(address), rest));
    }
    match ports.split(':').count() {
        1 | 2 => Ok((DEFAULT, ports)),
        3 => {
            let (address, rest) = ports.split_once(':').ok_or("bad address")?;
            let address: Ipv4Addr = address.parse().map_err(|_| "the host address is not an IPv4 address")?;
            Ok((IpAddr::V4(address), rest))
        }
        _ => Err("too many colons; an IPv6 address goes in brackets"),
    }
}

fn range(text: &str) -> std::result::Result<(u16, u16), String> {
    let port = |t: &str| {
        let digits = !t.is_empty() && t.len() <= 5 && t.bytes().all(|b| b.is_ascii_digit());
        t.parse::<u16>()
            .ok()
            .filter(|p| digits && *p > 0)
            .ok_or_else(|| format!("'{}' is not a port from 1 to 65535", text::shorten(&text::escape(t), 20)))
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(text)?, port(text)?),
    };
    if first > last {
        return Err(format!("the range {first}-{last} goes backwards"));
    }
    Ok((first, last))
}

/// Refuses what cannot be published together.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`]: twice the same port, or families that do not fit.
pub fn check(ports: &[Publish], container: Option<IpAddr>) -> Result<()> {
    for (i, p) in ports.iter().enumerate() {
        if ports.iter().take(i).any(|q| q.collides(p)) {
            return Err(Error::bad_input(format!("publish '{p}'"), "the same host port is given twice"));
        }
        if p.host.is_multicast() {
            return Err(Error::bad_input(
                format!("publish '{p}'"),
                "the host address is a multicast address",
            ));
        }
        if p.host.is_ipv6() && p.host.is_loopback() {
            return Err(Error::bad_input(
                format!("publish '{p}'"),
                "the kernel does not forward from ::1 (allowed: 127.0.0.1 or another address of the host)",
            ));
        }
        if container.is_some_and(|c| c.is_ipv4() != p.host.is_ipv4()) {
            return Err(Error::bad_input(
                format!("publish '{p}'"),
                "host address and container address are of different families",
            ));
        }
    }
    Ok(())
}

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
        let warnings = forward_warnings(&nft);
        if !already {
            check_free(&r.owner, &new, &store.host.published)?;
            sysctl::enable_forwarding(&mut store, &r.owner, r.container, ctx)?;
            if r.publish.iter().any(|p| p.host.is_loopback()) {
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
fn way_to(rtnl: &Rtnl, container: IpAddr) -> Result<(String, Option<IpAddr>, Option<Subnet>)> {
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

/// What other tables do to our forwarded packets.
pub(crate) fn forward_warnings(nft: &Nft) -> Vec<String> {
    let Ok(chains) = nft.foreign_forward_drops() else { return Vec::new() };
    let warn = |chain: String| {
        format!(
            "nft chain '{chain}' drops forwarded packets by policy, which wins over our accept: allow the subnet there"
        )
    };
    chains.into_iter().map(warn).collect()
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
    store.save_host()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses() {
        let one = |s: &str| {
            Publish::parse(s).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(one("8080:80"), "127.0.0.1:8080:80/tcp");
        assert_eq!(one("8080"), "127.0.0.1:8080:8080/tcp");
        assert_eq!(one("0.0.0.0:53:53/udp"), "0.0.0.0:53:53/udp");
        assert_eq!(one("[fd00::1]:1:2"), "[fd00::1]:1:2/tcp");
        assert_eq!(one("10-11:20-21"), "127.0.0.1:10:20/tcp 127.0.0.1:11:21/tcp");
        for bad in [
            "",
            "0",
            "65536",
            "-1",
            "10-5",
            "10-12:20",
            "80:80/icmp",
            "x",
            "80:",
            ":80",
            "1:2:3",
            "1.2.3:1:2",
            "1:2:3:4",
            "[::1:1:2",
            "80:80/",
            "80/TCP",
            "+80",
            "80:80 ",
            "999999:1",
            "0080808:80",
        ] {
            assert_eq!(Publish::parse(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }

    #[test]
    fn collisions() {
        let p = |s: &str| Publish::parse(s).unwrap();
        assert!(check(&[p("80:80"), p("80:81")].concat(), None).is_err());
        assert!(check(&[p("80:80"), p("0.0.0.0:80:81")].concat(), None).is_err());
        assert!(check(&[p("80:80"), p("192.0.2.1:80:81"), p("80:80/udp")].concat(), None).is_ok());
        assert!(check(&p("[::1]:80:80"), None).is_err());
        assert!(check(&p("80:80"), Some("fd00::1".parse().unwrap())).is_err());
    }
}
