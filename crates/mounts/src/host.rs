//! Mounts in the caller's own mount namespace: overlay, bind and tmpfs, for `rootfs mount`; they outlive their maker,
//! so each is journalled before it is made.

use crate::inside;
use crate::options::{self, Flags, Options, show};
use crate::overlay::Overlay;
use crate::{mask, table};
use drydock_core::error::CallExt;
use drydock_core::sys::mount::{ATTR_IDMAP, Attributes, EMPTY_PATH, mount_setattr};
use drydock_core::{Ctx, Error, Explain, Object, Result, Step};
use nix::mount::{MntFlags, MsFlags};
use rustix::fs::OFlags;
use rustix::mount::OpenTreeFlags;
use serde::{Deserialize, Serialize};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// What to mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Layers.
    Overlay(Overlay),
    /// A file or directory with all mounts below.
    Bind(PathBuf),
    /// Memory, with tmpfs options (`size=64m`).
    Tmpfs(Vec<String>),
}

/// One mount on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// What.
    pub kind: Kind,
    /// Where: an absolute path that exists.
    pub target: PathBuf,
    /// Cannot be written.
    pub readonly: bool,
    /// For a bind mount: shift the owners of the files by the maps of this user namespace (its file).
    #[serde(default)]
    pub shift: Option<PathBuf>,
}

/// A checked request: one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    request: Request,
    options: Options,
}

/// What was mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Where.
    pub target: PathBuf,
    /// As the kernel lists it.
    pub mount: Option<table::Entry>,
}

impl Request {
    /// Checks the request; looks at the paths, touches nothing.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`].
    pub fn validate(self) -> Result<Plan> {
        let shown = |path: &Path| format!("'{}'", drydock_core::text::escape(&path.to_string_lossy()));
        let target =
            std::fs::metadata(&self.target).map_err(|e| missing(&shown(&self.target), "mount point", &e))?;
        if !self.target.is_absolute() {
            return Err(Error::bad_input(shown(&self.target), "relative (allowed: an absolute path)"));
        }
        let mut words = Vec::new();
        let mut directory = true;
        match &self.kind {
            Kind::Overlay(overlay) => {
                overlay.check()?;
                let own = [&overlay.upper, &overlay.work].into_iter().filter(|_| overlay.is_writable());
                for path in overlay.lower.iter().chain(own) {
                    let meta = std::fs::metadata(path).map_err(|e| missing(&shown(path), "layer", &e))?;
                    if !meta.is_dir() {
                        return Err(Error::bad_input(
                            shown(path),
                            "is not a directory (allowed: a directory)",
                        ));
                    }
                }
            }
            Kind::Bind(source) => {
                let meta = std::fs::metadata(source).map_err(|e| missing(&shown(source), "source", &e))?;
                directory = meta.is_dir();
            }
            Kind::Tmpfs(own) => {
                words = ["nosuid", "nodev"].map(String::from).to_vec();
                words.extend(own.iter().cloned());
                let lacks = |name: &str| !own.iter().any(|o| o.starts_with(name));
                let bounds =
                    [("mode=", "mode=755"), ("size=", "size=256m"), ("nr_inodes=", "nr_inodes=65536")];
                words.extend(bounds.iter().filter(|(name, _)| lacks(name)).map(|(_, w)| (*w).to_string()));
            }
        }
        if target.is_dir() != directory {
            let needed = if directory { "a directory" } else { "a file" };
            return Err(Error::bad_input(
                shown(&self.target),
                format!("cannot be the mount point (allowed: {needed})"),
            ));
        }
        let mut options = options::parse("tmpfs", Some("tmpfs"), &words, options::Unknown::Refuse)?;
        if self.readonly {
            options.flags = Flags(options.flags.0 | MsFlags::MS_RDONLY);
        }
        Ok(Plan { request: self, options })
    }
}

fn missing(object: &str, what: &str, error: &std::io::Error) -> Error {
    let text = error.raw_os_error().map_or_else(|| error.to_string(), drydock_core::error::errno_text);
    Error::bad_input(object, format!("cannot be used as {what}: {text} (allowed: a path that exists)"))
}

