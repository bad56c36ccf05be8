//! The container's first process, from the clone to the exec.

use crate::handshake::{Channel, Message, failure};
use crate::watch::Show;
use drydock_cli::watch::explain_line;
use drydock_core::sys::fd::replace_standard_stream;
use drydock_core::{Ctx, Error, Observer, Result, Step};
use drydock_init::inside::{self, Peer};
use drydock_namespaces::join;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

/// Everything that the child takes over from its parent.
pub struct Child {
    /// What to do.
    pub inside: inside::Plan,
    /// Namespaces to join that are not joined by being born.
    pub join: Option<join::Plan>,
    /// v1: the files through which it moves itself into its cgroup, opened by the parent.
    pub cgroup: Vec<OwnedFd>,
    /// Where the view of the root that comes with the parent's word is attached.
    pub mapped: Option<PathBuf>,
    /// Make a time namespace's offsets effective, and the like: wait for the parent's word before anything else.
    pub wait_to_begin: bool,
    /// The conversation.
    pub channel: Channel,
    /// Replacement for standard input, output and error; `None` keeps the caller's.
    pub streams: [Option<OwnedFd>; 3],
    /// Die with the parent.
    pub tied: bool,
    /// What is shown.
    pub show: Show,
    /// Where explanations go: the caller's standard error, which the container's own may replace.
    pub stderr: Option<OwnedFd>,
}

impl Child {
    /// Runs in the new process. Returns the exit code only if the command was not executed.
    pub fn run(self) -> u8 {
        if self.tied {
            // If the parent is dead already, the conversation below ends at its first message.
            let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
        }
        let Child { mut inside, join, cgroup, mapped, wait_to_begin, channel, streams, show, stderr, .. } =
            self;
        let peer = Parent { channel, show, stderr };
        let prepared = peer.prepare(join.as_ref(), &cgroup, wait_to_begin.then_some(mapped), streams);
        drop((cgroup, join));
        let error = match prepared {
            Ok(()) => inside.enter(&peer),
            Err(error) => error,
        };
        // The parent may be dead: then nobody reports, and nothing was executed.
        let _ = peer.channel.send(&failure(&error));
        error.exit_code()
    }
}

/// The child's view of its parent.
struct Parent {
    channel: Channel,
    show: Show,
    stderr: Option<OwnedFd>,
}

impl Parent {
    fn prepare(
        &self,
        join: Option<&join::Plan>,
        cgroup: &[OwnedFd],
        begin: Option<Option<PathBuf>>,
        streams: [Option<OwnedFd>; 3],
    ) -> Result<()> {
        drydock_cgroups::join(cgroup)?;
        if let Some(mapped) = begin {
            let view = self.expect_word()?;
            drydock_namespaces::credentials::become_root_inside()?;
            if let (Some(view), Some(at)) = (view, mapped) {
                crate::idmap::attach(&view, &at)?;
            }
        }
        if let Some(plan) = join {
            drydock_init::inside::hide()?;
            plan.apply(&Ctx::new(self, None))?;
        }
        for (number, stream) in (0u8..).zip(streams) {
            if let Some(stream) = stream {
                replace_standard_stream(stream.as_fd(), number)
                    .map_err(|e| Error::call(format!("dup2(…, {number})"), e))?;
            }
        }
        Ok(())
    }

    /// The parent's next word; its end is ours.
    fn expect_word(&self) -> Result<Option<OwnedFd>> {
        match self.channel.receive()? {
            Some((Message::Begin | Message::Exec, fd)) => Ok(fd),
            _ => Err(Error::failed("handshake", "the parent has gone")),
        }
    }
}

impl Peer for Parent {
    fn console(&self, master: BorrowedFd<'_>) -> Result<()> {
        self.channel.send_with(&Message::Console, Some(master))
    }

    fn hosts(&self, copy: BorrowedFd<'_>) -> Result<()> {
        self.channel.send_with(&Message::Hosts, Some(copy))
    }

    fn ready(&self) -> Result<()> {
        self.channel.send(&Message::Ready)?;
        self.expect_word().map(drop)
    }

    fn observer(&self) -> &dyn Observer {
        self
    }
}

impl Observer for Parent {
    fn wants(&self) -> bool {
        !self.show.nothing()
    }

    fn before(&self, step: &Step) {
        if let (true, Some(fd)) = (self.show.steps, &self.stderr) {
            let line = format!("{}\n", explain_line(step));
            drydock_supervise::terminal::write_all(fd.as_fd(), line.as_bytes());
        }
    }

    fn after(&self, step: &Step, took: Duration, ok: bool) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let mut step = step.clone();
        step.call = drydock_core::text::shorten(&step.call, 1000);
        // Seccomp may refuse sendmsg by now, and nobody may listen: a measurement is not worth a failure.
        let _ = self.channel.send(&Message::Step { step, took, ok });
    }
}

/// A descriptor for explanations that survives the replacement of standard error.
pub fn keep_stderr(show: Show) -> Option<OwnedFd> {
    let _ = std::io::stderr().flush();
    if show.steps { std::io::stderr().as_fd().try_clone_to_owned().ok() } else { None }
}
