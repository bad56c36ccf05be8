//! A veth pair between the host and a namespace, with an address on each end.
//! Guide: `ip link add … type veth peer name …; ip link set … netns …; ip addr add …; ip link set … up`.

use crate::address::InterfaceAddress;
use crate::attach::{configure, taken};
use crate::netlink::{Batch, Protocol};
use crate::rtnl::{NewVeth, Rtnl, VethPeer};
use crate::step::NetStep;
use crate::{STAGE, bridge, name, netns};
use drydock_core::{Ctx, Error, Result};
use serde::{Deserialize, Serialize};
use std::os::fd::AsFd;
use std::path::PathBuf;

/// A cable from the host to a namespace.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// Whose it is.
    pub owner: String,
    /// The namespace.
    pub netns: PathBuf,
    /// The host's address.
    pub host_address: InterfaceAddress,
    /// The namespace's address.
    pub address: InterfaceAddress,
    /// Interface name within the namespace.
    pub interface: String,
    /// Interface name on the host; derived from the owner if not given.
    #[serde(default)]
    pub host_interface: Option<String>,
    /// Set a default route by the host's address.
    #[serde(default)]
    pub default_route: bool,
    /// MTU; the default route's if not given.
    #[serde(default)]
    pub mtu: Option<u32>,
}

/// A checked [`Request`].
#[derive(Clone, Debug)]
pub struct Plan {
    request: Request,
    host_link: String,
}

/// The cable that is there now.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Owner.
    pub owner: String,
    /// Host end.
    pub host_link: String,
    /// Its address.
    pub host_address: InterfaceAddress,
    /// Other end.
    pub interface: String,
    /// Its address.
    pub address: InterfaceAddress,
    /// MTU of both.
    pub mtu: u32,
    /// It was there already.
    pub already: bool,
}

impl Request {
    /// Checks everything that can be checked without the kernel.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`].
    pub fn validate(&self) -> Result<Plan> {
        name::check_owner(&self.owner)?;
        name::check_interface("interface", &self.interface)?;
        if let Some(host) = &self.host_interface {
            name::check_interface("host interface", host)?;
        }
        bridge::check_mtu(self.mtu)?;
        let (host, inside) = (self.host_address, self.address);
        if host.address() == inside.address() {
            return Err(Error::bad_input(
                format!("address {inside}"),
                "is the host's own (allowed: another one)",
            ));
        }
        if host.subnet() != inside.subnet() {
            return Err(Error::bad_input(
                format!("address {inside}"),
                format!(
                    "is not in the host end's subnet {} (allowed: both ends in one subnet)",
                    host.subnet()
                ),
            ));
        }
        let host_link = self
            .host_interface
            .clone()
            .unwrap_or_else(|| name::host_link(&self.owner, &self.netns, &self.interface));
        Ok(Plan { request: self.clone(), host_link })
    }
}

impl Plan {
    fn veth_step(&self) -> NetStep {
        let r = &self.request;
        NetStep::Veth {
            name: self.host_link.clone(),
            alias: name::alias(&r.owner),
            peer: r.interface.clone(),
            netns: r.netns.clone(),
            bridge: None,
            mtu: r.mtu,
        }
    }

    fn inside_step(&self) -> NetStep {
        let r = &self.request;
        NetStep::Configure {
            interface: r.interface.clone(),
            address: r.address.to_string(),
            gateway: r.default_route.then(|| r.host_address.address().to_string()),
        }
    }

    fn host_step(&self) -> NetStep {
        NetStep::HostAddress {
            interface: self.host_link.clone(),
            address: self.request.host_address.to_string(),
        }
    }

    /// Name of the host end.
    pub fn host_link(&self) -> &str {
        &self.host_link
    }

    /// What will be done, in order.
    pub fn steps(&self) -> Vec<NetStep> {
        vec![self.veth_step(), self.host_step(), self.inside_step()]
    }

    /// Makes the cable. Idempotent.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] before anything was touched; else the kernel's.
    pub fn apply(&self, ctx: &Ctx<'_>) -> Result<Report> {
        self.run(ctx).map_err(|e| e.in_stage(STAGE))
    }

