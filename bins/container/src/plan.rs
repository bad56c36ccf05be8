//! A container's plan: every stage checked, nothing touched. Printed by `plan` and `--explain`, carried out by `parent`.

use crate::request::{Network, Request};
use drydock_core::{Explain, Result, Step};
use drydock_init::inside;
use drydock_namespaces::{Kind, join};
use drydock_network::device;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The checked stages.
#[derive(Debug)]
pub struct Plan {
    /// What the parent does.
    pub outside: Outside,
    /// What the container's first process does.
    pub inside: inside::Plan,
}

/// The parent's stages.
#[derive(Debug)]
pub struct Outside {
    /// What was asked.
    pub request: Request,
    /// The cgroup stage.
    pub cgroup: Option<drydock_cgroups::Plan>,
    /// The host's network devices that go into the container.
    pub devices: device::Plan,
}

impl Request {
    /// Checks every stage.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] for what was asked wrongly, [`drydock_core::Kind::Failed`] for what this
    /// machine cannot do.
    pub fn validate(self) -> Result<Plan> {
        let placed = |error| crate::oci::place(&self, error);
        let inside = self.inside.clone().validate().map_err(placed)?;
        // What systemd makes is where it says.
        let scope = self.bundled.as_ref().and_then(|bundled| bundled.scope.as_ref());
        let cgroup = match &self.cgroup {
            Some(_) if scope.is_some_and(|scope| scope.user) => None,
            Some(request) => {
                let checked = request.clone().validate(&drydock_cgroups::Layout::detect()?);
                Some(checked.map_err(|error| match self.bundled {
                    Some(_) => placed(error),
                    None => crate::request::named(error),
                })?)
            }
            None => None,
        };
        if let Some(rdt) = self.bundled.as_ref().and_then(|bundled| bundled.intel_rdt.as_ref()) {
            rdt.validate(&self.id).map_err(placed)?;
        }
        let devices = self.net_devices().validate().map_err(placed)?;
        Ok(Plan { outside: Outside { request: self, cgroup, devices }, inside })
    }

    fn net_devices(&self) -> device::Request {
        let devices = self.bundled.as_ref().map(|bundled| bundled.net_devices.clone()).unwrap_or_default();
        device::Request { devices }
    }
}

impl Plan {
    /// Says what of a bundle is ignored: in the log, or without one on standard error.
    pub fn warn(&self) {
        let log = crate::log::early(std::env::args_os());
        if let Some(filter) = self.inside.security().filter() {
            log.debug(|| format!("seccomp filter flags: {}", filter.flags));
        }
        let warnings = self.outside.request.bundled.iter().flat_map(|bundled| &bundled.warnings);
        warnings.for_each(|warning| log.warning(warning));
        if self.runs_loose() {
            log.warning(
                "no cgroup and no pid namespace of its own: what the container's command leaves behind cannot be found \
                 and ended. Such configuration is strongly discouraged",
            );
        }
    }

    /// Whether a bundle's processes are in nothing by which all could be ended.
    fn runs_loose(&self) -> bool {
        let namespaces = &self.outside.request.namespaces;
        let pid =
            namespaces.new.contains(Kind::Pid) || namespaces.join.iter().any(|(kind, _)| *kind == Kind::Pid);
        let grouped = self.outside.cgroup.as_ref().is_some_and(|cgroup| !cgroup.steps().is_empty());
        self.outside.request.bundled.is_some() && !pid && !grouped
    }

    /// Every step, in the order in which it is done. The network's come between the clone and the inside.
    ///
    /// # Errors
    /// When the network's plan cannot be made.
    pub fn steps(&self, state_root: &Path) -> Result<Vec<Step>> {
        let mut steps = vec![self.state_step(state_root)];
        steps.extend(self.outside.cgroup.iter().flat_map(drydock_cgroups::Plan::steps));
        steps.push(self.outside.clone_step());
        steps.extend(self.outside.devices.steps().iter().map(Explain::explain));
        if let Network::Bridge(attachment) = &self.outside.request.network {
            let netns = "/proc/PID/ns/net".into();
            let network = attachment.request(&self.outside.request.id, netns, state_root).validate()?;
            steps.extend(network.steps().iter().map(Explain::explain));
        }
        steps.extend(self.inside.steps());
        Ok(steps)
    }

    /// The record that is made first.
    pub fn state_step(&self, state_root: &Path) -> Step {
        let id = &self.outside.request.id;
        let dir = state_root.join(id);
        Step {
            stage: "state".into(),
            call: format!("mkdir({dir:?}, 0700); flock(\"lock\", LOCK_EX)"),
            why: "the container's record and journal; one winner for one name".into(),
            man: "flock(2)".into(),
            undo: Some(format!("container delete {id}")),
        }
    }

    /// Each stage's request, as JSON.
    pub fn to_json(&self) -> Value {
        let request = &self.outside.request;
        let stage = |name: &str, value: Value| json!({ "stage": name, "request": value });
        let mut stages = vec![
            stage(
                "state",
                json!({ "id": request.id, "labels": request.labels, "remove": request.remove, "detach": request.detach }),
            ),
            stage("rootfs", json!(request.rootfs)),
            stage("files", json!(request.files)),
        ];
        stages.extend(request.cgroup.iter().map(|cgroup| stage("cgroup", json!(cgroup))));
        stages.push(stage("namespaces", json!(request.namespaces)));
        stages.push(stage("network", json!(request.network)));
        if !self.outside.devices.is_empty() {
            stages.push(stage("network-devices", json!(self.outside.devices.request())));
        }
        let mut inside = json!(request.inside);
        let mounts = inside.get_mut("mounts").map(Value::take).unwrap_or(Value::Null);
        let security = inside.get_mut("security").map(Value::take).unwrap_or(Value::Null);
        if let Some(map) = inside.as_object_mut() {
            map.remove("mounts");
            map.remove("security");
        }
        stages.push(stage("mounts", mounts));
        stages.push(stage("security", security));
        stages.push(stage("process", inside));
        json!({ "id": request.id, "stages": stages })
    }
}

impl Outside {
    /// The container's network namespace, seen from outside. One that is joined is named as it was asked for: the
    /// container's first process may not be there yet.
    pub fn netns(&self, pid: i32) -> PathBuf {
        let joined = self.request.namespaces.join.iter().find(|(kind, _)| *kind == Kind::Network);
        match joined {
            Some((_, join::Source::Path(path))) => path.clone(),
            Some((_, join::Source::Pid(other))) => format!("/proc/{other}/ns/net").into(),
            None => format!("/proc/{pid}/ns/net").into(),
        }
    }

    /// The clone as it will be called.
    pub fn clone_step(&self) -> Step {
        let new = self.request.namespaces.new.without(Kind::Cgroup);
        let into = if self.cgroup.is_some() { "|CLONE_INTO_CGROUP" } else { "" };
        Step {
            stage: "clone".into(),
            call: format!("clone3({{flags={}|CLONE_PIDFD{into}, exit_signal=SIGCHLD}})", new.flag_names()),
            why: "one process, born in its namespaces and its cgroup".into(),
            man: "clone3(2)".into(),
            undo: None,
        }
    }
}
