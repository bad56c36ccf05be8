//! Where Drydock keeps things.

use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// State that dies with the boot: one directory a container, mode 0700, under `/run/drydock` (root) or
/// `$XDG_RUNTIME_DIR/drydock`. `DRYDOCK_ROOT`, then `--root` (given here as `asked`) override.
///
/// # Errors
/// [`crate::Kind::BadInput`] if the override is relative; [`crate::Kind::Failed`] if there is no place.
pub fn state_root(asked: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = asked {
        return absolute("--root", path);
    }
    if let Some(path) = std::env::var_os("DRYDOCK_ROOT") {
        return absolute("DRYDOCK_ROOT", Path::new(&path));
    }
    if nix::unistd::geteuid().is_root() {
        return Ok(PathBuf::from("/run/drydock"));
    }
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(dir) => Ok(Path::new(&dir).join("drydock")),
        None => Err(Error::failed("state directory", "XDG_RUNTIME_DIR is not set")
            .hint("run as root, log in through a session manager, or give --root DIR")),
    }
}

/// Data that survives a boot (root file systems, layers): `/var/lib/drydock` (root), or `$XDG_DATA_HOME/drydock`, else
/// `~/.local/share/drydock`. `DRYDOCK_DATA` overrides.
///
/// # Errors
/// As [`state_root`].
pub fn data_root() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("DRYDOCK_DATA") {
        return absolute("DRYDOCK_DATA", Path::new(&path));
    }
    if nix::unistd::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/drydock"));
    }
    if let Some(dir) = std::env::var_os("XDG_DATA_HOME") {
        return Ok(Path::new(&dir).join("drydock"));
    }
    match std::env::var_os("HOME") {
        Some(home) => Ok(Path::new(&home).join(".local/share/drydock")),
        None => Err(Error::failed("data directory", "neither XDG_DATA_HOME nor HOME is set")
            .hint("set DRYDOCK_DATA to a directory of yours")),
    }
}

fn absolute(what: &str, path: &Path) -> Result<PathBuf> {
    if path.is_absolute() {
        return Ok(path.to_path_buf());
    }
    let shown = crate::text::escape(&path.to_string_lossy());
    Err(Error::bad_input(what, format!("'{shown}' is relative (allowed: an absolute path)")))
}
