//! What a port of our bridges may send: frames with its own link-layer and IP addresses, and nothing that only a router
//! or a DHCP server says. `table netdev drydock` has one chain for each port, at the ingress of the host's end, named like
//! it. netdev needs no module of bridge filtering, and a port's rules cost the others nothing.

use super::expr::{ACCEPT, Base, COUNTER, DROP, Expr, Meta};
use super::{
    BATCH_BEGIN, BATCH_END, DELCHAIN, DELTABLE, ENOENT, FAMILY_NETDEV, GETCHAIN, NEWCHAIN, NEWRULE, NEWTABLE,
    Nft, TABLE, comment_bytes, generic,
};
use crate::address::{Mac, octets};
use crate::netlink::{APPEND, Batch, Builder, CREATE, NONREC, attributes};
use drydock_core::Result;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const ARP: [u8; 2] = [0x08, 0x06];
const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;
const DHCP_SERVER: u16 = 67;
const DHCPV6_SERVER: u16 = 547;
/// Before everything else at the ingress.
const PRIORITY: i32 = -500;

/// The addresses of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Its link-layer address.
    pub mac: Mac,
    /// Its IP addresses. The IPv6 link-local one that follows from the link-layer address is added.
    pub ip: Vec<IpAddr>,
}

/// A port whose senders are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source<'a> {
    /// The host's end.
    pub link: &'a str,
    /// The owner's tag.
    pub tag: &'a str,
    /// What it may send from; anything if none.
    pub addresses: Option<&'a Addresses>,
    /// It may ask the cloud's metadata server.
    pub metadata: bool,
}

/// Where clouds answer questions about the machine, its credentials among them: EC2, Azure, Google and others at the
/// first, EC2 at the second too.
pub const METADATA: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

impl Addresses {
    /// fe80:: with the modified EUI-64 of the link-layer address (RFC 4291, appendix A).
    pub fn link_local(&self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.mac.0.map(u16::from);
        Ipv6Addr::new(0xfe80, 0, 0, 0, ((a ^ 2) << 8) | b, (c << 8) | 0xff, 0xfe00 | d, (e << 8) | f)
    }
}

fn is(load: Expr, value: impl Into<Vec<u8>>) -> [Expr; 2] {
    [load, Expr::Compare(false, value.into())]
}

fn field(base: Base, offset: u32, length: u32) -> Expr {
    Expr::Payload { base, offset, length }
}

fn from(address: IpAddr) -> [Expr; 2] {
    let (offset, length) = if address.is_ipv4() { (12, 4) } else { (8, 16) };
    is(field(Base::Network, offset, length), octets(address))
}

fn to(address: IpAddr) -> [Expr; 2] {
    let (offset, length) = if address.is_ipv4() { (16, 4) } else { (24, 16) };
    is(field(Base::Network, offset, length), octets(address))
}

/// The rules, in their order.
fn rules(source: &Source<'_>) -> Vec<Vec<Expr>> {
    let mut list = Vec::new();
    for address in METADATA.into_iter().filter(|_| !source.metadata) {
        let ethertype = is(Expr::Meta(Meta::Protocol), if address.is_ipv4() { IPV4 } else { IPV6 });
        list.push([&ethertype[..], &to(address), &[COUNTER, DROP]].concat());
    }
    list.extend(source.addresses.map(own).unwrap_or_default());
    list
}

