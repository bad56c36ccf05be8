//! The netlink codec: messages of a fixed header and attributes, several to a batch. Source: netlink(7), <linux/netlink.h>.

mod parse;
mod socket;

pub use parse::{Attributes, Message, attributes, messages, padded_text};
pub use socket::{Protocol, Reply, Socket};

/// The message is a request.
pub const REQUEST: u16 = 0x1;
/// Answer with an acknowledgement.
pub const ACK: u16 = 0x4;
/// Answer with everything.
pub const DUMP: u16 = 0x300;
/// Refuse if it exists (NLM_F_EXCL).
pub const EXCL: u16 = 0x200;
/// Make it if it does not exist (NLM_F_CREATE).
pub const CREATE: u16 = 0x400;
/// Replace what exists (NLM_F_REPLACE).
pub const REPLACE: u16 = 0x100;
/// Add at the end (NLM_F_APPEND).
pub const APPEND: u16 = 0x800;
/// Delete only what is empty (NLM_F_NONREC).
pub const NONREC: u16 = 0x100;
/// The kernel's flag that an attribute holds attributes.
pub const NESTED: u16 = 0x8000;

pub(crate) const HEADER: usize = 16;

/// Several messages that go to the kernel in one send. Each asks for an acknowledgement unless it is a marker.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    labels: Vec<Label>,
    too_long: bool,
}

#[derive(Debug)]
pub(crate) struct Label {
    pub(crate) what: &'static str,
    pub(crate) object: String,
    pub(crate) allow: &'static [i32],
    pub(crate) acked: bool,
}

/// Builds one message of a [`Batch`].
#[derive(Debug)]
pub struct Builder<'a> {
    batch: &'a mut Batch,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// No message in it.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Adds a message. `what` names it in errors (`RTM_NEWLINK`), with the `object` it is about; `allow` lists errno
    /// values that mean that all is well (EEXIST for what may exist).
    pub fn message(
        &mut self,
        what: &'static str,
        object: &str,
        kind: u16,
        flags: u16,
        allow: &'static [i32],
        body: impl FnOnce(&mut Builder<'_>),
    ) {
        self.add(what, object, kind, flags | REQUEST | ACK, allow, true, body);
    }

    /// Adds a marker (begin or end of an nf_tables batch), which the kernel does not acknowledge.
    pub fn marker(&mut self, kind: u16, body: impl FnOnce(&mut Builder<'_>)) {
        self.add("NFNL_MSG_BATCH", "", kind, REQUEST, &[], false, body);
    }

    #[allow(clippy::too_many_arguments)] // one private place that both ways of adding share
    fn add(
        &mut self,
        what: &'static str,
        object: &str,
        kind: u16,
        flags: u16,
        allow: &'static [i32],
        acked: bool,
        body: impl FnOnce(&mut Builder<'_>),
    ) {
        let start = self.bytes.len();
        let sequence = u32::try_from(self.labels.len()).unwrap_or(u32::MAX);
        self.bytes.extend(0u32.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(sequence.to_ne_bytes());
        self.bytes.extend(0u32.to_ne_bytes());
        body(&mut Builder { batch: self });
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        if let Some(slot) = self.bytes.get_mut(start..start + 4) {
            slot.copy_from_slice(&length.to_ne_bytes());
        }
        self.pad();
        self.labels.push(Label { what, object: object.to_string(), allow, acked });
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// The bytes as they are sent.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn labels(&self) -> &[Label] {
        &self.labels
    }

    /// An attribute was longer than its 16-bit length can say: the batch must not be sent.
    pub fn too_long(&self) -> bool {
        self.too_long
    }
}

impl Builder<'_> {
    /// The fixed header of the protocol (ifinfomsg, nfgenmsg, …), before any attribute.
    pub fn fixed(&mut self, bytes: &[u8]) -> &mut Self {
        self.batch.bytes.extend_from_slice(bytes);
        self.batch.pad();
        self
    }

    /// An attribute with raw bytes.
    pub fn attr(&mut self, kind: u16, payload: &[u8]) -> &mut Self {
        let length = u16::try_from(payload.len() + 4).unwrap_or_else(|_| {
            self.batch.too_long = true;
            4
        });
        self.batch.bytes.extend(length.to_ne_bytes());
        self.batch.bytes.extend(kind.to_ne_bytes());
        if length > 4 {
            self.batch.bytes.extend_from_slice(payload);
        }
        self.batch.pad();
        self
    }

    /// A 32-bit attribute in the machine's order (rtnetlink).
    pub fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// A 32-bit attribute in network order (nf_tables).
    pub fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attr(kind, &value.to_be_bytes())
    }

    /// Text with a final NUL.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attr(kind, &bytes)
    }

    /// An attribute that holds attributes.
    pub fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Builder<'_>)) -> &mut Self {
        let start = self.batch.bytes.len();
        self.batch.bytes.extend([0; 2]);
        self.batch.bytes.extend((kind | NESTED).to_ne_bytes());
        body(&mut Builder { batch: self.batch });
        let length = u16::try_from(self.batch.bytes.len() - start).unwrap_or_else(|_| {
            self.batch.too_long = true;
            4
        });
        if let Some(slot) = self.batch.bytes.get_mut(start..start + 2) {
            slot.copy_from_slice(&length.to_ne_bytes());
        }
        self
    }
}

#[cfg(test)]
mod tests;
