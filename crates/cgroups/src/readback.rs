//! The limits that a cgroup has now, in v2's terms.

use crate::stats::number;
use crate::{Cgroup, CpuMax, IoMax, Limits, Rdma, UNLIMITED, convert};
use std::collections::BTreeMap;

impl Cgroup {
    /// Reads the limits back from the kernel. What it does not offer here is `None`; "no limit" is [`UNLIMITED`].
    pub fn limits(&self) -> Limits {
        let one = |file: &str| self.read(file).and_then(|t| max_or_number(&t));
        let memory_max = one("memory.max").or_else(|| self.v1_bytes("memory.limit_in_bytes"));
        Limits {
            cpu: self.cpu_max(),
            cpu_burst_us: one("cpu.max.burst").or_else(|| one("cpu.cfs_burst_us")),
            cpu_weight: one("cpu.weight").or_else(|| one("cpu.shares").map(weight_of_shares)),
            cpu_idle: one("cpu.idle").map(|n| n == 1),
            cpuset_cpus: self.list("cpuset.cpus"),
            cpuset_mems: self.list("cpuset.mems"),
            memory_max,
            memory_high: one("memory.high"),
            // No soft limit on v1 is no protection on v2.
            memory_low: one("memory.low").or_else(|| {
                self.v1_bytes("memory.soft_limit_in_bytes").map(|n| if n == UNLIMITED { 0 } else { n })
            }),
            memory_min: one("memory.min"),
            oom_group: one("memory.oom.group").map(|n| n == 1),
            swap_max: one("memory.swap.max").or_else(|| self.v1_swap(memory_max?)),
            pids_max: one("pids.max"),
            io_weight: self
                .read("io.weight")
                .and_then(|t| number(t.lines().next()?.strip_prefix("default ")?)),
            io_weight_device: self.io_weights(),
            blkio_weight: one("blkio.weight").or_else(|| one("blkio.bfq.weight")),
            io_max: self.io_max(),
            hugetlb: self.hugetlb(),
            rdma: self.read("rdma.max").map(|t| rdma(&t)).unwrap_or_default(),
            ..Limits::default()
        }
    }

    /// One entry a device, of those that have a limit.
    fn io_max(&self) -> Vec<IoMax> {
        if let Some(text) = self.read("io.max") {
            return text.lines().filter_map(io_line).collect();
        }
        let mut all: BTreeMap<String, IoMax> = BTreeMap::new();
        let mut add = |file: &str, slot: fn(&mut IoMax) -> &mut Option<u64>| {
            let text = self.read(&format!("blkio.throttle.{file}_device")).unwrap_or_default();
            for (device, value) in text.lines().filter_map(|l| l.split_once(' ')) {
                let new = || IoMax { device: device.to_string(), ..IoMax::default() };
                *slot(all.entry(device.to_string()).or_insert_with(new)) = number(value);
            }
        };
        add("read_bps", |io| &mut io.rbps);
        add("write_bps", |io| &mut io.wbps);
        add("read_iops", |io| &mut io.riops);
        add("write_iops", |io| &mut io.wiops);
        all.into_values().collect()
    }

    /// Of single devices: `8:0 200`; v1's are converted.
    fn io_weights(&self) -> BTreeMap<String, u64> {
        let pair = |line: &str| {
            let (device, weight) = line.split_once(' ').filter(|(d, _)| d.contains(':'))?;
            Some((device.to_string(), number(weight)?))
        };
        if let Some(text) = self.read("io.weight") {
            return text.lines().filter_map(pair).collect();
        }
        let v1 = self.read("blkio.weight_device").or_else(|| self.read("blkio.bfq.weight_device"));
        let text = v1.unwrap_or_default();
        text.lines().filter_map(pair).map(|(d, w)| (d, convert::io_weight_from_blkio(w))).collect()
    }

