//! Variables: `${NAME:-default}` in a Compose file, and files of `NAME=value` lines as Compose reads them.

use crate::compose::tree::Tree;
use drydock_core::{Error, Result, text};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// What names mean: the caller's environment, then the `.env` file.
#[derive(Debug, Default)]
pub struct Vars {
    file: BTreeMap<String, String>,
    unset: RefCell<BTreeSet<String>>,
}

impl Vars {
    /// With what `.env` says.
    pub fn new(file: BTreeMap<String, String>) -> Self {
        Self { file, unset: RefCell::default() }
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<String> {
        std::env::var(name).ok().or_else(|| self.file.get(name).cloned())
    }

    /// The names that were used, have no value, and no default stood beside them.
    pub fn unset(&self) -> Vec<String> {
        self.unset.borrow().iter().cloned().collect()
    }

    /// Replaces the variables of a text.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn expand(&self, text: &str) -> std::result::Result<String, String> {
        self.expand_at(text, 0)
    }

    fn expand_at(&self, text: &str, depth: usize) -> std::result::Result<String, String> {
        let shown = || text::shorten(&text::escape(text), 60);
        if depth > 16 {
            return Err("variables within variables, too deep".into());
        }
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                out.push('$');
                rest = after;
            } else if let Some(inner) = after.strip_prefix('{') {
                let end = closing(inner).ok_or_else(|| format!("'{}': '${{' without '}}'", shown()))?;
                let (inside, after) = inner.split_at(end);
                out.push_str(&self.braced(inside, depth)?);
                rest = after.strip_prefix('}').unwrap_or(after);
            } else {
                let length = name_length(after);
                let (name, after) = after.split_at(length);
                if name.is_empty() {
                    return Err(format!(
                        "'{}': a '$' that begins no name (allowed: $$ for one '$')",
                        shown()
                    ));
                }
                out.push_str(&self.plain(name));
                rest = after;
            }
        }
        out.push_str(rest);
        Ok(out)
    }

    fn plain(&self, name: &str) -> String {
        self.get(name).unwrap_or_else(|| {
            self.unset.borrow_mut().insert(name.to_string());
            String::new()
        })
    }

    fn braced(&self, inside: &str, depth: usize) -> std::result::Result<String, String> {
        let shown = || text::shorten(&text::escape(inside), 60);
        let (name, rest) = inside.split_at(name_length(inside));
        if name.is_empty() {
            return Err(format!(
                "'${{{}}}' is no variable (allowed: NAME, NAME:-default, NAME:?error, NAME:+other)",
                shown()
            ));
        }
        if rest.is_empty() {
            return Ok(self.plain(name));
        }
        let (colon, rest) = rest.strip_prefix(':').map_or((false, rest), |rest| (true, rest));
        let value = self.get(name).filter(|value| !(colon && value.is_empty()));
        let mut operator = rest.chars();
        let word = match operator.next() {
            Some('-' | '?' | '+') => operator.as_str(),
            _ => {
                return Err(format!(
                    "'${{{}}}' is no variable (allowed: NAME, NAME:-default, NAME:?error, NAME:+other)",
                    shown()
                ));
            }
        };
        let expanded = || self.expand_at(word, depth + 1);
        match (rest.chars().next(), value) {
            (Some('+'), Some(_)) => expanded(),
            (Some('+'), None) => Ok(String::new()),
            (_, Some(value)) => Ok(value),
            (Some('-'), None) => expanded(),
            (_, None) => {
                let why = expanded()?;
                let why = if why.is_empty() {
                    "a value is required".to_string()
                } else {
                    text::shorten(&text::escape(&why), 200)
                };
                Err(format!("the variable '{name}' is not set: {why}"))
            }
        }
    }

    /// Replaces the variables of every text in a tree; keys stay as they are, and so does what is below an extension.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] naming the place.
    pub fn expand_tree(&self, tree: &mut Tree, at: &str) -> Result<()> {
        match tree {
            Tree::Text(text) if text.contains('$') => {
                *text = self.expand(text).map_err(|why| Error::bad_input(at, why))?;
            }
            Tree::List(items) => {
                for (i, item) in items.iter_mut().enumerate() {
                    self.expand_tree(item, &format!("{at}/{i}"))?;
                }
            }
            Tree::Map(entries) => {
                for (key, value) in
                    entries.iter_mut().filter(|(key, _)| !key.starts_with("x-") || key == "x-rootfs")
                {
                    self.expand_tree(value, &format!("{at}/{}", text::shorten(&text::escape(key), 100)))?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Where the brace that closes is; braces within are counted.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    let bytes = text.as_bytes();
    for (i, byte) in bytes.iter().enumerate() {
        match byte {
            b'{' if i > 0 && bytes.get(i - 1) == Some(&b'$') => depth += 1,
            b'}' if depth == 0 => return Some(i),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn name_length(text: &str) -> usize {
    let ok = |(i, c): (usize, char)| c == '_' || c.is_ascii_alphabetic() || (i > 0 && c.is_ascii_digit());
    text.char_indices().take_while(|pair| ok(*pair)).count()
}

/// The lines of an environment file: `NAME=value`, `export NAME=value`, `NAME`; `#` begins a comment; a value in single
/// quotes is as it is, in double quotes with escapes; outside of single quotes variables are replaced, the file's own first.
///
/// # Errors
/// What is wrong, with its line.
pub fn parse_env(source: &str, outer: &Vars) -> std::result::Result<Vec<(String, Option<String>)>, String> {
    let mut own = Vars::new(outer.file.clone());
    let mut pairs = Vec::new();
    let mut lines = source.trim_start_matches('\u{feff}').lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let bad = |why: &str| format!("line {}: {why}", number + 1);
        let line = line.trim();
        let line = line.strip_prefix("export ").map_or(line, str::trim_start);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name.trim_end(), Some(value.trim_start())),
            None => (line, None),
        };
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(bad("not NAME=value"));
        }
        let Some(value) = value else {
            pairs.push((name.to_string(), None));
            continue;
        };
        let mut whole = value.to_string();
        let quote = whole.chars().next().filter(|c| matches!(c, '"' | '\''));
        // A quoted value may go over several lines.
        while let Some(quote) = quote
            && quoted_end(&whole, quote).is_none()
        {
            let (_, next) = lines.next().ok_or_else(|| bad("a quote that does not end"))?;
            whole.push('\n');
            whole.push_str(next);
        }
        let value = match quote.and_then(|quote| quoted_end(&whole, quote).map(|end| (quote, end))) {
            Some((quote, end)) => {
                let after = whole.get(end + 1..).unwrap_or_default().trim_start();
                if !after.is_empty() && !after.starts_with('#') {
                    return Err(bad("text after the closing quote"));
                }
                let inside = whole.get(1..end).unwrap_or_default();
                if quote == '\'' {
                    inside.to_string()
                } else {
                    own.expand(&unescape(inside)).map_err(|why| bad(&why))?
                }
            }
            None => {
                let plain = whole.split(" #").next().unwrap_or_default().trim_end();
                own.expand(plain).map_err(|why| bad(&why))?
            }
        };
        if value.contains('\0') {
            return Err(bad("a NUL byte"));
        }
        own.file.insert(name.to_string(), value.clone());
        pairs.push((name.to_string(), Some(value)));
    }
    Ok(pairs)
}

fn quoted_end(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (i, c) in text.char_indices().skip(1) {
        if c == quote && !escaped {
            return Some(i);
        }
        escaped = c == '\\' && !escaped && quote == '"';
    }
    None
}

fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('$') => out.push_str("$$"),
            Some(c @ ('"' | '\\' | '\'')) => out.push(c),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars() -> Vars {
        Vars::new(
            [("A", "1"), ("EMPTY", ""), ("B", "two words")]
                .map(|(k, v)| (k.to_string(), v.to_string()))
                .into(),
        )
    }

    #[test]
    fn interpolation() {
        for (text, result) in [
            ("$A", "1"),
            ("x${A}y$$z", "x1y$z"),
            ("$$A", "$A"),
            ("${NO_SUCH:-d}", "d"),
            ("${NO_SUCH:-${A}-${B}}", "1-two words"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${A:?no}", "1"),
            ("${A:+yes}${NO_SUCH+no}", "yes"),
            ("${NO_SUCH_2}", ""),
            ("a}b{", "a}b{"),
        ] {
            assert_eq!(vars().expand(text).unwrap(), result, "{text}");
        }
        let all = vars();
        all.expand("$NO_SUCH_3").unwrap();
        assert_eq!(all.unset(), ["NO_SUCH_3"]);
        assert!(vars().expand("${NO_SUCH:?give it}").unwrap_err().contains("give it"));
        for bad in ["${", "${}", "$", "$1", "${1}", "${A!}", "a $ b", "${A:x}", "${A"] {
            assert!(vars().expand(bad).is_err(), "{bad}");
        }
        assert!(vars().expand(&"${X:-".repeat(10_000)).is_err());
        assert!(vars().expand(&format!("{}{}", "${X:-".repeat(50), "}".repeat(50))).is_err());
    }

    #[test]
    fn environment_files() {
        let text =
            "# c\nexport A=1\nB = two # c\nC='$A #x'\nD=\"a\\n$A\\\"\"\n\nE\nF=\nG=\"l1\nl2\" # c\nH=a#b\n";
        let pairs = parse_env(text, &Vars::default()).unwrap();
        let expected = [
            ("A", Some("1")),
            ("B", Some("two")),
            ("C", Some("$A #x")),
            ("D", Some("a\n1\"")),
            ("E", None),
            ("F", Some("")),
            ("G", Some("l1\nl2")),
            ("H", Some("a#b")),
        ];
        assert_eq!(pairs, expected.map(|(k, v)| (k.to_string(), v.map(String::from))));
        for bad in ["=x", "a b=c", "A='x", "A=\"x\"y", "A=${"] {
            assert!(parse_env(bad, &Vars::default()).is_err(), "{bad}");
        }
    }
}
