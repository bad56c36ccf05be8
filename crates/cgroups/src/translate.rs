//! Limits into the files of the hierarchy that has the controller.

use crate::convert;
use crate::files;
use crate::layout::{Hierarchy, Layout, Version};
use crate::plan::Write;
use crate::request::{IfExists, Request};
use crate::setting::word;
use crate::{IoMax, Limits, UNLIMITED};
use drydock_core::Result;

/// One limit in both dialects.
struct Item {
    /// The controller's v2 name.
    controller: String,
    /// The v2 file and value; `None` if only v1 has it.
    v2: Option<(String, String)>,
    /// The v1 files and values in the order of writing, or why v1 cannot do it.
    v1: Result<Vec<(String, String)>, &'static str>,
}

/// The controllers (v2 names) that the limits need.
pub fn controllers(limits: &Limits) -> Vec<String> {
    let mut all: Vec<String> = items(limits, None).into_iter().map(|i| i.controller).collect();
    all.sort();
    all.dedup();
    all.retain(|c| c != "cgroup");
    all
}

/// The writes for this machine, in order. What cannot be written is described in `lacking`.
pub fn writes(request: &Request, layout: &Layout, lacking: &mut Vec<String>) -> Result<Vec<Write>> {
    let mut writes = Vec::new();
    let limits = &with_current(request, layout);
    let memory = limits.memory_max;
    let mut unasked = request.limits.memory_max.is_none() && memory.is_some();
    for item in items(limits, memory) {
        if unasked && item.v2.as_ref().is_some_and(|(file, _)| file == "memory.max") {
            // Only looked up for the sum of memory and swap.
            unasked = false;
            continue;
        }
        let what = match (&item.v2, &item.v1) {
            (Some((file, _)), _) => file.clone(),
            (None, Ok(files)) => files.first().map(|(f, _)| f.clone()).unwrap_or_default(),
            (None, Err(_)) => item.controller.clone(),
        };
        let Some(hierarchy) = find(layout, &item.controller) else {
            lacking.push(format!("{what}: {}", why_no_controller(layout, &item.controller)));
            continue;
        };
        let Some(base) = &hierarchy.base else {
            lacking.push(format!("{what}: no permission to make cgroups in {}", hierarchy.mount.display()));
            continue;
        };
        let files = match (hierarchy.version, item.v2, item.v1) {
            (Version::V2, Some(file), _) => vec![file],
            (Version::V2, None, _) => {
                lacking.push(format!("{what}: exists in cgroup v1 only; see `cgroupctl compare`"));
                continue;
            }
            (Version::V1, _, Ok(files)) => files,
            (Version::V1, _, Err(why)) => {
                lacking.push(format!("{what}: {why}"));
                continue;
            }
        };
        let dir = base.join(&request.name);
        writes.extend(files.into_iter().map(|(file, value)| Write { path: dir.join(&file), file, value }));
    }
    Ok(writes)
}

/// v1 limits memory and swap together, so a change of one needs the other's present value to mean what it means on v2.
fn with_current(request: &Request, layout: &Layout) -> Limits {
    let mut limits = request.limits.clone();
    let changes = matches!(request.if_exists, IfExists::Require | IfExists::Reuse);
    let memory = layout.hierarchy_of("memory").filter(|h| changes && h.version == Version::V1);
    let (Some(base), true) =
        (memory.and_then(|h| h.base.as_ref()), limits.memory_max.is_some() != limits.swap_max.is_some())
    else {
        return limits;
    };
    let now = |file: &str| {
        let text = files::read_if_there(&base.join(&request.name).join(file))?;
        text.trim().parse::<u64>().ok().filter(|n| *n < 1 << 62)
    };
    let (memory, sum) = (now("memory.limit_in_bytes"), now("memory.memsw.limit_in_bytes"));
    if limits.memory_max.is_none() {
        limits.memory_max = memory;
    } else if let (Some(memory), Some(sum)) = (memory, sum) {
        limits.swap_max = sum.checked_sub(memory);
    }
    limits
}

fn find<'a>(layout: &'a Layout, controller: &str) -> Option<&'a Hierarchy> {
    if controller == "cgroup" { layout.v2() } else { layout.hierarchy_of(controller) }
}

