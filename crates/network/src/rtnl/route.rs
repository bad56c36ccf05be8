//! Addresses, routes, neighbours.

use super::{RTM_DELADDR, RTM_DELROUTE, RTM_NEWADDR, RTM_NEWROUTE};
use crate::address::{InterfaceAddress, Mac, Subnet, from_octets, octets, width};
use crate::netlink::{Batch, CREATE, EXCL, attributes};
use serde::Serialize;
use std::net::IpAddr;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_F_NODAD: u8 = 0x02;
pub(crate) const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PREFSRC: u16 = 7;
const RTA_TABLE: u16 = 15;
const RT_TABLE_MAIN: u8 = 254;
const RT_TABLE_LOCAL: u32 = 255;
const RTPROT_STATIC: u8 = 4;
const RTN_UNICAST: u8 = 1;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const EEXIST: i32 = nix::libc::EEXIST;

fn family(address: IpAddr) -> u8 {
    let family = if address.is_ipv4() { nix::libc::AF_INET } else { nix::libc::AF_INET6 };
    u8::try_from(family).unwrap_or(0)
}

/// An address of a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Address {
    /// Index of the link.
    pub index: u32,
    /// Address and prefix.
    pub address: InterfaceAddress,
    /// Scope: 0 global, 253 link, 254 host.
    pub scope: u8,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Route {
    /// Where to; the default route has none.
    pub destination: Option<Subnet>,
    /// IPv6.
    pub ipv6: bool,
    /// Next hop.
    pub gateway: Option<IpAddr>,
    /// Index of the output link.
    pub output: Option<u32>,
    /// Preferred source address.
    pub source: Option<IpAddr>,
    /// Routing table (254 main, 255 local).
    pub table: u32,
    /// Type (1 unicast, 2 local, 3 broadcast, …).
    pub kind: u8,
}

/// A neighbour entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Neighbour {
    /// Index of the link.
    pub index: u32,
    /// Its address.
    pub address: IpAddr,
    /// Its link-layer address.
    pub mac: Option<String>,
    /// NUD state as ip-neighbour(8) names it.
    pub state: &'static str,
}

/// Reads an RTM_NEWADDR payload.
pub fn decode_address(payload: &[u8]) -> Option<Address> {
    let [_, prefix, _, scope] = *payload.first_chunk::<4>()?;
    let index = u32::from_ne_bytes(*payload.get(4..)?.first_chunk()?);
    let attrs = attributes(payload.get(8..)?);
    let address =
        attrs.find_kind(IFA_LOCAL).or_else(|| attrs.find_kind(IFA_ADDRESS)).and_then(from_octets)?;
    let prefix = prefix.min(width(address));
    Some(Address { index, address: InterfaceAddress::of(address, prefix), scope })
}

/// Reads an RTM_NEWROUTE payload.
pub fn decode_route(payload: &[u8]) -> Option<Route> {
    let [family, prefix, _, _, table, _, _, kind] = *payload.first_chunk::<8>()?;
    let attrs = attributes(payload.get(12..)?);
    let at = |kind| attrs.find_kind(kind).and_then(from_octets);
    Some(Route {
        destination: at(RTA_DST).map(|a| Subnet::of(a, prefix)),
        ipv6: i32::from(family) == nix::libc::AF_INET6,
        gateway: at(RTA_GATEWAY),
        output: attrs.u32(RTA_OIF),
        source: at(RTA_PREFSRC),
        table: attrs.u32(RTA_TABLE).unwrap_or(u32::from(table)),
        kind,
    })
}

impl Route {
    /// In the main table and to other hosts (not local or broadcast).
    pub fn is_ordinary(&self) -> bool {
        self.table != RT_TABLE_LOCAL && self.kind == RTN_UNICAST
    }
}

/// Reads an RTM_NEWNEIGH payload.
pub fn decode_neighbour(payload: &[u8]) -> Option<Neighbour> {
    let index = u32::from_ne_bytes(*payload.get(4..)?.first_chunk()?);
    let state = u16::from_ne_bytes(*payload.get(8..)?.first_chunk()?);
    let attrs = attributes(payload.get(12..)?);
    let mac = attrs.find_kind(NDA_LLADDR).and_then(|b| <[u8; 6]>::try_from(b).ok());
    Some(Neighbour {
        index,
        address: attrs.find_kind(NDA_DST).and_then(from_octets)?,
        mac: mac.map(|m| Mac(m).to_string()),
        state: match state {
            0x01 => "incomplete",
            0x02 => "reachable",
            0x04 => "stale",
            0x08 => "delay",
            0x10 => "probe",
            0x20 => "failed",
            0x40 => "noarp",
            0x80 => "permanent",
            _ => "none",
        },
    })
}

