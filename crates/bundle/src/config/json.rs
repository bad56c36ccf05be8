//! JSON, read more strictly than its grammar: a member given twice is an error with its place, not the last one's win,
//! and nesting has a bound.
//!
//! Source: RFC 8259 (what to do with duplicate names is left open there), RFC 6901 (pointers).

use drydock_core::text::{escape, shorten};
use drydock_core::{Error, Result};
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::cell::RefCell;
use std::fmt;

/// No configuration nests deeper than a dozen.
const MAX_DEPTH: usize = 64;

/// The document in `bytes`. Members that are `null` are left out: they mean the same as absent ones. `object` names the
/// document in errors.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] with line and column, or with the place.
pub fn read(object: &str, bytes: &[u8]) -> Result<Value> {
    let bad = |problem: String| Error::bad_input(object, problem);
    let text = std::str::from_utf8(bytes)
        .map_err(|e| bad(format!("not UTF-8 at byte {} (allowed: UTF-8)", e.valid_up_to())))?;
    if text.starts_with('\u{feff}') {
        return Err(bad("starts with a byte-order mark (allowed: UTF-8 without one)".into()));
    }
    if text.trim().is_empty() {
        return Err(bad("empty (allowed: a JSON object)".into()));
    }
    let misplaced = RefCell::new(None);
    let mut reader = serde_json::Deserializer::from_str(text);
    let seed = Node { place: String::new(), depth: 0, misplaced: &misplaced };
    let value = seed.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    value.map_err(|e| match misplaced.take() {
        Some((place, problem)) => Error::bad_input(format!("{object}: {place}"), problem),
        None => bad(sentence(&e)),
    })
}

fn sentence(error: &serde_json::Error) -> String {
    let place = format!("line {} column {}", error.line(), error.column());
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or(&text);
    match what {
        _ if error.is_eof() => format!("{place}: unexpected end (allowed: one whole JSON object)"),
        "trailing characters" => {
            format!("{place}: data after the end of the document (allowed: one JSON object)")
        }
        what => format!("{place}: {} (allowed: JSON)", shorten(&escape(what), 200)),
    }
}

/// A member's place below its object's.
pub fn below(place: &str, member: &str) -> String {
    let word = member.replace('~', "~0").replace('/', "~1");
    format!("{place}/{}", shorten(&escape(&word), 80))
}

struct Node<'a> {
    place: String,
    depth: usize,
    misplaced: &'a RefCell<Option<(String, String)>>,
}

impl Node<'_> {
    fn inner(&self, place: String) -> Node<'_> {
        Node { place, depth: self.depth + 1, misplaced: self.misplaced }
    }

    fn refuse<E: serde::de::Error>(&self, place: String, problem: String) -> E {
        *self.misplaced.borrow_mut() = Some((place, problem));
        E::custom("misplaced")
    }

    fn check_depth<E: serde::de::Error>(&self) -> std::result::Result<(), E> {
        if self.depth < MAX_DEPTH {
            return Ok(());
        }
        let place = shorten(&self.place, 60);
        Err(self
            .refuse(place, format!("nested deeper than {MAX_DEPTH} (allowed: at most {MAX_DEPTH} levels)")))
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> std::result::Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> std::result::Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> std::result::Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> std::result::Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> std::result::Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> std::result::Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> std::result::Result<Value, E> {
        Ok(Value::String(value.to_string()))
    }

    fn visit_string<E>(self, value: String) -> std::result::Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Value, A::Error> {
        self.check_depth()?;
        let mut values = Vec::new();
        while let Some(value) =
            list.next_element_seed(self.inner(format!("{}/{}", self.place, values.len())))?
        {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> std::result::Result<Value, A::Error> {
        self.check_depth()?;
        let mut map = Map::new();
        let mut nulls: Vec<String> = Vec::new();
        while let Some(name) = members.next_key::<String>()? {
            let place = below(&self.place, &name);
            if map.contains_key(&name) || nulls.contains(&name) {
                return Err(self.refuse(place, "given twice (allowed: each member once)".into()));
            }
            match members.next_value_seed(self.inner(place))? {
                Value::Null => nulls.push(name),
                value => drop(map.insert(name, value)),
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_bounds() {
        let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
        let deeper = "[".repeat(100_000);
        for (text, says) in [
            ("", "f: empty"),
            ("{", "f: line 1 column 1: unexpected end"),
            ("{} {}", "f: line 1 column 4: data after the end"),
            (r#"{"a":{"b":1,"b":2}}"#, "f: /a/b: given twice"),
            (r#"{"a":null,"a":2}"#, "f: /a: given twice"),
            (r#"{"a/b":[{"c~":1,"c~":1}]}"#, "f: /a~1b/0/c~0: given twice"),
            (r#"{"a":NaN}"#, "f: line 1 column"),
            (r#"{"a":"\ud800"}"#, "f: line 1 column"),
            (r#"{"a":1e999}"#, "number out of range"),
            (&deep, "nested deeper than 64"),
            (&deeper, "nested deeper than 64"),
        ] {
            let error = read("f", text.as_bytes()).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains(says), "{error}");
        }
        assert_eq!(
            read("f", br#"{"a":null,"b":[1,-2,3.5,"x"]}"#).unwrap(),
            serde_json::json!({"b":[1,-2,3.5,"x"]})
        );
    }
}
