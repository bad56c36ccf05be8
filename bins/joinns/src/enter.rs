//! Going in: join, fork if somebody is to be inside, take on ids and privileges, become the command.

use crate::args::Args;
use crate::request::{Ready, prepare};
use crate::steps::EnterStep;
use crate::terminal::Terminal;
use crate::{taken, tty};
use drydock_cli::{Explainer, Outcome};
use drydock_core::error::CallExt;
use drydock_core::sys::process::{Child, clone_child, clone_sibling};
use drydock_core::{Ctx, Error, Result};
use drydock_namespaces::credentials::{self, Ids};
use drydock_namespaces::relay::{self, End, Said};
use drydock_namespaces::{Kind, exec};
use drydock_security::CapSet;
use drydock_supervise::Blocked;
use std::io::Write;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, RawFd};

/// Closes what the caller left open above 2, but for `keep` descriptors. Called before anything of ours is open.
pub fn close_inherited(keep: u32) {
    let first = keep.saturating_add(3);
    if drydock_core::sys::fd::abandon(first, u32::MAX).is_ok() {
        return;
    }
    // Before Linux 5.9.
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    let names: Vec<RawFd> = entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).collect();
    for fd in names.into_iter().filter(|fd| i64::from(*fd) >= i64::from(first)) {
        // EBADF: the descriptor of the directory itself.
        let _ = nix::unistd::close(fd);
    }
}

/// Runs `joinns`.
///
/// # Errors
/// Bad arguments, what the kernel refuses, a command that cannot be executed.
pub fn run(args: Args) -> Outcome {
    // From here to the exec nobody inside may look at our root, directory or descriptors (CVE-2016-9962).
    credentials::hide()?;
    let ready = prepare(&args)?;
    for warning in &ready.warnings {
        drydock_cli::output::warn("joinns", warning);
    }
    let explainer = Explainer { on: args.explain };
    let ctx = Ctx::new(&explainer, None);
    if let Some(label) = &ready.label {
        // By the own /proc, which is nobody else's yet.
        label.apply_settings(&ctx).map_err(|e| e.hint("--privileged leaves the target's label out"))?;
    }
    let joins = ready.join.joins();
    // Somebody must stay to report, or to show the terminal.
    let fork = args.json || ready.terminal.is_some() || (ready.join.needs_fork() && !args.no_fork);
    let user_joined = joins.contains(Kind::User);
    let pid_joined = joins.contains(Kind::Pid);
    // Never dropped: whoever gives up its privileges closes what this owns.
    let mut inside = ManuallyDrop::new(Inside {
        ready,
        user_joined,
        pid_joined,
        keep_caps: args.keep_caps,
        keep_fds: args.preserve_fds,
    });
    if !fork {
        inside.ready.join.apply(&ctx)?;
        return Err(inside.become_command(&ctx).into());
    }
    let signals = Blocked::all()?;
    let (end, child_end) = relay::pair()?;
    let mut courier = None;
    let child = if inside.may_go_itself() {
        inside.in_person(&end, child_end, &signals, &ctx)?
    } else if inside.ready.taken.is_some() && joins.contains(Kind::Pid) {
        let (child, ended) = inside.by_courier(&end, child_end, &ctx)?;
        courier = Some(ended);
        child
    } else {
        inside.ready.join.apply(&ctx)?;
        // The child may be visible in the target's pid namespace at once: it must hold no directory of ours, such as the
        // /proc of the outside.
        inside.ready.join = std::mem::take(&mut inside.ready.join).close();
        inside.fork(&end, child_end, &ctx)?
    };
    match end.hear() {
        Ok(Said::Closed) => {}
        Ok(_) => return Err(Error::failed("child", "said something out of turn").into()),
        Err(e) => {
            drydock_supervise::wait_exit(&child)?;
            return Err(e.into());
        }
    }
    // It has ended by now, as it held the same socket.
    if let Some(courier) = courier {
        drydock_supervise::wait_exit(&courier)?;
    }
    let ended = match inside.ready.terminal.take() {
        Some(terminal) => {
            drydock_supervise::relay::relay(&child, false, &signals, &terminal.keep_master(), true)?
        }
        None => drydock_supervise::wait_in_foreground(&child, false, &signals)?,
    };
    if args.json {
        let joined: Vec<&str> = joins.iter().map(Kind::proc_name).collect();
        let report = serde_json::json!({ "pid": child.pid, "joined": joined, "exit_code": ended.code() });
        drydock_cli::output::print_error_line(&report.to_string());
    }
    Ok(ended.code())
}

