//! A `process` object in a file of its own, as engines give one to `exec`.

use super::{Bundle, json, read, rules, schema, shape, typed};
use drydock_core::{Error, Result, text};
use oci_spec::runtime::Spec;
use serde_json::json;
use std::path::{Path, PathBuf};

impl Bundle {
    /// Reads a process: a configuration that means nothing else, and no directory. Its JSON pointers begin with `/process`.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`], as [`Bundle::read`].
    pub fn of_process(path: &Path) -> Result<Self> {
        let shown = text::shorten(&text::escape(&path.to_string_lossy()), 120);
        let bytes =
            read(path).map_err(|e| Error::bad_input("--process", format!("'{shown}': {}", e.sentence())))?;
        let process = json::read("process", &bytes)?;
        let json = json!({ "ociVersion": "1.3.0", "root": { "path": "." }, "process": process });
        shape::check("", &json, &schema::CONFIG)?;
        rules::check(&json)?;
        let spec: Spec = serde_json::from_value(typed(&json))
            .map_err(|e| Error::bad_input("--process", text::shorten(&e.to_string(), 300)))?;
        Ok(Self { dir: PathBuf::new(), spec, json, warnings: Vec::new() })
    }
}
