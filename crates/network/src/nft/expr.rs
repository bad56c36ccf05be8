//! The expressions that our rules are made of: to the kernel, from the kernel, and as text like nft(8)'s.
//! Source: <linux/netfilter/nf_tables.h>.

use crate::netlink::{Attributes, Builder, attributes};

const LIST_ELEM: u16 = 1;
const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;
const JUMP: u32 = 0xffff_fffd;
const GOTO: u32 = 0xffff_fffc;
const REGISTER_VERDICT: u32 = 0;

/// What of a packet's metadata. The number is the kernel's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Meta {
    /// Ethernet type, in network order.
    Protocol = 1,
    /// Input interface name.
    InputName = 6,
    /// Output interface name.
    OutputName = 7,
    /// Protocol family: 2 IPv4, 10 IPv6.
    Family = 15,
    /// Transport protocol number.
    Transport = 16,
}

/// Which header a payload expression reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Base {
    /// Ethernet header.
    Link = 0,
    /// IP header.
    Network = 1,
    /// TCP or UDP header.
    Transport = 2,
}

/// Which part of connection tracking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Ct {
    /// State bits: 2 established, 4 related.
    State = 0,
    /// Status bits: 0x20 destination changed.
    Status = 2,
}

/// One expression. Values pass through register 1; a NAT port through register 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// Load from a header.
    Payload {
        /// Which header.
        base: Base,
        /// Offset in bytes.
        offset: u32,
        /// Length in bytes.
        length: u32,
    },
    /// Load metadata.
    Meta(Meta),
    /// Load from connection tracking.
    Ct(Ct),
    /// Load the type of the destination address (2 = local).
    DestinationType,
    /// Mask the register.
    Mask(Vec<u8>),
    /// Go on if the register equals (or, with `true`, differs from) the bytes.
    Compare(bool, Vec<u8>),
    /// Mark the packet for tracing, if register 1 is not zero.
    SetTrace,
    /// Put bytes into register 1 or 2.
    Immediate(u32, Vec<u8>),
    /// Count packets and bytes.
    Counter {
        /// Packets so far.
        packets: u64,
        /// Bytes so far.
        bytes: u64,
    },
    /// End with accept (1) or drop (0).
    Verdict(u32),
    /// Go on in another chain of the table.
    Jump {
        /// Do not come back.
        goto: bool,
        /// Its name.
        chain: String,
    },
    /// Rewrite the destination to register 1 and port register 2.
    DestinationNat {
        /// 2 IPv4, 10 IPv6.
        family: u32,
    },
    /// Rewrite the source to the output interface's address.
    Masquerade,
    /// Of another kind: its name.
    Other(String),
}

/// Accept.
pub const ACCEPT: Expr = Expr::Verdict(1);
/// Drop.
pub const DROP: Expr = Expr::Verdict(0);
/// A counter at zero.
pub const COUNTER: Expr = Expr::Counter { packets: 0, bytes: 0 };

impl Expr {
    fn name(&self) -> &str {
        match self {
            Expr::Payload { .. } => "payload",
            Expr::Meta(_) | Expr::SetTrace => "meta",
            Expr::Ct(_) => "ct",
            Expr::DestinationType => "fib",
            Expr::Mask(_) => "bitwise",
            Expr::Compare(..) => "cmp",
            Expr::Immediate(..) | Expr::Verdict(_) | Expr::Jump { .. } => "immediate",
            Expr::Counter { .. } => "counter",
            Expr::DestinationNat { .. } => "nat",
            Expr::Masquerade => "masq",
            Expr::Other(name) => name,
        }
    }

    /// Writes it as a list element.
    pub fn encode(&self, m: &mut Builder<'_>) {
        m.nest(LIST_ELEM, |m| {
            m.text(EXPR_NAME, self.name()).nest(EXPR_DATA, |m| self.encode_data(m));
        });
    }

