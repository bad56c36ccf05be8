//! `container features`: what this runtime knows, by the specification's schema. Source: features.md, features-linux.md.
//!
//! Every list is the table by which the code itself decides.

use crate::commands::criu;
use crate::oci::life::VERSION;
use drydock_bundle::config::{rules, schema};
use drydock_cli::Outcome;
use drydock_core::Result;
use drydock_security::seccomp::{self, action::Action, profile::Operator};
use drydock_security::{capset, numa};
use serde::Serialize;
use serde_json::{Value, json};

/// Arguments of `container features`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {}

/// Prints the features. Touches nothing.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(_: &Args) -> Outcome {
    drydock_cli::print_json(&features()?)?;
    Ok(0)
}

/// The words of a list, sorted.
fn sorted<S: Into<String>>(words: impl IntoIterator<Item = S>) -> Vec<String> {
    let mut words: Vec<String> = words.into_iter().map(Into::into).collect();
    words.sort();
    words
}

/// Names as they are written in profiles.
fn written<T: Serialize>(values: &[T]) -> Vec<String> {
    let text = |value: &T| serde_json::to_value(value).ok()?.as_str().map(String::from);
    values.iter().filter_map(text).collect()
}

fn features() -> Result<Value> {
    let names = |table: &[(&'static str, u32)]| table.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    Ok(json!({
        "ociVersionMin": rules::OLDEST,
        "ociVersionMax": VERSION,
        "hooks": schema::hooks().collect::<Vec<_>>(),
        "mountOptions": sorted(drydock_mounts::options::words()),
        "linux": {
            "namespaces": sorted(schema::NAMESPACES),
            "capabilities": capset::NAMES.to_vec(),
            "cgroup": { "v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true },
            "seccomp": {
                "enabled": true,
                "actions": sorted(written(&Action::ALL).into_iter().chain([Action::KILL_THREAD.to_string()])),
                "operators": sorted(written(&Operator::ALL)),
                "archs": sorted(seccomp::Arch::known()),
                "knownFlags": sorted(seccomp::known_flags()),
                "supportedFlags": sorted(seccomp::known_flags()),
            },
            "apparmor": { "enabled": true },
            "selinux": { "enabled": true },
            "memoryPolicy": { "modes": names(&numa::MODES), "flags": names(&numa::FLAGS) },
            "intelRdt": { "enabled": true, "schemata": true, "monitoring": true },
            "mountExtensions": { "idmap": { "enabled": true } },
            "netDevices": { "enabled": true },
        },
        "annotations": {
            "io.github.drydock.version": env!("CARGO_PKG_VERSION"),
            "org.opencontainers.runc.checkpoint.enabled": "true",
        },
        // Properties of systemd's scope, and criu's configuration file on the host: whoever may set annotations may set these.
        "potentiallyUnsafeConfigAnnotations": [drydock_cgroups::systemd::ANNOTATION_PREFIX, criu::CONFIG_ANNOTATION],
    }))
}
