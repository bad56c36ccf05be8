//! Links, addresses, routes and neighbours. Source: rtnetlink(7), <linux/rtnetlink.h>, <linux/if_link.h>.

mod link;
mod qdisc;
mod route;

pub use link::{Link, NewBridge, NewVeth, VethPeer, decode_link};
pub use qdisc::{Bucket, Emulation, Qdisc, decode_qdisc};
pub use route::{Address, Neighbour, Route, decode_address, decode_neighbour, decode_route};

use crate::netlink::{Batch, Message, Protocol, Reply, Socket};
use drydock_core::Result;
use std::os::fd::{AsRawFd, BorrowedFd};

pub(crate) const RTM_NEWLINK: u16 = 16;
pub(crate) const RTM_DELLINK: u16 = 17;
pub(crate) const RTM_GETLINK: u16 = 18;
pub(crate) const RTM_SETLINK: u16 = 19;
pub(crate) const RTM_NEWADDR: u16 = 20;
pub(crate) const RTM_DELADDR: u16 = 21;
pub(crate) const RTM_GETADDR: u16 = 22;
pub(crate) const RTM_NEWROUTE: u16 = 24;
pub(crate) const RTM_DELROUTE: u16 = 25;
pub(crate) const RTM_GETROUTE: u16 = 26;
pub(crate) const RTM_GETNEIGH: u16 = 30;
pub(crate) const RTM_NEWQDISC: u16 = 36;
pub(crate) const RTM_DELQDISC: u16 = 37;
pub(crate) const RTM_GETQDISC: u16 = 38;
const RTM_GETNSID: u16 = 90;
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;

/// IFF_UP.
pub const UP: u32 = 1;

/// An rtnetlink socket with the operations that Drydock needs.
#[derive(Debug)]
pub struct Rtnl {
    /// The socket.
    pub socket: Socket,
}

impl Rtnl {
    /// Opens one in the calling thread's network namespace.
    ///
    /// # Errors
    /// socket(2)'s.
    pub fn here() -> Result<Self> {
        Socket::here(Protocol::Route).map(Self::over)
    }

    /// Over a socket that was opened in another namespace.
    pub fn over(socket: Socket) -> Self {
        Self { socket }
    }

