//! What happens in a cgroup, as it happens: memory and process events, the last process leaving, pressure triggers.
//! v2 and v1's pids.events tell by poll(2); what v1 cannot tell (an empty cgroup) is looked at now and then.
//! Source: the kernel's admin-guide/cgroup-v2 (cgroup.events, memory.events, pids.events), accounting/psi.

use crate::group::Cgroup;
use crate::level::LevelWatch;
use crate::oom::OomWatch;
use crate::psi::Trigger;
use crate::stats::parse_flat;
use drydock_core::Result;
use drydock_core::error::CallExt;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How often is looked at what cannot wake us.
const LOOK: Duration = Duration::from_millis(200);

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A counter of memory.events or pids.events went up; on v1 also memory.pressure_level was reached, counted from here.
    Counter {
        /// `memory.events`.
        file: String,
        /// `oom_kill`.
        key: String,
        /// By how much.
        by: u64,
        /// To what.
        now: u64,
    },
    /// The last process of the cgroup and those below has gone, or a first one has come.
    Populated {
        /// Whether there are processes.
        populated: bool,
    },
    /// It has been frozen, or let go.
    Frozen {
        /// Whether it is frozen.
        frozen: bool,
    },
    /// A pressure trigger fired.
    Pressure {
        /// Which.
        trigger: Trigger,
    },
    /// The cgroup is gone: nothing more will come.
    Removed,
}

/// Watches a cgroup.
pub struct Watch {
    cgroup: Cgroup,
    files: Vec<Flat>,
    /// v1's memory controller tells by an eventfd.
    oom: Option<OomWatch>,
    /// And so of memory pressure.
    levels: Option<LevelWatch>,
    triggers: Vec<(Trigger, File)>,
    populated: bool,
    frozen: Option<bool>,
}

/// A file of `key value` lines that wakes who polls it.
struct Flat {
    name: String,
    file: File,
    last: BTreeMap<String, u64>,
}

impl Cgroup {
    /// Begins to watch; what happened before is not told.
    ///
    /// # Errors
    /// open(2)'s; those of [`Trigger::open`].
    pub fn watch(&self, triggers: Vec<Trigger>) -> Result<Watch> {
        let mut files = Vec::new();
        for name in ["memory.events", "pids.events", "cgroup.events"] {
            let Some(path) = self.with_file(name) else { continue };
            let file = File::open(&path).call(|| format!("open({path:?})"))?;
            let mut flat = Flat { name: name.to_string(), file, last: BTreeMap::new() };
            flat.last = flat.read();
            files.push(flat);
        }
        let v1 = self.with_file("memory.oom_control").is_some();
        let oom = if v1 { self.watch_oom()? } else { None };
        let levels = if v1 { self.watch_levels()? } else { None };
        let triggers = triggers.into_iter().map(|t| t.open(self)).collect::<Result<Vec<_>>>()?;
        let (populated, frozen) = (self.populated(), self.is_frozen());
        Ok(Watch { cgroup: self.clone(), files, oom, levels, triggers, populated, frozen })
    }

    /// Whether any process is in it or below it.
    pub fn populated(&self) -> bool {
        self.all_pids().is_ok_and(|pids| !pids.is_empty())
    }
}

impl Flat {
    fn read(&self) -> BTreeMap<String, u64> {
        // poll(2) remembers what was last read through its own descriptor.
        let mut buffer = [0u8; 1024];
        let read = nix::sys::uio::pread(&self.file, &mut buffer, 0).unwrap_or(0);
        parse_flat(&String::from_utf8_lossy(buffer.get(..read).unwrap_or_default()))
    }

    /// Counters that have gone up; cgroup.events holds states, not counters.
    fn news(&mut self) -> Vec<Event> {
        let now = self.read();
        let counts = self.name != "cgroup.events";
        let grown = now.iter().filter_map(|(key, value)| {
            let by = value.checked_sub(self.last.get(key).copied().unwrap_or(0)).filter(|by| *by > 0)?;
            Some(Event::Counter { file: self.name.clone(), key: key.clone(), by, now: *value })
        });
        let events = if counts { grown.collect() } else { Vec::new() };
        self.last = now;
        events
    }
}

