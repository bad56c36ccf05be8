//! Mount propagation: whether mounts made here are seen there. Source: mount_namespaces(7), sharedsubtree.rst.

use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use nix::mount::MsFlags;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The four propagation types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    /// Nothing comes in, nothing goes out.
    #[default]
    #[serde(alias = "rprivate")]
    Private,
    /// Mounts of the master come in, nothing goes out.
    #[serde(alias = "rslave")]
    Slave,
    /// Mounts go both ways within the peer group.
    #[serde(alias = "rshared")]
    Shared,
    /// Private, and cannot be bound elsewhere.
    #[serde(alias = "runbindable")]
    Unbindable,
}

impl Propagation {
    /// The words that [`Propagation::parse`] knows.
    pub const WORDS: [&'static str; 8] =
        ["private", "slave", "shared", "unbindable", "rprivate", "rslave", "rshared", "runbindable"];

    /// Reads `private`, `rprivate`, …; the `r` means: with all mounts below. `None` for another word.
    pub fn parse(word: &str) -> Option<(Self, bool)> {
        let base = |word: &str| match word {
            "private" => Some(Self::Private),
            "slave" => Some(Self::Slave),
            "shared" => Some(Self::Shared),
            "unbindable" => Some(Self::Unbindable),
            _ => None,
        };
        base(word).map(|p| (p, false)).or_else(|| base(word.strip_prefix('r')?).map(|p| (p, true)))
    }

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Slave => "slave",
            Self::Shared => "shared",
            Self::Unbindable => "unbindable",
        }
    }

    /// The flag of mount(2).
    pub fn flag(self) -> MsFlags {
        match self {
            Self::Private => MsFlags::MS_PRIVATE,
            Self::Slave => MsFlags::MS_SLAVE,
            Self::Shared => MsFlags::MS_SHARED,
            Self::Unbindable => MsFlags::MS_UNBINDABLE,
        }
    }

    /// The call that sets it, as strace shows it.
    pub fn call(self, path: &str, recursive: bool) -> String {
        let rec = if recursive { "MS_REC|" } else { "" };
        format!("mount(NULL, {path:?}, NULL, {rec}MS_{}, NULL)", self.word().to_uppercase())
    }

    /// What it means, in one line.
    pub fn why(self) -> &'static str {
        match self {
            Self::Private => "mounts made here and elsewhere stay where they are made",
            Self::Slave => "mounts of the master appear here, mounts made here stay here",
            Self::Shared => "mounts go both ways within the peer group",
            Self::Unbindable => "private, and cannot be the source of a bind mount",
        }
    }
}

/// Sets the propagation of the mount at `path`, or of it and all below. Needs CAP_SYS_ADMIN in the user namespace that
/// owns the mount namespace.
///
/// # Errors
/// EINVAL when `path` is not a mount point, EPERM without the privilege.
pub fn set(path: &Path, propagation: Propagation, recursive: bool) -> Result<()> {
    let rec = if recursive { MsFlags::MS_REC } else { MsFlags::empty() };
    let none: Option<&str> = None;
    nix::mount::mount(none, path, none, propagation.flag() | rec, none)
        .call(|| propagation.call(&path.to_string_lossy(), recursive))
        .map_err(|e| explain(e, path))
}

fn explain(error: Error, path: &Path) -> Error {
    match error.errno() {
        Some(nix::libc::EINVAL) => error.on(path.display().to_string()).hint(
            "only a mount point has a propagation type: make the directory one with 'rootfs mount --bind DIR DIR'",
        ),
        Some(nix::libc::EPERM) => error.hint("needs CAP_SYS_ADMIN: run as root"),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for word in Propagation::WORDS {
            let (p, rec) = Propagation::parse(word).unwrap();
            assert_eq!(word, format!("{}{}", if rec { "r" } else { "" }, p.word()));
        }
        for bad in ["", "r", "rr", "Private", "rrslave", "privat"] {
            assert_eq!(Propagation::parse(bad), None, "{bad}");
        }
    }
}
