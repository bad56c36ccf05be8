//! `monitor ns`, `group`, `pidmap`: against what the kernel and util-linux say.
// A helper that cannot go on fails its test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Running, child, inode, json, monitor, pids, wait_comm};
use drydock_testkit::{Sandbox, have, is_root, require};
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;

const KINDS: [&str; 8] = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"];

#[test]
fn types_are_eight() {
    let sandbox = Sandbox::new();
    let rows = json(&sandbox, &["ns", "types"]);
    assert_eq!(rows.as_array().unwrap().len(), 8);
    let net = rows.as_array().unwrap().iter().find(|r| r["name"] == "net").unwrap();
    assert_eq!((net["flag"].as_str(), net["hex"].as_str()), (Some("CLONE_NEWNET"), Some("0x40000000")));
    let there = std::path::Path::new("/proc/self/ns/net").is_symlink();
    assert_eq!(net["enabled"].as_bool(), Some(there));
}

#[test]
fn show_equals_readlink() {
    let sandbox = Sandbox::new();
    let me = std::process::id().to_string();
    let shown = json(&sandbox, &["ns", "show", "--pid", &me]);
    for kind in KINDS {
        let row = shown["namespaces"].as_array().unwrap().iter().find(|r| r["name"] == kind).unwrap();
        assert_eq!(row["inode"].as_u64(), inode("self", kind), "{kind}");
    }
    let text = monitor(&sandbox, &["ns", "show", "--pid", &me]).success().stdout;
    for name in ["pid_for_children", "time_for_children"] {
        assert!(text.contains(name), "{text}");
    }
}

#[test]
fn diff_of_a_process_in_new_namespaces() {
    require!(is_root() && have("unshare"), "needs root and unshare");
    let sandbox = Sandbox::new();
    let parent = Running::unshare(&["-muinpfCT", "--kill-child", "sleep", "60"]);
    let inside = child(&sandbox, parent.pid(), "sleep").to_string();
    let me = std::process::id().to_string();
    let diff = json(&sandbox, &["ns", "diff", &me, &inside]);
    for row in diff["types"].as_array().unwrap() {
        let kind = row["type"].as_str().unwrap();
        assert_eq!(row["same"].as_bool(), Some(kind == "user"), "{kind}");
        assert_eq!(row["b"]["ino"].as_u64(), inode(&inside, kind), "{kind}");
    }
    let same = monitor(&sandbox, &["ns", "diff", &me, &me]).success();
    assert_eq!(same.stdout.matches("same").count(), 8, "{}", same.describe());
}

fn listed(value: &Value) -> BTreeSet<u64> {
    value["namespaces"].as_array().unwrap().iter().filter_map(|n| n["ns"].as_u64()).collect()
}

fn lsns() -> BTreeSet<u64> {
    let output = Command::new("lsns").args(["-n", "-o", "NS"]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).lines().filter_map(|l| l.trim().parse().ok()).collect()
}

#[test]
fn ls_has_all_that_lsns_has() {
    require!(have("lsns"), "needs lsns");
    let sandbox = Sandbox::new();
    let _other = Running::unshare(&["-Urmuinpf", "--kill-child", "sleep", "60"]);
    // Other tests start and end namespaces meanwhile: what lsns saw both before and after must be there.
    let before = lsns();
    let ours = listed(&json(&sandbox, &["ns", "ls"]));
    let after = lsns();
    let missing: Vec<_> = before.intersection(&after).filter(|ns| !ours.contains(ns)).collect();
    assert!(missing.is_empty() && !ours.is_empty(), "missing {missing:?}");
}

#[test]
fn ls_counts_and_selects() {
    require!(is_root() && have("unshare"), "needs root and unshare");
    let sandbox = Sandbox::new();
    let inside = Running::unshare(&["-un", "sleep", "60"]);
    wait_comm(&sandbox, inside.pid(), "sleep");
    let pid = inside.pid().to_string();
    let found = json(&sandbox, &["ns", "ls", "--pid", &pid, "--type", "net", "--type", "uts"]);
    let rows = found["namespaces"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "{found}");
    for row in rows {
        assert_eq!(row["ns"].as_u64(), inode(&pid, row["type"].as_str().unwrap()));
        assert_eq!((row["nprocs"].as_u64(), row["pid"].as_u64()), (Some(1), Some(inside.pid().into())));
        assert_eq!((row["command"].as_str(), row["uid"].as_u64()), (Some("sleep 60"), Some(0)));
        assert_eq!(row["owner"]["is"].as_u64(), inode(&pid, "user"));
    }
}

