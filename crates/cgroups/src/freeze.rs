//! Freezing a cgroup and letting it go on.

use crate::files;
use crate::group::{Cgroup, subtree};
use crate::kill::permission;
use drydock_core::{Error, Result};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const TIMEOUT: Duration = Duration::from_secs(5);

/// The freezers that a cgroup has: on hybrid both.
struct Freezers {
    v1: Option<PathBuf>,
    v2: Option<PathBuf>,
}

impl Cgroup {
    /// Stops every process in this cgroup and below it, and waits until the kernel says that all are stopped. If that
    /// does not come about, all go on.
    ///
    /// # Errors
    /// For the root of a hierarchy, our own cgroup, when there is no freezer, or when it takes more than 5 s.
    pub fn freeze(&self) -> Result<()> {
        self.refuse_roots("freeze")?;
        self.refuse_self(&self.all_pids()?, "freeze")?;
        let freezers = self.freezers()?;
        let frozen = freezers.freeze().and_then(|done| if done { Ok(()) } else { Err(self.late("frozen")) });
        if frozen.is_err() {
            // The error that brought us here is the one to tell.
            let _ = freezers.write(false);
        }
        frozen
    }

    /// Lets the processes go on.
    ///
    /// # Errors
    /// As [`freeze`](Self::freeze).
    pub fn thaw(&self) -> Result<()> {
        self.refuse_roots("thaw")?;
        let freezers = self.freezers()?;
        freezers.write(false)?;
        if wait(|| Ok(freezers.thawed()))? { Ok(()) } else { Err(self.late("thawed")) }
    }

    /// Whether it is frozen; `None` without a freezer.
    pub fn is_frozen(&self) -> Option<bool> {
        let v1 = self.read("freezer.state").map(|s| s.trim() == "FROZEN");
        let events = self.read("cgroup.events").unwrap_or_default();
        let v2 = events.lines().find_map(|l| l.strip_prefix("frozen ")).map(|n| n.trim() == "1");
        // On hybrid the v1 freezer may hold what v2 does not.
        v1.into_iter().chain(v2).reduce(|a, b| a || b)
    }

    /// Lets processes go on that v1's freezer holds: unlike v2's, it holds back even SIGKILL.
    ///
    /// # Errors
    /// write(2)'s.
    pub fn let_die(&self) -> Result<()> {
        match self.with_file("freezer.state") {
            Some(path) if !says(&path, "THAWED") => files::write(&path, "THAWED").map_err(permission),
            _ => Ok(()),
        }
    }

    fn freezers(&self) -> Result<Freezers> {
        let v2 = self.entries().iter().find(|d| d.v2).map(|d| d.path.join("cgroup.freeze"));
        let freezers = Freezers { v1: self.with_file("freezer.state"), v2: v2.filter(|p| p.exists()) };
        if freezers.v1.is_none() && freezers.v2.is_none() {
            return Err(Error::failed(self.object(), "has no freezer")
                .in_stage("cgroup")
                .hint("mount the v1 freezer hierarchy, or use cgroup v2 (Linux 5.2 and newer)"));
        }
        Ok(freezers)
    }

    fn late(&self, wanted: &str) -> Error {
        Error::failed(self.object(), format!("not {wanted} after 5 s"))
            .in_stage("cgroup")
            .hint("a process is in an uninterruptible wait, or a cgroup above is frozen")
    }
}

impl Freezers {
    /// Whether all are frozen in time. v1 can stay FREEZING over a process that was born meanwhile: it is asked again,
    /// and now and then let go for a moment.
    fn freeze(&self) -> Result<bool> {
        self.write(true)?;
        let mut tries = 0u32;
        wait(|| {
            let done = self.frozen();
            if let (false, Some(v1)) = (done, &self.v1) {
                tries = tries.wrapping_add(1);
                if tries.is_multiple_of(50) {
                    files::write(v1, "THAWED").map_err(permission)?;
                }
                files::write(v1, "FROZEN").map_err(permission)?;
            }
            Ok(done)
        })
    }

    fn write(&self, freeze: bool) -> Result<()> {
        if let Some(path) = &self.v2 {
            files::write(path, if freeze { "1" } else { "0" }).map_err(permission)?;
        }
        if let Some(path) = &self.v1 {
            files::write(path, if freeze { "FROZEN" } else { "THAWED" }).map_err(permission)?;
        }
        Ok(())
    }

    /// v1's freezer stops the processes in its own way, which v2 does not count as frozen: where it is there, it is the
    /// one that counts.
    fn frozen(&self) -> bool {
        match (&self.v1, &self.v2) {
            (Some(v1), _) => says(v1, "FROZEN"),
            (None, Some(v2)) => v2_says(v2, "frozen 1"),
            (None, None) => false,
        }
    }

    fn thawed(&self) -> bool {
        self.v1.as_ref().is_none_or(|p| says(p, "THAWED"))
            && self.v2.as_ref().is_none_or(|p| v2_says(p, "frozen 0"))
    }
}

/// Lets go this v1 freezer and all below it. Best effort: who is still held is seen by who waits for their end.
pub(crate) fn thaw_below(freezer: &Path) {
    let dirs = freezer.parent().map(subtree).unwrap_or_default();
    for state in dirs.iter().map(|dir| dir.join("freezer.state")).filter(|state| !says(state, "THAWED")) {
        let _ = files::write(&state, "THAWED");
    }
}

/// Whether a v1 freezer's state is this one, or is gone.
pub(crate) fn says(freezer: &Path, wanted: &str) -> bool {
    files::read_if_there(freezer).is_none_or(|s| s.trim() == wanted)
}

/// Whether the cgroup.events beside a `cgroup.freeze` has this line, or is gone.
fn v2_says(freeze: &Path, wanted: &str) -> bool {
    files::read_if_there(&freeze.with_file_name("cgroup.events"))
        .is_none_or(|events| events.lines().any(|l| l == wanted))
}

/// Asks until it is done, or for 5 s.
fn wait(mut done: impl FnMut() -> Result<bool>) -> Result<bool> {
    let end = Instant::now() + TIMEOUT;
    let mut pause = Duration::from_micros(100);
    while !done()? {
        if Instant::now() >= end {
            return Ok(false);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
    Ok(true)
}
