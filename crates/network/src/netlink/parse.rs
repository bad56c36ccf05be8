//! Reading what the kernel sent. Never panics: what is cut off or inconsistent ends the iteration.

use super::HEADER;

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// nlmsg_type.
    pub kind: u16,
    /// nlmsg_flags.
    pub flags: u16,
    /// nlmsg_seq.
    pub sequence: u32,
    /// What follows the header.
    pub payload: &'a [u8],
}

/// The messages in a datagram.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let message = Message {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
            payload: bytes.get(HEADER..length)?,
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(message)
    })
}

/// The attributes in a message after its fixed header, or in a nested attribute.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a>(&'a [u8]);

/// Reads attributes from `bytes`.
pub fn attributes(bytes: &[u8]) -> Attributes<'_> {
    Attributes(bytes)
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16_at(self.0, 0)?);
        // The two highest bits are flags: nested, and network byte order.
        let kind = u16_at(self.0, 2)? & 0x3fff;
        let payload = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, payload))
    }
}

impl<'a> Attributes<'a> {
    /// The first attribute of this kind.
    pub fn find_kind(mut self, kind: u16) -> Option<&'a [u8]> {
        self.find(|(k, _)| *k == kind).map(|(_, payload)| payload)
    }

    /// Its attributes.
    pub fn nested(self, kind: u16) -> Option<Attributes<'a>> {
        self.find_kind(kind).map(attributes)
    }

    /// As 32 bits in the machine's order.
    pub fn u32(self, kind: u16) -> Option<u32> {
        self.find_kind(kind).and_then(|p| u32_at(p, 0))
    }

    /// As 32 bits in network order.
    pub fn be32(self, kind: u16) -> Option<u32> {
        self.find_kind(kind).and_then(|p| p.first_chunk::<4>()).map(|b| u32::from_be_bytes(*b))
    }

    /// As 64 bits in network order.
    pub fn be64(self, kind: u16) -> Option<u64> {
        self.find_kind(kind).and_then(|p| p.first_chunk::<8>()).map(|b| u64::from_be_bytes(*b))
    }

    /// As text up to the first NUL; other bytes are replaced.
    pub fn text(self, kind: u16) -> Option<String> {
        self.find_kind(kind).map(padded_text)
    }
}

/// Text up to the first NUL; what is not UTF-8 is replaced.
pub fn padded_text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or(&[])).into_owned()
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..).and_then(|b| b.first_chunk::<2>()).map(|b| u16::from_ne_bytes(*b))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..).and_then(|b| b.first_chunk::<4>()).map(|b| u32::from_ne_bytes(*b))
}
