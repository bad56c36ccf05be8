//! What is asked for, opened and checked. Nothing changes here: a wrong option has no side effect.

use crate::args::{Args, Named, Target, Where, parse_target};
use crate::environment::{self, Situation};
use crate::ids::Account;
use crate::taken::{self, Taken};
use crate::terminal::{self, Terminal};
use crate::tools::Tools;
use crate::{cgroup, ids, numbers, target};
use drydock_core::error::CallExt;
use drydock_core::exec::{Command, join_pairs};
use drydock_core::{Error, Result};
use drydock_namespaces::process::Process;
use drydock_namespaces::{Kind, NamespaceId, Set, join, nsfile};
use drydock_security::CapSet;
use nix::errno::Errno;
use rustix::fs::{Mode, OFlags};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Everything that is needed to go in, open.
#[derive(Debug)]
pub struct Ready {
    /// The namespaces.
    pub join: join::Plan,
    /// Root directory.
    pub root: Option<OwnedFd>,
    /// Working directory.
    pub directory: Option<OwnedFd>,
    /// Working directory as a path inside.
    pub inside_directory: Option<PathBuf>,
    /// `cgroup.procs` or `tasks` of the target's cgroups.
    pub cgroups: Vec<(PathBuf, File)>,
    /// What the target may do.
    pub taken: Option<Taken>,
    /// The target's label.
    pub label: Option<drydock_security::Plan>,
    /// The only capabilities.
    pub capabilities: Option<CapSet>,
    /// Ids and groups.
    pub account: Account,
    /// A terminal of the command's own.
    pub terminal: Option<Terminal>,
    /// The caller's programs.
    pub tools: Option<Tools>,
    /// The command.
    pub command: Command,
    /// What to run if the default command is not there.
    pub fallback: Option<Command>,
    /// What is worth saying, though it is no error.
    pub warnings: Vec<String>,
}

/// Opens and checks everything that the arguments name.
///
/// # Errors
/// One sentence about the first thing that is wrong.
pub fn prepare(args: &Args) -> Result<Ready> {
    check_words(args)?;
    let found = find_process(args)?;
    let process = found.process.as_deref();
    let mut held: Vec<Rc<Process>> = found.process.iter().cloned().collect();
    let (request, opened) = join_request(args, process, found.container, &mut held)?;
    let join = request.plan_with(&mut held, opened)?;
    let mut warnings = Vec::new();
    // Who is known by a file of /proc only is not asked for more than what holds it.
    let holder = found.process.clone().or(of_paths(args)?);
    let holder = holder.as_deref();
    let enters = [Kind::User, Kind::Mount, Kind::Pid].into_iter().any(|kind| join.joins().contains(kind));
    let confined = !args.privileged && holder.is_some() && enters;
    let mounts = join.joins().contains(Kind::Mount);
    // Whoever is in the target's pid namespace can be taken hold of there, and its root with it.
    let inside = mounts || (join.joins().contains(Kind::Pid) && !args.no_fork);
    let root = open_root(args, process, holder, confined && inside, found.container && mounts)?;
    let directory = open_directory(args, process, confined, &mut warnings)?;
    let cgroups = cgroups(args, holder, confined, &mut warnings)?;
    if let (Some(process), true, true) =
        (process, join.joins().is_empty(), root.is_none() && cgroups.is_empty())
    {
        let pid = process.pid();
        warnings.push(format!("nothing to join: process {pid} shares these namespaces with you already"));
    }
    let taken = match holder.filter(|_| confined) {
        Some(holder) => Some(Taken::of(holder, same_user(holder, &join)?, &mut warnings)?),
        None => None,
    };
    let label = label(args, holder, confined)?;
    let capabilities = capabilities(args, taken.as_ref())?;
    let other_files = mounts || root.is_some();
    let account = ids::account(args, &join, process, root.as_ref().map(AsFd::as_fd))?;
    let situation = Situation { confined, other_files, home: account.home.as_path() };
    let mut env = environment::of(args, process, situation)?;
    let tools = args.tools.then(|| Tools::open(&join, confined && other_files)).transpose()?;
    if let Some(tools) = &tools {
        tools.set_path(&mut env);
    }
    let place = if other_files { found.place.as_str() } else { "this file system" };
    let (command, fallback) = commands(args, env, place, tools.is_some())?;
    let terminal = open_terminal(args, confined, root.as_ref())?;
    if let Some(process) = holder {
        process.check_alive()?;
    }
    let inside_directory = args.wdns.clone();
    Ok(Ready {
        join,
        root,
        directory,
        inside_directory,
        cgroups,
        taken,
        label,
        capabilities,
        account,
        terminal,
        tools,
        command,
        fallback,
        warnings,
    })
}

