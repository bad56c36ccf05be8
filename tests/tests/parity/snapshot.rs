//! A running container as the kernel shows it from outside, in words that two containers of one name can share: ids,
//! counters and random addresses are left out.

use drydock_testkit::{Sandbox, run};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What was seen, by name.
pub type Facts = BTreeMap<String, String>;

/// Everything of the process `pid`, whose network namespace belongs to the network of `host_net`.
/// `others`: directories of namespace files that the container may share.
pub fn take(sandbox: &Sandbox, name: &str, pid: i32, host_net: &Path, others: &[PathBuf]) -> Facts {
    let mut facts = Facts::new();
    process(&mut facts, "", pid);
    namespaces(&mut facts, pid, host_net, others);
    // With a reaper there is a process in front of the command: it is compared too.
    let parent = status(pid).get("PPid").and_then(|text| text.parse().ok()).unwrap_or(0);
    let depth = |pid: i32| status(pid).get("NSpid").map_or(0, |ids| ids.split_whitespace().count());
    if parent > 1 && depth(parent) > 1 && ns(parent, "mnt") == ns(pid, "mnt") {
        process(&mut facts, "PID 1: ", parent);
    }
    facts.insert("mounts".into(), mounts(pid));
    cgroup(&mut facts, pid);
    files(&mut facts, pid);
    network(&mut facts, sandbox, name, pid, host_net);
    for namespace in ["hostname", "domainname"] {
        let shown = run(Command::new("nsenter")
            .args(["-t", &pid.to_string(), "--uts"])
            .args(["cat"])
            .arg(format!("/proc/sys/kernel/{namespace}")));
        facts.insert(namespace.into(), shown.stdout);
    }
    let keys = fs::read_to_string("/proc/keys").unwrap_or_default();
    let own = keys.lines().filter(|line| line.contains(&format!("_ses.{name}")));
    let fields = own.map(|line| line.split_whitespace().skip(4).collect::<Vec<_>>().join(" "));
    facts.insert("keyring".into(), fields.collect::<Vec<_>>().join("\n"));
    facts
}

fn read(path: impl AsRef<Path>) -> String {
    let bytes = fs::read(path).unwrap_or_else(|e| format!("cannot be read: {e}").into_bytes());
    String::from_utf8_lossy(&bytes).replace('\0', "\n")
}

fn status(pid: i32) -> BTreeMap<String, String> {
    let text = read(format!("/proc/{pid}/status"));
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(k, v)| (k.to_string(), v.trim().to_string()))
        .collect()
}

fn ns(pid: i32, kind: &str) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()
}

