//! What the tests across tools share.
#![allow(dead_code)] // each test executable uses a part
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use drydock_testkit::{Sandbox, census};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// Runs a test body in a network namespace of its own, which is "the host" for the bridges that it makes.
///
/// The namespace belongs to a thread, so every command that the body starts is in it; it goes with the last of them.
pub fn in_own_network<R: Send>(body: impl FnOnce() -> R + Send) -> R {
    let name = std::thread::current().name().unwrap_or("?").to_string();
    let joined = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name(name).spawn_scoped(scope, || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a new network namespace");
            let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip starts");
            assert!(up.success(), "ip link set lo up");
            body()
        });
        thread.expect("a thread").join()
    });
    joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A line on the real stderr, which libtest does not capture.
pub fn say(text: &str) {
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// Everything of a sandbox, and of the network namespace of this thread, that can leak: one line each.
pub fn everything(sandbox: &Sandbox) -> BTreeSet<String> {
    let scope = sandbox.scope();
    let mut all = BTreeSet::new();
    let processes = census::processes(&scope).into_iter();
    all.extend(processes.map(|(pid, command)| format!("process {pid} {command}")));
    all.extend(census::cgroups(&scope).into_iter().map(|path| format!("cgroup {}", path.display())));
    all.extend(census::mounts(&scope).into_iter().map(|line| format!("mount {line}")));
    for (kind, words) in
        [("nft", "nft -s list ruleset"), ("link", "ip -o link"), ("address", "ip -o -4 address")]
    {
        let mut words = words.split(' ');
        let output = Command::new(words.next().unwrap()).args(words).output();
        let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
        // Links are numbered, and a bridge takes its least port's address: by name and state they are the same.
        let fields = |line: &str| match kind {
            "link" => line.split_whitespace().nth(1).unwrap_or_default().to_string(),
            "address" => line.split_whitespace().skip(1).take(3).collect::<Vec<_>>().join(" "),
            _ => line.trim().to_string(),
        };
        all.extend(text.lines().map(|line| format!("{kind} {}", fields(line))));
    }
    all.extend(netns_names().into_iter().map(|name| format!("netns {name}")).filter(|n| scope.matches(n)));
    let forward = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward");
    all.insert(format!("ip_forward {}", forward.unwrap_or_default().trim()));
    all.extend(
        tree(&sandbox.state())
            .into_iter()
            .filter(|path| !census::is_kept(path) && !path.ends_with('/'))
            .map(|path| format!("state {path}")),
    );
    all.extend(directories(&sandbox.state()).into_iter().map(|path| format!("state {path}/")));
    all.extend(tree(&sandbox.data().join("containers")).into_iter().map(|path| format!("data {path}")));
    all
}

fn netns_names() -> Vec<String> {
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Containers' directories; those of networks may stay, empty but for their locks.
fn directories(state: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(state).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name != "@networks" && !census::is_kept(name)).collect()
}

/// Every path below a directory, relative to it; directories end in `/`.
pub fn tree(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(next) = todo.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten().flatten() {
            let path = entry.path();
            let shown = path.strip_prefix(dir).unwrap_or(&path).display().to_string();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                found.push(format!("{shown}/"));
                todo.push(path);
            } else {
                found.push(shown);
            }
        }
    }
    found.sort();
    found
}

/// What differs, to be read: `+` came, `-` went.
pub fn difference(before: &BTreeSet<String>, after: &BTreeSet<String>) -> String {
    let came = after.difference(before).map(|line| format!("+ {line}"));
    let went = before.difference(after).map(|line| format!("- {line}"));
    came.chain(went).collect::<Vec<_>>().join("\n")
}
