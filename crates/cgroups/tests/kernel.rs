//! Requests as the kernel takes them, on v1, hybrid or v2, as the machine is.
#![allow(clippy::unwrap_used, clippy::panic)] // tests fail so

use drydock_cgroups::{
    Cgroup, CpuMax, DeviceRule, IfExists, IoMax, Layout, Limits, Meter, Mode, Report, Request, UNLIMITED,
    Version,
};
use drydock_core::{Ctx, Result};
use drydock_testkit::{is_root, require, unique};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

/// A cgroup that goes with the test.
struct Made {
    layout: Layout,
    name: String,
    dirs: Vec<PathBuf>,
    report: Report,
}

impl Made {
    fn new(limits: Limits) -> Result<Self> {
        let layout = Layout::detect()?;
        let name = unique("drydock-cg");
        let request = Request {
            name: name.clone(),
            limits,
            lean: true,
            if_exists: IfExists::ReuseEmpty,
            ..Request::default()
        };
        let report = request.validate(&layout)?.apply(&Ctx::silent())?;
        Ok(Self { layout, name, dirs: report.dirs.clone(), report })
    }

    fn change(&mut self, limits: Limits) -> Result<Report> {
        let request = Request { dirs: self.dirs.clone(), limits, ..Request::default() };
        let report = request.validate(&self.layout)?.apply(&Ctx::silent())?;
        self.dirs.clone_from(&report.dirs);
        Ok(report)
    }

    fn cgroup(&self) -> Cgroup {
        Cgroup::at(self.dirs.iter().cloned()).unwrap()
    }

    /// A kernel file; on v1 that of the given name, on v2 the other.
    fn file(&self, v1: &str, v2: &str) -> String {
        self.cgroup().read(if self.is_v2() { v2 } else { v1 }).unwrap_or_default().trim().to_string()
    }

    fn is_v2(&self) -> bool {
        self.layout.mode() == Mode::V2
    }

    fn has(&self, controller: &str) -> bool {
        self.layout.hierarchy_of(controller).is_some()
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = self.cgroup().remove(Duration::from_secs(10));
        let left: Vec<&PathBuf> = self.dirs.iter().filter(|d| d.exists()).collect();
        assert!(left.is_empty() || std::thread::panicking(), "left: {left:?}");
    }
}

struct Sleeper(Child);

