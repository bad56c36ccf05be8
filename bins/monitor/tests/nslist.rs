//! `monitor ns ls`: what lsns does not find, its columns, filters and formats.
// A helper that cannot go on fails its test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Running, child, inode, json, monitor, wait_comm};
use drydock_testkit::{Sandbox, have, is_root, require};
use nix::sched::{CloneFlags, setns, unshare};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::process::Command;

fn row(found: &Value, ns: u64) -> Option<Value> {
    found["namespaces"].as_array().unwrap().iter().find(|r| r["ns"].as_u64() == Some(ns)).cloned()
}

/// A socket of this process that stays in a network namespace that nobody else is in.
fn socket_elsewhere() -> (UdpSocket, u64) {
    let thread = std::thread::spawn(|| {
        let home = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let link = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        setns(home, CloneFlags::CLONE_NEWNET).unwrap();
        let text = link.to_str().unwrap().trim_start_matches("net:[").trim_end_matches(']').to_string();
        (socket, text.parse().unwrap())
    });
    thread.join().unwrap()
}

#[test]
fn a_namespace_held_by_a_socket() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    let (socket, ns) = socket_elsewhere();
    let me = u64::from(std::process::id());
    let found = json(&sandbox, &["ns", "ls", "--persistent"]);
    let row = row(&found, ns).unwrap_or_else(|| panic!("{ns} in {found}"));
    assert_eq!((row["type"].as_str(), row["nprocs"].as_u64()), (Some("net"), Some(0)));
    assert_eq!(row["held_by"]["sockets"][0]["pid"].as_u64(), Some(me), "{row}");
    assert_eq!(row["owner"]["is"].as_u64(), inode("self", "user"), "the socket leads to it");
    let text =
        monitor(&sandbox, &["ns", "ls", "-t", "net", "--filter", "held-by == socket"]).success().stdout;
    assert!(text.contains(&ns.to_string()), "{text}");
    drop(socket);
    sandbox.wait_until("the namespace to go", || {
        let found = json(&sandbox, &["ns", "ls", "-t", "net"]);
        row_is_missing(&found, ns)
    });
}

fn row_is_missing(found: &Value, ns: u64) -> bool {
    row(found, ns).is_none()
}

#[test]
fn a_mount_in_a_mount_namespace_without_processes() {
    require!(is_root() && have("unshare"), "needs root and unshare");
    let sandbox = Sandbox::new();
    // A shell in a mount namespace of its own mounts a network namespace there; we keep the mount namespace by a
    // descriptor, and the shell ends.
    let dir = sandbox.join("mounts");
    std::fs::create_dir(&dir).unwrap();
    let script = "mount -t tmpfs x \"$0\" && touch \"$0/net\" && mount --bind /proc/self/ns/net \"$0/net\" && exec sleep 60";
    let inside = Running::start(
        Command::new("unshare").args(["-mn", "--propagation", "private", "sh", "-c", script]).arg(&dir),
    );
    wait_comm(&sandbox, inside.pid(), "sleep");
    let pid = inside.pid().to_string();
    let (net, mnt) = (inode(&pid, "net").unwrap(), inode(&pid, "mnt").unwrap());
    let keep = std::fs::File::open(format!("/proc/{pid}/ns/mnt")).unwrap();
    drop(inside);
    let found = json(&sandbox, &["ns", "ls", "-P"]);
    let space = row(&found, mnt).unwrap_or_else(|| panic!("{mnt} in {found}"));
    assert_eq!(space["held_by"]["fds"][0]["pid"].as_u64(), Some(std::process::id().into()));
    let hidden = row(&found, net).unwrap_or_else(|| panic!("{net} in {found}"));
    let mount = &hidden["held_by"]["mounts"][0];
    assert_eq!((mount["inside"].as_u64(), mount["seen_by"].as_u64()), (Some(mnt), None), "{hidden}");
    assert_eq!(mount["path"].as_str(), dir.join("net").to_str());
    drop(keep);
}

#[test]
fn columns_say_what_lsns_says() {
    require!(is_root() && have("unshare") && have("lsns"), "needs root, unshare and lsns");
    let sandbox = Sandbox::new();
    let parent = Running::unshare(&["-Urmuinpf", "--kill-child", "sleep", "60"]);
    let inside = child(&sandbox, parent.pid(), "sleep").to_string();
    let columns = "NS,TYPE,NPROCS,PID,PPID,UID,USER,PNS,ONS";
    let lines = |text: &str| -> BTreeMap<String, Vec<String>> {
        let words = |line: &str| line.split_whitespace().map(str::to_string).collect::<Vec<_>>();
        text.lines().map(words).map(|w| (w[0].clone(), w)).collect()
    };
    let ours = monitor(&sandbox, &["ns", "ls", "-rn", "-o", columns, "--task", &inside]).success().stdout;
    let ours = lines(&ours);
    // lsns -p lists what the process is in; both name the lowest pid of each namespace.
    let theirs = Command::new("lsns").args(["-rn", "-o", columns, "-p", &inside]).output().unwrap();
    let theirs = lines(&String::from_utf8_lossy(&theirs.stdout));
    let own = [inside.clone(), parent.pid().to_string()];
    let made: Vec<&String> = ours.keys().filter(|ns| own.contains(&ours[*ns][3])).collect();
    assert!(made.len() >= 4, "{ours:?}");
    for ns in made {
        let fix = |cells: &[String]| {
            cells.iter().map(|c| if c == "0" { "-".into() } else { c.clone() }).collect::<Vec<String>>()
        };
        // lsns leaves what it does not know empty or 0.
        assert_eq!(fix(&ours[ns])[..7], fix(&theirs[ns])[..7], "{ns}");
    }
    let all = monitor(&sandbox, &["ns", "ls", "--output-all"]).success().stdout;
    assert!(all.lines().next().unwrap().contains("NETNSID"), "{all}");
    let user = inode(&inside, "user").unwrap().to_string();
    let members = json(&sandbox, &["ns", "ls", &user]);
    assert!(
        members.as_array().unwrap().iter().any(|m| m["pid"].as_u64() == inside.parse().ok()),
        "{members}"
    );
}

#[test]
fn formats_and_bad_words() {
    let sandbox = Sandbox::new();
    let me = std::process::id().to_string();
    let own = inode("self", "uts").unwrap();
    let args =
        ["ns", "ls", "--pid", &me, "-t", "uts", "--format", "{{.Type}}={{.ns}} {{json .held_by.threads}}"];
    assert_eq!(monitor(&sandbox, &args).success().stdout, format!("uts={own} []\n"));
    for (args, word) in [
        (&["ns", "ls", "--filter", "a==b"][..], "allowed: ns"),
        (&["ns", "ls", "--filter", "a"], "allowed: ns"),
        (&["ns", "ls", "-o", "nope"], "allowed: NS"),
        (&["ns", "ls", "--format", "xml"], "allowed: json"),
        (&["ns", "ls", "--format", "{{.Foo"], "}}"),
        (&["ns", "ls", "--format", "{{.Foo}}"], "allowed here"),
        (&["ns", "ls", "1"], "no such namespace"),
        (&["ns", "ls", "-t", "disk"], "disk"),
    ] {
        let output = monitor(&sandbox, args);
        assert_eq!(output.code, Some(2), "{}", output.describe());
        assert!(output.stderr.contains(word), "{}", output.describe());
    }
}