/// A network namespace that nothing but a bind mount in the sandbox holds.
fn mounted(sandbox: &Sandbox) -> (String, u64) {
    let file = sandbox.join("netns");
    std::fs::write(&file, "").unwrap();
    let path = file.to_str().unwrap().to_string();
    let made = Command::new("unshare").args([&format!("--net={path}"), "true"]).status().unwrap();
    assert!(made.success());
    let ino = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&file).unwrap());
    (path, ino)
}

fn find(list: &Value, ns: u64) -> Option<Value> {
    list["namespaces"].as_array().unwrap().iter().find(|n| n["ns"].as_u64() == Some(ns)).cloned()
}

#[test]
fn ls_finds_what_only_a_mount_or_a_descriptor_holds() {
    require!(is_root() && have("unshare"), "needs root and unshare");
    let sandbox = Sandbox::new();
    let (path, ns) = mounted(&sandbox);
    let found = find(&json(&sandbox, &["ns", "ls"]), ns).expect("held by a mount");
    assert_eq!(found["nprocs"].as_u64(), Some(0));
    assert_eq!(found["held_by"]["mounts"][0]["path"].as_str(), Some(path.as_str()));
    assert_eq!(found["owner"]["is"].as_u64(), inode("self", "user"));
    let text = monitor(&sandbox, &["ns", "ls", "--persistent"]).success().stdout;
    assert!(text.contains(&ns.to_string()) && text.contains(&path), "{text}");
    assert!(!text.contains(&inode("self", "net").unwrap().to_string()), "it has processes: {text}");

    let open = std::fs::File::open(&path).unwrap();
    // Our descriptor keeps the mount busy: detach it.
    nix::mount::umount2(path.as_str(), nix::mount::MntFlags::MNT_DETACH).unwrap();
    let list = || find(&json(&sandbox, &["ns", "ls", "--type", "net"]), ns);
    // Another test's new mount namespace may have a copy for a moment.
    sandbox.wait_until("no mount of it", || {
        list().is_none_or(|l| l["held_by"]["mounts"] == serde_json::json!([]))
    });
    let found = list().expect("held by a descriptor");
    let holder = &found["held_by"]["fds"][0];
    assert_eq!(holder["pid"].as_u64(), Some(std::process::id().into()));
    drop(open);
    sandbox.wait_until("nothing that holds it", || list().is_none());
}

#[test]
fn ls_finds_what_only_a_thread_holds() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUTS).unwrap();
        let tid = nix::unistd::gettid().as_raw();
        ready.send((tid, inode(&format!("self/task/{tid}"), "uts").unwrap())).unwrap();
        let _ = stopped.recv();
    });
    let (tid, ns) = is_ready.recv().unwrap();
    let found = find(&json(&sandbox, &["ns", "ls"]), ns).expect("held by a thread");
    assert_eq!(found["held_by"]["threads"][0]["tid"].as_i64(), Some(tid.into()));
    assert_eq!(found["nprocs"].as_u64(), Some(0));
    drop(stop);
    thread.join().unwrap();
}

