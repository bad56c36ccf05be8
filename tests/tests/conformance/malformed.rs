//! What config.json must not say: one sentence with the place and what is allowed, before anything is done.

use crate::bundle::Bundle;
use crate::needs;
use serde_json::{Value, json};

/// A mount of a kind, with one option.
fn mount(kind: &str, option: &str) -> Value {
    json!({ "destination": "/mnt", "type": kind, "source": kind, "options": [option] })
}

/// Options of the container's own file systems are the kernel's to judge, and it is asked before the mount.
#[test]
fn mount_options_that_the_kernel_refuses() {
    needs!();
    for (kind, option) in
        [("tmpfs", "frobnicate"), ("tmpfs", "size=lots"), ("proc", "nosuch=1"), ("tmpfs", "nosuch=1")]
    {
        let bundle = Bundle::new().with("/mounts/-", mount(kind, option));
        // In a place of its own: below /proc nothing else is mounted.
        bundle.is_refused("/mounts/2: mount /mnt: ");
    }
    // What we do not know, and the kernel does.
    for option in ["size=0", "nr_inodes=0", "huge=never"] {
        Bundle::new().with("/mounts/-", mount("tmpfs", option)).run().success();
    }
}

/// Places within `linux.seccomp`, with all that is allowed.
#[test]
fn seccomp_names() {
    needs!();
    let allow = |field: &str, value: Value| {
        let mut profile = json!({ "defaultAction": "SCMP_ACT_ALLOW" });
        profile[field] = value;
        Bundle::new().with("/linux/seccomp", profile)
    };
    let arches = allow("architectures", json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X"]));
    arches.is_refused("/linux/seccomp/architectures/1: 'SCMP_ARCH_X'");
    allow("flags", json!(["SECCOMP_FILTER_FLAG_X"]))
        .is_refused("/linux/seccomp/flags/0: 'SECCOMP_FILTER_FLAG_X'");
    let action = allow("defaultAction", json!("SCMP_ACT_X"));
    action.is_refused("/linux/seccomp/defaultAction: 'SCMP_ACT_X' (allowed: SCMP_ACT_KILL, ");
}

/// Hooks of `create` that are not there are told before the first one is carried out.
#[test]
fn hooks_that_are_missing() {
    needs!();
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let bundle = Bundle::new();
        let made = bundle.sandbox.join("made");
        let first = json!({ "path": crate::bundle::busybox().unwrap(), "args": ["touch", made] });
        let hooks = json!({ "prestart": [first], kind: [{ "path": "/nosuch/hook" }] });
        bundle.with("/hooks", hooks).is_refused(&format!("/hooks/{kind}/0/path: '/nosuch/hook'"));
        assert!(!made.exists(), "{kind}");
    }
}

/// What the machine's cgroups do not have.
#[test]
fn resources_that_this_machine_lacks() {
    needs!();
    let pages = json!({ "hugepageLimits": [{ "pageSize": "3MB", "limit": 3_145_728 }] });
    if std::path::Path::new("/sys/kernel/mm/hugepages").exists() {
        let bundle = Bundle::new().with("/linux/resources", pages);
        bundle.is_refused("/linux/resources/hugepageLimits/0/pageSize: '3MB'");
    }
    let wrong = json!({ "unified": { "../x": "1" } });
    Bundle::new().with("/linux/resources", wrong).is_refused("/linux/resources/unified/..~1x: ");
    let unified = json!({ "unified": { "memory.max": "100000000" } });
    let bundle = Bundle::new().with("/linux/resources", unified);
    if std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        bundle.run().success();
    } else {
        bundle.create().exits(2).says("/linux/resources/unified/memory.max: invalid configuration");
        bundle.is_gone();
    }
}

/// A root that has the bundle in it, a file that is too long.
#[test]
fn roots_and_sizes() {
    needs!();
    Bundle::new().with("/root/path", json!("..")).is_refused("/root/path: ");
    let long = "x".repeat(5 << 20);
    Bundle::new().with("/annotations", json!({ "a": long })).is_refused("larger than 4 MiB");
}

/// Devices, nodes, modules and hooks that a configuration names and this machine has not: told before anything is made.
#[test]
fn what_this_machine_has_not() {
    needs!();
    let throttle = json!([{ "major": 259, "minor": 1_048_575, "rate": 1 }]);
    let mut cases = vec![
        (
            "/linux/resources/blockIO/throttleReadBpsDevice/0: ",
            json!({ "blockIO": { "throttleReadBpsDevice": throttle } }),
        ),
        ("/linux/resources/rdma/none_9: ", json!({ "rdma": { "none_9": { "hcaHandles": 3 } } })),
    ];
    for (told, resources) in cases.drain(..) {
        Bundle::new().with("/linux/resources", resources).is_refused(told);
    }
    let nodes = json!({ "mode": "MPOL_BIND", "nodes": "1000" });
    if std::path::Path::new("/sys/devices/system/node/has_memory").exists() {
        Bundle::new().with("/linux/memoryPolicy", nodes).is_refused("/linux/memoryPolicy/nodes: ");
    }
    let hook = json!({ "prestart": [{ "path": "/etc/passwd" }] });
    Bundle::new().with("/hooks", hook).is_refused("/hooks/prestart/0/path: ");
    let devices = json!({ "none9": {} });
    Bundle::new().with("/linux/netDevices", devices).is_refused("/linux/netDevices/none9: ");
    let mount = json!([{ "destination": "/mnt", "source": "", "options": ["bind"] }]);
    Bundle::new().with("/mounts", mount).is_refused("/mounts/0/source: ");
    for (pointer, module, label) in [
        ("/process/apparmorProfile", "apparmor", "docker-default"),
        ("/process/selinuxLabel", "selinux", "a:b:c:s0"),
    ] {
        if !drydock_testkit::probe::lsm(module) {
            Bundle::new()
                .with(pointer, json!(label))
                .is_refused(&format!("{pointer}: '{label}' cannot be set"));
        }
    }
}

/// What only the container's first process can find out has a place in config.json, too.
#[test]
fn places_of_what_fails_inside() {
    needs!();
    for (pointer, value) in [
        ("/linux/sysctl", json!({ "net.ipv4.no_such_parameter": "1" })),
        ("/process/cwd", json!("/bin/sh")),
        ("/process/scheduler", json!({ "policy": "SCHED_ISO" })),
    ] {
        let bundle = Bundle::new().with(pointer, value);
        bundle.create().exits(125).says(&format!("config.json: {pointer}: "));
        bundle.is_gone();
    }
    let mut clock =
        Bundle::new().with("/linux/timeOffsets", json!({ "monotonic": { "secs": -4_000_000_000_i64 } }));
    clock.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "time" }));
    drydock_testkit::require!(std::path::Path::new("/proc/self/ns/time").exists(), "no time namespace");
    clock.create().exits(125).says("config.json: /linux/timeOffsets: ");
    clock.is_gone();
}
