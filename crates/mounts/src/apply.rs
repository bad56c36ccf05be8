//! The plan carried out, in the container's own child: after the clone into a new mount namespace, before the exec.

mod bind;
mod files;
mod filesystem;
mod root;

pub(crate) use files::OPTIONS as FILE_STORE;

use crate::action::Action;
use crate::inside::{Inside, Links};
use crate::mask::{self, Masks};
use crate::options::{Options, show};
use crate::plan::Plan;
use crate::sources::Sources;
use crate::{dev, inside, pivot, propagation};
use drydock_core::error::CallExt;
use drydock_core::sys::mount as setattr;
use drydock_core::{Ctx, Error, Result};
use nix::mount::MsFlags;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// What was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Destinations of the mounts that were made, in order, without masks and read-only paths.
    pub mounts: Vec<String>,
    /// What was done otherwise than asked, and why.
    pub notes: Vec<String>,
}

/// What the steps share while they run.
struct Work<'p> {
    plan: &'p Plan,
    sources: Sources,
    inside: Option<Inside>,
    masks: Masks,
    /// The directory of the last node or link.
    directory: dev::Directory,
    /// /proc/self/cgroup, once it was needed.
    cgroups: Option<String>,
    report: Report,
}

/// Restores the caller's umask; nodes and mount points get exactly the modes that were asked for.
struct Umask(nix::sys::stat::Mode);

impl Umask {
    fn clear() -> Self {
        Self(nix::sys::stat::umask(nix::sys::stat::Mode::empty()))
    }
}

impl Drop for Umask {
    fn drop(&mut self) {
        nix::sys::stat::umask(self.0);
    }
}

impl Plan {
    /// [`Plan::apply_with`] without sources from the parent and with nothing in between.
    ///
    /// # Errors
    /// The first step that failed.
    pub fn apply(&self, ctx: &Ctx<'_>) -> Result<Report> {
        self.apply_with(ctx, Sources::default(), &mut || Ok(()))
    }

    /// Does it. The caller is a single-threaded child in a new mount namespace (and in the other namespaces that the
    /// mounts are to show), with CAP_SYS_ADMIN in the user namespace that owns it, and with the host's /proc still in
    /// place. Afterwards its root and working directory are the container's `/`; there is no way back, so after an
    /// error the child must end. Nothing reaches the host's mount namespace, so there is nothing to undo, but where the
    /// namespace is shared ([`Plan::left_mounted`]).
    ///
    /// `sources`: what the parent opened with [`Plan::open_sources`]. `before_pivot` runs when all mounts, devices, links
    /// and files are in place below the root's path, and nothing is masked or read-only yet; the host's `/` is still there.
    ///
    /// # Errors
    /// The first step that failed, or `before_pivot`'s.
    pub fn apply_with(
        &self,
        ctx: &Ctx<'_>,
        sources: Sources,
        before_pivot: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Report> {
        let report = Report { notes: self.notes.clone(), ..Report::default() };
        let masks = Masks::labelled(self.label.clone());
        let mut work = Work {
            plan: self,
            sources,
            inside: None,
            masks,
            directory: dev::Directory::default(),
            cgroups: None,
            report,
        };
        let last = self.actions.iter().position(Action::is_last_part).unwrap_or(self.actions.len());
        let (first, rest) = self.actions.split_at_checked(last).unwrap_or((&self.actions, &[]));
        work.perform(ctx, first)?;
        before_pivot()?;
        work.perform(ctx, rest)?;
        Ok(work.report)
    }
}

impl Work<'_> {
    fn perform(&mut self, ctx: &Ctx<'_>, actions: &[Action]) -> Result<()> {
        let _umask = Umask::clear();
        actions.iter().try_for_each(|action| ctx.perform(action, |action| self.act(action)))
    }

    fn inside(&self) -> Result<&Inside> {
        self.inside.as_ref().ok_or_else(root::missing)
    }

    fn cgroups(&mut self) -> Result<&str> {
        if self.cgroups.is_none() {
            let file = "/proc/self/cgroup";
            self.cgroups = Some(std::fs::read_to_string(file).call(|| format!("open({file:?}, O_RDONLY)"))?);
        }
        Ok(self.cgroups.as_deref().unwrap_or_default())
    }