/// The process that becomes the command.
struct Inside {
    ready: Ready,
    user_joined: bool,
    pid_joined: bool,
    keep_caps: bool,
    keep_fds: u32,
}

impl Inside {
    fn fork(&self, end: &End, child_end: End, ctx: &Ctx<'_>) -> Result<Child> {
        let raw = end.as_raw_fd();
        ctx.perform(&EnterStep::Fork, |_| {
            let child = || {
                let _ = nix::unistd::close(raw);
                let error = self.become_command(ctx);
                child_end.fail(&error);
                error.exit_code()
            };
            clone_child(0, None, child)
                .call(|| "clone3({flags=CLONE_PIDFD, exit_signal=SIGCHLD})")
                .map_err(|error| self.no_child(error))
        })
    }

    /// Whether whoever waits can do the courier's part ([`Self::by_courier`]): no system call filter of the target's may come
    /// in its way, no cgroup of the target's end or freeze it.
    fn may_go_itself(&self) -> bool {
        let Ready { taken, cgroups, terminal, .. } = &self.ready;
        let unfiltered = taken.as_ref().is_some_and(|taken| !taken.is_filtered());
        unfiltered && self.pid_joined && cgroups.is_empty() && terminal.is_none()
    }

    /// Joins and gives up the privileges, and then makes the process that becomes the command, as a courier does, but in this
    /// process, which is never in the pid namespace itself.
    fn in_person(&self, end: &End, heir_end: End, signals: &Blocked, ctx: &Ctx<'_>) -> Result<Child> {
        self.ready.join.apply(ctx)?;
        self.settle(ctx)?;
        ctx.perform(&EnterStep::Heir, |_| Ok(()))?;
        drydock_core::sys::inheritance::forget("joinns");
        self.give_up(ctx, &[heir_end.as_raw_fd(), end.as_raw_fd(), signals.as_fd().as_raw_fd()])?;
        let heir = || {
            let error = match reset_signals() {
                Ok(()) => self.execute(),
                Err(error) => error,
            };
            heir_end.fail(&error);
            error.exit_code()
        };
        clone_child(0, None, heir)
            .call(|| "clone3({flags=CLONE_PIDFD, exit_signal=SIGCHLD})")
            .map_err(|error| self.no_child(error))
    }