fn why_no_controller(layout: &Layout, controller: &str) -> String {
    let v1_only = matches!(controller, "cpuacct" | "blkio" | "freezer" | "net_cls" | "net_prio");
    match layout.v2() {
        Some(v2) if layout.mode() == crate::Mode::V2 && v1_only => {
            format!(
                "controller '{controller}' does not exist in cgroup v2 (mounted at {})",
                v2.mount.display()
            )
        }
        Some(v2) if layout.mode() == crate::Mode::V2 => format!(
            "controller '{controller}' is not offered in {}/cgroup.controllers",
            v2.base.as_ref().unwrap_or(&v2.own).display()
        ),
        _ => {
            format!("controller '{controller}' is not mounted, or not in this kernel (see `cgroupctl check`)")
        }
    }
}

const V2_ONLY: &str = "cgroup v1 has no such limit";

fn items(limits: &Limits, memory: Option<u64>) -> Vec<Item> {
    let mut items = Vec::new();
    let mut add = |controller: &str, v2: (&str, String), v1: Result<Vec<(&str, String)>, &'static str>| {
        items.push(Item {
            controller: controller.to_string(),
            v2: Some((v2.0.to_string(), v2.1)),
            v1: v1.map(|files| files.into_iter().map(|(f, v)| (f.to_string(), v)).collect()),
        });
    };
    if let Some(cpu) = limits.cpu {
        let v1 = vec![
            ("cpu.cfs_period_us", cpu.period_us.to_string()),
            ("cpu.cfs_quota_us", minus_one(cpu.quota_us)),
        ];
        add("cpu", ("cpu.max", format!("{} {}", word(cpu.quota_us), cpu.period_us)), Ok(v1));
    }
    if let Some(burst) = limits.cpu_burst_us {
        add("cpu", ("cpu.max.burst", burst.to_string()), Ok(vec![("cpu.cfs_burst_us", burst.to_string())]));
    }
    if let Some(weight) = limits.cpu_weight {
        let shares = convert::shares_from_weight(weight).to_string();
        add("cpu", ("cpu.weight", weight.to_string()), Ok(vec![("cpu.shares", shares)]));
    }
    if let Some(idle) = limits.cpu_idle {
        let value = u8::from(idle).to_string();
        add("cpu", ("cpu.idle", value.clone()), Ok(vec![("cpu.idle", value)]));
    }
    if let Some(list) = &limits.cpuset_cpus {
        add("cpuset", ("cpuset.cpus", list.clone()), Ok(vec![("cpuset.cpus", list.clone())]));
    }
    if let Some(list) = &limits.cpuset_mems {
        add("cpuset", ("cpuset.mems", list.clone()), Ok(vec![("cpuset.mems", list.clone())]));
    }
    if let Some(max) = limits.memory_max {
        add("memory", ("memory.max", word(max)), Ok(vec![("memory.limit_in_bytes", minus_one(max))]));
    }
    if let Some(swap) = limits.swap_max {
        add("memory", ("memory.swap.max", word(swap)), memsw(memory, swap));
    }
    if let Some(low) = limits.memory_low {
        add("memory", ("memory.low", word(low)), Ok(vec![("memory.soft_limit_in_bytes", minus_one(low))]));
    }
    if let Some(high) = limits.memory_high {
        add("memory", ("memory.high", word(high)), Err(V2_ONLY));
    }
    if let Some(min) = limits.memory_min {
        add("memory", ("memory.min", word(min)), Err(V2_ONLY));
    }
    if let Some(group) = limits.oom_group {
        add("memory", ("memory.oom.group", u8::from(group).to_string()), Err(V2_ONLY));
    }
    if let Some(pids) = limits.pids_max {
        add("pids", ("pids.max", word(pids)), Ok(vec![("pids.max", word(pids))]));
    }
    if let Some(weight) = limits.io_weight {
        let v1 = convert::blkio_weight_from_io(weight).to_string();
        add("io", ("io.weight", format!("default {weight}")), Ok(vec![("blkio.weight", v1)]));
    }
    for io in &limits.io_max {
        add("io", ("io.max", io_line(io)), Ok(throttle(io)));
    }
    for (page, bytes) in &limits.hugetlb {
        let v1 = vec![(format!("hugetlb.{page}.limit_in_bytes"), minus_one(*bytes))];
        let v2 = Some((format!("hugetlb.{page}.max"), word(*bytes)));
        items.push(Item { controller: "hugetlb".to_string(), v2, v1: Ok(v1) });
    }
    items.extend(limits.raw.iter().map(|(file, value)| raw_item(file, value)));
    items
}

