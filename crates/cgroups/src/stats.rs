//! Statistics, the same for v1 and v2. What the kernel does not offer is `None`, never 0.

use crate::Cgroup;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A snapshot of a cgroup's counters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Processor time.
    pub cpu: Cpu,
    /// Memory in bytes.
    pub memory: Memory,
    /// Processes.
    pub pids: Pids,
    /// Block devices by `major:minor`.
    pub io: Option<BTreeMap<String, Io>>,
    /// Pressure stall information by resource: `cpu`, `memory`, `io`. Linux 4.20, cgroup v2.
    pub pressure: BTreeMap<String, Pressure>,
}

/// Processor time, in microseconds since the cgroup was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// All of it.
    pub usage_us: Option<u64>,
    /// In user mode.
    pub user_us: Option<u64>,
    /// In the kernel.
    pub system_us: Option<u64>,
    /// Enforcement periods that have passed.
    pub nr_periods: Option<u64>,
    /// Periods in which it ran into its limit.
    pub nr_throttled: Option<u64>,
    /// Time it was held back.
    pub throttled_us: Option<u64>,
}

/// Memory in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// In use now.
    pub current: Option<u64>,
    /// Most that was ever in use.
    pub peak: Option<u64>,
    /// The limit; `None` also for no limit.
    pub max: Option<u64>,
    /// Swap in use.
    pub swap: Option<u64>,
    /// The limit of swap alone; `None` also for no limit.
    pub swap_max: Option<u64>,
    /// Anonymous memory.
    pub anon: Option<u64>,
    /// Page cache, with shared memory.
    pub file: Option<u64>,
    /// The kernel's own for this cgroup.
    pub kernel: Option<u64>,
    /// tmpfs and shared anonymous memory.
    pub shmem: Option<u64>,
    /// Times memory.high was exceeded and the cgroup was slowed down for it. v2 only.
    pub high_events: Option<u64>,
    /// Page cache that has not been used for a while: the first that the kernel takes back.
    #[serde(default)]
    pub inactive_file: Option<u64>,
    /// Times the limit was hit.
    pub max_events: Option<u64>,
    /// Times allocation failed for the limit.
    pub oom: Option<u64>,
    /// Processes that the OOM killer took.
    pub oom_kill: Option<u64>,
}

/// Processes and threads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pids {
    /// Now.
    pub current: Option<u64>,
    /// Most that there ever were.
    pub peak: Option<u64>,
    /// The limit; `None` also for no limit.
    pub max: Option<u64>,
    /// Forks refused for the limit.
    pub max_events: Option<u64>,
}

/// Transfers of one block device since the cgroup was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Io {
    /// Bytes read.
    pub rbytes: u64,
    /// Bytes written.
    pub wbytes: u64,
    /// Reads.
    pub rios: u64,
    /// Writes.
    pub wios: u64,
}

/// Pressure: the share of time in which processes waited for a resource. Source: the kernel's accounting/psi.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pressure {
    /// At least one waited.
    pub some: Option<PressureLine>,
    /// All waited.
    pub full: Option<PressureLine>,
}

/// Percentages over the last 10, 60 and 300 seconds, and the sum of microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PressureLine {
    /// Percent over 10 s.
    pub avg10: f64,
    /// Percent over 60 s.
    pub avg60: f64,
    /// Percent over 300 s.
    pub avg300: f64,
    /// Microseconds since the start.
    pub total: u64,
}

