//! Carrying out a plan.

use crate::group::Cgroup;
use crate::plan::{Act, Branch, Plan, Report, Setting, Write};
use crate::procs::{describe_pids, pids_in};
use crate::request::IfExists;
use crate::{SHARED_PARENT, files};
use drydock_core::error::CallExt;
use drydock_core::text::escape;
use drydock_core::{Ctx, Error, Result};
use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::mkdir;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Another process may remove the shared parent, when its last cgroup goes, between our mkdir of it and of the leaf.
const RACE_TRIES: u32 = 8;

impl Plan {
    /// Makes the cgroup: records it, makes its directories, enables controllers on the way, writes the limits and reads
    /// them back. If a step fails, the directories made so far are removed again.
    ///
    /// # Errors
    /// The failed call with its remedy where one is known.
    pub fn apply(&self, ctx: &Ctx) -> Result<Report> {
        let mut made = Vec::new();
        self.run(ctx, &mut made).inspect_err(|_| {
            for dir in made.iter().rev() {
                // Best effort: the error that brought us here is what the user needs to see.
                let _ = std::fs::remove_dir(dir);
            }
        })
    }

    fn run(&self, ctx: &Ctx, made: &mut Vec<PathBuf>) -> Result<Report> {
        let mut report =
            Report { dirs: self.dirs.clone(), settings: Vec::new(), lacking: self.lacking.clone() };
        if report.dirs.is_empty() {
            return Ok(report);
        }
        let mut journal = self.missing_after_policy(ctx, &report.dirs)?;
        for branch in &self.branches {
            self.grow(ctx, branch, std::mem::take(&mut journal), made, &mut report.lacking)?;
        }
        self.write_all(ctx, &mut report)?;
        Ok(report)
    }

    /// Applies [`IfExists`] and returns the directories that are to be made: only those are ours to record, and to
    /// remove later.
    fn missing_after_policy(&self, ctx: &Ctx, dirs: &[PathBuf]) -> Result<Vec<PathBuf>> {
        let (there, missing): (Vec<PathBuf>, Vec<PathBuf>) =
            dirs.iter().cloned().partition(|d| nix::sys::stat::lstat(d).is_ok());
        let object = || format!("cgroup '{}'", escape(self.name()));
        match (self.request.if_exists, there.first()) {
            (IfExists::Fail, Some(first)) => {
                return Err(Error::failed(object(), format!("exists already ({})", first.display()))
                    .in_stage("cgroup")
                    .hint("use it with --reuse, make it anew with --replace, or choose another name"));
            }
            (IfExists::Require, None) => {
                return Err(Error::failed(object(), "no such cgroup")
                    .in_stage("cgroup")
                    .hint("make it with `cgroupctl create`"));
            }
            (IfExists::Require, Some(_)) => return Ok(Vec::new()),
            (IfExists::ReuseEmpty, Some(_)) => self.refuse_used(there)?,
            (IfExists::Replace, Some(_)) => {
                ctx.perform(&Act::Remove { dirs: there.clone() }, |_| {
                    Cgroup::at(there)?.remove_keeping_parents(Duration::from_secs(10))
                })?;
                return Ok(self.dirs.clone());
            }
            _ => {}
        }
        Ok(missing)
    }

    /// What is there already must be empty and running: its processes would be under our limits, and ours under its.
    fn refuse_used(&self, there: Vec<PathBuf>) -> Result<()> {
        let object = || format!("cgroup '{}'", escape(self.name()));
        let cgroup = Cgroup::at(there)?;
        let pids = cgroup.all_pids()?;
        if !pids.is_empty() {
            return Err(Error::failed(object(), format!("not empty: {}", describe_pids(&pids)))
                .in_stage("cgroup")
                .hint("another container has the same cgroup path"));
        }
        if cgroup.is_frozen() == Some(true) {
            return Err(Error::failed(object(), "frozen: nothing would run in it").in_stage("cgroup"));
        }
        Ok(())
    }

    /// Makes the cgroup in one hierarchy, again if the shared parent vanished under our hands.
    fn grow(
        &self,
        ctx: &Ctx,
        branch: &Branch,
        journal: Vec<PathBuf>,
        made: &mut Vec<PathBuf>,
        lacking: &mut Vec<String>,
    ) -> Result<()> {
        let acts = self.acts_of(branch, journal);
        let mut tries = 0;
        loop {
            tries += 1;
            match acts.iter().try_for_each(|act| self.act(ctx, act, made, lacking)) {
                Err(e) if e.errno() == Some(Errno::ENOENT as i32) && tries < RACE_TRIES => {}
                other => return other,
            }
        }
    }

