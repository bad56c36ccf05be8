//! The eight namespace types, each by making one.

use super::place::Facts;
use super::{Finding, Need, Probe};
use drydock_core::{Error, Result};
use drydock_namespaces::{Kind, Set};

const ROOT_FIX: &str = "run as root, or make user namespaces work for this user (see users)";

macro_rules! probe {
    ($kind:ident, $id:literal, $lost:literal, $options:expr, $need:expr) => {
        Probe {
            id: $id,
            group: "namespaces",
            what: $id,
            lost: $lost,
            fix: ROOT_FIX,
            options: $options,
            need: $need,
            test: |facts| new(facts, Kind::$kind),
        }
    };
}

pub(super) const PROBES: &[Probe] = &[
    probe!(
        Mount,
        "mnt namespace",
        "container run, init --root, unshare --mount",
        &["CONFIG_NAMESPACES"],
        Need::All
    ),
    probe!(
        Pid,
        "pid namespace",
        "container run without --ns pid=host, unshare --pid",
        &["CONFIG_PID_NS"],
        Need::All
    ),
    probe!(
        Network,
        "net namespace",
        "container run without --net host, netsetup ns",
        &["CONFIG_NET_NS"],
        Need::All
    ),
    probe!(
        Ipc,
        "ipc namespace",
        "container run without --ns ipc=host, unshare --ipc",
        &["CONFIG_IPC_NS"],
        Need::All
    ),
    probe!(
        Uts,
        "uts namespace",
        "container run without --ns uts=host, --hostname",
        &["CONFIG_UTS_NS"],
        Need::All
    ),
    probe!(
        Cgroup,
        "cgroup namespace",
        "container run without --ns cgroup=host",
        &["CONFIG_CGROUPS"],
        Need::All
    ),
    probe!(
        Time,
        "time namespace",
        "unshare --time, --boottime, --monotonic",
        &["CONFIG_TIME_NS"],
        Need::None
    ),
];

fn new(facts: &Facts, kind: Kind) -> Result<Finding> {
    if !std::path::Path::new("/proc/self/ns").is_dir() {
        let error = Error::failed("/proc/self/ns", "is not there, so nothing can be told");
        return Err(error.hint("mount -t proc proc /proc"));
    }
    kind.require()?;
    let path = format!("/proc/self/ns/{}", kind.proc_name());
    let before = std::fs::read_link(&path).ok();
    facts.inside(Set::EMPTY.with(kind), move || {
        // A new pid namespace has no view in the old /proc, whose "self" does not exist there.
        if kind == Kind::Pid {
            let pid = std::process::id();
            return if pid == 1 {
                Finding::ok("PID 1")
            } else {
                Finding::missing(format!("is process {pid}, not 1"))
            };
        }
        match std::fs::read_link(&path) {
            Ok(now) if Some(&now) != before.as_ref() => Finding::ok(now.display().to_string()),
            Ok(now) => {
                Finding::missing(format!("clone3({}) gave no new one: {}", kind.flag_name(), now.display()))
            }
            Err(e) => Err(Error::call(format!("readlink({path:?})"), e)),
        }
    })
}
