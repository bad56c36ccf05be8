//! What a container can still reach of the machine.

use super::{Facts, Finding, KINDS, Verdict, is_read_only};
use drydock_monitor::procfs::mountinfo::{self, Mount};
use std::collections::BTreeSet;
use std::os::unix::fs::FileTypeExt;

/// All that we know to look for.
pub fn reach(facts: &Facts) -> Vec<Finding> {
    vec![
        namespaces(facts),
        sockets(facts),
        settings(facts),
        sys(facts),
        devices(facts),
        directories(facts),
        engine(facts),
        propagation(facts),
        processes(facts),
        cgroups(facts),
    ]
}

fn judged(found: Vec<String>, check: &'static str, none: &str, proof: String, fix: &str) -> Finding {
    let verdict = if found.is_empty() { Verdict::Pass } else { Verdict::Fail };
    let text = if found.is_empty() { none.to_string() } else { found.join(", ") };
    Finding::new(check, verdict, text, proof, fix)
}

fn namespaces(facts: &Facts) -> Finding {
    // Time is shared by nearly all, and shows nothing but the clocks; user has a check of its own.
    let shared = KINDS.iter().filter(|k| !matches!(**k, "time" | "user") && facts.own(k) == Some(false));
    let shared: Vec<String> = shared.map(ToString::to_string).collect();
    let proof = format!("monitor ns diff {} 1", facts.pid);
    judged(
        shared,
        "shared namespaces",
        "none of mnt, pid, net, ipc, uts, cgroup",
        proof,
        "not --net host, --pid host and the like",
    )
}

fn sockets(facts: &Facts) -> Finding {
    let proof = format!("joinns -t {} -n -- grep @ /proc/net/unix", facts.pid);
    let found = if facts.own("net") == Some(false) {
        let text = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
        let count = text
            .lines()
            .filter(|l| l.split_ascii_whitespace().nth(7).is_some_and(|p| p.starts_with('@')))
            .count();
        vec![format!("{count} abstract sockets of the machine, and its loopback")]
    } else {
        Vec::new()
    };
    judged(found, "abstract sockets", "only those of its own network", proof, "a network of its own")
}

/// What is written there changes the machine, unless the setting belongs to a namespace.
fn settings(facts: &Facts) -> Finding {
    let writable = |path: &&&str| {
        let there = std::path::Path::new(&facts.file(&format!("root{path}"))).exists();
        there && facts.mount_of(path).is_some_and(|m| m.fstype == "proc" && !is_read_only(m))
    };
    let paths = ["/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs"];
    let found: Vec<String> = paths.iter().filter(writable).map(ToString::to_string).collect();
    // Root of another user namespace may not write what belongs to the machine.
    let verdict = facts.own("user") == Some(true);
    let proof = format!("grep /proc {}", facts.file("mountinfo"));
    let finding = judged(
        found,
        "writable /proc",
        "/proc/sys and its like are read-only",
        proof,
        "leave the read-only paths of the default, or --userns auto",
    );
    match finding.verdict {
        Verdict::Fail if verdict => Finding {
            verdict: Verdict::Pass,
            found: format!("{}, but only as far as its user namespace may", finding.found),
            fix: None,
            ..finding
        },
        _ => finding,
    }
}

fn sys(facts: &Facts) -> Finding {
    let writable =
        facts.mounts.iter().filter(|m| m.fstype == "sysfs" && !is_read_only(m)).map(|m| m.target.clone());
    let proof = format!("grep sysfs {}", facts.file("mountinfo"));
    judged(
        writable.collect(),
        "writable /sys",
        "/sys is read-only, or not there",
        proof,
        "mount /sys read-only",
    )
}

fn devices(facts: &Facts) -> Finding {
    let dir = facts.file("root/dev");
    let is_disk = |e: &std::fs::DirEntry| e.file_type().is_ok_and(|t| t.is_block_device());
    let is_memory = |name: &str| matches!(name, "mem" | "kmem" | "port" | "kmsg" | "fuse" | "kvm" | "uinput");
    let listing = std::fs::read_dir(&dir);
    let proof = format!("ls -l {dir}/");
    let Ok(listing) = listing else {
        let found = "its /dev cannot be looked into".to_string();
        return Finding::new("devices", Verdict::Unknown, found, proof, "");
    };
    let name = |e: &std::fs::DirEntry| e.file_name().to_string_lossy().into_owned();
    let found: Vec<String> = listing
        .flatten()
        .filter(|e| is_disk(e) || is_memory(&name(e)))
        .map(|e| format!("/dev/{}", name(&e)))
        .collect();
    judged(found, "devices", "no disks, no memory", proof, "not --device, not -v /dev:/dev")
}

