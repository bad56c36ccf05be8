//! What engines call a container whose id the cgroup's path tells: read from their own files, no daemon is asked.

use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The files are small; more is not read.
const MAX_BYTES: u64 = 4 << 20;

/// Names by id, remembered: an engine's container keeps its name while it runs, but for `docker rename`.
#[derive(Debug, Default)]
pub struct Names(BTreeMap<String, Option<String>>);

impl Names {
    /// The name of a container; `None` if its engine left none where we may look.
    pub fn of(&mut self, runtime: &str, id: &str) -> Option<String> {
        // Only what looks like an id becomes a part of a path.
        if id.len() < 12 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let look = || match runtime {
            "docker" => docker(id),
            "podman" => podman(id),
            "containerd" | "kubernetes" => containerd(id),
            "cri-o" => crio(id),
            _ => None,
        };
        let name = self.0.entry(id.to_string()).or_insert_with(look);
        name.as_ref().map(|n| drydock_core::text::escape(n))
    }
}

fn docker(id: &str) -> Option<String> {
    let config = json(Path::new(&format!("/var/lib/docker/containers/{id}/config.v2.json")))?;
    Some(config.get("Name")?.as_str()?.trim_start_matches('/').to_string()).filter(|n| !n.is_empty())
}

fn podman(id: &str) -> Option<String> {
    let home = std::env::var("HOME").unwrap_or_default();
    let stores =
        ["/var/lib/containers/storage".to_string(), format!("{home}/.local/share/containers/storage")];
    stores.iter().find_map(|store| {
        let kinds = ["overlay", "vfs", "btrfs"];
        kinds.iter().find_map(|kind| {
            let list = json(Path::new(&format!("{store}/{kind}-containers/containers.json")))?;
            let entry =
                list.as_array()?.iter().find(|c| c.get("id").and_then(Value::as_str) == Some(id))?.clone();
            Some(entry.get("names")?.get(0)?.as_str()?.to_string())
        })
    })
}

fn containerd(id: &str) -> Option<String> {
    let base = "/run/containerd/io.containerd.runtime.v2.task";
    ["k8s.io", "default", "moby"].iter().find_map(|space| {
        let config = json(Path::new(&format!("{base}/{space}/{id}/config.json")))?;
        let notes = config.get("annotations")?;
        let note = |key: &str| notes.get(key).and_then(Value::as_str);
        let name = note("io.kubernetes.cri.container-name").or(note("nerdctl/name"))?;
        let pod = note("io.kubernetes.cri.sandbox-name");
        Some(pod.map_or(name.to_string(), |pod| format!("{pod}/{name}")))
    })
}

fn crio(id: &str) -> Option<String> {
    let config =
        json(Path::new(&format!("/run/containers/storage/overlay-containers/{id}/userdata/config.json")))?;
    Some(config.get("annotations")?.get("io.kubernetes.cri-o.Name")?.as_str()?.to_string())
}

fn json(path: &Path) -> Option<Value> {
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW;
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}
