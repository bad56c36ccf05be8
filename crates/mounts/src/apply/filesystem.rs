//! File systems of the container's own.

use super::{Work, finish};
use crate::inside::{self, Links, Want};
use crate::options::{Options, show};
use crate::sources::clone_tree;
use crate::{copyup, mask};
use drydock_core::{Error, Result};
use nix::errno::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// What is to be mounted.
pub(super) struct What<'a> {
    pub(super) fstype: &'a str,
    pub(super) source: &'a str,
    pub(super) options: &'a Options,
    pub(super) instead: Option<&'a Path>,
}

impl What<'_> {
    fn mount(&self, target: &OwnedFd, data: &str) -> nix::Result<()> {
        let to = inside::fd_path(target.as_fd());
        nix::mount::mount(Some(self.source), to.as_str(), Some(self.fstype), self.options.flags.0, Some(data))
    }

    fn explain(&self, errno: Errno, destination: &str, data: &str) -> Error {
        let Self { source, fstype, .. } = self;
        let flags = show(self.options.flags.0);
        let call = format!("mount({source:?}, {destination:?}, {fstype:?}, {flags}, {data:?})");
        explain_filesystem(Error::call(call, errno), fstype)
    }

    /// A tmpfs takes the place of a directory with the mode that this has, unless another is asked for.
    fn inherits_mode(&self) -> bool {
        let options = self.options;
        self.fstype == "tmpfs" && options.exact && !options.data.iter().any(|o| o.starts_with("mode="))
    }
}

impl Work<'_> {
    pub(super) fn filesystem(&mut self, destination: &str, what: &What<'_>, links: Links) -> Result<()> {
        let options = what.options;
        let (target, existed) = self.inside()?.ensure_told(destination, Want::Directory, links)?;
        // Nothing can be made in a procfs.
        if existed && links == Links::Follow && inside::is_proc(target.as_fd()) {
            return Err(Error::failed(destination, "leads into /proc, where nothing may be mounted"));
        }
        let mut data = options.data_string();
        if existed && what.inherits_mode() {
            let mode = inside::stat(target.as_fd(), destination)?.st_mode & 0o7777;
            data =
                if data.is_empty() { format!("mode={mode:04o}") } else { format!("mode={mode:04o},{data}") };
        }
        let mut result = what.mount(&target, &data);
        if result == Err(Errno::EINVAL) && what.fstype == "devpts" && data.contains("gid=") {
            // Group 5 (tty) is not mapped in many user namespaces, the caller's perhaps among them.
            let rest: Vec<&str> =
                options.data.iter().map(String::as_str).filter(|o| !o.starts_with("gid=")).collect();
            result = what.mount(&target, &rest.join(","));
            self.report
                .notes
                .push(format!("{destination}: without gid=, which this user namespace does not map"));
        }
        match (result, what.instead) {
            (Err(Errno::EPERM | Errno::EBUSY), Some(host)) => {
                return self.instead(destination, what.fstype, host, options);
            }
            (Err(errno), _) => return Err(what.explain(errno, destination, &data)),
            (Ok(()), _) => self.report.mounts.push(destination.to_string()),
        }
        let recursive = options.recursive_set | options.recursive_clear;
        let label = self.plan.label.as_deref().filter(|_| what.fstype == "mqueue");
        if options.copy_up || !options.propagation.is_empty() || recursive != 0 || label.is_some() {
            let top = self.reopen(destination, links)?;
            if let Some(label) = label {
                crate::label::set(top.as_fd(), label).map_err(|e| e.on(destination))?;
            }
            if options.copy_up {
                copyup::copy(target.as_fd(), top.as_fd()).map_err(|e| e.on(destination))?;
                // The default mode gives way to the directory's own, and its owner with it.
                if !options.exact && options.data.iter().any(|o| o == "mode=1777") {
                    copyup::dress(target.as_fd(), top.as_fd()).map_err(|e| e.on(destination))?;
                }
            }
            finish(&top, options)?;
        }
        Ok(())
    }

    /// A user namespace may not mount this type here: bind the host's, with at least the same restrictions.
    fn instead(&mut self, destination: &str, fstype: &str, host: &Path, options: &Options) -> Result<()> {
        let host_shown = host.display();
        let Ok(tree) = clone_tree(host, true, false) else {
            let note = format!(
                "{destination}: left out: {fstype} may not be mounted here, and the host has no {host_shown}"
            );
            self.report.notes.push(note);
            return Ok(());
        };
        let (set, _) = options.attributes();
        mask::set_attributes(tree.as_fd(), set, 0, true).map_err(|e| e.on(destination))?;
        let target = self.inside()?.ensure(destination, Want::Directory, Links::Refuse)?;
        mask::attach(tree.as_fd(), target.as_fd(), destination)?;
        let note = format!(
            "{destination}: the host's {host_shown}, because this user namespace may not mount {fstype}"
        );
        self.report.notes.push(note);
        self.report.mounts.push(destination.to_string());
        Ok(())
    }
}

fn explain_filesystem(error: Error, fstype: &str) -> Error {
    match error.errno() {
        Some(nix::libc::ENODEV) => {
            error.hint(format!("this kernel has no {fstype}: load its module or build it in"))
        }
        Some(nix::libc::EPERM) => error.hint(match fstype {
            "sysfs" => "sysfs needs a network namespace that belongs to the caller's user namespace",
            "proc" => "proc needs a pid namespace that belongs to the caller's user namespace",
            "mqueue" => "mqueue needs an ipc namespace that belongs to the caller's user namespace",
            _ => "needs CAP_SYS_ADMIN in the user namespace of the mount namespace",
        }),
        Some(nix::libc::EBUSY) if fstype.starts_with("cgroup") => {
            error.hint("the cgroup hierarchy is not available in this cgroup namespace")
        }
        _ => error,
    }
}
