//! Doing it: the steps of [`super::Plan`] against the kernel.

use super::{Plan, Report};
use crate::address::{InterfaceAddress, Mac};
use crate::netlink::{Batch, Protocol};
use crate::nft::{Nft, rules};
use crate::publish::{self, Publish};
use crate::rtnl::{Link, NewVeth, Rtnl, VethPeer};
use crate::state::{Lease, Network, PublishedPort, Store};
use crate::step::NetStep;
use crate::{bridge, guard, lease, name, nat, netns, sysctl};
use drydock_core::{Ctx, Error, Result};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// An interface that is attached already.
#[derive(Clone, Copy)]
struct Found {
    address: InterfaceAddress,
    mac: Option<Mac>,
    mtu: u32,
}

impl Plan {
    pub(super) fn run(&self, ctx: &Ctx<'_>) -> Result<Report> {
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
        let found = match rtnl.link(&r.host_link())? {
            Some(link) => Some(self.attached(&link, there.as_ref(), target.as_fd())?),
            None => None,
        };
        // Before the first effect: what can be refused is refused now.
        let nft = match Nft::here() {
            Err(e) if r.nat || r.nat6 || !r.publish.is_empty() => return Err(e),
            other => other.ok(),
        };
        let mine = |p: &PublishedPort| p.owner == r.owner;
        let ports: Vec<Publish> = r
            .publish
            .iter()
            .copied()
            .filter(|p| found.is_none() || !store.host.published.iter().any(|q| mine(q) && q.port == *p))
            .collect();
        publish::check_free(&r.owner, &ports, &store.host.published)?;
        let before = network.clone();
        network.nat6 |= r.nat6;
        let lease = self.lease(&rtnl, &mut network, found)?;
        let address = network.subnet.with(lease.address);
        publish::check(&r.publish, Some(address.address()))?;
        let step = NetStep::Lease {
            network: network.network.clone(),
            owner: r.owner.clone(),
            address: address.to_string(),
        };
        if found.is_none() || network != before {
            ctx.perform(&step, |_| store.save_network(&network))?;
        }
        let mut warnings = store.set_aside.clone();
        let mtu = match found {
            Some(found) => {
                self.rules(&mut store, nft.as_ref(), &network, &mut warnings, ctx)?;
                self.check_source(nft.as_ref(), &lease, &mut warnings, ctx)?;
                found.mtu
            }
            None => {
                let made = bridge::ensure(&rtnl, &store, &network, r.mtu, there.as_ref(), false, ctx)?;
                self.rules(&mut store, nft.as_ref(), &network, &mut warnings, ctx)?;
                let mtu = r.mtu.unwrap_or(made.1);
                self.cable(&rtnl, target.as_fd(), made.0, mtu, &lease, ctx)?;
                // The other end is still down: nothing has been sent yet.
                self.check_source(nft.as_ref(), &lease, &mut warnings, ctx)?;
                self.configure(target.as_fd(), &network, &lease, ctx)?;
                mtu
            }
        };
        if let Some(nft) = &nft {
            if !ports.is_empty() {
                publish::allow_hairpin(&rtnl, &r.host_link())?;
            }
            self.publish(&mut store, nft, &network, address, &ports, ctx)?;
        }
        let already = found.is_some() && ports.is_empty();
        Ok(self.report(&network, &lease, mtu, already, warnings))
    }

    fn lease(&self, rtnl: &Rtnl, network: &mut Network, found: Option<Found>) -> Result<Lease> {
        let r = &self.request;
        let link = r.host_link();
        let ours = |l: &&mut Lease| l.owner == r.owner && l.link == link;
        let nat = r.nat || r.nat6 || !r.publish.is_empty();
        if let Some(found) = found {
            if let Some(lease) = network.leases.iter_mut().find(ours) {
                lease.nat |= r.nat;
                lease.mac = found.mac;
                lease.metadata = r.metadata;
                return Ok(lease.clone());
            }
            // Its file was lost: what is attached is what it has.
            let address = found.address.address();
            network.leases.retain(|l| l.address != address);
            network.leases.push(Lease {
                owner: r.owner.clone(),
                link,
                interface: r.interface.clone(),
                address,
                nat,
                address6: network.beside(address),
                also: Vec::new(),
                mac: found.mac,
                unchecked: !r.check_source,
                metadata: r.metadata,
                netns: self.named(),
            });
            return network
                .leases
                .last()
                .cloned()
                .ok_or_else(|| Error::failed(r.owner.clone(), "has no lease"));
        }
        let holder = lease::Holder { owner: &r.owner, link: &link, interface: &r.interface, nat };
        let alive = |l: &Lease| is_alive(rtnl, l);
        let address = lease::take(network, holder, r.address.map(InterfaceAddress::address), &alive)?;
        let address6 = match r.address6 {
            Some(asked) => Some(check_second(network, asked.address(), address, &alive)?),
            None if r.ipv6 => network.beside(address),
            None => None,
        };
        let Some(lease) = network.leases.iter_mut().find(ours) else {
            return Err(Error::failed(r.owner.clone(), "has no lease"));
        };
        lease.address6 = address6;
        lease.unchecked = !r.check_source;
        lease.metadata = r.metadata;
        lease.netns = self.named();
        lease.mac = Some(r.mac.unwrap_or_else(|| Mac(name::interface_mac(address))));
        Ok(lease.clone())
    }

