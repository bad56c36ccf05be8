//! Carrying out a plan.

use crate::effect::{self, Effect};
use crate::files;
use crate::group::Cgroup;
use crate::plan::{MemoryCheck, Plan, Report, Setting, Write};
use crate::procs::describe_pids;
use crate::request::IfExists;
use crate::step::Act;
use drydock_core::text::escape;
use drydock_core::{Ctx, Error, Kind, Result};
use nix::errno::Errno;
use std::path::PathBuf;
use std::time::Duration;

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
        self.check.as_ref().map_or(Ok(()), MemoryCheck::run)?;
        self.write_all(ctx, &mut report)?;
        if let Some(gate) = &self.gate {
            let refused = ctx.perform(&Act::Gate(gate.clone()), |_| gate.apply());
            match refused {
                Ok(refused) => report.lacking.extend(refused),
                Err(e) if self.request.lenient => report.lacking.push(e.to_string()),
                Err(e) => return Err(e),
            }
        }
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
                    .with_kind(drydock_core::Kind::BadInput)
                    .in_stage("cgroup")
                    .hint("make it with `cgroupctl create`"));
            }
            (IfExists::Require, Some(_)) => {
                let adopted = self.branches.iter().filter(|b| b.adopt.is_some()).map(|b| b.leaf.clone());
                return Ok(adopted.filter(|d| missing.contains(d)).collect());
            }
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
            let problem = format!("container's cgroup is not empty: {}", describe_pids(&pids));
            return Err(Error::failed(object(), problem)
                .in_stage("cgroup")
                .hint("another container has the same cgroup path"));
        }
        if cgroup.is_frozen() == Some(true) {
            return Err(Error::failed(object(), "container's cgroup unexpectedly frozen").in_stage("cgroup"));
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
            let rounded = match effect::of(&write.file, &write.value, &kernel, page_size()) {
                Effect::None => return Err(no_effect(write, &kernel)),
                effect => effect == Effect::Rounded,
            };
            Ok(Setting { file: write.file.clone(), asked: write.value.clone(), kernel, rounded })
        })
    };
    match (once(write), &write.instead) {
        (Err(e), Some((file, value))) if e.errno() == Some(Errno::ENOENT as i32) => {
            once(&Write { file: file.clone(), value: value.clone(), ..write.clone() })
        }
        (result, _) => result,
    }
}

fn no_effect(write: &Write, kernel: &str) -> Error {
    let shown = drydock_core::text::shorten(&escape(kernel), 80).to_string();
    Error::failed(
        write.file.clone(),
        format!("the kernel took '{}' but has '{shown}': no effect", escape(&write.value)),
    )
    .hint("another process may be changing the same cgroup")
}

fn page_size() -> u64 {
    rustix::param::page_size() as u64
}

impl MemoryCheck {
    fn run(&self) -> Result<()> {
        let usage = files::read_if_there(&self.dir.join("memory.current"));
        let Some(usage) = usage.and_then(|t| t.trim().parse::<u64>().ok()) else { return Ok(()) };
        let too_low = self.limits.iter().find(|(_, limit)| *limit <= usage);
        too_low.map_or(Ok(()), |(what, limit)| {
            let problem = format!("rejecting {what} limit of {limit} bytes: {usage} are in use");
            Err(Error::failed("update", problem)
                .in_stage("cgroup")
                .hint("without the check (checkBeforeUpdate) the kernel would reclaim, and kill if it must"))
        })
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
        Some(Errno::ENOENT) if write.raw && write.dir.exists() => error
            .on(write.file.clone())
            .because("no such file in this cgroup (allowed: those that `cgroupctl show NAME --all` lists)")
            .with_kind(Kind::BadInput),
        Some(Errno::ENOENT) => error.on(write.file.clone()).because(no_such_file(write)),
        Some(Errno::EBUSY) if write.file.starts_with("memory.") => {
            error.on(write.file.clone()).because("more than that is in use and cannot be reclaimed")
        }
        Some(Errno::ENODEV) if !write.dir.exists() => {
            error.on(write.file.clone()).because("the cgroup has been removed")
        }
        Some(Errno::ENODEV) if write.file == "rdma.max" => {
            let hint = "rdma.current names the devices that there are";
            error.on(write.file.clone()).because("no such device").hint(hint).with_kind(Kind::BadInput)
        }
        Some(Errno::ENODEV) => {
            error.on(write.file.clone()).because("no such block device").with_kind(Kind::BadInput)
        }
        Some(Errno::EOPNOTSUPP) if write.file.contains("weight") => {
            error.on(write.file.clone()).because("this disk is not scheduled by weights").hint(
                "echo bfq > /sys/block/DISK/queue/scheduler, or on v2 io.cost.qos (CONFIG_BLK_CGROUP_IOCOST)",
            )
        }
        Some(Errno::EROFS) => error
            .on(write.file.clone())
            .because("the cgroup file system is mounted read-only here")
            .hint("mount -o remount,rw, or do it outside of the container"),
        Some(Errno::EACCES | Errno::EPERM) => {
            error.hint("run as root: limits of a delegated cgroup are its parent's to set")
        }
        Some(Errno::EINVAL) if matches!(write.file.as_str(), "cpu.weight" | "cpu.shares") => error
            .on(write.file.clone())
            .because("the kernel refuses the value")
            .hint("while cpu.idle is 1 there is no weight"),
        Some(Errno::EINVAL) if write.file == "rdma.max" => error
            .on(write.file.clone())
            .because("the kernel refuses the value")
            .hint("rdma.current names the devices that there are"),
        Some(Errno::EINVAL) if write.file == "misc.max" => error
            .on(write.file.clone())
            .because("the kernel refuses the value")
            .hint("misc.capacity in the root cgroup names the resources that there are"),
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
