//! The machine as one picture: groups of processes with their namespaces, how networks hang together, who owns what.

use super::cables::{self, Cable, Net};
use super::namespaces::{Inventory, inventory};
use super::relations::{self, Relation};
use super::scan::{Id, Process};
use super::units::{Finder, Unit};
use super::usage;
use crate::Session;
use crate::procfs::{Proc, idmap, mountinfo};
use drydock_core::Result;
use drydock_namespaces::Kind;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// One namespace of a group.
#[derive(Clone, Debug, Serialize)]
pub struct Space {
    /// Type.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Inode number.
    pub ns: u64,
    /// It is not the machine's.
    pub own: bool,
}

/// Processes that are in the same namespaces.
#[derive(Clone, Debug, Serialize)]
pub struct Group {
    /// `machine` for the first.
    pub name: String,
    /// Who made it.
    pub runtime: Option<&'static str>,
    /// The lowest pid.
    pub pid: u32,
    /// That process's command.
    pub command: String,
    /// Processes.
    pub nprocs: usize,
    /// Its namespaces.
    pub namespaces: Vec<Space>,
    /// Owner of its own namespaces: a user namespace.
    pub owner: Option<u64>,
    /// The group that its pid namespace is nested in, by name.
    pub inside: Option<String>,
    /// Id map of its own user namespace, in words.
    pub id_map: Option<String>,
    /// Its cgroup.
    pub cgroup: String,
    /// Memory in use and the limit.
    pub memory: Option<(u64, Option<u64>)>,
    /// How many mounts it sees.
    pub mounts: usize,
    /// The most telling of them, in words: its root, and what of the machine it can reach.
    pub notable_mounts: Vec<String>,
}

/// A namespace that nothing but a mount, a descriptor or a socket keeps.
#[derive(Clone, Debug, Serialize)]
pub struct Loose {
    /// Type.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Inode number.
    pub ns: u64,
    /// What keeps it, in words.
    pub held_by: String,
}

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct Graph {
    /// The machine first.
    pub groups: Vec<Group>,
    /// Namespaces without processes.
    pub loose: Vec<Loose>,
    /// Network namespaces with their devices.
    pub networks: Vec<Net>,
    /// Pairs of devices across namespaces.
    pub cables: Vec<Cable>,
    /// What is not drawn or could not be read, in sentences.
    pub notes: Vec<String>,
}

impl Graph {
    /// The network of a group.
    pub fn network(&self, group: &Group) -> Option<&Net> {
        let ns = group.namespaces.iter().find(|s| s.kind == "net")?.ns;
        self.networks.iter().find(|n| n.ns == ns)
    }
}

/// Looks at everything; with `only`, at the machine and the groups of these processes.
///
/// # Errors
/// When /proc cannot be read.
pub fn graph(session: &Session, only: &[u32], all: bool) -> Result<Graph> {
    let found = inventory(&session.proc)?;
    let machine = Machine::of(&found);
    let mut groups: BTreeMap<Vec<u64>, Vec<&Process>> = BTreeMap::new();
    let mut left_out = 0;
    for process in &found.scan.processes {
        match machine.key(process, all) {
            Some(key) => groups.entry(key).or_default().push(process),
            None => left_out += 1,
        }
    }
    let units: BTreeMap<u32, Unit> = Finder::new(session.root.as_deref())
        .find(&session.proc)?
        .into_values()
        .flat_map(|unit| unit.pids.clone().into_iter().map(move |pid| (pid, unit.clone())))
        .collect();
    let is_wanted = |key: &Vec<u64>, members: &[&Process]| {
        only.is_empty() || key.is_empty() || members.iter().any(|p| only.contains(&p.pid))
    };
    groups.retain(|key, members| is_wanted(key, members));
    let maker = Maker { session, found: &found, machine: &machine, units: &units };
    let mut made: Vec<Group> =
        groups.into_iter().filter_map(|(key, members)| maker.group(key.is_empty(), &members)).collect();
    made.sort_by_key(|g| (g.name != MACHINE, g.pid));
    name_apart(&mut made);
    nest(&mut made, &found);
    let mut notes = found.notes();
    if left_out > 0 {
        notes.push(format!(
            "{left_out} processes with namespaces of their own, but none of type pid, net or user, are not drawn (--all draws them)"
        ));
    }
    let loose: Vec<Loose> = if only.is_empty() { loose(&found) } else { Vec::new() };
    let shown: BTreeSet<u64> = made
        .iter()
        .flat_map(|g| &g.namespaces)
        .filter(|s| s.kind == "net")
        .map(|s| s.ns)
        .chain(loose.iter().filter(|l| l.kind == "net").map(|l| l.ns))
        .collect();
    let (networks, cables) = cables::look(&session.proc, &found, &shown, &mut notes);
    Ok(Graph { groups: made, loose, networks, cables, notes })
}

