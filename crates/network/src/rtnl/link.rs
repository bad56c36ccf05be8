//! Links: veth pairs, bridges, their state.

use super::{RTM_DELLINK, RTM_NEWLINK, RTM_SETLINK, UP};
use crate::address::Mac;
use crate::netlink::{Batch, CREATE, EXCL, attributes};
use serde::Serialize;
use std::os::fd::{AsRawFd, BorrowedFd};

pub(crate) const IFLA_IFNAME: u16 = 3;
const IFLA_ADDRESS: u16 = 1;
const IFLA_MTU: u16 = 4;
const IFLA_GROUP: u16 = 27;
const IFLA_LINK: u16 = 5;
const IFLA_QDISC: u16 = 6;
const IFLA_MASTER: u16 = 10;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const VETH_INFO_PEER: u16 = 1;
const IFLA_BRPORT_STATE: u16 = 1;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const AF_INET6: u16 = 10;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
const EEXIST: i32 = nix::libc::EEXIST;
const ENODEV: i32 = nix::libc::ENODEV;

/// struct ifinfomsg.
pub(crate) fn header(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut bytes = [0u8; 16];
    for (slot, value) in bytes.chunks_exact_mut(4).skip(1).zip([index, flags, change]) {
        slot.copy_from_slice(&value.to_ne_bytes());
    }
    bytes
}

/// A link as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Link {
    /// Interface index, unique within its namespace.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Kind: `veth`, `bridge`, …; none for hardware.
    pub kind: Option<String>,
    /// ifalias: `drydock:OWNER` on ours.
    pub alias: Option<String>,
    /// Administratively up.
    pub up: bool,
    /// RFC 2863 state: `up`, `down`, `lower-layer-down`, `unknown`, …
    pub state: &'static str,
    /// Link-layer address.
    pub mac: Option<String>,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// Queueing discipline.
    pub qdisc: Option<String>,
    /// Index of the bridge (or other master) that it is a port of.
    pub master: Option<u32>,
    /// State as a bridge port: `forwarding`, `disabled`, …
    pub port_state: Option<&'static str>,
    /// As a bridge port: it reaches the host only, not its neighbours.
    pub isolated: bool,
    /// Index of the other end of a veth pair, in the peer's namespace.
    pub peer: Option<u32>,
    /// Id of the peer's namespace as seen from here; none if it is this one.
    pub peer_namespace: Option<i32>,
}

/// Reads an RTM_NEWLINK payload.
pub fn decode_link(payload: &[u8]) -> Option<Link> {
    let index = u32::from_ne_bytes(*payload.get(4..)?.first_chunk()?);
    let flags = u32::from_ne_bytes(*payload.get(8..)?.first_chunk()?);
    let attrs = attributes(payload.get(16..)?);
    let info = attrs.nested(IFLA_LINKINFO);
    let mac = attrs.find_kind(IFLA_ADDRESS).and_then(|b| <[u8; 6]>::try_from(b).ok());
    let port = info.filter(|i| i.text(IFLA_INFO_SLAVE_KIND).as_deref() == Some("bridge"));
    let port_state = port
        .and_then(|i| i.nested(IFLA_INFO_SLAVE_DATA))
        .and_then(|d| d.find_kind(IFLA_BRPORT_STATE))
        .and_then(|b| b.first().copied());
    let isolated = port
        .and_then(|i| i.nested(IFLA_INFO_SLAVE_DATA))
        .and_then(|d| d.find_kind(IFLA_BRPORT_ISOLATED))
        .and_then(|b| b.first().copied());
    Some(Link {
        index,
        name: attrs.text(IFLA_IFNAME)?,
        kind: info.and_then(|i| i.text(IFLA_INFO_KIND)),
        alias: attrs.text(IFLA_IFALIAS),
        up: flags & UP != 0,
        state: operational(attrs.find_kind(IFLA_OPERSTATE).and_then(|b| b.first().copied())),
        mac: mac.map(|m| Mac(m).to_string()),
        mtu: attrs.u32(IFLA_MTU),
        qdisc: attrs.text(IFLA_QDISC),
        master: attrs.u32(IFLA_MASTER),
        port_state: port_state.map(port_state_name),
        isolated: isolated == Some(1),
        peer: attrs.u32(IFLA_LINK),
        peer_namespace: attrs.u32(IFLA_LINK_NETNSID).map(u32::cast_signed),
    })
}

