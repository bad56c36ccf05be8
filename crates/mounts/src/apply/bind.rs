//! Bind mounts, id-mapped ones, and files of ours.

use super::{Work, finish};
use crate::action::IdMap;
use crate::inside::{self, Links, Want};
use crate::mask;
use crate::options::{Options, SourceLink, show};
use crate::request::InjectedFile;
use crate::sources::clone_tree;
use drydock_core::error::CallExt;
use drydock_core::sys::mount as setattr;
use drydock_core::{Error, Result};
use nix::mount::MsFlags;
use rustix::fs::{FileType, OFlags};
use rustix::mount::OpenTreeFlags;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

impl Work<'_> {
    /// A detached copy of the source. Our own is preferred to the parent's: the flags of the host's mounts are locked in
    /// it when we are in a user namespace of our own.
    pub(super) fn source(
        &mut self,
        source: &Path,
        destination: &str,
        recursive: bool,
        options: &Options,
        id_map: Option<&IdMap>,
    ) -> Result<OwnedFd> {
        let itself = options.source_link != SourceLink::Follow;
        let Some(map) = id_map else {
            return match clone_tree(source, recursive, itself) {
                Err(e) if e.errno() == Some(nix::libc::EACCES) => {
                    self.sources.take(destination, source).ok_or(e)
                }
                other => other,
            };
        };
        if let Some(tree) = self.sources.take(destination, source) {
            return Ok(tree);
        }
        let tree = clone_tree(source, recursive, itself)?;
        self.sources.map(&tree, map).map_err(|e| e.on(destination))?;
        Ok(tree)
    }

    pub(super) fn bind(
        &mut self,
        tree: OwnedFd,
        destination: &str,
        source: &Path,
        options: &Options,
        links: Links,
    ) -> Result<()> {
        let shown = source.to_string_lossy();
        let is_directory = inside::file_type(tree.as_fd(), &shown)? == FileType::Directory;
        if destination == "/proc" && !inside::is_proc(tree.as_fd()) {
            return Err(Error::failed(
                destination,
                format!("{shown} is not a procfs, and only one may be mounted there"),
            ));
        }
        let want = if is_directory { Want::Directory } else { Want::File };
        let (target, existed) = self.inside()?.ensure_told(destination, want, links)?;
        if existed && links == Links::Follow && inside::is_proc(target.as_fd()) {
            return Err(Error::failed(destination, "leads into /proc, where nothing may be mounted"));
        }
        let changed = set_flags(&tree, options, destination);
        mask::attach(tree.as_fd(), target.as_fd(), destination)?;
        if let Err(e) = changed {
            // Before Linux 5.12 flags are changed by remounting; a failure must not leave the mount weaker than asked.
            if e.errno() != Some(nix::libc::ENOSYS) {
                return Err(e.on(destination));
            }
            remount(&tree, options.flags.0, destination)?;
        }
        finish(&tree, options)?;
        self.check_place(&tree, destination, links)?;
        self.report.mounts.push(destination.to_string());
        Ok(())
    }

    /// A path that was resolved through links or shared directories may have been changed meanwhile by a process that
    /// shares them: the mount must be where it was asked for.
    fn check_place(&self, tree: &OwnedFd, destination: &str, links: Links) -> Result<()> {
        let there = self.inside()?.open(destination, links)?;
        let same = there.is_some_and(|fd| inside::mount_id(fd.as_fd()) == inside::mount_id(tree.as_fd()));
        if same {
            return Ok(());
        }
        Err(Error::failed(destination, "was changed by somebody else while it was being mounted"))
    }

    pub(super) fn file(&mut self, file: &InjectedFile) -> Result<()> {
        let shown = file.source.to_string_lossy();
        let source = inside::open_host(&file.source, OFlags::NOFOLLOW)?;
        if inside::file_type(source.as_fd(), &shown)? != FileType::RegularFile {
            return Err(Error::failed(file.destination.clone(), format!("{shown} is not a regular file")));
        }
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let tree = rustix::mount::open_tree(&source, "", flags)
            .call(|| format!("open_tree({shown:?}, OPEN_TREE_CLONE)"))?;
        let target = self.inside()?.ensure(&file.destination, Want::File, Links::Follow)?;
        if inside::is_proc(target.as_fd()) {
            return Err(Error::failed(
                file.destination.clone(),
                "leads into /proc, where nothing may be mounted",
            ));
        }
        let set = setattr::ATTR_NOSUID | setattr::ATTR_NODEV | setattr::ATTR_NOEXEC;
        let changed = mask::set_attributes(tree.as_fd(), set, 0, false);
        mask::attach(tree.as_fd(), target.as_fd(), &file.destination)?;
        match changed {
            Err(e) if e.errno() == Some(nix::libc::ENOSYS) => {
                let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
                remount(&tree, flags, &file.destination)?;
            }
            other => other?,
        }
        self.report.mounts.push(file.destination.clone());
        Ok(())
    }
}

/// Gives a detached copy the flags that were asked for. In a user namespace some of the source's are locked: then they
/// stay, unless just these were asked away.
fn set_flags(tree: &OwnedFd, options: &Options, destination: &str) -> Result<()> {
    let (set, clear) = options.attributes();
    if set | clear == 0 {
        return Ok(());
    }
    let changed = mask::set_attributes(tree.as_fd(), set, clear, false);
    match changed {
        Err(e) if options.exact && e.errno() == Some(nix::libc::EPERM) => {
            let source = mask::current_flags(tree.as_fd());
            match options.locked_attributes(source) {
                Ok((0, 0)) => Ok(()),
                Ok((set, clear)) => mask::set_attributes(tree.as_fd(), set, clear, false),
                Err(flags) => Err(e.on(destination).hint(format!(
                    "an operation not permitted in a user namespace: {} of the source cannot be changed (mount_namespaces(7))",
                    show(flags)
                ))),
            }
        }
        other => other,
    }
}

/// Changes the flags of a bind mount as before Linux 5.12.
pub(super) fn remount(mount: &OwnedFd, flags: MsFlags, shown: &str) -> Result<()> {
    let none: Option<&str> = None;
    let all = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | flags | mask::current_flags(mount.as_fd());
    nix::mount::mount(none, inside::fd_path(mount.as_fd()).as_str(), none, all, none)
        .call(|| format!("mount(NULL, {shown:?}, NULL, {}, NULL)", show(all)))
}