/// Bind mounts of directories that can be written.
fn directories(facts: &Facts) -> Finding {
    const OWN: [&str; 7] = ["proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2", "nsfs"];
    // Its own, unless the machine has the same one mounted: /run and /tmp are often such.
    const EITHER: [&str; 3] = ["tmpfs", "overlay", "devtmpfs"];
    let machine = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let machine: BTreeSet<String> = mountinfo::parse(&machine).into_iter().map(|m| m.device).collect();
    let small = |m: &&Mount| matches!(m.target.as_str(), "/etc/hosts" | "/etc/hostname" | "/etc/resolv.conf");
    let theirs = |m: &&Mount| match m.fstype.as_str() {
        kind if OWN.contains(&kind) => false,
        kind if EITHER.contains(&kind) => machine.contains(&m.device),
        _ => true,
    };
    let binds = facts.mounts.iter().filter(|m| m.target != "/").filter(theirs);
    let found: Vec<String> = binds
        .filter(|m| !is_read_only(m) && !small(m))
        .map(|m| format!("{} (from {} of {})", m.target, m.root, m.source))
        .collect();
    let proof = format!("monitor mounts --pid {}", facts.pid);
    judged(
        found,
        "writable directories",
        "none of the machine's",
        proof,
        "-v SRC:DST:ro where reading is enough",
    )
}

/// The socket of an engine: whoever may write to it is root.
fn engine(facts: &Facts) -> Finding {
    const SOCKETS: [&str; 5] =
        ["docker.sock", "containerd.sock", "podman.sock", "crio.sock", "systemd/private"];
    let mounted =
        facts.mounts.iter().filter(|m| SOCKETS.iter().any(|s| m.root.ends_with(s) || m.target.ends_with(s)));
    let found: Vec<String> = mounted.map(|m| m.target.clone()).collect();
    let proof = format!("grep sock {}", facts.file("mountinfo"));
    judged(
        found,
        "engine sockets",
        "none",
        proof,
        "do not mount it: whoever can write to it is root of the machine",
    )
}

fn propagation(facts: &Facts) -> Finding {
    let shared = facts.mounts.iter().filter(|m| m.propagation.contains("shared")).map(|m| m.target.clone());
    // Shared within its own mount namespace alone would be harmless, but cannot be told from here.
    let found: Vec<String> = shared.take(5).collect();
    let proof = format!("grep shared: {}", facts.file("mountinfo"));
    judged(
        found,
        "mount propagation",
        "what it mounts stays inside",
        proof,
        "--propagation private, or slave, for its mounts",
    )
}

fn processes(facts: &Facts) -> Finding {
    let (verdict, found) = match facts.own("pid") {
        Some(false) => (Verdict::Fail, "sees and may signal the machine's processes"),
        Some(true) => (Verdict::Pass, "sees its own processes only"),
        None => (Verdict::Unknown, "its pid namespace is closed to us"),
    };
    Finding::new(
        "processes",
        verdict,
        found.to_string(),
        format!("monitor pidmap {}", facts.pid),
        "a pid namespace of its own",
    )
}

fn cgroups(facts: &Facts) -> Finding {
    let mounts = facts.mounts.iter().filter(|m| m.fstype.starts_with("cgroup") && !is_read_only(m));
    let found: Vec<String> = mounts.map(|m| m.target.clone()).collect();
    let proof = format!("grep cgroup {}", facts.file("mountinfo"));
    let own = facts.own("cgroup") == Some(true) && facts.own("user") == Some(true);
    let finding = judged(
        found,
        "writable cgroups",
        "cgroups are read-only, or not there",
        proof,
        "mount them read-only",
    );
    match finding.verdict {
        Verdict::Fail if own => {
            Finding { verdict: Verdict::Pass, found: "only below its own".to_string(), fix: None, ..finding }
        }
        _ => finding,
    }
}
