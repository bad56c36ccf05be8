//! The request, checked and put in order. Nothing is touched here; this machine's cgroup layout is looked at.

use crate::action::Action;
use crate::cgroup::{self, Layout};
use crate::inside::Links;
use crate::options::{self, Options};
use crate::propagation::Propagation;
use crate::request::{Device, DeviceKind, InjectedFile, Mount, Request, Symlink};
use drydock_core::text::{escape, shorten};
use drydock_core::{Error, Explain, Result, Step};
use nix::mount::MsFlags;
use std::path::{Component, Path, PathBuf};

/// A checked request. [`Plan::apply`](crate::Plan::apply) carries it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub(crate) root: PathBuf,
    pub(crate) actions: Vec<Action>,
    pub(crate) notes: Vec<String>,
    pub(crate) user_namespace: bool,
    pub(crate) propagation: Propagation,
}

impl Plan {
    /// The steps, for people and machines.
    pub fn steps(&self) -> Vec<Step> {
        self.actions.iter().map(Explain::explain).collect()
    }

    /// The typed steps, in order.
    pub fn actions(&self) -> &[Action] {
        &self.actions
    }

    /// What was changed about the request while it was checked, for the caller to tell.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

impl Request {
    /// Checks everything that can be checked before a process exists, and orders the steps.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`]: relative or odd paths, unknown options or file systems, mounts over `/` or
    /// inside /proc, a bind source that does not exist.
    pub fn validate(self) -> Result<Plan> {
        let mut notes = Vec::new();
        let root = self.root.path.clone();
        check_root(&root)?;
        let first = match self.root.propagation {
            Propagation::Unbindable => Propagation::Private,
            other => other,
        };
        let mut actions = vec![Action::Tree { propagation: first, root: root.clone() }];
        match &self.root.overlay {
            None => actions.push(Action::BindRoot { path: root.clone() }),
            Some(overlay) => {
                overlay.check()?;
                if let Some(scratch) = &overlay.scratch {
                    if root.parent() != Some(&scratch.path) {
                        let problem =
                            format!("{root:?} does not lie right in the scratch {:?}", scratch.path);
                        return Err(Error::bad_input("overlay mount point", problem));
                    }
                    let dirs = vec![overlay.upper.clone(), overlay.work.clone(), root.clone()];
                    actions.push(Action::Scratch { scratch: scratch.clone(), dirs });
                }
                actions.push(Action::OverlayRoot { path: root.clone(), overlay: overlay.clone() });
            }
        }
        for mount in &self.mounts {
            add_mount(&mut actions, &mut notes, mount, self.user_namespace)?;
        }
        for device in self.devices {
            actions.push(checked_device(device, self.user_namespace)?);
        }
        for link in self.symlinks {
            let path = normalise(&link.path, "symbolic link")?;
            check_text(&link.target, "symbolic link target")?;
            actions.push(Action::Symlink(Symlink { path, target: link.target }));
        }
        for file in self.files {
            let destination = normalise(&file.destination, "file")?;
            check_host_path(&file.source, &destination)?;
            actions.push(Action::File(InjectedFile { destination, source: file.source }));
        }
        for path in &self.readonly_paths {
            actions.push(Action::ReadonlyPath(normalise(path, "read-only path")?));
        }
        for path in &self.masked_paths {
            actions.push(Action::Mask(normalise(path, "masked path")?));
        }
        let propagation = self.root.propagation;
        actions.push(Action::Pivot { pivot: self.pivot, shared: propagation == Propagation::Shared });
        if matches!(propagation, Propagation::Shared | Propagation::Unbindable) {
            actions.push(Action::RootPropagation(propagation, self.root.propagation_recursive));
        }
        if self.root.readonly {
            actions.push(Action::RootReadonly);
        }
        Ok(Plan { root, actions, notes, user_namespace: self.user_namespace, propagation })
    }
}

fn quoted(text: &str) -> String {
    shorten(&escape(text), 200)
}

fn check_root(root: &Path) -> Result<()> {
    let shown = quoted(&root.to_string_lossy());
    check_host_path(root, "root file system")?;
    let ends_at_slash = root.components().all(|c| matches!(c, Component::RootDir | Component::CurDir));
    if ends_at_slash || root.components().any(|c| c == Component::ParentDir) {
        return Err(Error::bad_input(
            format!("'{shown}'"),
            "cannot be a container's root file system (allowed: a directory other than the host's '/', without '..')",
        ));
    }
    Ok(())
}

fn check_host_path(path: &Path, object: &str) -> Result<()> {
    if path.is_absolute() && !path.as_os_str().as_encoded_bytes().contains(&0) {
        return Ok(());
    }
    let shown = quoted(&path.to_string_lossy());
    Err(Error::bad_input(
        object,
        format!("'{shown}' is not a host path (allowed: an absolute path without NUL)"),
    ))
}

fn check_text(text: &str, object: &str) -> Result<()> {
    if !text.is_empty() && text.len() < 4096 && !text.contains('\0') {
        return Ok(());
    }
    Err(Error::bad_input(object, format!("'{}' (allowed: 1 to 4095 bytes without NUL)", quoted(text))))
}

/// An absolute path inside the root without `.`, `..` and double slashes; `..` stops at the root.
fn normalise(path: &str, object: &str) -> Result<String> {
    check_text(path, object)?;
    if !path.starts_with('/') {
        let shown = quoted(path);
        return Err(Error::bad_input(
            object,
            format!("'{shown}' is relative (allowed: an absolute path inside the root)"),
        ));
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    if parts.is_empty() {
        return Err(Error::bad_input(
            object,
            format!("'{}' is the root itself (allowed: a path below it)", quoted(path)),
        ));
    }
    Ok(format!("/{}", parts.join("/")))
}

/// Files in /proc that tools such as lxcfs replace by better-informed ones; nothing else may be mounted in there.
const IN_PROC: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

fn below(path: &str, top: &str) -> bool {
    path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn add_mount(actions: &mut Vec<Action>, notes: &mut Vec<String>, mount: &Mount, userns: bool) -> Result<()> {
    let destination = normalise(&mount.destination, "mount destination")?;
    if destination != mount.destination.trim_end_matches('/') {
        notes.push(format!(
            "mount destination '{}' taken as '{destination}' inside the root",
            quoted(&mount.destination)
        ));
    }
    let object = format!("mount {}", quoted(&destination));
    let fstype = mount.fstype.as_deref().filter(|t| !matches!(*t, "bind" | "none" | ""));
    let parsed = options::parse(&object, fstype, &mount.options)?;
    let is_bind = parsed.bind.is_some() || fstype.is_none();
    check_proc(&destination, fstype, is_bind, &object)?;
    let kernel_type =
        fstype.is_some_and(|t| matches!(t, "proc" | "sysfs" | "cgroup" | "cgroup2" | "devpts" | "mqueue"));
    let strict = kernel_type || ["/proc", "/sys", "/dev"].iter().any(|top| below(&destination, top));
    let links = if strict { Links::Refuse } else { Links::Follow };
    if parsed.remount {
        actions.push(Action::Remount { destination, options: parsed });
        return Ok(());
    }
    if is_bind {
        let source = mount.source.as_deref().unwrap_or_default();
        check_text(source, &object)?;
        let source = PathBuf::from(source);
        check_host_path(&source, &object)?;
        if let Err(e) = source.symlink_metadata() {
            let shown = quoted(&source.to_string_lossy());
            return Err(Error::bad_input(object, format!("source '{shown}' cannot be used: {}", plain(&e))));
        }
        let recursive = parsed.bind == Some(true);
        actions.push(Action::Bind { destination, source, recursive, options: parsed, links });
        return Ok(());
    }
    let fstype = fstype.unwrap_or_default();
    if fstype == "cgroup" {
        add_cgroup(actions, notes, &destination, parsed, userns);
        return Ok(());
    }
    check_fstype(fstype, &object)?;
    let source = mount.source.clone().unwrap_or_else(|| fstype.to_string());
    check_text(&source, &object)?;
    let instead = instead_of(fstype).filter(|_| userns).map(PathBuf::from);
    actions.push(Action::Filesystem {
        destination,
        fstype: fstype.to_string(),
        source,
        options: parsed,
        links,
        instead,
    });
    Ok(())
}

fn plain(error: &std::io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), drydock_core::error::errno_text)
}

/// What a user namespace binds from the host when it may not mount a file system of this type.
fn instead_of(fstype: &str) -> Option<&'static str> {
    match fstype {
        "proc" => Some("/proc"),
        "sysfs" => Some("/sys"),
        "mqueue" => Some("/dev/mqueue"),
        "cgroup2" => Some(cgroup::ROOT),
        _ => None,
    }
}

