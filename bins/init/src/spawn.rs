//! `init` as a program: with `--unshare` it makes the namespaces and their first process, without it runs in place.

use crate::ask;
use crate::command::Args;
use crate::inside::{Peer, Plan};
use crate::pidfile::PidFile;
use drydock_cgroups::{Cgroup, Layout};
use drydock_cli::Explainer;
use drydock_core::error::CallExt;
use drydock_core::sys::fd::replace_standard_stream;
use drydock_core::sys::{process, signal};
use drydock_core::{ContainerId, Ctx, Error, Observer, Result};
use drydock_namespaces::idmap::write_maps;
use drydock_namespaces::relay::{self, End, Said};
use drydock_namespaces::{IdMap, Kind, Set};
use drydock_supervise::exec::utf8_words;
use drydock_supervise::{Blocked, Supervised};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Nobody else takes part: ready at once; the terminal is for whoever waits at the other end.
struct Alone {
    explainer: Explainer,
    end: Option<End>,
}

impl Peer for Alone {
    fn console(&self, master: BorrowedFd<'_>) -> Result<()> {
        match &self.end {
            Some(end) => {
                drydock_supervise::terminal::leave_newlines(master);
                end.terminal(master)
            }
            None => Err(Error::bad_input(
                "--tty",
                "needs somebody to show the terminal (allowed: no --exec without --unshare)",
            )),
        }
    }
    fn ready(&self, _env: &[String], _confine: &dyn Fn() -> Result<()>) -> Result<()> {
        Ok(())
    }
    fn observer(&self) -> &dyn Observer {
        &self.explainer
    }
}

/// Runs `init` with these arguments; the exit code to pass on.
///
/// # Errors
/// Bad input before anything is touched, or the step that failed.
pub fn run(args: &Args) -> Result<u8> {
    let command = utf8_words("command", args.command.iter().map(std::ffi::OsString::as_os_str))?;
    args.reaping.check()?;
    if args.reaping.pause {
        return pause(args, &command);
    }
    if command.is_empty() && args.request.is_none() {
        return Err(Error::bad_input("command", "missing (allowed: init [OPTIONS] -- COMMAND…)"));
    }
    let new = ask::namespaces(&args.unshare)?;
    if args.root.is_some() && !new.contains(Kind::Mount) {
        return Err(Error::bad_input(
            "--root",
            "needs a mount namespace of its own (allowed: with --unshare mount)",
        ));
    }
    if let Some(id) = &args.id {
        ContainerId::parse(id)?;
    }
    ask::check_fit(args, new)?;
    if args.root.is_none() && !args.confine && new.is_empty() && args.cgroup.is_none() && !sets_up(args) {
        return in_place(args, &command);
    }
    if let Some(option) = args.reaping.speaks() {
        let why =
            "speaks to somebody outside, whom the new inside does not reach (allowed: for a plain init)";
        return Err(Error::bad_input(option, why));
    }
    let mut plan = ask::plan(args, new, &command)?.reap_with(reaper_options(args));
    let terminal = plan.request().terminal;
    let birth = Birth::of(args)?;
    if args.exec && new.is_empty() && args.cgroup.is_none() {
        return Err(birth.settle().err().unwrap_or_else(|| enter(plan, args.explain, None)));
    }
    make_layers(&plan)?;
    plan.open_sources(None)?;
    let security = plan.security().clone();
    let mut pid_file = PidFile::open(args.reaping.pid_file.as_deref())?;
    let signals = Blocked::all()?;
    let cloned = Set::flags(new.without(Kind::Cgroup));
    let target = birth.target.as_ref().map(AsFd::as_fd);
    let (here, there) = relay::pair()?;
    let mut here = Some(here);
    let born = Born { wait: new.contains(Kind::User), explain: args.explain };
    let child = process::clone_child(cloned, target, || {
        drop(here.take());
        child(plan, &birth, there, born)
    })
    .map_err(|e| drydock_namespaces::create::explain_clone(e, new, "clone3"))?;
    let (Some(end), is_pid_1) = (here, new.contains(Kind::Pid)) else {
        return Err(Error::failed("child", "has gone"));
    };
    if let Err(error) = attend(args, new, &security, &child, &end) {
        // It ends as soon as nobody is at the other end.
        drop(end);
        drydock_supervise::wait_exit(&child)?;
        return Err(error);
    }
    if let Err(error) = pid_file.write(child.pid) {
        return Err(crate::stay::end(&child, error));
    }
    let master = if terminal { terminal_of(&end)? } else { None };
    drop(end);
    let ended = match master {
        Some(master) => drydock_supervise::relay::relay(&child, is_pid_1, &signals, &master, !args.no_stdin)?,
        None => Supervised::new(&child, is_pid_1).wait(&signals)?,
    };
    Ok(ended.code())
}

/// An init without a command.
fn pause(args: &Args, command: &[String]) -> Result<u8> {
    let alone = args.root.is_none() && !args.confine && args.unshare.is_empty() && args.cgroup.is_none();
    match command.is_empty() && args.request.is_none() && alone && !sets_up(args) {
        true => in_place(args, command),
        false => Err(Error::bad_input(
            "--pause",
            "stays without a command (allowed: no command, and only a plain init's options)",
        )),
    }
}

