//! How a command gets into a running container.
//!
//! ```text
//!   exec (host)             courier (outside of the pid namespace)    the command's process (inside)
//!   clone3 ---------------> starts, hides itself
//!                           cgroup; labels, keyring, …
//!                           joins all namespaces
//!                           terminal, directory, user; drops privileges
//!                           clone(CLONE_PARENT) ------------------------> starts, as exec's own child
//!        <----------- Born; ends
//!        <----------------------------------------------- the conversation of the module `handshake`, which ends in the command
//! ```
//! All namespaces are joined where the container does not see who joins, and privileges are dropped there, too: root inside
//! with CAP_SYS_PTRACE can follow /proc/PID/{root,cwd,fd} of whatever it sees (CVE-2016-9962), and write to its memory. The
//! process that it sees has no more than its command will have. And whoever asked stays on the host, so that pid file and
//! sockets are its own business, and none of them ever open inside.

use super::options::Args;
use crate::child::{self, Child};
use crate::commands::oci::write_pid;
use crate::handshake::{Channel, Message, failed};
use crate::watch::Watch;
use crate::{console, heir, session};
use drydock_bundle::State;
use drydock_cgroups::Cgroup;
use drydock_cli::Outcome;
use drydock_core::error::CallExt;
use drydock_core::sys::process::{self, clone_child};
use drydock_core::sys::signal::pidfd_kill;
use drydock_core::{Ctx, Error, Result};
use drydock_init::inside;
use drydock_namespaces::join;
use drydock_security::Handover;
use drydock_supervise::{Blocked, Supervised};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

/// What is to be started, checked and open.
pub struct Start<'a> {
    /// The command line.
    pub args: &'a Args,
    /// The process.
    pub plan: inside::Plan,
    /// The container's namespaces.
    pub join: join::Plan,
    /// Its root, where that is not its mount namespace's.
    pub root: Option<OwnedFd>,
    /// Its cgroup.
    pub group: Cgroup,
    /// The caller's standard input is the command's.
    pub reads: bool,
    /// The container, for whoever answers a filter that asks.
    pub state: State,
    /// Rows and columns of the terminal.
    pub size: Option<(u16, u16)>,
    /// While this is open, a container's process that waits for its start can be seen.
    pub shown: Option<Channel>,
}

/// What stays with whoever asked: no process that goes into the container keeps any of it.
struct Host {
    /// The conversation with the command's process.
    child: Channel,
    /// Who gets the terminal.
    console: Option<OwnedFd>,
    /// Who gets the pidfd.
    pidfd: Option<OwnedFd>,
    /// To be closed when all namespaces are joined: at the latest when the command runs.
    shown: Option<Channel>,
    signals: Blocked,
}

