//! What can be measured: every cgroup with processes, named by whoever made it, and containers that have no cgroup of
//! their own, found by their pid namespace.

use super::cgroups;
use super::names::Names;
use super::runtimes::{self, Maker};
use super::scan::{Depth, read_process};
use super::target::{Container, containers};
use crate::procfs::mountinfo::Mount;
use crate::procfs::{Proc, cgroup};
use drydock_core::Result;
use drydock_namespaces::{Kind, NamespaceId};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// One of them.
#[derive(Clone, Debug, Default)]
pub struct Unit {
    /// The container's name, else the cgroup's path.
    pub name: String,
    /// Name of the Drydock container.
    pub container: Option<String>,
    /// Who made it, as far as its path tells.
    pub maker: Option<Maker>,
    /// The cgroup's path as we see it, the longest of the hierarchies'.
    pub path: String,
    /// Its directories, one a hierarchy.
    pub directories: Vec<PathBuf>,
    /// Its processes, ascending.
    pub pids: Vec<u32>,
    /// Its pid namespace, if that is what tells it from others in the same cgroup.
    pub pid_namespace: Option<u64>,
}

impl Unit {
    /// It is a container, not a service or a session.
    pub fn is_container(&self) -> bool {
        self.container.is_some()
            || self.pid_namespace.is_some()
            || self.maker.as_ref().is_some_and(|m| m.container)
    }

    /// Who made it: `drydock`, `docker`, …
    pub fn runtime(&self) -> Option<&'static str> {
        if self.container.is_some() { Some("drydock") } else { self.maker.as_ref().map(|m| m.runtime) }
    }
}

/// What was read of a process: the text of its cgroup file, its pid namespace, and how often it was seen since.
type Seen = (Rc<str>, Option<u64>, u32);

/// Finds them, again and again with little work: a process is read when it is new, and now and then.
#[derive(Debug, Default)]
pub struct Finder {
    root: Option<PathBuf>,
    mounts: Vec<Mount>,
    known: Vec<Container>,
    /// Containers whose state could not be read.
    pub unreadable: usize,
    seen: HashMap<u32, Seen>,
    named: HashMap<Rc<str>, Unit>,
    names: Names,
    own: Option<u64>,
    turn: u32,
    /// Find the cgroups above others, too.
    pub ancestors: bool,
}

/// A process is read again after 1, 2, 4, 8 looks (whoever starts one moves it soon), and then after so many.
const AGAIN: u32 = 16;
/// Mounts and names are.
const AFRESH: u32 = 30;

impl Finder {
    /// With nothing read yet.
    pub fn new(root: Option<&Path>) -> Self {
        Self { root: root.map(Path::to_path_buf), ..Self::default() }
    }

    /// All units now, by their names.
    ///
    /// # Errors
    /// When /proc cannot be listed; a wrong `--root`.
    pub fn find(&mut self, proc: &Proc) -> Result<BTreeMap<String, Unit>> {
        if self.turn.is_multiple_of(AFRESH) {
            self.mounts = cgroups::mounts(proc).unwrap_or_default();
            self.own = NamespaceId::of_self(Kind::Pid).ok().map(|id| id.ino);
            self.named.clear();
            self.read_containers()?;
        }
        let groups = self.groups(proc)?;
        self.turn = self.turn.wrapping_add(1);
        let mut found: BTreeMap<String, Unit> = BTreeMap::new();
        for (text, spaces) in groups {
            let unit = self.name(proc, &text, &spaces);
            // Containers without a cgroup of their own stand among the machine's processes.
            let mixed =
                self.own.is_some_and(|own| spaces.contains_key(&Some(own))) && unit.container.is_none();
            for (space, pids) in spaces {
                let mut unit = unit.clone();
                if let Some(inode) = space.filter(|s| mixed && Some(*s) != self.own) {
                    unit = of_namespace(proc, inode, &pids, unit.directories);
                }
                let entry =
                    found.entry(unit.name.clone()).or_insert_with(|| Unit { pids: Vec::new(), ..unit });
                entry.pids.extend(pids);
            }
        }
        for unit in found.values_mut() {
            unit.pids.sort_unstable();
        }
        if self.ancestors {
            add_ancestors(&mut found);
        }
        Ok(found)
    }

    fn read_containers(&mut self) -> Result<()> {
        // Cgroups are there without a state directory, too; a wrong --root is still an error.
        (self.known, self.unreadable) = match containers(self.root.as_deref()) {
            Err(error) if error.kind() == drydock_core::Kind::Failed => (Vec::new(), 0),
            other => other?,
        };
        Ok(())
    }

