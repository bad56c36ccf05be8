//! Archives and layers into a directory. The archive is hostile: nothing outside the directory is touched, whatever names
//! and links it has; how much it may use is limited; a kill in the middle leaves nothing that looks like a root.

pub mod apply;
pub mod limits;
mod pax;
mod place;
mod sparse;
pub mod staging;
pub mod stream;
pub mod tarball;

pub use limits::Limits;
pub(crate) use place::{path, split};
pub use staging::Staging;
pub use stream::{Compression, Stream, Sums};

use apply::Unpacker;
use drydock_core::{Error, Explain, Result, Step};
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::os::fd::OwnedFd;

/// Whose the files become.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ids {
    /// The archive's owners, as numbers. Needs root.
    Keep,
    /// Whoever unpacks: all that a user without privileges can do.
    #[default]
    Mine,
    /// Shifted: (inside, outside, count), as in uid_map. Needs root.
    Map {
        /// Users.
        users: Vec<(u32, u32, u32)>,
        /// Groups.
        groups: Vec<(u32, u32, u32)>,
    },
}

/// What becomes of device nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Devices {
    /// Made, where that is allowed; 0:0, an overlay's whiteout, never.
    Create,
    /// Left out, and counted.
    #[default]
    Skip,
    /// An error.
    Refuse,
}

/// How to unpack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Owners.
    pub ids: Ids,
    /// Device nodes.
    pub devices: Devices,
    /// No set-user-ID, set-group-ID and file capabilities.
    pub no_setuid: bool,
    /// How much.
    pub limits: Limits,
}

impl Options {
    /// What this user can do: owners and devices as root, else everything becomes the user's.
    pub fn usual() -> Self {
        if nix::unistd::geteuid().is_root() {
            Self { ids: Ids::Keep, devices: Devices::Create, ..Self::default() }
        } else {
            Self::default()
        }
    }
}

/// What was unpacked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Entries of all archives.
    pub entries: u64,
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links.
    pub links: u64,
    /// Further names.
    pub hard_links: u64,
    /// Devices and FIFOs.
    pub nodes: u64,
    /// Files of lower layers that were removed.
    pub whiteouts: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Device nodes that were left out.
    pub skipped_devices: u64,
    /// Extended attributes that were left out: overlays', labels, and what this file system or user cannot have.
    pub skipped_xattrs: u64,
}

/// One archive to unpack.
pub struct Archive<'a> {
    /// How errors name it: `layer 2`.
    pub name: &'a str,
    /// It removes files of what is there (`.wh.NAME`).
    pub whiteouts: bool,
    /// SHA-256 that the file must have, and its size.
    pub blob: Option<(&'a str, u64)>,
    /// SHA-256 that the tar archive in it must have.
    pub diff: Option<&'a str>,
}

/// Unpacking an archive, as people read it.
pub struct Unpacking<'a> {
    /// Which.
    pub archive: &'a Archive<'a>,
    /// Bytes of its file, if they are known.
    pub size: Option<u64>,
}

impl Explain for Unpacking<'_> {
    fn explain(&self) -> Step {
        let digest = self.archive.blob.map(|b| b.0).or(self.archive.diff);
        let which = digest.map_or(String::new(), |hex| format!(" sha256:{hex}"));
        let size = self.size.map_or(String::new(), |n| format!(", {n} bytes"));
        Step {
            stage: "unpack".into(),
            call: format!(
                "openat2(root, NAME, RESOLVE_IN_ROOT) for each entry of {}{which}{size}",
                self.archive.name
            ),
            why: "every entry is made below one directory, whatever its name and the links on its way say"
                .into(),
            man: "openat2(2)".into(),
            undo: Some("rm -r the directory".into()),
        }
    }
}

/// Unpacks archives one over the other.
pub struct Job<'o> {
    unpacker: Unpacker<'o>,
    limits: Limits,
}

impl<'o> Job<'o> {
    /// Into this open directory.
    pub fn new(root: OwnedFd, options: &'o Options) -> Self {
        Self { unpacker: Unpacker::new(root, options), limits: options.limits }
    }

    /// Unpacks one archive. `go_on` hears how many bytes of it are done, and says whether to go on.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] for an archive that is damaged, not the one that was announced, or asks for what
    /// it may not have; system calls'.
    pub fn add(
        &mut self,
        file: impl Read + Send + 'static,
        archive: &Archive<'_>,
        go_on: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Sums> {
        self.unpack(file, archive, go_on).map_err(|e| within(archive.name, &e))
    }

    fn unpack(
        &mut self,
        file: impl Read + Send + 'static,
        archive: &Archive<'_>,
        go_on: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Sums> {
        let stream = Stream::new(file, self.limits.ratio)?;
        let mut tarball = tarball::Tarball::new(stream);
        self.unpacker.archive(&mut tarball, archive.whiteouts, go_on)?;
        let mut stream = tarball.into_inner();
        // The digests come after the last byte.
        std::io::copy(&mut stream, &mut std::io::sink()).map_err(stream::unwrap)?;
        let Some(sums) = stream.sums().cloned() else {
            return Err(Error::failed("archive", "has no end"));
        };
        let expected = |what: &str, wanted: &str, got: &str| {
            Error::bad_input(what, format!("sha256 expected {wanted}, got {got}"))
        };
        if let Some((wanted, size)) = archive.blob {
            if size != sums.size {
                return Err(Error::bad_input("blob", format!("size expected {size}, got {}", sums.size)));
            }
            if wanted != sums.blob {
                return Err(expected("blob", wanted, &sums.blob));
            }
        }
        match archive.diff {
            Some(wanted) if wanted != sums.diff => Err(expected("diff id", wanted, &sums.diff)),
            _ => Ok(sums),
        }
    }

    /// What has been unpacked.
    pub fn report(&self) -> &Report {
        &self.unpacker.report
    }
}

/// The same error, within something larger.
pub(crate) fn within(object: &str, error: &Error) -> Error {
    let outer = Error::failed(object, error.sentence()).with_kind(error.kind());
    match error.remedy() {
        Some(hint) => outer.hint(hint),
        None => outer,
    }
}
