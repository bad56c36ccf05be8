//! What JSON may look like: a table of shapes, and the walk that compares a document with it.

use super::json::below;
use drydock_core::text::{escape, shorten};
use drydock_core::{Error, Result};
use serde_json::Value;

/// What a value may be.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// `true` or `false`.
    Bool,
    /// A whole number from the first to the second.
    Int(i128, i128),
    /// A text without NUL that fits; the function says what is allowed if it does not.
    Text(fn(&str) -> Option<&'static str>),
    /// One of these texts.
    Word(&'static [&'static str]),
    /// A list of at least so many.
    List(&'static Shape, usize),
    /// An object with members of any name, which must not be empty; at most so many.
    Map(&'static Shape, usize),
    /// An object. Members that are not listed are ignored.
    Object(&'static [Field]),
}

/// A member of an object.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    pub(super) name: &'static str,
    required: bool,
    shape: Shape,
}

/// A member that may be left out.
pub const fn may(name: &'static str, shape: Shape) -> Field {
    Field { name, required: false, shape }
}

/// A member that must be there.
pub const fn must(name: &'static str, shape: Shape) -> Field {
    Field { name, required: true, shape }
}

/// Compares `value`, which is at `place` of the document, with its shape.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] with the place of the first value that does not fit, and what is allowed.
pub fn check(place: &str, value: &Value, shape: &Shape) -> Result<()> {
    match (shape, value) {
        (Shape::Bool, Value::Bool(_)) => Ok(()),
        (Shape::Int(low, high), Value::Number(number)) => int(place, number, *low, *high),
        (Shape::Text(fits), Value::String(text)) => no_nul(place, text).and_then(|()| match fits(text) {
            None => Ok(()),
            Some(allowed) => Err(unfit(place, &quoted(text), allowed)),
        }),
        (Shape::Word(words), Value::String(text)) => match words.contains(&text.as_str()) {
            true => Ok(()),
            false => {
                let named: Vec<&str> = words.iter().copied().filter(|word| !word.is_empty()).collect();
                Err(unfit(place, &quoted(text), &named.join(", ")))
            }
        },
        (Shape::List(item, least), Value::Array(values)) => {
            if values.len() < *least {
                return Err(refuse(place, "empty", &format!("at least {least}")));
            }
            (0..)
                .zip(values)
                .try_for_each(|(n, value): (usize, _)| check(&format!("{place}/{n}"), value, item))
        }
        (Shape::Map(member, most), Value::Object(values)) => {
            if values.len() > *most {
                return Err(refuse(place, &format!("{} members", values.len()), &format!("at most {most}")));
            }
            values.iter().try_for_each(|(name, value)| {
                if name.is_empty() || name.contains('\0') {
                    return Err(refuse(
                        place,
                        &format!("a member named {}", quoted(name)),
                        "names that are not empty, without NUL",
                    ));
                }
                check(&below(place, name), value, member)
            })
        }
        (Shape::Object(fields), Value::Object(values)) => fields.iter().try_for_each(|field| {
            let place = below(place, field.name);
            match values.get(field.name) {
                Some(value) => check(&place, value, &field.shape),
                None if field.required => Err(Error::bad_input(
                    object(&place),
                    format!("required (allowed: {})", field.shape.kind()),
                )),
                None => Ok(()),
            }
        }),
        _ => Err(refuse(place, &format!("is {}", shown(value)), shape.kind())),
    }
}

/// Gives members that are spelt in another case the name that they have in the table, as the decoder of Go does, for which
/// such files were written: ignored, a limit would be without effect. An exact name goes before.
pub fn fold_case(value: &mut Value, shape: &Shape) {
    match (shape, value) {
        (Shape::List(item, _), Value::Array(values)) => {
            values.iter_mut().for_each(|value| fold_case(value, item))
        }
        (Shape::Map(member, _), Value::Object(values)) => {
            values.values_mut().for_each(|value| fold_case(value, member));
        }
        (Shape::Object(fields), Value::Object(values)) => fields.iter().for_each(|field| {
            if !values.contains_key(field.name) {
                let other = values.keys().find(|name| name.eq_ignore_ascii_case(field.name)).cloned();
                if let Some(found) = other.and_then(|name| values.remove(&name)) {
                    values.insert(field.name.to_string(), found);
                }
            }
            if let Some(value) = values.get_mut(field.name) {
                fold_case(value, &field.shape);
            }
        }),
        _ => {}
    }
}

impl Shape {
    fn kind(&self) -> &'static str {
        match self {
            Shape::Bool => "true or false",
            Shape::Int(..) => "a whole number",
            Shape::Text(_) | Shape::Word(_) => "a string",
            Shape::List(..) => "a list",
            Shape::Map(..) | Shape::Object(_) => "an object",
        }
    }
}

/// How the document's errors begin.
pub fn object(place: &str) -> String {
    format!("{}: {place}", super::FILE)
}

/// The error that a value does not fit.
pub fn refuse(place: &str, found: &str, allowed: &str) -> Error {
    Error::bad_input(object(place), format!("{found} (allowed: {allowed})"))
}

/// [`refuse`] for a value that is of the right type, and yet none of those that may stand there.
pub fn unfit(place: &str, found: &str, allowed: &str) -> Error {
    refuse(place, &format!("{found} does not fit"), allowed)
}

/// A text as errors show it.
pub fn quoted(text: &str) -> String {
    format!("'{}'", shorten(&escape(text), 60))
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the string {}", quoted(text)),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
    }
}

fn no_nul(place: &str, text: &str) -> Result<()> {
    match text.contains('\0') {
        true => Err(refuse(place, &format!("a NUL byte in {}", quoted(text)), "any other character")),
        false => Ok(()),
    }
}

fn int(place: &str, number: &serde_json::Number, low: i128, high: i128) -> Result<()> {
    let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    match whole {
        Some(n) if (low..=high).contains(&n) => Ok(()),
        Some(n) => Err(unfit(place, &n.to_string(), &format!("{low} to {high}"))),
        None => Err(unfit(
            place,
            &number.to_string(),
            &format!("a whole number without point and exponent, {low} to {high}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_in_another_case() {
        let mut json = json!({
            "ociversion": "1.0.0",
            "linux": { "Resources": { "hugepageLimits": [{ "pagesize": "2MB", "limit": 1, "LIMIT": 2 }] } },
            "annotations": { "Linux": "x" },
            "Unknown": 1
        });
        fold_case(&mut json, &super::super::schema::CONFIG);
        assert_eq!(
            json,
            json!({
                "ociVersion": "1.0.0",
                "linux": { "resources": { "hugepageLimits": [{ "pageSize": "2MB", "limit": 1, "LIMIT": 2 }] } },
                "annotations": { "Linux": "x" },
                "Unknown": 1
            })
        );
    }
}
