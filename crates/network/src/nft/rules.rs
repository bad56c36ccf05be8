//! The rules that we make, as expressions.

use super::expr::{ACCEPT, Base, COUNTER, Ct, DROP, Expr, Meta};
use super::{Chain, NewRule};
use crate::address::{Subnet, octets};
use crate::publish::{Publish, Transport};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The comment of the table's own rule.
pub const GUARD_TAG: &str = "drydock:guard";

const FAMILY_IPV4: u8 = 2;
const FAMILY_IPV6: u8 = 10;
const STATUS_DNAT: u32 = 0x20;
const STATE_ESTABLISHED_RELATED: u32 = 0x6;
const TYPE_LOCAL: u32 = 2;

#[derive(Clone, Copy)]
enum Side {
    Source,
    Destination,
}

fn family(address: IpAddr) -> [Expr; 2] {
    let number = if address.is_ipv4() { FAMILY_IPV4 } else { FAMILY_IPV6 };
    [Expr::Meta(Meta::Family), Expr::Compare(false, vec![number])]
}

/// Family, then load, mask and compare: `ip saddr 10.0.0.0/24`.
fn subnet(side: Side, subnet: Subnet, differs: bool) -> Vec<Expr> {
    let address = subnet.address();
    let offset = match (side, address.is_ipv4()) {
        (Side::Source, true) => 12,
        (Side::Destination, true) => 16,
        (Side::Source, false) => 8,
        (Side::Destination, false) => 24,
    };
    let bytes = octets(address);
    let mut list = family(address).to_vec();
    let whole = u32::try_from(bytes.len()).unwrap_or(4);
    if subnet.prefix() & 7 == 0 {
        let length = u32::from(subnet.prefix() / 8);
        list.push(Expr::Payload { base: Base::Network, offset, length });
        list.push(Expr::Compare(differs, bytes.into_iter().take(usize::from(subnet.prefix() / 8)).collect()));
    } else {
        list.push(Expr::Payload { base: Base::Network, offset, length: whole });
        list.push(Expr::Mask(subnet.mask()));
        list.push(Expr::Compare(differs, bytes));
    }
    list
}

/// The expressions that match a subnet as source or destination.
pub(super) fn net(of: Subnet, source: bool) -> Vec<Expr> {
    subnet(if source { Side::Source } else { Side::Destination }, of, false)
}

pub(super) fn net_len(of: Subnet) -> usize {
    net(of, true).len()
}

fn host(side: Side, address: IpAddr) -> Vec<Expr> {
    subnet(side, Subnet::of(address, crate::address::width(address)), false)
}