impl Sleeper {
    fn new(cgroup: &Cgroup) -> Self {
        let child = Command::new("sleep").arg("300").spawn().unwrap();
        let sleeper = Self(child);
        cgroup.add(sleeper.pid()).unwrap();
        sleeper
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const MIB: u64 = 1 << 20;

fn possible() -> bool {
    is_root() && Layout::detect().is_ok_and(|l| l.hierarchy_of("memory").is_some_and(|h| h.base.is_some()))
}

macro_rules! needs_cgroups {
    () => {
        require!(possible(), "needs root and the memory controller");
    };
}

#[test]
fn numbers_of_a_configuration() {
    needs_cgroups!();
    let limits = Limits {
        memory_max: Some(64 * MIB),
        memory_low: Some(32 * MIB),
        cpu_shares: Some(1000),
        cpu: Some(CpuMax::new(50_000, 200_000)),
        pids_max: Some(0),
        ..Limits::default()
    };
    let made = Made::new(limits).unwrap();
    assert_eq!(made.file("memory.limit_in_bytes", "memory.max"), "67108864");
    assert_eq!(made.file("memory.soft_limit_in_bytes", "memory.low"), "33554432");
    assert_eq!(made.file("cpu.shares", "cpu.weight"), if made.is_v2() { "99" } else { "1000" });
    assert_eq!(made.file("cpu.cfs_quota_us", "cpu.max"), if made.is_v2() { "50000 200000" } else { "50000" });
    assert_eq!(made.file("pids.max", "pids.max"), "1", "0 lets nobody in");
    assert_eq!(made.report.lacking, Vec::<String>::new());
}

#[test]
fn what_only_v1_has_is_told_on_v2() {
    needs_cgroups!();
    let limits = Limits { memory_swappiness: Some(7), oom_kill_disable: Some(true), ..Limits::default() };
    let made = Made::new(limits).unwrap();
    if made.is_v2() {
        assert_eq!(made.report.lacking.len(), 2, "{:?}", made.report);
        assert!(made.report.lacking[0].contains("cgroup v1 only"));
    } else {
        assert_eq!(made.file("memory.swappiness", ""), "7");
        assert!(made.file("memory.oom_control", "").contains("oom_kill_disable 1"));
        assert!(made.report.lacking.is_empty());
    }
}

#[test]
fn v2_files_are_written_as_they_are() {
    needs_cgroups!();
    let unified = |file: &str, value: &str| Limits {
        unified: [(file.to_string(), value.to_string())].into(),
        ..Limits::default()
    };
    let made = Made::new(unified("memory.high", "33554432"));
    let Ok(made) = made.inspect_err(|e| assert!(e.to_string().contains("cgroup v2"), "{e}")) else { return };
    assert_eq!(made.file("", "memory.high"), "33554432");
    assert!(Made::new(unified("frobnicate.max", "1")).is_err(), "no such controller");
    assert!(Made::new(unified("memory.frobnicate", "1")).is_err(), "no such file");
}

#[test]
fn a_change_leaves_the_rest_as_it_is() {
    needs_cgroups!();
    let cpu = Some(CpuMax::new(50_000, 100_000));
    let mut made = Made::new(Limits { cpu, pids_max: Some(20), ..Limits::default() }).unwrap();
    let part =
        |quota_us, period_us| Limits { cpu: Some(CpuMax { quota_us, period_us }), ..Limits::default() };
    let now = |made: &Made| made.cgroup().limits();
    made.change(part(Some(30_000), None)).unwrap();
    assert_eq!(now(&made).cpu, Some(CpuMax::new(30_000, 100_000)));
    made.change(part(None, Some(200_000))).unwrap();
    assert_eq!(now(&made).cpu, Some(CpuMax::new(30_000, 200_000)));
    made.change(part(Some(UNLIMITED), Some(50_000))).unwrap();
    assert_eq!(now(&made).cpu, Some(CpuMax::new(UNLIMITED, 50_000)));
    assert_eq!(now(&made).pids_max, Some(20));
    made.change(Limits { pids_max: Some(UNLIMITED), ..Limits::default() }).unwrap();
    assert_eq!(now(&made).pids_max, Some(UNLIMITED));
}

#[test]
fn memory_and_swap_in_any_order() {
    needs_cgroups!();
    let mut made = Made::new(Limits::default()).unwrap();
    let swap = made.cgroup().limits().swap_max.is_some()
        || made.dirs.iter().any(|d| d.join("memory.memsw.limit_in_bytes").exists());
    require!(swap, "the kernel does not account swap");
    let memory = |mib: u64| Limits { memory_max: Some(mib * MIB), ..Limits::default() };
    for (alone, both) in [(50, 100), (200, 300), (200, 200), (20, 60)] {
        made.change(Limits { memsw_max: Some(both * MIB), ..memory(alone) }).unwrap();
        let now = made.cgroup().limits();
        assert_eq!((now.memory_max, now.swap_max), (Some(alone * MIB), Some((both - alone) * MIB)));
    }
    // One alone leaves the other's file as it is, and both can grow by the sum alone.
    made.change(memory(40)).unwrap();
    assert_eq!(
        made.file("memory.memsw.limit_in_bytes", "memory.swap.max"),
        if made.is_v2() { "41943040" } else { "62914560" }
    );
    made.change(Limits { memsw_max: Some(90 * MIB), ..Limits::default() }).unwrap();
    assert_eq!(made.cgroup().limits().swap_max, Some(50 * MIB));
    // No limit of memory is none of swap.
    made.change(Limits { memory_max: Some(UNLIMITED), ..Limits::default() }).unwrap();
    let now = made.cgroup().limits();
    assert_eq!((now.memory_max, now.swap_max), (Some(UNLIMITED), Some(UNLIMITED)));
    // A sum alone, without any limit of memory, means nothing.
    assert!(made.change(Limits { memsw_max: Some(MIB), ..Limits::default() }).is_err());
}

#[test]
fn a_limit_below_what_is_in_use_is_refused() {
    needs_cgroups!();
    let mut made = Made::new(Limits::default()).unwrap();
    require!(made.is_v2(), "needs cgroup v2: v1's kernel refuses by itself");
    let _inside = Sleeper::new(&made.cgroup());
    let usage: u64 = made.file("", "memory.current").parse().unwrap();
    // The page tables at least are charged to it when it runs.
    let small = Limits { memory_max: Some(4096), memory_check: true, ..Limits::default() };
    if usage >= 4096 {
        let refused = made.change(small).unwrap_err();
        assert!(refused.to_string().contains("rejecting memory limit"), "{refused}");
        assert_eq!(made.file("", "memory.max"), "max");
    }
    let large = Limits { memory_max: Some(512 * MIB), memory_check: true, ..Limits::default() };
    made.change(large).unwrap();
}

#[test]
fn a_controller_is_added_to_a_running_cgroup() {
    needs_cgroups!();
    let mut made = Made::new(Limits::default()).unwrap();
    require!(made.has("cpuset"), "needs the cpuset controller");
    let inside = Sleeper::new(&made.cgroup());
    assert!(made.is_v2() || made.cgroup().read("cpuset.cpus").is_none(), "a lean cgroup has none");
    made.change(Limits { cpuset_cpus: Some("0".into()), ..Limits::default() }).unwrap();
    assert_eq!(made.file("cpuset.cpus", "cpuset.cpus"), "0");
    let status = std::fs::read_to_string(format!("/proc/{}/status", inside.pid())).unwrap();
    assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
    // Once more, with what is there now.
    made.change(Limits { cpuset_cpus: Some("0".into()), ..Limits::default() }).unwrap();
}

#[test]
fn a_cgroup_with_processes_is_nobody_elses() {
    needs_cgroups!();
    let made = Made::new(Limits::default()).unwrap();
    let again = || {
        let request = Request {
            name: made.name.clone(),
            if_exists: IfExists::ReuseEmpty,
            lean: true,
            ..Request::default()
        };
        request.validate(&made.layout)?.apply(&Ctx::silent())
    };
    again().unwrap();
    let inside = Sleeper::new(&made.cgroup());
    let refused = again().unwrap_err();
    assert!(refused.to_string().contains("container's cgroup is not empty"), "{refused}");
    assert!(made.cgroup().pids().unwrap().contains(&inside.pid()), "untouched");
    drop(inside);
    made.cgroup().freeze().unwrap();
    let refused = again().unwrap_err();
    made.cgroup().thaw().unwrap();
    assert!(refused.to_string().contains("unexpectedly frozen"), "{refused}");
}

#[test]
fn a_complete_cgroup_is_in_every_hierarchy() {
    needs_cgroups!();
    let layout = Layout::detect().unwrap();
    // Below a parent of its own: v1's kernel copies processors into the second child by itself.
    let parent = unique("drydock-cg");
    for _ in 0..2 {
        let name = format!("{parent}/in");
        let request = Request { name: name.clone(), lean: true, complete: true, ..Request::default() };
        let report = request.validate(&layout).unwrap().apply(&Ctx::silent()).unwrap();
        assert_eq!(report.dirs.len(), layout.hierarchies().len());
        let cgroup = Cgroup::open(&name, &layout).unwrap();
        assert_eq!(cgroup.dirs().count(), report.dirs.len(), "all are found by the name");
        let inside = Sleeper::new(&cgroup);
        let joined = std::fs::read_to_string(format!("/proc/{}/cgroup", inside.pid())).unwrap();
        assert!(joined.lines().all(|line| line.ends_with(&name)), "{joined}");
        let enabled = cgroup.read("cgroup.controllers").unwrap_or_default();
        let v2 = layout.v2().map_or(&[][..], |v2| &v2.controllers);
        assert!(v2.iter().all(|c| enabled.split_whitespace().any(|e| e == c)), "{enabled}");
        drop(inside);
        // Only the first level's directories are kept for the second round.
        cgroup.remove_keeping_parents(Duration::from_secs(10)).unwrap();
    }
    let dirs = layout.hierarchies().iter().filter_map(|h| Some(h.base.as_ref()?.join(&parent)));
    Cgroup::at(dirs).unwrap().remove(Duration::from_secs(10)).unwrap();
}

#[test]
fn rates_and_weights_of_disks() {
    needs_cgroups!();
    let disk = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let disk = disk.filter_map(|e| std::fs::read_to_string(e.path().join("dev")).ok()).next();
    require!(disk.is_some(), "needs a block device");
    let device = disk.unwrap().trim().to_string();
    let rates = |rbps, wiops| Limits {
        io_max: vec![IoMax { device: device.clone(), rbps, wiops, ..IoMax::default() }],
        ..Limits::default()
    };
    let mut made = Made::new(rates(Some(MIB), Some(100))).unwrap();
    if made.is_v2() {
        assert_eq!(made.file("", "io.max"), format!("{device} rbps=1048576 wbps=max riops=max wiops=100"));
    } else {
        assert_eq!(made.file("blkio.throttle.read_bps_device", ""), format!("{device} 1048576"));
        assert_eq!(made.file("blkio.throttle.write_iops_device", ""), format!("{device} 100"));
    }
    made.change(rates(Some(UNLIMITED), Some(UNLIMITED))).unwrap();
    assert_eq!(made.file("blkio.throttle.read_bps_device", "io.max"), "");
    let weight = made.change(Limits { blkio_weight: Some(500), ..Limits::default() });
    match weight.map(|r| r.settings) {
        Ok(set) if set[0].file == "io.weight" => {
            assert_eq!(set[0].kernel.lines().next(), Some("default 4950"))
        }
        Ok(set) => assert!(set[0].kernel.ends_with("500"), "{set:?}"),
        Err(e) => assert!(e.to_string().contains("bfq"), "{e}"),
    }
}

#[test]
fn huge_pages_and_their_reservations() {
    needs_cgroups!();
    let layout = Layout::detect().unwrap();
    require!(layout.hierarchy_of("hugetlb").is_some(), "needs the hugetlb controller");
    require!(Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB").exists(), "needs huge pages of 2 MB");
    let made =
        Made::new(Limits { hugetlb: [("2MB".to_string(), 4 * MIB)].into(), ..Limits::default() }).unwrap();
    let read = |file: &str| made.cgroup().read(file).map(|t| t.trim().to_string());
    let limit = |kind: &str| {
        read(&format!("hugetlb.2MB{kind}.max")).or_else(|| read(&format!("hugetlb.2MB{kind}.limit_in_bytes")))
    };
    assert_eq!(limit("").unwrap(), "4194304");
    assert!(limit(".rsvd").is_none_or(|l| l == "4194304"));
}

#[test]
fn v2_is_delegated_v1_is_not() {
    needs_cgroups!();
    let made = Made::new(Limits { memory_max: Some(64 * MIB), ..Limits::default() }).unwrap();
    let v2 = made.layout.hierarchies().iter().any(|h| h.version == Version::V2);
    require!(v2, "needs cgroup v2");
    made.cgroup().delegate(4711, &Ctx::silent()).unwrap();
    let owner = |path: &Path| std::fs::metadata(path).unwrap().uid();
    let dir = made.dirs.last().unwrap();
    let new = if made.is_v2() { 4711 } else { 0 };
    assert_eq!((owner(dir), owner(&dir.join("cgroup.procs"))), (new, new));
    if made.is_v2() {
        assert_eq!(owner(&dir.join("memory.max")), 0, "its limits are not its own");
    }
}

#[test]
fn the_default_devices() {
    needs_cgroups!();
    let devices = Some(DeviceRule::container_defaults());
    let mut made = Made::new(Limits { devices, ..Limits::default() }).unwrap();
    assert_eq!(made.report.lacking, Vec::<String>::new());
    if made.has("devices") {
        let list = made.file("devices.list", "");
        for line in ["c *:* m", "b *:* m", "c 1:3 rwm", "c 5:2 rwm", "c 136:* rwm", "c 10:200 rwm"] {
            assert!(list.lines().any(|l| l == line), "{line} in {list}");
        }
        assert_eq!(list.lines().count(), 11);
    }
    // Changed while it is there: v2 has one program still, or this would allow less and less.
    made.change(Limits { devices: Some(vec![]), ..Limits::default() }).unwrap();
    made.change(Limits { devices: Some(DeviceRule::container_defaults()), ..Limits::default() }).unwrap();
    let script = format!(
        "echo 0 > {}; exec cat /dev/null",
        made.dirs
            .iter()
            .map(|d| d.join("cgroup.procs").display().to_string())
            .collect::<Vec<_>>()
            .join("; echo 0 > ")
    );
    let ran = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
}

#[test]
fn a_meter_reads_what_stats_reads_and_sees_the_end() {
    require!(is_root(), "needs root");
    let made = Made::new(Limits { pids_max: Some(7), ..Limits::default() }).unwrap();
    let meter = Meter::open(made.dirs.iter().cloned()).unwrap();
    for _ in 0..2 {
        // Nothing runs in it: the counters stand still.
        assert_eq!(meter.read(), Some(made.cgroup().stats()));
    }
    drop(made);
    assert_eq!(meter.read(), None, "the cgroup is gone");
}
