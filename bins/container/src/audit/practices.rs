//! The ten practices, in the order of the guides.

use super::{Facts, Finding, Verdict, is_read_only};
use drydock_cgroups::UNLIMITED;
use drydock_core::size::show;
use drydock_security::CapSet;

/// What lets a process do to the machine what root may do.
const DANGEROUS: [&str; 20] = [
    "CAP_SYS_ADMIN",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_PTRACE",
    "CAP_SYS_BOOT",
    "CAP_SYS_TIME",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TTY_CONFIG",
    "CAP_DAC_READ_SEARCH",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_MKNOD",
    "CAP_SYSLOG",
    "CAP_MAC_ADMIN",
    "CAP_MAC_OVERRIDE",
    "CAP_BPF",
    "CAP_PERFMON",
    "CAP_AUDIT_CONTROL",
    "CAP_CHECKPOINT_RESTORE",
];

fn pass(holds: bool) -> Verdict {
    if holds { Verdict::Pass } else { Verdict::Fail }
}

/// All ten.
pub fn practices(facts: &Facts) -> Vec<Finding> {
    vec![
        user_namespace(facts),
        capabilities(facts),
        seccomp(facts),
        label(facts),
        limits(facts),
        read_only(facts),
        no_new_privs(facts),
        network(facts),
        updates(),
        log(facts),
    ]
}

fn user_namespace(facts: &Facts) -> Finding {
    let own = facts.own("user");
    let first = facts.uid_map.split_ascii_whitespace().nth(1).unwrap_or("?").to_string();
    let (verdict, found) = match own {
        Some(true) => {
            (pass(first != "0"), format!("a user namespace of its own: root inside is uid {first} outside"))
        }
        Some(false) => (Verdict::Fail, "root inside is root of the machine".to_string()),
        None => (Verdict::Unknown, "its user namespace is closed to us".to_string()),
    };
    Finding::new(
        "1 user namespace",
        verdict,
        found,
        format!("cat {}", facts.file("uid_map")),
        "--userns auto, or run rootless",
    )
}

fn capabilities(facts: &Facts) -> Finding {
    let bounding = CapSet(facts.status.cap_bounding.unwrap_or(u64::MAX));
    let names = bounding.names();
    let dangerous: Vec<&str> = names.iter().map(String::as_str).filter(|n| DANGEROUS.contains(n)).collect();
    let found = if dangerous.is_empty() {
        format!(
            "{} at most: {}",
            names.len(),
            if names.is_empty() { "none" } else { "none of the dangerous ones" }
        )
    } else {
        format!("{} at most, of them dangerous: {}", names.len(), dangerous.join(" "))
    };
    let proof = format!("grep Cap {}; monitor inspect {}", facts.file("status"), facts.pid);
    Finding::new(
        "2 capabilities",
        pass(dangerous.is_empty()),
        found,
        proof,
        "--cap-drop ALL, and --cap-add what it needs",
    )
}

fn seccomp(facts: &Facts) -> Finding {
    let filters = facts.status.seccomp_filters.map_or(String::new(), |n| format!(" ({n})"));
    let (verdict, found) = match facts.status.seccomp {
        Some(2) => (Verdict::Pass, format!("a filter of system calls{filters}")),
        Some(1) => (Verdict::Pass, "strict: read, write, exit and sigreturn only".to_string()),
        Some(_) => (Verdict::Fail, "every system call is allowed".to_string()),
        None => (Verdict::Unknown, "the kernel does not tell".to_string()),
    };
    let fix = "leave the default profile on, or --security-opt seccomp=FILE";
    Finding::new("3 seccomp", verdict, found, format!("grep Seccomp {}", facts.file("status")), fix)
}

fn label(facts: &Facts) -> Finding {
    let active = std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    let labels = active.split(',').any(|m| matches!(m.trim(), "apparmor" | "selinux" | "smack"))
        || std::path::Path::new("/sys/module/apparmor/parameters/enabled").exists()
        || std::path::Path::new("/sys/fs/selinux/enforce").exists();
    let (verdict, found) = match &facts.label {
        Some(label) if !label.starts_with("unconfined") => (Verdict::Pass, format!("label {label}")),
        Some(label) => (Verdict::Fail, format!("label {label}")),
        None if labels => (Verdict::Fail, "no label".to_string()),
        None => (Verdict::Unknown, "this kernel has neither AppArmor nor SELinux".to_string()),
    };
    let fix =
        if verdict == Verdict::Fail { "--security-opt apparmor=PROFILE, or label=type:TYPE" } else { "" };
    Finding::new("4 AppArmor or SELinux", verdict, found, format!("cat {}", facts.file("attr/current")), fix)
}

