//! What other tables do to packets that we forward: a drop of theirs wins over our accept, so it is better to say so. Their
//! rules are read, never changed.

use super::expr::{self, Base, Ct, Expr, Meta};
use super::{
    ENOENT, FAMILY_INET, FAMILY_IPV4, FAMILY_IPV6, GETCHAIN, GETRULE, HOOK_FORWARD, Nft, TABLE, generic, text,
};
use crate::address::{Subnet, from_octets};
use crate::netlink::{attributes, padded_text};
use drydock_core::Result;
use std::net::IpAddr;

const DROP: u32 = 0;
const ACCEPT: u32 = 1;
const STATE_NEW: u8 = 8;
const DEEPEST: usize = 16;

/// A new connection from a subnet, on its way through this host.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Where it comes from.
    pub source: Subnet,
    /// By which interface, if known.
    pub input: Option<&'a str>,
}

/// A chain of somebody else's that packets pass when they are forwarded, or that such a chain jumps to.
#[derive(Clone, Debug)]
struct Chain {
    family: u8,
    table: String,
    name: String,
    forward: bool,
    drops: bool,
    rules: Vec<Vec<Expr>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Matches {
    Yes,
    No,
    Unknown,
}

enum Fate {
    Accepted,
    Dropped(String),
    GoesOn,
}

fn family_name(family: u8) -> Option<&'static str> {
    match family {
        FAMILY_INET => Some("inet"),
        FAMILY_IPV4 => Some("ip"),
        FAMILY_IPV6 => Some("ip6"),
        _ => None,
    }
}

