//! config-linux.md.

use crate::bundle::Bundle;
use crate::needs;
use serde_json::json;

fn own_namespace(kind: &str) -> String {
    std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string()
}

/// "If `path` is not specified, the runtime MUST create a new container namespace", "If a namespace type is not specified
/// …, the container MUST inherit the runtime namespace of that type."
#[test]
fn namespaces_new_and_inherited() {
    needs!();
    let shown = Bundle::script("for kind in uts ipc net cgroup; do readlink /proc/self/ns/$kind; done")
        .run()
        .success();
    let lines: Vec<&str> = shown.stdout.lines().collect();
    for (line, kind) in lines.iter().zip(["uts", "ipc", "net"]) {
        assert_ne!(*line, own_namespace(kind), "{kind} is new");
    }
    assert_eq!(lines[3], own_namespace("cgroup"), "cgroup is inherited");
}

/// "The runtime MUST place the container process in the namespace associated with that `path`."
#[test]
fn namespaces_by_path() {
    needs!();
    let first = Bundle::new();
    first.create().success();
    let path = format!("/proc/{}/ns/ipc", first.state()["pid"]);
    let mut second = Bundle::script("readlink /proc/self/ns/ipc");
    second.config["linux"]["namespaces"][2] = json!({ "type": "ipc", "path": path });
    let joined = std::fs::read_link(&path).unwrap().display().to_string();
    second.run().success().stdout_is(&joined);
}

/// A user namespace by path: what is new belongs to it, so that its root may name the host, mount and raise `lo`.
#[test]
fn namespaces_user_by_path() {
    needs!();
    let mut first = Bundle::script("sleep 60")
        .with("/linux/uidMappings", json!([{ "containerID": 0, "hostID": 100_000, "size": 1000 }]))
        .with("/linux/gidMappings", json!([{ "containerID": 0, "hostID": 100_000, "size": 1000 }]));
    first.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
    first.create().success();
    let path = format!("/proc/{}/ns/user", first.state()["pid"]);
    let joined = std::fs::read_link(&path).unwrap().display().to_string();
    let mut second = Bundle::script("hostname; cat /proc/self/uid_map; readlink /proc/self/ns/user")
        .with("/hostname", json!("joined"));
    second.config["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "type": "user", "path": path }));
    let shown = second.run().success().stdout;
    let words: Vec<&str> = shown.split_whitespace().collect();
    assert_eq!(words, ["joined", "0", "100000", "1000", joined.as_str()]);
}

/// "The runtime MUST generate an error if `path` is not associated with a namespace of type `type`." It "MUST be an
/// absolute path", and duplicated types are an error.
#[test]
fn namespaces_errors() {
    needs!();
    for namespace in [
        json!({ "type": "cgroup", "path": "/proc/self/ns/net" }),
        json!({ "type": "cgroup", "path": "/proc/self/status" }),
        json!({ "type": "cgroup", "path": "proc/self/ns/cgroup" }),
        json!({ "type": "pid" }),
        json!({ "type": "x" }),
    ] {
        Bundle::new().with("/linux/namespaces/-", namespace).is_refused("/linux/namespaces/5");
    }
}

/// "lists devices that MUST be available in the container", "the runtime MUST also supply" the default ones
#[test]
fn devices_and_default_devices() {
    needs!();
    let device = json!([{ "type": "c", "path": "/dev/mine", "major": 1, "minor": 5, "fileMode": 0o600, "uid": 3, "gid": 4 }]);
    let script = "cd /dev; stat -c '%n %t:%T %a %u:%g' mine null zero full random urandom tty; ls -d fd stdin stdout stderr ptmx";
    let pts = json!({ "destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"] });
    let shown = Bundle::script(script).with("/linux/devices", device).with("/mounts/-", pts).run().success();
    let expected = "mine 1:5 600 3:4\nnull 1:3 666 0:0\nzero 1:5 666 0:0\nfull 1:7 666 0:0\nrandom 1:8 666 0:0\n\
        urandom 1:9 666 0:0\ntty 5:0 666 0:0\n";
    shown.stdout_has(expected).stdout_has("stdin\n").stdout_has("ptmx\n");
}

/// "In the case of an absolute path …, the runtime MUST take the path to be relative to the cgroups mount point", "MUST
/// consistently attach to the same place", and may refuse paths
#[test]
fn cgroups_path() {
    needs!();
    for _ in 0..2 {
        let bundle = Bundle::script("exec cat /proc/self/cgroup");
        let path = format!("/{}/inner", bundle.id);
        let bundle = bundle.with("/linux/cgroupsPath", json!(path));
        let shown = bundle.run().success();
        assert!(shown.stdout.lines().any(|line| line.ends_with(&format!(":{path}"))), "{}", shown.stdout);
    }
    Bundle::new().with("/linux/cgroupsPath", json!("/a/../../b")).is_refused("/linux/cgroupsPath");
}

