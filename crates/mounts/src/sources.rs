//! What the parent opens for the child.
//!
//! A child in a user namespace of its own is somebody else to the host's files: a source below a directory of mode 0700
//! is closed to it, and it may not make id-mapped mounts of the host's file systems. So the parent clones these mounts
//! (open_tree(2)) before the clone(2), and the child, which inherits the descriptors, attaches them.

use crate::action::{Action, IdMap};
use crate::idmap::{self, helper::Helper};
use crate::options::SourceLink;
use crate::plan::Plan;
use crate::propagation::Propagation;
use drydock_core::Result;
use drydock_core::error::CallExt;
use drydock_core::sys::mount::{self as setattr, Attributes, mount_setattr};
use rustix::mount::OpenTreeFlags;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Detached mounts, by what each is for; and user namespaces for id-mapped mounts that the child makes itself.
#[derive(Debug, Default)]
pub struct Sources {
    trees: Vec<(String, PathBuf, OwnedFd)>,
    namespaces: Vec<(IdMap, OwnedFd)>,
    helper: Option<Helper>,
    root: Option<OwnedFd>,
}

impl Sources {
    /// Hands out a source for a place.
    pub(crate) fn take(&mut self, destination: &str, source: &Path) -> Option<OwnedFd> {
        let at = self.trees.iter().position(|(to, from, _)| to == destination && from == source)?;
        Some(self.trees.remove(at).2)
    }

    /// Hands out the root, if the child could not open it.
    pub(crate) fn take_root(&mut self) -> Option<OwnedFd> {
        self.root.take()
    }

    /// Id-maps a detached mount that the child has made, by itself or through the helper.
    ///
    /// # Errors
    /// mount_setattr(2)'s; without a namespace from the parent.
    pub(crate) fn map(&mut self, tree: &OwnedFd, map: &IdMap) -> Result<()> {
        let which = self.namespaces.iter().position(|(known, _)| known == map);
        match (&mut self.helper, which.and_then(|n| u8::try_from(n).ok())) {
            (Some(helper), Some(which)) => helper.map(tree.as_fd(), which),
            _ => idmap::map(tree, self.namespace(map), map),
        }
    }

    /// The user namespace with these maps.
    fn namespace(&self, map: &IdMap) -> Option<BorrowedFd<'_>> {
        self.namespaces.iter().find(|(known, _)| known == map).map(|(_, fd)| fd.as_fd())
    }

    fn add_namespace(&mut self, map: &IdMap, userns: Option<BorrowedFd<'_>>) -> Result<()> {
        if self.namespace(map).is_some() {
            return Ok(());
        }
        let same = |known: &IdMap| (&known.uid, &known.gid) == (&map.uid, &map.gid);
        let there = self.namespaces.iter().find(|(known, _)| same(known)).map(|(_, fd)| fd.as_fd());
        let namespace = match there.or(userns.filter(|_| !map.own)) {
            Some(fd) => fd.try_clone_to_owned().call(|| "fcntl(userns, F_DUPFD_CLOEXEC)")?,
            None if map.uid.is_empty() => {
                return Err(drydock_core::Error::failed(
                    "id-mapped mount",
                    "has no maps, and there is no user namespace to take them from",
                ));
            }
            None => idmap::namespace(map)?,
        };
        self.namespaces.push((map.clone(), namespace));
        Ok(())
    }
}

impl Plan {
    /// Opens what the child cannot, in the parent, before the clone(2) that makes the child, so that it inherits the
    /// descriptors: all of them are closed by an exec. The caller is single-threaded. `userns`: the container's user
    /// namespace if it is there already, for id-mapped mounts without maps of their own.
    ///
    /// A caller without privileges opens nothing: its child can open what it could.
    ///
    /// # Errors
    /// open_tree(2)'s or mount_setattr(2)'s, naming the source.
    pub fn open_sources(&self, userns: Option<BorrowedFd<'_>>) -> Result<Sources> {
        let mut all = Sources::default();
        let mut helper = false;
        for action in &self.actions {
            let Action::Bind { destination, source, recursive, options, id_map, .. } = action else {
                continue;
            };
            if !self.user_namespace && id_map.is_none() || !rustix::process::geteuid().is_root() {
                continue;
            }
            if let Some(map) = id_map {
                all.add_namespace(map, userns).map_err(|e| e.on(destination.clone()))?;
            }
            // What is inside the root may be there only when the mounts before it are.
            if !self.user_namespace || source.starts_with(&self.root) {
                helper |= self.user_namespace && id_map.is_some();
                continue;
            }
            let itself = options.source_link != SourceLink::Follow;
            let tree = match clone_tree(source, *recursive, itself) {
                // Root by name only: the child is more in its own user namespace.
                Err(e) if e.errno() == Some(nix::libc::EPERM) && id_map.is_none() => continue,
                other => other.map_err(|e| e.on(destination.clone()))?,
            };
            self.leave_peers(&tree, destination)?;
            if let Some(map) = id_map {
                idmap::map(&tree, all.namespace(map), map).map_err(|e| e.on(destination.clone()))?;
            }
            all.trees.push((destination.clone(), source.clone(), tree));
        }
        let binds_root = self.actions.iter().any(|action| matches!(action, Action::BindRoot { .. }));
        if self.user_namespace
            && binds_root
            && rustix::process::geteuid().is_root()
            && !open_to_all(&self.root)
        {
            let tree = clone_tree(&self.root, true, false).map_err(|e| e.on("root file system"))?;
            self.leave_peers(&tree, "/")?;
            all.root = Some(tree);
        }
        if helper {
            all.helper = Some(idmap::helper::start(&all.namespaces)?);
        }
        Ok(all)
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

/// Whether everybody may pass through the directories above a path.
fn open_to_all(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let open = |dir: &Path| std::fs::metadata(dir).is_ok_and(|meta| meta.permissions().mode() & 0o001 != 0);
    path.ancestors().skip(1).all(open)
}

/// A detached copy of what is mounted at a path of the host. `itself`: a symbolic link is not followed.
///
/// # Errors
/// open_tree(2)'s.
pub(crate) fn clone_tree(path: &Path, recursive: bool, itself: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    flags.set(OpenTreeFlags::AT_SYMLINK_NOFOLLOW, itself);
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
