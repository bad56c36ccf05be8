//! Everything about one process and those that belong to it (S77), whoever started it.

use super::cgroups::{self, Place};
use super::processes::{self, Row};
use super::scan::{Depth, LINKS, read_process};
use super::target::{Target, read_stat, unreadable};
use crate::procfs::idmap::{self, Extent};
use crate::procfs::{Proc, numbers, status};
use drydock_core::{Error, Result};
use drydock_security::capset::CapSet;
use serde::Serialize;
use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

/// One link of `/proc/PID/ns`.
#[derive(Clone, Debug, Serialize)]
pub struct Link {
    /// Name of the link: a type, or `pid_for_children`, `time_for_children`.
    pub name: &'static str,
    /// The namespace's type.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Inode number; null when the process has none (yet).
    pub inode: Option<u64>,
    /// Device number of nsfs: with the inode number it identifies the namespace.
    pub dev: Option<u64>,
    /// As readlink(1) shows it: `net:[4026531833]`.
    pub link: Option<String>,
}

/// One capability set.
#[derive(Clone, Debug, Serialize)]
pub struct Capabilities {
    /// The mask as `/proc/PID/status` has it.
    pub hex: String,
    /// Names, lowest number first.
    pub names: Vec<String>,
}

/// The five sets.
#[derive(Clone, Debug, Serialize)]
pub struct CapabilitySets {
    /// What it may use now.
    pub effective: Option<Capabilities>,
    /// What it may make effective.
    pub permitted: Option<Capabilities>,
    /// What survives execve(2) with file capabilities.
    pub inheritable: Option<Capabilities>,
    /// The limit of what it can ever gain.
    pub bounding: Option<Capabilities>,
    /// What survives execve(2) without file capabilities.
    pub ambient: Option<Capabilities>,
}

/// A process in the tree.
#[derive(Clone, Debug, Serialize)]
pub struct Node {
    /// How far below the inspected process.
    pub depth: usize,
    /// The process.
    #[serde(flatten)]
    pub row: Row,
}

/// The report of `monitor inspect`.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// Pid as the reader sees it.
    pub pid: u32,
    /// Name of the Drydock container, if one was named.
    pub container: Option<String>,
    /// The process itself.
    pub process: Row,
    /// Real group id.
    pub gid: Option<u32>,
    /// Open descriptors; null when closed to us.
    pub fds: Option<usize>,
    /// Its namespaces.
    pub namespaces: Vec<Link>,
    /// Names of its network namespace under `/run/netns`, as `ip netns identify` finds them.
    pub netns_names: Vec<String>,
    /// uid map of its user namespace.
    pub uid_map: Vec<Extent>,
    /// gid map of its user namespace.
    pub gid_map: Vec<Extent>,
    /// Its cgroup in every hierarchy.
    pub cgroups: Vec<Place>,
    /// Its capabilities.
    pub capabilities: CapabilitySets,
    /// `none`, `strict` or `filter`.
    pub seccomp: Option<&'static str>,
    /// Number of seccomp filters.
    pub seccomp_filters: Option<u32>,
    /// Whether execve(2) can no longer give privileges.
    pub no_new_privs: Option<bool>,
    /// AppArmor or SELinux label, if the kernel has such a module.
    pub lsm_label: Option<String>,
    /// Added to the score by which the kernel picks what to kill when memory runs out.
    pub oom_score_adj: Option<i32>,
    /// It and what belongs to it, parents first.
    pub processes: Vec<Node>,
    /// What could not be seen, in sentences.
    pub notes: Vec<String>,
}

