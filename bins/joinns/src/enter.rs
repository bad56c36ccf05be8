//! Going in: join, fork if somebody is to be inside, take on ids, become the command.

use crate::args::Args;
use crate::request::{Ready, prepare};
use crate::tty;
use drydock_cli::{Explainer, Outcome};
use drydock_core::error::CallExt;
use drydock_core::sys::process::{Child, clone_child};
use drydock_core::{Ctx, Error, Explain, Result, Step};
use drydock_namespaces::credentials::{self, Ids};
use drydock_namespaces::relay::{self, End, Said};
use drydock_namespaces::{Kind, exec};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::PathBuf;

/// Closes what the caller left open above 2. Called first of all, so that nothing of ours is among it.
pub fn close_inherited() {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    let names: Vec<RawFd> = entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).collect();
    for fd in names.into_iter().filter(|fd| *fd > 2) {
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
    let joins = ready.join.joins();
    // Somebody must stay to report.
    let fork = args.json || (ready.join.needs_fork() && !args.no_fork);
    let inside = Inside { ids: ids(&args, joins.contains(Kind::User)), keep_caps: args.keep_caps, ready };
    if !fork {
        inside.ready.join.apply(&ctx)?;
        return Err(inside.become_command(&ctx).into());
    }
    let signals = drydock_supervise::Blocked::all()?;
    let (end, child_end) = relay::pair()?;
    inside.ready.join.apply(&ctx)?;
    let child = inside.fork(&end, child_end, &ctx)?;
    match end.hear() {
        Ok(Said::Closed) => {}
        Ok(_) => return Err(Error::failed("child", "said something out of turn").into()),
        Err(e) => {
            drydock_supervise::wait_exit(&child)?;
            return Err(e.into());
        }
    }
    let code = drydock_supervise::wait_in_foreground(&child, false, &signals)?.code();
    if args.json {
        let joined: Vec<&str> = joins.iter().map(Kind::proc_name).collect();
        let report = serde_json::json!({ "pid": child.pid, "joined": joined, "exit_code": code });
        drydock_cli::output::print_error_line(&report.to_string());
    }
    Ok(code)
}

/// The ids to take on: root's in a joined user namespace, where the caller's need not exist.
fn ids(args: &Args, user_joined: bool) -> Ids {
    let default = (user_joined && !args.preserve_credentials).then_some(0);
    Ids { uid: args.setuid.or(default), gid: args.setgid.or(default), keep_capabilities: args.keep_caps }
}

/// The process that becomes the command.
struct Inside {
    ready: Ready,
    ids: Ids,
    keep_caps: bool,
}

impl Inside {
    fn fork(mut self, end: &End, child_end: End, ctx: &Ctx<'_>) -> Result<Child> {
        // The child is visible in the target's pid namespace at once: it must hold no directory of ours, such as the
        // /proc of the outside.
        self.ready.join = self.ready.join.close();
        let raw = end.as_raw_fd();
        let step = EnterStep::Fork;
        ctx.perform(&step, |_| {
            let child = || {
                let _ = nix::unistd::close(raw);
                let error = self.become_command(ctx);
                child_end.fail(&error);
                error.exit_code()
            };
            clone_child(0, None, child).call(|| "clone3({flags=CLONE_PIDFD, exit_signal=SIGCHLD})")
        })
    }

    /// Returns only if it could not become the command.
    fn become_command(&self, ctx: &Ctx<'_>) -> Error {
        if let Err(e) = self.settle(ctx) {
            return e;
        }
        let error = self.ready.command.exec();
        match &self.ready.fallback {
            Some(fallback) if error.kind() == drydock_core::Kind::NotFound => fallback.exec(),
            _ => error,
        }
    }

    fn settle(&self, ctx: &Ctx<'_>) -> Result<()> {
        for (path, file) in &self.ready.cgroups {
            ctx.perform(&EnterStep::Cgroup(path.clone()), |_| {
                let mut file = file;
                file.write_all(b"0").call(|| format!("write({path:?}, \"0\")"))
            })?;
        }
        if let Some(root) = &self.ready.root {
            ctx.perform(&EnterStep::Root, |_| exec::enter_root(root.as_fd()))?;
        }
        if let Some(directory) = &self.ready.directory {
            ctx.perform(&EnterStep::Directory("target's".into()), |_| exec::enter_directory(directory))?;
        }
        if let Some(path) = &self.ready.inside_directory {
            ctx.perform(&EnterStep::Directory(path.clone()), |_| {
                nix::unistd::chdir(path.as_path()).call(|| format!("chdir({path:?})"))
            })?;
        }
        tty::forbid_typing();
        if self.ids.uid.is_some() || self.ids.gid.is_some() {
            ctx.perform(&EnterStep::Ids(self.ids), |_| credentials::become_ids(self.ids))?;
        }
        if self.keep_caps {
            credentials::keep_over_exec()?
        } else {
            credentials::clear_inheritable()?
        }
        exec::clean_process()
    }
}

/// The steps besides joining.
enum EnterStep {
    Fork,
    Cgroup(PathBuf),
    Root,
    Directory(PathBuf),
    Ids(Ids),
}

impl Explain for EnterStep {
    fn explain(&self) -> Step {
        let (call, why, man) = match self {
            EnterStep::Fork => (
                "clone3({flags=CLONE_PIDFD, exit_signal=SIGCHLD})".to_string(),
                "setns(2) does not move the caller into a pid namespace, only what it forks",
                "pid_namespaces(7)",
            ),
            EnterStep::Cgroup(path) => {
                (format!("write({path:?}, \"0\")"), "join the target's cgroup", "cgroups(7)")
            }
            EnterStep::Root => {
                ("fchdir(root), chroot(\".\")".to_string(), "the command's root directory", "chroot(2)")
            }
            EnterStep::Directory(path) => {
                (format!("chdir({path:?})"), "the command's working directory", "chdir(2)")
            }
            EnterStep::Ids(ids) => {
                let text = |id: Option<u32>| id.map_or("-1".to_string(), |id| id.to_string());
                let call = format!(
                    "setgroups(0, []), setresgid({0}, …), setresuid({1}, …)",
                    text(ids.gid),
                    text(ids.uid)
                );
                (call, "ids that exist in the user namespace", "credentials(7)")
            }
        };
        Step { stage: "join".into(), call, why: why.into(), man: man.into(), undo: None }
    }
}