fn limits(facts: &Facts) -> Finding {
    let limits = &facts.limits;
    let bounded = |n: Option<u64>| n.filter(|n| *n != UNLIMITED && *n < 1 << 62);
    let memory = bounded(limits.memory_max);
    let pids = bounded(limits.pids_max);
    let cpu = bounded(limits.cpu.as_ref().and_then(|c| c.quota_us));
    let mut missing = Vec::new();
    for (name, value) in [("--memory", memory), ("--pids", pids), ("--cpus", cpu)] {
        if value.is_none() {
            missing.push(name);
        }
    }
    let word = |n: Option<u64>, show: fn(u64) -> String| n.map_or("no limit".to_string(), show);
    let found = format!(
        "memory {}, pids {}, cpu {}",
        word(memory, show),
        word(pids, |n| n.to_string()),
        if cpu.is_some() { "limited" } else { "no limit" }
    );
    let proof = facts.state.cgroup.first().map_or("container inspect".to_string(), |_| {
        format!("container inspect {} (limits)", facts.state.id)
    });
    Finding::new(
        "5 resource limits",
        pass(missing.is_empty()),
        found,
        proof,
        &format!("set {}", missing.join(" ")),
    )
}

fn read_only(facts: &Facts) -> Finding {
    let root = facts.mount_of("/");
    let (verdict, found) = match root {
        Some(root) if is_read_only(root) => (Verdict::Pass, "/ is read-only".to_string()),
        Some(root) => (Verdict::Fail, format!("/ can be written ({})", root.fstype)),
        None => (Verdict::Unknown, "its mounts cannot be seen".to_string()),
    };
    let fix = "--read-only, with --tmpfs /tmp and -v for what must be written";
    Finding::new(
        "6 read-only root",
        verdict,
        found,
        format!("grep ' / / ' {}; monitor mounts --pid {}", facts.file("mountinfo"), facts.pid),
        fix,
    )
}

fn no_new_privs(facts: &Facts) -> Finding {
    let (verdict, found) = match facts.status.no_new_privs {
        Some(true) => (Verdict::Pass, "execve gives no privileges".to_string()),
        Some(false) => (Verdict::Fail, "set-uid programs and file capabilities give privileges".to_string()),
        None => (Verdict::Unknown, "the kernel does not tell".to_string()),
    };
    Finding::new(
        "7 no-new-privileges",
        verdict,
        found,
        format!("grep NoNewPrivs {}", facts.file("status")),
        "--security-opt no-new-privileges",
    )
}

fn network(facts: &Facts) -> Finding {
    let (verdict, found) = match facts.own("net") {
        Some(true) => (Verdict::Pass, "a network namespace of its own".to_string()),
        Some(false) => (Verdict::Fail, "the machine's network".to_string()),
        None => (Verdict::Unknown, "its network namespace is closed to us".to_string()),
    };
    Finding::new(
        "8 network isolation",
        verdict,
        found,
        format!("monitor ns diff {} 1", facts.pid),
        "not --net host",
    )
}

/// The kernel says when it was built; whether that is recent is all that can be seen from here.
fn updates() -> Finding {
    let version = std::fs::read_to_string("/proc/sys/kernel/version").unwrap_or_default();
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let year = |text: &str| {
        text.split_ascii_whitespace().filter_map(|w| w.parse::<u64>().ok()).find(|y| (2000..2200).contains(y))
    };
    let now = 1970 + crate::first::now() / 31_556_952;
    let found = |age: &str| format!("Linux {}, {age}", release.trim());
    let (verdict, found) = match year(&version) {
        Some(built) if built + 1 >= now => (Verdict::Pass, found(&format!("built in {built}"))),
        Some(built) => (Verdict::Fail, found(&format!("built in {built}"))),
        None => (Verdict::Unknown, found("which does not say when it was built")),
    };
    let fix = "update the kernel and this tool";
    Finding::new("9 regular updates", verdict, found, "uname -rv; container --version".to_string(), fix)
}

fn log(facts: &Facts) -> Finding {
    let told = drydock_bundle::events::last(&facts.root, &facts.state.id, |_| true).is_some();
    let kept = facts.state.detached;
    let found = match (told, kept) {
        (true, true) => "its events and its output are written down",
        (true, false) => "its events are written down, its output is its caller's",
        (false, _) => "nothing is written down of it",
    };
    let proof = format!("container events --since 24h --no-follow --filter id={}", facts.state.id);
    Finding::new(
        "10 audit and monitor",
        pass(told),
        found.to_string(),
        proof,
        "the file @events in the state root cannot be written",
    )
}
