//! What a cgroup may use.

use crate::resources::{CpuMax, DeviceWeight, IoMax, Rdma};
use crate::rules::DeviceRule;
use drydock_core::text::{escape, shorten};
use drydock_core::{Error, Result, size};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// No limit: the kernel's `max` (v2) or `-1` (v1).
pub const UNLIMITED: u64 = u64::MAX;

/// The limits of a cgroup. `None` or empty means: leave what the kernel has. Bytes and counts; [`UNLIMITED`] is `max`.
///
/// Most are given as v2 means them. Where v1's number is what was asked for and converting it twice would lose some of
/// it, it has a field of its own: give one of the two ([`check`](Self::check) refuses both). What only v1 has is left
/// out on v2, and what cannot be left out in silence is told in [`crate::Report::lacking`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// cpu.max; its parts may be given alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuMax>,
    /// cpu.max.burst: microseconds that may be saved up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_burst_us: Option<u64>,
    /// cpu.weight, 1 to 10000, default 100; on v1 converted to shares.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_weight: Option<u64>,
    /// v1's cpu.shares, 2 to 262144, default 1024; on v2 converted to a weight ([`crate::convert`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_shares: Option<u64>,
    /// cpu.idle: run only when nothing else wants to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_idle: Option<bool>,
    /// v1's cpu.rt_runtime_us: microseconds for realtime processes in each period; [`UNLIMITED`] is -1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_rt_runtime_us: Option<u64>,
    /// v1's cpu.rt_period_us.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_rt_period_us: Option<u64>,
    /// cpuset.cpus: `0-2,4`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset_cpus: Option<String>,
    /// cpuset.mems: memory nodes, `0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset_mems: Option<String>,
    /// memory.max in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_max: Option<u64>,
    /// memory.high in bytes: throttled and reclaimed above it. Not in v1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_high: Option<u64>,
    /// memory.low in bytes: spared from reclaim; v1 has the weaker memory.soft_limit_in_bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_low: Option<u64>,
    /// memory.min in bytes: never reclaimed. Not in v1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_min: Option<u64>,
    /// memory.oom.group: an OOM kill takes the whole cgroup. Not in v1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_group: Option<bool>,
    /// memory.swap.max in bytes: swap alone, as in v2. v1 limits memory and swap together: needs `memory_max` there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap_max: Option<u64>,
    /// v1's memory.memsw.limit_in_bytes: memory and swap together. v2 gets the difference to the memory limit, so that one
    /// must be given too, or be there. No limit, and none of swap, are no error on a kernel that does not count swap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memsw_max: Option<u64>,
    /// v1's memory.swappiness, 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_swappiness: Option<u64>,
    /// v1's memory.oom_control: processes at the limit wait instead of being killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_kill_disable: Option<bool>,
    /// Refuse a memory limit below what is in use now. v1's kernel does so; v2's would call the OOM killer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub memory_check: bool,
    /// pids.max: processes and threads. 0 is written as 1, which allows as little and lets the first one in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_max: Option<u64>,
    /// io.weight, 1 to 10000, default 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_weight: Option<u64>,
    /// The same for single devices by `major:minor`; 0 is the device's default again.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub io_weight_device: BTreeMap<String, u64>,
    /// v1's blkio.weight, 10 to 1000 (v2: io.bfq.weight as it is, else converted to io.weight).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blkio_weight: Option<u64>,
    /// v1's blkio.leaf_weight, 10 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blkio_leaf_weight: Option<u64>,
    /// Weights for single devices.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub blkio_weight_device: Vec<DeviceWeight>,
    /// io.max, one entry a device or several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_max: Vec<IoMax>,
    /// hugetlb.SIZE.max in bytes by page size (`2MB`), and the same for reservations where the kernel counts them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub hugetlb: BTreeMap<String, u64>,
    /// v1's net_cls.classid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub net_cls_classid: Option<u32>,
    /// v1's net_prio.ifpriomap by interface.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub net_prio: BTreeMap<String, u32>,
    /// rdma.max by device.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rdma: BTreeMap<String, Rdma>,
    /// Which devices may be used: everything is denied, then these rules apply in order, the last that fits decides.
    /// v1 by the devices controller, v2 by a program of the kernel's eBPF machine. `None`: left as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub devices: Option<Vec<DeviceRule>>,
    /// v2 files by name, each line of the value written as it is, after everything else. An error on v1.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unified: BTreeMap<String, String>,
    /// Kernel files by name, written as they are after everything else (`memory.swap.high`, v1's `memory.swappiness`).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, String>,
}

