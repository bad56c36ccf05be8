//! The container's first process, from the clone to the exec.

use crate::handshake::{Channel, Message, failure};
use crate::watch::Show;
use drydock_bundle::Hooks;
use drydock_cli::watch::explain_line;
use drydock_core::error::CallExt;
use drydock_core::sys::fd::{abandon, closes_on_exec, replace_standard_stream};
use drydock_core::sys::process::{clone_sibling, exit_now};
use drydock_core::{Ctx, Error, Observer, Result, Step};
use drydock_init::inside::{self, Peer};
use drydock_namespaces::join;
use drydock_namespaces::time::Offsets;
use drydock_security::Handover;
use drydock_security::seccomp::Call;
use drydock_supervise::Blocked;
use std::cell::RefCell;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
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
    /// It prepares outside of the pid namespace of the command.
    pub outside: Option<Outside>,
    /// Offsets of a time namespace that the parent has no right to make.
    pub clock: Option<Offsets>,
    /// Wait for the parent's word before anything else.
    pub wait_to_begin: bool,
    /// The conversation.
    pub channel: Channel,
    /// Replacement for standard input, output and error; `None` keeps the caller's.
    pub streams: [Option<OwnedFd>; 3],
    /// Die with the parent.
    pub tied: bool,
    /// Of a bundle: its hooks, and how it waits for its start.
    pub bundled: Bundled,
    /// What is shown.
    pub show: Show,
    /// Where explanations go: the caller's standard error, which the container's own may replace.
    pub stderr: Option<OwnedFd>,
}

/// How a process that prepares outside of the command's pid namespace gets where it is to be.
pub enum Outside {
    /// Into everything that the container has, its cgroup first.
    Enter {
        /// The container's root, where that is not its mount namespace's.
        root: Option<OwnedFd>,
    },
    /// The pid namespace of its children, and the user namespace, are others'; the rest is new.
    Make {
        /// What is joined first.
        first: join::Plan,
        /// What is joined next, with the right that this gives.
        then: Option<join::Plan>,
        /// New namespaces.
        new: drydock_namespaces::Set,
    },
}

/// What a bundle's first process does besides.
#[derive(Default)]
pub struct Bundled {
    /// Those that run in the container's namespaces.
    pub hooks: Hooks,
    /// The socket on which a created container waits for its start.
    pub start: Option<OwnedFd>,
    /// How the parent gets the descriptor of a filter that asks.
    pub handover: Option<Rc<Handover>>,
}

impl Child {
    /// Runs in the new process. Returns the exit code only if the command was not executed.
    pub fn run(self) -> u8 {
        if self.tied || self.outside.is_some() {
            tie();
        }
        let Child {
            mut inside,
            join,
            cgroup,
            mapped,
            outside,
            clock,
            wait_to_begin,
            channel,
            streams,
            show,
            stderr,
            ..
        } = self;
        let Bundled { hooks, start, handover } = self.bundled;
        let (tied, heir) = (self.tied, outside.is_some());
        if heir {
            inside = inside.for_an_heir();
        }
        let request = inside.request();
        let peer = Parent {
            channel: RefCell::new(channel),
            hooks,
            root: request.mounts.as_ref().map(|mounts| mounts.root.path.clone()),
            start,
            handover,
            preserved: request.preserve_fds,
            show,
            stderr,
        };
        let begin = wait_to_begin.then_some((mapped, clock));
        let prepared = peer.prepare(&mut inside, outside, join.as_ref(), &cgroup, begin, streams);
        drop((cgroup, join));
        let error = match prepared.and_then(|()| inside.prepare(&peer)) {
            Ok(prepared) if heir => {
                let program = prepared.program();
                return peer.bear(tied, program, || inside.finish(&peer, &prepared));
            }
            Ok(prepared) => inside.finish(&peer, &prepared),
            Err(error) => error,
        };
        peer.fail(&error)
    }
}

/// Who makes it is not to leave it behind. If the parent is dead already, the conversation ends at its first message.
fn tie() {
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
}

/// The child's view of its parent.
struct Parent {
    channel: RefCell<Channel>,
    hooks: Hooks,
    /// The root's path on the host, where hooks before the pivot start.
    root: Option<PathBuf>,
    start: Option<OwnedFd>,
    handover: Option<Rc<Handover>>,
    /// So many descriptors from 3 up are the command's.
    preserved: u32,
    show: Show,
    stderr: Option<OwnedFd>,
}