fn operational(state: Option<u8>) -> &'static str {
    match state {
        Some(1) => "not-present",
        Some(2) => "down",
        Some(3) => "lower-layer-down",
        Some(4) => "testing",
        Some(5) => "dormant",
        Some(6) => "up",
        _ => "unknown",
    }
}

fn port_state_name(state: u8) -> &'static str {
    match state {
        0 => "disabled",
        1 => "listening",
        2 => "learning",
        3 => "forwarding",
        4 => "blocking",
        _ => "unknown",
    }
}

/// The end of a veth pair that goes into another namespace.
#[derive(Clone, Debug)]
pub struct VethPeer<'a> {
    /// Its name there.
    pub name: &'a str,
    /// The namespace.
    pub namespace: BorrowedFd<'a>,
    /// Link-layer address; the kernel makes one if not given.
    pub mac: Option<Mac>,
}

/// A veth pair: this end here and up, the peer in another namespace and down (the kernel refuses a peer that is up
/// before the pair is complete).
#[derive(Clone, Debug)]
pub struct NewVeth<'a> {
    /// Name of this end.
    pub name: &'a str,
    /// The tag that says whose it is.
    pub alias: &'a str,
    /// Bridge index to be a port of.
    pub master: Option<u32>,
    /// MTU of both ends.
    pub mtu: u32,
    /// The other end.
    pub peer: VethPeer<'a>,
}

/// A bridge.
#[derive(Clone, Debug)]
pub struct NewBridge<'a> {
    /// Name.
    pub name: &'a str,
    /// The tag that says whose it is.
    pub alias: &'a str,
    /// Link-layer address: fixed, because a bridge without one takes its ports'.
    pub mac: [u8; 6],
    /// MTU.
    pub mtu: u32,
}

impl Batch {
    /// A veth pair in one message (the peer is made in its namespace); then the alias; then this end up. As a
    /// bridge port this end needs no address of its own, so it gets no IPv6 link-local one.
    pub fn new_veth(&mut self, veth: &NewVeth<'_>) {
        let fd = veth.peer.namespace.as_raw_fd().cast_unsigned();
        self.message("RTM_NEWLINK", veth.name, RTM_NEWLINK, CREATE | EXCL, &[], |m| {
            m.fixed(&header(0, 0, 0)).text(IFLA_IFNAME, veth.name).u32(IFLA_MTU, veth.mtu);
            if let Some(master) = veth.master {
                m.u32(IFLA_MASTER, master);
            }
            m.nest(IFLA_LINKINFO, |m| {
                m.text(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, |m| {
                    m.nest(VETH_INFO_PEER, |m| {
                        m.fixed(&header(0, 0, 0)).text(IFLA_IFNAME, veth.peer.name);
                        m.u32(IFLA_MTU, veth.mtu).u32(IFLA_NET_NS_FD, fd);
                        if let Some(mac) = veth.peer.mac {
                            m.attr(IFLA_ADDRESS, &mac.0);
                        }
                    });
                });
            });
        });
        self.set_alias(veth.name, veth.alias);
        if veth.master.is_some() {
            self.no_link_local(veth.name);
        }
        self.set_up(veth.name);
    }

    /// A bridge with its tag, then up. One that exists stays as it is.
    pub fn new_bridge(&mut self, bridge: &NewBridge<'_>) {
        self.message("RTM_NEWLINK", bridge.name, RTM_NEWLINK, CREATE | EXCL, &[EEXIST], |m| {
            m.fixed(&header(0, 0, 0)).text(IFLA_IFNAME, bridge.name).attr(IFLA_ADDRESS, &bridge.mac);
            m.u32(IFLA_MTU, bridge.mtu).nest(IFLA_LINKINFO, |m| {
                m.text(IFLA_INFO_KIND, "bridge");
            });
        });
        self.set_alias(bridge.name, bridge.alias);
        self.set_up(bridge.name);
    }

    /// Sets ifalias.
    pub fn set_alias(&mut self, name: &str, alias: &str) {
        self.message("RTM_SETLINK ifalias", name, RTM_SETLINK, 0, &[], |m| {
            m.fixed(&header(0, 0, 0)).text(IFLA_IFNAME, name).text(IFLA_IFALIAS, alias);
        });
    }