fn loopback(of: IpAddr) -> Subnet {
    match of {
        IpAddr::V4(_) => Subnet::of(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
        IpAddr::V6(_) => Subnet::of(IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
    }
}

fn input_name(name: &str, differs: bool) -> [Expr; 2] {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    [Expr::Meta(Meta::InputName), Expr::Compare(differs, bytes)]
}

fn destination_is_local() -> [Expr; 2] {
    [Expr::DestinationType, Expr::Compare(false, TYPE_LOCAL.to_ne_bytes().to_vec())]
}

fn was_forwarded_port() -> [Expr; 3] {
    let bit = STATUS_DNAT.to_ne_bytes().to_vec();
    [Expr::Ct(Ct::Status), Expr::Mask(bit), Expr::Compare(true, vec![0; 4])]
}

fn is_answer() -> [Expr; 3] {
    let bits = STATE_ESTABLISHED_RELATED.to_ne_bytes().to_vec();
    [Expr::Ct(Ct::State), Expr::Mask(bits), Expr::Compare(true, vec![0; 4])]
}

fn port(transport: Transport, number: u16) -> [Expr; 4] {
    [
        Expr::Meta(Meta::Transport),
        Expr::Compare(false, vec![transport.number()]),
        Expr::Payload { base: Base::Transport, offset: 2, length: 2 },
        Expr::Compare(false, number.to_be_bytes().to_vec()),
    ]
}

fn rule(chain: Chain, tag: &str, parts: impl IntoIterator<Item = Vec<Expr>>, end: Expr) -> NewRule {
    let mut expressions: Vec<Expr> = parts.into_iter().flatten().collect();
    expressions.extend([COUNTER, end]);
    NewRule { chain, first: false, tag: tag.to_string(), expressions }
}

/// Packets from another machine or a container to 127.0.0.0/8 are dropped before anything else: publishing on loopback
/// needs route_localnet, which would let them in (CVE-2020-8558).
pub fn guard() -> NewRule {
    let lo = loopback(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let parts = [input_name("lo", true).to_vec(), subnet(Side::Destination, lo, false)];
    rule(Chain::Guard, GUARD_TAG, parts, DROP)
}

/// What a network needs to reach the world: masquerade of what leaves the subnet.
pub fn masquerade(tag: &str, from: Subnet) -> NewRule {
    let parts = [subnet(Side::Source, from, false), subnet(Side::Destination, from, true)];
    rule(Chain::Postrouting, tag, parts, Expr::Masquerade)
}

/// What may be forwarded: within the subnet, answers, published ports; nothing else from outside gets in, and what the
/// subnet sends gets out, unless it is internal: then only answers do.
pub fn forward(tag: &str, net: Subnet, internal: bool) -> Vec<NewRule> {
    let to = || subnet(Side::Destination, net, false);
    let from = || subnet(Side::Source, net, false);
    let mut rules = vec![
        rule(Chain::Forward, tag, [from(), to()], ACCEPT),
        rule(Chain::Forward, tag, [to(), is_answer().to_vec()], ACCEPT),
        rule(Chain::Forward, tag, [to(), was_forwarded_port().to_vec()], ACCEPT),
        rule(Chain::Forward, tag, [to()], DROP),
    ];
    if internal {
        rules.push(rule(Chain::Forward, tag, [from(), is_answer().to_vec()], ACCEPT));
        rules.push(rule(Chain::Forward, tag, [from()], DROP));
    }
    // Inserted at the front one after the other, so the last comes first. They stand before every "from" rule, which
    // is what keeps one network's packets out of another.
    rules.reverse();
    for rule in &mut rules {
        rule.first = true;
    }
    if !internal {
        rules.push(rule(Chain::Forward, tag, [from()], ACCEPT));
    }
    rules
}

/// How the comments of [`allow`]'s rules begin.
pub const ALLOW_TAG: &str = "drydock:allow";

/// Two subnets may reach each other, whatever the rules of their networks say: these stand before them.
pub fn allow(a: Subnet, b: Subnet) -> Vec<NewRule> {
    let one = |from, to| {
        let parts = [subnet(Side::Source, from, false), subnet(Side::Destination, to, false)];
        NewRule { first: true, ..rule(Chain::Forward, ALLOW_TAG, parts, ACCEPT) }
    };
    vec![one(a, b), one(b, a)]
}

/// Where a published port leads, and the network around it.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The container's address.
    pub container: IpAddr,
    /// The host's interface to it: its bridge, or the host end of its veth pair.
    pub interface: &'a str,
    /// The host's address on that interface.
    pub gateway: Option<IpAddr>,
    /// The subnet on that interface.
    pub subnet: Option<Subnet>,
}

/// The rules of one published port: to the container for who asks the host address, and the source rewritten where the
/// answer would not come back otherwise (from 127.0.0.1, and from a neighbour on the same bridge).
pub fn publish(tag: &str, target: Target<'_>, p: &Publish) -> Vec<NewRule> {
    let to = target.container;
    let ends = [
        Expr::Immediate(1, octets(to)),
        Expr::Immediate(2, p.container_port.to_be_bytes().to_vec()),
        COUNTER,
        Expr::DestinationNat { family: u32::from(if to.is_ipv4() { FAMILY_IPV4 } else { FAMILY_IPV6 }) },
    ];
    let forward_port = |chain, matches: Vec<Vec<Expr>>| {
        let mut expressions = family(to).to_vec();
        expressions.extend(matches.into_iter().flatten());
        expressions.extend(port(p.transport, p.host_port));
        expressions.extend(ends.clone());
        NewRule { chain, first: false, tag: tag.to_string(), expressions }
    };
    let mut rules = Vec::new();
    if p.host.is_loopback() {
        rules.push(forward_port(Chain::Output, vec![host(Side::Destination, p.host)]));
        // Neighbours on our own bridge reach it by the host's address there; no other interface does.
        if let Some(gateway) = target.gateway {
            let near = vec![input_name(target.interface, false).to_vec(), host(Side::Destination, gateway)];
            rules.push(forward_port(Chain::Prerouting, near));
        }
    } else {
        let at = if p.host.is_unspecified() {
            vec![destination_is_local().to_vec()]
        } else {
            vec![host(Side::Destination, p.host), destination_is_local().to_vec()]
        };
        rules.push(forward_port(Chain::Prerouting, at.clone()));
        rules.push(forward_port(Chain::Output, at));
    }
    let arrived = || {
        let mut list = host(Side::Destination, to);
        list.extend(port(p.transport, p.container_port));
        list.extend(was_forwarded_port());
        list
    };
    let sources = [Some(loopback(to)).filter(|_| to.is_ipv4()), target.subnet];
    for source in sources.into_iter().flatten() {
        let parts = [subnet(Side::Source, source, false), arrived()];
        rules.push(rule(Chain::Postrouting, tag, parts, Expr::Masquerade));
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::super::text;
    use super::*;
    use crate::netlink::{Batch, attributes, messages};

    fn all() -> Vec<NewRule> {
        let net = Subnet::parse("10.88.0.0/16").unwrap();
        let odd = Subnet::parse("10.0.0.64/27").unwrap();
        let target = Target {
            container: "10.88.0.2".parse().unwrap(),
            interface: "drydock0",
            gateway: Some("10.88.0.1".parse().unwrap()),
            subnet: Some(net),
        };
        let mut rules = vec![guard(), masquerade("t", net), masquerade("t", odd)];
        rules.push(masquerade("t", Subnet::parse("fd00::/64").unwrap()));
        rules.extend(forward("t", net, false));
        rules.extend(forward("t", odd, true));
        rules.extend(allow(net, odd));
        for spec in ["8080:80", "0.0.0.0:53:53/udp", "192.0.2.1:8080:80"] {
            rules.extend(publish("t", target, &Publish::parse(spec).unwrap()[0]));
        }
        rules
    }

    #[test]
    fn expressions_survive_the_codec() {
        for rule in all() {
            let mut batch = Batch::new();
            batch.message("T", "", 1, 0, &[], |m| {
                m.nest(4, |m| rule.expressions.iter().for_each(|e| e.encode(m)));
            });
            let message = messages(batch.bytes()).next().unwrap();
            let list = attributes(message.payload).find_kind(4).unwrap();
            assert_eq!(super::super::expr::decode_list(list), rule.expressions);
        }
    }

    #[test]
    fn read_like_nft() {
        let lines: Vec<String> =
            all().iter().map(|r| format!("{} {}", r.chain.name(), text::rule(&r.expressions))).collect();
        let c = "counter packets 0 bytes 0";
        for line in [
            format!("guard iifname != \"lo\" ip daddr 127.0.0.0/8 {c} drop"),
            format!("postrouting ip saddr 10.88.0.0/16 ip daddr != 10.88.0.0/16 {c} masquerade"),
            format!("postrouting ip saddr 10.0.0.64/27 ip daddr != 10.0.0.64/27 {c} masquerade"),
            format!("postrouting ip6 saddr fd00::/64 ip6 daddr != fd00::/64 {c} masquerade"),
            format!("forward ip daddr 10.88.0.0/16 ct state established,related {c} accept"),
            format!("output ip daddr 127.0.0.1 th dport 8080 {c} dnat to 10.88.0.2:80"),
            format!(
                "prerouting iifname \"drydock0\" ip daddr 10.88.0.1 th dport 8080 {c} dnat to 10.88.0.2:80"
            ),
            format!("prerouting fib daddr type local th dport 53 {c} dnat to 10.88.0.2:53"),
            format!(
                "postrouting ip saddr 127.0.0.0/8 ip daddr 10.88.0.2 th dport 80 ct status dnat {c} masquerade"
            ),
        ] {
            assert!(lines.contains(&line), "{line}\nnot in\n{}", lines.join("\n"));
        }
    }
}
