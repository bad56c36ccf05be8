//! D-Bus messages as bytes: what a client of systemd's manager writes and reads.
//! Source: the D-Bus specification, "Marshaling (Wire Format)" and "Message Format".

/// The longest message that is read; the specification allows 128 MiB, and nothing here is near to that.
pub(super) const MAX_MESSAGE: usize = 16 << 20;

/// A value of a unit's property, or an argument of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `b`.
    Bool(bool),
    /// `y`.
    Byte(u8),
    /// `n`.
    I16(i16),
    /// `q`.
    U16(u16),
    /// `i`.
    I32(i32),
    /// `u`.
    U32(u32),
    /// `x`.
    I64(i64),
    /// `t`.
    U64(u64),
    /// `d`.
    F64(f64),
    /// `s`.
    Text(String),
    /// `as`.
    Texts(Vec<String>),
    /// `ay`.
    Bytes(Vec<u8>),
    /// `au`.
    Numbers(Vec<u32>),
    /// `a(ss)`.
    Pairs(Vec<(String, String)>),
    /// `a(st)`.
    Counts(Vec<(String, u64)>),
    /// `a(sv)`: properties.
    Properties(Vec<(String, Value)>),
    /// `a(sa(sv))` without elements: systemd's auxiliary units.
    NoUnits,
}

impl Value {
    /// The type's signature.
    pub fn signature(&self) -> &'static str {
        match self {
            Value::Bool(_) => "b",
            Value::Byte(_) => "y",
            Value::I16(_) => "n",
            Value::U16(_) => "q",
            Value::I32(_) => "i",
            Value::U32(_) => "u",
            Value::I64(_) => "x",
            Value::U64(_) => "t",
            Value::F64(_) => "d",
            Value::Text(_) => "s",
            Value::Texts(_) => "as",
            Value::Bytes(_) => "ay",
            Value::Numbers(_) => "au",
            Value::Pairs(_) => "a(ss)",
            Value::Counts(_) => "a(st)",
            Value::Properties(_) => "a(sv)",
            Value::NoUnits => "a(sa(sv))",
        }
    }
}

/// Bytes with the alignment that the format wants, counted from the message's begin.
#[derive(Debug, Default)]
struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    fn u32(&mut self, value: u32) {
        self.align(4);
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.align(8);
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    fn u16(&mut self, value: u16) {
        self.align(2);
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.u32(length(text.len()));
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
    }

    /// At most 255 bytes: ours are a few letters.
    fn signature(&mut self, text: &str) {
        self.bytes.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
    }

    /// An array: its length without the padding before its first element.
    fn array(&mut self, align: usize, write: impl FnOnce(&mut Self)) {
        self.u32(0);
        let at = self.bytes.len() - 4;
        self.align(align);
        let begin = self.bytes.len();
        write(self);
        let size = length(self.bytes.len() - begin);
        if let Some(place) = self.bytes.get_mut(at..at + 4) {
            place.copy_from_slice(&size.to_le_bytes());
        }
    }

    fn variant(&mut self, value: &Value) {
        self.signature(value.signature());
        self.value(value);
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Bool(b) => self.u32(u32::from(*b)),
            Value::Byte(b) => self.bytes.push(*b),
            Value::I16(n) => self.u16(n.cast_unsigned()),
            Value::U16(n) => self.u16(*n),
            Value::I32(n) => self.u32(n.cast_unsigned()),
            Value::U32(n) => self.u32(*n),
            Value::I64(n) => self.u64(n.cast_unsigned()),
            Value::U64(n) => self.u64(*n),
            Value::F64(n) => self.u64(n.to_bits()),
            Value::Text(text) => self.text(text),
            Value::Texts(all) => self.array(4, |w| all.iter().for_each(|text| w.text(text))),
            Value::Bytes(all) => self.array(1, |w| w.bytes.extend_from_slice(all)),
            Value::Numbers(all) => self.array(4, |w| all.iter().for_each(|n| w.u32(*n))),
            Value::Pairs(all) => self.array(8, |w| {
                for (a, b) in all {
                    w.align(8);
                    w.text(a);
                    w.text(b);
                }
            }),
            Value::Counts(all) => self.array(8, |w| {
                for (text, count) in all {
                    w.align(8);
                    w.text(text);
                    w.u64(*count);
                }
            }),
            Value::Properties(all) => self.array(8, |w| {
                for (name, value) in all {
                    w.align(8);
                    w.text(name);
                    w.variant(value);
                }
            }),
            Value::NoUnits => self.array(8, |_| {}),
        }
    }
}

