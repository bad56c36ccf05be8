//! Our one nft table, `inet drydock`: made, filled, listed and removed over netlink, in atomic batches. No other table is
//! ever touched. Every rule carries its owner's tag as a comment, as nft(8) stores comments.

mod decode;
pub mod expr;
mod foreign;
mod guard;
pub mod rules;
pub mod text;
mod trace;

use crate::netlink::{APPEND, Batch, Builder, CREATE, NONREC, Protocol, Socket, attributes};
use decode::{decode_rule, read_comment};
use drydock_core::Result;
use expr::Expr;
pub use foreign::Packet;
pub use guard::{Addresses, METADATA, Source};
use serde::Serialize;
pub use trace::{Flow, Trace};

/// Our table's name.
pub const TABLE: &str = "drydock";

const SUBSYSTEM: u16 = 10 << 8;
const NEWTABLE: u16 = SUBSYSTEM;
const DELTABLE: u16 = SUBSYSTEM | 2;
const NEWCHAIN: u16 = SUBSYSTEM | 3;
const GETCHAIN: u16 = SUBSYSTEM | 4;
const DELCHAIN: u16 = SUBSYSTEM | 5;
const NEWRULE: u16 = SUBSYSTEM | 6;
const GETRULE: u16 = SUBSYSTEM | 7;
const DELRULE: u16 = SUBSYSTEM | 8;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const FAMILY_INET: u8 = 1;
const FAMILY_IPV4: u8 = 2;
const FAMILY_NETDEV: u8 = 5;
const FAMILY_IPV6: u8 = 10;
const HOOK_FORWARD: u32 = 2;
const ENOENT: i32 = nix::libc::ENOENT;

/// The chains of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Chain {
    /// Before connection tracking: packets from outside to 127.0.0.0/8 are dropped (route_localnet lets them in).
    Guard,
    /// Published ports, for packets from outside and from containers.
    Prerouting,
    /// Published ports, for packets of the host itself.
    Output,
    /// What may go through the host to and from our networks.
    Forward,
    /// Masquerade.
    Postrouting,
}

impl Chain {
    /// All, in the order of a packet's way.
    pub const ALL: [Chain; 5] =
        [Chain::Guard, Chain::Prerouting, Chain::Output, Chain::Forward, Chain::Postrouting];

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Chain::Guard => "guard",
            Chain::Prerouting => "prerouting",
            Chain::Output => "output",
            Chain::Forward => "forward",
            Chain::Postrouting => "postrouting",
        }
    }

    /// Type, hook number and priority.
    fn hook(self) -> (&'static str, u32, i32) {
        match self {
            Chain::Guard => ("filter", 0, -300),
            Chain::Prerouting => ("nat", 0, -100),
            Chain::Output => ("nat", 3, -100),
            Chain::Forward => ("filter", HOOK_FORWARD, 0),
            Chain::Postrouting => ("nat", 4, 100),
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.name() == name)
    }
}

/// A rule that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRule {
    /// Where.
    pub chain: Chain,
    /// At the front of the chain instead of the end.
    pub first: bool,
    /// Its comment: the owner's tag.
    pub tag: String,
    /// What it does.
    pub expressions: Vec<Expr>,
}

/// A rule of our table as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Where.
    pub chain: Chain,
    /// The kernel's number for it.
    pub handle: u64,
    /// Its comment: `drydock:OWNER`.
    pub comment: Option<String>,
    /// As nft(8) would write it.
    pub text: String,
    /// Packets counted, where it counts.
    pub packets: Option<u64>,
    /// Bytes counted.
    pub bytes: Option<u64>,
    /// Its parts.
    #[serde(skip)]
    pub expressions: Vec<Expr>,
}

impl Rule {
    /// Whether it matches this address or leads to it.
    pub fn mentions(&self, address: std::net::IpAddr) -> bool {
        let bytes = crate::address::octets(address);
        self.expressions.iter().any(|e| match e {
            Expr::Compare(_, value) | Expr::Immediate(_, value) => *value == bytes,
            _ => false,
        })
    }

    /// Whether it matches addresses of this subnet by itself (not a larger or a smaller one).
    pub fn about(&self, subnet: crate::address::Subnet) -> bool {
        [true, false].iter().any(|source| {
            self.expressions.windows(rules::net_len(subnet)).any(|w| w == rules::net(subnet, *source))
        })
    }

    /// Whether it matches this destination port.
    pub fn has_port(&self, port: u16) -> bool {
        let bytes = port.to_be_bytes();
        self.expressions.iter().any(|e| matches!(e, Expr::Compare(_, value) if *value == bytes))
    }

