//! Hearing of processes that run out of memory: v1 by eventfd (memory.oom_control), v2 by poll(2) of memory.events.

use crate::files;
use crate::group::Cgroup;
use crate::stats::parse_flat;
use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::PathBuf;

/// A cgroup's memory controller, watched. Source: cgroup-v1/memory.rst ("OOM Control"), cgroup-v2.rst ("memory.events").
#[derive(Debug)]
pub struct OomWatch {
    fd: Signal,
    /// memory.events or memory.oom_control.
    path: PathBuf,
    /// v2: kills counted so far.
    kills: u64,
}

#[derive(Debug)]
enum Signal {
    /// v1.
    Event(EventFd),
    /// v2.
    Poll(File),
}

impl Cgroup {
    /// Watches for the OOM killer in this cgroup; `None` without a memory controller.
    ///
    /// # Errors
    /// open(2)'s, and write(2)'s to cgroup.event_control.
    pub fn watch_oom(&self) -> Result<Option<OomWatch>> {
        let (path, v1) = match (self.with_file("memory.oom_control"), self.with_file("memory.events")) {
            (Some(path), _) => (path, true),
            (None, Some(path)) => (path, false),
            (None, None) => return Ok(None),
        };
        let file = File::open(&path).call(|| format!("open({path:?})"))?;
        let fd = if v1 {
            let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
                .call(|| "eventfd2(0, EFD_CLOEXEC|EFD_NONBLOCK)")?;
            let line = format!("{} {}", event.as_fd().as_raw_fd(), file.as_raw_fd());
            files::write(&path.with_file_name("cgroup.event_control"), &line)?;
            Signal::Event(event)
        } else {
            Signal::Poll(file)
        };
        let mut watch = OomWatch { fd, path, kills: 0 };
        if !v1 {
            watch.events()?;
        }
        Ok(Some(watch))
    }
}

impl OomWatch {
    /// The descriptor to poll, and for what.
    pub fn poll_for(&self) -> (BorrowedFd<'_>, PollFlags) {
        match &self.fd {
            Signal::Event(event) => (event.as_fd(), PollFlags::POLLIN),
            Signal::Poll(file) => (file.as_fd(), PollFlags::POLLPRI),
        }
    }

    /// After the descriptor was ready, or at any time: how often memory ran out since the last call. v2 counts processes
    /// that were killed; v1 tells before it kills.
    ///
    /// # Errors
    /// read(2)'s.
    pub fn events(&mut self) -> Result<u64> {
        match &self.fd {
            Signal::Event(event) => match event.read() {
                // The removal of the cgroup is told in the same way, once.
                Ok(told) => Ok(told.saturating_sub(u64::from(!self.path.exists()))),
                Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
                Err(e) => Err(Error::call("read(eventfd)", e)),
            },
            Signal::Poll(file) => {
                // poll(2) remembers what was last read through its own descriptor.
                let _ = nix::sys::uio::pread(file, &mut [0u8; 512], 0);
                let now = self.count().unwrap_or(self.kills);
                let new = now.saturating_sub(self.kills);
                self.kills = now;
                Ok(new)
            }
        }
    }

    fn count(&self) -> Option<u64> {
        parse_flat(&files::read_if_there(&self.path)?).get("oom_kill").copied()
    }
}