/// Where the kernel's files of a cgroup are read: from their paths, or through descriptors that are kept.
pub(crate) trait Files {
    /// The text of a file, from the hierarchy that has it.
    fn read(&self, file: &'static str) -> Option<String>;

    /// The same from the v2 hierarchy alone.
    fn read_v2(&self, file: &'static str) -> Option<String>;

    /// cpu.stat of v1's cpu controller: on hybrid, v2 has one of its own.
    fn read_v1_cpu(&self) -> Option<String>;
}

impl Files for Cgroup {
    fn read(&self, file: &'static str) -> Option<String> {
        Cgroup::read(self, file)
    }

    fn read_v2(&self, file: &'static str) -> Option<String> {
        let dir = self.entries().iter().find(|d| d.v2)?;
        crate::files::read_if_there(&dir.path.join(file))
    }

    fn read_v1_cpu(&self) -> Option<String> {
        let quota = self.with_file("cpu.cfs_quota_us")?;
        crate::files::read_if_there(&quota.with_file_name("cpu.stat"))
    }
}

impl Cgroup {
    /// Reads all counters. A cgroup that is gone has none.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats { pressure: pressure(self), ..Stats::default() };
        // v1 files have names of their own, so which dialect applies is seen controller by controller. v2's cpu.stat
        // exists in each cgroup, but counts a hybrid's processes only if they are in the v2 hierarchy too.
        #[cfg(feature = "v1-statistics")]
        crate::v1stats::fill(self, &mut stats);
        #[cfg(not(feature = "v1-statistics"))]
        crate::stats::v1_files(self, &mut stats);
        v2_files(self, &mut stats);
        stats
    }

    /// Pressure by resource, where the kernel offers it.
    pub fn pressure(&self) -> BTreeMap<String, Pressure> {
        pressure(self)
    }
}

/// Pressure by resource.
pub(crate) fn pressure(files: &dyn Files) -> BTreeMap<String, Pressure> {
    let read = |(r, file): (&str, &'static str)| Some((r.to_string(), parse_pressure(&files.read(file)?)));
    let all = [("cpu", "cpu.pressure"), ("memory", "memory.pressure"), ("io", "io.pressure")];
    all.into_iter().filter_map(read).collect()
}

/// The v2 files. What v1 has told already stays.
pub(crate) fn v2_files(files: &dyn Files, stats: &mut Stats) {
    let one = |file: &'static str| files.read(file).and_then(|t| number(&t));
    let v2 = |file: &'static str| files.read_v2(file).map(|t| parse_flat(&t));
    if let Some(cpu) = stats.cpu.usage_us.is_none().then(|| v2("cpu.stat")).flatten() {
        let get = |key: &str| cpu.get(key).copied();
        stats.cpu.usage_us = get("usage_usec");
        stats.cpu.user_us = get("user_usec");
        stats.cpu.system_us = get("system_usec");
        stats.cpu.nr_periods = stats.cpu.nr_periods.or(get("nr_periods"));
        stats.cpu.nr_throttled = stats.cpu.nr_throttled.or(get("nr_throttled"));
        stats.cpu.throttled_us = stats.cpu.throttled_us.or(get("throttled_usec"));
    }
    if let Some(current) = one("memory.current") {
        let memory = &mut stats.memory;
        memory.current = Some(current);
        memory.peak = one("memory.peak");
        memory.max = one("memory.max");
        memory.swap = one("memory.swap.current");
        memory.swap_max = one("memory.swap.max");
        if let Some(stat) = v2("memory.stat") {
            let get = |key: &str| stat.get(key).copied();
            (memory.anon, memory.file) = (get("anon"), get("file"));
            (memory.kernel, memory.shmem) = (get("kernel"), get("shmem"));
            memory.inactive_file = get("inactive_file");
        }
        if let Some(events) = v2("memory.events") {
            let get = |key: &str| events.get(key).copied();
            memory.high_events = get("high");
            (memory.max_events, memory.oom, memory.oom_kill) = (get("max"), get("oom"), get("oom_kill"));
        }
    }
    if stats.pids.current.is_none() {
        stats.pids = Pids {
            current: one("pids.current"),
            peak: one("pids.peak"),
            max: one("pids.max"),
            max_events: files.read("pids.events").and_then(|t| parse_flat(&t).get("max").copied()),
        };
    }
    if let Some(text) = files.read("io.stat") {
        stats.io = Some(parse_io(&text));
    }
}

/// The v1 files, read by ourselves.
#[cfg_attr(feature = "v1-statistics", allow(dead_code))]
pub(crate) fn v1_files(files: &dyn Files, stats: &mut Stats) {
    let one = |file: &'static str| files.read(file).and_then(|t| number(&t));
    if let Some(usage) = one("cpuacct.usage") {
        stats.cpu.usage_us = Some(usage / 1000);
        stats.cpu.user_us = one("cpuacct.usage_user").map(|n| n / 1000);
        stats.cpu.system_us = one("cpuacct.usage_sys").map(|n| n / 1000);
    }
    if let Some(cpu) = files.read_v1_cpu().map(|t| parse_flat(&t)) {
        stats.cpu.nr_periods = cpu.get("nr_periods").copied();
        stats.cpu.nr_throttled = cpu.get("nr_throttled").copied();
        stats.cpu.throttled_us = cpu.get("throttled_time").map(|n| n / 1000);
    }
    v1_memory(files, stats);
    // With those below, as v2 counts.
    let bytes = files.read("blkio.throttle.io_service_bytes_recursive");
    if let Some(bytes) = bytes.or_else(|| files.read("blkio.throttle.io_service_bytes")) {
        let mut io = BTreeMap::new();
        parse_blkio(&bytes, &mut io, |io| (&mut io.rbytes, &mut io.wbytes));
        let operations = files.read("blkio.throttle.io_serviced_recursive");
        let operations = operations.or_else(|| files.read("blkio.throttle.io_serviced")).unwrap_or_default();
        parse_blkio(&operations, &mut io, |io| (&mut io.rios, &mut io.wios));
        stats.io = Some(io);
    }
}

/// v1 memory: files and statistics in another vocabulary.
pub(crate) fn v1_memory(files: &dyn Files, stats: &mut Stats) {
    let one = |file: &'static str| files.read(file).and_then(|t| number(&t));
    let Some(current) = one("memory.usage_in_bytes") else { return };
    let memory = &mut stats.memory;
    memory.current = Some(current);
    memory.peak = one("memory.max_usage_in_bytes");
    memory.max = one("memory.limit_in_bytes").filter(|n| *n < 1 << 62);
    let (memsw, memsw_max) = (one("memory.memsw.usage_in_bytes"), one("memory.memsw.limit_in_bytes"));
    memory.swap = memsw.map(|n| n.saturating_sub(current));
    memory.swap_max = memsw_max.filter(|n| *n < 1 << 62).zip(memory.max).and_then(|(s, m)| s.checked_sub(m));
    memory.kernel = one("memory.kmem.usage_in_bytes");
    // With the limits of both alike, it is the sum's that is hit.
    let sum = one("memory.memsw.failcnt").unwrap_or(0);
    memory.max_events = one("memory.failcnt").map(|n| n.saturating_add(sum));
    let stat = files.read("memory.stat").map(|t| parse_flat(&t)).unwrap_or_default();
    let get = |key: &str| stat.get(key).or_else(|| stat.get(key.strip_prefix("total_")?)).copied();
    (memory.anon, memory.file, memory.shmem) = (get("total_rss"), get("total_cache"), get("total_shmem"));
    memory.swap = get("total_swap").or(memory.swap);
    memory.inactive_file = get("total_inactive_file");
    let control = files.read("memory.oom_control").map(|t| parse_flat(&t)).unwrap_or_default();
    memory.oom_kill = control.get("oom_kill").copied();
}

/// A file of one number; `max` and what is not a number are `None`.
pub(crate) fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// `key value` lines; others are left out.
pub(crate) fn parse_flat(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|l| l.split_once(' '))
        .filter_map(|(k, v)| Some((k.to_string(), number(v)?)))
        .collect()
}

/// io.stat: `8:0 rbytes=1 wbytes=2 …`.
pub(crate) fn parse_io(text: &str) -> BTreeMap<String, Io> {
    let mut all = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some(device) = words.next().filter(|d| d.contains(':')) else { continue };
        let io: &mut Io = all.entry(device.to_string()).or_default();
        for (key, value) in words.filter_map(|w| w.split_once('=')) {
            let value = number(value).unwrap_or(0);
            match key {
                "rbytes" => io.rbytes = value,
                "wbytes" => io.wbytes = value,
                "rios" => io.rios = value,
                "wios" => io.wios = value,
                _ => {}
            }
        }
    }
    all
}

