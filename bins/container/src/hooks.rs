//! Carrying out a configuration's hooks. Source: OCI runtime specification, config.md (POSIX-platform Hooks).
//!
//! A hook is executed directly, with the container's state on its standard input. What it prints is kept back: its streams
//! would be the container's. Of a failure the last lines are told.

use drydock_bundle::Hook;
use drydock_core::error::CallExt;
use drydock_core::exit::Ended;
use drydock_core::sys::fd::replace_standard_stream;
use drydock_core::sys::process::{self, clone_child};
use drydock_core::sys::signal;
use drydock_core::{Error, Result};
use drydock_supervise::exec::Command;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// How much of what a failed hook said is told.
const TOLD: usize = 1000;

/// Carries out hooks of one kind, in order, up to the first that fails.
///
/// `state`: the container's state, as JSON. `env`: what a hook without an environment gets. `dir`: where they start; `None`
/// leaves the caller's.
///
/// # Errors
/// [`drydock_core::Kind::Failed`] naming the hook, and how it failed.
pub fn run(kind: &str, hooks: &[Hook], state: &str, env: &[String], dir: Option<&Path>) -> Result<()> {
    all(kind, hooks, state, env, dir).collect()
}

/// Carries out hooks of one kind as they are asked for, whatever became of those before.
pub fn all(
    kind: &str,
    hooks: &[Hook],
    state: &str,
    env: &[String],
    dir: Option<&Path>,
) -> impl Iterator<Item = Result<()>> {
    (0u32..).zip(hooks).map(move |(number, hook)| {
        let place = &|| match dir {
            Some(dir) => std::env::set_current_dir(dir).call(|| format!("chdir({dir:?})")),
            None => Ok(()),
        };
        one(hook, state, env, place).map_err(|e| named(e, kind, number, hook))
    })
}

/// As [`run`], for hooks that are files of the container's: each gives up the privileges that the command is not to have, by
/// `confine`, before it is executed. Whoever waits for them keeps its own: a filter may refuse what waiting needs.
///
/// # Errors
/// As [`run`].
pub fn run_confined(
    kind: &str,
    hooks: &[Hook],
    state: &str,
    env: &[String],
    confine: &dyn Fn() -> Result<()>,
) -> Result<()> {
    (0u32..).zip(hooks).try_for_each(|(number, hook)| {
        one(hook, state, env, confine).map_err(|e| named(e, kind, number, hook))
    })
}

