//! `container delete` and `container gc`: taking away what is left.

use crate::cleanup::{self, Verdict};
use crate::commands::{signals, timings};
use crate::owner::Owner;
use crate::watch::{Show, Watch};
use drydock_bundle::{Entry, Life, Pin, State, Store};
use drydock_cli::Outcome;
use drydock_core::{Ctx, Error, Journal, Object, Result};
use nix::libc;
use serde_json::json;
use std::time::Duration;

/// Arguments of `container delete`.
#[derive(clap::Args, Clone, Debug)]
pub struct DeleteArgs {
    /// Kill the container first if it runs; say nothing if there is none
    #[arg(short = 'f', long)]
    pub force: bool,
    /// The containers
    #[arg(required = true)]
    pub names: Vec<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub timings: timings::Timings,
}

/// Arguments of `container gc`.
#[derive(clap::Args, Clone, Debug)]
pub struct GcArgs {
    /// Only list what is left behind, and exit 1 if anything is
    #[arg(long)]
    pub check: bool,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Deletes containers: their processes, cgroups, links, leases, rules, directories, records.
///
/// # Errors
/// Unknown or (without `--force`) running containers, before any is touched; what could not be removed.
pub fn delete(args: &DeleteArgs, store: &Store) -> Outcome {
    let watch = args.timings.watch()?;
    let mut entries = Vec::new();
    for name in &args.names {
        match watch.timed("state", || store.find_exact(name)) {
            Ok(entry) => entries.push(entry),
            Err(e)
                if args.force
                    && e.kind() == drydock_core::Kind::BadInput
                    && drydock_core::ContainerId::parse(name).is_ok() => {}
            Err(e) => return Err(e.into()),
        }
    }
    for entry in &entries {
        // One that was never started has nothing to lose, as runc(8) sees it.
        let runs = matches!(entry.life(), Some(Life::Running | Life::Paused))
            || (entry.life() == Some(Life::Created) && unattended(entry).is_none());
        if runs && !args.force && !signals::ends_shortly(entry) {
            return Err(Error::failed(
                format!("'{}'", entry.id),
                format!("error: container is {}", entry.life().map_or("running", Life::name)),
            )
            .hint(format!("container stop {0}, or: container delete --force {0}", entry.id))
            .into());
        }
    }
    for entry in &entries {
        delete_watched(entry, store, &watch)?;
    }
    // What an earlier deletion was killed over has no name any more that could be found.
    let halves = args.names.iter().flat_map(|name| cleanup::half_forgotten(store, Some(name)));
    halves.map(|half| store.remove(&half)).collect::<Result<Vec<()>>>()?;
    args.timings.report(&args.names.join(" "), &watch)?;
    Ok(0)
}

/// Kills one container if need be, lets its owner clean up, and removes what is left.
///
/// # Errors
/// What could not be killed or removed.
pub fn delete_one(entry: &Entry, store: &Store) -> Result<()> {
    delete_watched(entry, store, &Watch::new(Show::default()))
}

fn delete_watched(entry: &Entry, store: &Store, watch: &Watch) -> Result<()> {
    let Some(oci) = unattended(entry) else { return take_away(entry, store, watch) };
    let held = match store.own(&entry.id) {
        // Another one has deleted it meanwhile.
        Err(error) if error.errno() == Some(libc::ENOENT) && !entry.dir.exists() => return Ok(()),
        held => held?,
    };
    // Or was about to.
    if let Ok(mut state) = State::read(&entry.dir) {
        // From here on it is a leak, should this process be killed.
        if let Some(oci) = &mut state.oci {
            oci.unattended = false;
        }
        watch.timed("state", || state.write(&entry.dir))?;
        drop(held);
        take_away(entry, store, watch)?;
        crate::oci::life::poststop(&entry.id, &oci);
    }
    Ok(())
}

/// A container that nobody owns by design.
fn unattended(entry: &Entry) -> Option<drydock_bundle::OciState> {
    entry.state.as_ref().ok()?.oci.clone().filter(|oci| oci.unattended)
}

fn take_away(entry: &Entry, store: &Store, watch: &Watch) -> Result<()> {
    let owner = entry.state.as_ref().ok().and_then(Owner::of);
    take_all_away(entry, store, watch)?;
    watch.timed("process", || owner.into_iter().for_each(Owner::wait));
    Ok(())
}

fn take_all_away(entry: &Entry, store: &Store, watch: &Watch) -> Result<()> {
    let ran_in = match &entry.state {
        Ok(state) => watch.timed("process", || kill_running(entry, state.clone()))?,
        Err(_) => Vec::new(),
    };
    loop {
        let pin = store.pin(&entry.id)?;
        if let Some(pin) = &pin {
            end_owner(entry, pin)?;
        }
        // A journal that was cut short does not name it any more. Only of a container that ran a moment ago: by now the name
        // may be another's, of another state root.
        if !ran_in.is_empty() && pin.as_ref().is_none_or(Pin::is_here) {
            watch.timed("cgroup", || {
                drydock_cgroups::Cgroup::at(ran_in.clone())?.remove(Duration::from_secs(10))
            })?;
        }
        if reclaim(entry, pin.as_ref(), store, watch)? {
            return Ok(());
        }
    }
}

/// Kills what runs; its cgroup's directories.
fn kill_running(entry: &Entry, state: State) -> Result<Vec<std::path::PathBuf>> {
    let entry = Entry { id: entry.id.clone(), dir: entry.dir.clone(), state: Ok(state) };
    let Ok((state, pidfd)) = signals::running(&entry) else { return Ok(Vec::new()) };
    signals::kill_all(&state, &pidfd)?;
    Ok(state.cgroup)
}

/// Waits for the owner's end. It may still be making the container: what the state and, as that may be corrupt, the journal
/// name by now is killed, again and again.
fn end_owner(entry: &Entry, pin: &Pin) -> Result<()> {
    const LONGEST: Duration = Duration::from_millis(100);
    let mut pause = Duration::from_millis(1);
    while !pin.is_unowned()? && pin.is_here() {
        match kill_made(entry) {
            // What the owner takes away meanwhile.
            Err(e) if matches!(e.errno(), Some(libc::ENOENT | libc::ENODEV | libc::ESRCH)) => {}
            other => other?,
        }
        std::thread::sleep(pause);
        pause = LONGEST.min(pause * 2);
    }
    Ok(())
}

fn kill_made(entry: &Entry) -> Result<()> {
    kill_journalled(entry)?;
    if let Ok(state) = State::read(&entry.dir) {
        kill_running(entry, state)?;
    }
    Ok(())
}

fn kill_journalled(entry: &Entry) -> Result<()> {
    for object in Journal::read(&entry.dir).unwrap_or_default() {
        if let Object::Cgroup { dirs } = object
            && crate::ours::check_cgroup(&dirs).is_ok()
            && let Ok(group) = drydock_cgroups::Cgroup::at(dirs)
            && group.exists()
        {
            group.kill()?;
        }
    }
    Ok(())
}

/// Undoes the journal and forgets the container, unless its owner or another deletion has; false if somebody owns it.
fn reclaim(entry: &Entry, pin: Option<&Pin>, store: &Store, watch: &Watch) -> Result<bool> {
    if !entry.dir.exists() {
        return Ok(true);
    }
    // Nobody makes a container meanwhile; until now its maker may have been about to lock it.
    let _alone = store.exclusive()?;
    match pin {
        // The name is another container's by now, or nobody's.
        Some(pin) if !pin.is_here() => return Ok(true),
        Some(pin) if !pin.is_unowned()? => return Ok(false),
        None if store.pin(&entry.id)?.is_some() => return Ok(false),
        _ => {}
    }
    cleanup::undo(&entry.id, &entry.dir, store.root(), &Ctx::new(watch, None))?;
    watch.timed("state", || cleanup::forget(store, &entry.id))?;
    Ok(true)
}

/// Removes what containers left behind whose owner was killed.
///
/// # Errors
/// What could not be removed.
pub fn gc(args: &GcArgs, store: &Store) -> Outcome {
    store.ensure_root()?;
    let alone = store.exclusive()?;
    let mut leaks: Vec<(Entry, Vec<Object>)> = Vec::new();
    let mut first_error = Ok(());
    for entry in store.entries()? {
        let verdict = match cleanup::judge(store, &entry) {
            Ok((verdict, _held)) => verdict,
            // One that cannot be judged keeps the others from nothing.
            Err(error) => {
                first_error = first_error.and(Err(error));
                continue;
            }
        };
        match verdict {
            Verdict::Fine => {}
            Verdict::ByHand => drydock_cli::output::warn(
                "container",
                &format!(
                    "'{0}' was made by hand with the stage tools; when it is done with: container delete {0}",
                    entry.id
                ),
            ),
            Verdict::Leaked => {
                let objects = Journal::read(&entry.dir).unwrap_or_default();
                leaks.push((entry, objects));
            }
        }
    }
    let mut halves = cleanup::half_forgotten(store, None);
    halves.extend(crate::claim::orphans());
    let mut lines = Vec::new();
    for (entry, objects) in &leaks {
        lines.push(json!({ "container": entry.id, "directory": entry.dir, "objects": objects }));
        if !args.check {
            let undone = cleanup::undo(&entry.id, &entry.dir, store.root(), &Ctx::silent())
                .and_then(|()| cleanup::forget(store, &entry.id));
            first_error = first_error.and(undone);
        }
    }
    for half in &halves {
        lines.push(json!({ "directory": half, "objects": [] }));
        if !args.check {
            first_error = first_error.and(cleanup::remove_directory(half));
        }
    }
    drop(alone);
    first_error?;
    finish(args, &lines)
}

fn finish(args: &GcArgs, leaks: &[serde_json::Value]) -> Outcome {
    if args.json {
        drydock_cli::print_json(&leaks)?;
    } else {
        for leak in leaks {
            let directory = leak.get("directory").and_then(|v| v.as_str()).unwrap_or("?");
            let name = leak.get("container").and_then(|v| v.as_str()).unwrap_or(directory);
            let objects = leak.get("objects").and_then(|v| v.as_array()).cloned().unwrap_or_default();
            let verb = if args.check { "left behind" } else { "removed" };
            drydock_cli::print_line(&format!("{name}: {verb}: {}", describe(&objects)))?;
        }
        if leaks.is_empty() {
            drydock_cli::print_line("nothing left behind")?;
        }
    }
    Ok(u8::from(args.check && !leaks.is_empty()))
}

fn describe(objects: &[serde_json::Value]) -> String {
    let words: Vec<String> = objects
        .iter()
        .filter_map(|o| {
            let kind = o.get("object")?.as_str()?;
            let detail =
                ["name", "path", "target", "network", "owner", "pid"].iter().find_map(|key| o.get(*key));
            Some(match detail {
                Some(serde_json::Value::String(text)) => format!("{kind} {text}"),
                Some(other) => format!("{kind} {other}"),
                None => kind.to_string(),
            })
        })
        .collect();
    if words.is_empty() { "its record".to_string() } else { words.join(", ") }
}
