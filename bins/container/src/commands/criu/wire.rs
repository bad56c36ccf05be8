//! The messages of criu's service as Protocol Buffers write them: only numbers and bytes occur.
//! Source: the Protocol Buffers encoding guide.

/// A message to write, field by field.
#[derive(Clone, Debug, Default)]
pub struct Message(Vec<u8>);

/// The value of a field that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A number, or a truth.
    Number(u64),
    /// A text or a message.
    Bytes(&'a [u8]),
}

impl Message {
    /// Adds a number.
    pub fn number(&mut self, field: u32, value: impl Into<i64>) {
        self.varint(u64::from(field) << 3);
        self.varint(value.into().cast_unsigned());
    }

    /// Adds a truth; what is false is left out, as it is criu's default.
    pub fn flag(&mut self, field: u32, value: bool) {
        if value {
            self.number(field, 1);
        }
    }

    /// Adds a text.
    pub fn text(&mut self, field: u32, text: impl AsRef<[u8]>) {
        let text = text.as_ref();
        self.varint((u64::from(field) << 3) | 2);
        self.varint(text.len() as u64);
        self.0.extend_from_slice(text);
    }

    /// Adds a message within this one.
    pub fn message(&mut self, field: u32, message: &Message) {
        self.text(field, &message.0);
    }

    /// What goes over the socket.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn varint(&mut self, mut value: u64) {
        loop {
            let low = (value & 0x7f) as u8;
            value >>= 7;
            self.0.push(if value == 0 { low } else { low | 0x80 });
            if value == 0 {
                return;
            }
        }
    }
}

/// The fields of a message; `None` when it is none.
pub fn fields(bytes: &[u8]) -> Option<Vec<(u64, Value<'_>)>> {
    let mut rest = bytes;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        let value = match key & 7 {
            0 => Value::Number(varint(&mut rest)?),
            1 => Value::Bytes(take(&mut rest, 8)?),
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                Value::Bytes(take(&mut rest, length)?)
            }
            5 => Value::Bytes(take(&mut rest, 4)?),
            _ => return None,
        };
        found.push((key >> 3, value));
    }
    Some(found)
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (part, tail) = rest.split_at_checked(count)?;
    *rest = tail;
    Some(part)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut inner = Message::default();
        inner.text(1, "abc");
        let mut message = Message::default();
        message.number(1, 300);
        message.number(2, -1);
        message.flag(3, true);
        message.flag(4, false);
        message.message(51, &inner);
        assert_eq!(message.bytes()[..3], [8, 0xac, 2]);
        let read = fields(message.bytes()).unwrap();
        assert_eq!(read[0], (1, Value::Number(300)));
        assert_eq!(read[1], (2, Value::Number(u64::MAX)), "negative numbers have ten bytes");
        assert_eq!(read[2], (3, Value::Number(1)));
        assert_eq!(read[3], (51, Value::Bytes(&[10, 3, b'a', b'b', b'c'])));
    }

    #[test]
    fn rubbish_is_refused() {
        for bytes in [
            &[0x0a, 5, 1][..],
            &[0x80],
            &[0x0b],
            &[8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert_eq!(fields(bytes), None, "{bytes:?}");
        }
        assert_eq!(fields(&[]), Some(vec![]));
    }
}
