//! What the container's life leaves in the file of events, for `container events` and `container why`.

use drydock_bundle::events::{Event, note};
use drydock_bundle::{State, Store};
use drydock_core::exit::Ended;
use drydock_core::{Error, Result};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// The state root of a container's directory.
fn root(dir: &Path) -> &Path {
    dir.parent().unwrap_or(dir)
}

/// It is being made.
pub fn created(dir: &Path, state: &State) {
    let event = Event::now("create", state.id.as_str()).with("command", json!(state.command));
    note(root(dir), &event);
}

/// Its command runs.
fn started(dir: &Path, state: &State) {
    note(root(dir), &Event::now("start", state.id.as_str()).with("pid", state.pid.unwrap_or(0)));
}

/// Whether its command runs, or why not.
///
/// # Errors
/// As given.
pub fn start(dir: &Path, state: &State, executed: Result<()>) -> Result<()> {
    match &executed {
        Ok(()) => started(dir, state),
        Err(error) => failed(root(dir), state.id.as_str(), "start", &state.command, error),
    }
    executed
}

/// A command is run in it.
pub fn executed(store: &Store, state: &State, command: &[String]) {
    note(store.root(), &Event::now("exec", state.id.as_str()).with("command", json!(command)));
}

/// It is gone.
pub fn deleted(root: &Path, id: &str) {
    note(root, &Event::now("delete", id));
}

/// It was changed or asked for something: `pause`, `resume`, `update`, `kill`.
pub fn asked(store: &Store, id: &str, what: &str, more: &[(&str, Value)]) {
    let event = Event::now(what, id);
    let event = more.iter().fold(event, |event, (key, value)| event.with(key, value.clone()));
    note(store.root(), &event);
}

/// It could not be made, started, or entered.
pub fn failed(root: &Path, id: &str, what: &str, command: &[String], error: &Error) {
    let not_found = (error.kind() == drydock_core::Kind::NotFound).then_some(nix::libc::ENOENT);
    let errno = error.errno().or(not_found).map(drydock_core::error::errno_text);
    let event = Event::now("fail", id)
        .with("what", what)
        .with("stage", json!(error.stage().unwrap_or("process")))
        .with("error", error.sentence())
        .with("call", json!(error.failed_call()))
        .with("errno", json!(errno))
        .with("hint", json!(error.remedy()))
        .with("exit_code", error.exit_code())
        .with("command", json!(command));
    note(root, &event);
}

/// One that nobody owns ended; how, if it was seen.
pub fn ended_unowned(dir: &Path, state: &State, how: Option<Ended>) {
    let mut state = state.clone();
    state.oom_killed = counted(&state.cgroup).contains_key("oom_kills");
    match how {
        Some(how) => ended(dir, &state, how),
        None => note(root(dir), &unseen(&state)),
    }
}

/// An end of which only the counters tell.
fn unseen(state: &State) -> Event {
    let event = Event::now("exit", state.id.as_str()).with("command", json!(state.command));
    let event = if state.oom_killed { event.with("oom_killed", true) } else { event };
    event.with("counted", Value::Object(counted(&state.cgroup)))
}

/// It ended. What the kernel counted goes along when it did not end well: soon its cgroup is gone.
pub fn ended(dir: &Path, state: &State, ended: Ended) {
    let id = state.id.as_str();
    let root = root(dir);
    let good = ended == Ended::Exited(0) && !state.oom_killed;
    let evidence = if good { Map::new() } else { counted(&state.cgroup) };
    if state.oom_killed {
        let event =
            Event::now("oom", id).with("limit", evidence.get("memory_limit").cloned().unwrap_or_default());
        note(root, &event);
    }
    if ended == Ended::Signaled(SIGSYS) {
        note(root, &Event::now("seccomp", id).with("action", "kill"));
    }
    let mut event = Event::now("exit", id).with("exit_code", ended.code());
    if let Ended::Signaled(signal) = ended {
        event = event.with("signal", drydock_supervise::signals::signal_name(i32::from(signal)));
    }
    if state.oom_killed {
        event = event.with("oom_killed", true);
    }
    if !evidence.is_empty() {
        event = event.with("counted", Value::Object(evidence)).with("command", json!(state.command));
    }
    note(root, &event);
}

/// What a seccomp filter sends that kills. The number differs on no architecture that we run on.
pub const SIGSYS: u8 = 31;

/// The counters of limits: which were hit, and whose.
pub fn counted(directories: &[PathBuf]) -> Map<String, Value> {
    let mut facts = Map::new();
    let mut add = |key: &str, value: Option<u64>| {
        if let Some(value) = value.filter(|n| *n > 0) {
            facts.insert(key.to_string(), json!(value));
        }
    };
    let file = |names: &[&str]| {
        directories.iter().find_map(|dir| names.iter().find_map(|name| number(&dir.join(name))))
    };
    let field = |name: &str, key: &str| directories.iter().find_map(|dir| field(&dir.join(name), key));
    add("memory_max", file(&["memory.max", "memory.limit_in_bytes"]).filter(|n| *n < 1 << 62));
    add("memory_peak", file(&["memory.peak", "memory.max_usage_in_bytes"]));
    let v1_hits = || directories.iter().find_map(|dir| v1_hits(dir));
    add("memory_limit_hits", field("memory.events", "max").or_else(v1_hits));
    add("oom_kills", field("memory.events", "oom_kill").or_else(|| field("memory.oom_control", "oom_kill")));
    add("pids_max", file(&["pids.max"]));
    add("forks_refused", field("pids.events", "max"));
    add("throttled_periods", field("cpu.stat", "nr_throttled"));
    if let Some((limit, bytes)) = directories.iter().find_map(|dir| limit_hit(dir)) {
        facts.insert("memory_limit".into(), json!({ "directory": limit, "bytes": bytes }));
    }
    facts
}

/// The nearest memory limit, from the cgroup upwards, that allocations have run into.
fn limit_hit(directory: &Path) -> Option<(PathBuf, u64)> {
    let max = |dir: &Path| {
        number(&dir.join("memory.max"))
            .or_else(|| number(&dir.join("memory.limit_in_bytes")))
            .filter(|n| *n < 1 << 62)
    };
    let hits = |dir: &Path| {
        let local = field(&dir.join("memory.events.local"), "max");
        local.or_else(|| v1_hits(dir)).unwrap_or(0)
    };
    // What was killed at once may have counted no hit, but has been at the limit.
    let reached = |dir: &Path, max: u64| {
        let peak =
            number(&dir.join("memory.peak")).or_else(|| number(&dir.join("memory.max_usage_in_bytes")));
        peak.is_some_and(|peak| peak.saturating_add(1 << 16) >= max)
    };
    let found = |dir: &Path| max(dir).filter(|max| hits(dir) > 0 || reached(dir, *max));
    directory.ancestors().take(64).find_map(|dir| Some((dir.to_path_buf(), found(dir)?)))
}

/// v1 counts for memory alone, and for memory with swap.
fn v1_hits(dir: &Path) -> Option<u64> {
    let hits = number(&dir.join("memory.failcnt"))?;
    Some(hits.saturating_add(number(&dir.join("memory.memsw.failcnt")).unwrap_or(0)))
}

fn number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn field(path: &Path, key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}
