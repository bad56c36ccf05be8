//! What was asked, opened and checked. Nothing changes here: a wrong option has no side effect.

use crate::args::{Args, Named, parse_target};
use crate::{cgroup, target};
use drydock_core::error::CallExt;
use drydock_core::exec::{Command, join_pairs};
use drydock_core::{Error, Result};
use drydock_namespaces::process::Process;
use drydock_namespaces::{Kind, Set, join, nsfile};
use nix::errno::Errno;
use rustix::fs::{Mode, OFlags};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
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
    /// `cgroup.procs` of the target's cgroups.
    pub cgroups: Vec<(PathBuf, File)>,
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
    let (process, place) = find_process(args)?;
    let container = matches!(args.named, Named::Container(_));
    let request = join_request(args, process.as_deref(), container)?;
    let mut held: Vec<Rc<Process>> = process.iter().cloned().collect();
    let join = request.plan_with(&mut held)?;
    let mut warnings = Vec::new();
    let root = open_root(args, process.as_deref(), container)?;
    let directory = open_directory(args, process.as_deref(), &mut warnings)?;
    if let Some(wdns) = args.wdns.as_ref().filter(|w| !w.is_absolute()) {
        return Err(Error::bad_input(
            "--wdns",
            format!("'{}' is relative (allowed: an absolute path)", wdns.display()),
        ));
    }
    let cgroups = match (args.join_cgroup, &process) {
        (false, _) => Vec::new(),
        (true, Some(process)) => cgroup::open(process)?,
        (true, None) => return Err(needs_target("--join-cgroup")),
    };
    if let (Some(process), true, true) =
        (&process, join.joins().is_empty(), root.is_none() && cgroups.is_empty())
    {
        warnings.push(format!(
            "nothing to join: process {} shares these namespaces with you already",
            process.pid()
        ));
    }
    let changes_files = join.joins().contains(Kind::Mount) || root.is_some();
    let env = environment(args, process.as_deref(), changes_files)?;
    let (command, fallback) = commands(args, env, &place)?;
    if let Some(process) = &process {
        process.check_alive()?;
    }
    Ok(Ready {
        join,
        root,
        directory,
        inside_directory: args.wdns.clone(),
        cgroups,
        command,
        fallback,
        warnings,
    })
}

/// The target process, if there is one, and where the command will be looked for, in words.
fn find_process(args: &Args) -> Result<(Option<Rc<Process>>, String)> {
    if let Some(text) = &args.target {
        let (pid, inode) = parse_target(text)?;
        let process = target::by_pid(pid, inode)?;
        return Ok((Some(Rc::new(process)), format!("the root of process {pid}")));
    }
    match &args.named {
        Named::Container(name) => {
            let (id, process) = target::by_container(name, args.state_root.as_deref())?;
            Ok((Some(Rc::new(process)), format!("the root of container {id}")))
        }
        _ => Ok((None, "the root that was joined".to_string())),
    }
}

fn needs_target(what: &str) -> Error {
    Error::bad_input(what, "needs a process (allowed: with -t PID or a container's name, or with =FILE)")
}

fn join_request(args: &Args, process: Option<&Process>, container: bool) -> Result<join::Request> {
    let mut targets = Vec::new();
    if let Named::Paths(paths) = &args.named {
        for path in paths {
            let (_, kind) = nsfile::open(path, None)?;
            targets.push((kind, join::Source::Path(path.clone())));
        }
    }
    for (kind, file) in args.kinds.given() {
        let source = match (file, process) {
            (Some(path), _) => join::Source::Path(path),
            (None, Some(process)) => join::Source::Pid(process.pid()),
            (None, None) => return Err(needs_target(&format!("--{}", long_name(kind)))),
        };
        targets.push((kind, source));
    }
    let everything = args.all || (container && targets.is_empty());
    if everything {
        let Some(process) = process else { return Err(needs_target("--all")) };
        let given: Set = targets.iter().map(|(kind, _)| *kind).collect();
        let rest = Kind::ALL.into_iter().filter(|kind| !given.contains(*kind));
        targets.extend(rest.map(|kind| (kind, join::Source::Pid(process.pid()))));
    }
    let other = args.root.is_some() || args.wd.is_some() || args.join_cgroup;
    if targets.is_empty() && !other {
        return Err(Error::bad_input(
            "arguments",
            "name nothing to join (allowed: PATH, NAME, or -t PID with -a or some of -m -u -i -n -p -C -U -T -r -w -c)",
        ));
    }
    Ok(join::Request { targets, skip_shared: everything })
}

fn long_name(kind: Kind) -> &'static str {
    if kind == Kind::Mount { "mount" } else { kind.proc_name() }
}

fn open_root(args: &Args, process: Option<&Process>, container: bool) -> Result<Option<OwnedFd>> {
    match (&args.root, process) {
        (Some(dir), _) if !dir.is_empty() => open_dir("--root", dir).map(Some),
        (Some(_), Some(process)) => process.root().map(Some),
        (Some(_), None) => Err(needs_target("--root")),
        // A container's root need not be the root of its mount namespace.
        (None, Some(process)) if container => process.root().map(Some),
        (None, _) => Ok(None),
    }
}

fn open_directory(
    args: &Args,
    process: Option<&Process>,
    warnings: &mut Vec<String>,
) -> Result<Option<OwnedFd>> {
    match (&args.wd, process) {
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

fn environment(
    args: &Args,
    process: Option<&Process>,
    changes_files: bool,
) -> Result<Vec<(OsString, OsString)>> {
    if args.env {
        let Some(process) = process else { return Err(needs_target("--env")) };
        let bytes = process.read("environ")?;
        return Ok(bytes.split(|b| *b == 0).filter_map(pair).collect());
    }
    // The loader of another root would load the caller's libraries by these.
    let loader = |name: &OsStr| changes_files && name.as_encoded_bytes().starts_with(b"LD_");
    Ok(std::env::vars_os().filter(|(name, _)| !loader(name)).collect())
}

fn pair(entry: &[u8]) -> Option<(OsString, OsString)> {
    let at = entry.iter().position(|b| *b == b'=').filter(|at| *at > 0)?;
    let (name, value) = (entry.get(..at)?, entry.get(at + 1..)?);
    Some((OsString::from_vec(name.to_vec()), OsString::from_vec(value.to_vec())))
}

/// The command, and what to run if it is a default that is not there.
fn commands(args: &Args, env: Vec<(OsString, OsString)>, place: &str) -> Result<(Command, Option<Command>)> {
    let shell =
        env.iter().find(|(name, value)| name == "SHELL" && !value.is_empty()).map(|(_, value)| value.clone());
    let env = join_pairs(env);
    let command = |argv: &[OsString]| Command::new(argv, &env).map(|command| command.within(place));
    if !args.words.is_empty() {
        return Ok((command(&args.words)?, None));
    }
    let default = command(&["/bin/sh".into()])?;
    match shell {
        Some(shell) => Ok((command(&[shell])?, Some(default))),
        None => Ok((default, None)),
    }
}