    /// Whether it is the rule that `wanted` describes: same chain, comment and expressions, whatever was counted.
    pub fn is(&self, wanted: &NewRule) -> bool {
        let plain = |list: &[Expr]| -> Vec<Expr> {
            list.iter().filter(|e| !matches!(e, Expr::Counter { .. })).cloned().collect()
        };
        self.chain == wanted.chain
            && self.comment.as_deref() == Some(wanted.tag.as_str())
            && plain(&self.expressions) == plain(&wanted.expressions)
    }
}

/// An nf_tables socket.
#[derive(Debug)]
pub struct Nft {
    socket: Socket,
}

fn generic(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

impl Nft {
    /// Opens one in the calling thread's network namespace.
    ///
    /// # Errors
    /// socket(2)'s; EPROTONOSUPPORT without nfnetlink.
    pub fn here() -> Result<Self> {
        Ok(Self {
            socket: Socket::here(Protocol::Netfilter).map_err(|e| {
                e.hint(
                    "NAT and published ports need nf_tables (CONFIG_NF_TABLES): load it, or run without them",
                )
            })?,
        })
    }

    /// Over a socket that was opened in another namespace.
    pub fn over(socket: Socket) -> Self {
        Self { socket }
    }

    fn batch(body: impl FnOnce(&mut Batch)) -> Batch {
        let mut batch = Batch::new();
        batch.marker(BATCH_BEGIN, |m| {
            m.fixed(&generic(0, 10));
        });
        body(&mut batch);
        batch.marker(BATCH_END, |m| {
            m.fixed(&generic(0, 10));
        });
        batch
    }

    /// Adds the rules, and the table and its chains where they are missing: all or nothing.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add(&self, rules: &[NewRule]) -> Result<()> {
        let only_rules = Self::batch(|batch| rules.iter().for_each(|rule| add_rule(batch, rule)));
        // Naming a chain that exists counts as a change of it, for which the kernel waits milliseconds when the socket
        // is closed: so the table is sent only when it is missing.
        match self.socket.execute(&only_rules) {
            Err(e) if e.errno() == Some(ENOENT) => {}
            other => return other.map_err(hint),
        }
        let batch = Self::batch(|batch| {
            batch.message("NFT_MSG_NEWTABLE", "inet drydock", NEWTABLE, CREATE, &[], |m| {
                m.fixed(&generic(FAMILY_INET, 0)).text(1, TABLE);
            });
            for chain in Chain::ALL {
                add_chain(batch, chain);
            }
            rules.iter().for_each(|rule| add_rule(batch, rule));
        });
        self.socket.execute(&batch).map_err(hint)
    }

    /// All rules of our table, chain by chain; none if there is no table.
    ///
    /// # Errors
    /// The kernel's.
    pub fn rules(&self) -> Result<Vec<Rule>> {
        let mut body = Batch::new();
        body.marker(0, |m| {
            m.fixed(&generic(FAMILY_INET, 0)).text(1, TABLE);
        });
        let body = body.bytes().get(16..).unwrap_or(&[]).to_vec();
        let replies = match self.socket.dump("NFT_MSG_GETRULE", GETRULE, &body) {
            Ok(replies) => replies,
            Err(e) if e.errno() == Some(ENOENT) => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        let mut rules: Vec<Rule> = replies.iter().filter_map(|r| decode_rule(&r.payload)).collect();
        rules.sort_by_key(|r| Chain::ALL.iter().position(|c| *c == r.chain));
        Ok(rules)
    }

    /// Deletes these rules, and the table with them when nothing but its own guard would be left. Rules that are gone
    /// already are well: another remover was faster.
    ///
    /// # Errors
    /// The kernel's.
    pub fn delete(&self, gone: impl Fn(&Rule) -> bool) -> Result<usize> {
        let mut deleted = 0;
        // Another tool may delete a rule between list and delete: the batch fails as a whole, so look again.
        for attempt in 0..5 {
            let (out, kept): (Vec<Rule>, Vec<Rule>) = self.rules()?.into_iter().partition(&gone);
            deleted += out.len();
            let (guards, others): (Vec<&Rule>, Vec<&Rule>) =
                kept.iter().partition(|r| r.comment.as_deref() == Some(rules::GUARD_TAG));
            let last = others.is_empty();
            if out.is_empty() && !(last && (!guards.is_empty() || self.has_table(FAMILY_INET)?)) {
                return Ok(deleted);
            }
            let chains = if last { self.chains()? } else { Vec::new() };
            let batch = Self::batch(|batch| {
                for rule in out.iter().chain(guards.into_iter().filter(|_| last)) {
                    delete_rule(batch, rule);
                }
                if last {
                    delete_empty_table(batch, &chains);
                }
            });
            match self.socket.execute(&batch) {
                Ok(()) => return Ok(deleted),
                // EBUSY: somebody has added a rule meanwhile, so it is not the last any more.
                Err(e) if attempt < 4 && matches!(e.errno(), Some(ENOENT | nix::libc::EBUSY)) => {
                    deleted -= out.len();
                }
                Err(e) => return Err(e),
            }
        }
        Ok(deleted)
    }

    /// Deletes these rules and leaves the table.
    ///
    /// # Errors
    /// The kernel's.
    pub fn delete_only(&self, gone: impl Fn(&Rule) -> bool) -> Result<()> {
        let out: Vec<Rule> = self.rules()?.into_iter().filter(|r| gone(r)).collect();
        if out.is_empty() {
            return Ok(());
        }
        self.socket.execute(&Self::batch(|batch| out.iter().for_each(|rule| delete_rule(batch, rule))))
    }

    fn has_table(&self, family: u8) -> Result<bool> {
        let mut batch = Batch::new();
        batch.message("NFT_MSG_GETTABLE", "drydock", SUBSYSTEM | 1, 0, &[], |m| {
            m.fixed(&generic(family, 0)).text(1, TABLE);
        });
        Ok(self.socket.get(&batch)?.is_some())
    }

    /// The chains that our table has.
    fn chains(&self) -> Result<Vec<String>> {
        let replies = self.socket.dump("NFT_MSG_GETCHAIN", GETCHAIN, &generic(FAMILY_INET, 0))?;
        let ours = |payload: &[u8]| {
            let attrs = attributes(payload.get(4..)?);
            (payload.first() == Some(&FAMILY_INET) && attrs.text(1)? == TABLE)
                .then(|| attrs.text(3))
                .flatten()
        };
        Ok(replies.iter().filter_map(|r| ours(&r.payload)).collect())
    }
}

fn hint(error: drydock_core::Error) -> drydock_core::Error {
    error.hint("NAT and published ports need nf_tables with nat and fib support: see `container doctor`")
}

fn add_chain(batch: &mut Batch, chain: Chain) {
    let (kind, hook, priority) = chain.hook();
    batch.message("NFT_MSG_NEWCHAIN", chain.name(), NEWCHAIN, CREATE, &[], |m| {
        m.fixed(&generic(FAMILY_INET, 0)).text(1, TABLE).text(3, chain.name());
        m.nest(4, |m| {
            m.be32(1, hook).be32(2, priority.cast_unsigned());
        });
        m.be32(5, 1).text(7, kind);
    });
}

fn add_rule(batch: &mut Batch, rule: &NewRule) {
    let flags = if rule.first { CREATE } else { CREATE | APPEND };
    batch.message("NFT_MSG_NEWRULE", &rule.tag, NEWRULE, flags, &[], |m: &mut Builder<'_>| {
        m.fixed(&generic(FAMILY_INET, 0)).text(1, TABLE).text(2, rule.chain.name());
        m.nest(4, |m| {
            for expression in &rule.expressions {
                expression.encode(m);
            }
        });
        m.attr(7, &comment_bytes(&rule.tag));
    });
}