    /// By page size; reservations follow.
    fn hugetlb(&self) -> BTreeMap<String, u64> {
        let sizes = crate::device::huge_pages().into_iter();
        let of = |page: &str| {
            // v2, too, shows the largest number of pages where nobody has set a limit.
            let file =
                |end: &str| self.read(&format!("hugetlb.{page}.{end}")).and_then(|t| max_or_number(&t));
            file("max").or_else(|| file("limit_in_bytes")).map(|n| if n >= 1 << 62 { UNLIMITED } else { n })
        };
        sizes.filter_map(|page| of(&page).map(|limit| (page, limit))).collect()
    }

    fn cpu_max(&self) -> Option<CpuMax> {
        if let Some(text) = self.read("cpu.max") {
            let (quota, period) = text.trim().split_once(' ')?;
            return Some(CpuMax::new(max_or_number(quota)?, number(period)?));
        }
        let quota: i64 = self.read("cpu.cfs_quota_us")?.trim().parse().ok()?;
        let period_us = number(&self.read("cpu.cfs_period_us")?)?;
        Some(CpuMax::new(u64::try_from(quota).unwrap_or(UNLIMITED), period_us))
    }

    fn list(&self, file: &str) -> Option<String> {
        self.read(file).map(|t| t.trim().to_string()).filter(|t| !t.is_empty())
    }

    /// v1 has no word for "no limit": it is the largest number of pages.
    fn v1_bytes(&self, file: &str) -> Option<u64> {
        self.read(file).and_then(|t| number(&t)).map(|n| if n >= 1 << 62 { UNLIMITED } else { n })
    }

    fn v1_swap(&self, memory: u64) -> Option<u64> {
        convert::swap_from_memsw(memory, self.v1_bytes("memory.memsw.limit_in_bytes")?)
    }
}

/// The weight whose shares come closest: the inverse of [`convert::shares_from_weight`].
fn weight_of_shares(shares: u64) -> u64 {
    ((shares.min(262_144) * 100 + 512) / 1024).clamp(1, 10_000)
}

/// `8:0 rbps=max wbps=1048576 riops=max wiops=max`; what is max is no limit.
fn io_line(line: &str) -> Option<IoMax> {
    let (device, rest) = line.split_once(' ')?;
    let mut limit = IoMax { device: device.to_string(), ..IoMax::default() };
    for (key, value) in rest.split_whitespace().filter_map(|w| w.split_once('=')) {
        let value = number(value);
        match key {
            "rbps" => limit.rbps = value,
            "wbps" => limit.wbps = value,
            "riops" => limit.riops = value,
            "wiops" => limit.wiops = value,
            _ => {}
        }
    }
    Some(limit)
}

/// `mlx5_0 hca_handle=2 hca_object=max` lines; devices without a limit are left out.
fn rdma(text: &str) -> BTreeMap<String, Rdma> {
    let count =
        |rest: &str, key: &str| rest.split_whitespace().find_map(|w| w.strip_prefix(key)?.parse().ok());
    let line = |line: &str| {
        let (device, rest) = line.split_once(' ')?;
        let limit = Rdma { hca_handles: count(rest, "hca_handle="), hca_objects: count(rest, "hca_object=") };
        (limit != Rdma::default()).then(|| (device.to_string(), limit))
    };
    text.lines().filter_map(line).collect()
}

fn max_or_number(text: &str) -> Option<u64> {
    if text.trim() == "max" { Some(UNLIMITED) } else { number(text) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn lines_of_devices() {
        let io = super::io_line("8:0 rbps=max wbps=1048576 riops=max wiops=7").unwrap();
        assert_eq!((io.device.as_str(), io.rbps, io.wbps, io.wiops), ("8:0", None, Some(1 << 20), Some(7)));
        assert!(super::io_line("").is_none());
        let rdma =
            super::rdma("mlx5_0 hca_handle=2 hca_object=max\nmlx5_1 hca_handle=max hca_object=max\nx\n");
        assert_eq!(rdma.len(), 1);
        assert_eq!((rdma["mlx5_0"].hca_handles, rdma["mlx5_0"].hca_objects), (Some(2), None));
    }

    #[test]
    fn reading_back_a_weight_gives_the_weight() {
        for weight in 1..=10_000 {
            assert_eq!(super::weight_of_shares(crate::convert::shares_from_weight(weight)), weight);
        }
    }
}
