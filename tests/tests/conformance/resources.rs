//! config-linux.md, Control groups: what the runtime must do on cgroup v2.

use crate::bundle::Bundle;
use crate::needs;
use drydock_testkit::require;
use serde_json::{Value, json};
use std::path::Path;

fn v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// A container that waits for its start, with these resources.
fn created(resources: Value) -> Bundle {
    let bundle =
        Bundle::new().with("/process/args", json!(["sleep", "1000"])).with("/linux/resources", resources);
    bundle.create().success();
    bundle
}

/// A file of the container's cgroup on v2, if there is one.
fn find(bundle: &Bundle, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{}/cgroup", bundle.state()["pid"])).unwrap();
    let path = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap();
    let text = std::fs::read_to_string(format!("/sys/fs/cgroup{path}/{name}")).ok()?;
    Some(text.trim().to_string())
}

fn file(bundle: &Bundle, name: &str) -> String {
    find(bundle, name).unwrap_or_else(|| panic!("no {name}"))
}

/// unified: "the needed cgroup controllers are enabled", "Configuration unknown to the runtime MUST still be written to the
/// relevant file", "MUST generate an error when the configuration refers to a cgroup controller that is not present"
#[test]
fn unified() {
    needs!();
    require!(v2(), "needs cgroup v2");
    let bundle = created(json!({ "unified": {
        "memory.high": "104857600", "pids.max": "77", "cgroup.max.depth": "9"
    } }));
    assert_eq!(file(&bundle, "memory.high"), "104857600");
    assert_eq!(file(&bundle, "pids.max"), "77");
    assert_eq!(file(&bundle, "cgroup.max.depth"), "9");
    let bundle = Bundle::new().with("/linux/resources", json!({ "unified": { "nosuch.max": "1" } }));
    assert_ne!(bundle.create().code, Some(0), "no such controller");
    bundle.is_gone();
}

/// "If the conversion is not possible the runtime MUST generate an error", and what can be is converted.
#[test]
fn cgroup_v1_on_v2() {
    needs!();
    require!(v2(), "needs cgroup v2");
    let bundle = created(json!({
        "memory": { "limit": 104_857_600, "swap": 157_286_400, "reservation": 52_428_800 },
        "cpu": { "shares": 1024, "quota": 50_000, "period": 100_000 },
        "pids": { "limit": 9 }
    }));
    assert_eq!(file(&bundle, "memory.max"), "104857600");
    // Memory and swap together there, swap alone here.
    if let Some(swap) = find(&bundle, "memory.swap.max") {
        assert_eq!(swap, "52428800");
    }
    assert_eq!(file(&bundle, "memory.low"), "52428800");
    assert_eq!(file(&bundle, "cpu.max"), "50000 100000");
    assert_eq!(file(&bundle, "pids.max"), "9");
    assert_ne!(file(&bundle, "cpu.weight"), "1");
}

/// `checkBeforeUpdate`: "runtime MAY check if a new memory limit is lower than the current usage, and MUST reject the new
/// limit" then
#[test]
fn memory_check_before_update() {
    needs!();
    require!(v2(), "needs cgroup v2: v1's kernel checks by itself");
    let bundle = created(json!({ "memory": { "limit": 104_857_600 } }));
    bundle.start().success();
    let limits = bundle.sandbox.join("limits.json");
    std::fs::write(&limits, json!({ "memory": { "limit": 4096, "checkBeforeUpdate": true } }).to_string())
        .unwrap();
    let update = bundle.container(&["update", "--resources", limits.to_str().unwrap(), &bundle.id]);
    assert_ne!(update.code, Some(0), "{}", update.describe());
    assert_eq!((file(&bundle, "memory.max"), bundle.status()), ("104857600".into(), "running".into()));
}

/// "memory", "cpu", "pids" on whatever this machine has, seen from the host; the same `cgroupsPath` is the same place.
#[test]
fn limits_are_there_before_the_start() {
    needs!();
    let bundle = created(json!({ "memory": { "limit": 104_857_600 }, "pids": { "limit": 9 } }));
    let text = std::fs::read_to_string(format!("/proc/{}/cgroup", bundle.state()["pid"])).unwrap();
    let read = |controller: &str, old: &str, new: &str| {
        let line = text.lines().find(|line| match v2() {
            true => line.starts_with("0::"),
            false => {
                line.split(':').nth(1).is_some_and(|names| names.split(',').any(|name| name == controller))
            }
        });
        let path = line.unwrap().rsplit(':').next().unwrap();
        let base = if v2() { "/sys/fs/cgroup".to_string() } else { format!("/sys/fs/cgroup/{controller}") };
        let file = if v2() { new } else { old };
        std::fs::read_to_string(format!("{base}{path}/{file}")).unwrap().trim().to_string()
    };
    assert_eq!(read("memory", "memory.limit_in_bytes", "memory.max"), "104857600");
    assert_eq!(read("pids", "pids.max", "pids.max"), "9");
}
