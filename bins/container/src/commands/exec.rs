//! `container exec`: another command in a running container, as confined as its first process.

use crate::child::{self, Child};
use crate::commands::signals;
use crate::handshake::{Channel, Message, failed};
use crate::session;
use crate::watch::{Show, Watch};
use drydock_bundle::Store;
use drydock_bundle::state::{read_bounded, write_atomically};
use drydock_cgroups::Cgroup;
use drydock_cli::Outcome;
use drydock_core::error::CallExt;
use drydock_core::sys::process::clone_child;
use drydock_core::{Ctx, Error, Result};
use drydock_init::inside;
use drydock_namespaces::join;
use drydock_supervise::exec::utf8_words;
use drydock_supervise::{Blocked, Supervised};
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// The file in the state directory that keeps what later commands need to know.
const FILE: &str = "inside.json";

/// Arguments of `container exec`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Run in the background
    #[arg(short = 'd', long)]
    pub detach: bool,
    /// Keep standard input open
    #[arg(short = 'i', long)]
    pub interactive: bool,
    /// Give the command a terminal of its own
    #[arg(short = 't', long)]
    pub tty: bool,
    /// Environment: KEY=VALUE, or KEY to pass on the caller's
    #[arg(short = 'e', long, value_name = "KEY=VALUE")]
    pub env: Vec<String>,
    /// Working directory inside
    #[arg(short = 'w', long, visible_alias = "cwd", value_name = "DIR")]
    pub workdir: Option<String>,
    /// User inside [default: the container's]
    #[arg(short = 'u', long, value_name = "USER")]
    pub user: Option<String>,
    /// Print each step before it is done
    #[arg(long)]
    pub explain: bool,
    /// The container
    pub name: String,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Writes down what an `exec` needs of the first process's request.
///
/// # Errors
/// When the state directory cannot be written.
pub fn remember(dir: &Path, request: &inside::Request) -> Result<()> {
    let kept = inside::Request { mounts: None, ..request.clone() };
    let bytes = serde_json::to_vec(&kept).map_err(|e| Error::failed("state", e.to_string()))?;
    write_atomically(dir, FILE, &bytes)
}

/// Runs a command in a running container; the exit code is the command's.
///
/// # Errors
/// Unknown or stopped container; why the command could not be executed.
pub fn run(args: &Args, store: &Store) -> Outcome {
    // What the caller left open goes with the exec that seals this program: none of it may reach the container.
    drydock_core::sys::fd::close_on_exec_from(3).call(|| "close_range(3, ~0, CLOSE_RANGE_CLOEXEC)")?;
    drydock_security::run_sealed()?;
    let entry = store.find(&args.name)?;
    let (state, pidfd) = signals::running(&entry)?;
    let plan = request(args, &entry.dir)?.validate()?;
    let pid = state.pid.unwrap_or(0);
    let join = join::Request::all_of(pid).plan()?;
    // The pid was looked up again: it must still have been the container's.
    drydock_core::sys::signal::pidfd_kill(pidfd.as_fd(), 0)
        .call(|| "pidfd_send_signal(0)")
        .map_err(|e| e.on("container"))?;
    drop((pidfd, entry));
    let group = Cgroup::at(state.cgroup.iter().cloned())?;
    let watch = Watch::new(Show { steps: args.explain, ..Show::default() });
    let signals = Blocked::all()?;
    start(args, plan, join, &group, &signals, &watch)
}

fn request(args: &Args, dir: &Path) -> Result<inside::Request> {
    let bytes = read_bounded(&dir.join(FILE), 4 << 20)?;
    let mut request: inside::Request =
        serde_json::from_slice(&bytes).map_err(|e| Error::failed(FILE, format!("corrupt: {e}")))?;
    let options =
        drydock_init::options::Options { env: args.env.clone(), tty: args.tty, ..Default::default() };
    let words =
        args.env.iter().map(|w| w.split('=').next().unwrap_or_default().to_string()).collect::<Vec<_>>();
    let added = options.environment()?.into_iter().filter(|w| {
        let key = w.split('=').next().unwrap_or_default();
        words.iter().any(|k| k == key) || (args.tty && key == "TERM")
    });
    for word in added {
        let key = format!("{}=", word.split('=').next().unwrap_or_default());
        request.env.retain(|w| !w.starts_with(&key));
        request.env.push(word);
    }
    request.args = utf8_words("command", args.command.iter().map(OsString::as_os_str))?;
    request.workdir = args.workdir.clone().or(request.workdir);
    request.user = args.user.clone().or(request.user);
    request.terminal = args.tty;
    (request.hostname, request.domainname, request.reaper) = (None, None, false);
    (request.cgroup_namespace, request.loopback) = (false, false);
    request.sysctls.clear();
    Ok(request)
}

fn start(
    args: &Args,
    plan: inside::Plan,
    join: join::Plan,
    group: &Cgroup,
    signals: &Blocked,
    watch: &Watch,
) -> Outcome {
    let (here, there) = Channel::pair()?;
    let null = |write: bool| -> Result<Option<OwnedFd>> {
        let file = std::fs::OpenOptions::new().read(!write).write(write).open("/dev/null");
        file.map(|f| Some(f.into())).call(|| "open(\"/dev/null\")")
    };
    let streams = match args.detach {
        true => [null(false)?, null(true)?, null(true)?],
        false => [session::standard_input(args.interactive || args.tty)?, None, None],
    };
    // Files, not the directory that clone3 would take: from a directory one could walk up to the host's root.
    let cgroup = group.all_join_files()?;
    // All namespaces are joined out here, where the container does not see this process, and everything that leads to the
    // host is closed, before the child is born into the container's sight: root inside with CAP_SYS_PTRACE can follow
    // /proc/PID/{root,cwd,fd} of whatever it sees (CVE-2016-9962).
    inside::hide()?;
    join.apply(&Ctx::new(watch, None))?;
    drop(join);
    let child = Child {
        inside: plan,
        join: None,
        cgroup,
        mapped: None,
        wait_to_begin: false,
        channel: there,
        streams,
        tied: !args.detach,
        bundled: child::Bundled::default(),
        show: watch.show(),
        stderr: child::keep_stderr(watch.show()),
    };
    let child = clone_child(0, None, || child.run()).call(|| "clone3(CLONE_PIDFD)")?;
    let console = match prepare(&here) {
        Ok(console) => console,
        Err(error) => {
            let _ = drydock_supervise::wait_exit(&child);
            return Err(error.into());
        }
    };
    if args.detach {
        return Ok(0);
    }
    let ended = match console {
        Some(master) => session::relay(&child, false, signals, &master, args.interactive)?,
        None => Supervised::new(&child, false).wait(signals)?,
    };
    Ok(ended.code())
}

/// Listens to the child until it has executed the command. The pty's master, if it has one.
fn prepare(channel: &Channel) -> Result<Option<OwnedFd>> {
    let mut console = None;
    loop {
        match channel.receive()? {
            None => return Ok(console),
            Some((Message::Ready, _)) => channel.send(&Message::Exec)?,
            Some((Message::Console, Some(master))) => console = Some(master),
            Some((Message::Failed { sentence, hint, kind, .. }, _)) => {
                return Err(failed(sentence, hint, kind));
            }
            Some(_) => {}
        }
    }
}
