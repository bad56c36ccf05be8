//! The plan carried out: by one process, or by one that prepares outside of the container's pid namespace and its heir inside.

use super::{Peer, Plan, Prepared, hide};
use crate::steps::InsideStep;
use drydock_core::error::CallExt;
use drydock_core::{Ctx, Error, Result};
use drydock_security::seccomp::Call;
use drydock_security::{Ahead, CapSet, user};
use drydock_supervise::exec::{Command, FileId};
use std::os::fd::AsFd;
use std::path::Path;

/// The file that this process was executed from, asked while /proc is the host's.
fn own_program() -> Option<FileId> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self/exe").ok().map(|meta| (meta.dev(), meta.ino()))
}

/// The container's own copy of /etc/hosts, while the host's path still leads to it.
fn give_hosts(mounts: &drydock_mounts::Plan, peer: &dyn Peer) -> Result<()> {
    let Some(path) = mounts.stored_file("/etc/hosts") else { return Ok(()) };
    let file =
        std::fs::OpenOptions::new().write(true).open(path).call(|| format!("open({path:?}, O_WRONLY)"))?;
    peer.hosts(file.as_fd())
}

/// The request of ioctl(2) that makes a terminal the controlling one.
const TIOCSCTTY: u64 = 0x540e;

/// Best effort: a filter may be in place.
fn hide_again() {
    let _ = hide();
}

/// Changing the user clears it (prctl(2)): who was to die with its parent still is. A seccomp profile of the caller's may
/// refuse it; it is a second line of defence.
fn stay_tied(tied: Option<rustix::process::Signal>) {
    if tied.is_some() {
        let _ = rustix::process::set_parent_process_death_signal(tied);
    }
}

impl Plan {
    /// Carries the plan out in the process that becomes the container's first. Returns only if it failed.
    ///
    /// Privileges: those of the steps, in the process's own namespaces; all of them are given up on the way.
    pub fn enter(&mut self, peer: &dyn Peer) -> Error {
        match self.prepare(peer) {
            Ok(prepared) => self.finish(peer, &prepared),
            Err(error) => error,
        }
    }

    /// What needs the host's /proc or privileges over the host: to be called before namespaces are joined, if any are.
    ///
    /// # Errors
    /// What cannot be set.
    pub fn settle(&mut self, peer: &dyn Peer) -> Result<()> {
        hide()?;
        self.own_program = own_program();
        self.settled = true;
        self.security.apply_early_settings(&Ctx::new(peer.observer(), None), self.heir)
    }

    /// Everything up to the point of no return, privileges dropped.
    ///
    /// # Errors
    /// The first step that failed; the process must end.
    pub fn prepare(&mut self, peer: &dyn Peer) -> Result<Prepared> {
        let ctx = Ctx::new(peer.observer(), None);
        if self.heir && !self.settled {
            self.settle(peer)?;
        }
        hide()?;
        if !self.settled {
            self.own_program = own_program();
        }
        // A session's leader is born where the session is to be seen.
        for step in self.early().iter().filter(|step| !(self.heir && **step == InsideStep::Session)) {
            ctx.perform(step, InsideStep::act)?;
        }
        let reaper = if self.request.reaper { Some(crate::reaper::open_program()?) } else { None };
        if let Some(mounts) = &self.mounts {
            let sources = std::mem::take(&mut self.sources);
            mounts.apply_with(&ctx, sources, &mut || {
                give_hosts(mounts, peer)?;
                peer.before_pivot()
            })?;
            crate::steps::own_null();
        }
        // A mount namespace of its own has a /dev/console of its own.
        let console = self.mounts.is_some();
        for step in self.late() {
            match &step {
                InsideStep::Terminal => {
                    let master = ctx.perform(&step, |_| crate::steps::open_terminal(console, !self.heir))?;
                    peer.console(master.as_fd())?;
                }
                step => ctx.perform(step, InsideStep::act)?,
            }
        }
        self.resolve_user()?;
        self.command.check().map_err(|e| e.in_stage("process"))?;
        drydock_security::reset_inherited()?;
        if self.settled {
            self.security.apply_late_settings(&ctx)?;
        } else {
            self.security.apply_settings(&ctx)?;
        }
        self.give_up(&ctx, peer)?;
        // What is left of the caller's: whoever can read this process's memory may read it.
        drydock_core::sys::inheritance::forget("container init");
        Ok(Prepared { reaper })
    }

