//! Limits into the files of the hierarchy that has the controller.

use crate::devices::Gate;
use crate::files;
use crate::items::{File, Item, Way, items};
use crate::layout::{Hierarchy, Layout, Version};
use crate::plan::{MemoryCheck, Write};
use crate::request::{IfExists, Request};
use crate::{Limits, UNLIMITED};
use drydock_core::Result;
use std::path::Path;

/// The controllers (v2 names) that the limits need.
pub fn controllers(limits: &Limits) -> Vec<String> {
    let mut all: Vec<String> = items(limits, None).into_iter().map(|i| i.controller).collect();
    all.sort();
    all.dedup();
    all.retain(|c| c != "cgroup");
    all
}

/// What is to be done on this machine.
#[derive(Default)]
pub struct Todo {
    /// In order.
    pub writes: Vec<Write>,
    pub gate: Option<Gate>,
    pub check: Option<MemoryCheck>,
    /// What cannot be done, and why.
    pub lacking: Vec<String>,
    /// What this machine's cgroups have no use for, and why.
    pub ignored: Vec<String>,
}

/// Translates a request for this machine.
///
/// # Errors
/// Device rules that v1 cannot do.
pub fn todo(request: &Request, layout: &Layout) -> Result<Todo> {
    let mut todo = Todo::default();
    let (limits, memory) = with_current(request, layout);
    for item in items(&limits, memory) {
        todo.add(item, request, layout);
    }
    if let Some(rules) = &limits.devices {
        match Gate::hierarchy(layout).and_then(|h| Some((h.version, request.dir_in(h)?))) {
            Some((version, dir)) => todo.gate = Some(Gate::new(rules, dir, version, request.if_exists)?),
            None => todo.lacking.push(format!("devices: {}", why_no_controller(layout, "devices"))),
        }
    }
    todo.check = memory_check(request, layout);
    Ok(todo)
}

impl Todo {
    fn add(&mut self, item: Item, request: &Request, layout: &Layout) {
        let Item { controller, what, v1, v2 } = item;
        let found = find(layout, &controller);
        let v1_machine = layout.mode() != crate::Mode::V2;
        let way = match found.map(|h| h.version) {
            Some(Version::V1) => v1,
            Some(Version::V2) => v2,
            None if v1_machine => v1,
            None => v2,
        };
        let files = match way {
            Way::Files(files) => files,
            Way::Lacks(why) => return self.lacking.push(format!("{what}: {why}")),
            Way::Ignored(why) => return self.ignored.push(format!("{what}: {why}")),
        };
        let Some(hierarchy) = found else {
            return self.lacking.push(format!("{what}: {}", why_no_controller(layout, &controller)));
        };
        match request.dir_in(hierarchy) {
            Some(dir) => self.writes.extend(files.into_iter().map(|file| write(&dir, file))),
            None => {
                let mount = hierarchy.mount.display();
                self.lacking.push(format!("{what}: no permission to make cgroups in {mount}"));
            }
        }
    }
}

fn write(dir: &Path, file: File) -> Write {
    let File { name, value, instead, optional, raw } = file;
    Write { dir: dir.to_path_buf(), file: name, value, instead, optional, raw }
}

/// v1's kernel itself refuses a limit below what is in use.
fn memory_check(request: &Request, layout: &Layout) -> Option<MemoryCheck> {
    let hierarchy = layout.hierarchy_of("memory").filter(|h| h.version == Version::V2)?;
    if !request.limits.memory_check || request.if_exists != IfExists::Require {
        return None;
    }
    let limits = [("memory+swap", request.limits.memsw_max), ("memory", request.limits.memory_max)];
    let limits = limits.into_iter().filter_map(|(what, v)| Some((what, v.filter(|v| *v != UNLIMITED)?)));
    Some(MemoryCheck { dir: request.dir_in(hierarchy)?, limits: limits.collect() })
}

