//! `netsetup` as a CNI plugin, called as containerd, CRI-O and Podman call one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests

mod common;
use common::{Host, connect, on_fresh_host, serve};
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Stdio};

struct Called {
    code: i32,
    out: String,
}

fn call(host: &Host, command: &str, config: &str, variables: &[(&str, &str)]) -> Called {
    let mut child = Command::new(common::TOOL)
        .env_clear()
        .env("DRYDOCK_ROOT", &host.root)
        .env("CNI_COMMAND", command)
        .env("CNI_PATH", "/opt/cni/bin")
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(config.as_bytes());
    let output = child.wait_with_output().unwrap();
    Called { code: output.status.code().unwrap(), out: String::from_utf8(output.stdout).unwrap() }
}

fn variables<'a>(id: &'a str, netns: &'a str) -> [(&'static str, &'a str); 3] {
    [("CNI_CONTAINERID", id), ("CNI_NETNS", netns), ("CNI_IFNAME", "eth0")]
}

fn config(more: &Value) -> String {
    let mut config = json!({
        "cniVersion": "1.1.0", "name": "pods", "type": "netsetup", "bridge": "br-pods",
        "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.22.0.0/24", "rangeStart": "10.22.0.20" }]] },
        "capabilities": { "portMappings": true, "bandwidth": true },
    });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config.to_string()
}

#[test]
fn add_check_del_gc_status_version() {
    on_fresh_host("add_check_del_gc_status_version", |host| {
        let version = call(host, "VERSION", r#"{"cniVersion":"1.0.0"}"#, &[]);
        let version: Value = serde_json::from_str(&version.out).unwrap();
        assert!(version["supportedVersions"].as_array().unwrap().contains(&json!("1.1.0")), "{version}");
        assert_eq!(call(host, "STATUS", &config(&json!({})), &[]).code, 0);
        for ns in ["p1", "p2"] {
            host.ok(&format!("ns add {ns}"));
        }
        let ports = json!({ "runtimeConfig": {
            "portMappings": [{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }],
            "bandwidth": { "egressRate": 10_000_000, "egressBurst": 400_000, "ingressRate": 5_000_000, "ingressBurst": 400_000 },
        }});
        let first = variables("abc123", "/run/netns/p1");
        let added = call(host, "ADD", &config(&ports), &first);
        assert_eq!(added.code, 0, "{}", added.out);
        let result: Value = serde_json::from_str(&added.out).unwrap();
        assert_eq!(result["ips"][0]["address"], "10.22.0.20/24", "{result}");
        assert_eq!(
            (&result["ips"][0]["gateway"], &result["routes"][0]["dst"]),
            (&json!("10.22.0.1"), &json!("0.0.0.0/0"))
        );
        let inside = &result["interfaces"][2];
        assert_eq!((&inside["name"], &inside["sandbox"]), (&json!("eth0"), &json!("/run/netns/p1")));
        serve(Some("p1"), "0.0.0.0:80");
        assert!(connect(None, "127.0.0.1:8080").is_some());
        assert_eq!(host.json("limit p1")["egress"]["bucket"]["rate"], 1_250_000);
        // Older runtimes.
        let second = variables("def456", "/run/netns/p2");
        let old = call(host, "ADD", &config(&json!({ "cniVersion": "0.4.0" })), &second);
        let old: Value = serde_json::from_str(&old.out).unwrap();
        assert_eq!((&old["cniVersion"], &old["ips"][0]["version"]), (&json!("0.4.0"), &json!("4")), "{old}");
        assert!(connect(Some("p2"), "10.22.0.20:80").is_some(), "pods reach each other");
        let with_result = config(&json!({ "prevResult": result }));
        assert_eq!(call(host, "CHECK", &with_result, &first).code, 0);
        host.ok("addr p1 10.22.0.20/24 --del");
        let broken = call(host, "CHECK", &with_result, &first);
        let error: Value = serde_json::from_str(&broken.out).unwrap();
        assert!(broken.code == 1 && error["msg"].as_str().unwrap().contains("10.22.0.20"), "{error}");
        // What the runtime does not list goes, and nothing else.
        let valid = json!({ "cni.dev/valid-attachments": [{ "containerID": "def456", "ifname": "eth0" }] });
        assert_eq!(call(host, "GC", &config(&valid), &[]).code, 0);
        let leases = host.json("leases")[0]["leases"].clone();
        assert_eq!(leases.as_array().unwrap().len(), 1, "{leases}");
        // DEL works twice, and without its namespace.
        host.ok("ns del p2");
        for _ in 0..2 {
            let gone = call(host, "DEL", &config(&json!({})), &second);
            assert!(gone.code == 0 && gone.out.is_empty(), "{}", gone.out);
            assert_eq!(call(host, "DEL", &config(&json!({})), &first).code, 0);
        }
        assert_eq!(
            call(host, "DEL", &config(&json!({})), &[("CNI_CONTAINERID", "x"), ("CNI_IFNAME", "eth0")]).code,
            0
        );
        host.ok("ns del p1");
    });
}

#[test]
fn errors_are_the_specifications() {
    on_fresh_host("errors_are_the_specifications", |host| {
        host.ok("ns add p");
        let good = variables("abc", "/run/netns/p");
        let code = |command: &str, config: &str, variables: &[(&str, &str)]| {
            let called = call(host, command, config, variables);
            assert_eq!(called.code, 1, "{command} {config}: {}", called.out);
            let error: Value = serde_json::from_str(&called.out).unwrap();
            assert!(error["msg"].as_str().is_some_and(|m| !m.is_empty()) && error["cniVersion"].is_string());
            error["code"].as_u64().unwrap()
        };
        assert_eq!(code("ADD", "x", &good), 6);
        assert_eq!(code("ADD", r#"{"cniVersion":"9.9.9","name":"n"}"#, &good), 1);
        assert_eq!(code("ADD", r#"{"cniVersion":"1.1.0","name":"a/b"}"#, &good), 7);
        assert_eq!(code("ADD", &config(&json!({ "mtu": 5 })), &good), 7);
        assert_eq!(code("ADD", &config(&json!({ "runtimeConfig": { "mac": "x" } })), &good), 7);
        assert_eq!(code("ADD", &config(&json!({})), &variables("abc", "/run/none")), 4);
        assert_eq!(code("ADD", &config(&json!({})), &variables("../x", "/run/netns/p")), 4);
        assert_eq!(code("ADD", &config(&json!({})), &[("CNI_CONTAINERID", "a")]), 4);
        assert_eq!(code("ADD", &config(&json!({})), &[("CNI_CONTAINERID", "a"), ("CNI_IFNAME", "a/b")]), 4);
        assert_eq!(code("NONSENSE", &config(&json!({})), &good), 4);
        assert_eq!(code("CHECK", &config(&json!({})), &good), 101);
        host.ok("ns del p");
    });
}
