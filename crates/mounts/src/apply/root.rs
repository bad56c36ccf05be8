//! The new root: a mount of its own, cut off from the host's.

use super::Work;
use crate::inside::{self, Inside};
use crate::overlay::{Overlay, Scratch};
use crate::propagation::{self, Propagation};
use crate::sources::clone_tree;
use crate::{mask, table};
use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use nix::mount::MsFlags;
use rustix::fs::OFlags;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A step that needs the root came before the one that makes it.
pub(super) fn missing() -> Error {
    Error::failed("root file system", "not mounted yet")
}

impl Work<'_> {
    pub(super) fn bind_root(&mut self, path: &Path) -> Result<()> {
        let (below, tree) = match (open_root(path), self.sources.take_root()) {
            // Not even its own user namespace can pass through to it: anywhere will do for pivot_root(2).
            (Err(e), Some(tree)) if e.errno() == Some(nix::libc::EACCES) => {
                (open_root(Path::new("/"))?, tree)
            }
            (below, _) => (below?, clone_tree(path, true, false)?),
        };
        mask::attach(tree.as_fd(), below.as_fd(), &path.to_string_lossy())?;
        if self.plan.shared_namespace {
            // What follows is for this container, not for the peers of the mount that the root lies on.
            let top = inside::fd_path(tree.as_fd());
            propagation::set(Path::new(&top), Propagation::Private, true)?;
        }
        self.inside = Some(Inside::new(tree));
        Ok(())
    }

    pub(super) fn overlay_root(&mut self, path: &Path, overlay: &Overlay) -> Result<()> {
        let below = open_root(path)?;
        overlay.mount(&inside::fd_path(below.as_fd()), &path.to_string_lossy(), MsFlags::empty())?;
        self.inside = Some(Inside::new(open_root(path)?));
        Ok(())
    }
}

pub(super) fn tree(propagation: Propagation, root: &Path) -> Result<()> {
    if propagation != Propagation::Shared {
        return propagation::set(Path::new("/"), propagation, true);
    }
    let parent = table::of_path(root)?;
    propagation::set(&parent.mount_point, Propagation::Private, false)
}

/// Mounts the tmpfs of a writable layer and makes its directories. The path is the host's, not the container's.
pub(super) fn make_scratch(scratch: &Scratch, dirs: &[PathBuf]) -> Result<()> {
    let below = open_root(&scratch.path)?;
    let (data, to) = (scratch.options().join(","), inside::fd_path(below.as_fd()));
    nix::mount::mount(Some("tmpfs"), to.as_str(), Some("tmpfs"), MsFlags::empty(), Some(data.as_str()))
        .call(|| format!("mount(\"tmpfs\", {:?}, \"tmpfs\", 0, {data:?})", scratch.path))?;
    let top = open_root(&scratch.path)?;
    for dir in dirs {
        let name = dir.file_name().ok_or_else(|| Error::failed(dir.display().to_string(), "has no name"))?;
        rustix::fs::mkdirat(&top, name, rustix::fs::Mode::from_raw_mode(0o755))
            .call(|| format!("mkdir({dir:?}, 0755)"))?;
    }
    Ok(())
}

fn open_root(path: &Path) -> Result<OwnedFd> {
    inside::open_host(path, OFlags::DIRECTORY).map_err(|e| {
        let error = e.on("root file system");
        match error.errno() {
            Some(nix::libc::ENOTDIR) => error.hint(format!("{} is not a directory", path.display())),
            Some(nix::libc::ENOENT) => {
                error.hint("make it first, for example with 'rootfs new' and 'rootfs copy'")
            }
            _ => error,
        }
    })
}
