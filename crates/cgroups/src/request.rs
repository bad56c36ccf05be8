//! What was asked: a cgroup of this name with these limits.

use crate::layout::{Hierarchy, Layout, Mode, Version};
use crate::limits::{Limits, UNLIMITED, first_missing, parse_list};
use crate::name::check_name;
use crate::plan::{Branch, Plan};
use crate::{Cgroup, files, translate};
use drydock_core::{Error, Kind, Result};
use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What to do when the cgroup is there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IfExists {
    /// An error.
    #[default]
    Fail,
    /// Use it as it is and write the limits.
    Reuse,
    /// Use it if no process is in it and it is not frozen, and write the limits; else an error.
    ReuseEmpty,
    /// Kill what is in it, remove it, make it anew.
    Replace,
    /// It must be there: only the limits are written.
    Require,
}

/// Where names begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// Where we may make cgroups: see [`crate::Hierarchy::base`].
    #[default]
    Base,
    /// At the root of the hierarchy, also for those who may make cgroups only in a part of it.
    Root,
    /// Beside our own cgroup, for those who may not make cgroups everywhere: our own has processes in it, so that on v2 it
    /// can hand no controllers on. In our own where the one above is not ours.
    Beside,
}

/// A cgroup to make, or to change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Request {
    /// Relative name, `drydock/web`; see [`crate::check_name`].
    pub name: String,
    /// Its directories, when it is there and they are known (a running container's, or a scope that systemd has made):
    /// then only the limits are written, and the name may be empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dirs: Vec<PathBuf>,
    /// Where the name begins.
    pub place: Place,
    /// The limits.
    pub limits: Limits,
    /// What to do when it exists.
    pub if_exists: IfExists,
    /// What the kernel lacks goes to [`crate::Report::lacking`] instead of being an error.
    pub lenient: bool,
    /// v1: do without a cpuset cgroup when no limit needs one. Making it costs as much as all others together, and a
    /// process that joins none stays in its parent's: for the start path of containers.
    pub lean: bool,
    /// Every hierarchy and controller that there is, as OCI runtimes have it and what is mounted inside a container shows:
    /// v1 with cpuset and systemd's named hierarchy, v2 with each controller enabled.
    pub complete: bool,
    /// v2: processes that are in the way of enabling a controller (the no-internal-process rule) are moved into a
    /// child cgroup `leaf`.
    pub make_leaf: bool,
}

/// Controllers that are enabled where v2 offers them even without a limit, for the statistics.
const WELCOME: [&str; 4] = ["cpu", "io", "memory", "pids"];

impl Request {
    /// Checks the name and the limits, and lays out the steps for this machine. Touches nothing.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] for a bad name or number; [`drydock_core::Kind::Failed`] when the machine
    /// lacks what is asked for and the request is not lenient.
    pub fn validate(self, layout: &Layout) -> Result<Plan> {
        self.limits.check()?;
        check_cpuset(&self.limits, layout)?;
        check_shares(&self.limits, layout)?;
        check_sum(&self.limits, layout)?;
        if !self.dirs.is_empty() {
            return self.change(layout);
        }
        check_name(&self.name)?;
        self.limits.check_pages()?;
        let layout = &layout.clone().seen_from(self.place);
        let branches = self.branches(layout);
        if branches.is_empty() {
            let why = nowhere(layout, &translate::controllers(&self.limits));
            if !self.lenient {
                return Err(why.in_stage("cgroup"));
            }
            let request = Self { limits: Limits::default(), ..self };
            return Ok(Plan { lacking: vec![why.to_string()], ..Plan::empty(request) });
        }
        let dirs = branches.iter().map(|b| b.leaf.clone()).collect();
        self.plan(layout, branches, dirs)
    }

    /// The same for a scope that systemd has made, whose name it has said. On v2 it is all there, and only the limits are
    /// written; of v1's hierarchies systemd uses only some.
    ///
    /// # Errors
    /// As [`Request::validate`]; when the scope has gone.
    pub fn validate_made(mut self, layout: &Layout) -> Result<Plan> {
        check_name(&self.name)?;
        match layout.v2().filter(|_| layout.mode() == Mode::V2) {
            Some(v2) => self.dirs = vec![v2.mount.join(&self.name)],
            None => self.if_exists = IfExists::Reuse,
        }
        self.validate(layout)
    }