fn check_proc(destination: &str, fstype: Option<&str>, is_bind: bool, object: &str) -> Result<()> {
    let refused = match destination {
        "/proc" => !(is_bind || fstype == Some("proc")),
        inside if below(inside, "/proc") => !(is_bind && IN_PROC.contains(&inside)),
        _ => false,
    };
    if !refused {
        return Ok(());
    }
    Err(Error::bad_input(object, "mounting inside /proc is not allowed (allowed: proc on /proc itself)"))
}

fn add_cgroup(
    actions: &mut Vec<Action>,
    notes: &mut Vec<String>,
    destination: &str,
    options: Options,
    userns: bool,
) {
    let filesystem =
        |destination: String, fstype: &str, options: Options, instead: Option<PathBuf>| Action::Filesystem {
            destination,
            fstype: fstype.to_string(),
            source: fstype.to_string(),
            options,
            links: Links::Refuse,
            instead: instead.filter(|_| userns),
        };
    match cgroup::detect() {
        Layout::None => {
            notes.push(format!("{destination}: this machine has no cgroup file system mounted: left out"))
        }
        Layout::Unified => {
            actions.push(filesystem(destination.to_string(), "cgroup2", options, Some(cgroup::ROOT.into())));
        }
        Layout::V1(hierarchies) => {
            let mut top = options.clone();
            let read_only = top.flags.0.contains(MsFlags::MS_RDONLY);
            top.flags.0 &= !MsFlags::MS_RDONLY;
            top.data = ["mode=755", "size=64k", "nr_inodes=256"].map(String::from).to_vec();
            actions.push(filesystem(destination.to_string(), "tmpfs", top.clone(), None));
            for hierarchy in hierarchies {
                let mut own = options.clone();
                own.data = vec![hierarchy.data];
                let at = format!("{destination}/{}", hierarchy.name);
                actions.push(filesystem(at, "cgroup", own, Some(hierarchy.host)));
                // Programs look for a controller by its own name.
                for single in hierarchy.name.split(',').filter(|_| hierarchy.name.contains(',')) {
                    let path = format!("{destination}/{single}");
                    actions.push(Action::Symlink(Symlink { path, target: hierarchy.name.clone() }));
                }
            }
            if read_only {
                top.flags.0 |= MsFlags::MS_RDONLY;
                top.data.clear();
                top.bind = Some(false);
                actions.push(Action::Remount { destination: destination.to_string(), options: top });
            }
        }
    }
}