/// Only from its own addresses.
fn own(a: &Addresses) -> Vec<Vec<Expr>> {
    let mut list: Vec<Vec<Expr>> = Vec::new();
    let mut rule = |parts: &[&[Expr]], end: Expr| {
        let mut expressions = parts.concat();
        expressions.extend([COUNTER, end]);
        list.push(expressions);
    };
    let ethertype = |t: [u8; 2]| is(Expr::Meta(Meta::Protocol), t);
    let transport = |number: u8| is(Expr::Meta(Meta::Transport), [number]);
    let source_port = |port: u16| is(field(Base::Transport, 0, 2), port.to_be_bytes());
    let icmp_type = |t: u8| is(field(Base::Transport, 0, 1), [t]);
    let (arp, ip4, ip6) = (ethertype(ARP), ethertype(IPV4), ethertype(IPV6));
    rule(&[&[field(Base::Link, 6, 6), Expr::Compare(true, a.mac.0.to_vec())]], DROP);
    let own_hardware = is(field(Base::Network, 8, 6), a.mac.0);
    let probe = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let fours = || a.ip.iter().copied().filter(IpAddr::is_ipv4);
    for address in fours().chain([probe]) {
        rule(&[&arp, &own_hardware, &is(field(Base::Network, 14, 4), octets(address))], ACCEPT);
    }
    rule(&[&ip4, &transport(UDP), &source_port(DHCP_SERVER)], DROP);
    for address in fours() {
        rule(&[&ip4, &from(address)], ACCEPT);
    }
    for kind in [ROUTER_ADVERTISEMENT, REDIRECT] {
        rule(&[&ip6, &transport(ICMPV6), &icmp_type(kind)], DROP);
    }
    rule(&[&ip6, &transport(UDP), &source_port(DHCPV6_SERVER)], DROP);
    let sixes = || a.ip.iter().copied().filter(IpAddr::is_ipv6).chain([IpAddr::V6(a.link_local())]);
    for address in sixes() {
        let target = is(field(Base::Transport, 8, 16), octets(address));
        rule(
            &[&ip6, &from(address), &transport(ICMPV6), &icmp_type(NEIGHBOUR_ADVERTISEMENT), &target],
            ACCEPT,
        );
    }
    rule(&[&ip6, &transport(ICMPV6), &icmp_type(NEIGHBOUR_ADVERTISEMENT)], DROP);
    for address in sixes() {
        rule(&[&ip6, &from(address)], ACCEPT);
    }
    // Before it has an address: duplicate address detection.
    let none = from(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    rule(&[&ip6, &none, &transport(ICMPV6), &icmp_type(NEIGHBOUR_SOLICITATION)], ACCEPT);
    // Everything else, tagged frames and bridge protocols among it.
    rule(&[], DROP);
    list
}

fn chain<'b, 'a>(m: &'b mut Builder<'a>, name: &str) -> &'b mut Builder<'a> {
    m.fixed(&generic(FAMILY_NETDEV, 0)).text(1, TABLE).text(3, name)
}

impl Nft {
    /// Checks what a port sends from now on, in place of what was checked before: all or nothing.
    ///
    /// # Errors
    /// The kernel's: EOPNOTSUPP or EAFNOSUPPORT without the netdev family.
    pub fn check_source(&self, source: &Source<'_>) -> Result<()> {
        let mut batch = Batch::new();
        let link = source.link;
        batch.marker(BATCH_BEGIN, |m| {
            m.fixed(&generic(0, 10));
        });
        batch.message("NFT_MSG_NEWTABLE", "netdev drydock", NEWTABLE, CREATE, &[], |m| {
            m.fixed(&generic(FAMILY_NETDEV, 0)).text(1, TABLE);
        });
        batch.message("NFT_MSG_NEWCHAIN", link, NEWCHAIN, CREATE, &[], |m| {
            chain(m, link).nest(4, |m| {
                m.be32(1, 0).be32(2, PRIORITY.cast_unsigned()).text(3, link);
            });
            m.be32(5, 1).text(7, "filter");
        });
        // A rule without a handle: all of the chain.
        batch.message("NFT_MSG_DELRULE", link, super::DELRULE, 0, &[ENOENT], |m| {
            m.fixed(&generic(FAMILY_NETDEV, 0)).text(1, TABLE).text(2, link);
        });
        for expressions in rules(source) {
            batch.message("NFT_MSG_NEWRULE", link, NEWRULE, CREATE | APPEND, &[], |m| {
                m.fixed(&generic(FAMILY_NETDEV, 0)).text(1, TABLE).text(2, link);
                m.nest(4, |m| expressions.iter().for_each(|e| e.encode(m)));
                m.attr(7, &comment_bytes(source.tag));
            });
        }
        batch.marker(BATCH_END, |m| {
            m.fixed(&generic(0, 10));
        });
        self.socket.execute(&batch)
    }

    /// The ports that are checked.
    ///
    /// # Errors
    /// The kernel's.
    pub fn checked_ports(&self) -> Result<Vec<String>> {
        let replies = match self.socket.dump("NFT_MSG_GETCHAIN", GETCHAIN, &generic(FAMILY_NETDEV, 0)) {
            Ok(replies) => replies,
            Err(e) if is_without(&e) => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        let name = |payload: &[u8]| {
            let attrs = attributes(payload.get(4..)?);
            (payload.first() == Some(&FAMILY_NETDEV) && attrs.text(1)? == TABLE)
                .then(|| attrs.text(3))
                .flatten()
        };
        Ok(replies.iter().filter_map(|r| name(&r.payload)).collect())
    }

    /// Checks these ports no longer; the table goes with its last chain. What is gone already is well.
    ///
    /// # Errors
    /// The kernel's.
    pub fn uncheck(&self, gone: impl Fn(&str) -> bool) -> Result<()> {
        for attempt in 0..5 {
            let (out, kept): (Vec<String>, Vec<String>) =
                self.checked_ports()?.into_iter().partition(|c| gone(c));
            if out.is_empty() && !(kept.is_empty() && self.has_table(FAMILY_NETDEV)?) {
                return Ok(());
            }
            let batch = Self::batch(|batch| {
                for name in &out {
                    batch.message("NFT_MSG_DELRULE", name, super::DELRULE, 0, &[], |m| {
                        m.fixed(&generic(FAMILY_NETDEV, 0)).text(1, TABLE).text(2, name);
                    });
                    batch.message("NFT_MSG_DELCHAIN", name, DELCHAIN, 0, &[], |m| {
                        chain(m, name);
                    });
                }
                if kept.is_empty() {
                    batch.message("NFT_MSG_DELTABLE", "netdev drydock", DELTABLE, NONREC, &[], |m| {
                        m.fixed(&generic(FAMILY_NETDEV, 0)).text(1, TABLE);
                    });
                }
            });
            match self.socket.execute(&batch) {
                Ok(()) => return Ok(()),
                // A device went and took its chain along, or somebody added one: look again.
                Err(e) if attempt < 4 && matches!(e.errno(), Some(ENOENT | nix::libc::EBUSY)) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// The kernel has no nf_tables, or not this family; or the caller may not look.
fn is_without(error: &drydock_core::Error) -> bool {
    use nix::libc::{EAFNOSUPPORT, EINVAL, EOPNOTSUPP, EPERM};
    matches!(error.errno(), Some(EAFNOSUPPORT | EINVAL | EOPNOTSUPP | EPERM | ENOENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_follows_from_the_hardware_address() {
        let a = Addresses { mac: Mac::parse("0a:dd:0a:00:00:02").unwrap(), ip: Vec::new() };
        assert_eq!(a.link_local().to_string(), "fe80::8dd:aff:fe00:2");
    }

    #[test]
    fn read_like_nft() {
        let ip = vec!["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let a = Addresses { mac: Mac::parse("0a:dd:0a:00:00:02").unwrap(), ip };
        let source = Source { link: "l", tag: "t", addresses: Some(&a), metadata: false };
        assert!(rules(&Source { addresses: None, metadata: true, ..source.clone() }).is_empty());
        assert_eq!(rules(&Source { metadata: true, ..source.clone() }).len() + 2, rules(&source).len());
        let lines: Vec<String> = rules(&source)
            .iter()
            .map(|r| super::super::text::rule(r).replace(" counter packets 0 bytes 0", ""))
            .collect();
        for line in [
            "meta protocol ip ip daddr 169.254.169.254 drop",
            "ether saddr != 0a:dd:0a:00:00:02 drop",
            "meta protocol arp arp saddr ether 0a:dd:0a:00:00:02 arp saddr ip 10.0.0.2 accept",
            "meta protocol ip ip saddr 10.0.0.2 accept",
            "meta protocol ip6 icmpv6 type 134 drop",
        ] {
            assert!(lines.iter().any(|l| l == line), "{line}\nnot in\n{}", lines.join("\n"));
        }
        assert!(lines.last().unwrap().ends_with("drop"));
    }
}