    fn plan(self, layout: &Layout, branches: Vec<Branch>, dirs: Vec<PathBuf>) -> Result<Plan> {
        let mut todo = translate::todo(&self, layout)?;
        if let (false, Some(first)) = (self.lenient, todo.lacking.first()) {
            // A configuration has no word for going on without.
            let hint = if self.complete {
                "leave that limit out"
            } else {
                "leave that limit out, or go on without it by --lenient"
            };
            let error = Error::failed(drydock_core::text::escape(&self.name), first.clone());
            // Nothing has been touched, and the configuration is for another machine than this.
            let kind = if self.complete { Kind::BadInput } else { Kind::Failed };
            return Err(error.with_kind(kind).in_stage("cgroup").hint(hint));
        }
        todo.lacking.extend(todo.ignored);
        let translate::Todo { writes, gate, check, lacking, .. } = todo;
        Ok(Plan { request: self, branches, dirs, writes, gate, check, lacking })
    }

    /// Other limits for the cgroup at [`dirs`](Self::dirs). Controllers that it was made without are added: enabled on
    /// the way on v2, as one more directory for its processes on v1.
    fn change(mut self, layout: &Layout) -> Result<Plan> {
        let there = Cgroup::at(self.dirs.iter().cloned())?;
        self.dirs = there.dirs().map(Path::to_path_buf).collect();
        self.if_exists = IfExists::Require;
        let limits = &mut self.limits;
        if limits.memory_max == Some(UNLIMITED) && limits.swap_max.is_none() {
            // As OCI has it: without a limit of memory there is none of swap, unless one is given.
            limits.memsw_max.get_or_insert(UNLIMITED);
        }
        let Some(first) = self.dirs.first().cloned() else {
            return Err(Error::failed("cgroup", "is not there any more").in_stage("cgroup"));
        };
        let own = |h: &&Hierarchy| h.name.is_none();
        for hierarchy in layout.hierarchies().iter().filter(own) {
            let Some(dir) = self.dirs.iter().find(|d| d.starts_with(&hierarchy.mount)) else { continue };
            if *dir == hierarchy.mount {
                return Err(Error::bad_input(dir.display().to_string(), "is the root of a hierarchy"));
            }
            let below = hierarchy.base.as_ref().and_then(|base| dir.strip_prefix(base).ok());
            if let Some(name) = below.filter(|n| self.name.is_empty() && !n.as_os_str().is_empty()) {
                self.name = name.to_string_lossy().into_owned();
            }
        }
        let mut needed = translate::controllers(&self.limits);
        needed.extend(self.limits.devices.iter().map(|_| "devices".to_string()));
        let mut dirs = self.dirs.clone();
        let mut branches = Vec::new();
        for hierarchy in layout.hierarchies().iter().filter(own) {
            let has = |c: &str| needed.iter().any(|n| n == c || (c == "blkio" && n == "io"));
            if !hierarchy.controllers.iter().any(|c| has(c)) {
                continue;
            }
            let v1 = hierarchy.version == Version::V1;
            let missing = !self.dirs.iter().any(|d| d.starts_with(&hierarchy.mount));
            let Some(leaf) = self.dir_in(hierarchy) else { continue };
            let Some(branch) = branch(hierarchy, leaf.clone(), &needed, &[]) else { continue };
            if v1 && missing {
                dirs.push(leaf);
                branches.push(Branch { adopt: Some(first.clone()), ..branch });
            } else if !v1 {
                branches.push(Branch { make: false, ..branch });
            }
        }
        self.plan(layout, branches, dirs)
    }

    /// This cgroup's directory in a hierarchy.
    pub(crate) fn dir_in(&self, hierarchy: &Hierarchy) -> Option<PathBuf> {
        let known = self.dirs.iter().find(|d| d.starts_with(&hierarchy.mount)).cloned();
        // Never the base itself.
        known.or_else(|| Some(hierarchy.base.as_ref()?.join(&self.name)).filter(|_| !self.name.is_empty()))
    }

    /// One branch for each hierarchy in which we may make cgroups; named v1 hierarchies (systemd's) are left alone unless
    /// everything is asked for.
    fn branches(&self, layout: &Layout) -> Vec<Branch> {
        let needed = translate::controllers(&self.limits);
        let spared = |h: &Hierarchy| {
            let cpuset = h.version == Version::V1 && h.controllers == ["cpuset"];
            self.lean && !self.complete && cpuset && !needed.iter().any(|c| c == "cpuset")
        };
        let ours = |h: &&Hierarchy| (h.name.is_none() || self.complete) && !spared(h);
        let make = self.if_exists != IfExists::Require;
        let one = |h: &Hierarchy| {
            let all: Vec<&str> = h.controllers.iter().map(String::as_str).collect();
            let welcome = if self.complete { &all[..] } else { &WELCOME[..] };
            let branch = branch(h, self.dir_in(h)?, &needed, welcome)?;
            Some(Branch { make, ..branch })
        };
        layout.hierarchies().iter().filter(ours).filter_map(one).collect()
    }
}