/// The environment of the calling process, for hooks of the host that have none of their own.
pub fn own_environment() -> Vec<String> {
    std::env::vars_os()
        .filter_map(|(key, value)| Some(format!("{}={}", key.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// An error in runc's words, which its users look for.
fn named(error: Error, kind: &str, number: u32, hook: &Hook) -> Error {
    error.on(format!("error running {kind} hook #{number}: {}", shown(hook)))
}

fn shown(hook: &Hook) -> String {
    format!("'{}'", drydock_core::text::escape(&hook.path.to_string_lossy()))
}

/// `last`: what the hook's own process does before it executes it.
fn one(hook: &Hook, state: &str, env: &[String], last: &dyn Fn() -> Result<()>) -> Result<()> {
    let path = hook.path.to_string_lossy().into_owned();
    let args = if hook.args.is_empty() { std::slice::from_ref(&path) } else { hook.args.as_slice() };
    let env = if hook.env.is_empty() { env } else { hook.env.as_slice() };
    let command = Command::new(args, env)?.at(&hook.path);
    let pipe = || pipe_with(PipeFlags::CLOEXEC).call(|| "pipe2(O_CLOEXEC)");
    let (state_read, state_write) = pipe()?;
    let (said_read, said_write) = pipe()?;
    let child = clone_child(0, None, || {
        let error = become_hook(&command, &state_read, &said_write, last);
        let _ = (&File::from(said_write)).write_all(error.sentence().as_bytes());
        error.exit_code()
    })
    .call(|| "clone3(CLONE_PIDFD)")?;
    // Written while this side can read, too: a hook that is gone already must not end us by SIGPIPE.
    tell(&state_write, state);
    drop((state_read, state_write, command));
    let limit = hook.timeout.map(Duration::from_secs);
    let said = listen(&child, &said_read, limit);
    judge(&child, said?, hook.timeout)
}

/// The hook's side of the clone. Returns only if it could not be executed.
fn become_hook(command: &Command, state: &OwnedFd, said: &OwnedFd, last: &dyn Fn() -> Result<()>) -> Error {
    let prepare = || -> Result<()> {
        replace_standard_stream(state.as_fd(), 0).call(|| "dup2(state, 0)")?;
        replace_standard_stream(said.as_fd(), 1).call(|| "dup2(output, 1)")?;
        replace_standard_stream(said.as_fd(), 2).call(|| "dup2(output, 2)")?;
        drydock_core::sys::fd::close_on_exec_from(3).call(|| "close_range(3, ~0, CLOSE_RANGE_CLOEXEC)")?;
        drydock_security::reset_inherited()?;
        last()
    };
    match prepare() {
        Ok(()) => command.exec(),
        Err(error) => error,
    }
}

/// The state goes into the pipe's buffer; a hook that does not read it is within its rights.
fn tell(pipe: &OwnedFd, state: &str) {
    let _ = rustix::fs::fcntl_setfl(pipe, rustix::fs::OFlags::NONBLOCK);
    let _ = rustix::pipe::fcntl_setpipe_size(pipe, 1 << 20);
    let _ = rustix::io::write(pipe, state.as_bytes());
}

/// Reads what the hook says until it ends. `None`: it did not end in time, and was killed.
fn listen(child: &process::Child, said: &OwnedFd, limit: Option<Duration>) -> Result<Option<Vec<u8>>> {
    let deadline = limit.map(|limit| Instant::now() + limit);
    let mut all = Vec::new();
    let mut open = true;
    loop {
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            let _ = signal::pidfd_kill(child.pidfd.as_fd(), nix::libc::SIGKILL);
            return Ok(None);
        }
        let timeout = match left {
            // Rounded up: a poll of zero would spin through the last millisecond.
            Some(left) => PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX),
            None => PollTimeout::NONE,
        };
        let mut fds = vec![PollFd::new(child.pidfd.as_fd(), PollFlags::POLLIN)];
        if open {
            fds.push(PollFd::new(said.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(Error::call("poll(pidfd, output)", e)),
        }
        let ready = |n: usize| fds.get(n).is_some_and(|fd| fd.any().unwrap_or(false));
        let (ended, spoke) = (ready(0), ready(1));
        if spoke {
            open = hear(said, &mut all);
        } else if ended {
            return Ok(Some(all));
        }
    }
}

/// Keeps the end of what is said; a hook may say any amount.
fn hear(said: &OwnedFd, all: &mut Vec<u8>) -> bool {
    let mut buffer = [0u8; 4096];
    let Ok(count) = rustix::io::read(said, &mut buffer) else { return false };
    all.extend_from_slice(buffer.get(..count).unwrap_or(&[]));
    let extra = all.len().saturating_sub(TOLD);
    all.drain(..extra);
    count > 0
}

fn judge(child: &process::Child, said: Option<Vec<u8>>, timeout: Option<u64>) -> Result<()> {
    let ended = drydock_supervise::wait_exit(child)?;
    let Some(said) = said else {
        let seconds = timeout.unwrap_or(0);
        return Err(Error::told(format!("did not end within its {seconds} s and was killed")));
    };
    let how = match ended {
        Ended::Exited(0) => return Ok(()),
        Ended::Exited(code) => format!("ended with code {code}"),
        Ended::Signaled(signal) => {
            let name = drydock_supervise::signals::signal_name(i32::from(signal));
            // What a filter answers with that kills.
            let why = if i32::from(signal) == nix::libc::SIGSYS { ": bad system call" } else { "" };
            format!("was ended by {name}{why}")
        }
    };
    let words = drydock_core::text::escape(String::from_utf8_lossy(&said).trim());
    Err(Error::told(if words.is_empty() { how } else { format!("{how}: {words}") }))
}
