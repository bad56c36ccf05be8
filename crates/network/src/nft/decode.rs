//! Rules and chains as the kernel tells them.

use super::expr::{self, Expr};
use super::{Chain, FAMILY_INET, Rule, TABLE, text};
use crate::netlink::attributes;

pub(super) fn read_comment(mut data: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = data {
        let value = rest.get(..usize::from(*length))?;
        if *kind == 0 {
            return Some(crate::netlink::padded_text(value));
        }
        data = rest.get(usize::from(*length)..)?;
    }
    None
}

pub(super) fn decode_rule(payload: &[u8]) -> Option<Rule> {
    let attrs = attributes(payload.get(4..)?);
    if attrs.text(1).as_deref() != Some(TABLE) || payload.first() != Some(&FAMILY_INET) {
        return None;
    }
    let expressions = attrs.find_kind(4).map(expr::decode_list).unwrap_or_default();
    let counter = expressions.iter().find_map(|e| match e {
        Expr::Counter { packets, bytes } => Some((*packets, *bytes)),
        _ => None,
    });
    Some(Rule {
        chain: Chain::parse(&attrs.text(2)?)?,
        handle: attrs.be64(3)?,
        comment: attrs.find_kind(7).and_then(read_comment),
        text: text::rule(&expressions),
        packets: counter.map(|c| c.0),
        bytes: counter.map(|c| c.1),
        expressions,
    })
}
