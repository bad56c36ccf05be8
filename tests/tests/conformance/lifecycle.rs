//! When hooks are called, and what their failures mean: runtime.md, Lifecycle; config.md, POSIX-platform Hooks.

use crate::bundle::{Bundle, busybox};
use crate::needs;
use drydock_testkit::bin;
use serde_json::{Value, json};

/// A hook of the host's busybox that runs a script.
fn hook(script: &str) -> Value {
    json!({ "path": busybox().unwrap(), "args": ["sh", "-c", script] })
}

/// "If any `startContainer` hook fails, the runtime MUST generate an error, stop the container, and continue the lifecycle at
/// step 12", and so for `poststart`; the `poststop` hooks belong to it.
#[test]
fn lifecycle_failing_start_hooks() {
    needs!();
    for kind in ["startContainer", "poststart"] {
        let bundle = Bundle::new().with("/process/args", json!(["sleep", "1000"]));
        let mark = bundle.sandbox.join("mark");
        let failing = match kind {
            "startContainer" => json!({ "path": "/bin/sh", "args": ["sh", "-c", "echo why >&2; exit 3"] }),
            _ => hook("echo why >&2; exit 3"),
        };
        let last = hook(&format!("echo x >> {}", mark.display()));
        let bundle = bundle.with("/hooks", json!({ kind: [failing], "poststop": [last] }));
        bundle.create().success();
        // 125: the command was never executed; 1: it was, and is ended.
        let code = if kind == "startContainer" { 125 } else { 1 };
        bundle.start().fails_with(code).says(&format!("error running {kind} hook #0")).says("why");
        bundle.wait_for("stopped");
        bundle.container(&["delete", &bundle.id]).success();
        assert_eq!(std::fs::read_to_string(&mark).unwrap(), "x\n", "{kind}: poststop once");
        bundle.is_gone();
    }
}

/// "If any `prestart` hook fails, … continue the lifecycle at step 12", where step 13 is the `poststop` hooks.
#[test]
fn lifecycle_poststop_after_failing_create_hooks() {
    needs!();
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let bundle = Bundle::new();
        let mark = bundle.sandbox.join("mark");
        let last = hook(&format!("echo x >> {}", mark.display()));
        let bundle = bundle.with("/hooks", json!({ kind: [hook("exit 3")], "poststop": [last] }));
        assert_ne!(bundle.create().code, Some(0), "{kind}");
        assert_eq!(std::fs::read_to_string(&mark).unwrap(), "x\n", "{kind}: poststop once");
        bundle.is_gone();
    }
}

/// `createContainer`: "The path MUST resolve in the runtime namespace", it "MUST be executed in the container namespace" and
/// "before the `pivot_root`": the program is the host's, and so are the files that it sees.
#[test]
fn posix_platform_hooks_create_container() {
    needs!();
    let bundle = Bundle::script("true");
    let log = bundle.sandbox.join("log");
    let script = format!(
        "for kind in mnt uts ipc net; do {0} readlink /proc/self/ns/$kind; done > {1}; test -d {2}",
        busybox().unwrap(),
        log.display(),
        bundle.dir().join("rootfs/proc").display()
    );
    let bundle = bundle.with("/hooks", json!({ "createContainer": [hook(&script)] }));
    bundle.create().success();
    let pid = bundle.state()["pid"].clone();
    let text = std::fs::read_to_string(&log).unwrap();
    for (line, kind) in text.lines().zip(["mnt", "uts", "ipc", "net"]) {
        let its = std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        assert_eq!(line, its.display().to_string(), "{kind}");
    }
    assert_eq!(text.lines().count(), 4);
}

/// `poststart`: "before the start operation returns". `poststop`: "after the container is deleted but before the delete
/// operation returns". A hook that does not end within its `timeout` has failed.
#[test]
fn posix_platform_hooks_before_the_operation_returns() {
    needs!();
    let bundle = Bundle::script("touch /ran; exec sleep 1000");
    let (started, deleted) = (bundle.sandbox.join("started"), bundle.sandbox.join("deleted"));
    let ask = format!(
        "sleep 0.3; {} --root {} state {} > {out} 2>&1 && echo there >> {out}",
        bin("container").display(),
        bundle.sandbox.state().display(),
        bundle.id,
        out = deleted.display()
    );
    let hooks = json!({
        "poststart": [hook(&format!("sleep 0.3; echo x > {}", started.display()))],
        "poststop": [hook(&ask)]
    });
    let bundle = bundle.with("/hooks", hooks);
    bundle.create().success();
    bundle.start().success();
    assert!(started.exists(), "start waits for poststart");
    bundle.container(&["delete", "--force", &bundle.id]).success();
    let told = std::fs::read_to_string(&deleted).expect("delete waits for poststop");
    assert!(told.contains("does not exist") && !told.contains("there"), "{told}");
    let slow =
        json!({ "createRuntime": [{ "path": busybox().unwrap(), "args": ["sleep", "1000"], "timeout": 1 }] });
    let bundle = Bundle::new().with("/hooks", slow);
    bundle.create().fails_with(125).says("1 s").says("killed");
    bundle.is_gone();
}

/// State: "the format MUST adhere to the JSON Schema", with the values of `status` that the specification defines.
#[test]
fn state_at_each_step() {
    needs!();
    let bundle = Bundle::new()
        .with("/process/args", json!(["sleep", "1000"]))
        .with("/annotations", json!({ "org.example": "x" }));
    let check = |status: &str| {
        let state = bundle.state();
        let text =
            |field: &str| state[field].as_str().unwrap_or_else(|| panic!("{field}: {state}")).to_string();
        assert!(text("ociVersion").split('.').count() >= 3, "{state}");
        assert_eq!((text("id"), text("status")), (bundle.id.clone(), status.to_string()));
        assert!(text("bundle").starts_with('/'), "{state}");
        assert_eq!(state["annotations"], json!({ "org.example": "x" }));
        let pid = state["pid"].as_i64().unwrap_or(0);
        assert_eq!(pid > 0, status != "stopped", "{state}");
    };
    bundle.create().success();
    check("created");
    bundle.start().success();
    check("running");
    bundle.container(&["kill", &bundle.id, "KILL"]).success();
    bundle.wait_for("stopped");
    check("stopped");
}
