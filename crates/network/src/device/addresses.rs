//! The addresses of a device that go with it. Source: rtnetlink(7), <linux/if_addr.h>.

use crate::address::from_octets;
use crate::netlink::{Batch, CREATE, EXCL, attributes};
use crate::rtnl::{RTM_GETADDR, RTM_NEWADDR, Rtnl};
use drydock_core::Result;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_LABEL: u16 = 3;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_RT_PRIORITY: u16 = 9;
const IFA_PROTO: u16 = 11;
const IFA_F_PERMANENT: u32 = 0x80;
const RT_SCOPE_UNIVERSE: u8 = 0;
/// What makes an address what it is. The rest tells its age and its namespace; the label has the device's name in it.
const KEPT: &[u16] = &[IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_FLAGS, IFA_RT_PRIORITY, IFA_PROTO];

/// An address as the kernel gave it, to be given back to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    family: u8,
    prefix: u8,
    flags: u8,
    index: u32,
    attributes: Vec<(u16, Vec<u8>)>,
    label: Option<String>,
    shown: String,
}

/// The permanent addresses of global scope of the device with this index: not those of router advertisements and DHCP,
/// which end, and not those of the link.
pub(super) fn of(rtnl: &Rtnl, index: u32) -> Result<Vec<Kept>> {
    let replies = rtnl.socket.dump("RTM_GETADDR", RTM_GETADDR, &[0; 8])?;
    let all = replies.iter().filter_map(|reply| decode(&reply.payload));
    Ok(all.filter(|address| address.index == index).collect())
}

/// Reads an RTM_NEWADDR payload; `None` for what does not go with its device.
pub(super) fn decode(payload: &[u8]) -> Option<Kept> {
    let [family, prefix, flags, scope] = *payload.first_chunk::<4>()?;
    let index = u32::from_ne_bytes(*payload.get(4..)?.first_chunk()?);
    let found = attributes(payload.get(8..)?);
    let all = found.u32(IFA_FLAGS).unwrap_or_else(|| u32::from(flags));
    if scope != RT_SCOPE_UNIVERSE || all & IFA_F_PERMANENT == 0 {
        return None;
    }
    let address =
        found.find_kind(IFA_LOCAL).or_else(|| found.find_kind(IFA_ADDRESS)).and_then(from_octets)?;
    let kept = found.filter(|(kind, _)| KEPT.contains(kind));
    Some(Kept {
        family,
        prefix,
        flags,
        index,
        attributes: kept.map(|(kind, value)| (kind, value.to_vec())).collect(),
        label: found.text(IFA_LABEL),
        shown: format!("{address}/{prefix}"),
    })
}

/// The label of an address on a device that was called `from` and is called `to`: `eth0:web` becomes `net1:web`.
fn relabel(label: &str, from: &str, to: &str) -> Option<String> {
    let rest = label.strip_prefix(from).filter(|rest| !rest.is_empty())?;
    Some(format!("{to}{rest}")).filter(|label| label.len() <= crate::name::MAX_INTERFACE)
}

impl Kept {
    /// Adds it to the device with this index, which was called `from` and is called `to` now.
    pub(super) fn add_to(&self, batch: &mut Batch, index: u32, from: &str, to: &str) {
        const ALLOW: &[i32] = &[nix::libc::EEXIST];
        batch.message("RTM_NEWADDR", &self.shown, RTM_NEWADDR, CREATE | EXCL, ALLOW, |m| {
            let mut header = vec![self.family, self.prefix, self.flags, RT_SCOPE_UNIVERSE];
            header.extend(index.to_ne_bytes());
            m.fixed(&header);
            for (kind, value) in &self.attributes {
                m.attr(*kind, value);
            }
            if let Some(label) = self.label.as_deref().and_then(|label| relabel(label, from, to)) {
                m.text(IFA_LABEL, &label);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test that cannot go on should stop
    use super::*;

    fn payload(scope: u8, flags: u32) -> Vec<u8> {
        let mut bytes = vec![2, 24, 0x80, scope, 7, 0, 0, 0];
        let mut add = |kind: u16, value: &[u8]| {
            bytes.extend(u16::try_from(value.len() + 4).unwrap().to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend_from_slice(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        };
        add(IFA_ADDRESS, &[10, 0, 0, 1]);
        add(IFA_LOCAL, &[10, 0, 0, 2]);
        add(IFA_LABEL, b"eth0:a\0");
        add(6, &[0; 16]);
        add(IFA_FLAGS, &flags.to_ne_bytes());
        bytes
    }

    #[test]
    fn permanent_and_global_addresses_are_kept_with_what_makes_them() {
        let kept = decode(&payload(0, IFA_F_PERMANENT | 0x200)).unwrap();
        assert_eq!(
            (kept.index, kept.shown.as_str(), kept.label.as_deref()),
            (7, "10.0.0.2/24", Some("eth0:a"))
        );
        let kinds: Vec<u16> = kept.attributes.iter().map(|a| a.0).collect();
        assert_eq!(kinds, [IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS], "the age is left out");
    }

    #[test]
    fn others_stay() {
        assert_eq!(decode(&payload(0, 0x200)), None, "the flags of 32 bits are those that count");
        assert_eq!(decode(&payload(253, IFA_F_PERMANENT)), None, "of the link");
        assert_eq!(decode(&[2, 24, 0x80]), None);
    }

    #[test]
    fn a_label_follows_the_name() {
        assert_eq!(relabel("eth0:a", "eth0", "net1").as_deref(), Some("net1:a"));
        assert_eq!(relabel("eth0", "eth0", "net1"), None, "the kernel's own");
        assert_eq!(relabel("eth0:abcdefghij", "eth0", "network1"), None, "too long");
    }
}
