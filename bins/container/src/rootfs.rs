//! Which root file system a container gets: a directory as it is, or the default one under an overlay.

use crate::options::Options;
use drydock_core::{ContainerId, Ctx, Error, Result, paths};
use drydock_mounts::{Overlay, Root, Scratch};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Where the root comes from.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A directory of the caller's, used as it is: what the container writes stays there.
    Directory(PathBuf),
    /// A directory shared read-only under an overlay of the container's own.
    Layered {
        /// The shared directory.
        lower: PathBuf,
        /// It is the default root file system, to be built if it is not there.
        default: bool,
        /// Where the tmpfs with the overlay's upper and work directories is mounted, in the container's own mount
        /// namespace.
        layers: PathBuf,
        /// Where the overlay is mounted, within `layers`.
        target: PathBuf,
        /// The most that the container may write, in bytes.
        size: u64,
    },
}

impl Source {
    /// From `--rootfs`, or the default.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] when DIR cannot be a root file system.
    pub fn from_options(options: &Options, id: &ContainerId, place: &Path) -> Result<Self> {
        match &options.rootfs {
            Some(dir) => Ok(Source::Directory(checked(dir)?)),
            None => {
                let data = paths::data_root()?;
                let layers = place.join(id).join("layers");
                Ok(Source::Layered {
                    lower: options.tree.clone().unwrap_or_else(|| drydock_images::default_path(&data)),
                    default: options.tree.is_none(),
                    target: layers.join("root"),
                    layers,
                    size: storage_size(&options.storage_opt)?,
                })
            }
        }
    }

    /// The lower directory, or the directory itself.
    pub fn path(&self) -> &Path {
        match self {
            Source::Directory(path) => path,
            Source::Layered { lower, .. } => lower,
        }
    }

    /// As the mounts stage wants it. `mapped`: where an id-mapped view of the directory will be instead of itself.
    pub fn root(&self, user_namespace: bool, mapped: Option<&Path>) -> Root {
        match self {
            Source::Directory(path) => Root::directory(mapped.unwrap_or(path)),
            Source::Layered { lower, layers, target, size, .. } => Root {
                path: target.clone(),
                overlay: Some(Overlay {
                    lower: vec![mapped.unwrap_or(lower).to_path_buf()],
                    upper: layers.join("upper"),
                    work: layers.join("work"),
                    // A tmpfs has nothing to sync.
                    volatile: false,
                    scratch: Some(Scratch { path: layers.clone(), size: *size }),
                    userxattr: user_namespace,
                }),
                ..Root::default()
            },
        }
    }

    /// The command when none is given: a shell.
    pub fn default_command(&self) -> Vec<String> {
        vec!["/bin/sh".to_string()]
    }

    /// Builds the default root file system if it is not there or older than its sources.
    ///
    /// # Errors
    /// See [`drydock_images::default_rootfs`].
    pub fn ensure(&self, ctx: &Ctx<'_>) -> Result<Option<PathBuf>> {
        match self {
            Source::Layered { default: true, .. } => {
                Ok(Some(drydock_images::default_rootfs(&paths::data_root()?, ctx)?.path))
            }
            _ => Ok(None),
        }
    }

    /// The same with the directory that [`Source::ensure`] found.
    pub fn set_lower(&mut self, found: PathBuf) {
        if let Source::Layered { lower, .. } = self {
            *lower = found;
        }
    }
}

/// `--storage-opt size=SIZE`.
fn storage_size(words: &[String]) -> Result<u64> {
    const DEFAULT: u64 = 1 << 30;
    let mut size = DEFAULT;
    for word in words {
        size = match word.strip_prefix("size=") {
            Some(text) => drydock_core::size::parse("--storage-opt", text)?,
            None => {
                let shown = drydock_core::text::shorten(&drydock_core::text::escape(word), 60);
                return Err(Error::bad_input(
                    "--storage-opt",
                    format!("'{shown}' is no option (allowed: size=SIZE)"),
                ));
            }
        };
    }
    if size < 1 << 16 {
        return Err(Error::bad_input("--storage-opt", "size is less than 64k"));
    }
    Ok(size)
}

/// The name of a file system that shows the kernel instead of files. Source: linux/magic.h.
fn kernels_own(dir: &Path) -> Option<&'static str> {
    const KINDS: [(u64, &str); 9] = [
        (0x9fa0, "procfs"),
        (0x6265_6572, "sysfs"),
        (0x0027_e0eb, "cgroup file system"),
        (0x6367_7270, "cgroup file system"),
        (0x1cd1, "devpts"),
        (0x6462_6720, "debugfs"),
        (0x7472_6163, "tracefs"),
        (0x7363_6673, "securityfs"),
        (0x1980_0202, "mqueue"),
    ];
    let magic = u64::try_from(rustix::fs::statfs(dir).ok()?.f_type).ok()?;
    KINDS.iter().find(|(known, _)| *known == magic).map(|(_, name)| *name)
}

/// A directory that may become a root: there, a directory, not the host's own root.
fn checked(dir: &Path) -> Result<PathBuf> {
    let shown = drydock_core::text::shorten(&drydock_core::text::escape(&dir.to_string_lossy()), 200);
    let bad = |why: &str| Err(Error::bad_input("--rootfs", format!("'{shown}' {why}")));
    if dir.as_os_str().is_empty() {
        return bad("is empty (allowed: a directory)");
    }
    let real = match std::fs::canonicalize(dir) {
        Ok(real) => real,
        Err(e) => {
            let why = e.raw_os_error().map_or_else(|| e.to_string(), drydock_core::error::errno_text);
            return bad(&format!("cannot be used: {why}"));
        }
    };
    let Ok(meta) = std::fs::metadata(&real) else { return bad("cannot be read") };
    if !meta.is_dir() {
        return bad("is not a directory");
    }
    use std::os::unix::fs::MetadataExt;
    let host = std::fs::metadata("/").map(|m| (m.dev(), m.ino())).ok();
    if host == Some((meta.dev(), meta.ino())) {
        return bad("is the host's own root file system (allowed: a directory of its own)");
    }
    if let Some(kind) = kernels_own(&real) {
        return bad(&format!(
            "is the kernel's own {kind}, which has no programs (allowed: a directory of files)"
        ));
    }
    match std::fs::read_dir(&real).map(|mut entries| entries.next().is_none()) {
        Err(_) => bad("cannot be read"),
        Ok(true) => bad(
            "is empty: there is no program in it to run (make one: rootfs new DIR; rootfs copy DIR /bin/sh)",
        ),
        Ok(false) => Ok(real),
    }
}