/// v1 blkio: `8:0 Read 4096` lines.
fn parse_blkio(text: &str, all: &mut BTreeMap<String, Io>, slots: impl Fn(&mut Io) -> (&mut u64, &mut u64)) {
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [device, kind, value] = words.as_slice() else { continue };
        let Some(value) = number(value) else { continue };
        let (read, write) = slots(all.entry((*device).to_string()).or_default());
        match *kind {
            "Read" => *read = value,
            "Write" => *write = value,
            _ => {}
        }
    }
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0` lines.
pub(crate) fn parse_pressure(text: &str) -> Pressure {
    let mut pressure = Pressure::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let kind = words.next();
        let mut values = PressureLine::default();
        for (key, value) in words.filter_map(|w| w.split_once('=')) {
            match key {
                "avg10" => values.avg10 = value.parse().unwrap_or(0.0),
                "avg60" => values.avg60 = value.parse().unwrap_or(0.0),
                "avg300" => values.avg300 = value.parse().unwrap_or(0.0),
                "total" => values.total = number(value).unwrap_or(0),
                _ => {}
            }
        }
        match kind {
            Some("some") => pressure.some = Some(values),
            Some("full") => pressure.full = Some(values),
            _ => {}
        }
    }
    pressure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_ignores_rubbish() {
        let flat = parse_flat("usage_usec 12\nbad\nx y\nnr 18446744073709551616\nanon 7\n");
        assert_eq!(flat, [("usage_usec".to_string(), 12), ("anon".to_string(), 7)].into());
        let io = parse_io("8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5\nrubbish\n253:0\n");
        assert_eq!(io["8:0"], Io { rbytes: 1, wbytes: 2, rios: 3, wios: 4 });
        assert_eq!(io["253:0"], Io::default());
        let mut blkio = BTreeMap::new();
        parse_blkio("8:0 Read 5\n8:0 Write 6\n8:0 Total 11\nTotal 11\n", &mut blkio, |io| {
            (&mut io.rbytes, &mut io.wbytes)
        });
        assert_eq!((blkio["8:0"].rbytes, blkio["8:0"].wbytes), (5, 6));
        let psi = parse_pressure("some avg10=1.50 avg60=0.00 avg300=0.00 total=9\nfull avg10=x\n");
        assert_eq!(psi.some.unwrap(), PressureLine { avg10: 1.5, total: 9, ..PressureLine::default() });
        assert_eq!(number("max\n"), None);
    }
}