/// nft's way of keeping a comment in a rule's user data: type 0, length with the final NUL, text.
fn comment_bytes(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len() + 1).unwrap_or(u8::MAX);
    let mut bytes = vec![0, length];
    bytes.extend(text.bytes().take(usize::from(length).saturating_sub(1)));
    bytes.push(0);
    bytes
}

fn delete_rule(batch: &mut Batch, rule: &Rule) {
    batch.message("NFT_MSG_DELRULE", rule.chain.name(), DELRULE, 0, &[], |m| {
        m.fixed(&generic(FAMILY_INET, 0)).text(1, TABLE).text(2, rule.chain.name());
        m.attr(3, &rule.handle.to_be_bytes());
    });
}

/// Deletes chains and table only if they are empty, so that a rule added meanwhile by another process survives.
fn delete_empty_table(batch: &mut Batch, chains: &[String]) {
    for chain in chains {
        batch.message("NFT_MSG_DELCHAIN", chain, DELCHAIN, NONREC, &[], |m| {
            m.fixed(&generic(FAMILY_INET, 0)).text(1, TABLE).text(3, chain);
        });
    }
    batch.message("NFT_MSG_DELTABLE", "inet drydock", DELTABLE, NONREC, &[], |m| {
        m.fixed(&generic(FAMILY_INET, 0)).text(1, TABLE);
    });
}

/// Runs every decoder over bytes: for property tests and fuzzing. Returns how many made sense of them.
pub fn decode_anything(bytes: &[u8]) -> usize {
    let list = expr::decode_list(bytes);
    let _ = text::rule(&list);
    let _ = read_comment(bytes);
    list.len() + usize::from(decode_rule(bytes).is_some())
}
