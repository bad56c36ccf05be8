//! The limits that a cgroup has now, in v2's terms.

use crate::stats::number;
use crate::{Cgroup, CpuMax, Limits, UNLIMITED, convert};

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
            memory_low: one("memory.low").or_else(|| self.v1_bytes("memory.soft_limit_in_bytes")),
            memory_min: one("memory.min"),
            oom_group: one("memory.oom.group").map(|n| n == 1),
            swap_max: one("memory.swap.max").or_else(|| self.v1_swap(memory_max?)),
            pids_max: one("pids.max"),
            io_weight: self
                .read("io.weight")
                .and_then(|t| number(t.lines().next()?.strip_prefix("default ")?)),
            ..Limits::default()
        }
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

fn max_or_number(text: &str) -> Option<u64> {
    if text.trim() == "max" { Some(UNLIMITED) } else { number(text) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn reading_back_a_weight_gives_the_weight() {
        for weight in 1..=10_000 {
            assert_eq!(super::weight_of_shares(crate::convert::shares_from_weight(weight)), weight);
        }
    }
}