#[test]
fn owner_and_parent_equal_the_kernels() {
    require!(is_root() && have("unshare"), "needs root and unshare");
    let sandbox = Sandbox::new();
    let parent = Running::unshare(&["-Urnpf", "--kill-child", "sleep", "60"]);
    let inside = child(&sandbox, parent.pid(), "sleep").to_string();
    let user = inode(&inside, "user").unwrap();
    let ask = |verb: &str, spec: &str| json(&sandbox, &["ns", verb, spec]);
    assert_eq!(ask("owner", &format!("{inside}:net"))["inode"].as_u64(), Some(user));
    assert_eq!(ask("owner", &format!("/proc/{inside}/ns/net"))["inode"].as_u64(), Some(user));
    assert_eq!(ask("parent", &format!("{inside}:user"))["inode"].as_u64(), inode("self", "user"));
    assert_eq!(ask("parent", &format!("{inside}:pid"))["inode"].as_u64(), inode("self", "pid"));
    // Nothing above our own user namespace is shown to us, whether it is the first one or not.
    let me = std::process::id();
    let above = ask("parent", &format!("{me}:user"));
    assert_eq!((above["outside"].as_bool(), above["inode"].as_u64()), (Some(true), None));
    monitor(&sandbox, &["ns", "owner", &format!("{me}:user")]).success().stdout_has("outside your view");

    let tree = monitor(&sandbox, &["ns", "tree", "--by", "parent"]).success().stdout;
    assert!(tree.contains(&format!("  pid:[{}]", inode(&inside, "pid").unwrap())), "{tree}");
    let tree = monitor(&sandbox, &["ns", "tree", "--by", "owner"]).success().stdout;
    assert!(tree.contains(&format!("    net:[{}]", inode(&inside, "net").unwrap())), "{tree}");
    monitor(&sandbox, &["ns", "tree", "--by", "process"]).success().stdout_has(&format!("user:[{user}]"));
    monitor(&sandbox, &["ns", "map", &inside]).success().stdout_has("inside 0 = outside 0");
}

#[test]
fn nested_pid_namespaces_have_a_column_each() {
    require!(is_root() && have("unshare"), "needs root and unshare");
    let sandbox = Sandbox::new();
    let outer = Running::unshare(&["-pf", "--kill-child", "unshare", "-pf", "--kill-child", "sleep", "60"]);
    let middle = child(&sandbox, outer.pid(), "unshare");
    let inner = child(&sandbox, middle, "sleep").to_string();
    let map = json(&sandbox, &["pidmap", &inner]);
    let pids: Vec<u64> = map["nspid"].as_array().unwrap().iter().filter_map(Value::as_u64).collect();
    assert_eq!(pids.len(), 3, "{map}");
    assert_eq!((pids[0].to_string(), pids[2]), (inner.clone(), 1));
    let text = monitor(&sandbox, &["pidmap", &inner]).success().stdout;
    assert_eq!(text.lines().last().unwrap().split_whitespace().count(), 3, "{text}");
    let depth = |tree: &str, ns: u64| {
        let line = tree.lines().find(|l| l.contains(&format!("pid:[{ns}]"))).unwrap_or_default();
        line.len() - line.trim_start().len()
    };
    let tree = monitor(&sandbox, &["ns", "tree", "--by", "parent"]).success().stdout;
    let [a, b] = [middle.to_string(), inner].map(|pid| depth(&tree, inode(&pid, "pid").unwrap()));
    assert_eq!(b, a + 2, "{tree}");
}

#[test]
fn groups_are_a_partition() {
    let sandbox = Sandbox::new();
    for by in KINDS {
        let before: BTreeSet<u32> = pids().into_iter().collect();
        let found = json(&sandbox, &["group", "--by", by]);
        let after: BTreeSet<u32> = pids().into_iter().collect();
        let number = |v: &Value| u32::try_from(v.as_u64().unwrap()).unwrap();
        let groups = found["groups"].as_array().unwrap();
        let mut all: Vec<u32> = Vec::new();
        for group in groups {
            let members = group["processes"].as_array().unwrap();
            assert_eq!(group["nprocs"].as_u64(), Some(members.len() as u64));
            all.extend(members.iter().map(|m| number(&m["pid"])));
        }
        for key in ["unreadable", "without"] {
            all.extend(found[key].as_array().unwrap().iter().map(number));
        }
        let unique: BTreeSet<u32> = all.iter().copied().collect();
        assert_eq!(unique.len(), all.len(), "{by}: a process in two groups");
        let missing: Vec<_> = before.intersection(&after).filter(|pid| !unique.contains(pid)).collect();
        assert!(missing.is_empty(), "{by}: {missing:?}");
    }
}