/// The first group's name.
pub const MACHINE: &str = "machine";

/// The namespaces of the machine: those of the process with the lowest pid that we may look at.
struct Machine(BTreeMap<Kind, u64>);

impl Machine {
    fn of(found: &Inventory) -> Self {
        let first = found.scan.processes.first();
        let spaces = Kind::ALL.into_iter().filter_map(|k| Some((k, first?.namespace(k)?)));
        Self(spaces.collect())
    }

    fn own(&self, process: &Process, kind: Kind) -> Option<u64> {
        process.namespace(kind).filter(|ns| self.0.get(&kind) != Some(ns))
    }

    /// What tells a group; empty for the machine; `None` for what is not drawn.
    fn key(&self, process: &Process, all: bool) -> Option<Vec<u64>> {
        let own =
            |kinds: &[Kind]| kinds.iter().map(|k| self.own(process, *k).unwrap_or(0)).collect::<Vec<u64>>();
        let telling = [Kind::Pid, Kind::Network, Kind::User];
        let rest = [Kind::Mount, Kind::Ipc, Kind::Uts, Kind::Cgroup, Kind::Time];
        let is_empty = |key: &[u64]| key.iter().all(|n| *n == 0);
        match (own(&telling), own(&rest)) {
            (first, second) if is_empty(&first) && is_empty(&second) => Some(Vec::new()),
            (first, second) if all => Some([first, second].concat()),
            // What is in the same of these belongs together, whatever else it has.
            (first, _) if !is_empty(&first) => Some(first),
            _ => None,
        }
    }
}

struct Maker<'a> {
    session: &'a Session,
    found: &'a Inventory,
    machine: &'a Machine,
    units: &'a BTreeMap<u32, Unit>,
}

impl Maker<'_> {
    fn group(&self, machine: bool, members: &[&Process]) -> Option<Group> {
        let first = members.iter().min_by_key(|p| p.pid)?;
        let proc = &self.session.proc;
        let space = |kind: Kind| {
            let ns = first.namespace(kind)?;
            Some(Space { kind: kind.proc_name(), ns, own: self.machine.own(first, kind).is_some() })
        };
        let namespaces: Vec<Space> = Kind::ALL.into_iter().filter_map(space).collect();
        let unit = self.units.get(&first.pid);
        let container = unit.filter(|u| u.is_container() && u.pid_namespace.is_none());
        let comm = proc.line(&format!("{}/comm", first.pid)).unwrap_or_default();
        let name = match container {
            _ if machine => MACHINE.to_string(),
            Some(unit) => unit.name.clone(),
            None => comm,
        };
        let own = |kind: Kind| self.machine.own(first, kind).map(|ns| (kind, ns));
        let owned = [Kind::Mount, Kind::Pid, Kind::Network, Kind::Ipc, Kind::Uts].into_iter().find_map(own);
        let owner = owned.and_then(|id: Id| self.found.namespaces.get(&id)?.owner.inode());
        let mounts = mountinfo::parse(&proc.text(&format!("{}/mountinfo", first.pid)).unwrap_or_default());
        // The figures of a cgroup that others are in as well say nothing of this group.
        let unit = unit.filter(|u| u.pid_namespace.is_none());
        let memory = unit.filter(|_| !machine).and_then(|u| {
            u.directories
                .iter()
                .find_map(|d| usage::memory_limit(d))
                .map(|(max, now)| (now, (max < u64::MAX).then_some(max)))
        });
        Some(Group {
            runtime: container.and_then(Unit::runtime),
            pid: first.pid,
            command: proc.command(first.pid),
            nprocs: members.len(),
            owner: owner.filter(|_| !machine),
            inside: None,
            id_map: own(Kind::User).and_then(|_| id_map(proc, first.pid)),
            cgroup: unit.map(|u| u.path.clone()).unwrap_or_default(),
            memory,
            mounts: mounts.len(),
            notable_mounts: if machine { Vec::new() } else { notable(&mounts) },
            namespaces,
            name,
        })
    }
}

