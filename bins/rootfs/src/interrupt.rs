//! Ctrl-C and its like, asked for between two pieces of work, so that what is half done can be taken away first.

use drydock_core::Result;
use drydock_core::error::CallExt;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// The signals that ask us to end, held back.
pub struct Interrupt(SignalFd);

impl Interrupt {
    /// Holds them back. Before any thread is made.
    pub fn hold() -> Result<Self> {
        let set: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
        set.thread_block().call(|| "pthread_sigmask(SIG_BLOCK)")?;
        SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
            .call(|| "signalfd()")
            .map(Self)
    }

    /// Whether one has come.
    pub fn asked(&self) -> bool {
        matches!(self.0.read_signal(), Ok(Some(_)))
    }
}

/// As many open files as this process may have: deep trees are walked with one for each level.
pub fn raise_file_limit() {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum.map(|most| most.min(1 << 16)).or(Some(1 << 16));
    // As it was, then.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
}
