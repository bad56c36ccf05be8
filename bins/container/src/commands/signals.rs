//! `container kill`, `stop` and `wait`: ending a container, and waiting for its end.

use crate::owner::Owner;
use drydock_bundle::{Entry, Life, State, Store};
use drydock_cgroups::Cgroup;
use drydock_cli::Outcome;
use drydock_core::{Error, Result};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// Arguments of `container kill`.
#[derive(clap::Args, Clone, Debug)]
pub struct KillArgs {
    /// Signal every process of the container, not only the first; none is no error
    #[arg(short = 'a', long)]
    pub all: bool,
    /// The container
    pub name: String,
    /// The signal, such as TERM, 15, SIGKILL; 0 only asks whether the container runs
    #[arg(default_value = "KILL")]
    pub signal: String,
    /// The same as SIGNAL
    #[arg(short = 's', long = "signal", value_name = "SIGNAL", conflicts_with = "signal")]
    pub option: Option<String>,
}

/// Arguments of `container stop`.
#[derive(clap::Args, Clone, Debug)]
pub struct StopArgs {
    /// Seconds between the stop signal and SIGKILL [default: the container's own]
    #[arg(short = 't', long, value_name = "SECONDS")]
    pub time: Option<u64>,
    /// The containers
    #[arg(required = true)]
    pub names: Vec<String>,
}

/// Arguments of `container wait`.
#[derive(clap::Args, Clone, Debug)]
pub struct WaitArgs {
    /// The container
    pub name: String,
}

/// Sends a signal.
///
/// # Errors
/// Unknown container, bad signal, or a container that does not run.
pub fn kill(args: &KillArgs, store: &Store) -> Outcome {
    let word = args.option.as_ref().unwrap_or(&args.signal);
    let signal = match word.as_str() {
        "0" => 0,
        word => drydock_supervise::signals::parse_signal(word)?,
    };
    let entry = store.find_exact(&args.name)?;
    let found = running(&entry);
    if signal != 0 && found.is_ok() {
        let word = drydock_supervise::signals::signal_name(signal);
        crate::told::asked(store, entry.id.as_str(), "kill", &[("signal", word.into())]);
    }
    if args.all {
        let state = entry.state.as_ref().map_err(Clone::clone)?;
        if let (true, Ok((_, pidfd))) = (state.cgroup.is_empty(), &found) {
            // Without a cgroup of its own only its first process is known.
            send(&entry, pidfd, signal)?;
        }
        return signal_all(state, signal);
    }
    let fatal = signal == nix::libc::SIGKILL;
    let (state, pidfd) = match found {
        Ok(found) => found,
        // In a pid namespace that is not its own, what the container has left outlives its first process.
        Err(error) => return if fatal { kill_rest(&entry, error) } else { Err(error.into()) },
    };
    // Asked while it lives: what a dead one led cannot be told any more.
    let alone = !fatal || leads_namespace(&state);
    send(&entry, &pidfd, signal)?;
    if !alone {
        kill_all(&state, &pidfd)?;
    }
    if fatal {
        let_die(&state)?;
    }
    Ok(0)
}

/// `--all`: whoever is there.
fn signal_all(state: &State, signal: i32) -> Outcome {
    let group = Cgroup::at(state.cgroup.iter().cloned())?;
    for pid in if group.exists() { group.all_pids()? } else { Vec::new() } {
        // Processes come and go meanwhile; one that has gone has had its end.
        let _ = drydock_core::sys::signal::kill(pid, signal);
    }
    if signal == nix::libc::SIGKILL && group.exists() {
        group.let_die()?;
    }
    Ok(0)
}

/// Kills what is in the cgroup of a container whose first process has ended. `error`: what to say if nothing is.
fn kill_rest(entry: &Entry, error: Error) -> Outcome {
    let Ok(state) = &entry.state else { return Err(error.into()) };
    let group = Cgroup::at(state.cgroup.iter().cloned())?;
    if !group.exists() || group.all_pids()?.is_empty() {
        return Err(error.into());
    }
    group.kill()?;
    Ok(0)
}

/// Whether the first process is PID 1 of a pid namespace: with it all others die.
fn leads_namespace(state: &State) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", state.pid.unwrap_or(0)));
    let pids =
        status.ok().and_then(|text| text.lines().find_map(|l| l.strip_prefix("NSpid:")).map(str::to_string));
    pids.is_some_and(|pids| {
        pids.split_whitespace().count() > 1 && pids.split_whitespace().last() == Some("1")
    })
}

/// A paused container on cgroup v1 does not even die: SIGKILL waits for the thaw.
fn let_die(state: &State) -> Result<()> {
    Cgroup::at(state.cgroup.iter().cloned())?.let_die()
}

fn send(entry: &Entry, pidfd: &OwnedFd, signal: i32) -> Result<()> {
    drydock_core::sys::signal::pidfd_kill(pidfd.as_fd(), signal).map_err(|e| {
        Error::call(format!("pidfd_send_signal({})", drydock_supervise::signals::signal_name(signal)), e)
            .on(format!("'{}'", entry.id))
    })
}