    /// No automatic IPv6 addresses on this link. A kernel without IPv6 refuses, which is as good.
    fn no_link_local(&mut self, name: &str) {
        const ALLOW: &[i32] = &[nix::libc::EAFNOSUPPORT, nix::libc::EOPNOTSUPP, nix::libc::EINVAL];
        self.message("RTM_SETLINK addrgenmode", name, RTM_SETLINK, 0, ALLOW, |m| {
            m.fixed(&header(0, 0, 0)).text(IFLA_IFNAME, name).nest(IFLA_AF_SPEC, |m| {
                m.nest(AF_INET6, |m| {
                    m.attr(IFLA_INET6_ADDR_GEN_MODE, &[IN6_ADDR_GEN_MODE_NONE]);
                });
            });
        });
    }

    /// Lets a bridge port send frames back where they came from (IFLA_BRPORT_MODE): where bridged packets pass through
    /// the rules (br_netfilter), a container reaches its own published port only so.
    pub fn set_hairpin(&mut self, name: &str) {
        self.message("RTM_NEWLINK hairpin", name, RTM_NEWLINK, 0, &[], |m| {
            m.fixed(&header(0, 0, 0)).text(IFLA_IFNAME, name).nest(IFLA_LINKINFO, |m| {
                m.text(IFLA_INFO_SLAVE_KIND, "bridge").nest(IFLA_INFO_SLAVE_DATA, |m| {
                    m.attr(IFLA_BRPORT_MODE, &[1]);
                });
            });
        });
    }

    /// Lets a bridge port send only to ports that are not so, the host's own among them (IFLA_BRPORT_ISOLATED).
    pub fn set_isolated(&mut self, name: &str) {
        self.message("RTM_NEWLINK isolated", name, RTM_NEWLINK, 0, &[], |m| {
            m.fixed(&header(0, 0, 0)).text(IFLA_IFNAME, name).nest(IFLA_LINKINFO, |m| {
                m.text(IFLA_INFO_SLAVE_KIND, "bridge").nest(IFLA_INFO_SLAVE_DATA, |m| {
                    m.attr(IFLA_BRPORT_ISOLATED, &[1]);
                });
            });
        });
    }

    /// Sets a link up.
    pub fn set_up(&mut self, name: &str) {
        self.message("RTM_SETLINK up", name, RTM_SETLINK, 0, &[], |m| {
            m.fixed(&header(0, UP, UP)).text(IFLA_IFNAME, name);
        });
    }

    /// Moves the link of this index into another namespace, under another name.
    pub fn move_link(&mut self, index: u32, name: &str, namespace: BorrowedFd<'_>) {
        let fd = namespace.as_raw_fd().cast_unsigned();
        self.message("RTM_NEWLINK netns", name, RTM_NEWLINK, 0, &[], |m| {
            m.fixed(&header(index, 0, 0)).text(IFLA_IFNAME, name).u32(IFLA_NET_NS_FD, fd);
        });
    }

    /// Deletes a link; one that is gone is well.
    pub fn delete_link(&mut self, name: &str) {
        self.message("RTM_DELLINK", name, RTM_DELLINK, 0, &[ENODEV], |m| {
            m.fixed(&header(0, 0, 0)).text(IFLA_IFNAME, name);
        });
    }

    /// Puts a link into a group.
    pub fn set_group(&mut self, index: u32, name: &str, group: u32) {
        self.message("RTM_SETLINK", name, RTM_SETLINK, 0, &[ENODEV], |m| {
            m.fixed(&header(index, 0, 0)).u32(IFLA_GROUP, group);
        });
    }

    /// Deletes all links of a group in one go. One without links is well.
    pub fn delete_group(&mut self, group: u32) {
        self.message("RTM_DELLINK", "group", RTM_DELLINK, 0, &[ENODEV], |m| {
            m.fixed(&header(0, 0, 0)).u32(IFLA_GROUP, group);
        });
    }

    /// Deletes the link of this index; one that is gone is well.
    pub fn delete_link_index(&mut self, index: u32, name: &str) {
        self.message("RTM_DELLINK", name, RTM_DELLINK, 0, &[ENODEV], |m| {
            m.fixed(&header(index, 0, 0));
        });
    }
}