/// Larger ones do not arise: what goes in comes from a configuration of a few MiB.
fn length(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// The method call to write.
#[derive(Debug)]
pub(super) struct Call<'a> {
    /// The bus name; none when the peer is systemd itself.
    pub destination: Option<&'a str>,
    pub path: &'a str,
    pub interface: &'a str,
    pub member: &'a str,
    pub args: &'a [Value],
}

impl Call<'_> {
    /// The message with this serial number.
    pub fn to_bytes(&self, serial: u32) -> Vec<u8> {
        let mut body = Writer::default();
        self.args.iter().for_each(|arg| body.value(arg));
        let signature: String = self.args.iter().map(Value::signature).collect();
        let mut head = Writer::default();
        // Little endian, a method call, no flags, version 1.
        head.bytes.extend_from_slice(&[b'l', 1, 0, 1]);
        head.u32(length(body.bytes.len()));
        head.u32(serial);
        head.array(8, |w| {
            let mut field = |code: u8, kind: &str, text: &str| {
                w.align(8);
                w.bytes.push(code);
                w.signature(kind);
                if kind == "g" { w.signature(text) } else { w.text(text) }
            };
            field(1, "o", self.path);
            field(2, "s", self.interface);
            field(3, "s", self.member);
            if let Some(destination) = self.destination {
                field(6, "s", destination);
            }
            if !signature.is_empty() {
                field(8, "g", &signature);
            }
        });
        head.align(8);
        head.bytes.extend_from_slice(&body.bytes);
        head.bytes
    }
}

/// An answer or a signal, as a bus would send it: for tests.
#[cfg(test)]
pub(super) fn sent(kind: Kind, reply_to: u32, name: &str, args: &[Value]) -> Vec<u8> {
    let mut body = Writer::default();
    args.iter().for_each(|arg| body.value(arg));
    let signature: String = args.iter().map(Value::signature).collect();
    let mut head = Writer::default();
    let (number, code) = match kind {
        Kind::Call => (1, 3),
        Kind::Return => (2, 3),
        Kind::Error => (3, 4),
        Kind::Signal => (4, 3),
    };
    head.bytes.extend_from_slice(&[b'l', number, 0, 1]);
    head.u32(length(body.bytes.len()));
    head.u32(9);
    head.array(8, |w| {
        w.bytes.push(5);
        w.signature("u");
        w.u32(reply_to);
        w.align(8);
        w.bytes.push(code);
        w.signature("s");
        w.text(name);
        w.align(8);
        w.bytes.push(8);
        w.signature("g");
        w.signature(&signature);
    });
    head.align(8);
    head.bytes.extend_from_slice(&body.bytes);
    head.bytes
}

/// What kind of message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Call,
    Return,
    Error,
    Signal,
}

/// A message that came, with those parts of its head that matter here.
#[derive(Debug)]
pub(super) struct Message {
    pub kind: Kind,
    pub reply_to: u32,
    #[cfg(test)]
    pub serial: u32,
    pub member: String,
    pub error: String,
    signature: String,
    body: Vec<u8>,
    big: bool,
}

/// Bytes before the header's array of fields, and the array's length.
pub(super) const FIXED: usize = 16;

/// How long the whole message is, by its first 16 bytes; `None` when they are none of a message.
pub(super) fn message_length(fixed: &[u8]) -> Option<usize> {
    let big = is_big(fixed)?;
    let mut reader = Reader { bytes: fixed, at: 4, big };
    let body = usize::try_from(reader.u32()?).ok()?;
    reader.u32()?;
    let fields = usize::try_from(reader.u32()?).ok()?;
    let all = FIXED.checked_add(fields)?.checked_next_multiple_of(8)?.checked_add(body)?;
    (all <= MAX_MESSAGE).then_some(all)
}

fn is_big(bytes: &[u8]) -> Option<bool> {
    match bytes.first()? {
        b'l' => Some(false),
        b'B' => Some(true),
        _ => None,
    }
}