impl Start<'_> {
    /// Starts the command. Unless it is detached, its exit code.
    ///
    /// # Errors
    /// Why it was not started.
    pub fn run(mut self, watch: &Watch) -> Outcome {
        let (args, size) = (self.args, self.size);
        let connect = |option, path: &Option<PathBuf>| {
            path.as_deref().map(|path| console::connect_to(option, path)).transpose()
        };
        let (console, pidfd) = (
            connect("--console-socket", &args.console_socket)?,
            connect("--pidfd-socket", &args.pidfd_socket)?,
        );
        let (child, there) = Channel::pair()?;
        let host = Host { child, console, pidfd, shown: self.shown.take(), signals: Blocked::all()? };
        let (security, state) = (self.plan.security().clone(), self.state.clone());
        let handover = security.listener().map(|_| Handover::new()).transpose()?.map(Rc::new);
        let (mut host, mut child) = self.send_in(host, there, handover.clone(), watch)?;
        let notify = |child: &process::Child| match (security.listener(), &handover) {
            (Some(listener), Some(handover)) => match handover.take(child.pidfd.as_fd())? {
                Some(fd) => {
                    listener.send(&crate::oci::life::json(&state, state.life()), child.pid, fd.as_fd())
                }
                None => Ok(()),
            },
            _ => Ok(()),
        };
        let begun = host.attend(&mut child, size, &security, &notify, watch).and_then(|master| {
            args.pid_file.as_deref().map_or(Ok(()), |path| write_pid(path, child.pid))?;
            Ok(master)
        });
        host.shown = None;
        let master = match begun {
            Ok(master) => master,
            Err(error) => {
                let _ = pidfd_kill(child.pidfd.as_fd(), nix::libc::SIGKILL);
                let _ = drydock_supervise::wait_exit(&child);
                return Err(error.into());
            }
        };
        if args.detach {
            return Ok(0);
        }
        let ended = match master {
            Some(master) => session::relay(&child, false, &host.signals, &master, args.interactive)?,
            None => Supervised::new(&child, false).wait(&host.signals)?,
        };
        Ok(ended.code())
    }

    /// By the courier's way: the command's process, waiting for the word.
    fn send_in(
        self,
        host: Host,
        there: Channel,
        handover: Option<Rc<Handover>>,
        watch: &Watch,
    ) -> Result<(Host, process::Child)> {
        let Start { args, plan, join, root, group, reads, .. } = self;
        let inside = Child {
            inside: plan,
            join: Some(join),
            // Files, not the directory that clone3 would take: from a directory one could walk up to the host's root.
            cgroup: group.all_join_files()?,
            mapped: None,
            outside: Some(child::Outside::Enter { root }),
            clock: None,
            wait_to_begin: false,
            channel: there,
            streams: [session::standard_input(reads)?, None, None],
            tied: !args.detach,
            bundled: child::Bundled { handover, ..child::Bundled::default() },
            show: watch.show(),
            stderr: child::keep_stderr(watch.show()),
        };
        let mut host = Some(host);
        let run = || {
            watch.close_log();
            drop(host.take());
            inside.run()
        };
        let child = clone_child(0, None, run).call(|| "clone3(CLONE_PIDFD)")?;
        let host = host.ok_or_else(|| Error::failed("exec", "its process has gone"))?;
        Ok((host, child))
    }
}

impl Host {
    /// Listens to the command's process until it has executed the command. `child` is the courier, and becomes the command's
    /// process. The pty's master, if nobody else has it.
    fn attend(
        &self,
        child: &mut process::Child,
        size: Option<(u16, u16)>,
        security: &drydock_security::Plan,
        notify: &dyn Fn(&process::Child) -> Result<()>,
        watch: &Watch,
    ) -> Result<Option<OwnedFd>> {
        watch.note(|| "child process in init(): what is done inside follows".into());
        let mut console = None;
        loop {
            match self.child.receive()? {
                None => return Ok(console),
                Some((Message::Ready, _)) => {
                    watch.note(|| "setns_init: about to exec".into());
                    self.child.send(&Message::Exec)?;
                }
                Some((Message::Step { step, took, .. }, _)) => {
                    watch.count(&step, Duration::from_nanos(took));
                }
                Some((Message::Born { pid }, _)) => {
                    heir::adopt(child, pid, &self.child, security, &Ctx::new(watch, None))?;
                    watch.note(|| format!("nsexec container setup: {pid} is in the container's namespaces"));
                    if let Some(socket) = &self.pidfd {
                        // runc's word for a process that enters a container.
                        console::send(socket, child.pidfd.as_fd(), "setns")?;
                    }
                }
                Some((Message::SeccompNotify, _)) => notify(child)?,
                Some((Message::Console, Some(master))) => {
                    if let Some(size) = size {
                        console::resize(&master, size)?;
                    }
                    match &self.console {
                        Some(socket) => console::send(socket, master.as_fd(), "/dev/ptmx")?,
                        None => {
                            drydock_supervise::terminal::leave_newlines(master.as_fd());
                            console = Some(master);
                        }
                    }
                }
                Some((Message::Failed { sentence, hint, kind, .. }, _)) => {
                    return Err(failed(sentence, hint, kind));
                }
                Some(_) => {}
            }
        }
    }
}