fn raw_item(file: &str, value: &str) -> Item {
    let controller = file.split('.').next().unwrap_or_default().to_string();
    let pair = (file.to_string(), value.to_string());
    Item { controller, v2: Some(pair.clone()), v1: Ok(vec![pair]) }
}

fn memsw(memory: Option<u64>, swap: u64) -> Result<Vec<(&'static str, String)>, &'static str> {
    let file = "memory.memsw.limit_in_bytes";
    match memory {
        // The kernel's own "no limit" of v1 is a huge number.
        Some(memory) if memory < 1 << 62 => {
            Ok(vec![(file, minus_one(convert::memsw_from_swap(memory, swap)))])
        }
        _ if swap == UNLIMITED => Ok(vec![(file, minus_one(UNLIMITED))]),
        _ => Err("cgroup v1 limits memory and swap together, so a swap limit needs a memory limit"),
    }
}

fn minus_one(value: u64) -> String {
    if value == UNLIMITED { "-1".to_string() } else { value.to_string() }
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

fn throttle(io: &IoMax) -> Vec<(&'static str, String)> {
    // v1 removes a limit by 0.
    let value = |v: u64| if v == UNLIMITED { 0 } else { v };
    let parts = io_parts(io).into_iter();
    parts.filter_map(|(_, file, v)| v.map(|v| (file, format!("{} {}", io.device, value(v))))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CpuMax;

    const V1: &str = "\
1 0 0:1 / /c/cpu rw - cgroup cgroup rw,cpu
2 0 0:2 / /c/memory rw - cgroup cgroup rw,memory
3 0 0:3 / /c/pids rw - cgroup cgroup rw,pids
4 0 0:4 / /c/blkio rw - cgroup cgroup rw,blkio
";

    fn on_v1(limits: Limits) -> (Vec<String>, Vec<String>) {
        let layout = Layout::parse(V1, "1:cpu:/\n2:memory:/\n3:pids:/\n4:blkio:/\n");
        let request = Request { name: "a/b".into(), limits, ..Request::default() };
        let mut lacking = Vec::new();
        let writes = writes(&request, &layout, &mut lacking).unwrap();
        (writes.into_iter().map(|w| format!("{}={}", w.path.display(), w.value)).collect(), lacking)
    }

    #[test]
    fn v1_files() {
        let limits = Limits {
            cpu: Some(CpuMax { quota_us: 50_000, period_us: 100_000 }),
            cpu_weight: Some(100),
            memory_max: Some(100 << 20),
            swap_max: Some(50 << 20),
            pids_max: Some(UNLIMITED),
            io_max: vec![IoMax {
                device: "8:0".into(),
                rbps: Some(1),
                wiops: Some(UNLIMITED),
                ..IoMax::default()
            }],
            ..Limits::default()
        };
        let (writes, lacking) = on_v1(limits);
        assert_eq!(lacking, Vec::<String>::new());
        assert_eq!(
            writes,
            [
                "/c/cpu/a/b/cpu.cfs_period_us=100000",
                "/c/cpu/a/b/cpu.cfs_quota_us=50000",
                "/c/cpu/a/b/cpu.shares=1024",
                "/c/memory/a/b/memory.limit_in_bytes=104857600",
                "/c/memory/a/b/memory.memsw.limit_in_bytes=157286400",
                "/c/pids/a/b/pids.max=max",
                "/c/blkio/a/b/blkio.throttle.read_bps_device=8:0 1",
                "/c/blkio/a/b/blkio.throttle.write_iops_device=8:0 0",
            ]
        );
    }

    #[test]
    fn v1_says_what_it_lacks() {
        let limits = Limits {
            memory_high: Some(1 << 20),
            swap_max: Some(1 << 20),
            cpuset_cpus: Some("0".into()),
            ..Limits::default()
        };
        let (writes, lacking) = on_v1(limits);
        assert!(writes.is_empty());
        assert_eq!(lacking.len(), 3, "{lacking:?}");
        assert!(lacking.iter().any(|l| l.contains("needs a memory limit")), "{lacking:?}");
    }

    #[test]
    fn v2_needs_controllers() {
        let limits = Limits {
            pids_max: Some(1),
            raw: [("memory.swap.high".to_string(), "1".to_string()), ("cgroup.max.depth".into(), "1".into())]
                .into(),
            ..Limits::default()
        };
        assert_eq!(controllers(&limits), ["memory", "pids"]);
    }
}