/// struct rtmsg for a look-up.
pub(crate) fn query_header(to: IpAddr) -> [u8; 12] {
    [family(to), width(to), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

fn address_header(address: InterfaceAddress, index: u32) -> Vec<u8> {
    let flags = if address.address().is_ipv6() { IFA_F_NODAD } else { 0 };
    let mut bytes = vec![family(address.address()), address.prefix(), flags, 0];
    bytes.extend(index.to_ne_bytes());
    bytes
}

impl Batch {
    /// Adds an address to a link; one that is there already is well. Duplicate address detection is skipped: the
    /// lease says whose the address is.
    pub fn add_address(&mut self, index: u32, address: InterfaceAddress) {
        self.new_address(index, address, &[EEXIST]);
    }

    fn new_address(&mut self, index: u32, address: InterfaceAddress, allow: &'static [i32]) {
        let object = address.to_string();
        let bytes = octets(address.address());
        self.message("RTM_NEWADDR", &object, RTM_NEWADDR, CREATE | EXCL, allow, |m| {
            m.fixed(&address_header(address, index)).attr(IFA_LOCAL, &bytes).attr(IFA_ADDRESS, &bytes);
            if let Some(broadcast) = address.subnet().broadcast() {
                m.attr(IFA_BROADCAST, &octets(broadcast));
            }
        });
    }

    /// Adds an IPv6 address where there is IPv6: a kernel or namespace without it is well.
    pub fn add_address_if_possible(&mut self, index: u32, address: InterfaceAddress) {
        use nix::libc::{EACCES, EAFNOSUPPORT, EOPNOTSUPP};
        const ALLOW: &[i32] = &[EEXIST, EACCES, EAFNOSUPPORT, EOPNOTSUPP];
        self.new_address(index, address, ALLOW);
    }

    /// Removes an address; one that is gone is well.
    pub fn delete_address(&mut self, index: u32, address: InterfaceAddress) {
        const GONE: &[i32] = &[nix::libc::EADDRNOTAVAIL, nix::libc::ENODEV];
        let bytes = octets(address.address());
        self.message("RTM_DELADDR", &address.to_string(), RTM_DELADDR, 0, GONE, |m| {
            m.fixed(&address_header(address, index)).attr(IFA_LOCAL, &bytes).attr(IFA_ADDRESS, &bytes);
        });
    }

    /// Adds a route to `to` (the default route if none) by `gateway` over the link `index`.
    pub fn add_route(&mut self, to: Option<Subnet>, gateway: IpAddr, index: u32, allow: &'static [i32]) {
        let name = to.map_or_else(|| format!("default via {gateway}"), |t| format!("{t} via {gateway}"));
        let flags = CREATE | EXCL;
        self.message("RTM_NEWROUTE", &name, RTM_NEWROUTE, flags, allow, |m| {
            route_body(m, to, gateway, index)
        });
    }

    /// Removes such a route; one that is gone is well.
    pub fn delete_route(&mut self, to: Option<Subnet>, gateway: IpAddr, index: u32) {
        let name = to.map_or_else(|| format!("default via {gateway}"), |t| format!("{t} via {gateway}"));
        const GONE: &[i32] = &[nix::libc::ESRCH, nix::libc::ENODEV];
        self.message("RTM_DELROUTE", &name, RTM_DELROUTE, 0, GONE, |m| route_body(m, to, gateway, index));
    }
}

fn route_body(m: &mut crate::netlink::Builder<'_>, to: Option<Subnet>, gateway: IpAddr, index: u32) {
    let prefix = to.map_or(0, Subnet::prefix);
    m.fixed(&[family(gateway), prefix, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, 0, RTN_UNICAST, 0, 0, 0, 0]);
    if let Some(to) = to {
        m.attr(RTA_DST, &octets(to.address()));
    }
    m.attr(RTA_GATEWAY, &octets(gateway)).u32(RTA_OIF, index);
}