/// The links of process `pid`.
///
/// # Errors
/// When the process has gone, or its namespaces are closed to us.
pub fn links(proc: &Proc, pid: u32) -> Result<Vec<Link>> {
    let process = read_process(proc, pid, Depth::Processes).map_err(|e| unreadable(pid, "ns", e))?;
    let process = process.ok_or_else(|| Error::bad_input(format!("process {pid}"), "no such process"))?;
    // All namespace files are on one nsfs: one stat tells the device of all.
    let dev = std::fs::metadata("/proc/self/ns/user").map(|m| m.dev()).ok();
    let link = |((name, kind, _), inode): (
        &(&'static std::ffi::CStr, drydock_namespaces::Kind, bool),
        &Option<NonZeroU64>,
    )| {
        let inode = inode.map(NonZeroU64::get);
        Link {
            name: name.to_str().unwrap_or(""),
            kind: kind.proc_name(),
            inode,
            dev: inode.and(dev),
            link: inode.map(|n| format!("{kind}:[{n}]")),
        }
    };
    Ok(LINKS.iter().zip(&process.links).map(link).collect())
}

/// Looks at the target.
///
/// # Errors
/// When the process has gone. What is closed to us is left out and said in [`Inspection::notes`].
pub fn inspect(proc: &Proc, target: &Target) -> Result<Inspection> {
    let pid = target.pid;
    read_stat(proc, pid)?;
    let status_text = proc.text(&format!("{pid}/status")).map_err(|e| unreadable(pid, "status", e))?;
    let status = status::parse(&status_text);
    let rows = processes::all(proc)?;
    let process = rows
        .get(&pid)
        .cloned()
        .ok_or_else(|| Error::bad_input(format!("process {pid}"), "no such process"))?;
    // Without ptrace access the rest can still be told.
    let (namespaces, note) = match links(proc, pid) {
        Err(error) if error.kind() == drydock_core::Kind::Failed => (Vec::new(), Some(error.to_string())),
        other => (other?, None),
    };
    let mounts = cgroups::mounts(proc).unwrap_or_default();
    let places = cgroups::places(proc, &mounts, pid).map_err(|e| unreadable(pid, "cgroup", e))?;
    let net = namespaces.iter().find(|l| l.name == "net").and_then(|l| l.inode.zip(l.dev));
    let map = |file: &str| idmap::parse(&proc.text(&format!("{pid}/{file}")).unwrap_or_default());
    Ok(Inspection {
        pid,
        container: target.container.as_ref().map(|c| c.id.clone()),
        process,
        gid: status.gid,
        fds: count_fds(proc, pid),
        netns_names: net.map_or_else(Vec::new, |(inode, dev)| netns_names(inode, dev)),
        namespaces,
        uid_map: map("uid_map"),
        gid_map: map("gid_map"),
        cgroups: places,
        capabilities: capabilities(&status),
        seccomp: status.seccomp.and_then(seccomp_mode),
        seccomp_filters: status.seccomp_filters,
        no_new_privs: status.no_new_privs,
        lsm_label: label(proc, pid),
        oom_score_adj: proc.line(&format!("{pid}/oom_score_adj")).ok().and_then(|t| t.parse().ok()),
        processes: tree(proc, &rows, pid),
        notes: note.into_iter().collect(),
    })
}

fn tree(proc: &Proc, rows: &std::collections::BTreeMap<u32, Row>, pid: u32) -> Vec<Node> {
    let members = processes::members(proc, rows, pid);
    let own =
        rows.iter().filter(|(pid, _)| members.contains(pid)).map(|(pid, row)| (*pid, row.clone())).collect();
    let mut order = processes::subtree(&own, pid);
    // Processes that entered from outside (exec into the container) have parents elsewhere.
    for root in processes::roots(&own) {
        if root != pid && !order.iter().any(|(_, known)| *known == root) {
            order.extend(processes::subtree(&own, root));
        }
    }
    order.into_iter().filter_map(|(depth, pid)| Some(Node { depth, row: own.get(&pid)?.clone() })).collect()
}

fn count_fds(proc: &Proc, pid: u32) -> Option<usize> {
    let dir = proc.directory(&format!("{pid}/fd"), true).ok()?;
    numbers(dir.as_fd()).ok().map(|fds| fds.len())
}

/// The AppArmor or SELinux label of a process, if the kernel has such a module.
pub fn label(proc: &Proc, pid: u32) -> Option<String> {
    // EINVAL without a security module that has labels.
    let text = proc.line(&format!("{pid}/attr/current")).ok()?;
    let text = text.trim_end_matches("\\x00").to_string();
    (!text.is_empty()).then_some(text)
}

/// The names under `/run/netns` of one network namespace, as `ip netns identify` finds them.
pub fn netns_names(inode: u64, dev: u64) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return Vec::new() };
    let same = |path: std::path::PathBuf| {
        // lstat: a link could lead to a file system that hangs.
        std::fs::symlink_metadata(path).is_ok_and(|m| m.ino() == inode && m.dev() == dev)
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|e| same(e.path()))
        .map(|e| drydock_core::text::escape(&e.file_name().to_string_lossy()))
        .collect();
    names.sort();
    names
}

fn capabilities(status: &status::Status) -> CapabilitySets {
    let set = |mask: Option<u64>| {
        mask.map(|mask| Capabilities { hex: format!("{mask:016x}"), names: CapSet(mask).names() })
    };
    CapabilitySets {
        effective: set(status.cap_effective),
        permitted: set(status.cap_permitted),
        inheritable: set(status.cap_inheritable),
        bounding: set(status.cap_bounding),
        ambient: set(status.cap_ambient),
    }
}

fn seccomp_mode(mode: u32) -> Option<&'static str> {
    ["none", "strict", "filter"].get(usize::try_from(mode).ok()?).copied()
}
