//! An OCI bundle's `config.json`: read with bounds, parsed by the runtime specification's types.
//!
//! Source: OCI runtime specification, config.md and bundle.md.

use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use oci_spec::runtime::Spec;
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
    /// The configuration as it stands in the file.
    pub json: serde_json::Value,
}

impl Bundle {
    /// Reads a bundle.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`]: no bundle, no config.json, not JSON, larger than 4 MiB, not of version 1.
    pub fn read(dir: &Path) -> Result<Self> {
        let shown = drydock_core::text::escape(&dir.to_string_lossy());
        let bad = |why: String| Error::bad_input("--bundle", format!("'{shown}': {why}"));
        let plain = |e: &std::io::Error| {
            e.raw_os_error().map_or_else(|| e.to_string(), drydock_core::error::errno_text)
        };
        let dir = std::fs::canonicalize(dir).map_err(|e| bad(plain(&e)))?;
        let bytes = read(&dir.join(FILE)).map_err(|e| bad(e.sentence()))?;
        let problem = |why: String| Error::bad_input(FILE, why);
        let text = std::str::from_utf8(&bytes)
            .map_err(|e| problem(format!("not UTF-8 at byte {}", e.valid_up_to())))?;
        if text.starts_with('\u{feff}') {
            return Err(problem("starts with a byte-order mark (allowed: UTF-8 without one)".into()));
        }
        let json: serde_json::Value = serde_json::from_str(text).map_err(|e| problem(e.to_string()))?;
        if !json.is_object() {
            return Err(problem("the top level must be an object".into()));
        }
        check_version(&json)?;
        let spec: Spec = serde_json::from_value(json.clone()).map_err(|e| problem(e.to_string()))?;
        Ok(Self { dir, spec, json })
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC;
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .call(|| format!("open({path:?})"))?;
    let meta = file.metadata().call(|| format!("fstat({path:?})"))?;
    if !meta.is_file() || meta.len() > MAX_BYTES {
        return Err(Error::failed(FILE, "not a regular file of at most 4 MiB"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes).call(|| format!("read({path:?})"))?;
    Ok(bytes)
}

/// `ociVersion` must be a semantic version of major version 1.
fn check_version(json: &serde_json::Value) -> Result<()> {
    let bad = |why: String| Err(Error::bad_input(format!("{FILE}: /ociVersion"), why));
    match json.get("ociVersion").map(|v| v.as_str()) {
        None => bad("required".into()),
        Some(None) => bad("not a string".into()),
        Some(Some(version)) => {
            let core = version.split(['-', '+']).next().unwrap_or_default();
            let numbers: Vec<Option<u32>> = core.split('.').map(|part| part.parse().ok()).collect();
            let shown = drydock_core::text::shorten(&drydock_core::text::escape(version), 40);
            match numbers.as_slice() {
                [Some(1), Some(_), Some(_)] => Ok(()),
                [Some(_), Some(_), Some(_)] => bad(format!("'{shown}' is not supported (allowed: 1.x.y)")),
                _ => bad(format!("'{shown}' is not a semantic version (allowed: such as 1.2.0)")),
            }
        }
    }
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
            (&b""[..], "EOF"),
            (b"null", "object"),
            (b"[1]", "object"),
            (b"{\"ociVersion\":\"1.0.0\"} x", "trailing"),
            (b"\xef\xbb\xbf{}", "byte-order"),
            (b"{}", "/ociVersion: required"),
            (b"{\"ociVersion\":\"99.0.0\"}", "not supported"),
            (b"{\"ociVersion\":\"abc\"}", "semantic version"),
            (b"{\"a\":\"\xff\"}", "not UTF-8"),
        ] {
            let told = problem(text);
            assert!(told.contains(says), "{told}");
        }
        assert_eq!(Bundle::read(Path::new("/no/such/bundle")).unwrap_err().exit_code(), 2);
    }
}
