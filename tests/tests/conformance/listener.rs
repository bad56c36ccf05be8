//! config-linux.md, Seccomp: whoever answers a filter that asks.

use crate::bundle::Bundle;
use crate::needs;
use serde_json::{Value, json};
use std::io::Read;
use std::os::unix::net::UnixListener;

/// A bundle whose mkdir is asked about at this socket.
fn asking(socket: &str) -> Bundle {
    let bundle = Bundle::script("mkdir /tmp/x 2>&1 || echo refused");
    let path = bundle.sandbox.join(socket);
    bundle.with(
        "/linux/seccomp",
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": path,
            "listenerMetadata": "for the agent",
            "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY" }]
        }),
    )
}

/// "The runtime MUST send exactly one container process state per connection. The connection MUST NOT be reused and it MUST
/// be closed after sending a seccomp state."
#[test]
fn seccomp_one_state_for_each_connection() {
    needs!();
    let bundle = asking("agent");
    let listener = UnixListener::bind(bundle.sandbox.join("agent")).unwrap();
    let agent = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // Up to its end; the descriptor goes unreceived, so that nobody answers.
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    });
    let output = bundle.run().success();
    let state: Value = serde_json::from_str(&agent.join().unwrap()).expect("one document, and no more");
    output.stdout_has("refused");
    assert_eq!(state["fds"], json!(["seccompFd"]));
    assert_eq!(state["metadata"], "for the agent");
    assert!(state["ociVersion"].is_string() && state["pid"].as_i64().unwrap() > 0, "{state}");
    assert_eq!(state["state"]["id"], bundle.id.as_str());
    assert!(state["state"]["status"].is_string() && state["state"]["bundle"].is_string(), "{state}");
}

/// "If sending to this socket fails, the runtime MUST generate an error."
#[test]
fn seccomp_nobody_listens() {
    needs!();
    let bundle = asking("nobody");
    bundle.create().exits(125).says("listenerPath");
    bundle.is_gone();
    // What is asked for without anybody to ask.
    let bundle = Bundle::new().with(
        "/linux/seccomp",
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_NOTIFY" }]
        }),
    );
    bundle.is_refused("/linux/seccomp/listenerPath");
}
