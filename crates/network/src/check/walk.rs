//! The way of a connection, station by station: the first thing that stops it is named.

use super::connect;
use crate::netlink::Protocol;
use crate::nft::{Flow, Nft, Packet, Trace};
use crate::rtnl::{Link, Route, Rtnl};
use crate::{netns, sysctl};
use drydock_core::{Error, Result};
use serde::Serialize;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

/// From where to where.
#[derive(Clone, Debug)]
pub struct Request {
    /// The namespace of who connects.
    pub from: PathBuf,
    /// How messages call it.
    pub from_name: String,
    /// The namespace of who is connected to, if it is one of this host.
    pub to: Option<PathBuf>,
    /// How messages call it.
    pub to_name: String,
    /// The address, if it was given.
    pub address: Option<IpAddr>,
    /// TCP port; none to ask only whether packets arrive.
    pub port: Option<u16>,
}

/// How a station is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Packets pass.
    Ok,
    /// Packets stop here.
    Stop,
    /// It could not be looked at.
    Unknown,
}

/// One station.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub station: &'static str,
    /// How it is.
    pub status: Status,
    /// In words.
    pub detail: String,
}

/// The whole way.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// From.
    pub from: String,
    /// To.
    pub to: String,
    /// The address that was tried.
    pub address: Option<IpAddr>,
    /// The port.
    pub port: Option<u16>,
    /// It is reached (and, with a port, somebody listens there).
    pub reached: bool,
    /// The stations in order; the last one that stops packets, if any does.
    pub stations: Vec<Finding>,
}

/// Nobody listens there.
const DISCARD: u16 = 9;

struct Walk<'a> {
    request: &'a Request,
    host: Rtnl,
    inside: Rtnl,
    from: OwnedFd,
    to: Option<OwnedFd>,
    stations: Vec<Finding>,
}

impl Request {
    /// Walks it.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] for what is no namespace; EPERM without privilege.
    pub fn walk(&self) -> Result<Report> {
        let from = netns::open(&self.from)?;
        let to = self.to.as_deref().map(netns::open).transpose()?;
        let inside = Rtnl::over(netns::socket(from.as_fd(), Protocol::Route)?);
        let mut walk = Walk { request: self, host: Rtnl::here()?, inside, from, to, stations: Vec::new() };
        let (address, reached) = walk.run()?;
        Ok(Report {
            from: self.from_name.clone(),
            to: self.to_name.clone(),
            address,
            port: self.port,
            reached,
            stations: walk.stations,
        })
    }
}

