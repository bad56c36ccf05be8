//! What a plan is made of.

use crate::cgroup::Hierarchy;
use crate::inside::Links;
use crate::options::Options;
use crate::overlay::{Overlay, Scratch};
use crate::pivot::Pivot;
use crate::propagation::Propagation;
use crate::request::{Device, IdMapping, InjectedFile, Symlink};
use std::ffi::OsString;
use std::path::PathBuf;

/// How an id-mapped mount shows the owners of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdMap {
    /// Also of the mounts below it.
    pub recursive: bool,
    /// The maps are the mount's own, not the container's.
    pub own: bool,
    /// User ids.
    pub uid: Vec<IdMapping>,
    /// Group ids.
    pub gid: Vec<IdMapping>,
}

/// One thing to do, with everything that it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Cut (or keep one-way) propagation between the new mount namespace and the host's.
    Tree {
        /// `Shared`: only the root's parent mount is made private.
        propagation: Propagation,
        /// The root's path.
        root: PathBuf,
    },
    /// Make the root a mount of its own.
    BindRoot {
        /// The root's path.
        path: PathBuf,
    },
    /// A tmpfs for the writable layer, with the directories that it needs.
    Scratch {
        /// The tmpfs.
        scratch: Scratch,
        /// Directories to be made in it.
        dirs: Vec<PathBuf>,
    },
    /// Mount the layers.
    OverlayRoot {
        /// The mount point.
        path: PathBuf,
        /// The layers.
        overlay: Overlay,
    },
    /// Mount a file system.
    Filesystem {
        /// Where.
        destination: String,
        /// Type.
        fstype: String,
        /// Source name.
        source: String,
        /// Flags and data.
        options: Options,
        /// Symbolic links on the way.
        links: Links,
        /// Host path to bind instead when a user namespace may not mount this.
        instead: Option<PathBuf>,
    },
    /// Bind a host path.
    Bind {
        /// Where.
        destination: String,
        /// Host path.
        source: PathBuf,
        /// With all mounts below.
        recursive: bool,
        /// Flags and propagation.
        options: Options,
        /// Symbolic links on the way.
        links: Links,
        /// Owners of files are shown otherwise.
        id_map: Option<IdMap>,
    },
    /// Bind the container's own cgroup of a v1 hierarchy: it has no cgroup namespace that would show it so.
    OwnCgroup {
        /// Where.
        destination: String,
        /// The hierarchy.
        hierarchy: Hierarchy,
        /// Flags and propagation.
        options: Options,
    },
    /// Make a mount read-only once everything in it is made.
    Seal {
        /// Where.
        destination: String,
        /// Symbolic links on the way.
        links: Links,
    },
    /// Change the flags of what is mounted there.
    Remount {
        /// Where.
        destination: String,
        /// Flags and data.
        options: Options,
    },
    /// Make a device node, or bind the host's.
    Device {
        /// The node.
        device: Device,
        /// Bind the host's (user namespaces may not make nodes).
        bind: bool,
    },
    /// Make a symbolic link where nothing is.
    Symlink(Symlink),
    /// Mount a small tmpfs over a directory of the host's, with copies of these files of it.
    FileStore {
        /// The directory.
        dir: PathBuf,
        /// Names in it.
        names: Vec<OsString>,
    },
    /// Bind a file of ours over one inside.
    File(InjectedFile),
    /// Make a directory, if it is missing.
    Directory(String),
    /// Make a path and all below read-only.
    ReadonlyPath(String),
    /// Make a path read as empty.
    Mask(String),
    /// Make the root `/`.
    Pivot {
        /// How.
        pivot: Pivot,
        /// Peers of the host are left in the old tree.
        shared: bool,
    },
    /// Propagation of the new `/`; true: and of all below.
    RootPropagation(Propagation, bool),
    /// Make `/` read-only.
    RootReadonly,
}

impl Action {
    /// Whether it comes after what a container's `createContainer` hooks are to see.
    pub(crate) fn is_last_part(&self) -> bool {
        matches!(
            self,
            Self::ReadonlyPath(_)
                | Self::Mask(_)
                | Self::Pivot { .. }
                | Self::RootPropagation(..)
                | Self::RootReadonly
        )
    }
}