/// sysctl are the container's, and the host's are refused
#[test]
fn sysctl() {
    needs!();
    let bundle = Bundle::script("cat /proc/sys/net/ipv4/ip_forward");
    bundle.with("/linux/sysctl", json!({ "net.ipv4.ip_forward": "1" })).run().success().stdout_is("1");
    let host = json!({ "kernel.core_pattern": "x" });
    Bundle::new().with("/linux/sysctl", host).is_refused("/linux/sysctl/kernel.core_pattern");
}

/// seccomp: "`names` MUST contain at least one entry", errnoRet with an action without errno is an error,
/// "This field MUST NOT be set if `listenerPath` is not set"
#[test]
fn seccomp_errors() {
    needs!();
    let rule = |rule: serde_json::Value| json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] });
    for (profile, place) in [
        (rule(json!({ "names": [], "action": "SCMP_ACT_ERRNO" })), "/linux/seccomp/syscalls/0/names"),
        (rule(json!({ "names": ["read"], "action": "SCMP_ACT_X" })), "/linux/seccomp/syscalls/0/action"),
        (rule(json!({ "names": ["read"], "action": "SCMP_ACT_KILL", "errnoRet": 1 })), "/linux/seccomp"),
        (
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x" }),
            "/linux/seccomp/listenerMetadata",
        ),
        (json!({}), "/linux/seccomp/defaultAction"),
    ] {
        Bundle::new().with("/linux/seccomp", profile).is_refused(place);
    }
}

/// seccomp: a call is refused with the errno of its rule
#[test]
fn seccomp_errno() {
    needs!();
    let profile = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        { "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28 }
    ] });
    let bundle = Bundle::script("mkdir /tmp/x 2>&1").with("/linux/seccomp", profile);
    bundle.run().exits(1).stdout_has("No space left");
}

/// "The values MUST be absolute paths in the container namespace", masked ones cannot be read, read-only ones not written
#[test]
fn masked_and_readonly_paths() {
    needs!();
    Bundle::new().with("/linux/maskedPaths", json!(["proc"])).is_refused("/linux/maskedPaths/0");
    let script = "echo secret > /tmp/file; cat /mnt/secret; ls /mnt/dir; touch /etc/x || echo readonly";
    let bundle = Bundle::script(script)
        .with("/linux/maskedPaths", json!(["/mnt/secret", "/mnt/dir", "/nosuch"]))
        .with("/linux/readonlyPaths", json!(["/etc", "/nosuch"]));
    let root = bundle.dir().join("rootfs/mnt");
    std::fs::create_dir(root.join("dir")).unwrap();
    std::fs::write(root.join("dir/inner"), "hidden").unwrap();
    std::fs::write(root.join("secret"), "hidden").unwrap();
    bundle.run().success().stdout_is("readonly");
    // Taken as below the root, and never above it: a mistake that every runtime lets pass, without harm.
    let relative = Bundle::script("touch /etc/x 2>&1 || echo readonly");
    let relative = relative.with("/linux/readonlyPaths", json!(["etc", "../../nosuch"]));
    relative.run().success().stdout_has("readonly");
}

/// personality: LINUX32 shows in uname
#[test]
fn personality() {
    needs!();
    let bundle = Bundle::script("uname -m").with("/linux/personality", json!({ "domain": "LINUX32" }));
    let machine = bundle.run().success().stdout;
    assert!(!machine.contains("x86_64") && !machine.contains("aarch64"), "{machine}");
}

/// "If no mounted `resctrl` pseudo-filesystem is available …, the runtime MUST generate an error."
#[test]
fn intel_rdt_without_resctrl() {
    needs!();
    if std::path::Path::new("/sys/fs/resctrl/schemata").exists() {
        return;
    }
    let bundle = Bundle::new().with("/linux/intelRdt", json!({ "closID": "x", "l3CacheSchema": "L3:0=f" }));
    bundle.create().exits(2).says("resctrl");
    bundle.is_gone();
}

/// Offsets are those of the container's time namespace
#[test]
fn time_offsets() {
    needs!();
    drydock_testkit::require!(std::path::Path::new("/proc/self/ns/time").exists(), "no time namespace");
    let offsets = json!({ "boottime": { "secs": 864_000 } });
    Bundle::new().with("/linux/timeOffsets", offsets.clone()).is_refused("/linux/timeOffsets");
    let bundle = Bundle::script("cat /proc/uptime")
        .with("/linux/namespaces/-", json!({ "type": "time" }))
        .with("/linux/timeOffsets", offsets);
    let shown = bundle.run().success().stdout;
    let seconds: f64 = shown.split(' ').next().unwrap().parse().unwrap();
    assert!(seconds > 864_000.0, "{shown}");
}

/// pids: `limit` has been a pointer since 1.3. 0 is a limit since then; before, it was what stood there when none was asked for.
#[test]
fn control_groups_pids_limit_of_zero() {
    needs!();
    let zero =
        || Bundle::script("(true); echo forked").with("/linux/resources", json!({ "pids": { "limit": 0 } }));
    zero().with("/ociVersion", json!("1.0.2-dev")).run().success().stdout_is("forked");
    assert_ne!(zero().run().code, Some(0), "one process, and no more");
}
