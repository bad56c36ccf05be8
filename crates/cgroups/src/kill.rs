//! Killing and removing a cgroup.

use crate::files;
use crate::freeze;
use crate::group::{Cgroup, subtree};
use crate::owned::prune;
use crate::procs::describe_pids;
use crate::step::Act;
use drydock_core::error::CallExt;
use drydock_core::sys::signal::pidfd_kill;
use drydock_core::text::escape;
use drydock_core::{Ctx, Error, Result};
use nix::errno::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const SIGKILL: i32 = 9;
/// A fork storm without a freezer can outrun one pass; it cannot outrun this many.
const KILL_PASSES: u32 = 200;

impl Cgroup {
    /// Kills every process in this cgroup and below it: `cgroup.kill` where there is one, else freeze, SIGKILL, thaw,
    /// until nobody is left. Does not wait for v2's dying processes to be gone: [`remove`](Self::remove) does.
    ///
    /// # Errors
    /// For the root of a hierarchy, for a cgroup that the caller itself is in, and when it cannot signal.
    pub fn kill(&self) -> Result<()> {
        self.refuse_roots("kill")?;
        let pids = self.all_pids()?;
        self.refuse_self(&pids, "kill")?;
        for dir in self.entries().iter().filter(|d| d.v2) {
            match files::write(&dir.path.join("cgroup.kill"), "1") {
                Err(e) if !gone(&e) => return Err(permission(e.in_stage("cgroup"))),
                _ => {}
            }
        }
        if self.entries().iter().all(|d| d.v2) && self.with_file("cgroup.kill").is_some() {
            return Ok(());
        }
        self.kill_one_by_one()
    }

    /// Kills what is in it and below, waits, and removes the directories, children first; then the empty cgroups above
    /// it up to and including `drydock`, if it stands below one of that name. Nothing to remove is not an error.
    ///
    /// # Errors
    /// For the root of a hierarchy; when processes are still there after `timeout`: they are named.
    pub fn remove(&self, timeout: Duration) -> Result<()> {
        self.remove_keeping_parents(timeout)?;
        self.given().iter().for_each(|dir| prune(dir));
        Ok(())
    }

