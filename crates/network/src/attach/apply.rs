//! Doing it: the steps of [`super::Plan`] against the kernel.

use super::{Plan, Report};
use crate::address::InterfaceAddress;
use crate::netlink::{Batch, Protocol};
use crate::nft::{Nft, rules};
use crate::publish::{self, Publish};
use crate::rtnl::{Link, NewVeth, Rtnl, VethPeer};
use crate::state::{Network, PublishedPort, Store};
use crate::step::NetStep;
use crate::{bridge, lease, name, nat, netns, sysctl};
use drydock_core::{Ctx, Error, Result};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

impl Plan {
    pub(super) fn run(&self, ctx: &Ctx<'_>, alive: lease::Alive<'_>) -> Result<Report> {
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
        let nft = if r.nat || !r.publish.is_empty() { Some(Nft::here()?) } else { None };
        let mine = |p: &PublishedPort| p.owner == r.owner;
        let ports: Vec<Publish> = r
            .publish
            .iter()
            .copied()
            .filter(|p| found.is_none() || !store.host.published.iter().any(|q| mine(q) && q.port == *p))
            .collect();
        publish::check_free(&r.owner, &ports, &store.host.published)?;
        let address = self.lease(&mut network, found.map(|f| f.0), nft.is_some(), alive)?;
        publish::check(&r.publish, Some(address.address()))?;
        let step = NetStep::Lease {
            network: network.network.clone(),
            owner: r.owner.clone(),
            address: address.to_string(),
        };
        if found.is_none() || nft.is_some() {
            ctx.perform(&step, |_| store.save_network(&network))?;
        }
        let mut warnings = store.set_aside.clone();
        let mtu = match found {
            Some((_, mtu)) => {
                self.rules(&mut store, nft.as_ref(), &network, &mut warnings, ctx)?;
                mtu
            }
            None => {
                let made = bridge::ensure(&rtnl, &store, &network, r.mtu, there.as_ref(), false, ctx)?;
                self.rules(&mut store, nft.as_ref(), &network, &mut warnings, ctx)?;
                let mtu = r.mtu.unwrap_or(made.1);
                self.cable(&rtnl, target.as_fd(), made.0, mtu, ctx)?;
                let gateway = network.gateway.filter(|g| g.is_ipv4() == address.address().is_ipv4());
                self.configure(target.as_fd(), address, gateway, ctx)?;
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
        Ok(self.report(&network, address, mtu, already, warnings))
    }

    fn lease(
        &self,
        network: &mut Network,
        found: Option<InterfaceAddress>,
        nat: bool,
        alive: lease::Alive<'_>,
    ) -> Result<InterfaceAddress> {
        let r = &self.request;
        let link = r.host_link();
        if let Some(found) = found {
            let ours = network.leases.iter_mut().find(|l| l.owner == r.owner && l.link == link);
            if let Some(lease) = ours {
                lease.nat |= nat;
            }
            return Ok(found);
        }
        let holder = lease::Holder { owner: &r.owner, link: &link, interface: &r.interface, nat };
        let address = lease::take(network, holder, r.address.map(InterfaceAddress::address), alive)?;
        Ok(network.subnet.with(address))
    }

    fn rules(
        &self,
        store: &mut Store,
        nft: Option<&Nft>,
        network: &Network,
        warnings: &mut Vec<String>,
        ctx: &Ctx<'_>,
    ) -> Result<()> {
        let Some(nft) = nft else { return Ok(()) };
        let r = &self.request;
        let tag = name::network_tag(&network.network);
        nat::ensure(store, nft, &r.owner, &tag, network.subnet, r.nat, ctx)?;
        warnings.extend(publish::forward_warnings(nft));
        Ok(())
    }

    /// The host end exists: its address and MTU, if it is whole and the same owner's.
    fn attached(
        &self,
        link: &Link,
        bridge: Option<&Link>,
        target: BorrowedFd<'_>,
    ) -> Result<(InterfaceAddress, u32)> {
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
        let address = inside.addresses()?.into_iter().find(|a| a.index == there.index && a.scope == 0);
        match (address.map(|a| a.address), r.address) {
            (Some(has), Some(asked)) if has != asked => {
                Err(Error::failed(r.owner.clone(), format!("is attached already, with {has}"))
                    .hint("detach it first: netsetup detach NS"))
            }
            (Some(has), _) => Ok((has, there.mtu.unwrap_or(1500))),
            (None, _) => again(format!("its {} has no address: half set up", r.interface)),
        }
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
        ports: &[Publish],
        ctx: &Ctx<'_>,
    ) -> Result<()> {
        let r = &self.request;
        if ports.is_empty() {
            return Ok(());
        }
        if ports.iter().any(|p| p.host.is_loopback()) {
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