/// The state and the first process of a container that runs.
///
/// # Errors
/// [`drydock_core::Kind::Failed`] saying what the container is instead.
pub fn running(entry: &Entry) -> Result<(State, OwnedFd)> {
    let state = entry.state.as_ref().map_err(Clone::clone)?;
    let not_running = || {
        let exit = state.ended.map(|ended| format!(" (exit code {})", ended.code())).unwrap_or_default();
        Error::failed(
            format!("'{}'", entry.id),
            format!("error: container not running: it is {}{exit}", state.life().name()),
        )
    };
    let pid = state.pid.and_then(Pid::from_raw).ok_or_else(not_running)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| not_running())?;
    // Checked with the descriptor in hand: the pid cannot be given away any more.
    if state.life() == Life::Stopped || state.life() == Life::Creating {
        return Err(not_running());
    }
    Ok((state.clone(), pidfd))
}

/// Asks each container to stop, and kills it if it does not in time.
///
/// # Errors
/// Unknown containers (before any is touched); what could not be stopped.
pub fn stop(args: &StopArgs, store: &Store) -> Outcome {
    let entries = args.names.iter().map(|name| store.find_exact(name)).collect::<Result<Vec<Entry>>>()?;
    for entry in &entries {
        stop_one(entry, args.time, store)?;
        drydock_cli::print_line(entry.id.as_str())?;
    }
    Ok(0)
}

/// Stops one container and waits until its owner has taken everything away. One that has stopped is fine.
///
/// # Errors
/// When its state cannot be read, or its processes do not die.
pub fn stop_one(entry: &Entry, seconds: Option<u64>, store: &Store) -> Result<()> {
    let state =
        entry.state.as_ref().map_err(|e| e.clone().hint(format!("container delete --force {}", entry.id)))?;
    if state.life() == Life::Stopped {
        return Ok(());
    }
    let (state, pidfd) = running(entry)?;
    let (signal, own) = state.stop;
    let grace = Duration::from_secs(seconds.unwrap_or(own));
    // The owner forwards nothing here; a first process without a handler would never see the signal: do not wait for it.
    let deaf = !drydock_supervise::wait::handles(state.pid.unwrap_or(0), signal);
    let word = drydock_supervise::signals::signal_name(signal);
    crate::told::asked(store, entry.id.as_str(), "kill", &[("signal", word.into()), ("by", "stop".into())]);
    let _ = send(entry, &pidfd, signal);
    if state.life() == Life::Paused {
        Cgroup::at(state.cgroup.iter().cloned())?.thaw()?;
    }
    if (deaf && signal != nix::libc::SIGKILL) || !gone(&pidfd, grace) {
        crate::told::asked(
            store,
            entry.id.as_str(),
            "kill",
            &[("signal", "SIGKILL".into()), ("by", "stop".into())],
        );
        kill_all(&state, &pidfd)?;
        if !gone(&pidfd, Duration::from_secs(10)) {
            return Err(Error::failed(
                format!("'{}'", entry.id),
                "does not die (a process hangs in the kernel)",
            ));
        }
    }
    let owner = Owner::of(&state);
    store.wait_unowned(&entry.id).or_else(|e| if entry.dir.exists() { Err(e) } else { Ok(()) })?;
    owner.into_iter().for_each(Owner::wait);
    Ok(())
}

/// SIGKILL for everything in the container.
///
/// # Errors
/// When the cgroup's processes do not die.
pub fn kill_all(state: &State, pidfd: &OwnedFd) -> Result<()> {
    let _ = drydock_core::sys::signal::pidfd_kill(pidfd.as_fd(), nix::libc::SIGKILL);
    if state.cgroup.is_empty() {
        return Ok(());
    }
    let group = Cgroup::at(state.cgroup.iter().cloned())?;
    if group.exists() { group.kill() } else { Ok(()) }
}

/// Whether a container that still runs has ended a moment later: `start` returns as soon as the command runs, and a short
/// one may be about to end.
pub fn ends_shortly(entry: &Entry) -> bool {
    const MOMENT: Duration = Duration::from_millis(100);
    entry.life() == Some(Life::Running) && running(entry).is_ok_and(|(_, pidfd)| gone(&pidfd, MOMENT))
}

/// Waits for the process's end; whether it came in time.
pub fn gone(pidfd: &OwnedFd, limit: Duration) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout};
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        match nix::poll::poll(&mut fds, timeout) {
            Ok(n) => return n > 0,
            Err(nix::errno::Errno::EINTR) if !left.is_zero() => {}
            Err(_) => return false,
        }
    }
}

/// Waits for a container's end and prints its exit code, as `docker wait` does.
///
/// # Errors
/// Unknown containers; one that is removed meanwhile and whose code nobody knows any more.
pub fn wait(args: &WaitArgs, store: &Store) -> Outcome {
    let entry = store.find(&args.name)?;
    let owner = entry.state.as_ref().ok().and_then(Owner::of);
    // With --rm the record is removed at the end: then only these are left.
    let said = store.last_words(&entry.id)?.trim().parse().ok();
    owner.into_iter().for_each(Owner::wait);
    let recorded =
        || State::read(&entry.dir).ok().and_then(|state| state.ended).map(drydock_core::exit::Ended::code);
    match said.or_else(recorded) {
        Some(code) => {
            let code: u8 = code;
            drydock_cli::print_line(&code.to_string())?;
            Ok(0)
        }
        None => Err(Error::failed(
            format!("'{}'", entry.id),
            "has gone without leaving its exit code (its owner was killed)",
        )
        .into()),
    }
}
