//! What a shape cannot say: how the fields of config.json fit together.

use super::shape::{object, quoted, refuse};
use drydock_core::{Error, Result};
use serde_json::Value;

type Items<'a> = Box<dyn Iterator<Item = (String, &'a Value)> + 'a>;

/// The items of a list with their places; none if it is not there.
fn items<'a>(json: &'a Value, place: &'a str) -> Items<'a> {
    let values = json.pointer(place).and_then(Value::as_array);
    Box::new(
        (0..)
            .zip(values.into_iter().flatten())
            .map(move |(n, value): (usize, _)| (format!("{place}/{n}"), value)),
    )
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// Checks a document that has its shape.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] with the place.
pub fn check(json: &Value) -> Result<()> {
    version(text(json, "ociVersion"))?;
    root(json)?;
    program(json)?;
    rlimits(json)?;
    mounts(json)?;
    devices(json)?;
    resources(json.pointer("/linux/resources"), "/linux/resources")?;
    clocks(json)
}

/// The oldest version of the specification.
pub const OLDEST: &str = "1.0.0";

/// A semantic version of major version 1.
fn version(version: &str) -> Result<()> {
    const AT: &str = "/ociVersion";
    let (core, rest) = match version.find(['-', '+']) {
        Some(end) => version.split_at(end),
        None => (version, ""),
    };
    let number = |part: &str| {
        let plain = part == "0" || !part.starts_with('0');
        (plain && part.bytes().all(|b| b.is_ascii_digit())).then(|| part.parse::<u32>().ok()).flatten()
    };
    let numbers: Vec<Option<u32>> = core.split('.').map(number).collect();
    let suffix = rest.is_empty()
        || rest.len() > 1 && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"-+.".contains(&b));
    match numbers.as_slice() {
        [Some(1), Some(_), Some(_)] if suffix => Ok(()),
        [Some(_), Some(_), Some(_)] if suffix => Err(Error::bad_input(
            object(AT),
            format!("{} is not supported (allowed: 1.x.y)", quoted(version)),
        )),
        _ => Err(Error::bad_input(
            object(AT),
            format!("{} is not a semantic version (allowed: such as 1.2.0)", quoted(version)),
        )),
    }
}

/// An empty path would mean the bundle itself, with all that lies beside the root.
fn root(json: &Value) -> Result<()> {
    match json.pointer("/root/path").and_then(Value::as_str) {
        Some("") => {
            Err(Error::bad_input(object("/root/path"), "empty (allowed: the root file system's directory)"))
        }
        _ => Ok(()),
    }
}

fn program(json: &Value) -> Result<()> {
    match json.pointer("/process/args/0").and_then(Value::as_str) {
        Some("") => Err(refuse("/process/args/0", "empty", "a program's name or path")),
        _ => Ok(()),
    }
}

fn rlimits(json: &Value) -> Result<()> {
    let mut seen: Vec<&str> = Vec::new();
    for (place, limit) in items(json, "/process/rlimits") {
        let name = text(limit, "type");
        if seen.contains(&name) {
            return Err(Error::bad_input(
                object(&place),
                format!("{name} is given twice (allowed: each type once)"),
            ));
        }
        seen.push(name);
        let number = |field: &str| limit.get(field).and_then(Value::as_u64).unwrap_or(0);
        let (soft, hard) = (number("soft"), number("hard"));
        if soft > hard {
            return Err(refuse(
                &format!("{place}/soft"),
                &soft.to_string(),
                &format!("up to the hard limit, {hard}"),
            ));
        }
    }
    Ok(())
}

fn mounts(json: &Value) -> Result<()> {
    let filled = |mount: &Value, field: &str| {
        mount.get(field).and_then(Value::as_array).is_some_and(|l| !l.is_empty())
    };
    for (place, mount) in items(json, "/mounts") {
        if filled(mount, "uidMappings") != filled(mount, "gidMappings") {
            return Err(Error::bad_input(
                object(&place),
                "uidMappings or gidMappings alone (allowed: both, or none of them)",
            ));
        }
    }
    Ok(())
}

fn devices(json: &Value) -> Result<()> {
    let mut seen: Vec<(&str, &Value)> = Vec::new();
    // Engines repeat a device; it is the same one then.
    let node = |device: &Value| ["type", "major", "minor"].map(|field| device.get(field).cloned());
    for (place, device) in items(json, "/linux/devices") {
        let path = text(device, "path");
        if path.split('/').any(|part| part == "..") {
            return Err(refuse(&format!("{place}/path"), &quoted(path), "an absolute path without '..'"));
        }
        if seen.iter().any(|(other, first)| *other == path && node(first) != node(device)) {
            return Err(Error::bad_input(
                object(&place),
                format!("{} is given twice, as two devices (allowed: each path once)", quoted(path)),
            ));
        }
        seen.push((path, device));
        if text(device, "type") != "p" {
            number(device, &place, "major", 4095)?;
            number(device, &place, "minor", 1_048_575)?;
        }
    }
    Ok(())
}

/// Linux has 12 bits for a major number and 20 for a minor one.
fn number(device: &Value, place: &str, field: &str, most: i64) -> Result<()> {
    let at = format!("{place}/{field}");
    match device.get(field).and_then(Value::as_i64) {
        None => Err(Error::bad_input(
            object(&at),
            format!("required (allowed: 0 to {most}; left out with the type p only)"),
        )),
        Some(n) if (0..=most).contains(&n) => Ok(()),
        Some(n) => Err(refuse(&at, &n.to_string(), &format!("0 to {most}"))),
    }
}

/// Checks `linux.resources`, which stand at `place`.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] with the place.
pub fn resources(resources: Option<&Value>, place: &str) -> Result<()> {
    let Some(resources) = resources else { return Ok(()) };
    let one_of =
        |place: &str, value: &Value, fields: [&str; 2]| match fields.iter().any(|f| value.get(f).is_some()) {
            true => Ok(()),
            false => Err(Error::bad_input(
                object(place),
                format!("neither {} nor {} (allowed: at least one)", fields[0], fields[1]),
            )),
        };
    for (at, device) in items(resources, "/blockIO/weightDevice") {
        one_of(&format!("{place}{at}"), device, ["weight", "leafWeight"])?;
    }
    for (name, entry) in resources.get("rdma").and_then(Value::as_object).into_iter().flatten() {
        one_of(
            &format!("{place}{}", super::json::below("/rdma", name)),
            entry,
            ["hcaHandles", "hcaObjects"],
        )?;
    }
    let mut seen: Vec<&str> = Vec::new();
    for (at, huge) in items(resources, "/hugepageLimits") {
        let size = text(huge, "pageSize");
        if seen.contains(&size) {
            return Err(Error::bad_input(
                object(&format!("{place}{at}")),
                format!("{size} is given twice (allowed: each size once)"),
            ));
        }
        seen.push(size);
    }
    Ok(())
}

/// The object is a map of clocks, so another member is a wrong value, not an unknown property.
fn clocks(json: &Value) -> Result<()> {
    const CLOCKS: [&str; 2] = ["monotonic", "boottime"];
    let offsets = json.pointer("/linux/timeOffsets").and_then(Value::as_object);
    match offsets.into_iter().flatten().find(|(name, _)| !CLOCKS.contains(&name.as_str())) {
        None => Ok(()),
        Some((name, _)) => {
            Err(refuse("/linux/timeOffsets", &format!("the clock {}", quoted(name)), &CLOCKS.join(", ")))
        }
    }
}
