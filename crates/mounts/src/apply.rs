//! The plan carried out, in the container's own child: after the clone into a new mount namespace, before the exec.

use crate::action::Action;
use crate::inside::{self, Inside, Links, Want};
use crate::mask::{self, Masks};
use crate::options::{Options, show};
use crate::overlay::{Overlay, Scratch};
use crate::plan::Plan;
use crate::propagation::{self, Propagation};
use crate::request::InjectedFile;
use crate::sources::{Sources, clone_tree};
use crate::{dev, pivot, table};
use drydock_core::error::CallExt;
use drydock_core::sys::mount as setattr;
use drydock_core::{Ctx, Error, Result};
use nix::mount::MsFlags;
use rustix::fs::{FileType, OFlags};
use rustix::mount::OpenTreeFlags;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

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
    /// error the child must end. Nothing reaches the host's mount namespace, so there is nothing to undo.
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
        let umask = Umask::clear();
        let report = Report { notes: self.notes.clone(), ..Report::default() };
        let mut work = Work { plan: self, sources, inside: None, masks: Masks::default(), report };
        let last = self.actions.iter().position(Action::is_last_part).unwrap_or(self.actions.len());
        let (first, rest) = self.actions.split_at_checked(last).unwrap_or((&self.actions, &[]));
        for action in first {
            ctx.perform(action, |action| work.act(action))?;
        }
        drop(umask);
        before_pivot()?;
        let _umask = Umask::clear();
        for action in rest {
            ctx.perform(action, |action| work.act(action))?;
        }
        Ok(work.report)
    }
}

