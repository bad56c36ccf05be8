//! The journal: each object that could leak is written down before it is made.
//!
//! One JSON object a line in `journal` in the container's state directory. The state directory is on a tmpfs, so a
//! line that was written survives the death of its writer; nothing is synced. Removing is idempotent: whoever cleans
//! up walks the journal backwards and removes what is there.

use crate::error::CallExt;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The file's name within the state directory.
pub const FILE: &str = "journal";

/// Larger journals are not ours.
const MAX_BYTES: u64 = 4 << 20;

/// Something in the kernel or on disk that outlives its maker unless somebody removes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "object", rename_all = "kebab-case")]
pub enum Object {
    /// A process, told apart from a later one with the same pid by its start time (field 22 of /proc/PID/stat, ticks).
    Process {
        /// Host pid.
        pid: i32,
        /// Clock ticks since boot.
        start_time: u64,
    },
    /// One cgroup: its absolute directories, one for each hierarchy (one in all on pure v2).
    Cgroup {
        /// Absolute directories.
        dirs: Vec<PathBuf>,
    },
    /// A group of the resctrl file system (cache and memory bandwidth), removed by rmdir(2).
    ResctrlGroup {
        /// Absolute directory.
        path: PathBuf,
    },
    /// A transient scope of systemd's: its own cgroup, by the name of the unit.
    SystemdUnit {
        /// `PREFIX-NAME.scope`.
        name: String,
        /// Of the user's systemd, not the system's.
        user: bool,
    },
    /// A directory tree of ours, removed recursively without following links or crossing mounts.
    Directory {
        /// Absolute path.
        path: PathBuf,
    },
    /// One file of ours.
    File {
        /// Absolute path.
        path: PathBuf,
    },
    /// A mount in the host's mount namespace.
    Mount {
        /// Mount point.
        target: PathBuf,
        /// How many mounts were there before, which stay.
        #[serde(default, skip_serializing_if = "is_zero")]
        below: usize,
    },
    /// A persistent network namespace: a bind mount of nsfs on a file (ip-netns(8)).
    NetworkNamespace {
        /// `/run/netns/NAME`.
        path: PathBuf,
    },
    /// Files of a named network namespace below /etc/netns (ip-netns(8)), those of ours only.
    NamespaceFiles {
        /// The namespace's name.
        namespace: String,
    },
    /// An attachment by other CNI plugins: their DEL takes it away.
    CniNetwork {
        /// The network's name.
        network: String,
        /// CNI_CONTAINERID.
        container: String,
        /// CNI_IFNAME.
        interface: String,
    },
    /// A link in the host's network namespace; its ifalias carries the owner.
    Link {
        /// Interface name, at most 15 bytes.
        name: String,
    },
    /// A shared bridge of ours: removed when its last port and lease are gone.
    Bridge {
        /// Interface name.
        name: String,
        /// The network that it serves (its leases and rules).
        network: String,
    },
    /// An address lease.
    Lease {
        /// Network name.
        network: String,
        /// Who holds it: the container id.
        owner: String,
    },
    /// Everything in our nft table whose comment names this owner.
    Nft {
        /// Container id or network name.
        owner: String,
    },
    /// A host sysctl that was changed for the first user and is restored after the last.
    Sysctl {
        /// Path under /proc/sys.
        path: PathBuf,
        /// Value before.
        previous: String,
    },
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// An open journal: append only.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
}

impl Journal {
    /// Creates or opens the journal of the state directory `dir`.
    ///
    /// # Errors
    /// When the file cannot be opened for appending.
    pub fn create(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC)
            .open(&path)
            .call(|| format!("open({path:?}, O_WRONLY|O_APPEND|O_CREAT)"))?;
        Ok(Self { file, path })
    }

    /// Writes an object down. One write(2), so a reader sees the whole line or nothing.
    ///
    /// # Errors
    /// When the write fails or is short: then the object must not be made.
    pub fn record(&self, object: &Object) -> Result<()> {
        let mut line = serde_json::to_vec(object)
            .map_err(|e| Error::failed(format!("{}", self.path.display()), e.to_string()))?;
        line.push(b'\n');
        let mut file = &self.file;
        let written = file.write(&line).call(|| format!("write({:?})", self.path))?;
        if written == line.len() {
            return Ok(());
        }
        Err(Error::failed(self.path.display().to_string(), "short write").in_stage("journal"))
    }

    /// The objects in the order in which they were recorded. A last line that was cut off, or a line that is not ours,
    /// is left out: its object was never made. A missing journal is empty.
    ///
    /// # Errors
    /// When the file is there and cannot be read, or is not a regular file of at most 4 MiB.
    pub fn read(dir: &Path) -> Result<Vec<Object>> {
        let path = dir.join(FILE);
        let open = OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC)
            .open(&path);
        let file = match open {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.call(|| format!("open({path:?}, O_RDONLY|O_NOFOLLOW)"))?,
        };
        let meta = file.metadata().call(|| format!("fstat({path:?})"))?;
        if !meta.is_file() || meta.len() > MAX_BYTES {
            return Err(Error::failed(
                path.display().to_string(),
                "not a journal (allowed: a regular file of at most 4 MiB)",
            ));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or_default() + 1);
        file.take(MAX_BYTES).read_to_end(&mut bytes).call(|| format!("read({path:?})"))?;
        Ok(bytes.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_a_cut_line() {
        let dir = std::env::temp_dir().join(format!("drydock-journal-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let journal = Journal::create(&dir).unwrap();
        let link = Object::Link { name: "veth1".into() };
        journal.record(&link).unwrap();
        std::fs::OpenOptions::new()
            .append(true)
            .open(dir.join(FILE))
            .unwrap()
            .write_all(b"{\"object\":\"li")
            .unwrap();
        assert_eq!(Journal::read(&dir).unwrap(), [link]);
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(Journal::read(&dir).unwrap(), []);
    }
}
