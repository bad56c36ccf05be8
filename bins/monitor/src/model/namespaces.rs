//! Every namespace that can be found, and what keeps it alive.

use super::relations::{self, Relation};
use super::scan::{Depth, Id, LINKS, Scan, own, scan};
use crate::procfs::{Proc, mountinfo, nslink};
use drydock_core::Result;
use drydock_namespaces::Kind;
use std::collections::BTreeMap;
use std::num::NonZeroU64;

/// One namespace.
#[derive(Clone, Debug, Default)]
pub struct Namespace {
    /// Processes in it.
    pub nprocs: usize,
    /// The process in it with the lowest pid.
    pub pid: Option<u32>,
    /// Processes whose children will be in it (`pid_for_children`, `time_for_children`).
    pub for_children_of: Vec<u32>,
    /// Threads in it whose process is not: (pid, tid).
    pub threads: Vec<(u32, u32)>,
    /// Open descriptors: (pid, descriptor).
    pub fds: Vec<(u32, u32)>,
    /// Sockets of processes that are elsewhere: (pid, descriptor).
    pub sockets: Vec<(u32, u32)>,
    /// Bind mounts: (a process that sees it, its path there).
    pub mounts: Vec<(u32, String)>,
    /// Bind mounts in mount namespaces without processes: (inode number of the mount namespace, path there).
    pub hidden_mounts: Vec<(u64, String)>,
    /// The user namespace that owns it.
    pub owner: Relation,
    /// The parent, for pid and user namespaces.
    pub parent: Relation,
    /// For a user namespace: who created it.
    pub creator: Option<u32>,
}

impl Namespace {
    /// Something besides its descendants keeps it alive.
    pub fn is_held(&self) -> bool {
        self.nprocs > 0
            || !(self.threads.is_empty()
                && self.fds.is_empty()
                && self.sockets.is_empty()
                && self.mounts.is_empty()
                && self.hidden_mounts.is_empty()
                && self.for_children_of.is_empty())
    }
}

/// All that was found.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// By type and inode number.
    pub namespaces: BTreeMap<Id, Namespace>,
    /// What was read of the processes.
    pub scan: Scan,
    /// Mount namespaces whose mounts could not be read.
    pub mounts_unreadable: usize,
    /// /proc shows only our own processes (its mount option hidepid).
    pub hidden: bool,
}

/// Finds the namespaces of all processes, threads, descriptors, bind mounts, and their ancestors.
///
/// # Errors
/// Only when /proc itself cannot be read.
pub fn inventory(proc: &Proc) -> Result<Inventory> {
    let scan = scan(proc, Depth::Everything)?;
    let mut found = Inventory { scan, ..Inventory::default() };
    found.add_processes();
    found.add_mounts(proc);
    relations::resolve(proc, &mut found.namespaces);
    if found.add_hidden_mounts(proc) {
        relations::resolve(proc, &mut found.namespaces);
    }
    found.hidden = hides_processes(proc);
    Ok(found)
}

impl Inventory {
    fn add_processes(&mut self) {
        let all = &mut self.namespaces;
        for process in &self.scan.processes {
            let pid = process.pid;
            for kind in Kind::ALL {
                let Some(inode) = process.namespace(kind) else { continue };
                let ns = all.entry((kind, inode)).or_default();
                ns.nprocs += 1;
                ns.pid = Some(ns.pid.map_or(pid, |old| old.min(pid)));
            }
            for ((_, kind, own_link), inode) in LINKS.iter().zip(&process.links) {
                let Some(inode) = inode.map(NonZeroU64::get).filter(|_| !own_link) else { continue };
                if process.namespace(*kind) != Some(inode) {
                    all.entry((*kind, inode)).or_default().for_children_of.push(pid);
                }
            }
            for (tid, links) in &process.threads {
                for kind in Kind::ALL {
                    let Some(inode) = own(links, kind) else { continue };
                    if process.namespace(kind) != Some(inode) {
                        all.entry((kind, inode)).or_default().threads.push((pid, *tid));
                    }
                }
            }
            for (fd, id) in &process.fds {
                all.entry(*id).or_default().fds.push((pid, *fd));
            }
            for (fd, inode) in &process.sockets {
                all.entry((Kind::Network, *inode)).or_default().sockets.push((pid, *fd));
            }
        }
    }

