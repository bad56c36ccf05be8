//! `container state`: a container's state as the specification defines it.

use crate::oci::life;
use drydock_bundle::{Entry, Life, State, Store};
use drydock_cli::Outcome;
use drydock_core::ContainerId;
use drydock_supervise::log::timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
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

/// The specification's state, with what runc(8) adds to it, in runc's order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Full {
    oci_version: String,
    id: ContainerId,
    pid: i32,
    status: &'static str,
    bundle: PathBuf,
    rootfs: PathBuf,
    created: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    owner: &'static str,
}

/// A container's state.
pub fn full(state: &State) -> Full {
    let life = state.life();
    let oci = state.oci.clone().unwrap_or_default();
    Full {
        oci_version: life::version(&oci).to_string(),
        id: state.id.clone(),
        pid: state.pid.filter(|_| life != Life::Stopped).unwrap_or(0),
        status: life.name(),
        bundle: oci.bundle,
        rootfs: state.rootfs.clone(),
        created: timestamp(Duration::new(state.created, state.created_nanos)),
        annotations: oci.annotations,
        owner: "",
    }
}

/// All containers, as `list --format json` gives them.
pub fn all(entries: &[Entry]) -> Vec<Full> {
    entries.iter().filter_map(|entry| entry.state.as_ref().ok()).map(full).collect()
}