    /// The namespace's path, if it is one that is deleted by that name.
    fn named(&self) -> Option<PathBuf> {
        Some(self.request.netns.clone()).filter(|path| path.starts_with(netns::DIR))
    }

    fn rules(
        &self,
        store: &mut Store,
        nft: Option<&Nft>,
        network: &Network,
        warnings: &mut Vec<String>,
        ctx: &Ctx<'_>,
    ) -> Result<()> {
        let r = &self.request;
        let forwarding = r.nat || !r.publish.is_empty();
        let (Some(nft), true) = (nft, forwarding || r.nat6) else {
            warnings.extend(bridge::isolate(store, nft, network, &r.owner, ctx)?);
            return Ok(());
        };
        let tag = name::network_tag(&network.network);
        nat::ensure(
            store,
            nft,
            &r.owner,
            &tag,
            &nat::Part::of(network, r.nat, r.nat6, forwarding || r.nat6),
            ctx,
        )?;
        warnings.extend(publish::forward_warnings(nft, Some(&r.bridge), &[network.subnet]));
        Ok(())
    }

    fn check_source(
        &self,
        nft: Option<&Nft>,
        lease: &Lease,
        warnings: &mut Vec<String>,
        ctx: &Ctx<'_>,
    ) -> Result<()> {
        let r = &self.request;
        match guard::check(nft, &r.owner, lease, ctx)? {
            None => {}
            Some(warning) => warnings.push(warning),
        }
        Ok(())
    }

    /// The host end exists: its address and MTU, if it is whole and the same owner's.
    fn attached(&self, link: &Link, bridge: Option<&Link>, target: BorrowedFd<'_>) -> Result<Found> {
        let r = &self.request;
        if link.alias.as_deref().is_some_and(|a| a != name::alias(&r.owner)) {
            let alias = link.alias.clone().unwrap_or_default();
            return Err(Error::failed(link.name.clone(), format!("the name is taken by '{alias}'")));
        }
        let again = |problem: String| {
            Err(Error::failed(r.owner.clone(), problem)
                .hint(format!("netsetup undo --owner {}, then attach again", r.owner)))
        };
        if link.master.is_none() || link.master != bridge.map(|b| b.index) {
            return again(format!("its {} is not on bridge '{}'", link.name, r.bridge));
        }
        let inside = Rtnl::over(netns::socket(target, Protocol::Route)?);
        let there =
            inside.link(&r.interface)?.filter(|l| l.peer == Some(link.index) || Some(l.index) == link.peer);
        let Some(there) = there else {
            return again(format!("its {} is in another namespace", r.interface));
        };
        let mut all = inside.addresses()?;
        all.retain(|a| a.index == there.index && a.scope == 0);
        // The one that was asked for, else the first: IPv4 before IPv6.
        let wanted = r.address.and_then(|asked| all.iter().find(|a| a.address == asked));
        let address = wanted.or(all.first()).cloned();
        match (address.map(|a| a.address), r.address) {
            (Some(has), Some(asked)) if has != asked => {
                Err(Error::failed(r.owner.clone(), format!("is attached already, with {has}"))
                    .hint("detach it first: netsetup detach NS"))
            }
            (Some(has), _) => {
                let mac = there.mac.as_deref().and_then(|m| Mac::parse(m).ok());
                Ok(Found { address: has, mac, mtu: there.mtu.unwrap_or(1500) })
            }
            (None, _) => again(format!("its {} has no address: half set up", r.interface)),
        }
    }