impl Limits {
    /// Processors as people write them: `0.5`, `2`, `50%`, or `max`; the period is 100 ms.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] outside of 0.01 to 10000.
    pub fn parse_cpus(text: &str) -> Result<CpuMax> {
        const PERIOD: u64 = 100_000;
        if matches!(text, "max" | "unlimited") {
            return Ok(CpuMax::new(UNLIMITED, PERIOD));
        }
        let bad = || {
            bad("cpus", text, "not a number of processors (allowed: 0.01 to 10000 such as 0.5, 50%, or max)")
        };
        let (number, scale) = match text.strip_suffix('%') {
            Some(number) => (number, 100.0),
            None => (text, 1.0),
        };
        // f64's own parser also takes signs, exponents, "inf" and "nan".
        let plain = number.chars().all(|c| c.is_ascii_digit() || c == '.') && number.len() <= 16;
        let cpus: f64 = number.parse::<f64>().ok().filter(|_| plain).ok_or_else(bad)? / scale;
        if !(0.01..=10_000.0).contains(&cpus) {
            return Err(bad());
        }
        Ok(CpuMax::new((cpus * PERIOD as f64).round() as u64, PERIOD))
    }

    /// A size in bytes, or `max`.
    ///
    /// # Errors
    /// As [`drydock_core::size::parse`].
    pub fn parse_size(object: &str, text: &str) -> Result<u64> {
        if matches!(text, "max" | "unlimited") {
            return Ok(UNLIMITED);
        }
        // The number that stands for "no limit" is not to be had by typing it.
        size::parse(object, text).map(|n| n.min(UNLIMITED - 1))
    }

    /// A count, or `max`.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] for anything but digits and `max`.
    pub fn parse_count(object: &str, text: &str) -> Result<u64> {
        if matches!(text, "max" | "unlimited") {
            return Ok(UNLIMITED);
        }
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse()
            .ok()
            .filter(|n| digits && *n != UNLIMITED)
            .ok_or_else(|| bad(object, text, "not a count (allowed: a whole number, or max)"))
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

pub(crate) fn bad(object: &str, text: &str, problem: &str) -> Error {
    Error::bad_input(object, format!("'{}' is {problem}", shorten(&escape(text), 40)))
}

/// Parses a list of processors or nodes (`0-2,4`) into sorted ranges. Source: cpuset(7), list format.
pub(crate) fn parse_list(object: &str, text: &str) -> Result<Vec<(u32, u32)>> {
    let wrong = || bad(object, text, "not a list (allowed: numbers and ranges such as 0-2,4)");
    let number = |t: &str| -> Option<u32> {
        let digits = !t.is_empty() && t.len() <= 6 && t.bytes().all(|b| b.is_ascii_digit());
        t.parse().ok().filter(|_| digits)
    };
    let mut ranges = Vec::new();
    for part in text.split(',') {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        match (number(low), number(high)) {
            (Some(low), Some(high)) if low <= high => ranges.push((low, high)),
            _ => return Err(wrong()),
        }
    }
    ranges.sort_unstable();
    Ok(ranges)
}

/// The first number of `asked` that `there` does not have.
pub(crate) fn first_missing(asked: &[(u32, u32)], there: &[(u32, u32)]) -> Option<u32> {
    let has = |n: u32| there.iter().any(|(low, high)| (*low..=*high).contains(&n));
    asked.iter().flat_map(|(low, high)| *low..=*high).find(|n| !has(*n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus() {
        for (text, quota) in
            [("0.5", 50_000), ("50%", 50_000), ("2", 200_000), ("0.01", 1000), ("max", UNLIMITED)]
        {
            assert_eq!(Limits::parse_cpus(text).unwrap(), CpuMax::new(quota, 100_000), "{text}");
        }
        for wrong in ["", "0", "-1", "1e3", "nan", "inf", "0.001", "10001", "x", "%", "1.2.3", "+1", " 1"] {
            assert_eq!(Limits::parse_cpus(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }

    #[test]
    fn lists() {
        assert_eq!(parse_list("x", "4,0-2").unwrap(), [(0, 2), (4, 4)]);
        for wrong in ["", "3-1", "0,,1", "a", "-1", "1-", "0-9999999", "0 1"] {
            assert!(parse_list("x", wrong).is_err(), "{wrong}");
        }
        assert_eq!(first_missing(&[(0, 9)], &[(0, 1)]), Some(2));
        assert_eq!(first_missing(&[(0, 1)], &[(0, 0), (1, 1)]), None);
    }
}