fn check_words(args: &Args) -> Result<()> {
    if let Some(wdns) = args.wdns.as_ref().filter(|w| !w.is_absolute()) {
        let problem = format!("'{}' is relative (allowed: an absolute path)", wdns.display());
        return Err(Error::bad_input("--wdns", problem));
    }
    if args.tty {
        terminal::check_caller()?;
    }
    if args.preserve_fds == 0 {
        return Ok(());
    }
    let open = drydock_core::sys::fd::inherited();
    let first_closed =
        (3..3 + args.preserve_fds).find(|n| i32::try_from(*n).is_ok_and(|n| n < 256 && !open.contains(&n)));
    match first_closed {
        Some(number) => Err(Error::bad_input(
            "--preserve-fds",
            format!("descriptor {number} is not open (allowed: open ones, from 3 up)"),
        )),
        None => Ok(()),
    }
}

/// Who is meant.
struct Found {
    process: Option<Rc<Process>>,
    container: bool,
    /// Where the command will be looked for, in words.
    place: String,
}

fn find_process(args: &Args) -> Result<Found> {
    let by_name = |name: &str| {
        let (id, process) = target::by_container(name, args.state_root.as_deref())?;
        let place = format!("the root of container {id}");
        Ok(Found { process: Some(Rc::new(process)), container: true, place })
    };
    if let Some(text) = &args.target {
        return match parse_target(text)? {
            Target::Container(name) => by_name(&name),
            Target::Process(pid, inode) => Ok(Found {
                process: Some(Rc::new(target::by_pid(pid, inode)?)),
                container: false,
                place: format!("the root of process {pid}"),
            }),
        };
    }
    match &args.named {
        Named::Container(name) => by_name(name),
        _ => Ok(Found { process: None, container: false, place: "the root that was joined".to_string() }),
    }
}

/// The process whose namespace files were named: `/proc/PID/ns/*`.
fn of_paths(args: &Args) -> Result<Option<Rc<Process>>> {
    let pid = |path: &Path| {
        let rest = path.to_str()?.strip_prefix("/proc/")?;
        let (pid, file) = rest.split_once('/')?;
        file.starts_with("ns/").then(|| pid.parse::<i32>().ok()).flatten()
    };
    let named = match &args.named {
        Named::Paths(paths) => paths.clone(),
        _ => Vec::new(),
    };
    let files = args.kinds.given()?.into_iter().filter_map(|(_, place)| match place {
        Where::File(path) => Some(path),
        _ => None,
    });
    match named.into_iter().chain(files).find_map(|path| pid(&path)) {
        Some(pid) => Process::open(pid).map(|process| Some(Rc::new(process))),
        None => Ok(None),
    }
}

pub(crate) fn needs_target(what: &str) -> Error {
    Error::bad_input(what, "needs a process (allowed: with -t PID or a container's name, or with =FILE)")
}