    /// Processes by what their cgroup file says, and by pid namespace.
    #[allow(clippy::type_complexity)]
    fn groups(&mut self, proc: &Proc) -> Result<BTreeMap<Rc<str>, BTreeMap<Option<u64>, Vec<u32>>>> {
        let pids = proc.pids()?;
        let mut seen = HashMap::with_capacity(pids.len());
        let mut texts: BTreeSet<Rc<str>> = self.named.keys().cloned().collect();
        let mut groups: BTreeMap<Rc<str>, BTreeMap<Option<u64>, Vec<u32>>> = BTreeMap::new();
        for pid in pids {
            let due = pid % AGAIN == self.turn % AGAIN;
            let old = self.seen.remove(&pid);
            let times = old.as_ref().map_or(0, |seen| seen.2.saturating_add(1));
            let again = if times < AGAIN { times.is_power_of_two() } else { due };
            let known = old.filter(|_| !again);
            // A process that has gone or is closed to us stands nowhere.
            let Some(mut now) = known.or_else(|| read(proc, pid, &mut texts)) else { continue };
            now.2 = times;
            groups.entry(now.0.clone()).or_default().entry(now.1).or_default().push(pid);
            seen.insert(pid, now);
        }
        self.seen = seen;
        Ok(groups)
    }

    fn name(&mut self, proc: &Proc, text: &Rc<str>, spaces: &BTreeMap<Option<u64>, Vec<u32>>) -> Unit {
        if let Some(known) = self.named.get(text) {
            return known.clone();
        }
        // One that ends meanwhile cannot be located; the next one can.
        let pids = spaces.values().flatten();
        let places = pids.filter_map(|pid| cgroups::places(proc, &self.mounts, *pid).ok()).next();
        let directories = cgroups::directories(&places.unwrap_or_default());
        let fits = |known: &[Container]| {
            known
                .iter()
                .find(|c| directories.iter().any(|d| c.cgroup.iter().any(|own| d.starts_with(own))))
                .cloned()
        };
        let mut container = fits(&self.known);
        let path =
            cgroup::parse(text).into_iter().map(|m| m.path).max_by_key(String::len).unwrap_or_default();
        if container.is_none() && self.turn > 0 && self.read_containers().is_ok() {
            container = fits(&self.known);
        }
        let maker = runtimes::of_path(&path);
        let unit = match container {
            Some(container) => Unit {
                name: container.id.clone(),
                container: Some(container.id),
                directories: container.cgroup,
                maker,
                path,
                ..Unit::default()
            },
            None => {
                let called = maker.as_ref().filter(|m| m.container).map(|m| {
                    let short: String = m.id.chars().take(if m.id.len() == 64 { 12 } else { 64 }).collect();
                    self.names.of(m.runtime, &m.id).unwrap_or_else(|| drydock_core::text::escape(&short))
                });
                Unit {
                    name: called.unwrap_or_else(|| path.clone()),
                    maker,
                    path,
                    directories,
                    ..Unit::default()
                }
            }
        };
        self.named.insert(text.clone(), unit.clone());
        unit
    }
}

/// Cgroups without processes of their own.
fn add_ancestors(found: &mut BTreeMap<String, Unit>) {
    let mut paths: BTreeSet<String> = found.values().map(|unit| unit.path.clone()).collect();
    let units: Vec<Unit> = found.values().filter(|unit| unit.path.starts_with('/')).cloned().collect();
    for unit in units {
        let mut path = unit.path.as_str();
        // A hierarchy in which the process is elsewhere has other directories above.
        let mut directories: Vec<PathBuf> =
            unit.directories.iter().filter(|d| d.to_string_lossy().ends_with(path)).cloned().collect();
        while let Some((above, _)) = path.rsplit_once('/').filter(|(above, _)| !above.is_empty()) {
            path = above;
            directories = directories.iter().filter_map(|d| d.parent().map(Path::to_path_buf)).collect();
            if paths.insert(path.to_string()) {
                let (name, maker) = (path.to_string(), runtimes::of_path(path));
                let directories = directories.clone();
                let above = Unit { name, maker, path: path.to_string(), directories, ..Unit::default() };
                found.insert(path.to_string(), above);
            }
        }
    }
}

fn read(proc: &Proc, pid: u32, texts: &mut BTreeSet<Rc<str>>) -> Option<Seen> {
    let text = proc.small(&format!("{pid}/cgroup")).ok()?;
    let text = match texts.get(text.as_str()) {
        Some(known) => known.clone(),
        None => {
            let text: Rc<str> = text.into();
            texts.insert(text.clone());
            text
        }
    };
    let space = rustix::fs::statat(proc.root(), format!("{pid}/ns/pid"), rustix::fs::AtFlags::empty());
    Some((text, space.ok().map(|s| s.st_ino), 0))
}

/// Processes in a pid namespace of their own, in the cgroup of others.
fn of_namespace(proc: &Proc, inode: u64, pids: &[u32], directories: Vec<PathBuf>) -> Unit {
    let first = pids.iter().min().copied().unwrap_or(0);
    let comm = proc.line(&format!("{first}/comm")).unwrap_or_default();
    let maker = read_process(proc, first, Depth::Processes).ok().flatten().map(|_| Maker {
        runtime: "namespace",
        id: format!("pid:[{inode}]"),
        container: true,
    });
    Unit {
        name: format!("pid:[{inode}] {comm}"),
        path: format!("pid:[{inode}]"),
        maker,
        directories,
        pid_namespace: Some(inode),
        ..Unit::default()
    }
}