    fn run(&self, ctx: &Ctx<'_>) -> Result<Report> {
        let r = &self.request;
        let target = netns::open_other(&r.netns)?;
        let rtnl = Rtnl::here()?;
        let report = |mtu, already| Report {
            owner: r.owner.clone(),
            host_link: self.host_link.clone(),
            host_address: r.host_address,
            interface: r.interface.clone(),
            address: r.address,
            mtu,
            already,
        };
        if let Some(link) = rtnl.link(&self.host_link)? {
            self.check_same(&rtnl, &link, target.as_fd())?;
            return Ok(report(link.mtu.unwrap_or(1500), true));
        }
        self.check_free(&rtnl)?;
        let mtu = r.mtu.map_or_else(|| rtnl.default_mtu(), Ok)?;
        let alias = name::alias(&r.owner);
        ctx.perform(&self.veth_step(), |_| {
            let peer = VethPeer { name: &r.interface, namespace: target.as_fd(), mac: None };
            let mut batch = Batch::new();
            batch.new_veth(&NewVeth { name: &self.host_link, alias: &alias, master: None, mtu, peer });
            rtnl.execute(&batch).map_err(|e| taken(e, &r.interface, &r.netns))
        })?;
        ctx.perform(&self.host_step(), |_| {
            crate::sysctl::harden(&self.host_link);
            let vanished = || Error::failed(self.host_link.clone(), "vanished while it was set up");
            let link = rtnl.link(&self.host_link)?.ok_or_else(vanished)?;
            let mut batch = Batch::new();
            batch.add_address(link.index, r.host_address);
            rtnl.execute(&batch)
        })?;
        let gateway = r.default_route.then_some(r.host_address.address());
        ctx.perform(&self.inside_step(), |_| {
            configure(target.as_fd(), &r.interface, r.address, gateway, &[nix::libc::EEXIST])
        })?;
        Ok(report(mtu, false))
    }

    /// Another interface of the host must not have the subnet: packets would leave by the wrong one.
    fn check_free(&self, rtnl: &Rtnl) -> Result<()> {
        let subnet = self.request.host_address.subnet();
        for route in rtnl.routes()?.into_iter().filter(crate::rtnl::Route::is_ordinary) {
            if let Some(to) = route.destination
                && to.prefix() > 0
                && to.overlaps(subnet)
                && !to.address().is_multicast()
            {
                let link = route.output.map(|i| rtnl.link_by_index(i)).transpose()?.flatten();
                let via = link.map_or(String::new(), |l| format!(" on {}", l.name));
                return Err(Error::bad_input(
                    format!("subnet {subnet}"),
                    format!("overlaps the host's route to {to}{via}"),
                )
                .hint("choose another subnet"));
            }
        }
        Ok(())
    }

    fn check_same(
        &self,
        rtnl: &Rtnl,
        link: &crate::rtnl::Link,
        target: std::os::fd::BorrowedFd<'_>,
    ) -> Result<()> {
        let r = &self.request;
        if link.alias.as_deref() != Some(name::alias(&r.owner).as_str()) {
            return Err(Error::failed(self.host_link.clone(), "an interface of that name exists already"));
        }
        let inside = Rtnl::over(netns::socket(target, Protocol::Route)?);
        let there = inside.link(&r.interface)?.filter(|l| link.peer == Some(l.index));
        let has = |rtnl: &Rtnl, index, wanted| -> Result<bool> {
            Ok(rtnl.addresses()?.iter().any(|a| a.index == index && a.address == wanted))
        };
        let right = match there {
            Some(there) => has(rtnl, link.index, r.host_address)? && has(&inside, there.index, r.address)?,
            None => false,
        };
        if right {
            return Ok(());
        }
        Err(Error::failed(r.owner.clone(), format!("has a link {} with other addresses", self.host_link))
            .hint(format!("netsetup undo --owner {}", r.owner)))
    }
}
