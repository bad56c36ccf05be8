//! The state of a container of which nothing has been made.

use crate::plan::Outside;
use crate::request::Network;
use drydock_bundle::{Life, State};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
pub fn now() -> u64 {
    moment().as_secs()
}

fn moment() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO)
}

/// What is known before anything is made.
pub fn state(plan: &Outside) -> State {
    let request = &plan.request;
    let created = moment();
    let stays = request.bundled.as_ref().is_none_or(|bundled| !bundled.unattended);
    State {
        version: drydock_bundle::state::VERSION,
        id: request.id.clone(),
        status: Life::Creating,
        pid: None,
        start_time: None,
        created: created.as_secs(),
        created_nanos: created.subsec_nanos(),
        owner: stays.then(crate::owner::own).flatten(),
        finished: None,
        ended: None,
        oom_killed: false,
        command: request.inside.args.clone(),
        rootfs: request.rootfs.path().to_path_buf(),
        hostname: request.inside.hostname.clone(),
        cgroup: plan.cgroup.as_ref().map(|c| c.dirs().to_vec()).unwrap_or_default(),
        network: request.network.mode(),
        addresses: Vec::new(),
        ports: match &request.network {
            Network::Bridge(attachment) => attachment.publish.iter().map(ToString::to_string).collect(),
            Network::Foreign(foreign) => foreign.ports().iter().map(ToString::to_string).collect(),
            _ => Vec::new(),
        },
        network_name: match &request.network {
            Network::Bridge(attachment) => Some(attachment.network.clone()),
            _ => None,
        },
        detached: request.detach,
        terminal: request.inside.terminal,
        remove: request.remove,
        stop: request.stop,
        labels: request.labels.clone(),
        lacking: Vec::new(),
        error: None,
        oci: request.bundled.as_ref().map(|bundled| bundled.state()),
    }
}