    /// Whoever is in the target's pid namespace can be taken hold of there by a root with CAP_SYS_PTRACE. So a courier, who is
    /// not, joins and gives up the privileges, and then makes the process that becomes the command: it is born with no more
    /// than the command will have. It is our own child, as the courier is, which ends then and is still to be waited for.
    fn by_courier(&self, end: &End, heir_end: End, ctx: &Ctx<'_>) -> Result<(Child, Child)> {
        let (told, teller) = relay::pair()?;
        let raws = [end.as_raw_fd(), told.as_raw_fd()];
        let keep = [heir_end.as_raw_fd(), teller.as_raw_fd()];
        let run = || -> Result<i32> {
            for raw in raws {
                let _ = nix::unistd::close(raw);
            }
            self.ready.join.apply(ctx)?;
            self.settle(ctx)?;
            // The last that is shown: what is left may be refused by the target's filters.
            ctx.perform(&EnterStep::Heir, |_| Ok(()))?;
            drydock_core::sys::inheritance::forget("joinns");
            reset_signals()?;
            self.give_up(ctx, &keep)?;
            let heir = || {
                let error = match self.lead_session() {
                    Ok(()) => self.execute(),
                    Err(error) => error,
                };
                heir_end.fail(&error);
                error.exit_code()
            };
            clone_sibling(heir).call(|| "clone(CLONE_PARENT|SIGCHLD)").map_err(|error| self.no_child(error))
        };
        let courier = || match run().and_then(|pid| teller.born(pid)) {
            Ok(()) => 0,
            Err(error) => {
                teller.fail(&error);
                error.exit_code()
            }
        };
        let courier =
            clone_child(0, None, courier).call(|| "clone3({flags=CLONE_PIDFD, exit_signal=SIGCHLD})")?;
        drop(teller);
        drop(heir_end);
        let said = told.hear();
        if !matches!(said, Ok(Said::Born(_))) {
            drydock_supervise::wait_exit(&courier)?;
        }
        let pid = match said? {
            Said::Born(pid) => pid,
            _ => return Err(Error::failed("child", "ended without saying why")),
        };
        // Ours to wait for, so the number cannot be another's.
        let target =
            rustix::process::Pid::from_raw(pid).ok_or_else(|| Error::failed("child", "has no pid"))?;
        let pidfd = rustix::process::pidfd_open(target, rustix::process::PidfdFlags::empty())
            .call(|| format!("pidfd_open({pid}, 0)"))?;
        Ok((Child { pid, pidfd }, courier))
    }

    /// Why nobody could be made inside.
    fn no_child(&self, error: Error) -> Error {
        let filtered = self.ready.taken.is_some();
        match error.errno() {
            // pid_namespaces(7)
            Some(nix::libc::ENOMEM) if self.pid_joined => {
                error.because("nobody can be made in this pid namespace: its first process has ended")
            }
            Some(nix::libc::EPERM | nix::libc::ENOSYS) if filtered => error
                .hint("the target's system call filter may refuse it: --privileged leaves the filter out"),
            _ => error,
        }
    }

    /// Returns only if it could not become the command.
    fn become_command(&self, ctx: &Ctx<'_>) -> Error {
        let ready = self
            .settle(ctx)
            .and_then(|()| self.lead_session())
            .and_then(|()| reset_signals())
            .and_then(|()| self.give_up(ctx, &[]));
        match ready {
            Ok(()) => self.execute(),
            Err(e) => e,
        }
    }

    fn lead_session(&self) -> Result<()> {
        self.ready.terminal.as_ref().map_or(Ok(()), Terminal::lead)
    }

    fn execute(&self) -> Error {
        let error = self.ready.command.exec();
        match &self.ready.fallback {
            Some(fallback) if error.kind() == drydock_core::Kind::NotFound => fallback.exec(),
            _ => error,
        }
    }

    /// What takes privileges.
    fn settle(&self, ctx: &Ctx<'_>) -> Result<()> {
        if let Some(terminal) = &self.ready.terminal {
            ctx.perform(&EnterStep::Terminal, |_| terminal.take_streams())?;
        }
        for (path, file) in &self.ready.cgroups {
            ctx.perform(&EnterStep::Cgroup(path.clone()), |_| {
                let mut file = file;
                file.write_all(b"0").call(|| format!("write({path:?}, \"0\")"))
            })?;
        }
        if let Some(root) = &self.ready.root {
            ctx.perform(&EnterStep::Root, |_| exec::enter_root(root.as_fd()))?;
        }
        if let Some(tools) = &self.ready.tools {
            if self.user_joined {
                // What is made in the user namespace has its ids.
                credentials::become_root_inside()?;
                credentials::hide()?;
            }
            ctx.perform(&EnterStep::Tools, |_| tools.attach())?;
        }
        if let Some(directory) = &self.ready.directory {
            ctx.perform(&EnterStep::Directory("target's".into()), |_| exec::enter_directory(directory))?;
        }
        if let Some(path) = &self.ready.inside_directory {
            ctx.perform(&EnterStep::Directory(path.clone()), |_| enter_inside(path))?;
        }
        if self.ready.taken.is_some() {
            stay_inside();
        }
        if self.ready.terminal.is_none() {
            tty::forbid_typing();
        }
        Ok(())
    }

