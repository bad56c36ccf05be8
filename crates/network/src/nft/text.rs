//! Rules as text, close to nft(8)'s.

use super::expr::{Base, Ct, Expr, Meta};
use crate::address::from_octets;
use crate::netlink::padded_text;

/// What stands in register 1.
enum Loaded<'a> {
    Nothing,
    Field(&'a Expr),
}

/// One rule as a line: `ip saddr 10.0.0.0/24 ip daddr != 10.0.0.0/24 counter packets 3 bytes 252 masquerade`.
pub fn rule(expressions: &[Expr]) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut loaded = Loaded::Nothing;
    let mut mask: Option<&[u8]> = None;
    let mut target: [Option<&[u8]>; 2] = [None, None];
    for expr in expressions {
        match expr {
            Expr::Payload { .. } | Expr::Meta(_) | Expr::Ct(_) | Expr::DestinationType => {
                loaded = Loaded::Field(expr);
                mask = None;
            }
            Expr::Mask(m) => mask = Some(m),
            Expr::Compare(differs, value) => {
                if let Loaded::Field(field) = loaded
                    && let Some(text) = comparison(
                        field,
                        mask,
                        *differs,
                        value,
                        words.iter().any(|w| w == "meta protocol arp"),
                    )
                {
                    words.push(text);
                }
            }
            Expr::Immediate(register, value) => {
                let slot = if *register == 1 { 0 } else { 1 };
                if let Some(slot) = target.get_mut(slot) {
                    *slot = Some(value);
                }
            }
            Expr::Counter { packets, bytes } => {
                words.push(format!("counter packets {packets} bytes {bytes}"))
            }
            Expr::Verdict(1) => words.push("accept".into()),
            Expr::Verdict(0) => words.push("drop".into()),
            Expr::Verdict(code) => words.push(format!("verdict {code}")),
            Expr::Jump { goto, chain } => {
                words.push(format!("{} {chain}", if *goto { "goto" } else { "jump" }))
            }
            Expr::DestinationNat { .. } => {
                let [address, port] = target;
                let address = address.and_then(from_octets).map_or("?".to_string(), |a| a.to_string());
                let address = if address.contains(':') { format!("[{address}]") } else { address };
                let port = port.and_then(|p| p.first_chunk::<2>()).map(|p| u16::from_be_bytes(*p));
                words.push(format!("dnat to {address}{}", port.map_or(String::new(), |p| format!(":{p}"))));
            }
            Expr::SetTrace => words.push("meta nftrace set 1".into()),
            Expr::Masquerade => words.push("masquerade".into()),
            Expr::Other(name) => words.push(format!("[{name}]")),
        }
    }
    words.join(" ")
}

fn comparison(field: &Expr, mask: Option<&[u8]>, differs: bool, value: &[u8], arp: bool) -> Option<String> {
    let not = if differs { "!= " } else { "" };
    match field {
        // Implied by what follows.
        Expr::Meta(Meta::Family | Meta::Transport) => None,
        Expr::Meta(Meta::InputName) => Some(format!("iifname {not}\"{}\"", padded_text(value))),
        Expr::Meta(Meta::OutputName) => Some(format!("oifname {not}\"{}\"", padded_text(value))),
        Expr::Ct(Ct::State) => Some("ct state established,related".into()),
        Expr::Ct(Ct::Status) => Some("ct status dnat".into()),
        Expr::DestinationType => Some(format!("fib daddr type {not}local")),
        Expr::Meta(Meta::Protocol) => {
            let name = match value {
                [0x08, 0x00] => "ip".to_string(),
                [0x08, 0x06] => "arp".to_string(),
                [0x86, 0xdd] => "ip6".to_string(),
                other => format!("{other:02x?}"),
            };
            Some(format!("meta protocol {not}{name}"))
        }
        Expr::Payload { base: Base::Link, .. } => {
            let mac = <[u8; 6]>::try_from(value).ok()?;
            Some(format!("ether saddr {not}{}", crate::address::Mac(mac)))
        }
        Expr::Payload { base: Base::Network, offset: 8, length: 6 } if arp => {
            let mac = <[u8; 6]>::try_from(value).ok()?;
            Some(format!("arp saddr ether {not}{}", crate::address::Mac(mac)))
        }
        Expr::Payload { base: Base::Network, offset: 14, length: 4 } => {
            Some(format!("arp saddr ip {not}{}", from_octets(value)?))
        }
        Expr::Payload { base: Base::Transport, offset: 0, length: 1 } => {
            Some(format!("icmpv6 type {not}{}", value.first()?))
        }
        Expr::Payload { base: Base::Transport, offset: 8, length: 16 } => {
            Some(format!("icmpv6 taddr {not}{}", from_octets(value)?))
        }
        Expr::Payload { base: Base::Transport, offset: 0, .. } => {
            let port = value.first_chunk::<2>().map(|p| u16::from_be_bytes(*p))?;
            Some(format!("th sport {not}{port}"))
        }
        Expr::Payload { base: Base::Transport, .. } => {
            let port = value.first_chunk::<2>().map(|p| u16::from_be_bytes(*p))?;
            Some(format!("th dport {not}{port}"))
        }
        Expr::Payload { base: Base::Network, offset, .. } => {
            let (family, direction, size) = match offset {
                12 => ("ip", "saddr", 4),
                16 => ("ip", "daddr", 4),
                8 => ("ip6", "saddr", 16),
                _ => ("ip6", "daddr", 16),
            };
            let mut bytes = value.to_vec();
            let prefix = mask.map_or(value.len() as u32 * 8, |m| m.iter().map(|b| b.count_ones()).sum());
            bytes.resize(size, 0);
            let address = from_octets(&bytes)?;
            let whole = prefix as usize == size * 8;
            let prefix = if whole { String::new() } else { format!("/{prefix}") };
            Some(format!("{family} {direction} {not}{address}{prefix}"))
        }
        _ => None,
    }
}