fn join_request(
    args: &Args,
    process: Option<&Process>,
    container: bool,
    held: &mut Vec<Rc<Process>>,
) -> Result<(join::Request, Vec<join::Opened>)> {
    let mut targets = Vec::new();
    let mut opened = Vec::new();
    if let Named::Paths(paths) = &args.named {
        for path in paths {
            let (_, kind) = nsfile::open(path, None)?;
            targets.push((kind, join::Source::Path(path.clone())));
        }
    }
    for (kind, place) in args.kinds.given()? {
        let source = match (place, process) {
            (Where::File(path), _) => join::Source::Path(path),
            (Where::Number(number), _) => {
                opened.push(numbers::open(kind, number)?);
                continue;
            }
            (Where::Target, Some(process)) => join::Source::Pid(process.pid()),
            (Where::Target, None) => return Err(needs_target(&format!("--{}", long_name(kind)))),
        };
        targets.push((kind, source));
    }
    if let Some(number) = args.net_socket {
        let process = process.ok_or_else(|| needs_target("--net-socket"))?;
        opened.push(numbers::of_socket(process, number)?);
    }
    let everything = args.all || (container && targets.is_empty() && opened.is_empty());
    if everything {
        let Some(process) = process else { return Err(needs_target("--all")) };
        let given: Set = targets.iter().map(|(kind, _)| *kind).chain(opened.iter().map(|o| o.kind)).collect();
        let rest = Kind::ALL.into_iter().filter(|kind| !given.contains(*kind));
        targets.extend(rest.map(|kind| (kind, join::Source::Pid(process.pid()))));
    }
    if args.user_parent {
        numbers::user_parent(&mut targets, &mut opened, held)?;
    }
    let other = args.root.is_some() || args.wd.is_some() || args.join_cgroup || args.follow_context;
    if targets.is_empty() && opened.is_empty() && !other {
        return Err(Error::bad_input(
            "arguments",
            "name nothing to join (allowed: PATH, NAME, or -t PID with -a or some of -m -u -i -n -p -C -U -T -r -w -c)",
        ));
    }
    Ok((join::Request { targets, skip_shared: everything }, opened))
}

fn long_name(kind: Kind) -> &'static str {
    if kind == Kind::Mount { "mount" } else { kind.proc_name() }
}

/// Whether the holder's user namespace is the one that the command will be in.
fn same_user(holder: &Process, join: &join::Plan) -> Result<bool> {
    let own = match join.file(Kind::User) {
        Some(file) => NamespaceId::of_fd(file)?,
        None => NamespaceId::of_self(Kind::User)?,
    };
    Ok(holder.namespace_id(Kind::User)? == own)
}

fn cgroups(
    args: &Args,
    holder: Option<&Process>,
    confined: bool,
    warnings: &mut Vec<String>,
) -> Result<Vec<(PathBuf, File)>> {
    match holder {
        None if args.join_cgroup => Err(needs_target("--join-cgroup")),
        Some(holder) if args.join_cgroup => cgroup::open(holder),
        Some(holder) if confined => match cgroup::open(holder) {
            // Frozen: the command would not run.
            Err(e) if e.kind() == drydock_core::Kind::BadInput => {
                Err(e.hint("--privileged stays in the own cgroup"))
            }
            Err(e) => {
                warnings.push(format!("stays in your cgroup: {}", e.sentence()));
                Ok(Vec::new())
            }
            other => other,
        },
        _ => Ok(Vec::new()),
    }
}

fn label(args: &Args, holder: Option<&Process>, confined: bool) -> Result<Option<drydock_security::Plan>> {
    if args.follow_context {
        let holder = holder.ok_or_else(|| needs_target("--follow-context"))?;
        let active = drydock_security::lsm_active();
        if !active.iter().any(|module| module == "apparmor" || module == "selinux") {
            return Err(Error::failed(
                "--follow-context",
                "neither SELinux nor AppArmor is active in this kernel",
            ));
        }
        return taken::label(holder);
    }
    holder.filter(|_| confined).map_or(Ok(None), taken::label)
}

fn capabilities(args: &Args, taken: Option<&Taken>) -> Result<Option<CapSet>> {
    if args.cap.is_empty() {
        return Ok(None);
    }
    let mut wanted = CapSet::EMPTY;
    for name in &args.cap {
        wanted = wanted | CapSet::parse(name).map_err(|e| e.on("--cap"))?;
    }
    let more = taken.map_or(CapSet::EMPTY, |taken| wanted - taken.permitted);
    match more.is_empty() || args.cap.iter().any(|name| name.eq_ignore_ascii_case("all")) {
        true => Ok(Some(wanted)),
        false => Err(Error::bad_input(
            "--cap",
            format!("{more} is more than the target has (allowed: with --privileged)"),
        )),
    }
}

