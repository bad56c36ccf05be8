//! The kernel's ranges: what is outside of them is refused before anything is touched.

use crate::limits::{Limits, UNLIMITED, bad, parse_list};
use crate::resources::{DeviceWeight, IoMax};
use crate::rules::DeviceRule;
use drydock_core::{Error, Result};

/// The kernel counts bytes in pages, in a signed number.
const TOP: u64 = (1 << 63) - 4096;

impl Limits {
    /// Checks all numbers against the kernel's ranges. Touches nothing.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] naming the limit and what is allowed.
    pub fn check(&self) -> Result<()> {
        self.check_cpu()?;
        self.check_memory()?;
        self.check_io()?;
        check(self.pids_max, |v| range_or_max("pids.max", v, 0, 4_194_304, ""))?;
        for (page, bytes) in &self.hugetlb {
            if page.is_empty() || !page.bytes().all(|b| b.is_ascii_alphanumeric()) {
                let problem = "not a page size (allowed: as in /sys/kernel/mm, 2MB)";
                return Err(bad("hugetlb page size", page, problem));
            }
            range_or_max("hugetlb", *bytes, 0, TOP, " bytes")?;
        }
        for interface in self.net_prio.keys() {
            check_word("net_prio interface", interface)?;
        }
        for (device, rdma) in &self.rdma {
            check_word("rdma device", device)?;
            if *rdma == crate::Rdma::default() {
                return Err(bad("rdma", device, "without a limit (allowed: hca_handles, hca_objects)"));
            }
        }
        self.devices.iter().flatten().try_for_each(DeviceRule::check)?;
        self.unified.iter().try_for_each(|(file, value)| check_unified(file, value))?;
        self.raw.iter().try_for_each(|(file, value)| check_raw(file, value))
    }

    fn check_cpu(&self) -> Result<()> {
        let us = " microseconds";
        // The scheduler counts in nanoseconds below 2^44.
        let top = (1 << 44) / 1000;
        if let Some(cpu) = self.cpu {
            check(cpu.period_us, |v| range("cpu.max period", v, 1000, 1_000_000, us))?;
            check(cpu.quota_us, |v| range_or_max("cpu.max quota", v, 1000, top, us))?;
        }
        check(self.cpu_burst_us, |v| range("cpu.max.burst", v, 0, top, us))?;
        if let (Some(burst), Some(quota)) = (self.cpu_burst_us, self.cpu.and_then(|cpu| cpu.quota_us))
            && burst > quota
        {
            let problem = format!("{burst} is more than the quota (allowed: up to {quota}{us})");
            return Err(Error::bad_input("cpu.max.burst", problem));
        }
        check(self.cpu_weight, |v| range("cpu.weight", v, 1, 10_000, ""))?;
        check(self.cpu_rt_period_us, |v| range("cpu.rt_period_us", v, 1, top, us))?;
        check(self.cpu_rt_runtime_us, |v| range_or_max("cpu.rt_runtime_us", v, 0, top, us))?;
        either("cpu.weight", self.cpu_weight, "cpu.shares", self.cpu_shares)?;
        for (file, list) in [("cpuset.cpus", &self.cpuset_cpus), ("cpuset.mems", &self.cpuset_mems)] {
            if let Some(list) = list {
                parse_list(file, list)?;
            }
        }
        Ok(())
    }

    /// Nothing can begin in less than a page. A running cgroup may be given less: its end is wanted then.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] naming the limit and what is allowed.
    pub fn check_pages(&self) -> Result<()> {
        let bytes = " bytes (a page or more)";
        check(self.memory_max, |v| range_or_max("memory.max", v, 4096, TOP, bytes))?;
        check(self.memory_high, |v| range_or_max("memory.high", v, 4096, TOP, bytes))
    }

    fn check_memory(&self) -> Result<()> {
        let bytes = " bytes";
        // Of a running one; a new one cannot begin in less than a page, and 0 is for neither.
        let least = |v: u64| if v == 0 { 4096 } else { 1 };
        check(self.memory_max, |v| range_or_max("memory.max", v, least(v), TOP, bytes))?;
        check(self.memory_high, |v| range_or_max("memory.high", v, least(v), TOP, bytes))?;
        check(self.memory_low, |v| range_or_max("memory.low", v, 0, TOP, " bytes"))?;
        check(self.memory_min, |v| range_or_max("memory.min", v, 0, TOP, " bytes"))?;
        check(self.swap_max, |v| range_or_max("memory.swap.max", v, 0, TOP, " bytes"))?;
        check(self.memsw_max, |v| range_or_max("memory.memsw.limit_in_bytes", v, 1, TOP, bytes))?;
        check(self.memory_swappiness, |v| range("memory.swappiness", v, 0, 100, ""))?;
        either("memory.swap.max", self.swap_max, "memory.memsw.limit_in_bytes", self.memsw_max)?;
        match (self.memory_max, self.memsw_max) {
            (Some(memory), Some(both)) if memory != UNLIMITED && both < memory => Err(Error::bad_input(
                "memory.memsw.limit_in_bytes",
                format!("{both} is less than the memory limit (allowed: {memory} and more: it counts both)"),
            )),
            _ => Ok(()),
        }
    }

