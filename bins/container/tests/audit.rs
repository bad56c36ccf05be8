//! `container audit`: each check fails where the container is open.
// A helper that cannot go on fails its test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{BUSYBOX, bundle};
use drydock_testkit::{Sandbox, is_root, require};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

#[test]
fn a_container_without_any_wall_passes_nothing() {
    require!(is_root(), "needs root");
    require!(Path::new(BUSYBOX).exists(), "needs busybox");
    let sandbox = Sandbox::new();
    let id = sandbox.unique("open");
    let socket = sandbox.join("docker.sock");
    std::fs::write(&socket, "").unwrap();
    // A tmpfs of the machine is the machine's, as /run and /tmp often are.
    let shared = sandbox.join("shared");
    std::fs::create_dir(&shared).unwrap();
    let tmpfs = Tmpfs::mount(&shared);
    let bind = |from: &Path, to: &str| json!({ "destination": to, "type": "bind", "source": from, "options": ["rbind", "rw"] });
    let dir = bundle(&sandbox, &["sleep", "600"], |config| {
        let caps = ["CAP_SYS_ADMIN", "CAP_KILL"];
        config["process"]["capabilities"] = json!({ "bounding": caps, "effective": caps, "permitted": caps });
        config["process"]["noNewPrivileges"] = json!(false);
        config["linux"]["namespaces"] = json!([{ "type": "mount" }]);
        config["linux"]["rootfsPropagation"] = json!("shared");
        config["linux"]["devices"] = json!([{ "path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11 }]);
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.push(json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs" }));
        mounts.push(bind(Path::new("/sys/fs/cgroup"), "/sys/fs/cgroup"));
        mounts.push(bind(&shared, "/shared"));
        mounts.push(bind(&socket, "/run/docker.sock"));
    });
    sandbox.run("container", &["create", "--bundle", &dir, &id]).success();
    sandbox.run("container", &["start", &id]).success();
    // Nobody has written anything down of it.
    let _ = std::fs::remove_file(sandbox.state().join("@events"));
    let output = sandbox.run("container", &["audit", "--json", &id]);
    assert_eq!(output.code, Some(1), "{}", output.describe());
    let report: Value = serde_json::from_str(&output.stdout).unwrap();
    let all = ["practices", "reach"].into_iter().flat_map(|k| report[k].as_array().unwrap());
    let word = |f: &Value, key: &str| f[key].as_str().unwrap().to_string();
    let found: BTreeMap<String, String> = all.map(|f| (word(f, "check"), word(f, "verdict"))).collect();
    for (check, verdict) in &found {
        // The machine decides these two.
        if !matches!(check.as_str(), "4 AppArmor or SELinux" | "9 regular updates") {
            assert_eq!(verdict, "fail", "{check}: {report:#}");
        }
    }
    assert_eq!(found.len(), 20);
    drop(tmpfs);
    sandbox.run("container", &["delete", "--force", &id]).success();
}

/// Unmounted at the end, also of a test that fails.
struct Tmpfs(std::path::PathBuf);

impl Tmpfs {
    fn mount(at: &Path) -> Self {
        let none = None::<&str>;
        nix::mount::mount(Some("tmpfs"), at, Some("tmpfs"), nix::mount::MsFlags::empty(), none).unwrap();
        Self(at.to_path_buf())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}
