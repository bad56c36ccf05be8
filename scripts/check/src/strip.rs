//! Rust source with its comments, strings or test modules blanked out; lines stay where they are.

/// Without comments; strings stay.
pub fn without_comments(source: &str) -> String {
    blank(source, false)
}

/// Without comments and the content of strings.
pub fn code(source: &str) -> String {
    blank(source, true)
}

/// The same text, with the modules under `#[cfg(test)]` blanked. `code` is [`code`] of the same source.
pub fn without_tests(text: &str, code: &str) -> String {
    let mut out = text.as_bytes().to_vec();
    let mut from = 0;
    while let Some(found) = code.get(from..).and_then(|rest| rest.find("#[cfg(test)]")) {
        let start = from + found;
        let end = end_of_item(code, start + "#[cfg(test)]".len());
        for byte in out.iter_mut().take(end).skip(start) {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        from = end;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Where the item that starts here ends: at its `;`, or at the brace that closes it.
fn end_of_item(code: &str, from: usize) -> usize {
    let mut depth = 0usize;
    for (at, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth <= 1 => return at + 1,
            b'}' => depth -= 1,
            b';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// Whether the text has this identifier, not as a part of another.
pub fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text.get(..at).and_then(|t| t.chars().next_back());
        let after = text.get(at + word.len()..).and_then(|t| t.chars().next());
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

fn blank(source: &str, strings: bool) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let (taken, hidden) = next_token(rest, c);
        let (token, after) = rest.split_at(taken.min(rest.len()));
        match hidden {
            Hidden::Comment => hide(token, &mut out),
            Hidden::String if strings => hide(token, &mut out),
            _ => out.push_str(token),
        }
        rest = after;
    }
    out
}

enum Hidden {
    Comment,
    String,
    No,
}

/// Spaces instead of the bytes, so that offsets stay too.
fn hide(token: &str, out: &mut String) {
    out.extend(token.bytes().map(|b| if b == b'\n' { '\n' } else { ' ' }));
}

fn next_token(rest: &str, c: char) -> (usize, Hidden) {
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), Hidden::Comment);
    }
    if rest.starts_with("/*") {
        return (rest.find("*/").map_or(rest.len(), |at| at + 2), Hidden::Comment);
    }
    if c == '"' {
        return (string_end(rest), Hidden::String);
    }
    if c == 'r' && (rest.starts_with("r\"") || rest.starts_with("r#\"") || rest.starts_with("r##\"")) {
        let hashes = rest.bytes().skip(1).take_while(|b| *b == b'#').count();
        let close = format!("\"{}", "#".repeat(hashes));
        let body = hashes + 2;
        let end =
            rest.get(body..).and_then(|t| t.find(&close)).map_or(rest.len(), |at| body + at + close.len());
        return (end, Hidden::String);
    }
    if c == '\'' {
        // A character, not a lifetime: 'x' or '\…'.
        if rest.starts_with("'\\") {
            let end = rest.get(3..).and_then(|t| t.find('\'')).map_or(rest.len(), |at| at + 4);
            return (end, Hidden::String);
        }
        let mut chars = rest.char_indices().skip(2);
        if let Some((at, '\'')) = chars.next() {
            return (at + 1, Hidden::String);
        }
    }
    if c.is_alphanumeric() || c == '_' {
        // A whole identifier, so that its last letter does not begin a raw string.
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        return (word, Hidden::No);
    }
    (c.len_utf8(), Hidden::No)
}

fn string_end(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hides_what_is_not_code() {
        let source = "let a = \"unsafe \\\" {\"; // unsafe\n/* unsafe */ let c = '\"'; r#\"unsafe\"#; unsafe { f::<'a>() }";
        let code = code(source);
        assert_eq!(code.len(), source.len());
        assert_eq!(code.matches("unsafe").count(), 1, "{code}");
        assert_eq!(without_comments(source).matches("unsafe").count(), 3);
    }

    #[test]
    fn hides_tests() {
        let source = "fn a() {}\n#[cfg(test)]\nmod tests { fn x() { \"}\"; } }\nfn b() {}\n#[cfg(test)]\nmod more;\nfn c() {}";
        let left = without_tests(source, &code(source));
        assert!(left.contains("fn a") && left.contains("fn b") && left.contains("fn c"), "{left}");
        assert!(!left.contains("fn x") && !left.contains("mod more"), "{left}");
        assert_eq!(left.lines().count(), source.lines().count());
    }

    #[test]
    fn words() {
        assert!(has_word("use serde::x", "serde"));
        assert!(!has_word("use serde_json::x; my_serde", "serde"));
    }
}
