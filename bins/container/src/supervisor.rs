//! The process that stays with a detached container: it keeps the log, serves `attach`, and cleans up at the end.
//!
//! One a container, no daemon. It owns the container: when it is killed, the container dies with it.

use crate::handshake::{Channel, Message, failed, failure};
use crate::parent::{self, Running, Streams};
use crate::plan::Plan;
use crate::watch::Watch;
use drydock_bundle::Store;
use drydock_core::error::CallExt;
use drydock_core::sys::fd::replace_standard_stream;
use drydock_core::sys::process::clone_child;
use drydock_core::{ContainerId, Error, Result};
use drydock_supervise::Blocked;
use rustix::pipe::{PipeFlags, pipe_with};
use serde_json::json;
use std::os::fd::{AsFd, OwnedFd};

/// Starts the container under a supervisor of its own and returns once its command runs.
///
/// # Errors
/// As in the foreground: the stage that failed, or why the command could not be executed.
pub fn detach(plan: Plan, store: &Store, watch: Watch, json: bool) -> Result<u8> {
    let id = plan.outside.request.id.clone();
    start(plan, store, watch)?;
    if let Err(error) = tell(&id, store, json) {
        // Whoever asked would not know of it.
        let _ = store.find(id.as_str()).and_then(|entry| crate::commands::delete::delete_one(&entry, store));
        return Err(error);
    }
    Ok(0)
}

fn tell(id: &ContainerId, store: &Store, json: bool) -> Result<()> {
    if !json {
        return drydock_cli::print_line(id.as_str());
    }
    let state = drydock_bundle::State::read(&store.dir(id)).ok();
    drydock_cli::print_json(&json!({
        "id": id,
        "pid": state.as_ref().and_then(|s| s.pid),
        "addresses": state.map(|s| s.addresses).unwrap_or_default(),
    }))
}

/// The fork: the caller waits for the supervisor's word.
///
/// # Errors
/// What the supervisor reports.
pub fn start(plan: Plan, store: &Store, watch: Watch) -> Result<()> {
    let (here, there) = Channel::pair()?;
    let mut here = Some(here);
    let supervisor = clone_child(0, None, || {
        // The other end must close when the caller dies.
        drop(here.take());
        supervise(plan, store, &watch, there)
    })
    .call(|| "clone3(CLONE_PIDFD)")?;
    drop(supervisor);
    match here.map(|here| here.receive()).transpose()?.flatten() {
        Some((Message::Ready, _)) => Ok(()),
        Some((Message::Failed { sentence, hint, kind, .. }, _)) => Err(failed(sentence, hint, kind)),
        _ => Err(Error::failed("supervisor", "ended before the container ran")),
    }
}

fn supervise(plan: Plan, store: &Store, watch: &Watch, caller: Channel) -> u8 {
    let _ = nix::unistd::setsid();
    let started = begin(plan, store, watch);
    match started {
        Ok((running, outputs, signals)) => {
            let id = running.state.id.clone();
            let told = caller.send(&Message::Ready);
            drop(caller);
            let _ = told;
            match settle().and_then(|()| stay(running, outputs, &signals, store, watch)) {
                Ok(()) => 0,
                Err(error) => note(store, &id, &error),
            }
        }
        Err(error) => {
            let _ = caller.send(&failure(&error));
            error.exit_code()
        }
    }
}

/// Nobody is there to hear: the record keeps the sentence.
fn note(store: &Store, id: &ContainerId, error: &Error) -> u8 {
    let dir = store.dir(id);
    if let Ok(mut state) = drydock_bundle::State::read(&dir) {
        state.error = Some(error.to_string());
        let _ = state.write(&dir);
    }
    error.exit_code()
}

/// What the supervisor reads: the pty's master, or the ends of two pipes; and what it writes input to.
pub struct Outputs {
    /// Standard output, or the terminal.
    pub out: OwnedFd,
    /// Standard error, unless it is a terminal.
    pub err: Option<OwnedFd>,
    /// Standard input, with `-i` or a terminal.
    pub input: Option<OwnedFd>,
}

fn begin(plan: Plan, store: &Store, watch: &Watch) -> Result<(Running, Outputs, Blocked)> {
    let interactive = plan.outside.request.interactive;
    let terminal = plan.outside.request.inside.terminal;
    let signals = Blocked::all()?;
    let pipe = || pipe_with(PipeFlags::CLOEXEC).call(|| "pipe2(O_CLOEXEC)");
    let (out_read, out_write) = pipe()?;
    let (err_read, err_write) = pipe()?;
    let (in_read, in_write) = pipe()?;
    let input = if interactive { Some(in_read) } else { crate::session::standard_input(false)? };
    let streams = Streams { child: [input, Some(out_write), Some(err_write)] };
    let mut running = parent::create(plan, store, streams, watch)?;
    if let Err(error) = running.exec(watch) {
        running.abandon(store, watch);
        return Err(error);
    }
    let outputs = match running.console.take() {
        Some(master) if terminal => {
            let input = master.try_clone().call(|| "fcntl(F_DUPFD_CLOEXEC)")?;
            Outputs { out: master, err: None, input: Some(input) }
        }
        _ => Outputs { out: out_read, err: Some(err_read), input: interactive.then_some(in_write) },
    };
    Ok((running, outputs, signals))
}

/// Leaves the caller's terminal and directory.
fn settle() -> Result<()> {
    // Some machines let only root write to it; nothing is written here.
    let null = std::fs::File::open("/dev/null").call(|| "open(\"/dev/null\", O_RDONLY)")?;
    for number in 0..3 {
        replace_standard_stream(null.as_fd(), number).call(|| format!("dup2(/dev/null, {number})"))?;
    }
    std::env::set_current_dir("/").call(|| "chdir(\"/\")")
}

fn stay(running: Running, outputs: Outputs, signals: &Blocked, store: &Store, watch: &Watch) -> Result<()> {
    let ended = crate::attach::serve(&running, outputs, signals)?;
    running.finish(store, ended, watch).map(drop)
}