    /// What takes them away. `keep`: descriptors of ours that stay open for a while; all others close at once, if there are
    /// any such.
    fn give_up(&self, ctx: &Ctx<'_>, keep: &[RawFd]) -> Result<()> {
        let Ready { taken, account, capabilities, .. } = &self.ready;
        if let Some(taken) = taken {
            taken.apply_bounding(ctx)?;
        }
        let (uid, gid) = (account.uid, account.gid);
        let leaves_root = uid.is_some_and(|uid| uid != 0);
        let is_root = uid.unwrap_or_else(|| nix::unistd::getuid().as_raw()) == 0;
        let ambient = !is_root && (self.keep_caps || capabilities.is_some());
        let needs = taken.as_ref().is_some_and(taken::Taken::needs_admin);
        if uid.is_some() || gid.is_some() {
            let ids = Ids { uid, gid, keep_capabilities: ambient || (needs && leaves_root) };
            ctx.perform(&EnterStep::Ids(ids), |_| credentials::become_ids(ids))?;
        }
        if taken.is_some() && uid.is_none() && gid.is_none() {
            // The caller's own groups are none of the target's.
            credentials::drop_groups()?;
        }
        credentials::clear_inheritable()?;
        if needs && leaves_root {
            taken::raise_effective()?;
        }
        let first = self.keep_fds.saturating_add(3);
        drydock_core::sys::fd::close_on_exec_from(first)
            .call(|| format!("close_range({first}, ~0, CLOSE_RANGE_CLOEXEC)"))?;
        if !keep.is_empty() {
            leave_open(first, keep)?;
        }
        let none_left = leaves_root && !ambient;
        let most = if none_left { CapSet::EMPTY } else { capabilities.unwrap_or(CapSet(u64::MAX)) };
        match taken {
            Some(taken) => taken.apply_last(ctx, most, ambient),
            None if ambient || capabilities.is_some() => taken::restrict(most, ambient),
            None => Ok(()),
        }
    }
}

/// The command finds its signals as a login gives them.
fn reset_signals() -> Result<()> {
    drydock_core::sys::signal::reset_dispositions();
    drydock_core::sys::signal::unblock_all().call(|| "sigprocmask(SIG_SETMASK, [])")
}

/// Closes everything from `first` up but `keep`. Nothing of what else is open is used or dropped afterwards: an exec or
/// `_exit` follows.
fn leave_open(first: u32, keep: &[RawFd]) -> Result<()> {
    let mut keep: Vec<u32> = keep.iter().filter_map(|fd| u32::try_from(*fd).ok()).collect();
    keep.sort_unstable();
    let mut from = first;
    for number in keep {
        if number > from {
            drydock_core::sys::fd::abandon(from, number - 1).call(|| "close_range()")?;
        }
        from = from.max(number + 1);
    }
    drydock_core::sys::fd::abandon(from, u32::MAX).call(|| "close_range()")
}

/// A directory inside, or the root if it is not there.
fn enter_inside(path: &std::path::Path) -> Result<()> {
    let gone = [nix::errno::Errno::ENOENT, nix::errno::Errno::ENOTDIR];
    match nix::unistd::chdir(path) {
        Err(e) if gone.contains(&e) => {
            drydock_cli::output::warn("joinns", &format!("{} is not there inside: using /", path.display()));
            nix::unistd::chdir("/").call(|| "chdir(\"/\")")
        }
        other => other.call(|| format!("chdir({path:?})")),
    }
}

/// A working directory that has no path below the root would be a way out of it (CVE-2024-21626).
fn stay_inside() {
    let inside =
        std::env::current_dir().is_ok_and(|dir| dir.is_absolute() && !dir.starts_with("(unreachable)"));
    if !inside {
        drydock_cli::output::warn("joinns", "the working directory is not below the root: using /");
        let _ = nix::unistd::chdir("/");
    }
}
