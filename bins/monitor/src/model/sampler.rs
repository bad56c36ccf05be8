//! Measuring all units again and again: what `top`, `stats`, `record` and `serve` show.

use super::network::{self, Traffic};
use super::units::{Finder, Unit};
use super::usage::{self, Reading, Usage, between};
use crate::procfs::{Proc, stat};
use drydock_cgroups::{Figure, Meter, Needs, Stats};
use drydock_core::Result;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// One measured unit.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The container's name, else the cgroup's path.
    pub name: String,
    /// Name of the Drydock container.
    pub container: Option<String>,
    /// Who made it: `drydock`, `docker`, `podman`, `containerd`, `cri-o`, `kubernetes`, `lxc`, `nspawn`, `systemd`, `namespace`, …
    pub runtime: Option<&'static str>,
    /// Its id as its engine knows it, or the unit of systemd.
    pub id: Option<String>,
    /// It is a container, not a service or a session.
    pub is_container: bool,
    /// The cgroup's path as we see it.
    pub path: String,
    /// Its process with the lowest pid.
    pub pid: Option<u32>,
    /// Processes that we see in it.
    pub nprocs: usize,
    /// These, ascending.
    #[serde(skip)]
    pub pids: Vec<u32>,
    /// The cgroup's directories, one a hierarchy.
    pub directories: Vec<PathBuf>,
    /// `cgroup`, or `processes`: it has no cgroup of its own, its processes' figures are added up.
    pub counted_by: &'static str,
    /// Bytes until the nearest memory limit, its own or of a cgroup above.
    pub memory_headroom: Option<Headroom>,
    /// What went through its network namespace, without the loopback.
    pub network: Option<Traffic>,
    /// The figures.
    #[serde(flatten)]
    pub usage: Usage,
}

/// How much memory can still be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Headroom {
    /// Bytes.
    pub bytes: u64,
    /// The directory whose limit comes first.
    pub limited_by: PathBuf,
}

#[derive(Default)]
struct Metered {
    meter: Option<Meter>,
    /// Its directory with the memory controller's files.
    memory: Option<PathBuf>,
    last: Option<(Reading, Option<Traffic>)>,
    age: u32,
}

/// Measures.
pub struct Sampler {
    finder: Finder,
    metered: HashMap<String, Metered>,
    /// What is looked at.
    pub scope: Scope,
}

/// What is looked at: a full screen reads only what it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Counters of cgroups.
    pub needs: Needs,
    /// Counters of network namespaces.
    pub network: bool,
    /// Limits of the cgroups above.
    pub headroom: bool,
    /// The name of a unit of which everything is read.
    pub whole: Option<String>,
}

impl Default for Scope {
    fn default() -> Self {
        Self { needs: Needs::ALL, network: true, headroom: true, whole: None }
    }
}

impl Scope {
    /// Nothing but processor time and memory in use.
    pub fn least() -> Self {
        let needs = Needs::NONE.with(Figure::Memory);
        Self { needs, network: false, headroom: false, whole: None }
    }

    fn of(&self, name: &str) -> Self {
        if self.whole.as_deref() == Some(name) {
            Self::default()
        } else {
            Self { whole: None, ..self.clone() }
        }
    }
}

/// Files that were missing are looked for again after so many samples: a controller may have been enabled.
const FRESH: u32 = 60;

impl Sampler {
    /// With nothing measured yet: the first sample has no rates.
    pub fn new(root: Option<&Path>) -> Self {
        more_descriptors();
        Self { finder: Finder::new(root), metered: HashMap::new(), scope: Scope::default() }
    }

    /// Containers whose state could not be read.
    pub fn unreadable(&self) -> usize {
        self.finder.unreadable
    }

    /// Whether cgroups without processes that stand above others are measured, too: for a tree.
    pub fn ancestors(&mut self, on: bool) {
        self.finder.ancestors = on;
    }

    /// Looks at all units for which `wanted` holds.
    ///
    /// # Errors
    /// When /proc or the state directory cannot be read.
    pub fn sample(&mut self, proc: &Proc, wanted: &dyn Fn(&Unit) -> bool) -> Result<Vec<Row>> {
        let units = self.finder.find(proc)?;
        self.metered.retain(|name, _| units.contains_key(name));
        let (mut limits, mut traffic) = (BTreeMap::new(), BTreeMap::new());
        let own = network::inode(proc, "self");
        let mut rows = Vec::with_capacity(units.len());
        for (name, unit) in units {
            if wanted(&unit) {
                let scope = self.scope.of(&name);
                let net = if scope.network { network::of(proc, own, &unit.pids, &mut traffic) } else { None };
                rows.push(self.measure(proc, name, unit, net, &scope, &mut limits));
            }
        }
        Ok(rows)
    }

