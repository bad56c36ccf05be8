//! The notify descriptor's way from the filtered process to its parent.
//!
//! Between installing the filter and the exec no system call is safe: the filter may kill it, or ask the agent, who does
//! not have the descriptor yet. So the process makes none: it writes the descriptor's number into memory that it shares
//! with its parent, and spins until the parent has taken a copy by pidfd_getfd(2) and says so in the same place.
//! Close-on-exec then closes the process's own.

use drydock_core::error::CallExt;
use drydock_core::sys::shared::Word;
use drydock_core::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{DumpableBehavior, PidfdGetfdFlags, pidfd_getfd, set_dumpable_behavior};
use rustix::thread::CapabilitySet;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// The parent has its copy.
const TAKEN: u32 = 1;
/// Numbers from here on are a descriptor and this.
const GIVEN: u32 = 2;
/// Half a minute at least: nobody takes it, the parent must be dead.
const PATIENCE: u64 = 1 << 33;

/// What parent and child agree on before the clone.
#[derive(Debug)]
pub struct Handover {
    word: Word,
    /// The parent has no CAP_SYS_PTRACE: it can only look into a process that lets its user do so.
    unprivileged: bool,
}

impl Handover {
    /// To be made by the parent, before the clone.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new() -> Result<Self> {
        let word = Word::new().call(|| "mmap(MAP_SHARED|MAP_ANONYMOUS)")?;
        let caps = rustix::thread::capabilities(None).call(|| "capget()")?;
        Ok(Self { word, unprivileged: !caps.effective.contains(CapabilitySet::SYS_PTRACE) })
    }

    /// In the child, as the last thing before the filter: an unprivileged parent may look into it from here until it
    /// has its copy.
    pub(crate) fn open(&self) -> Result<()> {
        if self.unprivileged {
            set_dumpable_behavior(DumpableBehavior::Dumpable).call(|| "prctl(PR_SET_DUMPABLE, 1)")?;
        }
        Ok(())
    }

    /// In the child, under the filter: returns when the parent has its copy. Makes no system call before that.
    pub(crate) fn give(&self, listener: &OwnedFd) -> Result<()> {
        self.word.store(u32::try_from(listener.as_raw_fd()).unwrap_or(0).saturating_add(GIVEN));
        for _ in 0..PATIENCE {
            if self.word.load() == TAKEN {
                if self.unprivileged {
                    // The agent can answer by now; a filter that refuses it leaves the exec to do it.
                    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
                }
                return Ok(());
            }
            std::hint::spin_loop();
        }
        Err(Error::failed("seccomp notify descriptor", "the parent did not take it"))
    }

    /// In the parent, once the child may install its filter: waits for the descriptor. `None` if the child ended
    /// without installing one. The child goes on to its exec.
    ///
    /// # Errors
    /// When it cannot be taken: the child spins then, and must be killed.
    pub fn take(&self, child: BorrowedFd<'_>) -> Result<Option<OwnedFd>> {
        let mut pause = 50_000;
        loop {
            let ended = has_ended(child, pause)?;
            if let Some(number) = self.word.load().checked_sub(GIVEN) {
                return self.copy(child, number).map(Some);
            }
            if ended {
                return Ok(None);
            }
            pause = (pause * 2).min(2_000_000);
        }
    }

    fn copy(&self, child: BorrowedFd<'_>, number: u32) -> Result<OwnedFd> {
        let raw = i32::try_from(number).unwrap_or(-1);
        let copy = pidfd_getfd(child, raw, PidfdGetfdFlags::empty())
            .call(|| format!("pidfd_getfd(container, {raw})"))
            .map_err(|e| e.hint("a runtime without CAP_SYS_PTRACE needs a user namespace of its own here"))?;
        self.word.store(TAKEN);
        Ok(copy)
    }
}

/// Waits for a moment, or for the child's end.
fn has_ended(child: BorrowedFd<'_>, nanoseconds: i64) -> Result<bool> {
    let mut fds = [PollFd::from_borrowed_fd(child, PollFlags::IN)];
    match poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: nanoseconds })) {
        Err(rustix::io::Errno::INTR) => Ok(false),
        other => other.map(|ready| ready > 0).call(|| "poll(pidfd)"),
    }
}