fn id_map(proc: &Proc, pid: u32) -> Option<String> {
    let map = idmap::parse(&proc.text(&format!("{pid}/uid_map")).ok()?);
    let first = map.first()?;
    Some(format!("uid {} inside is {} outside ({} ids)", first.inside, first.outside, first.count))
}

/// The root, and what is mounted from a directory of the machine.
fn notable(mounts: &[mountinfo::Mount]) -> Vec<String> {
    let mut all = Vec::new();
    for mount in mounts {
        let virtual_fs =
            ["proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2", "devtmpfs", "nsfs"];
        let read_only = if mount.options.split(',').any(|o| o == "ro") { " (ro)" } else { "" };
        if mount.target == "/" {
            all.insert(0, format!("/ {}{read_only}", mount.fstype));
        } else if mount.root != "/" && !virtual_fs.contains(&mount.fstype.as_str()) {
            all.push(format!("{} from {}{read_only}", mount.target, mount.root));
        }
    }
    all
}

/// Groups of one name get their pids.
fn name_apart(groups: &mut [Group]) {
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for group in groups.iter() {
        *times.entry(group.name.clone()).or_default() += 1;
    }
    for group in groups.iter_mut().filter(|g| times.get(&g.name).is_some_and(|n| *n > 1)) {
        group.name = format!("{} ({})", group.name, group.pid);
    }
}

/// Who is nested in whom, by the parents of pid namespaces.
fn nest(groups: &mut [Group], found: &Inventory) {
    let space = |g: &Group| g.namespaces.iter().find(|s| s.kind == "pid" && s.own).map(|s| s.ns);
    let names: BTreeMap<u64, String> =
        groups.iter().filter_map(|g| Some((space(g)?, g.name.clone()))).collect();
    for group in groups {
        let parent = space(group).and_then(|ns| found.namespaces.get(&(Kind::Pid, ns))).map(|ns| ns.parent);
        group.inside = match parent {
            Some(Relation::Is(inode)) => names.get(&inode).cloned(),
            _ => None,
        };
    }
}

fn loose(found: &Inventory) -> Vec<Loose> {
    let empty = found.namespaces.iter().filter(|(_, ns)| ns.nprocs == 0 && ns.is_held());
    let row = |((kind, inode), ns): (&Id, &super::namespaces::Namespace)| {
        let mount = ns.mounts.first().map(|(_, path)| format!("mounted at {path}"));
        let hidden =
            ns.hidden_mounts.first().map(|(space, path)| format!("mounted at {path} in mnt:[{space}]"));
        let thread = ns.threads.first().map(|(pid, _)| format!("thread of {pid}"));
        let fd = ns.fds.first().map(|(pid, fd)| format!("descriptor {fd} of {pid}"));
        let socket = ns.sockets.first().map(|(pid, fd)| format!("socket {fd} of {pid}"));
        let children = ns.for_children_of.first().map(|pid| format!("for children of {pid}"));
        let held_by = mount.or(hidden).or(thread).or(fd).or(socket).or(children).unwrap_or_default();
        Loose { kind: kind.proc_name(), ns: *inode, held_by }
    };
    empty.map(row).collect()
}

/// Opens a namespace that was found.
pub fn open(proc: &Proc, found: &Inventory, id: Id) -> Option<std::os::fd::OwnedFd> {
    relations::open(proc, id, found.namespaces.get(&id)?)
}
