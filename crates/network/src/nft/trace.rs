//! Following one connection through all tables of a namespace, ours or not: the kernel itself tells by which chain and rule
//! each packet is decided. Source: nft(8) "monitor trace", <linux/netfilter/nf_tables.h>.
//!
//! The table that marks the packets belongs to the socket (NFT_TABLE_F_OWNER): it goes with it, however the process ends.

use super::expr::{self, Expr, Meta};
use super::{
    BATCH_BEGIN, BATCH_END, FAMILY_INET, FAMILY_IPV4, FAMILY_IPV6, FAMILY_NETDEV, GETCHAIN, GETRULE,
    NEWCHAIN, NEWRULE, NEWTABLE, Nft, generic, text,
};
use crate::address::octets;
use crate::netlink::{APPEND, Attributes, Batch, CREATE, Protocol, Socket, attributes, messages};
use drydock_core::Result;
use std::net::IpAddr;
use std::time::{Duration, Instant};

const TRACE: u16 = (10 << 8) | 17;
/// NFNLGRP_NFTRACE.
const GROUP: u32 = 9;
const OWNED: u32 = 2;
/// Before everything but defragmentation.
const PRIORITY: i32 = -450;
const TYPE_POLICY: u32 = 1;
const DROP: u32 = 0;

/// Packets to look at.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// Where they come from.
    pub source: IpAddr,
    /// Where they go.
    pub destination: IpAddr,
    /// TCP port there.
    pub port: u16,
}

/// A trace that runs until it is dropped.
#[derive(Debug)]
pub struct Trace {
    events: Socket,
    nft: Nft,
}

/// What dropped a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Drop {
    family: u32,
    table: String,
    chain: String,
    rule: Option<u64>,
}

fn table_name() -> String {
    format!("drydock-trace-{}", std::process::id())
}

fn conditions(flow: &Flow) -> Vec<Expr> {
    let v4 = flow.source.is_ipv4();
    let family = if v4 { FAMILY_IPV4 } else { FAMILY_IPV6 };
    let field = |base, offset, length| Expr::Payload { base, offset, length };
    let (source, destination, length) = if v4 { (12, 16, 4) } else { (8, 24, 16) };
    vec![
        Expr::Meta(Meta::Family),
        Expr::Compare(false, vec![family]),
        field(expr::Base::Network, source, length),
        Expr::Compare(false, octets(flow.source)),
        field(expr::Base::Network, destination, length),
        Expr::Compare(false, octets(flow.destination)),
        Expr::Meta(Meta::Transport),
        Expr::Compare(false, vec![6]),
        field(expr::Base::Transport, 2, 2),
        Expr::Compare(false, flow.port.to_be_bytes().to_vec()),
        Expr::Immediate(1, vec![1]),
        Expr::SetTrace,
    ]
}

impl Trace {
    /// Begins, in the calling thread's namespace.
    ///
    /// # Errors
    /// The kernel's: before 5.12 tables had no owner, and tracing needs CAP_NET_ADMIN.
    pub fn begin(flow: &Flow) -> Result<Self> {
        let events = Socket::listening(Protocol::Netfilter, GROUP)?;
        let nft = Nft::here()?;
        let name = table_name();
        let mut batch = Batch::new();
        batch.marker(BATCH_BEGIN, |m| {
            m.fixed(&generic(0, 10));
        });
        batch.message("NFT_MSG_NEWTABLE", &name, NEWTABLE, CREATE, &[], |m| {
            m.fixed(&generic(FAMILY_INET, 0)).text(1, &name).be32(2, OWNED);
        });
        for (chain, hook) in [("prerouting", 0), ("output", 3)] {
            batch.message("NFT_MSG_NEWCHAIN", chain, NEWCHAIN, CREATE, &[], |m| {
                m.fixed(&generic(FAMILY_INET, 0)).text(1, &name).text(3, chain).nest(4, |m| {
                    m.be32(1, hook).be32(2, PRIORITY.cast_unsigned());
                });
                m.be32(5, 1).text(7, "filter");
            });
            batch.message("NFT_MSG_NEWRULE", chain, NEWRULE, CREATE | APPEND, &[], |m| {
                m.fixed(&generic(FAMILY_INET, 0)).text(1, &name).text(2, chain);
                m.nest(4, |m| conditions(flow).iter().for_each(|e| e.encode(m)));
            });
        }
        batch.marker(BATCH_END, |m| {
            m.fixed(&generic(0, 10));
        });
        nft.socket.execute(&batch)?;
        Ok(Self { events, nft })
    }

