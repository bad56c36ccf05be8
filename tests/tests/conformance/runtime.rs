//! runtime.md: operations and lifecycle.

use crate::bundle::Bundle;
use crate::needs;
use serde_json::json;

/// "This operation MUST generate an error if it is not provided the ID of a container", or one "that does not exist"
#[test]
fn operations_need_an_id_that_exists() {
    needs!();
    let bundle = Bundle::new();
    for verb in ["state", "start", "kill", "delete"] {
        assert_ne!(bundle.container(&[verb]).code, Some(0), "{verb} without an id");
        assert_ne!(bundle.container(&[verb, &bundle.id]).code, Some(0), "{verb} of nothing");
    }
}

/// State: the required properties, and `created` before the start
#[test]
fn state_after_create() {
    needs!();
    let bundle = Bundle::new();
    bundle.create().success();
    let state = bundle.state();
    assert_eq!((state["id"].as_str(), state["status"].as_str()), (Some(bundle.id.as_str()), Some("created")));
    assert_eq!(state["bundle"], bundle.dir().canonicalize().unwrap().to_str().unwrap());
    assert!(state["ociVersion"].is_string() && state["pid"].as_i64().unwrap() > 0, "{state}");
}

/// "If the ID provided is not unique …, or is not valid …, the implementation MUST generate an error and a new container
/// MUST NOT be created."
#[test]
fn create_with_an_id_twice_or_invalid() {
    needs!();
    let mut bundle = Bundle::new();
    bundle.create().success();
    let pid = bundle.state()["pid"].clone();
    assert_ne!(bundle.create().code, Some(0), "the same id again");
    assert_eq!(bundle.state()["pid"], pid, "the first is untouched");
    bundle.container(&["delete", "-f", &bundle.id]).success();
    let good = std::mem::replace(&mut bundle.id, "../x".into());
    for id in ["..", "../x", "a/b", "a b", ""] {
        bundle.id = id.into();
        assert_ne!(bundle.create().code, Some(0), "{id}");
    }
    bundle.id = good;
}

/// "the user-specified program MUST NOT be run at this time", "`process.args` MUST NOT be applied until triggered by the
/// start", "Any updates to config.json after this step MUST NOT affect the container."
#[test]
fn create_does_not_run_the_program() {
    needs!();
    let bundle = Bundle::script("touch /first").with("/root/readonly", json!(false));
    bundle.create().success();
    let first = bundle.dir().join("rootfs/first");
    assert!(!first.exists(), "not before start");
    std::fs::write(bundle.dir().join("config.json"), "changed").unwrap();
    bundle.start().success();
    bundle.wait_for("stopped");
    assert!(first.exists(), "start runs the program");
}

/// "If the runtime cannot apply a property …, it MUST generate an error and a new container MUST NOT be created."
#[test]
fn create_that_cannot_apply_a_property() {
    needs!();
    let bundle = Bundle::new().with("/linux/sysctl", json!({ "net.ipv4.no_such_parameter": "1" }));
    assert_ne!(bundle.create().code, Some(0));
    bundle.is_gone();
}

/// "Attempting to `start` a container that is not `created` MUST have no effect on the container and MUST generate an error"
#[test]
fn start_of_what_is_not_created() {
    needs!();
    let bundle = Bundle::new().with("/process/args", json!(["sleep", "100"]));
    bundle.create().success();
    bundle.start().success();
    let before = bundle.state();
    assert_ne!(bundle.start().code, Some(0), "running");
    assert_eq!(bundle.state(), before);
    bundle.container(&["kill", &bundle.id, "KILL"]).success();
    bundle.wait_for("stopped");
    assert_ne!(bundle.start().code, Some(0), "stopped");
}

/// "This operation MUST generate an error if `process` was not set": here it is required from the beginning
#[test]
fn start_needs_a_process() {
    needs!();
    Bundle::new().without("/process").is_refused("/process: required");
}

/// "Attempting to send a signal to a container that is neither `created` nor `running` MUST … generate an error." "This
/// operation MUST send the specified signal to the container process."
#[test]
fn kill_sends_signals_to_the_living() {
    needs!();
    let bundle = Bundle::script("trap 'touch /got; exit' USR1; touch /ready; while true; do sleep 0.1; done");
    let file = |name: &str| bundle.dir().join("rootfs").join(name);
    bundle.create().success();
    bundle.start().success();
    bundle.sandbox.wait_until("the trap", || file("ready").exists());
    bundle.container(&["kill", &bundle.id, "USR1"]).success();
    bundle.wait_for("stopped");
    assert!(file("got").exists());
    assert_ne!(bundle.container(&["kill", &bundle.id, "TERM"]).code, Some(0), "stopped");
    let created = Bundle::new();
    created.create().success();
    created.container(&["kill", &created.id, "KILL"]).success();
    created.wait_for("stopped");
}

/// "Attempting to `delete` a container that is not `stopped` MUST have no effect … and MUST generate an error." "Deleting
/// a container MUST delete the resources that were created during the `create` step."
#[test]
fn delete_of_the_stopped_only() {
    needs!();
    let bundle = Bundle::new().with("/process/args", json!(["sleep", "100"]));
    bundle.create().success();
    bundle.start().success();
    assert_ne!(bundle.container(&["delete", &bundle.id]).code, Some(0), "running");
    assert_eq!(bundle.status(), "running");
    bundle.container(&["kill", &bundle.id, "KILL"]).success();
    bundle.wait_for("stopped");
    bundle.container(&["delete", &bundle.id]).success();
    bundle.is_gone();
    assert_ne!(bundle.container(&["state", &bundle.id]).code, Some(0), "the id is free again");
}

/// "resources associated with the container, but not created by this container, MUST NOT be deleted"
#[test]
fn delete_keeps_what_is_not_the_containers() {
    needs!();
    let bundle = Bundle::new();
    bundle.run().success();
    assert!(bundle.dir().join("rootfs/bin/busybox").exists() && bundle.dir().join("config.json").exists());
}
