//! What is asked of a container's mount namespace.

use crate::overlay::Overlay;
use crate::pivot::Pivot;
use crate::propagation::Propagation;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Everything about the mounts of one container. Paths called "destination" are inside the root file system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Request {
    /// The root file system.
    pub root: Root,
    /// Mounts, in this order.
    pub mounts: Vec<Mount>,
    /// Device nodes, made after the mounts.
    pub devices: Vec<Device>,
    /// Symbolic links, made after the devices where nothing is there yet.
    pub symlinks: Vec<Symlink>,
    /// Files of the host that replace files inside (`/etc/hosts`, `/etc/resolv.conf`, …).
    pub files: Vec<InjectedFile>,
    /// The host's directory in which all of `files` lie: in the container's mount namespace a small tmpfs with copies of
    /// them takes its place, so that whoever writes to them inside fills nothing of the host's.
    pub file_store: Option<PathBuf>,
    /// Paths that read as empty. Missing ones are left out.
    pub masked_paths: Vec<String>,
    /// Paths that cannot be written, with all below. Missing ones are left out.
    pub readonly_paths: Vec<String>,
    /// A directory that is made, if it is missing, while the root can still be written: the command's, in a root that is
    /// read-only at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// How the root becomes `/`.
    pub pivot: Pivot,
    /// The caller is in a user namespace of its own: device nodes are bound from the host instead of made, and what
    /// the kernel refuses there (sysfs without an own network namespace, …) is bound from the host too.
    pub user_namespace: bool,
    /// The mount namespace is not the container's own (joined, or the caller's): nothing about it is changed but the
    /// mounts below the root, which stay when the container ends. Wants [`Pivot::Chroot`].
    pub shared_namespace: bool,
    /// The container has no cgroup namespace of its own: of each v1 hierarchy it sees its own cgroup by a bind mount.
    pub host_cgroup_namespace: bool,
    /// The maps of the container's user namespace, which `idmap` and `ridmap` mounts without maps of their own take.
    pub uid_mappings: Vec<IdMapping>,
    /// The same for groups.
    pub gid_mappings: Vec<IdMapping>,
    /// SELinux label of the files of file systems that have none of their own; used where SELinux is enabled.
    pub label: Option<String>,
    /// Option words that nobody here knows go to the file system as they are, as the OCI runtime specification has it.
    /// Otherwise they are refused.
    pub pass_unknown: bool,
}

/// A range of ids of a user namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IdMapping {
    /// The first id inside: for an id-mapped mount, as the files' owners are on disk.
    pub container_id: u32,
    /// The first id outside: for an id-mapped mount, as they are seen through the mount.
    pub host_id: u32,
    /// How many.
    pub size: u32,
}

/// The root file system of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Root {
    /// Absolute path of a directory: the root itself, or with `overlay` the mount point of the overlay.
    pub path: PathBuf,
    /// Layers to be mounted on `path` first.
    pub overlay: Option<Overlay>,
    /// Make `/` read-only at the end.
    pub readonly: bool,
    /// Propagation of the whole tree of the new mount namespace before anything else is done, so that nothing that
    /// follows reaches the host. `shared` and `unbindable` are set on the new `/` at the end.
    pub propagation: Propagation,
    /// `shared` and `unbindable` at the end are for all mounts below `/` as well: `rshared`, `runbindable`.
    pub propagation_recursive: bool,
}

impl Root {
    /// A directory as root, writable, private.
    pub fn directory(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), ..Self::default() }
    }
}

/// One mount, as in fstab(5) or the OCI runtime specification.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mount {
    /// Where, inside the root.
    pub destination: String,
    /// File system type. `cgroup` stands for whatever this machine has. `None` or `bind` for a bind mount.
    pub fstype: Option<String>,
    /// What: an absolute path of the host for a bind mount, else a name.
    pub source: Option<String>,
    /// Words such as `ro`, `nosuid`, `rbind`, `rslave`, `size=64m`.
    pub options: Vec<String>,
    /// An id-mapped mount with these maps; empty with `idmap` or `ridmap` among the options: with the container's.
    pub uid_mappings: Vec<IdMapping>,
    /// The same for groups.
    pub gid_mappings: Vec<IdMapping>,
}

impl Mount {
    /// A mount of a file system type whose source is its own name.
    pub fn of(fstype: &str, destination: &str, options: &[&str]) -> Self {
        Self {
            destination: destination.to_string(),
            fstype: Some(fstype.to_string()),
            source: Some(fstype.to_string()),
            options: options.iter().map(ToString::to_string).collect(),
            ..Self::default()
        }
    }

    /// A bind mount of a host path, recursive, private; `options` come last and may change that.
    pub fn bind(source: &str, destination: &str, options: &[&str]) -> Self {
        let words = ["rbind", "rprivate"].iter().chain(options);
        Self {
            destination: destination.to_string(),
            fstype: None,
            source: Some(source.to_string()),
            options: words.map(ToString::to_string).collect(),
            ..Self::default()
        }
    }

    /// A tmpfs, world-writable and sticky as /tmp, with `options` added. One without `size=` gets 256m and one
    /// without `nr_inodes=` 65536, because an unbounded tmpfs can take half of the host's memory.
    pub fn tmpfs(destination: &str, options: &[&str]) -> Self {
        let mut mount = Self::of("tmpfs", destination, &["nosuid", "nodev"]);
        let missing = |name: &str| !options.iter().any(|o| o.starts_with(name));
        let bounds = [("mode=", "mode=1777"), ("size=", "size=256m"), ("nr_inodes=", "nr_inodes=65536")];
        let defaults = bounds.iter().filter(|(name, _)| missing(name)).map(|(_, word)| *word);
        mount.options.extend(defaults.chain(options.iter().copied()).map(str::to_string));
        mount
    }
}

/// Kinds of special files. Source: mknod(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// Character device.
    #[default]
    #[serde(alias = "c", alias = "u")]
    Char,
    /// Block device.
    #[serde(alias = "b")]
    Block,
    /// Named pipe; its numbers are ignored.
    #[serde(alias = "p")]
    Fifo,
}

/// One device node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Device {
    /// Where, inside the root.
    pub path: String,
    /// Its kind.
    pub kind: DeviceKind,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits (octal in the kernel's notation, a plain number here).
    pub mode: u32,
    /// Owner, in the caller's user namespace.
    pub uid: u32,
    /// Group, in the caller's user namespace.
    pub gid: u32,
}

/// A symbolic link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Symlink {
    /// Where, inside the root.
    pub path: String,
    /// What it points to.
    pub target: String,
}

/// A regular file of the host, bound over a path inside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InjectedFile {
    /// Where, inside the root; made if missing. Symbolic links are followed within the root only.
    pub destination: String,
    /// Absolute path of a regular file on the host.
    pub source: PathBuf,
}