    fn act(&self, ctx: &Ctx, act: &Act, made: &mut Vec<PathBuf>, lacking: &mut Vec<String>) -> Result<()> {
        match act {
            Act::Parent { dir } => {
                if nix::sys::stat::lstat(dir).is_ok() {
                    return Ok(());
                }
                // The shared parent stays: others may already stand in it.
                let shared = dir.file_name().is_some_and(|n| n == SHARED_PARENT);
                ctx.perform(act, |_| make_dir(dir, true))?;
                if !shared {
                    made.push(dir.clone());
                }
                Ok(())
            }
            Act::Make { dir, .. } => {
                let reuses = matches!(self.request.if_exists, IfExists::Reuse | IfExists::ReuseEmpty);
                let reuse = reuses || made.contains(dir);
                let existed = reuse && nix::sys::stat::lstat(dir).is_ok();
                if existed {
                    return Ok(());
                }
                ctx.perform(act, |_| make_dir(dir, reuse))?;
                made.push(dir.clone());
                Ok(())
            }
            Act::Inherit { dir } => inherit(ctx, act, dir),
            Act::Enable { dir, controllers, required } => {
                self.enable(ctx, dir, controllers, required, lacking)
            }
            Act::Leaf { dir } => ctx.perform(act, |_| make_leaf(dir)),
            Act::Kill { .. } | Act::Remove { .. } | Act::Write(_) => Ok(()),
        }
    }

    /// Enables what is not enabled yet; a controller that no limit needs may fail.
    fn enable(
        &self,
        ctx: &Ctx,
        dir: &Path,
        controllers: &[String],
        required: &[String],
        lacking: &mut Vec<String>,
    ) -> Result<()> {
        let path = dir.join("cgroup.subtree_control");
        let on = files::read(&path)?;
        let missing: Vec<String> =
            controllers.iter().filter(|c| !on.split_whitespace().any(|o| o == *c)).cloned().collect();
        if missing.is_empty() {
            return Ok(());
        }
        let act = |controllers: &[String]| Act::Enable {
            dir: dir.to_path_buf(),
            controllers: controllers.to_vec(),
            required: required.to_vec(),
        };
        let write = |names: &[String]| {
            let value: Vec<String> = names.iter().map(|c| format!("+{c}")).collect();
            ctx.perform(&act(names), |_| files::write(&path, &value.join(" ")))
        };
        let Err(first) = write(&missing) else { return Ok(()) };
        if first.errno() == Some(Errno::EBUSY as i32) && self.request.make_leaf {
            ctx.perform(&Act::Leaf { dir: dir.to_path_buf() }, |_| make_leaf(dir))?;
            return write(&missing).map_err(|e| explain_enable(e, dir));
        }
        if first.errno() == Some(Errno::ENOENT as i32) && !dir.exists() {
            return Err(first);
        }
        // One that cannot be enabled must not take the others with it.
        for name in &missing {
            let Err(error) = write(std::slice::from_ref(name)) else { continue };
            let error = explain_enable(error, dir);
            if !required.contains(name) {
                continue;
            }
            if !self.request.lenient {
                return Err(error);
            }
            lacking.push(format!("{name}: {error}"));
        }
        Ok(())
    }

    /// Writes the limits. Some pairs depend on the order (v1's memory and memsw), so a refused value is tried once more
    /// after the others.
    fn write_all(&self, ctx: &Ctx, report: &mut Report) -> Result<()> {
        let mut again = Vec::new();
        for write in &self.writes {
            match set(ctx, write) {
                Ok(setting) => report.settings.push(setting),
                Err(e) if e.errno() == Some(Errno::EINVAL as i32) => again.push(write),
                Err(e) if write.optional && e.errno() == Some(Errno::ENOENT as i32) => {}
                Err(e) => self.lack(write, e, report)?,
            }
        }
        for write in again {
            match set(ctx, write) {
                Ok(setting) => report.settings.push(setting),
                Err(e) => self.lack(write, e, report)?,
            }
        }
        Ok(())
    }

    /// A file that is not there is something the kernel lacks; every other refusal is an error.
    fn lack(&self, write: &Write, error: Error, report: &mut Report) -> Result<()> {
        let missing = error.errno() == Some(Errno::ENOENT as i32);
        let error = explain_write(error, write);
        if !(missing && self.request.lenient) {
            return Err(error);
        }
        // A limit that failed together with its controller is said once.
        report.lacking.push(format!("{}: {}", write.file, no_such_file(write)));
        Ok(())
    }
}

fn set(ctx: &Ctx, write: &Write) -> Result<Setting> {
    let once = |write: &Write| {
        ctx.perform(&Act::Write(write.clone()), |_| {
            let kernel = files::write_and_read_back(&write.path(), &write.value)?;
            Ok(Setting { file: write.file.clone(), asked: write.value.clone(), kernel })
        })
    };
    match (once(write), &write.instead) {
        (Err(e), Some((file, value))) if e.errno() == Some(Errno::ENOENT as i32) => {
            once(&Write { file: file.clone(), value: value.clone(), ..write.clone() })
        }
        (result, _) => result,
    }
}

