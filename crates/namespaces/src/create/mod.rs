//! Making new namespaces around a command: what unshare(1) does, in the order that works.
//!
//! One clone3(2) makes the child in every new namespace at once; the parent, which has ids on both sides, writes the
//! id maps and pins the namespaces that are to persist; then the child mounts, takes on its ids and execs. Without a
//! fork the roles are swapped: the caller goes in, and a short-lived child does the outside work.

mod lesson;
mod outside;
mod persist;
mod run;
mod steps;

pub use run::{Running, explain_clone, unshare};
pub use steps::CreateStep;

use crate::idmap::{self, IdMap, Setgroups};
use crate::time::Offsets;
use crate::{Kind, Set};
use drydock_core::{Error, Result};
use nix::mount::MsFlags;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What happens between the mounts inside and outside. Source: mount_namespaces(7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    /// Nothing crosses.
    #[default]
    Private,
    /// What is mounted outside appears inside.
    Slave,
    /// Both ways.
    Shared,
    /// As each mount was.
    Unchanged,
}

impl Propagation {
    /// The flag for mount(2).
    pub fn flag(self) -> Option<MsFlags> {
        match self {
            Propagation::Private => Some(MsFlags::MS_PRIVATE),
            Propagation::Slave => Some(MsFlags::MS_SLAVE),
            Propagation::Shared => Some(MsFlags::MS_SHARED),
            Propagation::Unchanged => None,
        }
    }

    /// The flag's name in C.
    pub const fn flag_name(self) -> &'static str {
        match self {
            Propagation::Private => "MS_PRIVATE",
            Propagation::Slave => "MS_SLAVE",
            Propagation::Shared => "MS_SHARED",
            Propagation::Unchanged => "0",
        }
    }
}

/// What to make.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Request {
    /// The new namespaces.
    pub new: Set,
    /// Which of them to keep after the command has ended, as a bind mount on a file, made if it is missing.
    pub persist: Vec<(Kind, PathBuf)>,
    /// User id map of a new user namespace; without one every id shows as 65534.
    pub uid_maps: Vec<IdMap>,
    /// Group id map.
    pub gid_maps: Vec<IdMap>,
    /// User and group that a new user namespace belongs to; nothing: the caller's.
    pub owner: Option<(u32, u32)>,
    /// What setgroups(2) may do; see [`idmap::Request::setgroups`].
    pub setgroups: Option<Setgroups>,
    /// Propagation of every mount of a new mount namespace.
    pub propagation: Propagation,
    /// Where to mount a procfs for the new pid namespace.
    pub mount_proc: Option<PathBuf>,
    /// It was not asked for: where it cannot be mounted, the command runs without it.
    pub proc_if_possible: bool,
    /// Host name of a new uts namespace.
    pub hostname: Option<String>,
    /// Clock offsets of a new time namespace.
    pub time: Offsets,
    /// A new root directory.
    pub root: Option<PathBuf>,
    /// A new working directory, within that root.
    pub working_directory: Option<PathBuf>,
    /// User id of the command, inside.
    pub uid: Option<u32>,
    /// Group id of the command, inside.
    pub gid: Option<u32>,
    /// Pass the capabilities that the user namespace gives on to a command that is not root.
    pub keep_capabilities: bool,
    /// Run the command in a child, so that it is PID 1 of a new pid namespace.
    pub fork: bool,
    /// The signal that the child gets when the parent dies.
    pub kill_child: Option<i32>,
    /// Make the pid namespace by unshare(2) in the parent and fork twice, to show what each process sees.
    pub pid_lesson: bool,
}

impl Request {
    /// Checks what can be told without touching anything.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] for an option that lacks its namespace, a wrong map, name or offset;
    /// [`drydock_core::Kind::Failed`] for a namespace that the kernel lacks.
    pub fn validate(&self) -> Result<()> {
        let need = |given: bool, kind: Kind, what: &str| match given && !self.new.contains(kind) {
            true => Err(Error::bad_input(what, format!("needs a new {kind} namespace"))),
            false => Ok(()),
        };
        let maps = !self.uid_maps.is_empty() || !self.gid_maps.is_empty();
        need(self.setgroups.is_some(), Kind::User, "--setgroups")?;
        need(maps, Kind::User, "id map")?;
        need(self.keep_capabilities, Kind::User, "--keep-caps")?;
        need(self.owner.is_some(), Kind::User, "--owner")?;
        need(self.hostname.is_some(), Kind::Uts, "hostname")?;
        need(!self.time.is_empty(), Kind::Time, "clock offset")?;
        need(self.mount_proc.is_some(), Kind::Mount, "mounting proc")?;
        need(self.pid_lesson, Kind::Pid, "--explain=pid")?;
        if self.pid_lesson && (self.new.contains(Kind::User) || !self.fork) {
            return Err(Error::bad_input("--explain=pid", "cannot be combined with --user or --no-fork"));
        }
        self.time.validate()?;
        idmap::validate("uid map", &self.uid_maps)?;
        idmap::validate("gid map", &self.gid_maps)?;
        self.validate_hostname()?;
        for (kind, path) in &self.persist {
            need(true, *kind, &crate::nsfile::shown(path))?;
            persist::check(path, self.fork)?;
        }
        self.new.iter().try_for_each(Kind::require)
    }

