//! The request, checked and put in order. Nothing is touched here; this machine's cgroup layout is looked at.

mod fstypes;
mod mounts;
mod paths;

use crate::action::Action;
use crate::dev;
use crate::label;
use crate::pivot::Pivot;
use crate::propagation::Propagation;
use crate::request::{Device, DeviceKind, InjectedFile, Request, Symlink};
use drydock_core::{Error, Explain, Result, Step};
use paths::{check_host_path, check_root, check_text, inside, normalise, quoted};
use std::path::{Path, PathBuf};

/// A checked request. [`Plan::apply`](crate::Plan::apply) carries it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub(crate) root: PathBuf,
    pub(crate) actions: Vec<Action>,
    pub(crate) notes: Vec<String>,
    pub(crate) user_namespace: bool,
    pub(crate) propagation: Propagation,
    pub(crate) shared_namespace: bool,
    /// The container's SELinux label of files, where SELinux is enabled.
    pub(crate) label: Option<String>,
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

    /// What stays mounted in a mount namespace that is not the container's own: the root, with everything below it, to be
    /// unmounted (MNT_DETACH) when the container is deleted.
    pub fn left_mounted(&self) -> Option<&Path> {
        self.shared_namespace.then_some(self.root.as_path())
    }

    /// The host's path of a file of the container's own whose place is known, for its maker to write to before the
    /// pivot; only where it is a copy.
    pub fn stored_file(&self, destination: &str) -> Option<&Path> {
        self.actions.iter().find(|action| matches!(action, Action::FileStore { .. }))?;
        self.actions.iter().find_map(|action| match action {
            Action::File(file) if file.destination == destination => Some(file.source.as_path()),
            _ => None,
        })
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
        check_root(&self.root.path)?;
        let mut plan = Plan {
            root: self.root.path.clone(),
            actions: Vec::new(),
            notes: Vec::new(),
            user_namespace: self.user_namespace,
            propagation: self.first_propagation(),
            shared_namespace: self.shared_namespace,
            label: label::checked(self.label.as_deref())?,
        };
        self.add_root(&mut plan.actions)?;
        let mut late = Vec::new();
        for mount in &self.mounts {
            mounts::add(&mut plan, &mut late, &self, mount)?;
        }
        // A /dev of the host has its devices.
        let own_dev = !plan
            .actions
            .iter()
            .any(|action| matches!(action, Action::Bind { destination, .. } if destination == "/dev"));
        if own_dev {
            self.add_devices(&mut plan.actions)?;
        }
        self.add_file_store(&mut plan.actions)?;
        for file in &self.files {
            let destination = normalise(&file.destination, "file")?;
            check_host_path(&file.source, &destination)?;
            plan.actions.push(Action::File(InjectedFile { destination, source: file.source.clone() }));
        }
        plan.actions.append(&mut late);
        self.add_end(&mut plan)?;
        Ok(plan)
    }

    /// What is set on the whole tree at first. The move way unmounts the host's proc and covers its `/`, which the host's
    /// peers would do as well.
    fn first_propagation(&self) -> Propagation {
        match (self.root.propagation, self.pivot) {
            (Propagation::Unbindable, _) => Propagation::Private,
            (Propagation::Shared, Pivot::Move) => Propagation::Slave,
            (other, _) => other,
        }
    }

    fn add_root(&self, actions: &mut Vec<Action>) -> Result<()> {
        let root = &self.root.path;
        let first = self.first_propagation();
        if !self.shared_namespace {
            actions.push(Action::Tree { propagation: first, root: root.clone() });
        }
        let Some(overlay) = &self.root.overlay else {
            actions.push(Action::BindRoot { path: root.clone() });
            return Ok(());
        };
        overlay.check()?;
        if let Some(scratch) = &overlay.scratch {
            if root.parent() != Some(&scratch.path) {
                let problem = format!("{root:?} does not lie right in the scratch {:?}", scratch.path);
                return Err(Error::bad_input("overlay mount point", problem));
            }
            let dirs = vec![overlay.upper.clone(), overlay.work.clone(), root.clone()];
            actions.push(Action::Scratch { scratch: scratch.clone(), dirs });
        }
        actions.push(Action::OverlayRoot { path: root.clone(), overlay: overlay.clone() });
        Ok(())
    }

    fn add_file_store(&self, actions: &mut Vec<Action>) -> Result<()> {
        let Some(dir) = self.file_store.clone().filter(|_| !self.files.is_empty()) else { return Ok(()) };
        check_host_path(&dir, "file store")?;
        let mut names = Vec::new();
        for file in &self.files {
            match file.source.file_name() {
                Some(name) if file.source.parent() == Some(&dir) => names.push(name.to_os_string()),
                _ => return Err(Error::bad_input(quoted(&file.destination), "is not in the file store")),
            }
        }
        actions.push(Action::FileStore { dir, names });
        Ok(())
    }

    fn add_devices(&self, actions: &mut Vec<Action>) -> Result<()> {
        for device in &self.devices {
            let device = self.checked_device(device)?;
            // It is the link to the container's own devpts, which comes with the links.
            if !(self.pass_unknown && device.path == dev::PTMX) {
                let bind = self.user_namespace && device.kind != DeviceKind::Fifo;
                actions.push(Action::Device { bind, device });
            }
        }
        for link in &self.symlinks {
            let path = normalise(&link.path, "symbolic link")?;
            check_text(&link.target, "symbolic link target")?;
            actions.push(Action::Symlink(Symlink { path, target: link.target.clone() }));
        }
        Ok(())
    }

    fn checked_device(&self, device: &Device) -> Result<Device> {
        let path = inside(&device.path, self.pass_unknown.then_some(Path::new("/")), "device")?;
        let object = format!("device {}", quoted(&path));
        let fits = device.major < 1 << 12 && device.minor < 1 << 20;
        if !fits && device.kind != DeviceKind::Fifo {
            let numbers = format!("{}:{}", device.major, device.minor);
            return Err(Error::bad_input(
                object,
                format!("numbers {numbers} (allowed: major 0 to 4095, minor 0 to 1048575)"),
            ));
        }
        // Engines give the type's bits as well.
        let mode = if self.pass_unknown { device.mode & 0o7777 } else { device.mode };
        if mode > 0o7777 || device.uid == u32::MAX || device.gid == u32::MAX {
            return Err(Error::bad_input(
                object,
                "bad mode or owner (allowed: mode 0 to 07777, ids below 4294967295)",
            ));
        }
        Ok(Device { path, mode, ..device.clone() })
    }

    fn add_end(&self, plan: &mut Plan) -> Result<()> {
        let customs = self.pass_unknown.then_some(Path::new("/"));
        if let Some(path) = &self.directory {
            plan.actions.push(Action::Directory(inside(path, customs, "directory")?));
        }
        for path in &self.readonly_paths {
            plan.actions.push(Action::ReadonlyPath(inside(path, customs, "read-only path")?));
        }
        let mut masked: Vec<String> = Vec::new();
        for path in &self.masked_paths {
            let path = inside(path, customs, "masked path")?;
            if !masked.contains(&path) {
                plan.actions.push(Action::Mask(path.clone()));
                masked.push(path);
            }
        }
        let propagation = self.root.propagation;
        let shared = self.first_propagation() == Propagation::Shared;
        plan.actions.push(Action::Pivot { pivot: self.pivot, shared });
        if matches!(propagation, Propagation::Shared | Propagation::Unbindable) && !self.shared_namespace {
            plan.actions.push(Action::RootPropagation(propagation, self.root.propagation_recursive));
        }
        if self.root.readonly {
            plan.actions.push(Action::RootReadonly);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