/// Each namespace: the host's, another's that was joined, or new.
fn namespaces(facts: &mut Facts, pid: i32, host_net: &Path, others: &[PathBuf]) {
    for kind in
        ["cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "time_for_children", "user", "uts"]
    {
        let host = if kind == "net" { fs::read_link(host_net).ok() } else { ns(me(), kind) };
        let own = ns(pid, kind);
        let other = others.iter().position(|dir| fs::read_link(dir.join(kind)).ok() == own);
        let which = match other {
            _ if own.is_none() => "cannot be read".to_string(),
            _ if own == host => "the host's".to_string(),
            Some(which) => format!("of other {which}"),
            None => "its own".to_string(),
        };
        facts.insert(format!("{kind} namespace"), which);
    }
}

fn me() -> i32 {
    std::process::id().cast_signed()
}

fn process(facts: &mut Facts, whose: &str, pid: i32) {
    let mut put = |name: &str, value: String| facts.insert(format!("{whose}{name}"), value);
    let status = status(pid);
    let fields = "Name Umask Uid Gid Groups CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp Seccomp_filters \
                  Speculation_Store_Bypass SigBlk SigIgn SigCgt SigQ_limit Threads THP_enabled Cpus_allowed_list";
    for field in fields.split_whitespace() {
        put(field, status.get(field).cloned().unwrap_or_default());
    }
    let inner = |field: &str| {
        status.get(field).and_then(|ids| ids.split_whitespace().next_back()).unwrap_or("").to_string()
    };
    put("is PID 1", (inner("NSpid") == "1").to_string());
    let leads = |field: &str| (inner(field) == inner("NSpid")).to_string();
    put("leads its session", leads("NSsid"));
    put("leads its group", leads("NSpgid"));
    let fields = "limits cmdline environ comm oom_score_adj personality coredump_filter loginuid attr/current timens_offsets uid_map gid_map";
    for file in fields.split_whitespace() {
        put(file, read(format!("/proc/{pid}/{file}")));
    }
    for link in ["cwd", "root", "exe"] {
        let target = fs::read_link(format!("/proc/{pid}/{link}")).unwrap_or_default();
        put(link, target.display().to_string());
    }
    put("open files", fds(pid));
    // Niceness and the controlling terminal: fields 19 and 7 of proc_pid_stat(5), counted behind the name.
    let stat = read(format!("/proc/{pid}/stat"));
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    put("nice, terminal", format!("{:?} {:?}", fields.get(16), fields.get(4)));
}

fn fds(pid: i32) -> String {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut all: Vec<String> = entries
        .map(|entry| {
            let target = fs::read_link(entry.path()).unwrap_or_default().display().to_string();
            // A pipe's or socket's inode says nothing.
            let kind = target.split(":[").next().unwrap_or_default().to_string();
            format!("{} {kind}", entry.file_name().to_string_lossy())
        })
        .collect();
    all.sort();
    all.join("\n")
}

/// /proc/PID/mountinfo with mount points instead of ids, without device numbers and peer groups.
fn mounts(pid: i32) -> String {
    let text = read(format!("/proc/{pid}/mountinfo"));
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
    let point =
        |id: &str| rows.iter().find(|row| row.first() == Some(&id)).and_then(|row| row.get(4).copied());
    let line = |row: &Vec<&str>| {
        let parent = row.get(1).and_then(|id| point(id)).unwrap_or("outside");
        let rest = row.iter().skip(3).map(|word| match word.split_once(':') {
            Some((kind @ ("shared" | "master" | "propagate_from"), _)) => kind,
            _ => word,
        });
        format!("on {parent}: {}", rest.collect::<Vec<_>>().join(" "))
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The container's cgroup in each hierarchy, with every file that is a setting.
fn cgroup(facts: &mut Facts, pid: i32) {
    let text = read(format!("/proc/{pid}/cgroup"));
    facts.insert("cgroup".into(), text.clone());
    let mounts = read("/proc/self/mountinfo");
    for line in text.lines() {
        let parts: Vec<&str> = line.splitn(3, ':').collect();
        let [_, controllers, path] = parts.as_slice() else { continue };
        if !path.contains("/drydock/") {
            // The caller's own, which others use and change too.
            continue;
        }
        let wanted = |mount: &&str| {
            let (_, behind) = mount.split_once(" - ").unwrap_or_default();
            let fields: Vec<&str> = behind.split(' ').collect();
            match fields.as_slice() {
                ["cgroup2", ..] => controllers.is_empty(),
                ["cgroup", _, options] => {
                    !controllers.is_empty()
                        && controllers.split(',').all(|c| options.split(',').any(|o| o == c))
                }
                _ => false,
            }
        };
        let Some(mount) = mounts.lines().find(wanted).and_then(|mount| mount.split(' ').nth(4)) else {
            continue;
        };
        let dir = PathBuf::from(format!("{mount}{path}"));
        settings(facts, controllers, &dir);
    }
}

fn settings(facts: &mut Facts, controllers: &str, dir: &Path) {
    // A bundle of another test turns hugetlb on for the parent of all, for as long as it runs.
    const VARIES: [&str; 24] = [
        "hugetlb",
        "cgroup.controllers",
        "stat",
        "usage",
        "current",
        "peak",
        "failcnt",
        "procs",
        "threads",
        "tasks",
        "pressure",
        "events",
        "numa",
        "kmem",
        "event_control",
        "force_empty",
        "cgroup.kill",
        "state",
        "self_freezing",
        "parent_freezing",
        "reclaim",
        "throttle",
        "io_service",
        "local",
    ];
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        if VARIES.iter().all(|word| !file.contains(word)) {
            facts.insert(format!("{controllers} {file}"), read(entry.path()));
        }
    }
    let inside = read(dir.join("cgroup.procs")).lines().count();
    facts.insert(format!("{controllers} processes in the cgroup"), inside.to_string());
}

fn files(facts: &mut Facts, pid: i32) {
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    for file in ["etc/hosts", "etc/hostname", "etc/resolv.conf"] {
        facts.insert(format!("/{file}"), read(root.join(file)));
    }
    for path in ["", "etc/hosts", "etc/resolv.conf", "dev", "dev/null", "dev/shm", "tmp", "proc"] {
        let mode = fs::metadata(root.join(path)).map_or(0, |meta| meta.permissions().mode());
        facts.insert(format!("mode of /{path}"), format!("{mode:o}"));
    }
    let mut devices: Vec<String> = fs::read_dir(root.join("dev"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    devices.sort();
    facts.insert("devices".into(), devices.join(" "));
}

fn network(facts: &mut Facts, sandbox: &Sandbox, name: &str, pid: i32, host_net: &Path) {
    let inside =
        run(sandbox.command("netsetup").args(["show", "--json", "--pid", &pid.to_string()])).success();
    let net = format!("--net={}", host_net.display());
    let outside =
        run(Command::new("nsenter").arg(&net).arg(drydock_testkit::bin("netsetup")).args(["show", "--json"]))
            .success();
    let names = host_links(&outside.stdout, name);
    for (whose, shown) in [("inside", inside.stdout), ("on the host", outside.stdout)] {
        let mut text = shown;
        for link in &names {
            text = text.replace(link.as_str(), "VETH");
        }
        let view: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        for part in ["links", "addresses", "routes", "ports", "nft"] {
            let value = view.get(part).cloned().unwrap_or(Value::Null);
            facts.insert(format!("{part} {whose}"), shown_list(value));
        }
    }
    for sysctl in ["net/ipv4/ip_forward", "net/ipv4/ip_unprivileged_port_start", "net/ipv4/ping_group_range"]
    {
        let path = format!("/proc/sys/{sysctl}");
        let inside = run(Command::new("nsenter").args(["-t", &pid.to_string(), "--net", "cat", &path]));
        let outside = run(Command::new("nsenter").args([&net, "cat", &path]));
        facts.insert(
            format!("{sysctl} inside, outside"),
            format!("{} {}", inside.stdout.trim(), outside.stdout.trim()),
        );
    }
    let shm = run(Command::new("nsenter").args([
        "-t",
        &pid.to_string(),
        "--ipc",
        "cat",
        "/proc/sys/kernel/shmmax",
    ]));
    facts.insert("kernel/shmmax".into(), shm.stdout);
}

/// The host ends of a container's veth pairs: their names are hashes of the namespace's path.
fn host_links(shown: &str, owner: &str) -> Vec<String> {
    let view: Value = serde_json::from_str(shown).unwrap_or(Value::Null);
    let links = view.get("links").and_then(Value::as_array).cloned().unwrap_or_default();
    let own = links
        .iter()
        .filter(|link| link.get("alias").and_then(Value::as_str).is_some_and(|alias| alias.contains(owner)));
    own.filter_map(|link| link.get("name")?.as_str().map(String::from)).collect()
}

/// One line an object, without what the kernel counts or draws by lot.
fn shown_list(value: Value) -> String {
    let Value::Array(list) = value else { return value.to_string() };
    let link_local = |object: &Value| object.to_string().contains("\"fe80:");
    let mut lines: Vec<String> = list
        .into_iter()
        .filter(|object| !link_local(object))
        .map(|mut object| {
            without_numbers(&mut object);
            without_counters(&object.to_string())
        })
        .collect();
    lines.sort();
    lines.join("\n")
}

/// `counter packets 1 bytes 40` in a rule's text.
fn without_counters(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').collect();
    let counted = |at: usize| {
        at.checked_sub(1)
            .and_then(|before| words.get(before))
            .is_some_and(|word| matches!(*word, "packets" | "bytes"))
    };
    let kept = words.iter().enumerate().map(|(at, word)| if counted(at) { "N" } else { word });
    kept.collect::<Vec<_>>().join(" ")
}

fn without_numbers(value: &mut Value) {
    const VARIES: [&str; 14] = [
        "index",
        "peer_index",
        "peer",
        "master",
        "mac",
        "handle",
        "netns_id",
        "link",
        "statistics",
        "packets",
        "bytes",
        "address_mac",
        "peer_netns",
        "expires",
    ];
    match value {
        Value::Object(map) => {
            map.retain(|key, value| {
                !(VARIES.contains(&key.as_str()) && (value.is_number() || key.contains("mac")))
            });
            map.values_mut().for_each(without_numbers);
        }
        Value::Array(list) => list.iter_mut().for_each(without_numbers),
        _ => {}
    }
}

/// What differs, a fact at a time, a line at a time.
pub fn difference(run: &Facts, by_hand: &Facts) -> Vec<String> {
    let names: std::collections::BTreeSet<&String> = run.keys().chain(by_hand.keys()).collect();
    let none = String::from("(not there)");
    let mut all = Vec::new();
    for name in names {
        let (a, b) = (run.get(name).unwrap_or(&none), by_hand.get(name).unwrap_or(&none));
        if a == b {
            continue;
        }
        all.push(format!("{name}:"));
        let (left, right): (Vec<&str>, Vec<&str>) = (a.lines().collect(), b.lines().collect());
        all.extend(
            left.iter().filter(|line| !right.contains(line)).map(|line| format!("  container run: {line}")),
        );
        all.extend(
            right.iter().filter(|line| !left.contains(line)).map(|line| format!("  by hand:       {line}")),
        );
        if left.iter().all(|line| right.contains(line)) && right.iter().all(|line| left.contains(line)) {
            all.push(format!(
                "  container run, in this order: {left:?}\n  by hand, in this order:       {right:?}"
            ));
        }
    }
    all
}
