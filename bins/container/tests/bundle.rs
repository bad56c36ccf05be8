//! `container plan --bundle`: an OCI bundle as stage requests, nothing touched.
#![allow(clippy::unwrap_used)] // a test that cannot go on should stop

use drydock_testkit::Sandbox;
use serde_json::{Value, json};

fn config() -> Value {
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "terminal": false,
            "user": { "uid": 5, "gid": 6, "additionalGids": [7] },
            "args": ["sh", "-c", "true"],
            "env": ["PATH=/bin", "A=b"],
            "cwd": "/tmp",
            "capabilities": { "bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"], "ambient": ["CAP_KILL"] },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 2048, "soft": 1024 }],
            "noNewPrivileges": true
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "bundled",
        "mounts": [{ "destination": "/proc", "type": "proc", "source": "proc" }],
        "linux": {
            "namespaces": [{ "type": "pid" }, { "type": "mount" }, { "type": "uts" }, { "type": "network" }],
            "resources": { "memory": { "limit": 104857600, "swap": 157286400 }, "cpu": { "quota": 50000, "period": 100000 }, "pids": { "limit": 100 } },
            "maskedPaths": ["/proc/kcore"],
            "readonlyPaths": ["/proc/sys"]
        }
    })
}

fn bundle(sandbox: &Sandbox, config: &str) -> String {
    let dir = sandbox.join("bundle");
    std::fs::create_dir_all(dir.join("rootfs")).unwrap();
    std::fs::write(dir.join("config.json"), config).unwrap();
    dir.display().to_string()
}

#[test]
fn every_stage_gets_its_part() {
    let sandbox = Sandbox::new();
    let dir = bundle(&sandbox, &config().to_string());
    let output = sandbox.run("container", &["plan", "--bundle", &dir, "--name", "b1", "--json"]).success();
    let plan: Value = serde_json::from_str(&output.stdout).unwrap();
    let stage = |name: &str| {
        let stages = plan["stages"].as_array().unwrap();
        stages.iter().find(|s| s["stage"] == name).map(|s| s["request"].clone()).unwrap()
    };
    assert_eq!(plan["id"], "b1");
    assert_eq!(stage("process")["args"], json!(["sh", "-c", "true"]));
    assert_eq!(stage("process")["workdir"], "/tmp");
    assert_eq!(stage("security")["capabilities"]["ambient"], json!([]), "not inheritable, so not ambient");
    assert_eq!(stage("security")["user"]["additional_gids"], json!([7]));
    assert_eq!(stage("mounts")["masked_paths"], json!(["/proc/kcore"]));
    let limits = stage("cgroup")["limits"].clone();
    assert_eq!(
        (limits["memory_max"].clone(), limits["memsw_max"].clone()),
        (json!(104_857_600), json!(157_286_400))
    );
    assert_eq!(stage("namespaces")["new"].as_array().unwrap().len(), 4);
    assert!(!sandbox.state().join("b1").exists(), "a plan touches nothing");
}

#[test]
fn steps_name_the_clone_and_the_pivot() {
    let sandbox = Sandbox::new();
    let dir = bundle(&sandbox, &config().to_string());
    let output = sandbox.run("container", &["plan", "--bundle", &dir]).success();
    for part in ["clone3(", "pivot_root", "PR_SET_NO_NEW_PRIVS", "sethostname(\"bundled\")", "execve("] {
        assert!(output.stdout.contains(part), "{part} is missing");
    }
}

#[test]
fn bad_bundles_are_refused_in_one_sentence() {
    let sandbox = Sandbox::new();
    let with = |pointer: &str, value: Value| {
        let mut config = config();
        *config.pointer_mut(pointer).unwrap() = value;
        config.to_string()
    };
    for (text, says) in [
        (String::new(), "config.json"),
        ("{}".into(), "ociVersion"),
        (with("/ociVersion", json!("9.9.9")), "not supported"),
        (with("/process/args", json!([])), "/process/args"),
        (with("/process/cwd", json!("tmp")), "/process/cwd"),
        (with("/root/path", json!("/")), "/root/path"),
        (with("/root/path", json!("nosuch")), "/root/path"),
        (
            with("/linux/namespaces", json!([{ "type": "pid" }, { "type": "pid" }, { "type": "mount" }])),
            "twice",
        ),
        (with("/linux/namespaces", json!([])), "mount namespace"),
        (with("/linux/resources/memory/swap", json!(5)), "swap"),
        (with("/hostname", json!("x\u{1b}y")), "host name"),
    ] {
        let dir = bundle(&sandbox, &text);
        sandbox.run("container", &["plan", "--bundle", &dir]).fails_with(2).says(says);
    }
    sandbox.run("container", &["plan", "--bundle", "/no/such"]).fails_with(2).says("--bundle");
}