impl Parent {
    fn prepare(
        &self,
        inside: &mut inside::Plan,
        outside: Option<Outside>,
        join: Option<&join::Plan>,
        cgroup: &[OwnedFd],
        begin: Option<(Option<PathBuf>, Option<Offsets>)>,
        streams: [Option<OwnedFd>; 3],
    ) -> Result<()> {
        let ctx = Ctx::new(self, None);
        let enters = matches!(outside, Some(Outside::Enter { .. }));
        let root = match outside {
            Some(Outside::Make { first, then, new }) => {
                first.apply(&ctx)?;
                then.map_or(Ok(()), |then| then.apply(&ctx).map(drop))?;
                drydock_namespaces::create::unshare(new)?;
                self.channel.borrow().send(&Message::Entered)?;
                None
            }
            Some(Outside::Enter { root }) => root,
            None => None,
        };
        if enters {
            inside.security().apply_before_cgroup(&ctx)?;
        }
        drydock_cgroups::join(cgroup)?;
        if let Some((mapped, clock)) = begin {
            let view = self.expect_word()?;
            drydock_namespaces::credentials::become_root_inside()?;
            clock.as_ref().map_or(Ok(()), crate::oci::clock::set_inside)?;
            if let (Some(view), Some(at)) = (view, mapped) {
                crate::idmap::attach(&view, &at)?;
            }
        }
        if enters {
            inside.settle(self)?;
        }
        if let Some(plan) = join {
            drydock_init::inside::hide()?;
            plan.apply(&ctx)?;
        }
        if let Some(root) = root {
            rustix::process::fchdir(&root).call(|| "fchdir(root)")?;
            rustix::process::chroot(".").call(|| "chroot(\".\")")?;
        }
        for (number, stream) in (0u8..).zip(streams) {
            if let Some(stream) = stream {
                replace_standard_stream(stream.as_fd(), number)
                    .map_err(|e| Error::call(format!("dup2(…, {number})"), e))?;
            }
        }
        Ok(())
    }

    /// Leaves a child in the pid namespace, which goes on, and ends. `program`: what it will execute, if that is open.
    fn bear(&self, tied: bool, program: Option<BorrowedFd<'_>>, finish: impl FnOnce() -> Error) -> u8 {
        let channel = self.channel.borrow();
        let own = [Some(channel.as_fd()), self.start.as_ref().map(AsFd::as_fd), program];
        let explanations = self.stderr.as_ref().map(AsFd::as_fd);
        let kept: Vec<BorrowedFd<'_>> = own.into_iter().chain([explanations]).flatten().collect();
        if let Err(error) = self.keep_only(&kept) {
            return self.fail(&error);
        }
        drop(channel);
        let heir = || {
            if tied {
                tie();
            }
            let error = self.expect_word().map_or_else(|gone| gone, |_| finish());
            self.fail(&error)
        };
        let born = clone_sibling(heir)
            .call(|| "clone(CLONE_PARENT|SIGCHLD)")
            .and_then(|pid| self.channel.borrow().send(&Message::Born { pid }));
        match born {
            // Not a return: descriptors that have owners here may be closed already.
            Ok(()) => exit_now(0),
            Err(error) => self.fail(&error),
        }
    }

    /// The end of a process that executes nothing.
    fn fail(&self, error: &Error) -> u8 {
        // The parent may be dead: then nobody reports, and nothing was executed.
        let _ = self.channel.borrow().send(&failure(error));
        exit_now(error.exit_code())
    }

    /// The parent's next word; its end is ours.
    fn expect_word(&self) -> Result<Option<OwnedFd>> {
        match self.hear()? {
            (Message::Begin, fd) => Ok(fd),
            _ => Err(gone()),
        }
    }

    fn hear(&self) -> Result<(Message, Option<OwnedFd>)> {
        self.channel.borrow().receive()?.ok_or_else(gone)
    }

