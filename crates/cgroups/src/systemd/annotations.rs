//! `org.systemd.property.NAME` annotations: properties that the configuration asks systemd for, written as GVariant text.

use super::properties::Property;
use super::wire::Value;
use drydock_core::text::{escape, shorten};
use drydock_core::{Error, Result};

/// What such an annotation's name begins with.
pub const PREFIX: &str = "org.systemd.property.";

/// The properties that the annotations ask for. Others than [`PREFIX`]'s are passed over.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] for a name or a value that is none.
pub fn properties<'a>(annotations: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Vec<Property>> {
    let ours =
        annotations.into_iter().filter_map(|(key, value)| Some((key, key.strip_prefix(PREFIX)?, value)));
    ours.map(|(key, name, text)| {
        let letters = name.len() >= 3 && name.bytes().all(|b| b.is_ascii_alphabetic());
        if !letters {
            return Err(Error::bad_input(
                escape(key),
                "not a property's name (allowed: letters, at least three)",
            ));
        }
        let value = parse(text).ok_or_else(|| {
            let shown = shorten(&escape(text), 60);
            Error::bad_input(
                escape(key),
                format!("'{shown}' is not understood (allowed: true, 'text', ['a', 'b'], 12, uint64 12)"),
            )
        })?;
        seconds(name, value).ok_or_else(|| {
            Error::bad_input(escape(key), "not a number of seconds (allowed: such as 12 or 1.5)")
        })
    })
    .collect()
}

/// systemd's bus knows spans of time in microseconds only: `TimeoutStopSec` is `TimeoutStopUSec` there.
fn seconds(name: &str, value: Value) -> Option<Property> {
    let Some(stem) = name.strip_suffix("Sec").filter(|stem| !stem.ends_with('U')) else {
        return Some((name.to_string(), value));
    };
    let micros = match value {
        Value::I16(n) => u64::try_from(n).ok()?.checked_mul(1_000_000)?,
        Value::I32(n) => u64::try_from(n).ok()?.checked_mul(1_000_000)?,
        Value::I64(n) => u64::try_from(n).ok()?.checked_mul(1_000_000)?,
        Value::Byte(n) => u64::from(n).checked_mul(1_000_000)?,
        Value::U16(n) => u64::from(n).checked_mul(1_000_000)?,
        Value::U32(n) => u64::from(n).checked_mul(1_000_000)?,
        Value::U64(n) => n.checked_mul(1_000_000)?,
        Value::F64(n) if (0.0..1e12).contains(&n) => (n * 1e6) as u64,
        _ => return None,
    };
    Some((format!("{stem}USec"), Value::U64(micros)))
}

/// The part of GVariant's text format that properties of units need.
fn parse(text: &str) -> Option<Value> {
    let text = text.trim();
    if let Some(list) = text.strip_prefix("@as").or(text.starts_with('[').then_some(text)) {
        return texts(list.trim()).map(Value::Texts);
    }
    match text {
        "true" => return Some(Value::Bool(true)),
        "false" => return Some(Value::Bool(false)),
        _ => {}
    }
    if text.starts_with(['\'', '"']) {
        let (word, rest) = quoted(text)?;
        return rest.trim().is_empty().then_some(Value::Text(word));
    }
    let (kind, number) = text.rsplit_once(char::is_whitespace).unwrap_or(("", text));
    Some(match kind.trim() {
        "" | "@i" | "int32" if !number.contains('.') => Value::I32(number.parse().ok()?),
        "byte" | "@y" => Value::Byte(number.parse().ok()?),
        "int16" | "@n" => Value::I16(number.parse().ok()?),
        "uint16" | "@q" => Value::U16(number.parse().ok()?),
        "uint32" | "@u" => Value::U32(number.parse().ok()?),
        "int64" | "@x" => Value::I64(number.parse().ok()?),
        "uint64" | "@t" => Value::U64(number.parse().ok()?),
        "" | "double" | "@d" => Value::F64(number.parse().ok().filter(|n: &f64| n.is_finite())?),
        _ => return None,
    })
}

/// `['a', "b"]`, `[]`.
fn texts(list: &str) -> Option<Vec<String>> {
    let mut rest = list.strip_prefix('[')?.strip_suffix(']')?.trim();
    let mut words = Vec::new();
    while !rest.is_empty() {
        let (word, behind) = quoted(rest)?;
        words.push(word);
        let behind = behind.trim_start();
        rest = match behind.strip_prefix(',') {
            Some(next) if !next.trim().is_empty() => next.trim_start(),
            None if behind.is_empty() => behind,
            _ => return None,
        };
    }
    Some(words)
}

/// A text in quotes of either kind, and what stands behind it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let mut word = String::new();
    let mut letters = text.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => word.push(match letters.next()?.1 {
                'n' => '\n',
                't' => '\t',
                other => other,
            }),
            c if c == quote => return Some((word, text.get(at + 1..)?)),
            // D-Bus texts have no such byte.
            '\0' => return None,
            c => word.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, text: &str) -> Result<Property> {
        let key = format!("{PREFIX}{name}");
        properties([("other", "x"), (key.as_str(), text)]).map(|mut all| all.remove(0))
    }

    #[test]
    fn values() {
        for (name, text, shown, value) in [
            ("CollectMode", "'inactive-or-failed'", "CollectMode", Value::Text("inactive-or-failed".into())),
            ("TimeoutStopUSec", "uint64 123456789", "TimeoutStopUSec", Value::U64(123_456_789)),
            ("TimeoutStopSec", "123", "TimeoutStopUSec", Value::U64(123_000_000)),
            ("TimeoutStopSec", "1.5", "TimeoutStopUSec", Value::U64(1_500_000)),
            ("Before", "['a.service', \"b\"]", "Before", Value::Texts(vec!["a.service".into(), "b".into()])),
            ("Before", "@as []", "Before", Value::Texts(vec![])),
            ("Delegate", "true", "Delegate", Value::Bool(true)),
            ("Nice", "-5", "Nice", Value::I32(-5)),
        ] {
            assert_eq!(one(name, text).unwrap(), (shown.to_string(), value), "{text}");
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for (name, text) in [
            ("A", "true"),
            ("Not a name", "true"),
            ("Some", "bare"),
            ("Some", "'open"),
            ("Some", "['a',]"),
            ("Some", "['a' 'b']"),
            ("Some", "uint64 -1"),
            ("Some", "'a' b"),
            ("Some", ""),
            ("TimeoutStopSec", "'x'"),
            ("TimeoutStopSec", "-1"),
        ] {
            assert_eq!(one(name, text).unwrap_err().exit_code(), 2, "{name} {text}");
        }
        assert!(properties([("a", "b")]).unwrap().is_empty());
    }
}
