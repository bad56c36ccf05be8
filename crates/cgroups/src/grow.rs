//! Making a cgroup's directories, with the controllers on the way.

use crate::group::Cgroup;
use crate::plan::{Branch, Plan};
use crate::procs::{describe_pids, pids_in};
use crate::request::IfExists;
use crate::step::Act;
use crate::{SHARED_PARENT, files, owned};
use drydock_core::error::CallExt;
use drydock_core::{Ctx, Error, Result};
use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::mkdir;
use std::path::{Path, PathBuf};

/// Another process may remove the shared parent, when its last cgroup goes, between our mkdir of it and of the leaf.
const RACE_TRIES: u32 = 8;

impl Plan {
    /// Makes the cgroup in one hierarchy, again if the shared parent vanished under our hands.
    pub(crate) fn grow(
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
                    owned::mark_parent(dir);
                }
                Ok(())
            }
            Act::Make { dir, mark, .. } => {
                let reuses = !matches!(self.request.if_exists, IfExists::Fail | IfExists::Replace);
                let reuse = reuses || made.contains(dir);
                let existed = reuse && nix::sys::stat::lstat(dir).is_ok();
                if existed {
                    return Ok(());
                }
                ctx.perform(act, |_| make_dir(dir, reuse))?;
                made.push(dir.clone());
                if *mark {
                    owned::mark_own(dir);
                }
                Ok(())
            }
            Act::Inherit { dir, pass_on } => inherit(ctx, act, dir, *pass_on),
            Act::Enable { dir, controllers, required } => {
                self.enable(ctx, dir, controllers, required, lacking)
            }
            Act::Leaf { dir } => ctx.perform(act, |_| make_leaf(dir)),
            Act::Adopt { dir, from } => ctx.perform(act, |_| adopt(dir, from)),
            // Done elsewhere: these are no steps of making the directories.
            Act::Kill { .. }
            | Act::Freeze { .. }
            | Act::Join { .. }
            | Act::Disable { .. }
            | Act::Delete { .. }
            | Act::Remove { .. }
            | Act::Delegate { .. }
            | Act::Write(_)
            | Act::Gate(_) => Ok(()),
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
                    e.hint("permission denied to all but its owner: run as root, or have the parent cgroup delegated to you")
                }
                Some(Errno::EROFS) => e.hint("the cgroup file system is mounted read-only here"),
                Some(Errno::EEXIST) => e.hint("use it with --reuse, or make it anew with --replace"),
                _ => e,
            })
        }
    }
}

/// A v1 cpuset begins empty, and nothing can join it (ENOSPC). One that has values keeps them.
fn inherit(ctx: &Ctx, act: &Act, dir: &Path, pass_on: bool) -> Result<()> {
    let Some(parent) = dir.parent() else { return Ok(()) };
    let mut new = false;
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if files::read(&dir.join(file))?.trim().is_empty() {
            let value = files::read(&parent.join(file))?;
            ctx.perform(act, |_| files::write(&dir.join(file), value.trim()))?;
            new = true;
        }
    }
    if new && pass_on {
        // From here on the kernel itself copies, which takes a fifth of the time. Best effort.
        let _ = files::write(&dir.join("cgroup.clone_children"), "1");
    }
    Ok(())
}

/// Moves the processes of a v2 cgroup into its child `leaf`.
pub(crate) fn make_leaf(dir: &Path) -> Result<()> {
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

/// Moves the processes of `from` and below into `dir`, too, until none is missing: they may fork meanwhile.
fn adopt(dir: &Path, from: &Path) -> Result<()> {
    for _ in 0..RACE_TRIES * 8 {
        let inside = pids_in(dir)?;
        let all = Cgroup::at([from.to_path_buf()])?.all_pids()?;
        let mut missing = all.into_iter().filter(|pid| inside.binary_search(pid).is_err()).peekable();
        if missing.peek().is_none() {
            return Ok(());
        }
        for pid in missing {
            match files::write(&dir.join("cgroup.procs"), &pid.to_string()) {
                Err(e) if e.errno() != Some(Errno::ESRCH as i32) => return Err(e),
                _ => {}
            }
        }
    }
    Err(Error::failed(dir.display().to_string(), "its processes fork faster than they can be moved in"))
}

pub(crate) fn explain_enable(error: Error, dir: &Path) -> Error {
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