impl Walk<'_> {
    fn say(&mut self, station: &'static str, status: Status, detail: impl Into<String>) {
        self.stations.push(Finding { station, status, detail: detail.into() });
    }

    /// Says it, and returns whether packets pass.
    fn judge(&mut self, station: &'static str, passes: bool, good: String, bad: String) -> bool {
        let (status, detail) = if passes { (Status::Ok, good) } else { (Status::Stop, bad) };
        self.say(station, status, detail);
        passes
    }

    fn run(&mut self) -> Result<(Option<IpAddr>, bool)> {
        let Some(address) = self.address()? else { return Ok((None, false)) };
        let reached = self.stations_to(address)?;
        Ok((Some(address), reached))
    }

    /// The address to try: the one that was given, else one that is on a subnet of ours, else the first.
    fn address(&mut self) -> Result<Option<IpAddr>> {
        if let Some(address) = self.request.address {
            return Ok(Some(address));
        }
        let Some(to) = &self.to else { return Ok(None) };
        let there = Rtnl::over(netns::socket(to.as_fd(), Protocol::Route)?);
        let all: Vec<_> = there.addresses()?.into_iter().filter(|a| a.scope == 0).collect();
        let own: Vec<_> = self.inside.addresses()?.into_iter().filter(|a| a.scope == 0).collect();
        let near = all.iter().find(|a| own.iter().any(|o| o.address.subnet().contains(a.address.address())));
        let found = near.or(all.first()).map(|a| a.address.address());
        if found.is_none() {
            let name = self.request.to_name.clone();
            self.say("address", Status::Stop, format!("'{name}' has no address"));
        }
        Ok(found)
    }

    fn stations_to(&mut self, to: IpAddr) -> Result<bool> {
        let Some((route, output)) = self.route(to)? else { return Ok(false) };
        let source = route.source;
        // From the host itself, or to an address of its own: there is no cable in between.
        let local = output.name == "lo" || netns::inode(self.from.as_fd())? == netns::own_inode()?;
        if !local && !self.host_side(&output, &route, to, source)? {
            return Ok(false);
        }
        self.connect(to, source)
    }

    fn route(&mut self, to: IpAddr) -> Result<Option<(Route, Link)>> {
        let name = self.request.from_name.clone();
        let family = to.is_ipv4();
        let has =
            self.inside.addresses()?.iter().any(|a| a.scope == 0 && a.address.address().is_ipv4() == family);
        if !has && !to.is_loopback() {
            let kind = if family { "IPv4" } else { "IPv6" };
            self.say("address", Status::Stop, format!("'{name}' has no {kind} address"));
            return Ok(None);
        }
        let route = match self.inside.route_to(to) {
            Ok(Some(route)) if !matches!(route.kind, 6..=8) => route,
            _ => {
                self.say("route", Status::Stop, format!("'{name}' has no route to {to}"));
                return Ok(None);
            }
        };
        let output = route.output.map(|i| self.inside.link_by_index(i)).transpose()?.flatten();
        let Some(output) = output else {
            self.say("route", Status::Stop, format!("'{name}' has no route to {to}"));
            return Ok(None);
        };
        let via = route.gateway.map_or(String::new(), |g| format!(" via {g}"));
        self.say("route", Status::Ok, format!("{to}{via} dev {} in '{name}'", output.name));
        let up = output.up && !matches!(output.state, "down" | "lower-layer-down");
        let bad = format!("{} in '{name}' is {}", output.name, if output.up { output.state } else { "down" });
        if !self.judge("link", up, format!("{} in '{name}' is up", output.name), bad) {
            return Ok(None);
        }
        Ok(Some((route, output)))
    }

    /// From the other end of the cable to the door of who is connected to.
    fn host_side(
        &mut self,
        output: &Link,
        route: &Route,
        to: IpAddr,
        source: Option<IpAddr>,
    ) -> Result<bool> {
        let peer = output.peer.map(|i| self.host.link_by_index(i)).transpose()?.flatten();
        let Some(peer) = peer.filter(|p| p.peer == Some(output.index)) else {
            self.say("peer", Status::Unknown, format!("{} is no cable to this host", output.name));
            return Ok(true);
        };
        let good = format!("{} on the host is up", peer.name);
        if !self.judge("peer", peer.up, good, format!("{} on the host is down", peer.name)) {
            return Ok(false);
        }
        if let Some(source) = source
            && let Ok(nft) = Nft::here()
            && let Some(accepts) = nft.port_accepts(&peer.name, source).ok().flatten()
        {
            let good = format!("{} may send from {source}", peer.name);
            let bad = format!(
                "{} may not send from {source}: it was not given by netsetup (netsetup addr, or --allow-spoofing)",
                peer.name
            );
            if !self.judge("source check", accepts, good, bad) {
                return Ok(false);
            }
        }
        if crate::nft::METADATA.contains(&to)
            && Nft::here().is_ok_and(|nft| nft.port_refuses(&peer.name, to).unwrap_or(false))
        {
            let bad = format!("{} may not ask the cloud's metadata server: --allow-metadata", peer.name);
            return Ok(self.judge("metadata", false, String::new(), bad));
        }
        let Some(entry) = self.port(&peer)? else { return Ok(false) };
        let next = route.gateway.unwrap_or(to);
        let mine = self.host.addresses()?.iter().any(|a| a.address.address() == next);
        if mine && next != to {
            return self.forwarding(&entry, to, source);
        }
        Ok(true)
    }

    /// The bridge port; the interface by which the host sees the packets.
    fn port(&mut self, peer: &Link) -> Result<Option<Link>> {
        let bridge = peer.master.map(|i| self.host.link_by_index(i)).transpose()?.flatten();
        let Some(bridge) = bridge else { return Ok(Some(peer.clone())) };
        let state = peer.port_state.unwrap_or("unknown");
        let good = format!(
            "{} on {} is forwarding{}",
            peer.name,
            bridge.name,
            if peer.isolated { ", isolated" } else { "" }
        );
        let bad = format!("{} on {} is {state}", peer.name, bridge.name);
        if !self.judge("bridge port", state == "forwarding", good, bad) {
            return Ok(None);
        }
        let bad = format!("the bridge {} is down", bridge.name);
        if !self.judge("bridge", bridge.up, format!("{} is up", bridge.name), bad) {
            return Ok(None);
        }
        let other = self.far_port(&bridge)?;
        if let Some(other) = other.as_ref().filter(|o| o.port_state != Some("forwarding")) {
            let state = other.port_state.unwrap_or("unknown");
            self.say("bridge port", Status::Stop, format!("{} on {} is {state}", other.name, bridge.name));
            return Ok(None);
        }
        if let Some(other) = other.filter(|o| o.isolated && peer.isolated) {
            self.say(
                "bridge port",
                Status::Stop,
                format!("{} and {} are isolated from each other", peer.name, other.name),
            );
            return Ok(None);
        }
        Ok(Some(bridge))
    }

    /// The port of the other namespace on the same bridge.
    fn far_port(&self, bridge: &Link) -> Result<Option<Link>> {
        let Some(to) = &self.to else { return Ok(None) };
        let there = Rtnl::over(netns::socket(to.as_fd(), Protocol::Route)?);
        let (inside, host) = (there.links()?, self.host.links()?);
        Ok(host.into_iter().find(|h| {
            h.master == Some(bridge.index)
                && inside.iter().any(|l| l.peer == Some(h.index) && h.peer == Some(l.index))
        }))
    }

    fn forwarding(&mut self, entry: &Link, to: IpAddr, source: Option<IpAddr>) -> Result<bool> {
        if self.host.addresses()?.iter().any(|a| a.address.address() == to) {
            return Ok(true);
        }
        let path = if to.is_ipv4() { sysctl::IP_FORWARD } else { sysctl::IP6_FORWARD };
        let on = sysctl::read(path).is_ok_and(|v| v == "1");
        let shown = path.trim_start_matches("/proc/sys/").replace('/', ".");
        let bad = format!("{shown} is 0: netsetup nat on SUBNET, or forward on SUBNET");
        if !self.judge("forwarding", on, format!("{shown} is 1"), bad) {
            return Ok(false);
        }
        if let Some(source) = source.filter(IpAddr::is_ipv4)
            && !self.rp_filter(entry, source)?
        {
            return Ok(false);
        }
        let route = self.host.route_to(to).ok().flatten();
        let link =
            route.as_ref().and_then(|r| r.output).and_then(|i| self.host.link_by_index(i).ok().flatten());
        let good = link.as_ref().map_or(String::new(), |l| format!("{to} dev {} on the host", l.name));
        Ok(self.judge(
            "host route",
            link.is_some_and(|l| l.up),
            good,
            format!("the host has no route to {to}"),
        ))
    }

    fn rp_filter(&mut self, entry: &Link, source: IpAddr) -> Result<bool> {
        let value = |name: &str| {
            sysctl::read(&format!("/proc/sys/net/ipv4/conf/{name}/rp_filter")).unwrap_or_default()
        };
        let strict = value("all").max(value(&entry.name)) == "1";
        if !strict {
            self.say("rp_filter", Status::Ok, format!("not strict on {}", entry.name));
            return Ok(true);
        }
        let back = self.host.route_to(source).ok().flatten().and_then(|r| r.output);
        let good = format!("{source} is reached by {}, where it comes from", entry.name);
        let bad = format!("strict on {}, and {source} is not reached by it", entry.name);
        Ok(self.judge("rp_filter", back == Some(entry.index), good, bad))
    }

    /// The connection itself, with the kernel telling what its rules do to it.
    fn connect(&mut self, to: IpAddr, source: Option<IpAddr>) -> Result<bool> {
        let port = self.request.port.unwrap_or(DISCARD);
        let flow = source.filter(|s| s.is_ipv4() == to.is_ipv4()).map(|source| Flow {
            source,
            destination: to,
            port,
        });
        let mut places =
            vec![("here".to_string(), None), (self.request.from_name.clone(), Some(self.from.try_clone()))];
        if let Some(fd) = &self.to {
            places.push((self.request.to_name.clone(), Some(fd.try_clone())));
        }
        let mut traces = Vec::new();
        let mut known = vec![netns::own_inode()?];
        for (name, fd) in places {
            if let Some(Ok(fd)) = &fd {
                let inode = netns::inode(fd.as_fd())?;
                if known.contains(&inode) {
                    continue;
                }
                known.push(inode);
            }
            let Some(flow) = &flow else { break };
            let trace = match fd {
                None => Trace::begin(flow),
                Some(fd) => match fd {
                    Ok(fd) => netns::within(fd.as_fd(), || Trace::begin(flow)),
                    Err(e) => Err(Error::call("dup(namespace)", e)),
                },
            };
            traces.push((name, trace));
        }
        let outcome = netns::within(self.from.as_fd(), || Ok(connect(SocketAddr::new(to, port))))?;
        let mut dropped = false;
        for (name, trace) in traces {
            let place = if name == "here" { "the host".to_string() } else { format!("'{name}'") };
            match trace.and_then(Trace::end) {
                Ok((_, Some(what))) if outcome.is_err() => {
                    self.say("firewall", Status::Stop, format!("dropped on {place} by {what}"));
                    dropped = true;
                }
                Ok(_) => {}
                Err(e) => self.say(
                    "firewall",
                    Status::Unknown,
                    format!("{place} could not be traced: {}", e.sentence()),
                ),
            }
        }
        match outcome {
            Ok(listening) => {
                self.say("firewall", Status::Ok, "no rule stops it");
                Ok(self.answer(to, port, listening))
            }
            Err(why) => {
                if !dropped {
                    self.unexplained(to, source, &why)?;
                }
                Ok(false)
            }
        }
    }

    fn answer(&mut self, to: IpAddr, port: u16, listening: bool) -> bool {
        let to = SocketAddr::new(to, port);
        match (self.request.port, listening) {
            (None, _) => {
                self.say("answer", Status::Ok, format!("{} answers", to.ip()));
                true
            }
            (Some(_), true) => {
                self.say("answer", Status::Ok, format!("{to} accepts"));
                true
            }
            (Some(_), false) => {
                self.say("answer", Status::Stop, format!("nobody listens on {to}/tcp"));
                false
            }
        }
    }

    fn unexplained(&mut self, to: IpAddr, source: Option<IpAddr>, why: &str) -> Result<()> {
        let neighbours = self.inside.neighbours()?;
        let lost = neighbours.iter().any(|n| n.address == to && matches!(n.state, "failed" | "incomplete"));
        if lost {
            self.say("neighbour", Status::Stop, format!("nobody on the link answers for {to}"));
            return Ok(());
        }
        if let (Some(source), Ok(nft)) = (source, Nft::here()) {
            let packet =
                Packet { source: crate::Subnet::of(source, crate::address::width(source)), input: None };
            if let Some(what) = nft.foreign_drops(&[packet]).unwrap_or_default().into_iter().next() {
                self.say("firewall", Status::Stop, what);
                return Ok(());
            }
        }
        self.say("answer", Status::Stop, format!("{to}: {why}"));
        Ok(())
    }
}