impl Message {
    /// Reads a whole message; `None` when it is malformed.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let big = is_big(bytes)?;
        let kind = match bytes.get(1)? {
            1 => Kind::Call,
            2 => Kind::Return,
            3 => Kind::Error,
            4 => Kind::Signal,
            _ => return None,
        };
        let mut reader = Reader { bytes, at: 12, big };
        let end = usize::try_from(reader.u32()?).ok()?.checked_add(FIXED)?;
        let mut message = Self {
            #[cfg(test)]
            serial: Reader { bytes, at: 8, big }.u32()?,
            kind,
            reply_to: 0,
            member: String::new(),
            error: String::new(),
            signature: String::new(),
            body: Vec::new(),
            big,
        };
        while reader.at < end {
            reader.align(8);
            let code = reader.byte()?;
            match (code, reader.signature()?.as_str()) {
                (3, "s") => message.member = reader.text()?,
                (4, "s") => message.error = reader.text()?,
                (5, "u") => message.reply_to = reader.u32()?,
                (8, "g") => message.signature = reader.signature()?,
                (_, "s" | "o") => drop(reader.text()?),
                (_, "u") => drop(reader.u32()?),
                (_, "g") => drop(reader.signature()?),
                _ => return None,
            }
        }
        reader.align(8);
        message.body = bytes.get(reader.at..)?.to_vec();
        Some(message)
    }

    /// The texts (strings and paths) among the arguments at the begin; numbers between them are passed over.
    pub fn texts(&self) -> Vec<String> {
        let mut reader = Reader { bytes: &self.body, at: 0, big: self.big };
        let mut found = Vec::new();
        for letter in self.signature.chars() {
            let text = match letter {
                's' | 'o' => reader.text(),
                'u' | 'i' | 'b' => {
                    if reader.u32().is_none() {
                        break;
                    }
                    continue;
                }
                // A variant with a text in it, as properties are read.
                'v' => match reader.signature().as_deref() {
                    Some("s" | "o") => reader.text(),
                    _ => break,
                },
                _ => break,
            };
            match text {
                Some(text) => found.push(text),
                None => break,
            }
        }
        found
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big: bool,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let end = self.at.checked_add(count)?;
        let part = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(part)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u32(&mut self) -> Option<u32> {
        self.align(4);
        let big = self.big;
        let four: [u8; 4] = self.take(4)?.try_into().ok()?;
        Some(if big { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) })
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.u32()?).ok()?;
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.byte()?;
        Some(text)
    }

    fn signature(&mut self) -> Option<String> {
        let length = usize::from(self.byte()?);
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.byte()?;
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(args: &[Value]) -> Vec<u8> {
        Call { destination: Some("a.b"), path: "/x", interface: "a.b.C", member: "Do", args }.to_bytes(7)
    }

    #[test]
    fn bytes_are_those_of_the_specification() {
        let bytes = call(&[Value::Text("hi".into()), Value::U64(1)]);
        assert_eq!(bytes[..4], [b'l', 1, 0, 1]);
        // The body: 4 + 3 bytes of text, padded to 8, and a number of 8.
        assert_eq!(bytes[4..8], 16u32.to_le_bytes());
        assert_eq!(bytes[8..12], 7u32.to_le_bytes());
        assert_eq!(bytes[bytes.len() - 16..], [2, 0, 0, 0, b'h', b'i', 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(message_length(&bytes[..FIXED]), Some(bytes.len()));
        let read = Message::parse(&bytes).unwrap();
        assert_eq!((read.kind, read.member.as_str()), (Kind::Call, "Do"));
        assert_eq!(read.texts(), ["hi"]);
    }

    #[test]
    fn arrays_count_without_their_first_padding() {
        let bytes = call(&[Value::Properties(vec![("P".into(), Value::Bool(true))])]);
        let body = &bytes[bytes.len() - 24..];
        assert_eq!(body[..4], 16u32.to_le_bytes(), "{body:?}");
        assert_eq!(body[8..], [1, 0, 0, 0, b'P', 0, 1, b'b', 0, 0, 0, 0, 1, 0, 0, 0]);
    }

    #[test]
    fn rubbish_and_cut_messages_are_refused() {
        let bytes = call(&[Value::Text("hi".into()), Value::Pairs(vec![("a".into(), "b".into())])]);
        for end in 0..bytes.len() {
            if let Some(message) = Message::parse(&bytes[..end]) {
                let _ = message.texts();
            }
            let mut broken = bytes.clone();
            broken[end] = 0xff;
            let _ = message_length(&broken).map(|_| Message::parse(&broken).map(|m| m.texts()));
        }
        assert_eq!(message_length(&[b'l', 1, 0, 1, 255, 255, 255, 127, 0, 0, 0, 0, 0, 0, 0, 0]), None);
    }
}