    /// From here on the container's life does not depend on its maker: the next to speak is whoever starts it.
    fn settle(&self, env: &[String], confine: &dyn Fn() -> Result<()>) -> Result<()> {
        let Some(socket) = &self.start else { return Err(gone()) };
        rustix::process::set_parent_process_death_signal(None).call(|| "prctl(PR_SET_PDEATHSIG, 0)")?;
        self.channel.borrow().send(&Message::Settled)?;
        self.keep_only(&[socket.as_fd()])?;
        // PID 1 of a pid namespace would not hear of a signal without a handler: what ends others ends it, too.
        let signals = Blocked::all().ok();
        loop {
            let starter = crate::waiting::accept(socket, signals.as_ref())?;
            let state = match starter.receive()? {
                Some((Message::Start { state }, _)) => state,
                Some((Message::Show, _)) => {
                    show(&starter)?;
                    continue;
                }
                // One that went away without a word was killed: another one may come.
                _ => continue,
            };
            // The old one's descriptor is closed, and its number perhaps another's by now.
            std::mem::forget(self.channel.replace(starter));
            drop(signals);
            drydock_core::sys::signal::unblock_all().call(|| "rt_sigprocmask(SIG_SETMASK, [])")?;
            return self.start_hooks(&state, env, confine);
        }
    }

    /// Nothing of the host stays open but these and what the command is to have.
    fn keep_only(&self, kept: &[BorrowedFd<'_>]) -> Result<()> {
        let mut first = self.preserved.saturating_add(3);
        let mut kept: Vec<u32> = kept.iter().filter_map(|fd| u32::try_from(fd.as_raw_fd()).ok()).collect();
        kept.sort_unstable();
        // Between what was passed on, what is ours is known by its flag.
        for number in (3..first).filter(|n| closes_on_exec(*n) && !kept.contains(n)) {
            abandon(number, number).call(|| "close_range()")?;
        }
        for number in kept {
            if number >= first {
                abandon(first, number.saturating_sub(1)).call(|| "close_range()")?;
                first = number.saturating_add(1);
            }
        }
        abandon(first, u32::MAX).call(|| "close_range()")
    }

    /// They are files of the container's, so they run with no more privileges than its command.
    fn start_hooks(&self, state: &str, env: &[String], confine: &dyn Fn() -> Result<()>) -> Result<()> {
        crate::hooks::run_confined("startContainer", &self.hooks.start_container, state, env, confine)
    }
}

/// Lets whoever asks open this process's namespaces: an unprivileged user may not while it is hidden (ptrace(2)).
fn show(to: &Channel) -> Result<()> {
    drydock_namespaces::credentials::show()?;
    // Who asks has gone when there is no more to hear, or nobody to tell.
    let _ = to.send(&Message::Shown).and_then(|()| to.receive());
    drydock_namespaces::credentials::hide()
}

fn gone() -> Error {
    Error::failed("handshake", "the parent has gone")
}

impl Peer for Parent {
    fn console(&self, master: BorrowedFd<'_>) -> Result<()> {
        self.channel.borrow().send_with(&Message::Console, Some(master))
    }

    fn hosts(&self, copy: BorrowedFd<'_>) -> Result<()> {
        self.channel.borrow().send_with(&Message::Hosts, Some(copy))
    }

    fn before_pivot(&self) -> Result<()> {
        if !self.hooks.before_pivot() {
            return Ok(());
        }
        self.channel.borrow().send(&Message::Mounted)?;
        match self.hear()? {
            (Message::Hooks { state }, _) => {
                let env = crate::hooks::own_environment();
                let root = self.root.as_deref();
                crate::hooks::run("createContainer", &self.hooks.create_container, &state, &env, root)
            }
            _ => Err(gone()),
        }
    }

    fn handover(&self) -> Result<Option<&Handover>> {
        if self.handover.is_some() {
            self.channel.borrow().send(&Message::SeccompNotify)?;
        }
        Ok(self.handover.as_deref())
    }

    fn calls(&self) -> Vec<Call> {
        crate::calls::ahead(self.start.is_some(), !self.hooks.start_container.is_empty())
    }

    fn ready(&self, env: &[String], confine: &dyn Fn() -> Result<()>) -> Result<()> {
        self.channel.borrow().send(&Message::Ready)?;
        match self.hear()?.0 {
            Message::Exec => Ok(()),
            Message::Start { state } => self.start_hooks(&state, env, confine),
            Message::Settle => self.settle(env, confine),
            _ => Err(gone()),
        }
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
        let _ = self.channel.borrow().send(&Message::Step { step, took, ok });
    }
}

/// A descriptor for explanations that survives the replacement of standard error.
pub fn keep_stderr(show: Show) -> Option<OwnedFd> {
    let _ = std::io::stderr().flush();
    if show.steps { std::io::stderr().as_fd().try_clone_to_owned().ok() } else { None }
}
