//! What a command is about: written down, and locked for as long as its process lives. Whoever finds the note without a
//! lock knows that its writer was killed, and what to do to have nothing half-made: `netsetup gc`.

use drydock_core::error::CallExt;
use drydock_core::{Ctx, Error, Result};
use drydock_network::{Publish, Subnet, bridge, detach, names, nat, netns, publish};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// How the names of notes begin.
pub const PREFIX: &str = "pending-";
/// A note that is being written; its writer has done nothing yet.
const UNFINISHED: &str = ".pending-";
const MAX_BYTES: u64 = 1 << 20;

/// How to take away what one command has made of what an owner has.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Undo {
    /// All that the owner has.
    Everything,
    /// Nothing: what is half made is made whole by the same command.
    Nothing,
    /// A namespace.
    Namespace {
        /// `/run/netns/NAME`.
        path: PathBuf,
    },
    /// An interface on a bridge, or a link.
    Detach {
        /// The host's end.
        link: String,
    },
    /// A bridge that the owner holds.
    Bridge {
        /// Its name.
        name: String,
    },
    /// NAT or forwarding of a subnet.
    Nat {
        /// The subnet.
        subnet: Subnet,
    },
    /// The files of a namespace.
    Names {
        /// Its name.
        namespace: String,
    },
    /// Published ports.
    Publish {
        /// The container's address.
        container: IpAddr,
        /// The ports; none for all.
        ports: Vec<Publish>,
    },
}

impl Undo {
    /// Does it, except for [`Undo::Everything`], which is the owner's to do.
    pub fn run(&self, owner: &str, lease_dir: &Path, ctx: &Ctx<'_>) -> Result<()> {
        match self {
            Undo::Everything | Undo::Nothing => Ok(()),
            Undo::Namespace { path } => netns::delete(path, ctx).map(drop),
            Undo::Detach { link } => detach::detach(owner, link, &[], lease_dir, ctx).map(drop),
            Undo::Bridge { name } => bridge::release(name, Some(owner), lease_dir, ctx).map(drop),
            Undo::Nat { subnet } => nat::off(owner, *subnet, lease_dir, ctx).map(drop),
            Undo::Names { namespace } => names::forget(namespace, ctx).map(drop),
            Undo::Publish { container, ports } if ports.is_empty() => {
                detach::unpublish(owner, *container, lease_dir, ctx).map(drop)
            }
            Undo::Publish { container, ports } => publish::withdraw(owner, *container, ports, lease_dir, ctx),
        }
    }
}

/// A note.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Note {
    /// How many objects the owner's journal had before: without any, everything goes. None: the command takes away, and
    /// whoever finds the note does the rest.
    pub before: Option<usize>,
    /// What to take away.
    pub undo: Undo,
}

/// A note of this process; removed when the command has ended, well or not.
#[derive(Debug)]
pub struct Pending {
    path: PathBuf,
    _lock: File,
}

impl Pending {
    /// Writes a note into the owner's directory, and locks it before anybody can see it.
    pub fn write(dir: &Path, note: &Note) -> Result<Self> {
        let pid = std::process::id();
        let (new, path) = (dir.join(format!("{UNFINISHED}{pid}")), dir.join(format!("{PREFIX}{pid}")));
        let bytes =
            serde_json::to_vec(note).map_err(|e| Error::failed(path.display().to_string(), e.to_string()))?;
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(&new)
            .call(|| format!("open({new:?}, O_WRONLY|O_CREAT|O_TRUNC)"))?;
        file.lock().call(|| format!("flock({new:?}, LOCK_EX)"))?;
        file.write_all(&bytes).call(|| format!("write({new:?})"))?;
        std::fs::rename(&new, &path).call(|| format!("rename({new:?}, {path:?})"))?;
        Ok(Self { path, _lock: file })
    }

    /// Whether a file of the owner's directory is this note.
    pub fn is(&self, path: &Path) -> bool {
        self.path == path
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A note whose writer is dead.
#[derive(Debug)]
pub struct Orphan {
    /// Its file.
    pub path: PathBuf,
    /// What it says; none if it was never finished.
    pub note: Option<Note>,
    _lock: File,
}

/// The notes in an owner's directory whose writers are dead. They are locked until dropped.
pub fn orphans(dir: &Path) -> Vec<Orphan> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with(PREFIX) && !name.starts_with(UNFINISHED) {
            continue;
        }
        let path = entry.path();
        let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
        let Ok(file) = OpenOptions::new().read(true).custom_flags(flags).open(&path) else { continue };
        if file.try_lock().is_err() {
            continue;
        }
        let mut bytes = Vec::new();
        let read = (&file).take(MAX_BYTES).read_to_end(&mut bytes).is_ok();
        let note = serde_json::from_slice(&bytes).ok().filter(|_| read && name.starts_with(PREFIX));
        found.push(Orphan { path, note, _lock: file });
    }
    found
}
