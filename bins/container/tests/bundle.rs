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

#[test]
fn malformed_values_are_refused_at_their_place() {
    let sandbox = Sandbox::new();
    let rows = [
        ("/annotations", json!({ "": "x" }), "/annotations"),
        ("/annotations", json!({ "a": 1 }), "/annotations/a"),
        ("/process/args", json!(["a\0b"]), "/process/args/0"),
        ("/process/env", json!(["A"]), "/process/env/0"),
        ("/process/user/uid", json!(4_294_967_295_u32), "/process/user/uid"),
        ("/process/user/uid", json!(1.5), "/process/user/uid"),
        ("/process/rlimits/0/soft", json!(5000), "/process/rlimits/0/soft"),
        ("/process/oomScoreAdj", json!(2000), "/process/oomScoreAdj"),
        ("/process/scheduler", json!({ "policy": "SCHED_FIFO" }), "/process/scheduler/priority"),
        (
            "/process/ioPriority",
            json!({ "class": "IOPRIO_CLASS_BE", "priority": 9 }),
            "/process/ioPriority/priority",
        ),
        ("/mounts", json!([{ "type": "tmpfs" }]), "/mounts/0/destination"),
        ("/mounts", json!([{ "destination": "/x", "type": "nosuchfs" }]), "/mounts/0"),
        ("/hooks", json!({ "poststop": [{ "path": "x" }] }), "/hooks/poststop/0/path"),
        ("/linux/cgroupsPath", json!("/a/../../b"), "/linux/cgroupsPath"),
        ("/linux/uidMappings", json!([{ "containerID": 0, "hostID": 0, "size": 1 }]), "/linux/uidMappings"),
        ("/linux/sysctl", json!({ "kernel.core_pattern": "x" }), "/linux/sysctl/kernel.core_pattern"),
        ("/linux/maskedPaths", json!(["proc"]), "/linux/maskedPaths/0"),
        ("/linux/timeOffsets", json!({ "realtime": {} }), "/linux/timeOffsets"),
        ("/linux/memoryPolicy", json!({ "mode": "X" }), "/linux/memoryPolicy/mode"),
        ("/linux/memoryPolicy", json!({}), "/linux/memoryPolicy/mode"),
        ("/linux/netDevices", json!({ "a:b": {} }), "/linux/netDevices/a:b"),
        ("/linux/devices", json!([{ "type": "c", "path": "/dev/x" }]), "/linux/devices/0/major"),
        ("/linux/resources/memory/limit", json!(1), "/linux/resources/memory/limit"),
        ("/linux/resources/memory", json!({ "swap": 1 << 30 }), "/linux/resources/memory/swap"),
        ("/linux/resources/pids", json!({ "limit": "x" }), "/linux/resources/pids/limit"),
        ("/linux/resources/cpu", json!({ "quota": 5000, "burst": 6000 }), "/linux/resources/cpu/burst"),
        ("/linux/seccomp", json!({ "defaultAction": 1 }), "/linux/seccomp/defaultAction"),
        (
            "/linux/seccomp",
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": [7], "action": "SCMP_ACT_LOG" }] }),
            "/linux/seccomp/syscalls/0/names/0",
        ),
    ];
    for (pointer, value, place) in rows {
        let mut config = config();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        config.pointer_mut(parent).unwrap()[name] = value;
        let dir = bundle(&sandbox, &config.to_string());
        let told = sandbox.run("container", &["plan", "--bundle", &dir]).fails_with(2);
        assert!(told.stderr.contains(&format!("config.json: {place}: ")), "{place}: {}", told.stderr);
        assert!(told.stderr.contains("(allowed: ") || told.stderr.contains("host name"), "{}", told.stderr);
    }
    for (text, says) in [
        ("null".to_string(), "the top level is null"),
        (format!("{}x", config()), "data after the end"),
        ("[".repeat(100_000), "nested deeper than 64"),
        (config().to_string().replacen('{', r#"{"root":{},"#, 1), "/root: given twice"),
    ] {
        let dir = bundle(&sandbox, &text);
        sandbox.run("container", &["plan", "--bundle", &dir]).fails_with(2).says(says);
    }
}

#[test]
fn spec_writes_what_every_runtime_takes() {
    let sandbox = Sandbox::new();
    let dir = sandbox.join("bundle");
    std::fs::create_dir_all(dir.join("rootfs")).unwrap();
    let dir = dir.display().to_string();
    sandbox.run("container", &["spec", "--bundle", &dir]).success();
    sandbox.run("container", &["spec", "--bundle", &dir]).fails_with(2).says("exists");
    sandbox.run("container", &["spec", "--bundle", "/no/such"]).fails_with(2);
    sandbox.run("container", &["plan", "--bundle", &dir]).success();
    std::fs::remove_file(sandbox.join("bundle/config.json")).unwrap();
    sandbox.run("container", &["spec", "--rootless", "--bundle", &dir]).success();
    let text = std::fs::read_to_string(sandbox.join("bundle/config.json")).unwrap();
    let config: Value = serde_json::from_str(&text).unwrap();
    let own = rustix::process::geteuid().as_raw();
    assert_eq!(config["linux"]["uidMappings"], json!([{ "containerID": 0, "hostID": own, "size": 1 }]));
    sandbox.run("container", &["plan", "--bundle", &dir]).success();
}

#[test]
fn features_are_what_a_configuration_may_have() {
    let sandbox = Sandbox::new();
    let output = sandbox.run("container", &["features"]).success();
    let features: Value = serde_json::from_str(&output.stdout).unwrap();
    let list = |pointer: &str| features.pointer(pointer).and_then(Value::as_array).unwrap().clone();
    for version in ["ociVersionMin", "ociVersionMax"] {
        let mut config = config();
        config["ociVersion"] = features[version].clone();
        let dir = bundle(&sandbox, &config.to_string());
        sandbox.run("container", &["plan", "--bundle", &dir]).success();
    }
    let actions = list("/linux/seccomp/actions");
    assert!(actions.contains(&json!("SCMP_ACT_NOTIFY")) && actions.contains(&json!("SCMP_ACT_KILL_THREAD")));
    assert_eq!((list("/hooks").len(), list("/linux/namespaces").len()), (6, 8));
    // Each architecture is one that a profile may name.
    let mut config = config();
    config["linux"]["seccomp"] =
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": list("/linux/seccomp/archs") });
    let dir = bundle(&sandbox, &config.to_string());
    sandbox.run("container", &["plan", "--bundle", &dir]).success();
}