impl Work<'_> {
    fn inside(&self) -> Result<&Inside> {
        self.inside.as_ref().ok_or_else(|| Error::failed("root file system", "not mounted yet"))
    }

    fn act(&mut self, action: &Action) -> Result<()> {
        match action {
            Action::Tree { propagation, root } => tree(*propagation, root),
            Action::BindRoot { path } => self.bind_root(path),
            Action::Scratch { scratch, dirs } => make_scratch(scratch, dirs),
            Action::OverlayRoot { path, overlay } => self.overlay_root(path, overlay),
            Action::Filesystem { destination, fstype, source, options, links, instead } => {
                self.filesystem(destination, fstype, source, options, *links, instead.as_deref())
            }
            Action::Bind { destination, source, recursive, options, links } => {
                self.bind(destination, source, *recursive, options, *links)?;
                self.report.mounts.push(destination.clone());
                Ok(())
            }
            Action::Remount { destination, options } => self.remount(destination, options),
            Action::Device { device, bind: true } => dev::bind(self.inside()?, device),
            Action::Device { device, bind: false } => dev::make(self.inside()?, device),
            Action::Symlink(link) => dev::symlink(self.inside()?, link),
            Action::File(file) => self.file(file),
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

    fn bind_root(&mut self, path: &Path) -> Result<()> {
        let below = open_root(path)?;
        let tree = clone_tree(path, true)?;
        mask::attach(tree.as_fd(), below.as_fd(), &path.to_string_lossy())?;
        self.inside = Some(Inside::new(tree));
        Ok(())
    }

    fn overlay_root(&mut self, path: &Path, overlay: &Overlay) -> Result<()> {
        let below = open_root(path)?;
        overlay.mount(&inside::fd_path(below.as_fd()), &path.to_string_lossy(), MsFlags::empty())?;
        self.inside = Some(Inside::new(open_root(path)?));
        Ok(())
    }

    fn filesystem(
        &mut self,
        destination: &str,
        fstype: &str,
        source: &str,
        options: &Options,
        links: Links,
        instead: Option<&Path>,
    ) -> Result<()> {
        let target = self.inside()?.ensure(destination, Want::Directory, links)?;
        if links == Links::Follow && inside::is_proc(target.as_fd()) {
            return Err(Error::failed(destination, "leads into /proc, where nothing may be mounted"));
        }
        let to = inside::fd_path(target.as_fd());
        let mount = |data: &str| {
            nix::mount::mount(Some(source), to.as_str(), Some(fstype), options.flags.0, Some(data))
        };
        let mut result = mount(&options.data_string());
        if result == Err(nix::errno::Errno::EINVAL) && fstype == "devpts" && instead_allowed(self.plan) {
            // Group 5 (tty) is not mapped in many user namespaces.
            let rest: Vec<&str> =
                options.data.iter().map(String::as_str).filter(|o| !o.starts_with("gid=")).collect();
            result = mount(&rest.join(","));
            self.report
                .notes
                .push(format!("{destination}: without gid=, which this user namespace does not map"));
        }
        match (result, instead) {
            (Err(nix::errno::Errno::EPERM | nix::errno::Errno::EBUSY), Some(host)) => {
                return self.instead(destination, fstype, host, options);
            }
            (result, _) => result
                .call(|| {
                    let (flags, data) = (show(options.flags.0), options.data_string());
                    format!("mount({source:?}, {destination:?}, {fstype:?}, {flags}, {data:?})")
                })
                .map_err(|e| explain_filesystem(e, fstype))?,
        }
        self.report.mounts.push(destination.to_string());
        if !options.propagation.is_empty() || options.recursive_set | options.recursive_clear != 0 {
            let top = self.reopen(destination, links)?;
            finish(&top, options)?;
        }
        Ok(())
    }

    /// A user namespace may not mount this type here: bind the host's, with at least the same restrictions.
    fn instead(&mut self, destination: &str, fstype: &str, host: &Path, options: &Options) -> Result<()> {
        let host_shown = host.display();
        let Ok(tree) = clone_tree(host, true) else {
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

    fn bind(
        &mut self,
        destination: &str,
        source: &Path,
        recursive: bool,
        options: &Options,
        links: Links,
    ) -> Result<()> {
        let tree = match self.sources.take(destination) {
            Some(tree) => tree,
            None => clone_tree(source, recursive)?,
        };
        let shown = source.to_string_lossy();
        let is_directory = inside::file_type(tree.as_fd(), &shown)? == FileType::Directory;
        if destination == "/proc" && !inside::is_proc(tree.as_fd()) {
            return Err(Error::failed(
                destination,
                format!("{shown} is not a procfs, and only one may be mounted there"),
            ));
        }
        let want = if is_directory { Want::Directory } else { Want::File };
        let inside = self.inside()?;
        let target = inside.ensure(destination, want, links)?;
        if links == Links::Follow && inside::is_proc(target.as_fd()) {
            return Err(Error::failed(destination, "leads into /proc, where nothing may be mounted"));
        }
        let (set, clear) = options.attributes();
        let changed =
            if set | clear == 0 { Ok(()) } else { mask::set_attributes(tree.as_fd(), set, clear, false) };
        mask::attach(tree.as_fd(), target.as_fd(), destination)?;
        if let Err(e) = changed {
            // Before Linux 5.12 flags are changed by remounting; a failure must not leave the mount weaker than asked.
            if e.errno() != Some(nix::libc::ENOSYS) {
                return Err(e.on(destination));
            }
            remount_bind(&tree, options.flags.0, destination)?;
        }
        finish(&tree, options)?;
        self.check_place(&tree, destination, links)
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

    fn reopen(&self, destination: &str, links: Links) -> Result<OwnedFd> {
        let found = self.inside()?.open(destination, links)?;
        found.ok_or_else(|| Error::failed(destination, "vanished while it was being mounted"))
    }

    fn remount(&mut self, destination: &str, options: &Options) -> Result<()> {
        let top = self.reopen(destination, Links::Follow)?;
        if options.bind.is_some() {
            return remount_bind(&top, options.flags.0, destination);
        }
        let none: Option<&str> = None;
        let flags = MsFlags::MS_REMOUNT | options.flags.0;
        let data = options.data_string();
        nix::mount::mount(none, inside::fd_path(top.as_fd()).as_str(), none, flags, Some(data.as_str()))
            .call(|| format!("mount(NULL, {destination:?}, NULL, {}, {data:?})", show(flags)))?;
        finish(&top, options)
    }

    fn file(&mut self, file: &InjectedFile) -> Result<()> {
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
                remount_bind(&tree, flags, &file.destination)?;
            }
            other => other?,
        }
        self.report.mounts.push(file.destination.clone());
        Ok(())
    }
}

fn instead_allowed(plan: &Plan) -> bool {
    plan.actions.iter().any(|a| matches!(a, Action::Filesystem { instead: Some(_), .. }))
}

fn tree(propagation: Propagation, root: &Path) -> Result<()> {
    if propagation != Propagation::Shared {
        return propagation::set(Path::new("/"), propagation, true);
    }
    let parent = table::of_path(root)?;
    propagation::set(&parent.mount_point, Propagation::Private, false)
}

/// Mounts the tmpfs of a writable layer and makes its directories. The path is the host's, not the container's.
fn make_scratch(scratch: &Scratch, dirs: &[PathBuf]) -> Result<()> {
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

fn remount_bind(mount: &OwnedFd, flags: MsFlags, shown: &str) -> Result<()> {
    let none: Option<&str> = None;
    let all = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | flags | mask::current_flags(mount.as_fd());
    nix::mount::mount(none, inside::fd_path(mount.as_fd()).as_str(), none, all, none)
        .call(|| format!("mount(NULL, {shown:?}, NULL, {}, NULL)", show(all)))
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
