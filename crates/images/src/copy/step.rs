//! One change of a root directory, with its words.

use crate::root::Root;
use crate::view::View;
use drydock_core::stage::Step as Shown;
use drydock_core::{Explain, Result};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One thing that is made in a root. Paths are within the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "make", rename_all = "kebab-case")]
pub enum Step {
    /// A directory, if it is not there.
    Dir {
        /// Where.
        path: PathBuf,
        /// Permission bits, if it is made.
        mode: u32,
    },
    /// A symbolic link.
    Link {
        /// Where.
        path: PathBuf,
        /// What it points to, as it stands in the link.
        target: PathBuf,
    },
    /// A file with the contents of a file of the host.
    Copy {
        /// The host's file.
        from: PathBuf,
        /// Where.
        path: PathBuf,
        /// Permission bits.
        mode: u32,
        /// What the SHA-256 of its contents must be.
        sha256: Option<String>,
    },
    /// A file with this text.
    Write {
        /// Where.
        path: PathBuf,
        /// Its contents.
        text: String,
        /// Permission bits.
        mode: u32,
    },
}

impl Step {
    /// The path that it makes.
    pub fn path(&self) -> &PathBuf {
        match self {
            Step::Dir { path, .. }
            | Step::Link { path, .. }
            | Step::Copy { path, .. }
            | Step::Write { path, .. } => path,
        }
    }

    /// Does it. Returns the bytes written.
    ///
    /// # Errors
    /// The calls' of [`Root`].
    pub fn act(&self, host: &View, root: &Root) -> Result<u64> {
        match self {
            Step::Dir { path, mode } => root.make_dirs(path, *mode).map(|()| 0),
            Step::Link { path, target } => root.symlink(path, target).map(|()| 0),
            Step::Write { path, text, mode } => {
                root.write(path, text.as_bytes(), *mode).map(|()| text.len() as u64)
            }
            Step::Copy { from, path, mode, sha256 } => {
                let mut file = host.open(from).map_err(|e| host.error("open", from, e))?;
                let Some(wanted) = sha256 else { return root.copy(&mut file, path, *mode) };
                let bytes = crate::busybox::read_checked(file, from, wanted)?;
                root.write(path, &bytes, *mode).map(|()| bytes.len() as u64)
            }
        }
    }
}

impl Explain for Step {
    fn explain(&self) -> Shown {
        let (call, why, man) = match self {
            Step::Dir { path, mode } => {
                (format!("mkdirat(root, {path:?}, {mode:04o})"), "a directory of the root", "mkdir(2)")
            }
            Step::Link { path, target } => (
                format!("symlinkat({target:?}, root, {path:?})"),
                "the same link as on the host",
                "symlink(2)",
            ),
            Step::Copy { from, path, mode, .. } => (
                format!("copy_file_range({from:?}, root:{path:?}, {mode:04o})"),
                "a program, library or file that is needed",
                "copy_file_range(2)",
            ),
            Step::Write { path, text, mode } => (
                format!("write(root:{path:?}, {} bytes, {mode:04o})", text.len()),
                "a file that programs expect",
                "write(2)",
            ),
        };
        Shown {
            stage: "rootfs".into(),
            call,
            why: why.into(),
            man: man.into(),
            undo: Some(format!("rm -r ROOT{}", self.path().display())),
        }
    }
}
