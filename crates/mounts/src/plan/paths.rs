//! Paths of a request.

use drydock_core::text::{escape, shorten};
use drydock_core::{Error, Result};
use std::path::{Component, Path};

pub(super) fn quoted(text: &str) -> String {
    shorten(&escape(text), 200)
}

pub(super) fn check_root(root: &Path) -> Result<()> {
    let shown = quoted(&root.to_string_lossy());
    check_host_path(root, "root file system")?;
    let ends_at_slash = root.components().all(|c| matches!(c, Component::RootDir | Component::CurDir));
    if ends_at_slash || root.components().any(|c| c == Component::ParentDir) {
        return Err(Error::bad_input(
            format!("'{shown}'"),
            "cannot be a container's root file system (allowed: a directory other than the host's '/', without '..')",
        ));
    }
    Ok(())
}

pub(super) fn check_host_path(path: &Path, object: &str) -> Result<()> {
    if path.is_absolute() && !path.as_os_str().as_encoded_bytes().contains(&0) {
        return Ok(());
    }
    let shown = quoted(&path.to_string_lossy());
    Err(Error::bad_input(
        object,
        format!("'{shown}' is not a host path (allowed: an absolute path without NUL)"),
    ))
}

pub(super) fn check_text(text: &str, object: &str) -> Result<()> {
    if !text.is_empty() && text.len() < 4096 && !text.contains('\0') {
        return Ok(());
    }
    Err(Error::bad_input(
        object,
        format!("'{}' is no path (allowed: 1 to 4095 bytes without NUL)", quoted(text)),
    ))
}

/// An absolute path inside the root without `.`, `..` and double slashes; `..` stops at the root.
pub(super) fn normalise(path: &str, object: &str) -> Result<String> {
    check_text(path, object)?;
    if !path.starts_with('/') {
        let shown = quoted(path);
        return Err(Error::bad_input(
            object,
            format!("'{shown}' is relative (allowed: an absolute path inside the root)"),
        ));
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    if parts.is_empty() {
        return Err(Error::bad_input(
            object,
            format!("'{}' is the root itself (allowed: a path below it)", quoted(path)),
        ));
    }
    Ok(format!("/{}", parts.join("/")))
}

/// Where a destination is inside the root. `root`: given when the OCI runtime specification's customs hold: a relative one
/// is below `/`, and one that starts with the root's own path is taken without it.
pub(super) fn inside(path: &str, root: Option<&Path>, object: &str) -> Result<String> {
    let Some(root) = root else { return normalise(path, object) };
    check_text(path, object)?;
    match Path::new(path).strip_prefix(root) {
        Ok(rest) => normalise(&format!("/{}", rest.to_string_lossy()), object),
        Err(_) => normalise(&format!("/{}", path.trim_start_matches('/')), object),
    }
}

/// Whether a path is `top` or below it, as texts.
pub(super) fn below(path: &str, top: &str) -> bool {
    path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
