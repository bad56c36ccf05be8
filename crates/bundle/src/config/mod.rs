//! An OCI bundle's `config.json`: read with bounds, compared with the specification, parsed by its types.
//!
//! [`json`] reads, [`shape`] compares with the table in [`schema`], [`rules`] are what no table can say. So every error has
//! the JSON pointer of what is wrong, which the types' own errors have not.
//! Source: OCI runtime specification, config.md and bundle.md.

pub mod json;
mod process;
pub mod rules;
pub mod schema;
pub mod shape;
pub mod spec;

use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use oci_spec::runtime::Linux;
use serde::Deserialize;
use serde_json::Value;
use spec::Spec;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The file's name in the bundle.
pub const FILE: &str = "config.json";
const MAX_BYTES: u64 = 4 << 20;

/// A bundle as read: its directory, its configuration, and the same as plain JSON for what the types leave out.
#[derive(Debug)]
pub struct Bundle {
    /// The bundle's directory, absolute.
    pub dir: PathBuf,
    /// The configuration.
    pub spec: Spec,
    /// Its `linux`, empty if there is none.
    pub linux: Linux,
    /// The configuration as it stands in the file, without what is null.
    pub json: Value,
    /// What is understood otherwise than it stands there.
    pub warnings: Vec<String>,
}

impl Bundle {
    /// Reads a bundle and checks everything that its text alone can tell.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`]: no bundle, no config.json, larger than 4 MiB, not JSON; a wrong type, a missing
    /// field, a value out of range, each with its JSON pointer.
    pub fn read(dir: &Path) -> Result<Self> {
        let shown = drydock_core::text::escape(&dir.to_string_lossy());
        let bad = |why: String| {
            Error::bad_input("--bundle", format!("'{shown}': {why} (allowed: a directory with config.json)"))
        };
        let plain = |e: &std::io::Error| {
            e.raw_os_error().map_or_else(|| e.to_string(), drydock_core::error::errno_text)
        };
        let dir = std::fs::canonicalize(dir).map_err(|e| bad(plain(&e)))?;
        let bytes = read(&dir.join(FILE)).map_err(|e| bad(e.sentence()))?;
        let mut json = json::read(FILE, &bytes)?;
        if !json.is_object() {
            let found = match &json {
                Value::Null => "null",
                Value::Array(_) => "a list",
                _ => "a plain value",
            };
            return Err(Error::bad_input(FILE, format!("the top level is {found} (allowed: an object)")));
        }
        shape::fold_case(&mut json, &schema::CONFIG);
        shape::check("", &json, &schema::CONFIG)?;
        rules::check(&json)?;
        let (spec, linux) = by_type(FILE, &json)?;
        let warnings = relative_destinations(&json);
        Ok(Self { dir, spec, linux, json, warnings })
    }
}

/// What is left for the types, by them. `object`: what a problem is said of.
fn by_type(object: &str, json: &Value) -> Result<(Spec, Linux)> {
    let read = Spec::deserialize(json).and_then(|spec| Ok((spec, spec::linux(json)?)));
    read.map_err(|e| Error::bad_input(object, drydock_core::text::shorten(&e.to_string(), 300)))
}

/// `linux.resources`, once they are checked, as their types have them.
pub fn typed_resources(resources: &mut Value) {
    // An empty type of a device rule is none.
    let rules = resources.get_mut("devices").and_then(Value::as_array_mut);
    for rule in rules.into_iter().flatten().filter_map(Value::as_object_mut) {
        rule.retain(|name, value| name != "type" || value.as_str() != Some(""));
    }
    // The type's numbers have a sign; more than they hold is no limit.
    let pages = resources.get_mut("hugepageLimits").and_then(Value::as_array_mut);
    for limit in pages.into_iter().flatten().filter_map(|page| page.get_mut("limit")) {
        if limit.as_i64().is_none() {
            *limit = Value::from(-1);
        }
    }
    // The type demands the limit, the specification does not.
    if let Some(all) = resources.as_object_mut().filter(|all| all.get("pids") == Some(&serde_json::json!({})))
    {
        all.remove("pids");
    }
}

/// Allowed for old tools, and worth a word.
fn relative_destinations(json: &Value) -> Vec<String> {
    let mounts = json.get("mounts").and_then(Value::as_array);
    let places = (0..).zip(mounts.into_iter().flatten()).filter_map(|(n, mount): (usize, _)| {
        let path = mount.get("destination").and_then(Value::as_str).filter(|path| !path.starts_with('/'))?;
        let shown = drydock_core::text::shorten(&drydock_core::text::escape(path), 60);
        Some(format!("config.json: /mounts/{n}/destination: '{shown}' is relative, taken as below '/'"))
    });
    places.collect()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC;
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .call(|| format!("open({path:?})"))?;
    let meta = file.metadata().call(|| format!("fstat({path:?})"))?;
    if !meta.is_file() {
        return Err(Error::failed(FILE, "not a regular file of at most 4 MiB"));
    }
    if meta.len() > MAX_BYTES {
        let problem = format!("larger than 4 MiB: {} bytes", meta.len());
        return Err(Error::failed(FILE, problem));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes).call(|| format!("read({path:?})"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &[u8]) -> String {
        let dir = std::env::temp_dir().join(format!("drydock-bundle-{}-{}", std::process::id(), text.len()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(FILE), text).unwrap();
        let result = Bundle::read(&dir);
        std::fs::remove_dir_all(&dir).unwrap();
        let error = result.unwrap_err();
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    }

    #[test]
    fn bad_configs_say_what_is_wrong() {
        for (text, says) in [
            (&b""[..], "empty"),
            (b"null", "object"),
            (b"[1]", "object"),
            (b"{\"ociVersion\":\"1.0.0\"} x", "data after the end"),
            (b"\xef\xbb\xbf{}", "byte-order"),
            (b"{}", "/ociVersion: required"),
            (b"{\"ociVersion\":\"1.0.0\"}", "/root: required"),
            (b"{\"a\":\"\xff\"}", "not UTF-8"),
        ] {
            let told = problem(text);
            assert!(told.contains(says), "{told}");
        }
        assert_eq!(Bundle::read(Path::new("/no/such/bundle")).unwrap_err().exit_code(), 2);
    }
}