    fn encode_data(&self, m: &mut Builder<'_>) {
        match self {
            Expr::Payload { base, offset, length } => {
                m.be32(1, 1).be32(2, *base as u32).be32(3, *offset).be32(4, *length);
            }
            Expr::Meta(key) => {
                m.be32(1, 1).be32(2, *key as u32);
            }
            // NFT_META_NFTRACE from register 1.
            Expr::SetTrace => {
                m.be32(2, 12).be32(3, 1);
            }
            Expr::Ct(key) => {
                m.be32(1, 1).be32(2, *key as u32);
            }
            // result ADDRTYPE, flags DADDR
            Expr::DestinationType => {
                m.be32(1, 1).be32(2, 3).be32(3, 2);
            }
            Expr::Mask(mask) => {
                let length = u32::try_from(mask.len()).unwrap_or(0);
                m.be32(1, 1).be32(2, 1).be32(3, length);
                m.nest(4, |m| {
                    m.attr(DATA_VALUE, mask);
                });
                m.nest(5, |m| {
                    m.attr(DATA_VALUE, &vec![0; mask.len()]);
                });
            }
            Expr::Compare(differs, value) => {
                m.be32(1, 1).be32(2, u32::from(*differs)).nest(3, |m| {
                    m.attr(DATA_VALUE, value);
                });
            }
            Expr::Immediate(register, value) => {
                m.be32(1, *register).nest(2, |m| {
                    m.attr(DATA_VALUE, value);
                });
            }
            Expr::Verdict(code) => {
                m.be32(1, REGISTER_VERDICT).nest(2, |m| {
                    m.nest(DATA_VERDICT, |m| {
                        m.be32(VERDICT_CODE, *code);
                    });
                });
            }
            Expr::Jump { goto, chain } => {
                let code = if *goto { GOTO } else { JUMP };
                m.be32(1, REGISTER_VERDICT).nest(2, |m| {
                    m.nest(DATA_VERDICT, |m| {
                        m.be32(VERDICT_CODE, code).text(VERDICT_CHAIN, chain);
                    });
                });
            }
            Expr::Counter { packets, bytes } => {
                m.attr(1, &bytes.to_be_bytes()).attr(2, &packets.to_be_bytes());
            }
            Expr::DestinationNat { family } => {
                m.be32(1, 1).be32(2, *family).be32(3, 1).be32(5, 2);
            }
            Expr::Masquerade | Expr::Other(_) => {}
        }
    }

    /// Reads a list element.
    pub fn decode(element: Attributes<'_>) -> Option<Self> {
        let name = element.text(EXPR_NAME)?;
        let data = element.nested(EXPR_DATA).unwrap_or_else(|| attributes(&[]));
        let value = |kind| {
            data.nested(kind).and_then(|d: Attributes<'_>| d.find_kind(DATA_VALUE)).map(<[u8]>::to_vec)
        };
        let decoded = match name.as_str() {
            "payload" => payload(data),
            "meta" => match data.be32(2)? {
                1 => Some(Expr::Meta(Meta::Protocol)),
                6 => Some(Expr::Meta(Meta::InputName)),
                7 => Some(Expr::Meta(Meta::OutputName)),
                15 => Some(Expr::Meta(Meta::Family)),
                16 => Some(Expr::Meta(Meta::Transport)),
                _ => None,
            },
            "ct" => match data.be32(2)? {
                0 => Some(Expr::Ct(Ct::State)),
                2 => Some(Expr::Ct(Ct::Status)),
                _ => None,
            },
            "fib" => (data.be32(2) == Some(3) && data.be32(3) == Some(2)).then_some(Expr::DestinationType),
            "bitwise" => value(4).map(Expr::Mask),
            "cmp" => match (data.be32(2), value(3)) {
                (Some(op @ (0 | 1)), Some(v)) => Some(Expr::Compare(op == 1, v)),
                _ => None,
            },
            "immediate" => match data.be32(1) {
                Some(REGISTER_VERDICT) => {
                    let verdict = data.nested(2).and_then(|d| d.nested(DATA_VERDICT));
                    let code = verdict.and_then(|v| v.be32(VERDICT_CODE));
                    match (code, verdict.and_then(|v| v.text(VERDICT_CHAIN))) {
                        (Some(code @ (JUMP | GOTO)), Some(chain)) => {
                            Some(Expr::Jump { goto: code == GOTO, chain })
                        }
                        (code, _) => code.map(Expr::Verdict),
                    }
                }
                Some(register) => value(2).map(|v| Expr::Immediate(register, v)),
                None => None,
            },
            "counter" => {
                Some(Expr::Counter { packets: data.be64(2).unwrap_or(0), bytes: data.be64(1).unwrap_or(0) })
            }
            "nat" => (data.be32(1) == Some(1))
                .then(|| data.be32(2))
                .flatten()
                .map(|family| Expr::DestinationNat { family }),
            "masq" => Some(Expr::Masquerade),
            _ => None,
        };
        Some(decoded.unwrap_or(Expr::Other(name)))
    }
}

fn payload(data: Attributes<'_>) -> Option<Expr> {
    let base = match data.be32(2)? {
        0 => Base::Link,
        1 => Base::Network,
        2 => Base::Transport,
        _ => return None,
    };
    Some(Expr::Payload { base, offset: data.be32(3)?, length: data.be32(4)? })
}

/// Reads NFTA_RULE_EXPRESSIONS.
pub fn decode_list(bytes: &[u8]) -> Vec<Expr> {
    attributes(bytes)
        .filter(|(kind, _)| *kind == LIST_ELEM)
        .filter_map(|(_, element)| Expr::decode(attributes(element)))
        .collect()
}
