//! The state that the OCI runtime specification defines, and the hooks at the end of a container's life.
//!
//! Source: runtime.md (State, Lifecycle).

use drydock_bundle::{Life, OciState, State};
use drydock_core::{ContainerId, Result};
use serde_json::{Value, json};

/// The version of the specification that is reported for containers that have none of their own.
pub const VERSION: &str = "1.3.0";

/// A container's state as hooks and `state` give it.
pub fn json(state: &State, life: Life) -> Value {
    let oci = state.oci.as_ref();
    let mut value = of(&state.id, oci.unwrap_or(&OciState::default()), life);
    if let (Some(map), Some(pid)) = (value.as_object_mut(), state.pid.filter(|_| life != Life::Stopped)) {
        map.insert("pid".into(), json!(pid));
    }
    value
}

/// The specification's version that a configuration says it follows.
pub fn version(oci: &OciState) -> &str {
    if oci.version.is_empty() { VERSION } else { &oci.version }
}

fn of(id: &ContainerId, oci: &OciState, life: Life) -> Value {
    let mut value = json!({
        "ociVersion": version(oci),
        "id": id,
        "status": life.name(),
        "bundle": oci.bundle,
    });
    if let (Some(map), false) = (value.as_object_mut(), oci.annotations.is_empty()) {
        map.insert("annotations".into(), json!(oci.annotations));
    }
    value
}

/// The hooks after a container was started.
///
/// # Errors
/// The first hook that failed.
pub fn poststart(state: &State) -> Result<()> {
    let Some(oci) = &state.oci else { return Ok(()) };
    let text = json(state, Life::Running).to_string();
    let env = crate::hooks::own_environment();
    crate::hooks::run("poststart", &oci.hooks.poststart, &text, &env, Some(&oci.bundle))
}

/// The hooks after a container was deleted. One that fails is told; the others are carried out nevertheless.
pub fn poststop(id: &ContainerId, oci: &OciState) {
    let text = of(id, oci, Life::Stopped).to_string();
    let env = crate::hooks::own_environment();
    for ended in crate::hooks::all("poststop", &oci.hooks.poststop, &text, &env, Some(&oci.bundle)) {
        if let Err(e) = ended {
            crate::log::early(std::env::args_os()).warning(&e.sentence());
        }
    }
}
