//! What is done to a cgroup that is there, step by step, for `--explain`.

use crate::group::Cgroup;
use crate::procs::describe_pids;
use crate::step::Act;
use drydock_core::{Ctx, Error, Result};
use std::path::PathBuf;
use std::time::{Duration, Instant};

impl Cgroup {
    fn all(&self) -> Vec<PathBuf> {
        self.dirs().map(PathBuf::from).collect()
    }

    /// [`freeze`](Self::freeze) as a step.
    ///
    /// # Errors
    /// As `freeze`.
    pub fn freeze_as_step(&self, ctx: &Ctx<'_>) -> Result<()> {
        ctx.perform(&Act::Freeze { dirs: self.all(), freeze: true }, |_| self.freeze())
    }

    /// [`thaw`](Self::thaw) as a step.
    ///
    /// # Errors
    /// As `thaw`.
    pub fn thaw_as_step(&self, ctx: &Ctx<'_>) -> Result<()> {
        ctx.perform(&Act::Freeze { dirs: self.all(), freeze: false }, |_| self.thaw())
    }

    /// [`kill`](Self::kill) as a step, and waiting until nobody is left, at most so long.
    ///
    /// # Errors
    /// As `kill`; naming those who do not die.
    pub fn kill_as_step(&self, timeout: Duration, ctx: &Ctx<'_>) -> Result<()> {
        ctx.perform(&Act::Kill { dirs: self.all() }, |_| self.kill())?;
        let end = Instant::now() + timeout;
        let mut pause = Duration::from_micros(100);
        loop {
            let pids = self.all_pids()?;
            if pids.is_empty() {
                return Ok(());
            }
            if Instant::now() >= end {
                let problem = format!("killed, but still there: {}", describe_pids(&pids));
                return Err(Error::failed(self.object(), problem)
                    .in_stage("cgroup")
                    .hint("a process in an uninterruptible wait (state D) dies only when its wait ends"));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }

    /// [`add`](Self::add) as a step.
    ///
    /// # Errors
    /// As `add`.
    pub fn add_as_step(&self, pid: i32, ctx: &Ctx<'_>) -> Result<()> {
        ctx.perform(&Act::Join { dirs: self.all(), pid }, |_| self.add(pid))
    }

    /// [`add_thread`](Self::add_thread) as a step.
    ///
    /// # Errors
    /// As `add_thread`.
    pub fn add_thread_as_step(&self, tid: i32, ctx: &Ctx<'_>) -> Result<()> {
        ctx.perform(&Act::Join { dirs: self.all(), pid: tid }, |_| self.add_thread(tid))
    }

    /// [`remove_if_empty`](Self::remove_if_empty), or with what is below it, as a step.
    ///
    /// # Errors
    /// As `remove_if_empty`.
    pub fn remove_as_step(&self, recursive: bool, ctx: &Ctx<'_>) -> Result<()> {
        ctx.perform(&Act::Delete { dirs: self.all(), recursive }, |_| {
            if recursive { self.remove_tree_if_empty() } else { self.remove_if_empty() }
        })
    }
}