    fn check_io(&self) -> Result<()> {
        check(self.io_weight, |v| range("io.weight", v, 1, 10_000, ""))?;
        check(self.blkio_weight, |v| range("blkio.weight", v, 10, 1000, ""))?;
        check(self.blkio_leaf_weight, |v| range("blkio.leaf_weight", v, 10, 1000, ""))?;
        either("io.weight", self.io_weight, "blkio.weight", self.blkio_weight)?;
        self.blkio_weight_device.iter().try_for_each(DeviceWeight::check)?;
        for (device, weight) in &self.io_weight_device {
            crate::device::check_numbers(device)?;
            range("io.weight", *weight, 0, 10_000, "")?;
        }
        self.io_max.iter().try_for_each(IoMax::check)
    }
}

/// Two fields for the same thing.
fn either(one: &str, a: Option<u64>, other: &str, b: Option<u64>) -> Result<()> {
    if a.is_some() && b.is_some() {
        return Err(Error::bad_input(one, format!("given together with {other} (allowed: one of them)")));
    }
    Ok(())
}

/// A name that stands in a line with other words.
fn check_word(object: &str, word: &str) -> Result<()> {
    let plain = |c: char| !c.is_whitespace() && !c.is_control();
    if word.is_empty() || word.len() > 255 || !word.chars().all(plain) {
        return Err(bad(object, word, "not a name (allowed: 1 to 255 characters without spaces)"));
    }
    Ok(())
}

impl DeviceWeight {
    fn check(&self) -> Result<()> {
        crate::device::check_numbers(&self.device)?;
        if self.weight.is_none() && self.leaf_weight.is_none() {
            return Err(bad(
                "device weight",
                &self.device,
                "without a weight (allowed: weight, leaf weight)",
            ));
        }
        check(self.weight, |v| range("blkio.weight_device", v, 10, 1000, ""))?;
        check(self.leaf_weight, |v| range("blkio.leaf_weight_device", v, 10, 1000, ""))
    }
}

impl IoMax {
    fn check(&self) -> Result<()> {
        crate::device::check_numbers(&self.device)?;
        let all = [("rbps", self.rbps), ("wbps", self.wbps), ("riops", self.riops), ("wiops", self.wiops)];
        if all.iter().all(|(_, v)| v.is_none()) {
            return Err(bad("io.max", &self.device, "says no limit (allowed: rbps=, wbps=, riops=, wiops=)"));
        }
        all.iter().try_for_each(|(key, v)| check(*v, |v| range_or_max(key, v, 1, 1 << 62, "")))
    }
}

fn check(value: Option<u64>, rule: impl Fn(u64) -> Result<()>) -> Result<()> {
    value.map_or(Ok(()), rule)
}

fn range(object: &str, value: u64, low: u64, high: u64, unit: &str) -> Result<()> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    let shown = if value == UNLIMITED { "max".to_string() } else { value.to_string() };
    Err(Error::bad_input(object, format!("{shown} is out of range (allowed: {low} to {high}{unit})")))
}

fn range_or_max(object: &str, value: u64, low: u64, high: u64, unit: &str) -> Result<()> {
    if value == UNLIMITED || (low..=high).contains(&value) {
        return Ok(());
    }
    Err(Error::bad_input(object, format!("{value} is out of range (allowed: {low} to {high}{unit}, or max)")))
}

fn check_file(file: &str) -> Result<()> {
    let safe = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-');
    let named =
        file.split_once('.').is_some_and(|(controller, rest)| !controller.is_empty() && !rest.is_empty());
    if !named || file.len() > 128 || !file.bytes().all(safe) || file.contains("..") {
        return Err(bad("setting", file, "not a kernel file (allowed: CONTROLLER.FILE such as memory.high)"));
    }
    Ok(())
}

/// All that there ever were.
const CONTROLLERS: [&str; 18] = [
    "cgroup",
    "cpu",
    "cpuset",
    "memory",
    "io",
    "pids",
    "hugetlb",
    "rdma",
    "misc",
    "dmem",
    "devices",
    "cpuacct",
    "blkio",
    "freezer",
    "net_cls",
    "net_prio",
    "perf_event",
    "debug",
];

fn check_raw(file: &str, value: &str) -> Result<()> {
    check_file(file)?;
    let controller = file.split('.').next().unwrap_or_default();
    if !CONTROLLERS.contains(&controller) {
        let problem = format!("of no controller (allowed: {})", CONTROLLERS.join(", "));
        return Err(bad("setting", file, &problem));
    }
    if file.starts_with("cgroup.") && !matches!(file, "cgroup.max.depth" | "cgroup.max.descendants") {
        return Err(bad(
            "setting",
            file,
            "not a limit (allowed of cgroup.*: cgroup.max.depth, cgroup.max.descendants; to freeze and kill there are commands)",
        ));
    }
    match file {
        // A line a device or resource.
        "io.latency" | "misc.max" => value.split('\n').try_for_each(|line| check_value(file, line)),
        _ => check_value(file, value),
    }
}

