//! config.md, POSIX-platform hooks.

use crate::bundle::{Bundle, busybox};
use crate::needs;
use serde_json::{Value, json};

const KINDS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A hook of the host's busybox that runs a script.
fn hook(script: &str) -> Value {
    json!({ "path": busybox().unwrap(), "args": ["sh", "-c", script] })
}

/// "**`path`** MUST be absolute." "If set, `timeout` MUST be greater than zero."
#[test]
fn posix_platform_hooks_path_and_timeout() {
    needs!();
    for kind in KINDS {
        let with = |hook: Value| Bundle::new().with("/hooks", json!({ kind: [hook] }));
        with(json!({ "path": "sh" })).is_refused(&format!("/hooks/{kind}/0/path"));
        with(json!({ "path": "/bin/sh", "timeout": 0 })).is_refused(&format!("/hooks/{kind}/0/timeout"));
    }
}

/// "Hooks MUST be called in the listed order." "The state of the container MUST be passed to hooks over stdin." And the
/// order of the kinds, with the namespaces in which each is executed: the container's have another mount namespace.
#[test]
fn posix_platform_hooks_order_state_and_namespaces() {
    needs!();
    let bundle = Bundle::script("true");
    let log = bundle.sandbox.join("log").display().to_string();
    let applet = busybox().unwrap();
    let told = |kind: &str, n: u32| {
        hook(&format!("echo {kind}{n} $({applet} readlink /proc/self/ns/mnt) $({applet} cat) >> {log}"))
    };
    let mut hooks = json!({ "prestart": [], "createRuntime": [], "poststart": [], "poststop": [] });
    for (kind, list) in hooks.as_object_mut().unwrap() {
        *list = json!([told(kind, 0), told(kind, 1)]);
    }
    hooks["startContainer"] = json!([{ "path": "/bin/busybox", "args": ["touch", "/started"] }]);
    let bundle = bundle.with("/hooks", hooks);
    bundle.create().success();
    let started = bundle.dir().join("rootfs/started");
    assert!(!started.exists(), "startContainer belongs to start");
    bundle.start().success();
    bundle.wait_for("stopped");
    assert!(started.exists(), "startContainer's path is the container's");
    bundle.container(&["delete", &bundle.id]).success();
    let own = std::fs::read_link("/proc/self/ns/mnt").unwrap().display().to_string();
    let text = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.splitn(3, ' ').collect()).collect();
    let names: Vec<&str> = lines.iter().map(|line| line[0]).collect();
    let expected = [
        "prestart0",
        "prestart1",
        "createRuntime0",
        "createRuntime1",
        "poststart0",
        "poststart1",
        "poststop0",
        "poststop1",
    ];
    assert_eq!(names, expected);
    for line in &lines {
        assert_eq!(line[1], own, "{} is in the runtime's mount namespace", line[0]);
        let state: Value = serde_json::from_str(line[2]).unwrap();
        assert_eq!(state["id"], bundle.id.as_str());
        assert!(state["ociVersion"].is_string() && state["bundle"].is_string(), "{state}");
        // "`created`: the runtime has finished the create operation (after step 2 in the lifecycle)": hooks begin with step 3.
        let status = match line[0] {
            "poststart0" | "poststart1" => "running",
            "poststop0" | "poststop1" => "stopped",
            _ => "created",
        };
        assert_eq!(state["status"], status, "{}", line[0]);
    }
}

/// "If any `poststart` hook fails, the runtime MUST generate an error, stop the container": and the hooks behind it stay out
#[test]
fn lifecycle_failing_poststart_hook() {
    needs!();
    let bundle = Bundle::new().with("/process/args", json!(["sleep", "100"]));
    let mark = bundle.sandbox.join("mark");
    let second = hook(&format!("echo x > {}", mark.display()));
    let bundle = bundle.with("/hooks", json!({ "poststart": [hook("exit 3"), second] }));
    bundle.create().success();
    // Not 125: the command was executed.
    bundle.start().fails_with(1).says("poststart hook #0");
    bundle.wait_for("stopped");
    assert!(!mark.exists(), "the second hook does not run");
}

/// "If any `createRuntime` hook fails, the runtime MUST generate an error, stop the container, and continue … at step 12."
#[test]
fn lifecycle_failing_create_hooks() {
    needs!();
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let bundle = Bundle::new().with("/hooks", json!({ kind: [hook("exit 3")] }));
        let output = bundle.create();
        assert_ne!(output.code, Some(0), "{kind}");
        bundle.is_gone();
    }
}

/// "The `path` MUST resolve in the container namespace": it is a file of the container's, so it has the command's privileges
#[test]
fn start_container_hooks_have_the_commands_privileges() {
    needs!();
    let inside =
        |script: &str| json!({ "startContainer": [{ "path": "/bin/sh", "args": ["sh", "-c", script] }] });
    let filter = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        { "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS" }
    ] });
    for no_new_privs in [false, true] {
        let bundle =
            Bundle::new().with("/hooks", inside("mkdir /tmp/x")).with("/linux/seccomp", filter.clone());
        let bundle = bundle.with("/process/noNewPrivileges", json!(no_new_privs));
        bundle.create().success();
        bundle.start().fails_with(125).says("startContainer hook").says("bad system call");
    }
    // What waits for the hook is not confined by then.
    let filter = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        { "names": ["clone", "clone3", "pipe2", "poll", "waitid"], "action": "SCMP_ACT_ERRNO" }
    ] });
    let script = "if echo x > /bin/x; then exit 9; fi; exec busybox grep -q '^CapEff:.0*$' /proc/self/status";
    let bundle = Bundle::new().with("/hooks", inside(script)).with("/linux/seccomp", filter);
    let bundle = bundle.with("/process/user", json!({ "uid": 1234, "gid": 1234 }));
    bundle.create().success();
    bundle.start().success();
}

/// "If any `poststop` hook fails, the runtime MUST log a warning, but the remaining hooks and lifecycle continue"
#[test]
fn lifecycle_failing_poststop_hook() {
    needs!();
    let bundle = Bundle::new();
    let mark = bundle.sandbox.join("mark");
    let second = hook(&format!("echo x > {}", mark.display()));
    let bundle = bundle.with("/hooks", json!({ "poststop": [hook("exit 3"), second] }));
    bundle.create().success();
    bundle.start().success();
    bundle.wait_for("stopped");
    bundle.container(&["delete", &bundle.id]).success().says("poststop");
    assert!(mark.exists(), "the second hook ran");
    bundle.is_gone();
}