    /// Bind mounts of namespace files, in every mount namespace that some process is in.
    fn add_mounts(&mut self, proc: &Proc) {
        let spaces: Vec<u32> = self
            .namespaces
            .iter()
            .filter(|((kind, _), _)| *kind == Kind::Mount)
            .filter_map(|(_, ns)| ns.pid.or(ns.threads.first().map(|(_, tid)| *tid)))
            .collect();
        for pid in spaces {
            // Which it is, mountinfo alone tells; whether there is any, mountstats does for less.
            if proc.text(&format!("{pid}/mountstats")).is_ok_and(|text| !text.contains(" with fstype nsfs")) {
                continue;
            }
            let Ok(text) = proc.text(&format!("{pid}/mountinfo")) else {
                self.mounts_unreadable += usize::from(proc.exists(pid));
                continue;
            };
            for (id, target) in namespace_mounts(&text) {
                let mounts = &mut self.namespaces.entry(id).or_default().mounts;
                if !mounts.iter().any(|(_, known)| *known == target) {
                    mounts.push((pid, target));
                }
            }
        }
    }

    /// The same in mount namespaces that nothing but a mount or a descriptor holds: we have to go in to see them.
    /// Whether that led to namespaces that were not known.
    fn add_hidden_mounts(&mut self, proc: &Proc) -> bool {
        let known = self.namespaces.len();
        let empty = |((kind, _), ns): &(&Id, &Namespace)| {
            *kind == Kind::Mount && ns.nprocs == 0 && ns.threads.is_empty() && ns.is_held()
        };
        let spaces: Vec<(u64, Option<String>)> = self
            .namespaces
            .iter()
            .filter(empty)
            .map(|(id, ns)| {
                let opened = relations::open(proc, *id, ns);
                (id.1, opened.and_then(|fd| super::hidden::mountinfo(proc, &fd)))
            })
            .collect();
        for (space, text) in spaces {
            self.mounts_unreadable += usize::from(text.is_none());
            for (id, target) in namespace_mounts(&text.unwrap_or_default()) {
                // What others see as well says nothing new.
                let ns = self.namespaces.entry(id).or_default();
                if !ns.mounts.iter().any(|(_, known)| *known == target) {
                    ns.hidden_mounts.push((space, target));
                }
            }
        }
        self.namespaces.len() > known
    }

    /// What could not be read, as sentences; empty if nothing was hidden.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let mut add = |count: usize, one: &str, many: &str| match count {
            0 => {}
            1 => notes.push(format!("1 {one}")),
            n => notes.push(format!("{n} {many}")),
        };
        add(
            self.scan.unreadable.len(),
            "process is closed to us: its namespaces may be missing",
            "processes are closed to us: their namespaces may be missing",
        );
        add(
            self.scan.fds_unreadable,
            "process has descriptors that are closed to us",
            "processes have descriptors that are closed to us",
        );
        add(
            self.scan.sockets_unreadable,
            "socket did not tell its network namespace",
            "sockets did not tell their network namespaces",
        );
        add(
            self.mounts_unreadable,
            "mount namespace has mounts that are closed to us",
            "mount namespaces have mounts that are closed to us",
        );
        if self.hidden {
            notes.push("/proc is mounted with hidepid: other users' processes are not shown".to_string());
        }
        notes
    }
}

/// Whether /proc is mounted so that it hides other users' processes from us. Source: proc(5), hidepid. Root sees all.
fn hides_processes(proc: &Proc) -> bool {
    if nix::unistd::geteuid().is_root() {
        return false;
    }
    let text = proc.text("self/mountinfo").unwrap_or_default();
    let hides = |option: &str| option.strip_prefix("hidepid=").is_some_and(|how| !matches!(how, "0" | "off"));
    mountinfo::parse(&text).iter().any(|m| m.target == "/proc" && m.super_options.split(',').any(hides))
}

/// The namespaces that a mountinfo text shows as bind mounts.
fn namespace_mounts(text: &str) -> Vec<(Id, String)> {
    // A machine with containers has thousands of mounts, and few of them are namespaces: look before parsing.
    let lines = text.lines().filter(|line| line.contains(" - nsfs "));
    let mounts = lines.flat_map(mountinfo::parse).filter(|m| m.fstype == "nsfs");
    let id = |root: &str| nslink::parse(root).and_then(|(kind, n)| Some((super::scan::kind_named(kind)?, n)));
    mounts.filter_map(|m| Some((id(&m.root)?, m.target))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_bind_mounts() {
        let text = "36 35 0:4 net:[77] /run/netns/a\\040b rw shared:1 - nsfs nsfs rw\n\
                    37 35 0:4 nonsense /x rw - nsfs nsfs rw\n\
                    38 35 0:9 / /net:[5] rw - tmpfs nsfs rw\nbroken - nsfs x\n";
        assert_eq!(namespace_mounts(text), [((Kind::Network, 77), "/run/netns/a b".to_string())]);
    }
}