/// Files that move, stop or kill processes, or change what the tree is, are no resources.
fn check_unified(file: &str, value: &str) -> Result<()> {
    const NOT_LIMITS: [&str; 6] = [
        "cgroup.procs",
        "cgroup.threads",
        "cgroup.kill",
        "cgroup.freeze",
        "cgroup.type",
        "cgroup.subtree_control",
    ];
    check_file(file)?;
    if NOT_LIMITS.contains(&file) {
        return Err(bad("unified resource", file, "not a limit (allowed: the controllers' files)"));
    }
    value.trim_end_matches('\n').split('\n').try_for_each(|line| check_value(file, line))
}

fn check_value(file: &str, value: &str) -> Result<()> {
    if value.is_empty() || value.len() > 4000 || value.chars().any(char::is_control) {
        return Err(bad(file, value, "not a value (allowed: 1 to 4000 printable characters)"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CpuMax;

    #[test]
    fn ranges() {
        let ok = |limits: Limits| limits.check().is_ok();
        assert!(ok(Limits { memory_max: Some(UNLIMITED), swap_max: Some(0), ..Limits::default() }));
        let small = Limits { memory_max: Some(1), ..Limits::default() };
        assert!(ok(small.clone()) && small.check_pages().is_err());
        assert!(!ok(Limits { memory_max: Some(1 << 63), ..Limits::default() }));
        assert!(!ok(Limits { cpu_weight: Some(0), ..Limits::default() }));
        assert!(!ok(Limits { cpu_weight: Some(10_001), ..Limits::default() }));
        assert!(!ok(Limits { pids_max: Some(4_194_305), ..Limits::default() }));
        let cpu = |quota, period| Limits { cpu: Some(CpuMax::new(quota, period)), ..Limits::default() };
        assert!(ok(cpu(1000, 1000)) && ok(cpu(UNLIMITED, 1_000_000)));
        assert!(!ok(cpu(0, 100_000)) && !ok(cpu(999, 100_000)));
        assert!(!ok(cpu(50_000, 0)) && !ok(cpu(50_000, 1_000_001)));
        let raw = |k: &str, v: &str| Limits { raw: [(k.into(), v.into())].into(), ..Limits::default() };
        assert!(ok(raw("memory.swap.high", "1000")) && ok(raw("cgroup.max.depth", "3")));
        for (k, v) in [
            ("cgroup.procs", "1"),
            ("x/../y.z", "1"),
            ("memory", "1"),
            ("a.b", ""),
            ("a.b", "1\n2"),
            ("..", "1"),
        ] {
            assert!(!ok(raw(k, v)), "{k}={v}");
        }
    }

    #[test]
    fn what_only_one_version_has() {
        let ok = |limits: Limits| limits.check().is_ok();
        let none = Limits::default;
        assert!(ok(Limits { memory_max: Some(8192), memsw_max: Some(8192), ..none() }));
        assert!(!ok(Limits { memory_max: Some(8192), memsw_max: Some(4096), ..none() }));
        assert!(!ok(Limits { swap_max: Some(8192), memsw_max: Some(8192), ..none() }));
        assert!(!ok(Limits { cpu_weight: Some(1), cpu_shares: Some(2), ..none() }));
        assert!(!ok(Limits { memory_swappiness: Some(101), ..none() }));
        assert!(!ok(Limits { blkio_weight: Some(9), ..none() }));
        let rule = |access: &str| DeviceRule { access: access.into(), ..DeviceRule::default() };
        assert!(ok(Limits { devices: Some(vec![rule("rm")]), ..none() }));
        assert!(ok(Limits { devices: Some(vec![rule("rwa")]), ..none() }), "as other runtimes have it");
        assert!(!ok(Limits { devices: Some(vec![rule("rx")]), ..none() }));
        assert!(!ok(Limits { devices: Some(vec![rule("")]), ..none() }));
        let unified = |k: &str, v: &str| Limits { unified: [(k.into(), v.into())].into(), ..none() };
        assert!(ok(unified("io.max", "8:0 rbps=1\n8:16 wbps=2")) && ok(unified("cgroup.max.depth", "1")));
        for (k, v) in
            [("cgroup.procs", "1"), ("../memory.max", "1"), ("memory", "1"), ("a.b", ""), ("a.b", "\0")]
        {
            assert!(!ok(unified(k, v)), "{k}={v:?}");
        }
        let word = |name: &str| Limits { net_prio: [(name.to_string(), 1)].into(), ..none() };
        assert!(ok(word("eth0")) && !ok(word("")) && !ok(word("eth0 1\neth1")));
    }
}