impl Nft {
    /// What of other tables drops these packets for certain: a chain's policy or a rule, in words.
    ///
    /// # Errors
    /// The kernel's.
    pub fn foreign_drops(&self, packets: &[Packet<'_>]) -> Result<Vec<String>> {
        let chains = self.foreign_chains()?;
        let mut found = Vec::new();
        for chain in chains.iter().filter(|c| c.forward) {
            for packet in packets {
                let family = if packet.source.address().is_ipv4() { FAMILY_IPV4 } else { FAMILY_IPV6 };
                if chain.family != FAMILY_INET && chain.family != family {
                    continue;
                }
                let fate = walk(&chains, chain, packet, 0);
                let what = match fate {
                    Fate::Dropped(what) => what,
                    Fate::GoesOn if chain.drops => format!("{} by policy", place(chain)),
                    _ => continue,
                };
                if !found.contains(&what) {
                    found.push(what);
                }
            }
        }
        Ok(found)
    }

    fn foreign_chains(&self) -> Result<Vec<Chain>> {
        let replies = match self.socket.dump("NFT_MSG_GETCHAIN", GETCHAIN, &generic(0, 0)) {
            Ok(replies) => replies,
            Err(e) if e.errno() == Some(ENOENT) => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        let mut chains: Vec<Chain> = replies.iter().filter_map(|r| decode_chain(&r.payload)).collect();
        // Most hosts have no such chain: then their rules need not be read.
        if !chains.iter().any(|c| c.forward) {
            return Ok(Vec::new());
        }
        for reply in self.socket.dump("NFT_MSG_GETRULE", GETRULE, &generic(0, 0))? {
            let Some((family, table, name, rule)) = decode_rule(&reply.payload) else { continue };
            let at = |c: &&mut Chain| c.family == family && c.table == table && c.name == name;
            if let Some(chain) = chains.iter_mut().find(at) {
                chain.rules.push(rule);
            }
        }
        Ok(chains)
    }
}

fn decode_chain(payload: &[u8]) -> Option<Chain> {
    let family = *payload.first()?;
    family_name(family)?;
    let attrs = attributes(payload.get(4..)?);
    let (table, name) = (attrs.text(1)?, attrs.text(3)?);
    if table == TABLE && family == FAMILY_INET {
        return None;
    }
    let forward = attrs.nested(4).and_then(|h| h.be32(1)) == Some(HOOK_FORWARD);
    Some(Chain { family, table, name, forward, drops: attrs.be32(5) == Some(DROP), rules: Vec::new() })
}

fn decode_rule(payload: &[u8]) -> Option<(u8, String, String, Vec<Expr>)> {
    let attrs = attributes(payload.get(4..)?);
    let expressions = attrs.find_kind(4).map(expr::decode_list).unwrap_or_default();
    Some((*payload.first()?, attrs.text(1)?, attrs.text(2)?, expressions))
}

fn place(chain: &Chain) -> String {
    format!("nft chain '{} {} {}'", family_name(chain.family).unwrap_or("?"), chain.table, chain.name)
}

fn walk(all: &[Chain], chain: &Chain, packet: &Packet<'_>, depth: usize) -> Fate {
    for rule in &chain.rules {
        if matches(rule, packet) != Matches::Yes {
            continue;
        }
        match rule.last() {
            Some(Expr::Verdict(ACCEPT)) => return Fate::Accepted,
            Some(Expr::Verdict(DROP)) => return Fate::Dropped(blame(chain, rule)),
            Some(Expr::Other(name)) if name == "reject" => return Fate::Dropped(blame(chain, rule)),
            Some(Expr::Jump { goto, chain: to }) if depth < DEEPEST => {
                let there =
                    all.iter().find(|c| c.family == chain.family && c.table == chain.table && c.name == *to);
                match there.map_or(Fate::GoesOn, |c| walk(all, c, packet, depth + 1)) {
                    Fate::GoesOn if *goto => return Fate::GoesOn,
                    Fate::GoesOn => {}
                    end => return end,
                }
            }
            // Return, or something else that ends nothing.
            Some(Expr::Verdict(code)) if code.cast_signed() == -5 => return Fate::GoesOn,
            _ => {}
        }
    }
    Fate::GoesOn
}

fn blame(chain: &Chain, rule: &[Expr]) -> String {
    let plain: Vec<Expr> = rule.iter().filter(|e| !matches!(e, Expr::Counter { .. })).cloned().collect();
    format!("{} by the rule '{}'", place(chain), text::rule(&plain))
}

/// Whether a rule's conditions hold, as far as they can be told.
fn matches(rule: &[Expr], packet: &Packet<'_>) -> Matches {
    let mut loaded: Option<&Expr> = None;
    let mut mask: Option<&[u8]> = None;
    let mut all = Matches::Yes;
    for expr in rule {
        let one = match expr {
            Expr::Payload { .. } | Expr::Meta(_) | Expr::Ct(_) | Expr::DestinationType => {
                (loaded, mask) = (Some(expr), None);
                continue;
            }
            Expr::Mask(m) => {
                mask = Some(m);
                continue;
            }
            Expr::Compare(differs, value) => compare(loaded, mask, *differs, value, packet),
            Expr::Other(name) if !matches!(name.as_str(), "log" | "reject" | "counter") => Matches::Unknown,
            _ => Matches::Yes,
        };
        match one {
            Matches::No => return Matches::No,
            Matches::Unknown => all = Matches::Unknown,
            Matches::Yes => {}
        }
    }
    all
}

fn compare(
    loaded: Option<&Expr>,
    mask: Option<&[u8]>,
    differs: bool,
    value: &[u8],
    packet: &Packet<'_>,
) -> Matches {
    let turned = |equal: bool| if equal != differs { Matches::Yes } else { Matches::No };
    let v4 = packet.source.address().is_ipv4();
    match loaded {
        Some(Expr::Meta(Meta::Family)) => turned(value.first() == Some(&if v4 { 2 } else { 10 })),
        Some(Expr::Meta(Meta::InputName)) => match packet.input {
            Some(name) => turned(padded_text(value) == name),
            None => Matches::Unknown,
        },
        Some(Expr::Ct(Ct::State)) => {
            let bit = mask.and_then(|m| m.first()).map_or(STATE_NEW, |m| m & STATE_NEW);
            turned(value.first() == Some(&bit))
        }
        Some(Expr::Payload { base: Base::Network, offset, .. })
            if *offset == if v4 { 12 } else { 8 } && value.len() <= if v4 { 4 } else { 16 } =>
        {
            source(value, mask, differs, packet.source, v4)
        }
        _ => Matches::Unknown,
    }
}

fn source(value: &[u8], mask: Option<&[u8]>, differs: bool, ours: Subnet, v4: bool) -> Matches {
    let bits = |m: &[u8]| m.iter().map(|b| b.count_ones()).sum::<u32>();
    let prefix = mask.map_or(value.len() as u32 * 8, bits);
    let mut bytes = value.to_vec();
    bytes.resize(if v4 { 4 } else { 16 }, 0);
    let address: Option<IpAddr> = from_octets(&bytes);
    let (Some(address), Ok(prefix)) = (address, u8::try_from(prefix)) else { return Matches::Unknown };
    let theirs = Subnet::of(address, prefix);
    let inside = theirs.contains(ours.address()) && theirs.prefix() <= ours.prefix();
    match (inside, theirs.overlaps(ours), differs) {
        (true, _, false) | (false, false, true) => Matches::Yes,
        (true, _, true) | (false, false, false) => Matches::No,
        _ => Matches::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(name: &str, forward: bool, drops: bool, rules: Vec<Vec<Expr>>) -> Chain {
        Chain { family: FAMILY_IPV4, table: "filter".into(), name: name.into(), forward, drops, rules }
    }

    fn from(net: &str, differs: bool) -> Vec<Expr> {
        let net = Subnet::parse(net).unwrap();
        let bytes = crate::address::octets(net.address());
        vec![
            Expr::Payload { base: Base::Network, offset: 12, length: 4 },
            Expr::Mask(net.mask()),
            Expr::Compare(differs, bytes),
        ]
    }

    fn verdict(rule: Vec<Expr>, chains: &[Chain], input: Option<&str>) -> Option<String> {
        let packet = Packet { source: Subnet::parse("10.0.0.0/24").unwrap(), input };
        let mut base = chain("FORWARD", true, false, vec![rule]);
        base.rules.push(vec![Expr::Verdict(ACCEPT)]);
        match walk(chains, &base, &packet, 0) {
            Fate::Dropped(what) => Some(what),
            _ => None,
        }
    }

    #[test]
    fn only_what_is_certain_is_blamed() {
        let drop = |mut conditions: Vec<Expr>| {
            conditions.push(Expr::Verdict(DROP));
            conditions
        };
        assert!(verdict(drop(vec![]), &[], None).unwrap().contains("FORWARD' by the rule 'drop'"));
        assert!(verdict(drop(from("10.0.0.0/8", false)), &[], None).is_some());
        assert!(verdict(drop(from("10.0.0.0/25", false)), &[], None).is_none());
        assert!(verdict(drop(from("10.1.0.0/16", false)), &[], None).is_none());
        assert!(verdict(drop(from("10.1.0.0/16", true)), &[], None).is_some());
        assert!(verdict(drop(vec![Expr::Other("lookup".into())]), &[], None).is_none());
        let established =
            vec![Expr::Ct(Ct::State), Expr::Mask(vec![6, 0, 0, 0]), Expr::Compare(true, vec![0; 4])];
        assert!(verdict(drop(established), &[], None).is_none());
        let by = vec![Expr::Meta(Meta::InputName), Expr::Compare(false, b"br0\0".to_vec())];
        assert!(verdict(drop(by.clone()), &[], Some("br0")).is_some());
        assert!(verdict(drop(by), &[], Some("br1")).is_none());
        let sub = chain("SUB", false, false, vec![drop(vec![])]);
        let jump = vec![Expr::Jump { goto: false, chain: "SUB".into() }];
        assert!(verdict(jump, &[sub], None).unwrap().contains("SUB"));
    }
}
