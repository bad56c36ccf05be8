//! A configuration by type. The parts are oci-spec's; the top level and the process are ours, because oci-spec's process
//! brings the regular expressions of one field along, which every start would pay for with memory.

use oci_spec::runtime::{Linux, Mount, PosixRlimit, Root, User};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The top level of config.json, less what the stages take from the JSON themselves. Source: OCI config.md.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// The specification's version that it was written for.
    pub oci_version: String,
    /// The root file system.
    pub root: Option<Root>,
    /// The first process; `create` needs it.
    pub process: Option<Process>,
    /// What is mounted, in this order.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// The host name inside.
    pub hostname: Option<String>,
    /// The NIS domain name inside.
    pub domainname: Option<String>,
    /// What others want to know of the container.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// `process`. Capabilities, scheduler, I/O priority and CPU affinity are the stages' own types. Source: config.md#process.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Whether it has a terminal of its own.
    #[serde(default)]
    pub terminal: bool,
    /// The terminal's size.
    pub console_size: Option<oci_spec::runtime::Box>,
    /// Who it is; root if not said.
    #[serde(default)]
    pub user: User,
    /// The program and its arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Its environment, `NAME=VALUE`.
    #[serde(default)]
    pub env: Vec<String>,
    /// Where it begins.
    pub cwd: PathBuf,
    /// Its resource limits.
    #[serde(default)]
    pub rlimits: Vec<PosixRlimit>,
    /// Whether set-user-ID programs give it nothing.
    #[serde(default)]
    pub no_new_privileges: bool,
    /// Its AppArmor profile.
    pub apparmor_profile: Option<String>,
    /// Its SELinux label.
    pub selinux_label: Option<String>,
    /// What the OOM killer adds for it.
    pub oom_score_adj: Option<i32>,
}

/// The parts of `linux` that have types of the stages'.
const UNTYPED: [&str; 5] = ["seccomp", "intelRdt", "memoryPolicy", "personality", "timeOffsets"];

/// `linux` as oci-spec has it; all of it empty where it is not there, which the type's own default is not.
pub(super) fn linux(json: &Value) -> serde_json::Result<Linux> {
    let given = json.get("linux").and_then(Value::as_object).into_iter().flatten();
    let typed = given.filter(|(name, _)| !UNTYPED.contains(&name.as_str()));
    let mut typed: Map<String, Value> = typed.map(|(name, value)| (name.clone(), value.clone())).collect();
    if let Some(resources) = typed.get_mut("resources") {
        super::typed_resources(resources);
    }
    Linux::deserialize(Value::Object(typed))
}