    fn validate_hostname(&self) -> Result<()> {
        let Some(name) = &self.hostname else { return Ok(()) };
        let bad =
            name.is_empty() || name.len() > 64 || name.chars().any(|c| c.is_control() || c.is_whitespace());
        if !bad {
            return Ok(());
        }
        let shown = drydock_core::text::shorten(&drydock_core::text::escape(name), 70);
        Err(Error::bad_input(
            "hostname",
            format!("'{shown}' is not valid (allowed: 1 to 64 bytes without spaces)"),
        ))
    }

    /// Checks the request and fixes what will be done.
    ///
    /// # Errors
    /// As [`Request::validate`], and the id maps' (ranges that are not granted, a missing helper).
    pub fn plan(&self) -> Result<Plan> {
        self.validate()?;
        let maps = idmap::Request {
            uid: self.uid_maps.clone(),
            gid: self.gid_maps.clone(),
            setgroups: self.setgroups,
        };
        if self.new.contains(Kind::User) {
            // The pid is not known yet; whether the maps may be written is.
            maps.plan(0)?;
        }
        let time = self.time_step()?;
        Ok(Plan { request: self.clone(), maps, time })
    }

    /// Who makes the time namespace: only unshare(2) leaves a moment to write offsets. Inside a new user namespace it
    /// must be the child, which enters it by its exec.
    fn time_step(&self) -> Result<Option<TimeStep>> {
        if !self.new.contains(Kind::Time) {
            return Ok(None);
        }
        if self.fork && !self.new.contains(Kind::User) {
            return Ok(Some(TimeStep::Parent));
        }
        if crate::time::exec_enters() {
            return Ok(Some(TimeStep::Child));
        }
        if self.fork && idmap::privileged() {
            return Ok(Some(TimeStep::Parent));
        }
        Err(Error::failed("time namespace", "this kernel enters one only by a fork after it is made")
            .hint("Linux 6.1 or newer does so by exec; before, run as root without --user and --no-fork"))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TimeStep {
    Parent,
    Child,
}

/// A checked request, ready to run.
#[derive(Clone, Debug)]
pub struct Plan {
    request: Request,
    maps: idmap::Request,
    time: Option<TimeStep>,
}

impl Plan {
    /// The request that it was made from.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// What will be done, in order, for people to read: the id maps, whose text needs the child's pid, have steps of
    /// their own ([`idmap::Plan`]), and pids are 0 here.
    pub fn steps(&self) -> Vec<CreateStep> {
        let r = &self.request;
        let mut steps: Vec<CreateStep> =
            r.persist.iter().map(|(_, path)| CreateStep::File { path: path.clone() }).collect();
        let time = CreateStep::Time { offsets: r.time };
        steps.extend((self.time == Some(TimeStep::Parent)).then(|| time.clone()));
        let new = if self.time.is_some() { r.new.without(Kind::Time) } else { r.new };
        steps.push(if r.fork { CreateStep::Clone { new } } else { CreateStep::Unshare { new } });
        steps.extend((self.time == Some(TimeStep::Child)).then_some(time));
        let pins = r.persist.iter().map(|(kind, path)| (*kind, path.clone()));
        steps.extend(pins.map(|(kind, path)| CreateStep::Persist { kind, path, pid: 0 }));
        steps.extend(r.new.contains(Kind::Mount).then_some(CreateStep::Propagation(r.propagation)));
        steps.extend(r.hostname.clone().map(CreateStep::Hostname));
        steps.extend(r.root.clone().map(CreateStep::Root));
        steps.extend(r.mount_proc.clone().map(CreateStep::Proc));
        steps.extend(r.working_directory.clone().map(CreateStep::Directory));
        let ids = r.uid.is_some() || r.gid.is_some();
        steps.extend(ids.then_some(CreateStep::Ids { uid: r.uid, gid: r.gid }));
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut Request)) -> String {
        let mut request = Request { new: Set::EMPTY.with(Kind::Ipc), fork: true, ..Request::default() };
        change(&mut request);
        let error = request.validate().unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
        error.to_string()
    }

    #[test]
    fn options_need_their_namespace() {
        assert!(refused(|r| r.hostname = Some("x".into())).contains("new uts namespace"));
        assert!(refused(|r| r.uid_maps = vec![IdMap::new(0, 0, 1)]).contains("new user namespace"));
        assert!(refused(|r| r.mount_proc = Some("/proc".into())).contains("new mnt namespace"));
        assert!(refused(|r| r.persist = vec![(Kind::Network, "/x".into())]).contains("new net namespace"));
        assert!(
            refused(|r| r.time.boottime = Some(crate::time::Offset::default()))
                .contains("new time namespace")
        );
        for name in ["", "a b", "a\n", &"x".repeat(65)] {
            let with =
                |r: &mut Request| (r.new, r.hostname) = (Set::EMPTY.with(Kind::Uts), Some(name.into()));
            assert!(refused(with).contains("hostname"), "{name}");
        }
    }

    #[test]
    fn a_plan_names_its_steps() {
        let new = [Kind::Mount, Kind::Pid].into_iter().collect();
        let proc = Some(PathBuf::from("/proc"));
        let plan = Request { new, fork: true, mount_proc: proc, ..Request::default() }.plan().unwrap();
        let want = [
            CreateStep::Clone { new },
            CreateStep::Propagation(Propagation::Private),
            CreateStep::Proc(PathBuf::from("/proc")),
        ];
        assert_eq!(plan.steps(), want);
    }

    #[test]
    fn a_request_survives_json() {
        let request = Request { new: Set::EMPTY.with(Kind::User), fork: true, ..Request::default() };
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request);
        assert_eq!(serde_json::from_str::<Request>("{}").unwrap(), Request::default());
    }
}
