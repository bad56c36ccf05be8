//! Ctrl-C and its like, asked for between two pieces of work, so that what is half done can be taken away first.

use drydock_core::Result;
use drydock_core::error::CallExt;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// The signals that ask us to end, held back.
pub struct Interrupt {
    signals: SignalFd,
    before: SigSet,
}

impl Interrupt {
    /// Holds them back, until it is dropped. Before any thread is made.
    pub fn hold() -> Result<Self> {
        let set: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
        let signals = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
            .call(|| "signalfd()")?;
        let before = set.thread_swap_mask(SigmaskHow::SIG_BLOCK).call(|| "pthread_sigmask(SIG_BLOCK)")?;
        Ok(Self { signals, before })
    }

    /// Whether one has come.
    pub fn asked(&self) -> bool {
        matches!(self.signals.read_signal(), Ok(Some(_)))
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        // As it was; one that has come and was not asked for ends us now.
        let _ = self.before.thread_set_mask();
    }
}

/// As many open files as this process may have: deep trees are walked with one for each level.
pub fn raise_file_limit() {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum.map(|most| most.min(1 << 16)).or(Some(1 << 16));
    // As it was, then.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
}
