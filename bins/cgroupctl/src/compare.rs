//! compare: v2 files and their v1 counterparts.

use crate::args::Output;
use drydock_cli::Outcome;
use drydock_cli::output::{print_json, print_text, table};
use serde::Serialize;

/// One row: what v2 calls it, what v1 calls it, what it is.
#[derive(Serialize)]
pub struct Pair {
    /// v2 file.
    pub v2: &'static str,
    /// v1 file or files; `-` if v1 has none.
    pub v1: &'static str,
    /// Meaning, and how the numbers differ.
    pub meaning: &'static str,
}

const fn pair(v2: &'static str, v1: &'static str, meaning: &'static str) -> Pair {
    Pair { v2, v1, meaning }
}

/// The table. Source: admin-guide/cgroup-v2 and admin-guide/cgroup-v1 of the kernel.
pub const PAIRS: &[Pair] = &[
    pair("cgroup.procs", "cgroup.procs, tasks", "processes; v1 can move single threads"),
    pair("cgroup.subtree_control", "-", "controllers for the cgroups below; v1 has one tree a controller"),
    pair("cgroup.kill", "-", "kill all at once; v1: freeze, SIGKILL each, thaw"),
    pair("cgroup.freeze", "freezer.state", "1 or 0; v1: FROZEN or THAWED"),
    pair("cgroup.events", "notify_on_release, release_agent", "tells when the last process has gone"),
    pair(
        "cpu.max",
        "cpu.cfs_quota_us, cpu.cfs_period_us",
        "'QUOTA PERIOD' in microseconds; v1: -1 is no limit",
    ),
    pair("cpu.max.burst", "cpu.cfs_burst_us", "quota that may be saved up, microseconds"),
    pair("cpu.weight", "cpu.shares", "1 to 10000, default 100; v1: 2 to 262144, default 1024"),
    pair("cpu.idle", "cpu.idle", "run only when nothing else wants to"),
    pair("cpu.stat", "cpuacct.usage, cpuacct.stat, cpu.stat", "microseconds; v1: nanoseconds"),
    pair("cpuset.cpus", "cpuset.cpus", "processors; a new v1 cpuset is empty and cannot be joined"),
    pair("cpuset.mems", "cpuset.mems", "memory nodes"),
    pair("memory.max", "memory.limit_in_bytes", "bytes; v1: -1 is no limit"),
    pair("memory.high", "-", "slowed down and reclaimed above it"),
    pair("memory.low", "memory.soft_limit_in_bytes", "spared from reclaim; weaker in v1"),
    pair("memory.min", "-", "never reclaimed"),
    pair("memory.swap.max", "memory.memsw.limit_in_bytes", "swap alone; v1: memory and swap together"),
    pair("memory.current", "memory.usage_in_bytes", "bytes in use"),
    pair("memory.peak", "memory.max_usage_in_bytes", "most that was ever in use"),
    pair("memory.stat", "memory.stat", "anon and file; v1: rss and cache"),
    pair("memory.events", "memory.failcnt, memory.oom_control", "limit hit, oom, oom_kill"),
    pair("memory.oom.group", "-", "an OOM kill takes the whole cgroup"),
    pair("pids.max", "pids.max", "processes and threads"),
    pair("pids.current", "pids.current", "processes and threads now"),
    pair("io.max", "blkio.throttle.{read,write}_{bps,iops}_device", "rates of one disk by major:minor"),
    pair("io.weight", "blkio.weight, blkio.bfq.weight", "1 to 10000, default 100; v1: 10 to 1000"),
    pair("io.stat", "blkio.throttle.io_service_bytes, .io_serviced", "bytes and transfers of each disk"),
    pair("hugetlb.SIZE.max", "hugetlb.SIZE.limit_in_bytes", "huge pages"),
    pair("hugetlb.SIZE.rsvd.max", "hugetlb.SIZE.rsvd.limit_in_bytes", "huge pages that may be reserved"),
    pair("rdma.max", "rdma.max", "handles and objects of RDMA devices"),
    pair("misc.max", "misc.max", "other countable resources, see misc.capacity of the root"),
    pair("memory.swap.high", "-", "slowed down above so much swap"),
    pair("memory.swap.current", "memory.memsw.usage_in_bytes", "swap in use; v1: memory and swap together"),
    pair("io.latency", "-", "target for the wait of its transfers; others are slowed down for it"),
    pair("pids.events", "pids.events", "how often a fork was refused"),
    pair("cgroup.threads", "tasks", "single threads"),
    pair("cgroup.type", "-", "domain or threaded"),
    pair("cgroup.max.depth", "-", "levels that may be below; cgroup.max.descendants: how many cgroups"),
    pair("cpu.pressure", "-", "pressure stall information; io.pressure too"),
    pair(
        "memory.pressure",
        "memory.pressure_level",
        "the same of memory; v1 tells three levels (cgroupctl watch)",
    ),
    pair("(eBPF program)", "devices.allow, devices.deny", "which device nodes may be opened"),
    pair("(nftables cgroupv2)", "net_cls.classid, net_prio.ifpriomap", "traffic of a cgroup"),
];

/// Whether a file is one of the table's.
pub fn is_known(file: &str) -> bool {
    let has = |names: &str| names.split(", ").any(|name| name.trim() == file);
    PAIRS.iter().any(|pair| has(pair.v2) || has(pair.v1)) || file.starts_with("hugetlb.")
}

/// `cgroupctl compare`.
pub fn print(args: &Output) -> Outcome {
    if args.json {
        print_json(PAIRS)?;
        return Ok(0);
    }
    let row = |p: &Pair| vec![p.v2.to_string(), p.v1.to_string(), p.meaning.to_string()];
    print_text(&table(&["V2", "V1", "MEANING"], &PAIRS.iter().map(row).collect::<Vec<_>>()))?;
    Ok(0)
}
