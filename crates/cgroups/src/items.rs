//! Each limit in both dialects: the files of v1 and of v2, and what they are to hold.

use crate::convert;
use crate::{CpuMax, IoMax, Limits, Rdma, UNLIMITED};

/// One value into one kernel file, in the directory of the item's controller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct File {
    pub name: String,
    pub value: String,
    /// Written instead if the kernel has no such file.
    pub instead: Option<(String, String)>,
    /// That the kernel has no such file is no loss.
    pub optional: bool,
    /// Not known here: named by whoever asked.
    pub raw: bool,
}

impl File {
    fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into(), ..Self::default() }
    }

    fn optional(mut self, optional: bool) -> Self {
        self.optional = optional;
        self
    }

    fn or(mut self, name: &str, value: impl Into<String>) -> Self {
        self.instead = Some((name.to_string(), value.into()));
        self
    }
}

/// What one version makes of a limit.
#[derive(Clone, Debug)]
pub enum Way {
    /// The files in the order of writing.
    Files(Vec<File>),
    /// It cannot, and why: an error, unless the request is lenient.
    Lacks(&'static str),
    /// It has no use for it, and why: told, never an error.
    Ignored(&'static str),
}

/// One limit in both dialects.
pub struct Item {
    /// The controller's v2 name.
    pub controller: String,
    /// What messages call it.
    pub what: String,
    pub v1: Way,
    pub v2: Way,
}

const NOT_IN_V1: &str = "cgroup v1 has no such limit";
const NOT_IN_V2: &str = "exists in cgroup v1 only";
const BOTH: &str = "cgroup v1 limits memory and swap together, so a swap limit needs a memory limit";
const BOTH_V2: &str =
    "limits memory and swap together, so it needs a memory limit (cgroup v2 limits swap alone)";

struct Items(Vec<Item>);

impl Items {
    fn add(&mut self, controller: &str, what: &str, v1: Way, v2: Way) {
        self.0.push(Item { controller: controller.into(), what: what.into(), v1, v2 });
    }

    /// One file in each version.
    fn pair(&mut self, controller: &str, v1: (&str, String), v2: (&str, String)) {
        self.add(controller, v2.0, one(v1.0, v1.1), one(v2.0, v2.1));
    }

    /// A file of the same name and value in both.
    fn same(&mut self, controller: &str, file: &str, value: String) {
        self.pair(controller, (file, value.clone()), (file, value));
    }

    fn only_v1(&mut self, controller: &str, file: &str, value: String) {
        self.add(controller, file, one(file, value), Way::Ignored(NOT_IN_V2));
    }

    fn only_v2(&mut self, controller: &str, file: &str, value: String) {
        self.add(controller, file, Way::Lacks(NOT_IN_V1), one(file, value));
    }
}

fn one(file: &str, value: String) -> Way {
    Way::Files(vec![File::new(file, value)])
}

/// All limits that are asked for. `memory`: the memory limit that holds with them, when it is known.
pub fn items(limits: &Limits, memory: Option<u64>) -> Vec<Item> {
    let mut items = Items(Vec::new());
    pids(limits, &mut items);
    self::memory(limits, memory, &mut items);
    io(limits, &mut items);
    cpu(limits, &mut items);
    others(limits, &mut items);
    for (file, value) in &limits.unified {
        let lines = value.trim_end_matches('\n').split('\n').map(|line| File::new(file.as_str(), line));
        let v1 = Way::Lacks("invalid configuration: unified resources are files of cgroup v2");
        items.add(controller_of(file), file, v1, Way::Files(lines.collect()));
    }
    for (file, value) in &limits.raw {
        let known = matches!(file.as_str(), "io.latency" | "memory.swap.high" | "misc.max");
        // The kernel takes a line of these at a time.
        let lines = if known { value.lines().collect() } else { vec![value.as_str()] };
        let raw = |line| File { raw: !known, ..File::new(file.as_str(), line) };
        let way = Way::Files(lines.into_iter().map(raw).collect());
        items.add(controller_of(file), file, way.clone(), way);
    }
    items.0
}

fn controller_of(file: &str) -> &str {
    file.split('.').next().unwrap_or_default()
}

fn pids(limits: &Limits, items: &mut Items) {
    if let Some(pids) = limits.pids_max {
        // With 0 the first process could not be born inside. With 1 it can do no more than with 0.
        items.same("pids", "pids.max", word(pids.max(1)));
    }
}

fn memory(limits: &Limits, known: Option<u64>, items: &mut Items) {
    let memory = limits.memory_max.or(known);
    let max = limits
        .memory_max
        .map(|max| (File::new("memory.limit_in_bytes", minus_one(max)), File::new("memory.max", word(max))));
    let (v1, v2) = max.unzip();
    let swap = if let Some(swap) = limits.swap_max {
        let v2 = Way::Files(vec![File::new("memory.swap.max", word(swap))]);
        Some(("memory.swap.max", memsw_from_swap(memory, swap), v2))
    } else {
        limits.memsw_max.map(|both| {
            let v1 = File::new("memory.memsw.limit_in_bytes", minus_one(both)).optional(both == UNLIMITED);
            ("memory.memsw.limit_in_bytes", Way::Files(vec![v1]), swap_from_memsw(memory, both))
        })
    };
    // v2: swap first, so that a smaller memory limit finds the room it shall have. v1: memory first, as the kernel
    // wants when both shrink or are new; when both grow it refuses, and the memory limit is tried again after the sum.
    match (swap, v1, v2) {
        (Some((_, Way::Files(swap_v1), Way::Files(swap_v2))), Some(v1), Some(v2)) => {
            let v1 = Way::Files([vec![v1], swap_v1].concat());
            items.add("memory", "memory.max", v1, Way::Files([swap_v2, vec![v2]].concat()));
        }
        (swap, v1, v2) => {
            if let (Some(v1), Some(v2)) = (v1, v2) {
                items.add("memory", "memory.max", Way::Files(vec![v1]), Way::Files(vec![v2]));
            }
            if let Some((what, v1, v2)) = swap {
                items.add("memory", what, v1, v2);
            }
        }
    }
    if let Some(low) = limits.memory_low {
        // v1 reclaims what is above it, so no protection is no soft limit.
        let soft = if low == 0 { "-1".to_string() } else { minus_one(low) };
        items.pair("memory", ("memory.soft_limit_in_bytes", soft), ("memory.low", word(low)));
    }
    if let Some(high) = limits.memory_high {
        items.only_v2("memory", "memory.high", word(high));
    }
    if let Some(min) = limits.memory_min {
        items.only_v2("memory", "memory.min", word(min));
    }
    if let Some(group) = limits.oom_group {
        items.only_v2("memory", "memory.oom.group", flag(group));
    }
    if let Some(disable) = limits.oom_kill_disable {
        items.only_v1("memory", "memory.oom_control", flag(disable));
    }
    if let Some(swappiness) = limits.memory_swappiness {
        items.only_v1("memory", "memory.swappiness", swappiness.to_string());
    }
}

fn memsw_from_swap(memory: Option<u64>, swap: u64) -> Way {
    let file = "memory.memsw.limit_in_bytes";
    match memory {
        // The kernel's own "no limit" of v1 is a huge number.
        Some(memory) if memory < 1 << 62 => one(file, minus_one(convert::memsw_from_swap(memory, swap))),
        _ if swap == UNLIMITED => one(file, minus_one(UNLIMITED)),
        _ => Way::Lacks(BOTH),
    }
}

fn swap_from_memsw(memory: Option<u64>, both: u64) -> Way {
    let swap = match memory {
        _ if both == UNLIMITED => UNLIMITED,
        Some(UNLIMITED) => both,
        Some(memory) => match convert::swap_from_memsw(memory, both) {
            Some(swap) => swap,
            None => return Way::Lacks("is less than the memory limit"),
        },
        None => return Way::Lacks(BOTH_V2),
    };
    // A kernel without swap accounting cannot limit it, and needs not when it shall be unlimited or there is none.
    let file = File::new("memory.swap.max", word(swap)).optional(matches!(swap, 0 | UNLIMITED));
    Way::Files(vec![file])
}

fn io(limits: &Limits, items: &mut Items) {
    if let Some(weight) = limits.io_weight {
        let v1 = File::new("blkio.weight", convert::blkio_weight_from_io(weight).to_string());
        let v1 = v1.clone().or("blkio.bfq.weight", v1.value);
        items.add("io", "io.weight", Way::Files(vec![v1]), one("io.weight", format!("default {weight}")));
    }
    for (device, weight) in &limits.io_weight_device {
        let (ours, v1) = match weight {
            0 => ("default".to_string(), 0),
            weight => (weight.to_string(), convert::blkio_weight_from_io(*weight)),
        };
        let line = format!("{device} {v1}");
        let v1 = File::new("blkio.weight_device", line.clone()).or("blkio.bfq.weight_device", line);
        items.add("io", "io.weight", Way::Files(vec![v1]), one("io.weight", format!("{device} {ours}")));
    }
    if let Some(weight) = limits.blkio_weight {
        let v1 = File::new("blkio.weight", weight.to_string()).or("blkio.bfq.weight", weight.to_string());
        let converted = format!("default {}", convert::io_weight_from_blkio(weight));
        let v2 = File::new("io.bfq.weight", weight.to_string()).or("io.weight", converted);
        items.add("io", "blkio.weight", Way::Files(vec![v1]), Way::Files(vec![v2]));
    }
    if let Some(weight) = limits.blkio_leaf_weight {
        items.only_v1("io", "blkio.leaf_weight", weight.to_string());
    }
    for device in &limits.blkio_weight_device {
        if let Some(weight) = device.weight {
            let line = format!("{} {weight}", device.device);
            let v1 =
                File::new("blkio.weight_device", line.clone()).or("blkio.bfq.weight_device", line.clone());
            items.add("io", "blkio.weight_device", Way::Files(vec![v1]), one("io.bfq.weight", line));
        }
        if let Some(weight) = device.leaf_weight {
            items.only_v1("io", "blkio.leaf_weight_device", format!("{} {weight}", device.device));
        }
    }
    for io in &limits.io_max {
        items.add("io", "io.max", Way::Files(throttle(io)), one("io.max", io_line(io)));
    }
}

fn cpu(limits: &Limits, items: &mut Items) {
    if let Some(weight) = limits.cpu_weight {
        let shares = convert::shares_from_weight(weight).to_string();
        items.pair("cpu", ("cpu.shares", shares), ("cpu.weight", weight.to_string()));
    }
    if let Some(shares) = limits.cpu_shares {
        let weight = one("cpu.weight", convert::weight_from_shares(shares).to_string());
        // v1's kernel would change the number without a word.
        let v1 = match shares {
            2..=262_144 => one("cpu.shares", shares.to_string()),
            _ => Way::Lacks("out of range (allowed on cgroup v1: 2 to 262144)"),
        };
        items.add("cpu", "cpu.shares", v1, weight);
    }
    if let Some(CpuMax { quota_us, period_us }) = limits.cpu {
        let period = period_us.map(|p| File::new("cpu.cfs_period_us", p.to_string()));
        let quota = quota_us.map(|q| File::new("cpu.cfs_quota_us", minus_one(q)));
        let v1 = period.into_iter().chain(quota).collect();
        items.add(
            "cpu",
            "cpu.max",
            Way::Files(v1),
            one("cpu.max", CpuMax { quota_us, period_us }.to_string()),
        );
    }
    if let Some(burst) = limits.cpu_burst_us {
        // v1's kernel has it since Linux 5.14 only, and without it just smooths less.
        let v1 = File::new("cpu.cfs_burst_us", burst.to_string()).optional(true);
        items.add("cpu", "cpu.max.burst", Way::Files(vec![v1]), one("cpu.max.burst", burst.to_string()));
    }
    if let Some(idle) = limits.cpu_idle {
        items.same("cpu", "cpu.idle", flag(idle));
    }
    if let Some(period) = limits.cpu_rt_period_us {
        items.only_v1("cpu", "cpu.rt_period_us", period.to_string());
    }
    if let Some(runtime) = limits.cpu_rt_runtime_us {
        items.only_v1("cpu", "cpu.rt_runtime_us", minus_one(runtime));
    }
    if let Some(list) = &limits.cpuset_cpus {
        items.same("cpuset", "cpuset.cpus", list.clone());
    }
    if let Some(list) = &limits.cpuset_mems {
        items.same("cpuset", "cpuset.mems", list.clone());
    }
}

fn others(limits: &Limits, items: &mut Items) {
    for (page, bytes) in &limits.hugetlb {
        let files = |end: &str, value: String| {
            let reserved = File::new(format!("hugetlb.{page}.rsvd.{end}"), value.clone()).optional(true);
            Way::Files(vec![File::new(format!("hugetlb.{page}.{end}"), value), reserved])
        };
        let (v1, v2) = (files("limit_in_bytes", minus_one(*bytes)), files("max", word(*bytes)));
        items.add("hugetlb", &format!("hugetlb.{page}.max"), v1, v2);
    }
    if let Some(class) = limits.net_cls_classid {
        items.only_v1("net_cls", "net_cls.classid", class.to_string());
    }
    for (interface, priority) in &limits.net_prio {
        items.only_v1("net_prio", "net_prio.ifpriomap", format!("{interface} {priority}"));
    }
    for (device, rdma) in &limits.rdma {
        items.same("rdma", "rdma.max", rdma_line(device, *rdma));
    }
}

fn rdma_line(device: &str, rdma: Rdma) -> String {
    let part = |key: &str, v: Option<u32>| match v {
        None => String::new(),
        Some(v) if v >= i32::MAX.cast_unsigned() => format!(" {key}=max"),
        Some(v) => format!(" {key}={v}"),
    };
    format!("{device}{}{}", part("hca_handle", rdma.hca_handles), part("hca_object", rdma.hca_objects))
}

/// The kernel's word for a number that may be unlimited.
pub fn word(value: u64) -> String {
    if value == UNLIMITED { "max".to_string() } else { value.to_string() }
}

fn minus_one(value: u64) -> String {
    if value == UNLIMITED { "-1".to_string() } else { value.to_string() }
}

fn flag(on: bool) -> String {
    u8::from(on).to_string()
}

fn io_parts(io: &IoMax) -> [(&'static str, &'static str, Option<u64>); 4] {
    [
        ("rbps", "blkio.throttle.read_bps_device", io.rbps),
        ("wbps", "blkio.throttle.write_bps_device", io.wbps),
        ("riops", "blkio.throttle.read_iops_device", io.riops),
        ("wiops", "blkio.throttle.write_iops_device", io.wiops),
    ]
}

fn io_line(io: &IoMax) -> String {
    let parts = io_parts(io).into_iter().filter_map(|(key, _, v)| v.map(|v| format!(" {key}={}", word(v))));
    format!("{}{}", io.device, parts.collect::<String>())
}

fn throttle(io: &IoMax) -> Vec<File> {
    // v1 removes a limit by 0.
    let value = |v: u64| if v == UNLIMITED { 0 } else { v };
    let parts = io_parts(io).into_iter();
    parts
        .filter_map(|(_, file, v)| v.map(|v| File::new(file, format!("{} {}", io.device, value(v)))))
        .collect()
}
