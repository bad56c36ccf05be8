//! A `process` object in a file of its own, as engines give one to `exec`.

use super::{Bundle, MAX_BYTES, by_type, json, read, rules, schema, shape};
use drydock_core::error::CallExt;
use drydock_core::{Error, Result, text};
use serde_json::json;
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

impl Bundle {
    /// Reads a process: a configuration that means nothing else, and no directory. Its JSON pointers begin with `/process`.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`], as [`Bundle::read`].
    pub fn of_process(path: &Path) -> Result<Self> {
        let shown = text::shorten(&text::escape(&path.to_string_lossy()), 120);
        // A shell's `<(…)` is a pipe.
        let pipe = std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_fifo());
        let bytes = if pipe { read_pipe(path) } else { read(path) };
        let bytes = bytes.map_err(|e| {
            let sentence = e.sentence();
            let problem = sentence.trim_start_matches(super::FILE).trim_start_matches(": ");
            Error::bad_input("--process", format!("'{shown}': {problem}"))
        })?;
        let process = json::read("--process", &bytes)?;
        let mut json = json!({ "ociVersion": "1.3.0", "root": { "path": "." }, "process": process });
        shape::fold_case(&mut json, &schema::CONFIG);
        shape::check("", &json, &schema::CONFIG)?;
        rules::check(&json)?;
        let (spec, linux) = by_type("--process", &json)?;
        Ok(Self { dir: PathBuf::new(), spec, linux, json, warnings: Vec::new() })
    }
}

/// Everything up to the end of the last writer.
fn read_pipe(path: &Path) -> Result<Vec<u8>> {
    let file = std::fs::File::open(path).call(|| format!("open({path:?})"))?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).call(|| format!("read({path:?})"))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::failed("process", "longer than 4 MiB"));
    }
    Ok(bytes)
}
