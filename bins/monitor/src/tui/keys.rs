//! Keys from the bytes that a terminal sends. Source: console_codes(4), xterm's control sequences.

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A character.
    Char(char),
    /// Ctrl and a letter.
    Ctrl(char),
    /// Arrows and the like.
    Up,
    /// Down.
    Down,
    /// Left.
    Left,
    /// Right.
    Right,
    /// A screen up.
    PageUp,
    /// A screen down.
    PageDown,
    /// To the beginning.
    Home,
    /// To the end.
    End,
    /// Return.
    Enter,
    /// Escape.
    Escape,
    /// Backspace.
    Backspace,
}

/// The keys in what was read at once. What is not known is left out.
pub fn parse(bytes: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut rest = bytes;
    while let Some((&first, after)) = rest.split_first() {
        let (key, next) = match first {
            0x1b => escape(after),
            b'\r' | b'\n' => (Some(Key::Enter), after),
            0x7f | 0x08 => (Some(Key::Backspace), after),
            0x01..=0x1a => (Some(Key::Ctrl(char::from(first - 1 + b'a'))), after),
            0x20..=0x7e => (Some(Key::Char(char::from(first))), after),
            _ => utf8(rest),
        };
        keys.extend(key);
        rest = next;
    }
    keys
}

fn utf8(bytes: &[u8]) -> (Option<Key>, &[u8]) {
    let length = match bytes.first() {
        Some(0xc2..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf4) => 4,
        _ => 1,
    };
    let (now, rest) = bytes.split_at(length.min(bytes.len()));
    let found = std::str::from_utf8(now).ok().and_then(|text| text.chars().next());
    (found.filter(|c| !c.is_control()).map(Key::Char), rest)
}

/// After an escape byte: a sequence, or the key itself.
fn escape(after: &[u8]) -> (Option<Key>, &[u8]) {
    let Some(rest) = after.strip_prefix(b"[").or_else(|| after.strip_prefix(b"O")) else {
        return (Some(Key::Escape), after);
    };
    let end = rest.iter().position(|b| (0x40..=0x7e).contains(b));
    let Some(end) = end else { return (Some(Key::Escape), &[]) };
    let (parameters, rest) = rest.split_at(end);
    let last = rest.first().copied().unwrap_or(0);
    let number = parameters.split(|b| *b == b';').next().unwrap_or_default();
    let key = match (last, number) {
        (b'A', _) => Some(Key::Up),
        (b'B', _) => Some(Key::Down),
        (b'C', _) => Some(Key::Right),
        (b'D', _) => Some(Key::Left),
        (b'H', _) | (b'~', b"1" | b"7") => Some(Key::Home),
        (b'F', _) | (b'~', b"4" | b"8") => Some(Key::End),
        (b'~', b"5") => Some(Key::PageUp),
        (b'~', b"6") => Some(Key::PageDown),
        (b'M', b"") => Some(Key::Enter),
        _ => None,
    };
    (key, rest.get(1..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_keys() {
        use Key::{Backspace, Char, Ctrl, Down, Enter, Escape, Home, PageDown, Up};
        assert_eq!(parse(b"q\x03\r\x7f"), [Char('q'), Ctrl('c'), Enter, Backspace]);
        assert_eq!(parse(b"\x1b[A\x1bOB\x1b[6~\x1b[1;5H"), [Up, Down, PageDown, Home]);
        assert_eq!(parse(b"\x1b"), [Escape]);
        assert_eq!(parse("ü漢".as_bytes()), [Char('ü'), Char('漢')]);
        assert_eq!(parse(b"\x1b[99;99X\x1b[200~x"), [Char('x')]);
        assert_eq!(parse(b"\xff\xc3"), []);
        for cut in 0..6 {
            let _ = parse(b"\x1b[1;5A".get(..cut).unwrap_or_default());
        }
    }
}