/// What the new limits depend on of the present ones, when the cgroup is there: v1 limits memory and swap together, so a
/// change of one needs the other to mean what it means on v2; v2 wants the quota with the period. Returns the completed
/// limits, and the memory limit that holds.
fn with_current(request: &Request, layout: &Layout) -> (Limits, Option<u64>) {
    let mut limits = request.limits.clone();
    let memory = limits.memory_max;
    if !matches!(request.if_exists, IfExists::Require | IfExists::Reuse) {
        return (limits, memory);
    }
    let now = |controller: &str, file: &str| {
        let dir = request.dir_in(layout.hierarchy_of(controller)?)?;
        files::read_if_there(&dir.join(file))
    };
    let number = |file: &str| now("memory", file)?.trim().parse::<u64>().ok().filter(|n| *n < 1 << 62);
    let version = |c: &str| layout.hierarchy_of(c).map(|h| h.version);
    if let Some(cpu) = limits.cpu.as_mut().filter(|c| c.quota_us.is_none())
        && version("cpu") == Some(Version::V2)
        && let Some(text) = now("cpu", "cpu.max")
    {
        let quota = text.split(' ').next().unwrap_or_default();
        cpu.quota_us = Some(quota.parse().unwrap_or(UNLIMITED));
    }
    let swap_asked = limits.swap_max.is_some() || limits.memsw_max.is_some();
    match (memory, version("memory")) {
        (None, Some(Version::V1)) if swap_asked => (limits, number("memory.limit_in_bytes")),
        (None, Some(Version::V2)) if limits.memsw_max.is_some() => (limits, number("memory.max")),
        (Some(new), Some(Version::V1)) if !swap_asked => {
            let (old, both) = (number("memory.limit_in_bytes"), number("memory.memsw.limit_in_bytes"));
            // A container's sum is what was asked for: it stays as long as it can.
            let fits = !request.dirs.is_empty() && both.is_some_and(|both| new <= both);
            limits.swap_max = both.zip(old).filter(|_| !fits).and_then(|(both, old)| both.checked_sub(old));
            (limits, memory)
        }
        _ => (limits, memory),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CpuMax, IoMax};

    const V1: &str = "\
1 0 0:1 / /c/cpu rw - cgroup cgroup rw,cpu
2 0 0:2 / /c/memory rw - cgroup cgroup rw,memory
3 0 0:3 / /c/pids rw - cgroup cgroup rw,pids
4 0 0:4 / /c/blkio rw - cgroup cgroup rw,blkio
";

    fn on_v1(limits: Limits) -> (Vec<String>, Vec<String>) {
        let layout = Layout::parse(V1, "1:cpu:/\n2:memory:/\n3:pids:/\n4:blkio:/\n");
        let request = Request { name: "a/b".into(), limits, ..Request::default() };
        let Todo { writes, lacking, .. } = todo(&request, &layout).unwrap();
        (writes.into_iter().map(|w| format!("{}={}", w.path().display(), w.value)).collect(), lacking)
    }

    #[test]
    fn v1_files() {
        let limits = Limits {
            cpu: Some(CpuMax::new(50_000, 100_000)),
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
                "/c/pids/a/b/pids.max=max",
                "/c/memory/a/b/memory.limit_in_bytes=104857600",
                "/c/memory/a/b/memory.memsw.limit_in_bytes=157286400",
                "/c/blkio/a/b/blkio.throttle.read_bps_device=8:0 1",
                "/c/blkio/a/b/blkio.throttle.write_iops_device=8:0 0",
                "/c/cpu/a/b/cpu.shares=1024",
                "/c/cpu/a/b/cpu.cfs_period_us=100000",
                "/c/cpu/a/b/cpu.cfs_quota_us=50000",
            ]
        );
    }

    fn everything_v1_only() -> Limits {
        Limits {
            memory_swappiness: Some(7),
            cpu_rt_runtime_us: Some(UNLIMITED),
            net_cls_classid: Some(0x0010_0001),
            net_prio: [("eth0".to_string(), 5)].into(),
            blkio_leaf_weight: Some(10),
            ..Limits::default()
        }
    }

    #[test]
    fn the_network_classes_are_v1s() {
        let layout = Layout::parse(
            "1 0 0:1 / /c/net rw - cgroup cgroup rw,net_cls,net_prio\n2 0 0:2 / /c/rdma rw - cgroup cgroup rw,rdma\n",
            "1:net_cls,net_prio:/\n2:rdma:/\n",
        );
        let rdma = crate::Rdma { hca_handles: Some(3), hca_objects: None };
        let limits = Limits { rdma: [("mlx5".to_string(), rdma)].into(), ..everything_v1_only() };
        let todo = todo(&Request { name: "a".into(), limits, ..Request::default() }, &layout).unwrap();
        let shown: Vec<_> =
            todo.writes.iter().map(|w| format!("{}={}", w.path().display(), w.value)).collect();
        assert_eq!(
            shown,
            [
                "/c/net/a/net_cls.classid=1048577",
                "/c/net/a/net_prio.ifpriomap=eth0 5",
                "/c/rdma/a/rdma.max=mlx5 hca_handle=3"
            ]
        );
        // Asked for, and not mounted: no silence.
        assert_eq!((todo.lacking.len(), todo.ignored.len()), (3, 0), "{:?}", todo.lacking);
    }

    #[test]
    fn v2_has_no_use_for_them() {
        let mut layout = Layout::parse("1 0 0:1 / /c rw - cgroup2 cgroup2 rw\n", "0::/\n");
        layout.offer_all();
        let request = |limits| Request { name: "a".into(), limits, ..Request::default() };
        let found = todo(&request(everything_v1_only()), &layout).unwrap();
        assert_eq!(
            (found.writes.len(), found.lacking.len(), found.ignored.len()),
            (0, 0, 5),
            "{:?}",
            found.ignored
        );
        let memsw = |memory_max, memsw_max| {
            let found =
                todo(&request(Limits { memory_max, memsw_max, ..Limits::default() }), &layout).unwrap();
            let shown = |w: &Write| format!("{}={}{}", w.file, w.value, if w.optional { "?" } else { "" });
            found.writes.iter().map(shown).chain(found.lacking).collect::<Vec<_>>()
        };
        assert_eq!(memsw(Some(4096), Some(12288)), ["memory.swap.max=8192", "memory.max=4096"]);
        assert_eq!(memsw(Some(4096), Some(4096)), ["memory.swap.max=0?", "memory.max=4096"], "no swap");
        assert_eq!(memsw(Some(UNLIMITED), Some(4096)), ["memory.swap.max=4096", "memory.max=max"]);
        assert_eq!(memsw(None, Some(UNLIMITED)), ["memory.swap.max=max?"]);
        assert!(memsw(None, Some(4096))[0].contains("needs a memory limit"));
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