/// Types that need no look at the kernel's list: each is built in, or explained when it fails.
const USUAL: [&str; 9] =
    ["proc", "sysfs", "tmpfs", "ramfs", "devpts", "mqueue", "cgroup", "cgroup2", "overlay"];

fn check_fstype(fstype: &str, object: &str) -> Result<()> {
    if USUAL.contains(&fstype) {
        return Ok(());
    }
    let named =
        fstype.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b)) && fstype.len() <= 64;
    // A subtype after a dot is the driver's own business (fuse.sshfs).
    let kernel_name = fstype.split('.').next().unwrap_or(fstype);
    if named && (registered(kernel_name) || loadable(kernel_name)) {
        return Ok(());
    }
    let shown = quoted(fstype);
    Err(Error::bad_input(
        object,
        format!("file system '{shown}' is unknown to this kernel (allowed: see /proc/filesystems)"),
    ))
}

fn registered(fstype: &str) -> bool {
    let list = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    list.lines().any(|line| line.rsplit('\t').next() == Some(fstype))
}

/// mount(2) loads the module of a file system by itself.
fn loadable(fstype: &str) -> bool {
    let release =
        nix::sys::utsname::uname().map(|u| u.release().to_string_lossy().into_owned()).unwrap_or_default();
    let list = std::fs::read_to_string(format!("/lib/modules/{release}/modules.dep")).unwrap_or_default();
    list.lines().any(|line| {
        let file = line.split(':').next().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        file.split(".ko").next() == Some(fstype) && file.contains(".ko")
    })
}

fn checked_device(device: Device, bind: bool) -> Result<Action> {
    let path = normalise(&device.path, "device")?;
    let object = format!("device {}", quoted(&path));
    let fits = device.major < 1 << 12 && device.minor < 1 << 20;
    if !fits && device.kind != DeviceKind::Fifo {
        let numbers = format!("{}:{}", device.major, device.minor);
        return Err(Error::bad_input(
            object,
            format!("numbers {numbers} (allowed: major 0 to 4095, minor 0 to 1048575)"),
        ));
    }
    if device.mode > 0o7777 || device.uid == u32::MAX || device.gid == u32::MAX {
        return Err(Error::bad_input(
            object,
            "bad mode or owner (allowed: mode 0 to 07777, ids below 4294967295)",
        ));
    }
    Ok(Action::Device { bind: bind && device.kind != DeviceKind::Fifo, device: Device { path, ..device } })
}

#[cfg(test)]
mod tests;