    fn act(&mut self, action: &Action) -> Result<()> {
        if !matches!(action, Action::Device { .. } | Action::Symlink(_)) {
            // A mount may hide it.
            self.directory = dev::Directory::default();
        }
        match action {
            Action::Tree { propagation, root } => root::tree(*propagation, root),
            Action::BindRoot { path } => self.bind_root(path),
            Action::Scratch { scratch, dirs } => root::make_scratch(scratch, dirs),
            Action::OverlayRoot { path, overlay } => self.overlay_root(path, overlay),
            Action::Filesystem { destination, fstype, source, options, links, instead } => {
                let what = filesystem::What { fstype, source, options, instead: instead.as_deref() };
                self.filesystem(destination, &what, *links)
            }
            Action::Bind { destination, source, recursive, options, links, id_map } => {
                let tree = self.source(source, destination, *recursive, options, id_map.as_ref())?;
                self.bind(tree, destination, source, options, *links)
            }
            Action::OwnCgroup { destination, hierarchy, options } => {
                let source = hierarchy.own_of(self.cgroups()?);
                let tree = self.source(&source, destination, true, options, None)?;
                self.bind(tree, destination, &source, options, Links::Refuse)
            }
            Action::Seal { destination, links } => self.seal(destination, *links),
            Action::Remount { destination, options } => self.remount(destination, options),
            Action::Device { device, bind: true } => dev::bind(self.inside()?, device),
            Action::Device { device, bind: false } => {
                let inside = self.inside.as_ref().ok_or_else(root::missing)?;
                dev::make(inside, &mut self.directory, device)
            }
            Action::Symlink(link) => {
                let inside = self.inside.as_ref().ok_or_else(root::missing)?;
                dev::symlink(inside, &mut self.directory, link)
            }
            Action::FileStore { dir, names } => files::store(dir, names),
            Action::File(file) => self.file(file),
            // What is wrong with it is told when it is entered.
            Action::Directory(path) => {
                let _ = self.inside()?.ensure(path, inside::Want::Directory, Links::Follow);
                Ok(())
            }
            Action::ReadonlyPath(path) => mask::make_readonly(self.inside()?, path),
            Action::Mask(path) => match &self.inside {
                Some(inside) => self.masks.mask(inside, path),
                None => self.inside().map(drop),
            },
            Action::Pivot { pivot, shared } => pivot::enter(*pivot, self.inside()?.root(), *shared),
            Action::RootPropagation(propagation, recursive) => {
                propagation::set(Path::new("/"), *propagation, *recursive)
            }
            Action::RootReadonly => {
                let root = self.inside()?.root();
                match mask::set_attributes(root, setattr::ATTR_RDONLY, 0, false) {
                    Err(e) if e.errno() == Some(nix::libc::ENOSYS) => mask::remount_readonly(root, "/"),
                    other => other,
                }
            }
        }
    }

    fn reopen(&self, destination: &str, links: Links) -> Result<OwnedFd> {
        self.inside()?
            .open(destination, links)?
            .ok_or_else(|| Error::failed(destination, "is not there (a mount point is needed)"))
    }

    fn seal(&self, destination: &str, links: Links) -> Result<()> {
        let top = self.reopen(destination, links)?;
        match mask::set_attributes(top.as_fd(), setattr::ATTR_RDONLY, 0, false) {
            Err(e) if e.errno() == Some(nix::libc::ENOSYS) => {
                mask::remount_readonly(top.as_fd(), destination)
            }
            other => other.map_err(|e| e.on(destination)),
        }
    }

    fn remount(&self, destination: &str, options: &Options) -> Result<()> {
        let top = self.reopen(destination, Links::Follow)?;
        if options.bind.is_some() {
            bind::remount(&top, options.flags.0, destination)?;
            return finish(&top, options);
        }
        let none: Option<&str> = None;
        let flags = MsFlags::MS_REMOUNT | options.flags.0;
        let data = options.data_string();
        nix::mount::mount(none, inside::fd_path(top.as_fd()).as_str(), none, flags, Some(data.as_str()))
            .call(|| format!("mount(NULL, {destination:?}, NULL, {}, {data:?})", show(flags)))?;
        finish(&top, options)
    }
}

/// Propagation and recursive attributes, on a mount that is in place.
fn finish(mount: &OwnedFd, options: &Options) -> Result<()> {
    if options.recursive_set | options.recursive_clear != 0 {
        mask::set_attributes(mount.as_fd(), options.recursive_set, options.recursive_clear, true)
            .map_err(|e| e.hint("recursive mount options need Linux 5.12"))?;
    }
    for (propagation, recursive) in &options.propagation {
        propagation::set(Path::new(&inside::fd_path(mount.as_fd())), *propagation, *recursive)?;
    }
    Ok(())
}