impl Explain for Plan {
    fn explain(&self) -> Step {
        let target = &self.request.target;
        let flags = show(self.options.flags.0);
        let (call, why) = match &self.request.kind {
            Kind::Overlay(overlay) => (
                format!("mount(\"overlay\", {target:?}, \"overlay\", {flags}, {:?})", overlay.data()),
                "one tree of several layers; what is written goes to the upper one",
            ),
            Kind::Bind(source) if self.request.shift.is_some() => (
                format!(
                    "open_tree({source:?}, OPEN_TREE_CLONE); mount_setattr(MOUNT_ATTR_IDMAP); move_mount({target:?})"
                ),
                "the same files at a second place, seen with the owners of a user namespace",
            ),
            Kind::Bind(source) => (
                format!("mount({source:?}, {target:?}, NULL, MS_BIND|MS_REC, NULL)"),
                "the same files at a second place",
            ),
            Kind::Tmpfs(_) => (
                format!("mount(\"tmpfs\", {target:?}, \"tmpfs\", {flags}, {:?})", self.options.data_string()),
                "files in memory, bounded",
            ),
        };
        let undo = Some(format!("umount2({target:?}, UMOUNT_NOFOLLOW)"));
        Step { stage: "mounts".into(), call, why: why.into(), man: "mount(2)".into(), undo }
    }

    fn leaves(&self) -> Option<Object> {
        Some(Object::Mount { target: self.request.target.clone(), below: 0 })
    }
}

impl Plan {
    /// The one step.
    pub fn steps(&self) -> Vec<Step> {
        vec![self.explain()]
    }

    /// Mounts it. Needs CAP_SYS_ADMIN.
    ///
    /// # Errors
    /// The call that failed, with the cause where it can be found out.
    pub fn apply(&self, ctx: &Ctx<'_>) -> Result<Report> {
        ctx.perform(self, Self::act)?;
        let target = self.request.target.clone();
        let mount = table::of_path(&target).ok();
        Ok(Report { target, mount })
    }

    fn act(&self) -> Result<()> {
        let target = &self.request.target;
        let shown = target.to_string_lossy();
        match &self.request.kind {
            Kind::Overlay(overlay) => overlay.mount(&shown, &shown, self.options.flags.0),
            Kind::Bind(source) => bind(source, target, self.request.readonly, self.request.shift.as_deref()),
            Kind::Tmpfs(_) => {
                let flags = sys_mount::MountFlags::from_bits_truncate(self.options.flags.0.bits());
                let data = self.options.data_string();
                let builder = sys_mount::Mount::builder().fstype("tmpfs").flags(flags).data(&data);
                builder.mount("tmpfs", target).map(drop).call(|| self.explain().call)
            }
        }
        .map_err(|e| match e.errno() {
            Some(nix::libc::EPERM) => e.hint("needs CAP_SYS_ADMIN: run as root"),
            _ => e,
        })
    }
}

fn bind(source: &Path, target: &Path, readonly: bool, shift: Option<&Path>) -> Result<()> {
    let onto = inside::open_host(target, OFlags::empty())?;
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let tree = rustix::mount::open_tree(rustix::fs::CWD, source, flags)
        .call(|| format!("open_tree(AT_FDCWD, {source:?}, OPEN_TREE_CLONE|AT_RECURSIVE)"))?;
    if readonly {
        mask::set_attributes(tree.as_fd(), drydock_core::sys::mount::ATTR_RDONLY, 0, true)
            .map_err(|e| e.hint("read-only bind mounts with all below need Linux 5.12"))?;
    }
    if let Some(file) = shift {
        let namespace = std::fs::File::open(file).call(|| format!("open({file:?}, O_RDONLY)"))?;
        let attributes =
            Attributes { set: ATTR_IDMAP, user_namespace: Some(namespace.as_fd()), ..Attributes::default() };
        mount_setattr(tree.as_fd(), c"", EMPTY_PATH, attributes)
            .call(|| "mount_setattr(tree, AT_EMPTY_PATH, MOUNT_ATTR_IDMAP)")
            .map_err(|e| e.hint("needs Linux 5.12 and a file system with id-mapped mounts"))?;
    }
    mask::attach(tree.as_fd(), onto.as_fd(), &target.to_string_lossy())
}

/// Unmounts what is mounted on `target`. False: nothing was, which is no error. `lazy`: at once, even if in use.
///
/// # Errors
/// EBUSY while files are in use; EPERM.
pub fn unmount(target: &Path, lazy: bool) -> Result<bool> {
    let mut flags = MntFlags::UMOUNT_NOFOLLOW;
    if lazy {
        flags |= MntFlags::MNT_DETACH;
    }
    match nix::mount::umount2(target, flags) {
        Ok(()) => Ok(true),
        Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR) => Ok(false),
        Err(e) => {
            let error = Error::call(format!("umount2({target:?}, UMOUNT_NOFOLLOW)"), e);
            Err(match error.errno() {
                Some(nix::libc::EBUSY) => error.hint("in use: end the processes that use it, or give --lazy"),
                Some(nix::libc::EPERM) => error.hint("needs CAP_SYS_ADMIN: run as root"),
                _ => error,
            })
        }
    }
}