    /// The same, but leaves the cgroups above it.
    ///
    /// # Errors
    /// As [`remove`](Self::remove).
    pub fn remove_keeping_parents(&self, timeout: Duration) -> Result<()> {
        self.refuse_roots("remove")?;
        // The usual case: empty, without children.
        if self.remove_empty().is_ok() {
            return Ok(());
        }
        let end = Instant::now() + timeout;
        let mut pause = Duration::from_micros(100);
        loop {
            let pids = self.all_pids()?;
            if !pids.is_empty() {
                self.kill()?;
            }
            let error = match self.remove_tree() {
                Ok(()) => return Ok(()),
                Err(error) if error.errno() == Some(Errno::EBUSY as i32) => error,
                Err(error) => return Err(error),
            };
            if Instant::now() >= end {
                return Err(self.busy(error));
            }
            // Killed processes need a moment to be gone; the kernel offers no call that waits for an empty v1 cgroup.
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }

    /// [`remove`](Self::remove) step by step, for `--explain`: kill, then remove.
    ///
    /// # Errors
    /// As [`remove`](Self::remove).
    pub fn clean_up(&self, ctx: &Ctx, timeout: Duration) -> Result<()> {
        self.refuse_roots("remove")?;
        if !self.all_pids()?.is_empty() {
            ctx.perform(&Act::Kill { dirs: self.given().to_vec() }, |_| self.kill())?;
        }
        ctx.perform(&Act::Remove { dirs: self.given().to_vec() }, |_| self.remove(timeout))
    }

    /// Removes the cgroup only if it has neither processes nor children.
    ///
    /// # Errors
    /// EBUSY, naming the processes or children in the way.
    pub fn remove_if_empty(&self) -> Result<()> {
        self.refuse_roots("remove")?;
        // Looked at first: with several hierarchies a half-removed cgroup would be the worst answer.
        let pids = self.all_pids()?;
        let children: Vec<PathBuf> =
            self.entries().iter().flat_map(|d| subtree(&d.path).into_iter().skip(1)).collect();
        if pids.is_empty() && children.is_empty() {
            self.remove_empty().map_err(|e| self.busy(e))?;
            self.given().iter().for_each(|dir| prune(dir));
            return Ok(());
        }
        let object = self.object();
        if !pids.is_empty() {
            return Err(Error::failed(object, format!("busy: {}", describe_pids(&pids)))
                .in_stage("cgroup")
                .hint("`cgroupctl cleanup` kills them first"));
        }
        let names: BTreeSet<String> =
            children.iter().filter_map(|c| c.file_name()).map(|n| escape(&n.to_string_lossy())).collect();
        let names: Vec<String> = names.into_iter().take(5).collect();
        Err(Error::failed(object, format!("has children: {}", names.join(", ")))
            .in_stage("cgroup")
            .hint("`cgroupctl delete -r` removes them too"))
    }

    /// Removes the cgroup and the cgroups below it if none has processes.
    ///
    /// # Errors
    /// Naming the processes in the way.
    pub fn remove_tree_if_empty(&self) -> Result<()> {
        self.refuse_roots("remove")?;
        let pids = self.all_pids()?;
        if !pids.is_empty() {
            return Err(Error::failed(self.object(), format!("busy: {}", describe_pids(&pids)))
                .in_stage("cgroup")
                .hint("`cgroupctl cleanup` kills them first"));
        }
        self.remove_tree().map_err(|e| self.busy(e))?;
        self.given().iter().for_each(|dir| prune(dir));
        Ok(())
    }

    pub(crate) fn object(&self) -> String {
        self.given().first().map_or("cgroup".to_string(), |d| escape(&d.to_string_lossy()))
    }

    fn busy(&self, error: Error) -> Error {
        if error.errno() != Some(Errno::EBUSY as i32) {
            return error;
        }
        let pids = self.all_pids().unwrap_or_default();
        error
            .in_stage("cgroup")
            .on(self.object())
            .because(format!("busy: {}", describe_pids(&pids)))
            .hint("a process in an uninterruptible wait (state D) dies only when its wait ends")
    }

    fn remove_empty(&self) -> Result<()> {
        self.entries().iter().try_for_each(|d| rmdir(&d.path))
    }

    fn remove_tree(&self) -> Result<()> {
        self.entries().iter().try_for_each(|d| subtree(&d.path).iter().rev().try_for_each(|p| rmdir(p)))
    }

    /// The root of a hierarchy is nobody's to kill or remove. Its parent directory is on another file system.
    pub(crate) fn refuse_roots(&self, verb: &str) -> Result<()> {
        for dir in self.entries() {
            let device = |p: &Path| std::fs::symlink_metadata(p).map(|m| m.dev()).ok();
            let above = dir.path.parent().and_then(device);
            if let Some(own) = device(&dir.path).filter(|own| above != Some(*own)) {
                let problem = format!("will not {verb} the root of a hierarchy (device {own})");
                return Err(Error::bad_input(escape(&dir.path.to_string_lossy()), problem));
            }
        }
        Ok(())
    }

    pub(crate) fn refuse_self(&self, pids: &[i32], verb: &str) -> Result<()> {
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        if !pids.contains(&own) {
            return Ok(());
        }
        let problem = format!("will not {verb} the cgroup that this process is in itself");
        Err(Error::failed(self.object(), problem).in_stage("cgroup").hint("do it from outside of the cgroup"))
    }

    /// v1: nobody can fork while frozen, so one pass sees all; without a freezer, passes until nobody is left.
    fn kill_one_by_one(&self) -> Result<()> {
        let freezer = self.with_file("freezer.state");
        for pass in 0..KILL_PASSES {
            let pids = self.all_pids()?;
            if pids.is_empty() {
                break;
            }
            if let Some(freezer) = &freezer {
                // Best effort: without it the passes still converge.
                let _ = files::write(freezer, "FROZEN");
                let end = Instant::now() + Duration::from_millis(200);
                while !freeze::says(freezer, "FROZEN") && Instant::now() < end {
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
            let killed = self.signal_all();
            if let Some(freezer) = &freezer {
                // Those below may be frozen by themselves: v1's freezer holds back even SIGKILL.
                freeze::thaw_below(freezer);
            }
            killed?;
            if pass > 2 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    }

    /// SIGKILL to each, by pidfds that are opened before membership is looked at again: a pid that was reused in
    /// between names a process outside and is left alone.
    fn signal_all(&self) -> Result<()> {
        let open = |pid: i32| -> Option<(i32, OwnedFd)> {
            let fd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
            Some((pid, fd))
        };
        // In portions, so that thousands of processes do not need thousands of descriptors.
        for portion in self.all_pids()?.chunks(256) {
            let opened: Vec<(i32, OwnedFd)> = portion.iter().copied().filter_map(open).collect();
            let inside: BTreeSet<i32> = self.all_pids()?.into_iter().collect();
            for (pid, fd) in opened.into_iter().filter(|(pid, _)| inside.contains(pid)) {
                match pidfd_kill(fd.as_fd(), SIGKILL) {
                    Err(e) if e.raw_os_error() != Some(Errno::ESRCH as i32) => {
                        return Err(
                            Error::call(format!("pidfd_send_signal({pid}, SIGKILL)"), e).in_stage("cgroup")
                        );
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

fn gone(error: &Error) -> bool {
    matches!(error.errno().map(Errno::from_raw), Some(Errno::ENOENT | Errno::ENODEV))
}

pub(crate) fn permission(error: Error) -> Error {
    let error = error.in_stage("cgroup");
    match error.errno().map(Errno::from_raw) {
        Some(Errno::EACCES | Errno::EPERM) => {
            error.hint("run as root, or as the user to whom the cgroup is delegated")
        }
        Some(Errno::EROFS) => error
            .because("the cgroup file system is mounted read-only here")
            .hint("mount -o remount,rw it, or do this outside of the container"),
        _ => error,
    }
}

fn rmdir(dir: &Path) -> Result<()> {
    match std::fs::remove_dir(dir).call(|| format!("rmdir({dir:?})")) {
        Err(e) if gone(&e) => Ok(()),
        other => other.map_err(|e| permission(e.in_stage("cgroup"))),
    }
}