    fn report(
        &self,
        network: &Network,
        lease: &Lease,
        mtu: u32,
        already: bool,
        warnings: Vec<String>,
    ) -> Report {
        let r = &self.request;
        Report {
            owner: r.owner.clone(),
            host_link: r.host_link(),
            interface: r.interface.clone(),
            address: network.subnet.with(lease.address),
            address6: network.subnet6.zip(lease.address6).map(|(s, a)| s.with(a)),
            mac: lease.mac,
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

    fn cable(
        &self,
        rtnl: &Rtnl,
        target: BorrowedFd<'_>,
        master: u32,
        mtu: u32,
        lease: &Lease,
        ctx: &Ctx<'_>,
    ) -> Result<()> {
        let r = &self.request;
        let (host, alias) = (r.host_link(), name::alias(&r.owner));
        ctx.perform(&self.veth_step(Some(mtu)), |_| {
            let peer = VethPeer { name: &r.interface, namespace: target, mac: lease.mac };
            let mut batch = Batch::new();
            batch.new_veth(&NewVeth { name: &host, alias: &alias, master: Some(master), mtu, peer });
            if r.isolated {
                batch.set_isolated(&host);
            }
            rtnl.execute(&batch).map_err(|e| taken(e, &r.interface, &r.netns))
        })
    }

    fn configure(
        &self,
        target: BorrowedFd<'_>,
        network: &Network,
        lease: &Lease,
        ctx: &Ctx<'_>,
    ) -> Result<()> {
        let r = &self.request;
        let address = network.subnet.with(lease.address);
        let out = r.default_route && !network.internal;
        let gateway = network.gateway.filter(|g| out && g.is_ipv4() == address.address().is_ipv4());
        let second = network.subnet6.zip(lease.address6).map(|(subnet, address)| Second {
            address: subnet.with(address),
            gateway: network.gateway6().filter(|_| out && r.nat6),
            must: r.address6.is_some(),
        });
        let both = second.as_ref().map_or(address.to_string(), |s| format!("{address} {}", s.address));
        let step = NetStep::Configure {
            interface: r.interface.clone(),
            address: both,
            gateway: gateway.map(|g| g.to_string()),
        };
        ctx.perform(&step, |_| {
            configure(target, &r.interface, address, gateway, &[])?;
            second.map_or(Ok(()), |second| second.add(target, &r.interface))
        })
    }

    fn publish(
        &self,
        store: &mut Store,
        nft: &Nft,
        network: &Network,
        address: InterfaceAddress,
        ports: &[Publish],
        ctx: &Ctx<'_>,
    ) -> Result<()> {
        let r = &self.request;
        if ports.is_empty() {
            return Ok(());
        }
        if ports.iter().any(|p| p.host.is_ipv4() && (p.host.is_loopback() || p.host.is_unspecified())) {
            sysctl::enable_route_localnet(store, &r.owner, &r.bridge, ctx)?;
        }
        let container = address.address();
        let entry = |p: &Publish| PublishedPort { owner: r.owner.clone(), container, port: *p };
        store.host.published.extend(ports.iter().map(entry));
        let target = rules::Target {
            container,
            interface: &r.bridge,
            gateway: network.gateway,
            subnet: Some(network.subnet),
        };
        publish::add_rules(store, nft, &r.owner, target, ports, Vec::new(), ctx)
    }
}

/// A lease lives as long as its link and its namespace's name: nobody's clock is asked. The kernel takes a link away some
/// time after its namespace.
pub(crate) fn is_alive(rtnl: &Rtnl, lease: &Lease) -> bool {
    if lease.netns.as_deref().is_some_and(|path| netns::open(path).is_err()) {
        return false;
    }
    let link = rtnl.link(&lease.link);
    link.is_ok_and(|l| l.is_some_and(|l| l.alias.is_none_or(|a| a == name::alias(&lease.owner))))
}

/// An IPv6 address that was asked for.
fn check_second(network: &Network, asked: IpAddr, own: IpAddr, alive: lease::Alive<'_>) -> Result<IpAddr> {
    let at = format!("address {asked}");
    if network.subnet6.is_none_or(|s| s.host_number(asked).is_none()) {
        let subnet = network.subnet6.map_or("no IPv6 subnet".into(), |s| s.to_string());
        return Err(Error::bad_input(at, format!("is outside of network '{}' ({subnet})", network.network)));
    }
    if network.gateway6() == Some(asked) {
        return Err(Error::bad_input(at, format!("is the gateway of network '{}'", network.network)));
    }
    let taken = network
        .leases
        .iter()
        .find(|l| l.address != own && (l.address6 == Some(asked) || l.also.contains(&asked)));
    match taken {
        Some(l) if alive(l) => {
            Err(Error::failed(at, format!("in use by '{}' in network '{}'", l.owner, network.network)))
        }
        _ => Ok(asked),
    }
}

/// IPv6 beside IPv4.
struct Second {
    address: InterfaceAddress,
    gateway: Option<IpAddr>,
    /// It was asked for: a namespace without IPv6 is an error.
    must: bool,
}

impl Second {
    fn add(&self, target: BorrowedFd<'_>, interface: &str) -> Result<()> {
        if self.must {
            return configure(target, interface, self.address, self.gateway, &[]);
        }
        let inside = Rtnl::over(netns::socket(target, Protocol::Route)?);
        let Some(link) = inside.link(interface)? else { return Ok(()) };
        let mut batch = Batch::new();
        batch.add_address_if_possible(link.index, self.address);
        inside.execute(&batch)?;
        if let Some(gateway) = self.gateway {
            let mut batch = Batch::new();
            batch.add_route(
                None,
                gateway,
                link.index,
                &[nix::libc::EEXIST, nix::libc::ENETUNREACH, nix::libc::EACCES],
            );
            inside.execute(&batch)?;
        }
        Ok(())
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
