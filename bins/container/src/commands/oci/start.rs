//! `container start`: executes the command of a created container.

use crate::commands::{signals, timings};
use crate::handshake::Message;
use crate::oci::life;
use crate::parent;
use crate::watch::Watch;
use crate::witness::Witness;
use drydock_bundle::{Entry, Life, Store};
use drydock_cli::Outcome;
use drydock_core::{Error, Kind, Result};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Arguments of `container start`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The created container
    #[arg(value_name = "ID")]
    pub id: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub timings: timings::Timings,
}

/// Starts a container.
///
/// # Errors
/// Unknown containers; one that is not created; why its command could not be executed.
pub fn run(args: &Args, store: &Store) -> Outcome {
    let watch = args.timings.watch()?;
    let entry = watch.timed("state", || store.find_exact(&args.id))?;
    start(&entry, store, &watch)?;
    args.timings.report(&args.id, &watch)?;
    Ok(0)
}

/// The whole of it, for `run --detach`, too.
///
/// # Errors
/// As [`run`].
pub fn start(entry: &Entry, store: &Store, watch: &Watch) -> Result<()> {
    let unattended =
        |entry: &Entry| entry.state.as_ref().is_ok_and(|s| s.oci.as_ref().is_some_and(|oci| oci.unattended));
    if !unattended(entry) {
        return Err(not_created(entry));
    }
    // One at a time: who waited sees what the other has done.
    let _held = store.own(&entry.id)?;
    let entry = watch.timed("state", || store.find_exact(entry.id.as_str()))?;
    let mut state = entry.state.as_ref().map_err(Clone::clone)?.clone();
    if state.life() != Life::Created || !unattended(&entry) {
        return Err(not_created(&entry));
    }
    let channel = crate::waiting::reach(&entry.dir)?;
    let witness = Witness::of(&state);
    let told = life::json(&state, Life::Created).to_string();
    state.status = Life::Running;
    watch.timed("state", || state.write(&entry.dir))?;
    let executed = watch.timed("exec", || {
        channel.send(&Message::Start { state: told })?;
        parent::until_executed(&channel, watch)
    });
    crate::told::start(&entry.dir, &state, executed)?;
    if let Some(witness) = witness {
        witness.stay(&entry.dir, &state);
    }
    // The hooks may delete the container.
    drop(_held);
    watch.timed("hooks", || life::poststart(&state)).map_err(|error| {
        if let Some(pid) = state.pid.and_then(Pid::from_raw)
            && let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty())
        {
            let _ = signals::kill_all(&state, &pidfd);
        }
        // As with other runtimes. 125 would say that the command was never executed.
        error.with_kind(Kind::Hook)
    })
}

fn not_created(entry: &Entry) -> Error {
    let life = entry.life().map_or("corrupt", Life::name);
    Error::failed(format!("'{}'", entry.id), format!("is {life} (allowed: a created container)"))
}