fn make_dir(dir: &Path, may_exist: bool) -> Result<()> {
    match mkdir(dir, Mode::from_bits_truncate(0o755)) {
        Err(Errno::EEXIST) if may_exist => Ok(()),
        other => {
            other.call(|| format!("mkdir({dir:?}, 0755)")).map_err(|e| match e.errno().map(Errno::from_raw) {
                Some(Errno::EAGAIN) => {
                    e.hint("cgroup.max.depth or cgroup.max.descendants of a parent is reached")
                }
                Some(Errno::EACCES | Errno::EPERM) => {
                    e.hint("run as root, or have the parent cgroup delegated to you")
                }
                Some(Errno::EROFS) => e.hint("the cgroup file system is mounted read-only here"),
                Some(Errno::EEXIST) => e.hint("use it with --reuse, or make it anew with --replace"),
                _ => e,
            })
        }
    }
}

/// A v1 cpuset begins empty, and nothing can join it (ENOSPC). One that has values keeps them.
fn inherit(ctx: &Ctx, act: &Act, dir: &Path) -> Result<()> {
    let Some(parent) = dir.parent() else { return Ok(()) };
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if files::read(&dir.join(file))?.trim().is_empty() {
            let value = files::read(&parent.join(file))?;
            ctx.perform(act, |_| files::write(&dir.join(file), value.trim()))?;
        }
    }
    Ok(())
}

/// Moves the processes of a v2 cgroup into its child `leaf`.
fn make_leaf(dir: &Path) -> Result<()> {
    let leaf = dir.join("leaf");
    make_dir(&leaf, true)?;
    for _ in 0..RACE_TRIES {
        let pids = pids_in(dir)?;
        if pids.is_empty() {
            return Ok(());
        }
        for pid in pids {
            match files::write(&leaf.join("cgroup.procs"), &pid.to_string()) {
                Err(e) if e.errno() != Some(Errno::ESRCH as i32) => return Err(e),
                _ => {}
            }
        }
    }
    Ok(())
}

fn explain_enable(error: Error, dir: &Path) -> Error {
    match error.errno().map(Errno::from_raw) {
        Some(Errno::EBUSY) => {
            let pids = pids_in(dir).unwrap_or_default();
            error
                .on(dir.display().to_string())
                .because(format!("{} in the way: no-internal-process rule", describe_pids(&pids)))
                .hint("--make-leaf moves them into a child cgroup")
        }
        Some(Errno::EOPNOTSUPP) => error.hint("the cgroup is threaded: cgroup.type must be 'domain'"),
        Some(Errno::ENOENT) => error.hint(format!("not delegated: see {}/cgroup.controllers", dir.display())),
        Some(Errno::EINVAL) => {
            error.hint("a realtime process outside of the root cgroup blocks the cpu controller")
        }
        _ => error,
    }
}

fn no_such_file(write: &Write) -> &'static str {
    if !write.dir.exists() {
        return "the cgroup is not in this controller's hierarchy; make it anew with this limit";
    }
    match write.file.as_str() {
        "memory.swap.max" | "memory.memsw.limit_in_bytes" => {
            "the kernel does not account swap (needs CONFIG_SWAP, and swapaccount=1 on older kernels)"
        }
        "cpu.cfs_quota_us" | "cpu.cfs_period_us" | "cpu.max" => {
            "the kernel has no processor quota (needs CONFIG_CFS_BANDWIDTH), or the cpu controller is not enabled here"
        }
        "blkio.weight" | "io.weight" | "blkio.weight_device" | "io.bfq.weight" | "blkio.leaf_weight" => {
            "no block scheduler with weights (bfq or iocost) is in use"
        }
        _ => "this kernel has no such file in the cgroup, or its controller is not enabled",
    }
}

fn explain_write(error: Error, write: &Write) -> Error {
    match error.errno().map(Errno::from_raw) {
        Some(Errno::ENOENT) => error.on(write.file.clone()).because(no_such_file(write)),
        Some(Errno::EBUSY) if write.file.starts_with("memory.") => {
            error.on(write.file.clone()).because("more than that is in use and cannot be reclaimed")
        }
        Some(Errno::ENODEV) => error.on(write.file.clone()).because("no such block device"),
        Some(Errno::EINVAL) if write.file == "cpu.cfs_quota_us" => error
            .on(write.file.clone())
            .because("the kernel refuses the value")
            .hint("it may not exceed the parent's"),
        Some(Errno::EINVAL | Errno::ERANGE) => {
            error.on(write.file.clone()).because("the kernel refuses the value")
        }
        _ => error,
    }
}
