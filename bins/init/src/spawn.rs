//! `init` as a program: with `--unshare` it makes the namespaces and their first process, without it runs in place.

use crate::command::Args;
use crate::inside::{Peer, Plan};
use crate::options::Surroundings;
use drydock_cgroups::{Cgroup, Layout};
use drydock_cli::Explainer;
use drydock_core::error::CallExt;
use drydock_core::sys::fd::replace_standard_stream;
use drydock_core::sys::{process, signal};
use drydock_core::{ContainerId, Error, Observer, Result};
use drydock_mounts::Root;
use drydock_namespaces::{Kind, Set};
use drydock_supervise::exec::{Command, utf8_words};
use drydock_supervise::reap::{self, Policy};
use drydock_supervise::{Blocked, Supervised};
use nix::unistd::Pid;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Nobody else takes part: ready at once, and the console is this process's own business.
struct Alone {
    explainer: Explainer,
}

impl Peer for Alone {
    fn console(&self, _: BorrowedFd<'_>) -> Result<()> {
        Err(Error::bad_input("--tty", "needs somebody to show the terminal (allowed: container run -t)"))
    }
    fn ready(&self) -> Result<()> {
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
    if command.is_empty() {
        return Err(Error::bad_input("command", "missing (allowed: init [OPTIONS] -- COMMAND…)"));
    }
    let new = namespaces(&args.unshare)?;
    if args.root.is_some() && !new.contains(Kind::Mount) {
        return Err(Error::bad_input(
            "--root",
            "needs a mount namespace of its own (allowed: with --unshare mount)",
        ));
    }
    if let Some(id) = &args.id {
        ContainerId::parse(id)?;
    }
    check_fit(args)?;
    if args.root.is_none() && !args.confine && new.is_empty() && args.cgroup.is_none() && !sets_up(args) {
        return in_place(args, &command);
    }
    let plan = plan(args, new, &command)?.reap_with(reaper_options(args));
    let birth = Birth::of(args)?;
    if args.exec && new.is_empty() && args.cgroup.is_none() {
        return Err(birth.settle().err().unwrap_or_else(|| enter(plan, args.explain)));
    }
    let signals = Blocked::all()?;
    let cloned = Set::flags(new.without(Kind::Cgroup));
    let target = birth.target.as_ref().map(AsFd::as_fd);
    let child = process::clone_child(cloned, target, || child(plan, &birth, args.explain))
        .map_err(|e| drydock_namespaces::create::explain_clone(e, new, "clone3"))?;
    let ended = Supervised::new(&child, new.contains(Kind::Pid)).wait(&signals)?;
    Ok(ended.code())
}

/// Options that would have no effect are mistakes, not requests.
fn check_fit(args: &Args) -> Result<()> {
    let o = &args.inside;
    if o.tty {
        return Err(Error::bad_input(
            "--tty",
            "needs somebody to show the terminal (allowed: container run -t)",
        ));
    }
    let rooted = [
        ("--volume", !o.volume.is_empty()),
        ("--tmpfs", !o.tmpfs.is_empty()),
        ("--read-only", o.read_only),
        ("--shm-size", o.shm_size.is_some()),
        ("--file", !o.file.is_empty()),
    ];
    match rooted.into_iter().find(|(_, given)| *given && args.root.is_none()) {
        Some((option, _)) => Err(Error::bad_input(
            option,
            "needs a root file system (allowed: with --unshare mount --root DIR)",
        )),
        None => Ok(()),
    }
}

/// What the reaper inside is told: the options that are its own.
fn reaper_options(args: &Args) -> Vec<CString> {
    let flags = [(c"-g", args.group), (c"-s", args.subreaper)];
    let mut words: Vec<CString> =
        flags.iter().filter(|(_, on)| *on).map(|(word, _)| CString::from(*word)).collect();
    if args.grace > 0 {
        words.extend(CString::new(format!("--grace={}", args.grace)));
    }
    words
}

/// Does any option ask for more than a plain init?
fn sets_up(args: &Args) -> bool {
    let o = &args.inside;
    o.hostname.is_some()
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

fn namespaces(words: &[String]) -> Result<Set> {
    let mut set = Set::default();
    for word in words {
        let kind: Kind = word.parse()?;
        set.insert(kind);
    }
    Ok(set)
}

fn plan(args: &Args, new: Set, command: &[String]) -> Result<Plan> {
    let root = args.root.as_ref().map(|dir| checked_root(dir)).transpose()?;
    let confined = root.is_some() || args.confine;
    let mut request = args.inside.request(
        command,
        Surroundings {
            root,
            new_network: new.contains(Kind::Network),
            new_cgroup: new.contains(Kind::Cgroup),
            user_namespace: new.contains(Kind::User),
            id: args.id.clone(),
        },
    )?;
    request.reaper = !args.exec;
    request.session = confined;
    if !confined && args.inside.cap_add.is_empty() && args.inside.cap_drop.is_empty() {
        // A bare namespace keeps the caller's privileges, as unshare(1) does.
        request.security.capabilities = None;
        if args.inside.security_opt.is_empty() {
            request.security.seccomp = drydock_security::Seccomp::None;
            request.security.no_new_privs = false;
        }
    }
    request.validate()
}

fn checked_root(dir: &std::path::Path) -> Result<Root> {
    let shown = drydock_core::text::escape(&dir.to_string_lossy());
    let real = std::fs::canonicalize(dir).call(|| format!("realpath({dir:?})"));
    let real = real.map_err(|e| Error::bad_input("--root", format!("'{shown}': {}", e.sentence())))?;
    if !real.is_dir() {
        return Err(Error::bad_input("--root", format!("'{shown}' is not a directory")));
    }
    if real == std::path::Path::new("/") {
        return Err(Error::bad_input(
            "--root",
            "'/' is the host's own root (allowed: a directory of its own)",
        ));
    }
    Ok(Root::directory(real))
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

fn child(plan: Plan, birth: &Birth, explain: bool) -> u8 {
    // The parent's end is our end: a container made by hand should not outlive its command line.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    signal::reset_dispositions();
    let _ = signal::unblock_all();
    let error = birth.settle().err().unwrap_or_else(|| enter(plan, explain));
    drydock_cli::report("init", &error.into())
}

fn enter(mut plan: Plan, explain: bool) -> Error {
    plan.enter(&Alone { explainer: Explainer { on: explain } })
}

/// A process group of its own, which a terminal on standard input then belongs to: a background group could not read
/// it. SIGTTOU is still blocked.
fn lead_group() {
    let _ = nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0));
    let stdin = std::io::stdin();
    if nix::unistd::isatty(&stdin).unwrap_or(false) {
        let _ = nix::unistd::tcsetpgrp(&stdin, nix::unistd::getpgrp());
    }
}

/// The plain init: fork, exec, reap.
fn in_place(args: &Args, command: &[String]) -> Result<u8> {
    let env: Vec<String> = std::env::vars_os()
        .filter_map(|(k, v)| Some(format!("{}={}", k.into_string().ok()?, v.into_string().ok()?)))
        .collect();
    let command = Command::new(command, &env)?;
    if std::process::id() != 1 {
        if !args.subreaper {
            drydock_cli::output::warn(
                "init",
                "not PID 1: orphans of the command go to the system's init (-s keeps them)",
            );
        } else {
            reap::become_subreaper()?;
        }
    }
    let birth = Birth::of(args)?;
    let signals = Blocked::all()?;
    let group = args.group;
    let child = process::clone_child(0, None, || {
        signal::reset_dispositions();
        if group {
            lead_group();
        }
        let _ = signal::unblock_all();
        let error = birth.settle().err().unwrap_or_else(|| command.exec());
        drydock_cli::report("init", &error.into())
    })
    .call(|| "clone3(CLONE_PIDFD)")
    .map_err(|e| match e.errno() {
        Some(nix::libc::EAGAIN) => e
            .because("cannot make a process")
            .hint("RLIMIT_NPROC (ulimit -u) or a cgroup's pids.max is reached"),
        _ => e,
    })?;
    if group {
        // Both sides do it: a signal may come before the child gets there.
        let child = Pid::from_raw(child.pid);
        let _ = nix::unistd::setpgid(child, child);
    }
    let policy = Policy { group, grace_ms: args.grace };
    Ok(reap::run(&child, &signals, policy)?.code())
}