impl Watch {
    /// Waits for something to happen, until `end` if there is one; an empty list when that is over, or a signal came.
    ///
    /// # Errors
    /// poll(2)'s.
    pub fn wait(&mut self, end: Option<Instant>) -> Result<Vec<Event>> {
        loop {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            let pause = left.unwrap_or(LOOK).min(LOOK);
            let fired = match self.poll(pause) {
                Err(Errno::EINTR) => return Ok(Vec::new()),
                other => other.call(|| "poll(cgroup files)")?,
            };
            let mut events = self.counters()?;
            events.extend(fired.into_iter().map(|trigger| Event::Pressure { trigger }));
            events.extend(self.states());
            if !self.there() {
                events.push(Event::Removed);
            }
            if !events.is_empty() || left.is_some_and(|left| left.is_zero()) {
                return Ok(events);
            }
        }
    }

    /// The triggers that fired meanwhile.
    fn poll(&self, pause: Duration) -> nix::Result<Vec<Trigger>> {
        let watched =
            self.files.iter().map(|f| f.file.as_fd()).chain(self.triggers.iter().map(|(_, f)| f.as_fd()));
        let mut fds: Vec<PollFd> = watched.map(|fd| PollFd::new(fd, PollFlags::POLLPRI)).collect();
        if let Some(oom) = &self.oom {
            let (fd, flags) = oom.poll_for();
            fds.push(PollFd::new(fd, flags));
        }
        for fd in self.levels.iter().flat_map(LevelWatch::fds) {
            fds.push(PollFd::new(fd, PollFlags::POLLIN));
        }
        let timeout = PollTimeout::try_from(pause.as_millis()).unwrap_or(PollTimeout::ZERO);
        poll(&mut fds, timeout)?;
        let ready =
            |fd: Option<&PollFd>, flag| fd.and_then(PollFd::revents).is_some_and(|r| r.contains(flag));
        let from = self.files.len();
        let fired = self.triggers.iter().enumerate().filter(|(i, _)| {
            let fd = fds.get(from + i);
            ready(fd, PollFlags::POLLPRI) && !ready(fd, PollFlags::POLLERR)
        });
        Ok(fired.map(|(_, (trigger, _))| trigger.clone()).collect())
    }

    fn counters(&mut self) -> Result<Vec<Event>> {
        let mut events: Vec<Event> = self.files.iter_mut().flat_map(Flat::news).collect();
        if let Some(oom) = &mut self.oom {
            let by = oom.events()?;
            if by > 0 {
                let now = self.cgroup.oom_kills().unwrap_or(by);
                let counter = |file: &str, key: &str| (file.to_string(), key.to_string());
                let (file, key) = counter("memory.oom_control", "oom");
                events.push(Event::Counter { file, key, by, now });
            }
        }
        let there = self.there();
        if let Some((level, by, now)) = self.levels.as_mut().and_then(|levels| levels.news(there)) {
            let (file, key) = (crate::level::FILE.to_string(), level.to_string());
            events.push(Event::Counter { file, key, by, now });
        }
        Ok(events)
    }

    fn states(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let (populated, frozen) = (self.cgroup.populated(), self.cgroup.is_frozen());
        if populated != self.populated {
            events.push(Event::Populated { populated });
        }
        if let (Some(frozen), true) = (frozen, frozen != self.frozen) {
            events.push(Event::Frozen { frozen });
        }
        (self.populated, self.frozen) = (populated, frozen);
        events
    }

    fn there(&self) -> bool {
        self.cgroup.dirs().any(std::path::Path::is_dir)
    }

    /// The triggers in force.
    pub fn triggers(&self) -> impl Iterator<Item = &Trigger> {
        self.triggers.iter().map(|(trigger, _)| trigger)
    }
}
