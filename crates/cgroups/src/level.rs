//! v1's memory pressure: an eventfd for each level of memory.pressure_level. Source: cgroup-v1/memory.rst ("Memory Pressure").

use crate::files;
use crate::group::Cgroup;
use drydock_core::Result;
use drydock_core::error::CallExt;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// The worst first: the kernel tells those who wait for a level of the worse ones, too.
const LEVELS: [&str; 3] = ["critical", "medium", "low"];

/// The file.
pub(crate) const FILE: &str = "memory.pressure_level";

/// How hard the kernel looks for memory in a cgroup, watched.
#[derive(Debug)]
pub(crate) struct LevelWatch {
    levels: Vec<Level>,
    /// Held open: closing it would end what is registered.
    _file: File,
}

#[derive(Debug)]
struct Level {
    name: &'static str,
    event: EventFd,
    seen: u64,
}

impl Cgroup {
    /// `None` where there is no such file (v2), or it may not be watched.
    pub(crate) fn watch_levels(&self) -> Result<Option<LevelWatch>> {
        let Some(path) = self.with_file(FILE) else { return Ok(None) };
        // Readable by nobody but root, as are the events of other files.
        let Ok(file) = File::open(&path) else { return Ok(None) };
        let mut levels = Vec::new();
        for name in LEVELS {
            let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
                .call(|| "eventfd2(0, EFD_CLOEXEC|EFD_NONBLOCK)")?;
            let line = format!("{} {} {name}", event.as_fd().as_raw_fd(), file.as_raw_fd());
            files::write(&path.with_file_name("cgroup.event_control"), &line)?;
            levels.push(Level { name, event, seen: 0 });
        }
        Ok(Some(LevelWatch { levels, _file: file }))
    }
}

impl LevelWatch {
    /// What to poll for reading.
    pub(crate) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.levels.iter().map(|level| level.event.as_fd())
    }

    /// The worst level that was reached since the last call: its name, how often, and how often in all. `there`: the
    /// cgroup's removal is told in the same way.
    pub(crate) fn news(&mut self, there: bool) -> Option<(&'static str, u64, u64)> {
        let mut worst = None;
        for level in &mut self.levels {
            let told = level.event.read().unwrap_or(0);
            level.seen += told;
            if told > 0 && there && worst.is_none() {
                worst = Some((level.name, told, level.seen));
            }
        }
        worst
    }
}
