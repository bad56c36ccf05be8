//! The devices of network namespaces, and which of them are two ends of one pair. Source: rtnetlink(7), veth(4).

use super::graph::open;
use super::namespaces::Inventory;
use crate::procfs::Proc;
use drydock_core::text::escape;
use drydock_namespaces::Kind;
use drydock_network::rtnl::{Link, Rtnl};
use drydock_network::show::rtnl_in;
use serde::Serialize;
use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};

/// One device.
#[derive(Clone, Debug, Serialize)]
pub struct Device {
    /// Name.
    pub name: String,
    /// Index in its namespace.
    pub index: u32,
    /// `veth`, `bridge`, …; null for hardware.
    pub kind: Option<String>,
    /// Addresses with prefix length.
    pub addresses: Vec<String>,
    /// The bridge that it is a port of.
    pub master: Option<String>,
    /// It is up.
    pub up: bool,
}

/// One network namespace.
#[derive(Clone, Debug, Serialize)]
pub struct Net {
    /// Inode number.
    pub ns: u64,
    /// Its devices but the loopback.
    pub devices: Vec<Device>,
}

/// A pair of devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cable {
    /// Network namespace and device of one end.
    pub a: (u64, String),
    /// The other end.
    pub b: (u64, String),
}

struct Looked {
    ns: u64,
    fd: OwnedFd,
    rtnl: Rtnl,
    links: Vec<Link>,
}

/// Looks into each of these namespaces.
pub fn look(
    proc: &Proc,
    found: &Inventory,
    wanted: &BTreeSet<u64>,
    notes: &mut Vec<String>,
) -> (Vec<Net>, Vec<Cable>) {
    let mut looked = Vec::new();
    let mut networks = Vec::new();
    let mut closed = 0;
    for ns in wanted {
        let opened = open(proc, found, (Kind::Network, *ns));
        let rtnl = opened.as_ref().and_then(|fd| rtnl_in(fd.as_fd()).ok());
        let links = rtnl.as_ref().and_then(|rtnl| rtnl.links().ok());
        let (Some(fd), Some(rtnl), Some(links)) = (opened, rtnl, links) else {
            closed += 1;
            continue;
        };
        networks.push(Net { ns: *ns, devices: devices(&rtnl, &links) });
        looked.push(Looked { ns: *ns, fd, rtnl, links });
    }
    if closed > 0 {
        notes
            .push(format!("{closed} network namespaces could not be looked into (this needs CAP_SYS_ADMIN)"));
    }
    (networks, cables(&looked))
}

fn devices(rtnl: &Rtnl, links: &[Link]) -> Vec<Device> {
    let addresses = rtnl.addresses().unwrap_or_default();
    let name_of = |index: u32| links.iter().find(|l| l.index == index).map(|l| escape(&l.name));
    let device = |link: &Link| Device {
        name: escape(&link.name),
        index: link.index,
        kind: link.kind.clone(),
        addresses: addresses
            .iter()
            .filter(|a| a.index == link.index)
            .map(|a| a.address.to_string())
            .filter(|a| !a.starts_with("fe80:"))
            .collect(),
        master: link.master.and_then(name_of),
        up: link.up,
    };
    links.iter().filter(|l| l.name != "lo").map(device).collect()
}

/// Both ends know the other's index; where that fits several namespaces, the number by which one calls the other decides.
fn cables(looked: &[Looked]) -> Vec<Cable> {
    let mut all = Vec::new();
    for (n, here) in looked.iter().enumerate() {
        for link in here.links.iter().filter(|l| is_veth(l)) {
            let fits = |other: &Link| {
                is_veth(other) && link.peer == Some(other.index) && other.peer == Some(link.index)
            };
            let ends: Vec<(&Looked, &Link)> = looked
                .iter()
                .skip(n)
                .filter(|there| (there.ns == here.ns) == link.peer_namespace.is_none())
                .flat_map(|there| there.links.iter().filter(|l| fits(l)).map(move |l| (there, l)))
                .collect();
            let calls = |there: &Looked| here.rtnl.namespace_id(there.fd.as_fd()).ok().flatten();
            let end = match ends.as_slice() {
                [one] => Some(*one),
                several => several.iter().copied().find(|(there, _)| calls(there) == link.peer_namespace),
            };
            let Some((there, other)) = end else { continue };
            let cable = Cable { a: (here.ns, escape(&link.name)), b: (there.ns, escape(&other.name)) };
            let turned = Cable { a: cable.b.clone(), b: cable.a.clone() };
            if !all.contains(&turned) && cable.a != cable.b {
                all.push(cable);
            }
        }
    }
    all
}

fn is_veth(link: &Link) -> bool {
    link.kind.as_deref() == Some("veth")
}
