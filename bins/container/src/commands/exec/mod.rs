//! `container exec`: another command in a running container, as confined as its first process.

mod cgroup;
pub mod descriptors;
mod options;
mod request;
mod start;

pub use options::Args;

use crate::commands::signals;
use crate::handshake::{Channel, Message};
use crate::request::Request;
use crate::watch::{Show, Watch};
use descriptors::Passed;
use drydock_bundle::state::{read_bounded, write_atomically};
use drydock_bundle::{Entry, Life, State, Store};
use drydock_cli::Outcome;
use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use drydock_init::inside;
use drydock_namespaces::join;
use rustix::fs::{Mode, OFlags};
use start::Start;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// The file in the state directory that keeps what later commands need to know.
pub const FILE: &str = "inside.json";

/// Writes down what an `exec` needs of the first process's request.
///
/// # Errors
/// When the state directory cannot be written.
pub fn remember(dir: &Path, request: &Request) -> Result<()> {
    let mut kept = inside::Request { mounts: None, ..request.inside.clone() };
    // Not the first process's, so not in its request.
    kept.security.exec_cpu_affinity =
        request.bundled.as_ref().and_then(|bundled| bundled.exec_cpu_affinity.clone());
    let bytes = serde_json::to_vec(&kept).map_err(|e| Error::failed("state", e.to_string()))?;
    write_atomically(dir, FILE, &bytes)
}

/// What was written down, as it stands there.
///
/// # Errors
/// When it cannot be read.
pub fn remembered(dir: &Path) -> Result<Vec<u8>> {
    read_bounded(&dir.join(FILE), 4 << 20)
}

/// Runs a command in a running container; the exit code is the command's.
///
/// # Errors
/// Unknown or stopped container; why the command could not be executed.
pub fn run(args: &Args, store: &Store) -> Outcome {
    let passed = Passed::find(args.preserve_fds)?;
    // What else the caller left open goes with the exec that seals this program: none of it may reach the container.
    let first = passed.end();
    drydock_core::sys::fd::close_on_exec_from(first)
        .call(|| format!("close_range({first}, ~0, CLOSE_RANGE_CLOEXEC)"))?;
    // But for the file that is yet to be read; then it goes the same way.
    if let Some(fd) = args.process.as_deref().and_then(descriptors::named) {
        drydock_core::sys::fd::keep_over_exec(fd)
            .call(|| format!("fcntl({fd}, F_SETFD, 0)"))
            .map_err(|e| e.on("--process"))?;
    }
    drydock_security::run_sealed()?;
    let entry = store.find(&args.name)?;
    args.pid_file.as_deref().map_or(Ok(()), crate::commands::oci::check_pid_file)?;
    let (state, pidfd) = signals::running(&entry)?;
    if state.life() == Life::Paused && !args.ignore_paused {
        let problem = "is paused: cannot exec in a paused container";
        return Err(Error::failed(format!("'{}'", entry.id), problem)
            .hint(format!("container resume {}, or --ignore-paused", entry.id))
            .into());
    }
    let asked = request::of(args, &entry, state.oci.is_some(), passed)?;
    options::check_terminal(args, asked.inside.terminal)?;
    let given = args.process.is_some();
    let plan = asked.inside.validate().map_err(|e| if given { crate::oci::placed_entering(e) } else { e })?;
    if let Some(mask) = plan.security().first_cpu_mask() {
        // runc's name for what enters namespaces, and its words.
        crate::log::early(std::env::args_os()).debug(|| format!("nsexec: affinity: {mask}"));
    }
    let pid = state.pid.unwrap_or(0);
    let group = cgroup::choose(&state.cgroup, &args.cgroup, pid)?;
    let (join, shown) = namespaces(pid, &state, &entry).map_err(|e| ended(pid, &entry).unwrap_or(e))?;
    let root = own_root(pid, &state)?;
    // The pid was looked up again: it must still have been the container's.
    drydock_core::sys::signal::pidfd_kill(pidfd.as_fd(), 0)
        .call(|| "pidfd_send_signal(0)")
        .map_err(|e| e.on("container"))?;
    crate::told::executed(store, &state, &plan.request().args);
    drop((pidfd, entry));
    let watch = Watch::new(Show { steps: args.explain, ..Show::default() });
    let engine = args.detach || args.process.is_some() || state.oci.is_some();
    let reads = (engine && !idle_terminal(args)) || args.interactive || plan.request().terminal;
    Start { args, plan, join, root, group, reads, size: asked.size, state, shown }.run(&watch)
}

/// The container's namespaces. A process that waits for its start is hidden: asked by an unprivileged user it can be seen,
/// until the conversation with it ends.
fn namespaces(pid: i32, state: &State, entry: &Entry) -> Result<(join::Plan, Option<Channel>)> {
    let open = || join::Request::all_of(pid).plan();
    match open() {
        Err(error) if error.errno() == Some(nix::libc::EACCES) && state.life() == Life::Created => {
            let channel = crate::waiting::reach(&entry.dir)?;
            channel.send(&Message::Show)?;
            channel.receive()?.map_or(Err(error), |_| open()).map(|plan| (plan, Some(channel)))
        }
        other => other.map(|plan| (plan, None)),
    }
}

/// The root of a container without a mount namespace of its own: that of the namespace is the host's, or another's.
fn own_root(pid: i32, state: &State) -> Result<Option<OwnedFd>> {
    let namespace = |of: &str| std::fs::read_link(format!("/proc/{of}/ns/mnt")).ok();
    let shared = namespace(&pid.to_string()).is_some_and(|its| namespace("self") == Some(its));
    let joins = state.oci.as_ref().is_some_and(|oci| oci.joined.iter().any(|(kind, _)| kind == "mnt"));
    if !shared && !joins {
        return Ok(None);
    }
    let path = format!("/proc/{pid}/root");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(&path, flags, Mode::empty())
        .map(Some)
        .call(|| format!("open({path:?}, O_PATH|O_DIRECTORY)"))
}

/// That the container's first process has ended, or is about to: it has no namespaces any more.
fn ended(pid: i32, entry: &Entry) -> Option<Error> {
    if let Err(stopped) = signals::running(entry) {
        return Some(stopped);
    }
    // PF_EXITING, in the ninth field of proc_pid_stat(5); the second is in parentheses.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    let flags = |stat: &str| stat.rsplit_once(") ")?.1.split(' ').nth(6)?.parse::<u64>().ok();
    let exiting = stat.map_or(Some(4), |stat| flags(&stat)).is_some_and(|flags| flags & 4 != 0);
    exiting.then(|| Error::failed(format!("'{}'", entry.id), "error: container not running: it is ending"))
}

/// A background command that nobody talks to would take what is typed from the shell.
fn idle_terminal(args: &Args) -> bool {
    args.detach && drydock_supervise::terminal::is_terminal(std::io::stdin().as_fd())
}
