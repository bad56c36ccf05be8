//! `rootfs enter`: a command with a directory as its root.

use drydock_cli::{Explainer, Outcome};
use drydock_core::error::CallExt;
use drydock_core::exec::Command;
use drydock_core::sys::process::{Child, clone_child};
use drydock_core::{Ctx, Error, Explain, Result, Step};
use drydock_mounts::inside::{Inside, Links, open_host};
use drydock_mounts::{Mount, Pivot, Plan, Request, Root};
use drydock_namespaces::exec::clean_process;
use drydock_namespaces::relay::{self, End};
use drydock_supervise::foreground::wait_in_foreground;
use drydock_supervise::wait::{Blocked, wait_exit};
use nix::sched::CloneFlags;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

const NOTES: &str = "\
The command is PID 1 of a new pid namespace, with mount, ipc and cgroup namespaces of its own. /proc, /sys and /dev are
mounted in there (missing mount points are made in DIR), then the host's mounts are taken away. Needs root, and keeps
root's capabilities: use 'container run' for a command that is not trusted.

Exit code: the command's own; 128+n if signal n ended it; 126 it cannot be executed; 127 not found; 125 rootfs failed;
2 bad input. See pivot_root(2), mount_namespaces(7), chroot(2).";

/// Runs a command with DIR as its root, in mount, pid, ipc and cgroup namespaces of its own: /proc, /sys and /dev
/// are mounted in there (missing mount points are made in DIR), then pivot_root(2) takes the host's mounts away.
/// Needs root. It keeps root's capabilities: use `container run` for a command that is not trusted.
#[derive(clap::Args)]
#[command(after_help = NOTES)]
pub struct Args {
    /// The root file system
    #[arg(value_name = "DIR")]
    root: PathBuf,
    /// Use chroot(2) instead of pivot_root(2), and say why that is weaker
    #[arg(long)]
    chroot: bool,
    /// Make / read-only
    #[arg(long)]
    read_only: bool,
    /// Mount nothing: no /proc, /sys and /dev, no masks
    #[arg(long)]
    no_defaults: bool,
    /// Mount what this file says instead: the mounts stage of `container plan --format json`
    #[arg(long, value_name = "FILE", conflicts_with = "no_defaults")]
    mounts: Option<PathBuf>,
    /// Bind a file or directory of the host, too: options as in mount(8), such as ro,noexec
    #[arg(short = 'v', long, value_name = "SRC:DST[:OPTIONS]")]
    bind: Vec<String>,
    /// Mount a tmpfs, too: options as size=64m,mode=755
    #[arg(long, value_name = "DST[:OPTIONS]")]
    tmpfs: Vec<String>,
    /// Make no child and no namespaces except a mount namespace, for a caller that has made the others
    #[arg(long)]
    no_fork: bool,
    /// Working directory, inside
    #[arg(short, long, value_name = "DIR", default_value = "/")]
    workdir: String,
    /// Host name, in a uts namespace of its own
    #[arg(long, value_name = "NAME", conflicts_with = "no_fork")]
    hostname: Option<String>,
    /// Print each step with its system call and why, before doing it
    #[arg(long)]
    explain: bool,
    /// When the command has ended, print on stderr, as a line of JSON, its PID and how it ended
    #[arg(long, conflicts_with = "no_fork")]
    json: bool,
    /// The command and its arguments
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true)]
    command: Vec<OsString>,
}

/// Runs it; the outcome is the command's exit code.
pub fn run(args: Args) -> Outcome {
    check(&args)?;
    let (root, plan) = plan(&args)?;
    let explainer = Explainer { on: args.explain };
    let ctx = Ctx::new(&explainer, None);
    if args.chroot {
        drydock_cli::output::warn("rootfs", drydock_mounts::pivot::WHY_CHROOT_IS_WEAKER);
    }
    for note in plan.notes() {
        drydock_cli::output::warn("rootfs", note);
    }
    let place = format!("the root file system {}", root.display());
    let command = Command::of_caller(&args.command)?.within(place);
    if args.no_fork {
        return Err(in_place(&args, &plan, &command, &ctx).into());
    }
    let signals = Blocked::all()?;
    let (ours, theirs) = relay::pair()?;
    let step = Clone { flags: flags(&args), fork: true };
    let child = ctx.perform(&step, |step| {
        let body = || inside(&args, &plan, &command, &theirs, &ctx);
        clone_child(step.flags.bits().cast_unsigned().into(), None, body)
            .call(|| step.explain().call)
            .map_err(explain_clone)
    })?;
    drop(theirs);
    let code = finish(&child, &ours, &signals)?;
    if args.json {
        let report = serde_json::json!({ "root": root, "pid": child.pid, "exit_code": code });
        drydock_cli::output::print_error_line(&report.to_string());
    }
    Ok(code)
}

