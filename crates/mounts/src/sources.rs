//! Sources of bind mounts that the parent opens for the child.
//!
//! A child in a user namespace of its own is somebody else to the host's files: a source below a directory of mode 0700
//! is closed to it, and it may not make id-mapped mounts of the host's file systems. So the parent clones these mounts
//! (open_tree(2)) before the clone(2), and the child, which inherits the descriptors, attaches them.

use crate::action::Action;
use crate::plan::Plan;
use crate::propagation::Propagation;
use drydock_core::error::CallExt;
use drydock_core::sys::mount::{self as setattr, Attributes, mount_setattr};
use drydock_core::{Error, Result};
use rustix::mount::OpenTreeFlags;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Detached mounts, by the place that each is for.
#[derive(Debug, Default)]
pub struct Sources(Vec<(String, OwnedFd)>);

impl Sources {
    /// The descriptors in the plan's order, to be sent to a child that did not inherit them.
    pub fn into_fds(self) -> Vec<OwnedFd> {
        self.0.into_iter().map(|(_, fd)| fd).collect()
    }

    /// Puts together again what [`Sources::into_fds`] took apart.
    ///
    /// # Errors
    /// When there are not as many as the plan needs.
    pub fn from_fds(plan: &Plan, fds: Vec<OwnedFd>) -> Result<Self> {
        let places: Vec<&str> = plan.sources_for_parent().collect();
        if fds.is_empty() {
            return Ok(Self::default());
        }
        if places.len() != fds.len() {
            return Err(Error::failed("mount sources", "are not those of the plan"));
        }
        Ok(Self(places.into_iter().map(str::to_string).zip(fds).collect()))
    }

    /// Hands out the first source for a place.
    pub(crate) fn take(&mut self, destination: &str) -> Option<OwnedFd> {
        let at = self.0.iter().position(|(place, _)| place == destination)?;
        Some(self.0.remove(at).1)
    }
}

impl Plan {
    /// The destinations whose sources the parent is to open, in order: none without a user namespace.
    pub fn sources_for_parent(&self) -> impl Iterator<Item = &str> {
        self.actions.iter().filter_map(|action| match action {
            Action::Bind { destination, .. } if self.user_namespace => Some(destination.as_str()),
            _ => None,
        })
    }

    /// Opens them, in the parent, before the clone(2) that makes the child, so that it inherits them. `userns`: the
    /// container's user namespace if it is there already, for id-mapped mounts without maps of their own.
    ///
    /// A caller without privileges opens nothing: its child can open what it could.
    ///
    /// # Errors
    /// open_tree(2)'s or mount_setattr(2)'s, naming the source.
    pub fn open_sources(&self, userns: Option<BorrowedFd<'_>>) -> Result<Sources> {
        let _ = userns;
        let mut all = Vec::new();
        if !rustix::process::geteuid().is_root() {
            return Ok(Sources::default());
        }
        for action in self.actions.iter().filter(|_| self.user_namespace) {
            let Action::Bind { destination, source, recursive, .. } = action else { continue };
            let tree = clone_tree(source, *recursive).map_err(|e| e.on(destination.clone()))?;
            self.leave_peers(&tree, destination)?;
            all.push((destination.clone(), tree));
        }
        Ok(Sources(all))
    }

    /// A clone of a shared mount is its peer: the child's mount namespace is not, and so the mount must not be either.
    fn leave_peers(&self, tree: &OwnedFd, shown: &str) -> Result<()> {
        let flag = match self.propagation {
            Propagation::Shared => return Ok(()),
            Propagation::Slave => Propagation::Slave.flag(),
            _ => Propagation::Private.flag(),
        };
        let flags = setattr::EMPTY_PATH | setattr::RECURSIVE;
        let attributes = Attributes { propagation: flag.bits(), ..Attributes::default() };
        match mount_setattr(tree.as_fd(), c"", flags, attributes) {
            Err(e) if e.raw_os_error() == Some(nix::libc::ENOSYS) => Ok(()),
            other => other.call(|| format!("mount_setattr(tree of {shown:?}, AT_RECURSIVE, propagation)")),
        }
    }
}

/// A detached copy of what is mounted at a path of the host.
///
/// # Errors
/// open_tree(2)'s.
pub(crate) fn clone_tree(path: &Path, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(rustix::fs::CWD, path, flags)
        .call(|| format!("open_tree(AT_FDCWD, {path:?}, OPEN_TREE_CLONE)"))
        .map_err(|e| match e.errno() {
            Some(nix::libc::EINVAL) => {
                e.hint("the source is on an unbindable mount, or has locked mounts below: use rbind")
            }
            Some(nix::libc::EPERM) => {
                e.hint("needs CAP_SYS_ADMIN in the user namespace of the mount namespace")
            }
            _ => e,
        })
}