/// The tmpfs of an overlay is mounted on a directory of the host's.
fn make_layers(plan: &Plan) -> Result<()> {
    let scratch = plan.request().mounts.as_ref().and_then(|m| m.root.overlay.as_ref()?.scratch.as_ref());
    let Some(scratch) = scratch else { return Ok(()) };
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o755);
    builder.recursive(true).create(&scratch.path).call(|| format!("mkdir({:?}, 0755)", scratch.path))
}

/// Writes the maps of a new user namespace, sets what only its parent may set, and lets its process go on.
fn attend(
    args: &Args,
    new: Set,
    security: &drydock_security::Plan,
    child: &process::Child,
    end: &End,
) -> Result<()> {
    if !new.contains(Kind::User) {
        return Ok(());
    }
    let own = |id: u32| vec![IdMap::new(0, id, 1)];
    let (uid, gid) = if args.map_users.is_empty() {
        (own(nix::unistd::geteuid().as_raw()), own(nix::unistd::getegid().as_raw()))
    } else {
        (args.map_users.clone(), args.map_groups.clone())
    };
    let explainer = Explainer { on: args.explain };
    let ctx = Ctx::new(&explainer, None);
    write_maps(child.pid, &uid, &gid, &ctx)?;
    security.apply_outside(&ctx, child.pid)?;
    end.go()
}

/// The master of the child's terminal; nothing if the child has ended before it had one, having said why.
fn terminal_of(end: &End) -> Result<Option<OwnedFd>> {
    match end.hear()? {
        Said::Terminal(master) => Ok(Some(master)),
        _ => Ok(None),
    }
}

/// What the reaper inside is told: the options that are its own.
fn reaper_options(args: &Args) -> Vec<CString> {
    args.reaping.words().into_iter().chain(args.json.then(|| c"--json".into())).collect()
}

/// Does any option ask for more than a plain init?
fn sets_up(args: &Args) -> bool {
    let o = &args.inside;
    o.hostname.is_some()
        || args.request.is_some()
        || o.user.is_some()
        || o.workdir.is_some()
        || !o.sysctl.is_empty()
        || !o.env.is_empty()
        || !o.env_file.is_empty()
        || !o.cap_add.is_empty()
        || !o.cap_drop.is_empty()
        || !o.security_opt.is_empty()
        || !o.ulimit.is_empty()
        || args.exec
}

/// Where the first process is born, and what it gets to read: opened before the clone.
struct Birth {
    /// v2: for CLONE_INTO_CGROUP.
    target: Option<OwnedFd>,
    /// v1: the files through which the child moves itself.
    files: Vec<OwnedFd>,
    stdin: Option<OwnedFd>,
}

impl Birth {
    fn of(args: &Args) -> Result<Self> {
        let mut birth = Self { target: None, files: Vec::new(), stdin: None };
        if let Some(name) = &args.cgroup {
            let cgroup = Cgroup::open(name, &Layout::detect()?)?;
            birth.target = cgroup.clone_target()?;
            birth.files = cgroup.join_files()?;
        }
        if args.no_stdin {
            let null = std::fs::File::open("/dev/null").call(|| "open(\"/dev/null\", O_RDONLY)")?;
            birth.stdin = Some(null.into());
        }
        Ok(birth)
    }

    /// The child's part, before it sets up the inside.
    fn settle(&self) -> Result<()> {
        drydock_cgroups::join(&self.files)?;
        match &self.stdin {
            Some(null) => replace_standard_stream(null.as_fd(), 0).call(|| "dup2(\"/dev/null\", 0)"),
            None => Ok(()),
        }
    }
}

/// How the child begins.
#[derive(Clone, Copy)]
struct Born {
    /// In a user namespace, whose maps are to be waited for.
    wait: bool,
    explain: bool,
}

fn child(plan: Plan, birth: &Birth, end: End, born: Born) -> u8 {
    // The parent's end is our end: a container made by hand should not outlive its command line.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    signal::reset_dispositions();
    let _ = signal::unblock_all();
    let begun = birth.settle().and_then(|()| if born.wait { begin(&end) } else { Ok(true) });
    let error = match begun {
        Ok(true) => enter(plan, born.explain, Some(end)),
        // The parent says why.
        Ok(false) => return drydock_core::exit::FAILED,
        Err(error) => error,
    };
    drydock_cli::report("init", &error.into())
}

/// Waits for the maps; false: there will be none.
fn begin(end: &End) -> Result<bool> {
    match end.hear()? {
        Said::Go => drydock_namespaces::credentials::become_root_inside().map(|()| true),
        _ => Ok(false),
    }
}

fn enter(mut plan: Plan, explain: bool, end: Option<End>) -> Error {
    plan.enter(&Alone { explainer: Explainer { on: explain }, end })
}

/// The plain init: fork, exec, reap.
fn in_place(args: &Args, command: &[String]) -> Result<u8> {
    let inherited = drydock_core::sys::fd::inherited();
    let birth = Birth::of(args)?;
    let report = crate::stay::run(&args.reaping, command, inherited, &|| birth.settle())?;
    if args.json {
        drydock_cli::output::print_error_line(&crate::report::full(&args.command, &report).to_string());
    }
    Ok(report.code)
}