fn check(args: &Args) -> Result<()> {
    if args.command.first().is_some_and(|c| c.is_empty()) {
        return Err(Error::bad_input("CMD", "empty (allowed: a program and its arguments)"));
    }
    if !args.workdir.starts_with('/') || args.workdir.contains('\0') {
        let shown = drydock_core::text::escape(&args.workdir);
        return Err(Error::bad_input(
            "--workdir",
            format!("'{shown}' is relative (allowed: an absolute path)"),
        ));
    }
    let Some(name) = &args.hostname else { return Ok(()) };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
        let shown = drydock_core::text::shorten(&drydock_core::text::escape(name), 70);
        let allowed = "1 to 64 of A-Z a-z 0-9 - . _";
        return Err(Error::bad_input(
            "--hostname",
            format!("'{shown}' is not a host name (allowed: {allowed})"),
        ));
    }
    Ok(())
}

fn plan(args: &Args) -> Result<(PathBuf, Plan)> {
    let root = directory(&args.root)?;
    let mut request = match &args.mounts {
        Some(file) => read_request(file)?,
        None if args.no_defaults => Request::default(),
        None => Request::container_defaults(Root::default()),
    };
    request.root.path.clone_from(&root);
    request.root.readonly |= args.read_only;
    for text in &args.bind {
        request.mounts.push(bind(text)?);
    }
    for text in &args.tmpfs {
        let (destination, options) = text.split_once(':').unwrap_or((text, ""));
        request.mounts.push(Mount::tmpfs(destination, &split_options(options)));
    }
    if args.chroot {
        request.pivot = Pivot::Chroot;
    }
    Ok((root, request.validate()?))
}

fn split_options(text: &str) -> Vec<&str> {
    text.split(',').filter(|word| !word.is_empty()).collect()
}

fn bind(text: &str) -> Result<Mount> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, options) = match parts.as_slice() {
        [source, destination] => (*source, *destination, ""),
        [source, destination, options] => (*source, *destination, *options),
        _ => ("", "", ""),
    };
    if source.is_empty() || destination.is_empty() {
        let shown = drydock_core::text::shorten(&drydock_core::text::escape(text), 200);
        return Err(Error::bad_input("--bind", format!("'{shown}' (allowed: SRC:DST or SRC:DST:OPTIONS)")));
    }
    let source = std::path::absolute(source).call(|| "getcwd()")?;
    Ok(Mount::bind(&source.to_string_lossy(), destination, &split_options(options)))
}

/// A request as JSON, from a regular file of at most 4 MiB.
fn read_request(file: &Path) -> Result<Request> {
    use std::io::Read;
    let shown = format!("'{}'", drydock_core::text::escape(&file.to_string_lossy()));
    let unusable =
        |why: String| Error::bad_input(shown.clone(), format!("{why} (allowed: the mounts stage as JSON)"));
    let told = |e: std::io::Error| {
        unusable(e.raw_os_error().map_or_else(|| e.to_string(), drydock_core::error::errno_text))
    };
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC;
    let fd = rustix::fs::open(file, flags, rustix::fs::Mode::empty()).map_err(|e| told(e.into()))?;
    let open = std::fs::File::from(fd);
    let meta = open.metadata().map_err(told)?;
    if !meta.is_file() || meta.len() > MAX_REQUEST {
        return Err(unusable("is not a regular file of at most 4 MiB".to_string()));
    }
    let mut text = String::new();
    open.take(MAX_REQUEST).read_to_string(&mut text).map_err(told)?;
    serde_json::from_str(&text).map_err(|e| unusable(e.to_string()))
}

const MAX_REQUEST: u64 = 4 << 20;

/// Without a child: this process leaves its mount namespace, so that whatever the caller did, the host's is not touched.
fn in_place(args: &Args, plan: &Plan, command: &Command, ctx: &Ctx<'_>) -> Error {
    let step = Clone { flags: CloneFlags::CLONE_NEWNS, fork: false };
    let gone = ctx.perform(&step, |step| {
        nix::sched::unshare(step.flags).call(|| step.explain().call).map_err(explain_clone)
    });
    match gone.and_then(|()| enter(args, plan, ctx)) {
        Ok(()) => command.exec(),
        Err(error) => error,
    }
}