    /// The link of this name, or `None`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn link(&self, name: &str) -> Result<Option<Link>> {
        let mut batch = Batch::new();
        batch.message("RTM_GETLINK", name, RTM_GETLINK, 0, &[], |m| {
            m.fixed(&link::header(0, 0, 0)).text(link::IFLA_IFNAME, name);
        });
        Ok(self.socket.get(&batch)?.and_then(|r| decode_link(&r.payload)))
    }

    /// The link of this index, or `None`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn link_by_index(&self, index: u32) -> Result<Option<Link>> {
        let mut batch = Batch::new();
        batch.message("RTM_GETLINK", "", RTM_GETLINK, 0, &[], |m| {
            m.fixed(&link::header(index, 0, 0));
        });
        Ok(self.socket.get(&batch)?.and_then(|r| decode_link(&r.payload)))
    }

    /// All links.
    ///
    /// # Errors
    /// The kernel's.
    pub fn links(&self) -> Result<Vec<Link>> {
        let replies = self.socket.dump("RTM_GETLINK", RTM_GETLINK, &link::header(0, 0, 0))?;
        Ok(decode(&replies, decode_link))
    }

    /// All addresses.
    ///
    /// # Errors
    /// The kernel's.
    pub fn addresses(&self) -> Result<Vec<Address>> {
        let replies = self.socket.dump("RTM_GETADDR", RTM_GETADDR, &[0; 8])?;
        Ok(decode(&replies, decode_address))
    }

    /// The number by which this socket's namespace calls another one (`link-netnsid`); `None` if it has not given it one.
    ///
    /// # Errors
    /// The kernel's.
    pub fn namespace_id(&self, namespace: BorrowedFd<'_>) -> Result<Option<i32>> {
        let fd = namespace.as_raw_fd().cast_unsigned();
        let mut batch = Batch::new();
        batch.message("RTM_GETNSID", "", RTM_GETNSID, 0, &[], |m| {
            m.fixed(&[0; 4]).u32(NETNSA_FD, fd);
        });
        let reply = self.socket.get(&batch)?;
        let attrs = reply.as_ref().and_then(|r| r.payload.get(4..)).map(crate::netlink::attributes);
        Ok(attrs.and_then(|a| a.u32(NETNSA_NSID)).map(u32::cast_signed).filter(|id| *id >= 0))
    }

    /// All routes of the main tables.
    ///
    /// # Errors
    /// The kernel's.
    pub fn routes(&self) -> Result<Vec<Route>> {
        let mut all = Vec::new();
        for family in [nix::libc::AF_INET, nix::libc::AF_INET6] {
            let mut header = [0u8; 12];
            if let (Some(slot), Ok(family)) = (header.first_mut(), u8::try_from(family)) {
                *slot = family;
            }
            match self.socket.dump("RTM_GETROUTE", RTM_GETROUTE, &header) {
                Ok(replies) => all.extend(decode(&replies, decode_route)),
                // A kernel without IPv6 has no IPv6 routes.
                Err(_) if family == nix::libc::AF_INET6 => {}
                Err(e) => return Err(e),
            }
        }
        Ok(all)
    }

    /// All neighbours (ARP and NDP entries).
    ///
    /// # Errors
    /// The kernel's.
    pub fn neighbours(&self) -> Result<Vec<Neighbour>> {
        let replies = self.socket.dump("RTM_GETNEIGH", RTM_GETNEIGH, &[0; 12])?;
        Ok(decode(&replies, decode_neighbour))
    }

    /// All queueing disciplines; none where the kernel has no traffic control.
    ///
    /// # Errors
    /// The kernel's.
    pub fn qdiscs(&self) -> Result<Vec<Qdisc>> {
        match self.socket.dump("RTM_GETQDISC", RTM_GETQDISC, &qdisc::header(0, 0, 0)) {
            Ok(replies) => Ok(decode(&replies, decode_qdisc)),
            Err(e) if e.errno() == Some(nix::libc::EOPNOTSUPP) => Ok(Vec::new()),
            Err(e) => Err(e),
        }
    }

    /// The route that the kernel would take to `to`.
    ///
    /// # Errors
    /// ENETUNREACH without one.
    pub fn route_to(&self, to: std::net::IpAddr) -> Result<Option<Route>> {
        let mut batch = Batch::new();
        batch.message("RTM_GETROUTE", &to.to_string(), RTM_GETROUTE, 0, &[], |m| {
            m.fixed(&route::query_header(to)).attr(route::RTA_DST, &crate::address::octets(to));
        });
        Ok(self.socket.get(&batch)?.and_then(|r| decode_route(&r.payload)))
    }

    /// Sends a batch.
    ///
    /// # Errors
    /// The first failure.
    pub fn execute(&self, batch: &Batch) -> Result<()> {
        self.socket.execute(batch)
    }

    /// The MTU of the default route's device, else 1500.
    ///
    /// # Errors
    /// The kernel's.
    pub fn default_mtu(&self) -> Result<u32> {
        let any = std::net::IpAddr::from([192, 0, 2, 1]);
        // A look-up instead of a dump: routers have a million routes. Documentation addresses take the default route.
        let Ok(Some(route)) = self.route_to(any) else { return Ok(1500) };
        let Some(link) = route.output.map(|index| self.link_by_index(index)).transpose()?.flatten() else {
            return Ok(1500);
        };
        Ok(link.mtu.filter(|mtu| (576..=65535).contains(mtu)).unwrap_or(1500))
    }
}

fn decode<T>(replies: &[Reply], one: impl Fn(&[u8]) -> Option<T>) -> Vec<T> {
    replies.iter().filter_map(|r| one(&r.payload)).collect()
}

/// Runs every decoder over bytes: for property tests and fuzzing. Returns how many made sense of them.
pub fn decode_anything(message: &Message<'_>) -> usize {
    let p = message.payload;
    [
        decode_link(p).is_some(),
        decode_address(p).is_some(),
        decode_route(p).is_some(),
        decode_neighbour(p).is_some(),
        decode_qdisc(p).is_some(),
    ]
    .iter()
    .filter(|x| **x)
    .count()
}