/// The way from the base of a hierarchy to `leaf`; `None` if it does not stand there.
fn branch(hierarchy: &Hierarchy, leaf: PathBuf, needed: &[String], welcome: &[&str]) -> Option<Branch> {
    let base = hierarchy.base.clone().filter(|base| leaf.starts_with(base))?;
    let mut parents: Vec<_> =
        leaf.ancestors().skip(1).take_while(|a| *a != base).map(ToOwned::to_owned).collect();
    parents.reverse();
    let v2 = hierarchy.version == Version::V2;
    let has = |c: &str| hierarchy.controllers.iter().any(|h| h == c);
    let required: Vec<String> = needed.iter().filter(|c| v2 && has(c)).cloned().collect();
    let mut enable = required.clone();
    for welcome in welcome.iter().filter(|c| v2 && has(c)) {
        if !enable.iter().any(|e| e == welcome) {
            enable.push((*welcome).to_string());
        }
    }
    Some(Branch {
        v2,
        cpuset: !v2 && has("cpuset"),
        base,
        parents,
        leaf,
        enable,
        required,
        make: true,
        named: hierarchy.name.is_some(),
        adopt: None,
    })
}

fn nowhere(layout: &Layout, needed: &[String]) -> Error {
    if layout.mode() == Mode::None {
        return Error::failed("cgroups", "no cgroup file system is mounted")
            .hint("mount -t cgroup2 cgroup2 /sys/fs/cgroup");
    }
    let read_only = |h: &Hierarchy| access(&h.own, AccessFlags::W_OK) == Err(Errno::EROFS);
    if layout.hierarchies().iter().any(read_only) {
        return Error::failed("cgroups", "the cgroup file system is mounted read-only here")
            .hint("mount -o remount,rw it, or do this outside of the container");
    }
    // runc's words first, which are looked for.
    let limit = |c: &String| format!("cannot set {c} limit: container could not join or create cgroup: ");
    let wanted = needed.first().map(limit).unwrap_or_default();
    Error::failed("cgroups", format!("{wanted}this user may not make any: no limits, no statistics"))
        .hint("run as root, or inside a delegated cgroup: systemd-run --user --scope -p Delegate=yes …")
}

/// v1 has only the sum of memory and swap, which cannot be less than memory's.
fn check_sum(limits: &Limits, layout: &Layout) -> Result<()> {
    let v1 = layout.hierarchy_of("memory").is_some_and(|h| h.version == Version::V1);
    match limits.memsw_max.filter(|sum| v1 && *sum != UNLIMITED && limits.memory_max == Some(UNLIMITED)) {
        None => Ok(()),
        Some(sum) => Err(Error::bad_input(
            "memory.memsw.limit_in_bytes",
            format!(
                "{sum} with memory that has no limit (allowed on cgroup v1: -1, or a limit of memory too)"
            ),
        )),
    }
}

/// v1's kernel would change the number without a word; v2 has it converted.
fn check_shares(limits: &Limits, layout: &Layout) -> Result<()> {
    let v1 = layout.hierarchy_of("cpu").is_some_and(|h| h.version == Version::V1);
    match limits.cpu_shares.filter(|shares| v1 && !(2..=262_144).contains(shares)) {
        None => Ok(()),
        Some(shares) => Err(Error::bad_input(
            "cpu.shares",
            format!("{shares} is out of range (allowed on cgroup v1: 2 to 262144)"),
        )),
    }
}

/// `0-99999` on a machine with two processors is refused before anything is made.
fn check_cpuset(limits: &Limits, layout: &Layout) -> Result<()> {
    let asked = [("cpuset.cpus", &limits.cpuset_cpus), ("cpuset.mems", &limits.cpuset_mems)];
    for (file, asked) in asked.into_iter().filter_map(|(f, a)| a.as_ref().map(|a| (f, a))) {
        let Some(base) = layout.hierarchy_of("cpuset").and_then(|h| h.base.as_ref()) else { continue };
        let there = files::read_if_there(&base.join(format!("{file}.effective")))
            .or_else(|| files::read_if_there(&base.join(file)));
        let Some(there) = there.as_deref().map(str::trim).filter(|t| !t.is_empty()) else { continue };
        let Ok(have) = parse_list(file, there) else { continue };
        if let Some(missing) = first_missing(&parse_list(file, asked)?, &have) {
            return Err(Error::bad_input(file, format!("{missing} is not there (allowed: {there})")));
        }
    }
    Ok(())
}