    /// Whether a packet came by, and what dropped one, in words.
    ///
    /// # Errors
    /// The kernel's.
    pub fn end(self) -> Result<(bool, Option<String>)> {
        let mut seen = false;
        let mut dropped = None;
        let deadline = Instant::now() + Duration::from_millis(200);
        while dropped.is_none() && Instant::now() < deadline {
            let before = seen;
            self.events.receive_queued(|datagram| {
                for message in messages(datagram).filter(|m| m.kind == TRACE) {
                    let Some(attrs) = message.payload.get(4..).map(attributes) else { continue };
                    seen = true;
                    dropped = dropped.take().or_else(|| decode(attrs));
                }
            })?;
            if seen && seen == before {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let words = dropped.map(|d| self.words(&d)).transpose()?;
        Ok((seen, words))
    }

    fn words(&self, d: &Drop) -> Result<String> {
        // Chains of the inet family are traced as the packet's own family.
        let right = |family: Option<&u8>| {
            family.is_some_and(|f| {
                u32::from(*f) == d.family || (*f == FAMILY_INET && d.family != u32::from(FAMILY_NETDEV))
            })
        };
        let place = |family: u8| {
            let name = match family {
                FAMILY_INET => "inet",
                FAMILY_IPV4 => "ip",
                FAMILY_IPV6 => "ip6",
                _ => "netdev",
            };
            format!("table {name} {} chain {}", d.table, d.chain)
        };
        let (kind, what) = match d.rule {
            Some(_) => (GETRULE, "NFT_MSG_GETRULE"),
            None => (GETCHAIN, "NFT_MSG_GETCHAIN"),
        };
        for reply in self.nft.socket.dump(what, kind, &generic(0, 0))? {
            let Some(attrs) = reply.payload.get(4..).map(attributes) else { continue };
            let family = reply.payload.first();
            if attrs.text(1).as_deref() != Some(&d.table) || !right(family) {
                continue;
            }
            let place = place(family.copied().unwrap_or(FAMILY_INET));
            match d.rule {
                None if attrs.text(3).as_deref() == Some(&d.chain) => {
                    return Ok(format!("the policy of {place}"));
                }
                Some(handle)
                    if attrs.text(2).as_deref() == Some(&d.chain) && attrs.be64(3) == Some(handle) =>
                {
                    let list = attrs.find_kind(4).map(expr::decode_list).unwrap_or_default();
                    let plain: Vec<Expr> =
                        list.into_iter().filter(|e| !matches!(e, Expr::Counter { .. })).collect();
                    let comment = attrs.find_kind(7).and_then(super::read_comment);
                    let comment = comment.map_or(String::new(), |c| format!(" comment \"{c}\""));
                    return Ok(format!("the rule '{}{comment}' of {place}", text::rule(&plain)));
                }
                _ => {}
            }
        }
        Ok(format!("table {} chain {}", d.table, d.chain))
    }
}

fn decode(attrs: Attributes<'_>) -> Option<Drop> {
    let kind = attrs.be32(4)?;
    let code = if kind == TYPE_POLICY { attrs.be32(16)? } else { attrs.nested(5)?.be32(1)? };
    (code == DROP).then_some(())?;
    Some(Drop {
        family: attrs.be32(15).unwrap_or(0),
        table: attrs.text(1)?,
        chain: attrs.text(2)?,
        rule: (kind != TYPE_POLICY).then(|| attrs.be64(3)).flatten(),
    })
}

impl Nft {
    /// Whether a port of our bridges may not send to an address.
    ///
    /// # Errors
    /// The kernel's.
    pub fn port_refuses(&self, link: &str, to: IpAddr) -> Result<bool> {
        let bytes = octets(to);
        for reply in self.socket.dump("NFT_MSG_GETRULE", GETRULE, &generic(FAMILY_NETDEV, 0))? {
            let Some(attrs) = reply.payload.get(4..).map(attributes) else { continue };
            let list = attrs.find_kind(4).map(expr::decode_list).unwrap_or_default();
            let about = list.iter().any(|e| matches!(e, Expr::Compare(false, value) if *value == bytes));
            if attrs.text(2).as_deref() == Some(link) && about && list.last() == Some(&expr::DROP) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a port of our bridges may send from an address; none if it is not checked.
    ///
    /// # Errors
    /// The kernel's.
    pub fn port_accepts(&self, link: &str, source: IpAddr) -> Result<Option<bool>> {
        if !self.checked_ports()?.iter().any(|p| p == link) {
            return Ok(None);
        }
        let bytes = octets(source);
        let mut checked = false;
        for reply in self.socket.dump("NFT_MSG_GETRULE", GETRULE, &generic(FAMILY_NETDEV, 0))? {
            let Some(attrs) = reply.payload.get(4..).map(attributes) else { continue };
            if attrs.text(2).as_deref() == Some(link) {
                let list = attrs.find_kind(4).map(expr::decode_list).unwrap_or_default();
                if list.iter().any(|e| matches!(e, Expr::Compare(false, value) if *value == bytes)) {
                    return Ok(Some(true));
                }
                checked |= list.iter().any(|e| matches!(e, Expr::Payload { base: expr::Base::Link, .. }));
            }
        }
        Ok(checked.then_some(false))
    }
}