fn open_root(
    args: &Args,
    process: Option<&Process>,
    holder: Option<&Process>,
    confined: bool,
    container: bool,
) -> Result<Option<OwnedFd>> {
    match (&args.root, process) {
        (Some(dir), _) if !dir.is_empty() => open_dir("--root", dir).map(Some),
        (Some(_), Some(process)) => process.root().map(Some),
        (Some(_), None) => Err(needs_target("--root")),
        // A container's root need not be the root of its mount namespace.
        (None, Some(process)) if container => process.root().map(Some),
        (None, _) => holder.filter(|_| confined).map(Process::root).transpose(),
    }
}

fn open_directory(
    args: &Args,
    process: Option<&Process>,
    confined: bool,
    warnings: &mut Vec<String>,
) -> Result<Option<OwnedFd>> {
    match (&args.wd, process) {
        (Some(dir), _) if !dir.is_empty() && confined => {
            let shown = drydock_core::text::escape(&dir.to_string_lossy());
            let why =
                "would be a way out of the target (allowed: with --privileged; -W for a directory inside)";
            Err(Error::bad_input("--wd", format!("'{shown}' of the outside {why}")))
        }
        (Some(dir), _) if !dir.is_empty() => open_dir("--wd", dir).map(Some),
        (Some(_), Some(process)) => match process.cwd() {
            Ok(fd) => Ok(Some(fd)),
            Err(e) if e.errno() == Some(Errno::ENOENT as i32) => {
                warnings.push("the target's working directory is gone: using /".to_string());
                Ok(None)
            }
            Err(e) => Err(e),
        },
        (Some(_), None) => Err(needs_target("--wd")),
        (None, _) => Ok(None),
    }
}

fn open_dir(option: &str, dir: &OsStr) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(Path::new(dir), flags, Mode::empty());
    opened.call(|| format!("open({dir:?}, O_PATH|O_DIRECTORY)")).map_err(|e| {
        let absent = matches!(e.errno().map(Errno::from_raw), Some(Errno::ENOENT | Errno::ENOTDIR));
        if absent { e.on(option).with_kind(drydock_core::Kind::BadInput) } else { e.on(option) }
    })
}

fn open_terminal(args: &Args, confined: bool, root: Option<&OwnedFd>) -> Result<Option<Terminal>> {
    let wanted = args.tty || (confined && terminal::callers() && !args.no_tty);
    (wanted && !args.no_fork).then(|| Terminal::open(root.map(AsFd::as_fd))).transpose()
}

/// The command, and what to run if it is a default that is not there.
fn commands(
    args: &Args,
    env: Vec<(OsString, OsString)>,
    place: &str,
    tools: bool,
) -> Result<(Command, Option<Command>)> {
    let shell = |env: &[(OsString, OsString)]| {
        let found = env.iter().find(|(name, value)| name == "SHELL" && !value.is_empty());
        // The caller's shell, too, where its environment stays outside.
        found.map(|(_, value)| value.clone()).or_else(|| std::env::var_os("SHELL")).filter(|s| !s.is_empty())
    };
    let shell = shell(&env);
    let env = join_pairs(env);
    let command = |argv: &[OsString]| Command::new(argv, &env).map(|command| command.within(place));
    if !args.words.is_empty() {
        // A path that the target does not have may be one of the tools.
        let first = args.words.first().map(Path::new).filter(|word| tools && word.is_absolute());
        let named = first.and_then(Path::file_name).map(OsStr::to_os_string);
        let words = named.map(|name| [&[name], args.words.get(1..).unwrap_or(&[])].concat());
        return Ok((command(&args.words)?, words.map(|words| command(&words)).transpose()?));
    }
    let default = command(&[if tools { "sh".into() } else { "/bin/sh".into() }])?;
    // By name, it is sought among the tools.
    let by_name = |shell: OsString| match Path::new(&shell).file_name().filter(|_| tools) {
        Some(name) => name.to_os_string(),
        None => shell,
    };
    match shell.map(by_name) {
        Some(shell) => Ok((command(&[shell])?, Some(default))),
        None => Ok((default, None)),
    }
}