    /// Ids, capabilities, and the filter if it cannot wait.
    fn give_up(&mut self, ctx: &Ctx<'_>, peer: &dyn Peer) -> Result<()> {
        self.ahead = Ahead { calls: self.calls_ahead(peer), seen: self.heir };
        let traced = || {
            self.security
                .bounding()
                .is_none_or(|set| set.contains(CapSet::exact("CAP_SYS_PTRACE").unwrap_or_default()))
        };
        if self.heir && self.security.waits_privileged(&self.ahead) && traced() {
            let problem = "does not permit the calls that entering a container with CAP_SYS_PTRACE takes before the command (clone, setsid, recvmsg, sendmsg, …)";
            return Err(Error::failed("seccomp", problem)
                .hint("noNewPrivileges (--no-new-privs) lets the filter be installed last"));
        }
        // Changing the user ends it.
        let tied = rustix::process::parent_process_death_signal().ok().flatten();
        self.security.apply_drop(ctx, &self.ahead)?;
        if self.security.listener().is_some() && !self.heir {
            // Whoever listens is told while the one who makes the container is still there.
            self.security.apply_rest(ctx, &self.ahead, peer.handover()?)?;
        }
        stay_tied(tied);
        // Changing the user undoes it where /proc/sys/fs/suid_dumpable says so.
        hide_again();
        Ok(())
    }

    /// What this process does between dropping its privileges and its exec.
    fn calls_ahead(&self, peer: &dyn Peer) -> Vec<Call> {
        let mut calls = peer.calls();
        if self.heir {
            calls.push(("clone", [drydock_core::sys::process::SIBLING, 0, 0, 0, 0, 0]));
            calls.extend(self.request.session.then_some(("setsid", [0; 6])));
            calls.extend(self.request.terminal.then_some(("ioctl", [0, TIOCSCTTY, 0, 0, 0, 0])));
            calls.extend(self.security.limits_processes().then_some(("prlimit64", [0; 6])));
        }
        calls
    }

    /// The heir's first steps: what is a process's own and not passed on to its children.
    fn inherit(&self, ctx: &Ctx<'_>, peer: &dyn Peer) -> Result<()> {
        if self.request.session {
            ctx.perform(&InsideStep::Session, InsideStep::act)?;
        }
        if self.request.terminal {
            rustix::process::ioctl_tiocsctty(std::io::stdin()).call(|| "ioctl(0, TIOCSCTTY)")?;
        }
        self.security.apply_process_limit(ctx)?;
        if self.security.listener().is_some() {
            self.security.apply_rest(ctx, &self.ahead, peer.handover()?)?;
        }
        Ok(())
    }

    /// The last steps, after [`Plan::prepare`]. Returns only if they failed.
    pub fn finish(&mut self, peer: &dyn Peer, prepared: &Prepared) -> Error {
        match self.execute(peer, prepared) {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    fn execute(&self, peer: &dyn Peer, prepared: &Prepared) -> Result<std::convert::Infallible> {
        let ctx = Ctx::new(peer.observer(), None);
        if self.heir {
            self.inherit(&ctx, peer)?;
        }
        // With a listener the filter is in force already.
        let rest = || match self.security.listener() {
            Some(_) => Ok(()),
            None => self.security.apply_rest(&Ctx::silent(), &self.ahead, None).map(drop),
        };
        peer.ready(&self.request.env, &rest)?;
        let first = self.request.preserve_fds.saturating_add(3);
        drydock_core::sys::fd::close_on_exec_from(first)
            .call(|| format!("close_range({first}, ~0, CLOSE_RANGE_CLOEXEC)"))?;
        // Below that the command gets what the caller passed, which is what does not close on exec: where a number was free,
        // a descriptor of ours may be, and all of ours do.
        if self.security.listener().is_none() {
            self.security.apply_rest(&ctx, &self.ahead, None)?;
        }
        let exec = InsideStep::Exec { command: self.request.args.clone(), reaper: self.request.reaper };
        ctx.perform(&exec, |_| {
            Err(match &prepared.reaper {
                Some(program) => crate::reaper::exec(program.as_fd(), &self.reaper_options, &self.command),
                None => self.command.clone().never(self.own_program).exec(),
            })
        })
    }

    /// The user is looked up in the container's own /etc/passwd, hence after the pivot.
    fn resolve_user(&mut self) -> Result<()> {
        let given = self.request.security.user.clone().unwrap_or_default();
        let exact = self.request.user.is_none();
        let spec = self.request.user.clone().unwrap_or_else(|| format!("{}:{}", given.uid, given.gid));
        // An empty one is none, as for runc.
        let homeless = !self.request.env.iter().any(|w| w.starts_with("HOME=") && w != "HOME=");
        if exact && !homeless {
            return self.security.set_user(&given);
        }
        let root = std::fs::File::open("/").call(|| "open(\"/\", O_RDONLY)")?;
        let account = user::resolve(&spec, root.as_fd())?;
        if homeless {
            let home = if account.home.is_absolute() { account.home.as_path() } else { Path::new("/") };
            self.request.env.retain(|word| word != "HOME=");
            self.request.env.push(format!("HOME={}", home.to_string_lossy().replace('\0', "")));
            self.command = Command::new(&self.request.args, &self.request.env)?;
        }
        let mut user = account.user;
        if exact {
            user = given;
        } else {
            user.umask = given.umask;
            user.additional_gids.extend_from_slice(&given.additional_gids);
        }
        self.security.set_user(&user)
    }
}
