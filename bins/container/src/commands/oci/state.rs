//! `container state`: a container's state as the specification defines it.

use crate::oci::life;
use drydock_bundle::{Entry, State, Store};
use drydock_cli::Outcome;
use drydock_supervise::log::timestamp;
use serde_json::{Value, json};
use std::time::Duration;

/// Arguments of `container state`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The container
    #[arg(value_name = "ID")]
    pub id: String,
}

/// Prints the state.
///
/// # Errors
/// Unknown containers, and those whose record cannot be read.
pub fn run(args: &Args, store: &Store) -> Outcome {
    let entry = store.find_exact(&args.id)?;
    let state = entry.state.as_ref().map_err(Clone::clone)?;
    drydock_cli::print_json(&full(state))?;
    Ok(0)
}

/// The specification's state, with what runc(8) adds to it.
pub fn full(state: &State) -> Value {
    let life = state.life();
    let mut value = life::json(state, life);
    if let Some(map) = value.as_object_mut() {
        map.entry("pid").or_insert(json!(0));
        map.insert("rootfs".into(), json!(state.rootfs));
        map.insert("created".into(), json!(timestamp(Duration::from_secs(state.created))));
        map.insert("owner".into(), json!(""));
    }
    value
}

/// All containers, as `list --format json` gives them.
pub fn all(entries: &[Entry]) -> Vec<Value> {
    entries.iter().filter_map(|entry| entry.state.as_ref().ok()).map(full).collect()
}
