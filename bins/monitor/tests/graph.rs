//! `monitor graph`: what is drawn is what is there, in each of its forms.
// A helper that cannot go on fails its test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Running, child, inode, json, monitor};
use drydock_testkit::{Sandbox, have, is_root, require};
use std::process::Command;

#[test]
fn groups_devices_and_pairs() {
    require!(is_root() && have("unshare") && have("ip"), "needs root, unshare and ip");
    let sandbox = Sandbox::new();
    // Two network namespaces of our own with a pair between them, and a bridge in one.
    let outer = Running::unshare(&["-pnf", "--kill-child", "sh", "-c", "sleep 60 & exec sleep 61"]);
    let outer_pid = child(&sandbox, outer.pid(), "sleep").to_string();
    let inner = Running::start(
        Command::new("nsenter").args(["-t", &outer_pid, "-n", "-p", "unshare", "-n", "sleep", "62"]),
    );
    let inner_pid = child(&sandbox, inner.pid(), "sleep").to_string();
    sandbox.wait_until("its own network", || inode(&inner_pid, "net") != inode(&outer_pid, "net"));
    let ip = |args: &[&str]| {
        let output =
            Command::new("nsenter").args(["-t", &outer_pid, "-n", "ip"]).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?} {output:?}");
    };
    ip(&["link", "add", "br<0>", "type", "bridge"]);
    ip(&["link", "add", "v0", "type", "veth", "peer", "name", "v1", "netns", &inner_pid]);
    ip(&["link", "set", "v0", "master", "br<0>"]);
    ip(&["addr", "add", "10.9.8.7/24", "dev", "br<0>"]);
    let graph = json(&sandbox, &["graph", "--all"]);
    let nets = graph["networks"].as_array().unwrap();
    let net = nets.iter().find(|n| n["ns"].as_u64() == inode(&outer_pid, "net")).unwrap();
    let bridge = net["devices"].as_array().unwrap().iter().find(|d| d["name"] == "br<0>").unwrap();
    assert_eq!(
        (bridge["kind"].as_str(), bridge["addresses"][0].as_str()),
        (Some("bridge"), Some("10.9.8.7/24"))
    );
    let end = |pid: &str, name: &str| serde_json::json!([inode(pid, "net"), name]);
    let (a, b) = (end(&outer_pid, "v0"), end(&inner_pid, "v1"));
    let cables = graph["cables"].as_array().unwrap();
    let is_it = |c: &&serde_json::Value| (c["a"] == a && c["b"] == b) || (c["a"] == b && c["b"] == a);
    assert_eq!(cables.iter().filter(is_it).count(), 1, "{cables:?}");
    let group = graph["groups"]
        .as_array()
        .unwrap()
        .iter()
        .find(|g| g["pid"].as_u64() == outer_pid.parse().ok())
        .unwrap();
    let own: Vec<&str> = group["namespaces"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|s| s["own"] == true)
        .map(|s| s["type"].as_str().unwrap())
        .collect();
    assert!(own.contains(&"pid") && own.contains(&"net") && !own.contains(&"user"), "{group}");

    let text = monitor(&sandbox, &["graph", &outer_pid]).success().stdout;
    assert!(text.contains("br<0> (bridge) 10.9.8.7/24") && text.contains("v0 port of br<0>"), "{text}");
    let svg = monitor(&sandbox, &["graph", &outer_pid, "--as", "svg"]).success().stdout;
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
    assert!(!svg.contains("br<0>"), "markup in a name: {svg}");
    let file = sandbox.join("graph.svg");
    monitor(&sandbox, &["graph", "-o", file.to_str().unwrap()]).success();
    renders(&file);
    let dot = monitor(&sandbox, &["graph", "--as", "dot", "--all"]).success().stdout;
    assert!(dot.starts_with("graph drydock {") && dot.contains("label=veth"), "{dot}");
    let mermaid = monitor(&sandbox, &["graph", "--as", "mermaid", "--all"]).success().stdout;
    assert!(mermaid.starts_with("flowchart TB\n") && mermaid.contains("|veth|"), "{mermaid}");
}

#[test]
fn owners_are_drawn() {
    require!(is_root() && have("unshare") && have("nsenter"), "needs root, unshare and nsenter");
    let sandbox = Sandbox::new();
    // One that the machine owns, one that its own user namespace owns, and one inside it that this one owns.
    let plain = Running::unshare(&["-n", "sleep", "60"]);
    let own = Running::unshare(&["-Ur", "-n", "sleep", "61"]);
    common::wait_comm(&sandbox, plain.pid(), "sleep");
    common::wait_comm(&sandbox, own.pid(), "sleep");
    let target = own.pid().to_string();
    let args = ["-t", &target, "-U", "--preserve-credentials", "unshare", "-n", "sleep", "62"];
    let nested = Running::start(Command::new("nsenter").args(args));
    common::wait_comm(&sandbox, nested.pid(), "sleep");
    let pids: Vec<String> = [plain.pid(), own.pid(), nested.pid()].iter().map(ToString::to_string).collect();
    let draw = |kind: &str| {
        let args = ["graph", "--as", kind, &pids[0], &pids[1], &pids[2]];
        monitor(&sandbox, &args).success().stdout
    };
    let svg = draw("svg");
    assert_eq!(svg.matches("stroke-dasharray").count(), 3, "two edges and the legend: {svg}");
    for words in ["by the machine&apos;s", "by its own", "by the user namespace of sleep"] {
        assert!(svg.replace("machine's", "machine&apos;s").contains(words), "{words}: {svg}");
    }
    for (kind, edge) in [("dot", "label=owns"), ("mermaid", "|owns|")] {
        assert_eq!(draw(kind).matches(edge).count(), 2, "{kind}");
    }
    assert!(draw("text").contains("owned by the user namespace of sleep"));
}

/// The picture as a renderer sees it: it has the size that it says, and it is not empty.
fn renders(file: &std::path::Path) {
    require!(have("rsvg-convert"), "needs rsvg-convert");
    let png = file.with_extension("png");
    let output = Command::new("rsvg-convert").arg(file).arg("-o").arg(&png).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let bytes = std::fs::read(&png).unwrap();
    let width = u32::from_be_bytes(bytes[16..20].try_into().unwrap());
    let svg = std::fs::read_to_string(file).unwrap();
    assert!(svg.contains(&format!("width=\"{width}\"")), "{width}");
    assert!(bytes.len() > 5000, "an empty picture");
}

#[test]
fn a_file_is_only_written_where_one_may_be() {
    let sandbox = Sandbox::new();
    let link = sandbox.join("link.svg");
    std::os::unix::fs::symlink(sandbox.join("elsewhere"), &link).unwrap();
    monitor(&sandbox, &["graph", "-o", link.to_str().unwrap()]).fails_with(2).says("symbolic link");
    let nowhere = sandbox.join("no/such/x.svg").display().to_string();
    monitor(&sandbox, &["graph", "-o", &nowhere]).fails_with(2).says("directory does not exist");
    let png = sandbox.join("x.png");
    monitor(&sandbox, &["graph", "-o", png.to_str().unwrap()]).fails_with(2).says(".svg");
    assert!(!png.exists());
    assert!(!sandbox.join("elsewhere").exists());
    monitor(&sandbox, &["graph", "nope"]).fails_with(2).says("nope");
    monitor(&sandbox, &["graph", "--as", "gif"]).fails_with(2).says("mermaid");
}