/// The directory's absolute path without symbolic links.
fn directory(path: &Path) -> Result<PathBuf> {
    let shown = format!("'{}'", drydock_core::text::escape(&path.to_string_lossy()));
    let real = std::fs::canonicalize(path).map_err(|e| {
        let why = e.raw_os_error().map_or_else(|| e.to_string(), drydock_core::error::errno_text);
        Error::bad_input(shown.clone(), format!("cannot be entered: {why} (allowed: a directory)"))
            .hint("make a root file system with 'rootfs new', 'rootfs copy' or 'rootfs busybox'")
    })?;
    if real.is_dir() {
        Ok(real)
    } else {
        Err(Error::bad_input(shown, "is not a directory (allowed: a directory)"))
    }
}

fn flags(args: &Args) -> CloneFlags {
    let mut flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID;
    if !args.no_defaults {
        // mqueue shows the ipc namespace's queues, and the cgroup mounts the cgroup namespace's root.
        flags |= CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWCGROUP;
    }
    if args.hostname.is_some() {
        flags |= CloneFlags::CLONE_NEWUTS;
    }
    flags
}

struct Clone {
    flags: CloneFlags,
    fork: bool,
}

impl Explain for Clone {
    fn explain(&self) -> Step {
        let names: Vec<&str> = self.flags.iter_names().map(|(name, _)| name).collect();
        let names = names.join("|");
        let (call, why, man) = match self.fork {
            true => (
                format!("clone3({{flags={names}, exit_signal=SIGCHLD}})"),
                "a child in namespaces of its own: what it mounts, no one else sees",
                "clone(2)",
            ),
            false => {
                (format!("unshare({names})"), "what is mounted from here on, no one else sees", "unshare(2)")
            }
        };
        Step { stage: "clone".into(), call, why: why.into(), man: man.into(), undo: None }
    }
}

fn explain_clone(error: Error) -> Error {
    match error.errno() {
        Some(nix::libc::EPERM) => {
            error.hint("needs CAP_SYS_ADMIN: run as root, or in 'container unshare --user -r'")
        }
        Some(nix::libc::ENOSPC) => error.hint("too many namespaces: see /proc/sys/user/max_mnt_namespaces"),
        _ => error,
    }
}

/// The child: mounts, enters, executes. Returns only if that failed; the parent is told why.
fn inside(args: &Args, plan: &Plan, command: &Command, parent: &End, ctx: &Ctx<'_>) -> u8 {
    let error = match enter(args, plan, ctx) {
        Ok(()) => command.exec(),
        Err(error) => error,
    };
    parent.fail(&error);
    error.exit_code()
}

fn enter(args: &Args, plan: &Plan, ctx: &Ctx<'_>) -> Result<()> {
    // If rootfs is killed, nothing of it is left running.
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)
        .call(|| "prctl(PR_SET_PDEATHSIG, SIGKILL)")?;
    if let Some(name) = &args.hostname {
        nix::unistd::sethostname(name).call(|| format!("sethostname({name:?})"))?;
    }
    let report = plan.apply(ctx)?;
    for note in report.notes.iter().skip(plan.notes().len()) {
        drydock_cli::output::warn("rootfs", note);
    }
    work_in(&args.workdir)?;
    clean_process()
}

/// Changes to a directory inside. Not through /proc/self/fd: a descriptor inherited from the caller may lead outside.
fn work_in(path: &str) -> Result<()> {
    let root = Inside::new(open_host(Path::new("/"), rustix::fs::OFlags::DIRECTORY)?);
    let Some(directory) = root.open(path, Links::Follow)? else {
        return Err(Error::failed(path, "no such working directory in the root file system"));
    };
    nix::unistd::fchdir(&directory).call(|| format!("chdir({path:?})")).map_err(|e| e.on(path))
}

fn finish(child: &Child, relay: &End, signals: &Blocked) -> Outcome {
    match relay.hear() {
        Ok(_) => Ok(wait_in_foreground(child, true, signals)?.code()),
        Err(error) => {
            wait_exit(child)?;
            Err(error.into())
        }
    }
}
