//! Text from outside, made safe to print.

use std::fmt::Write;

/// Escapes control characters (C0, DEL, C1), bidirectional overrides and line separators, so that a name made by a
/// container cannot drive the terminal. Newline and tab are escaped too.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if needs_escape(c) => {
                let code = u32::from(c);
                // Writing to a String cannot fail.
                let _ =
                    if code < 0x100 { write!(out, "\\x{code:02x}") } else { write!(out, "\\u{{{code:x}}}") };
            }
            c => out.push(c),
        }
    }
    out
}

/// [`escape`] for bytes: what is not UTF-8 becomes `\xNN`.
pub fn escape_bytes(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        out.push_str(&escape(chunk.valid()));
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

fn needs_escape(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// At most `max` characters; a longer text ends in `…`.
pub fn shorten(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_string();
    }
    text.chars().take(max.saturating_sub(1)).chain(['…']).collect()
}

/// A word as a shell would need it: plain when safe, else in single quotes. Used only for printing commands.
pub fn shell_quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-+./:=,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_string();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_drives_terminals() {
        assert_eq!(escape("a\x1b]52;\u{202e}\u{9b}\n"), "a\\x1b]52;\\u{202e}\\x9b\\n");
        assert_eq!(escape_bytes(b"ok\xff\x01"), "ok\\xff\\x01");
        assert_eq!(escape("grün ü 漢"), "grün ü 漢");
    }

    #[test]
    fn quotes() {
        assert_eq!(shell_quote("a b"), "'a b'");
        assert_eq!(shell_quote("it's"), "'it'\\''s'");
        assert_eq!(shell_quote("--cpus=0.5"), "--cpus=0.5");
        assert_eq!(shell_quote(""), "''");
    }
}