    /// Reads everything of a row that was sampled with less; its rates stay.
    pub fn complete(&self, proc: &Proc, row: &mut Row) {
        let Some(metered) = self.metered.get(&row.name) else { return };
        if let Some(stats) = metered.meter.as_ref().and_then(Meter::read) {
            row.usage.stats = stats;
            let own = metered.memory.as_deref();
            row.memory_headroom = own.and_then(|own| headroom(own, &row.usage.stats, &mut BTreeMap::new()));
        }
        if row.network.is_none() {
            row.network = network::of(proc, network::inode(proc, "self"), &row.pids, &mut BTreeMap::new());
        }
    }

    fn measure(
        &mut self,
        proc: &Proc,
        name: String,
        unit: Unit,
        net: Option<Traffic>,
        scope: &Scope,
        limits: &mut BTreeMap<PathBuf, Option<(u64, u64)>>,
    ) -> Row {
        let metered = self.metered.entry(name).or_default();
        metered.age += 1;
        let by_processes = unit.pid_namespace.is_some();
        let stats = if by_processes {
            Some(add_up(proc, &unit.pids))
        } else {
            if metered.meter.is_none() || metered.age.is_multiple_of(FRESH) {
                metered.meter = Meter::open(unit.directories.iter().cloned()).ok();
                metered.memory = memory_directory(&unit.directories);
            }
            metered.meter.as_ref().and_then(|meter| meter.read_some(scope.needs))
        };
        let now = Reading::of(stats);
        // A unit that is new has no delta yet: rates are null.
        let old = metered.last.take();
        let figures = between(old.as_ref().map_or(&now, |(reading, _)| reading), &now);
        let network = net.map(|net| match old.as_ref().and_then(|(_, old)| old.as_ref()) {
            Some(old) => net.since(old, figures.interval_seconds),
            None => net,
        });
        metered.last = Some((now, network.clone()));
        let own = metered.memory.as_deref().filter(|_| scope.headroom && !by_processes);
        let headroom = own.and_then(|own| headroom(own, &figures.stats, limits));
        Row {
            container: unit.container.clone(),
            runtime: unit.runtime(),
            id: unit.maker.as_ref().map(|m| m.id.clone()),
            is_container: unit.is_container(),
            pid: unit.pids.first().copied(),
            nprocs: unit.pids.len(),
            pids: unit.pids,
            counted_by: if by_processes { "processes" } else { "cgroup" },
            memory_headroom: headroom,
            network,
            name: unit.name,
            path: unit.path,
            directories: unit.directories,
            usage: figures,
        }
    }
}

/// Each unit keeps about twenty files open.
fn more_descriptors() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // Where it is refused, files are opened anew each time.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard.min(65_536), hard);
    }
}

/// Figures of processes that share a cgroup with others.
fn add_up(proc: &Proc, pids: &[u32]) -> Stats {
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    let (mut cpu, mut rss, mut tasks) = (0u64, 0u64, 0u64);
    for pid in pids {
        let line = proc.line(&format!("{pid}/stat")).ok();
        let Some(stat) = line.and_then(|line| stat::parse(&line)) else { continue };
        cpu = cpu.saturating_add(stat.utime.saturating_add(stat.stime));
        rss = rss.saturating_add(stat.rss.saturating_mul(page));
        tasks = tasks.saturating_add(u64::from(stat.threads));
    }
    let mut stats = Stats::default();
    stats.cpu.usage_us = Some(cpu.saturating_mul(1_000_000) / ticks);
    stats.memory.current = Some(rss);
    stats.pids.current = Some(tasks);
    stats
}

/// The directory among a cgroup's that has the memory controller's files.
pub fn memory_directory(directories: &[PathBuf]) -> Option<PathBuf> {
    let has = |d: &&PathBuf| d.join("memory.current").exists() || d.join("memory.usage_in_bytes").exists();
    directories.iter().find(has).cloned()
}

/// The nearest limit of memory, from the cgroup with this directory upwards; `known` remembers those above.
pub fn headroom(
    own: &Path,
    stats: &Stats,
    known: &mut BTreeMap<PathBuf, Option<(u64, u64)>>,
) -> Option<Headroom> {
    stats.memory.current?;
    let mut least = stats
        .memory
        .max
        .zip(stats.memory.current)
        .map(|(max, current)| Headroom { bytes: max.saturating_sub(current), limited_by: own.to_path_buf() });
    for above in own.ancestors().skip(1) {
        let limit = known.entry(above.to_path_buf()).or_insert_with(|| usage::memory_limit(above));
        match limit {
            Some((max, current)) if *max < u64::MAX => {
                let bytes = max.saturating_sub(*current);
                if least.as_ref().is_none_or(|l| bytes < l.bytes) {
                    least = Some(Headroom { bytes, limited_by: above.to_path_buf() });
                }
            }
            Some(_) => {}
            None => break,
        }
    }
    least
}
