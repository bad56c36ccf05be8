//! What a cgroup may use, in v2's terms.

use drydock_core::text::{escape, shorten};
use drydock_core::{Error, Result, size};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// No limit: the kernel's `max` (v2) or `-1` (v1).
pub const UNLIMITED: u64 = u64::MAX;

/// `quota_us` microseconds of processor time in each `period_us`: 50000 of 100000 is half a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CpuMax {
    /// Microseconds, at least 1000; [`UNLIMITED`] for no limit.
    pub quota_us: u64,
    /// Microseconds, 1000 to 1000000.
    pub period_us: u64,
}

/// Limits of one block device; what is `None` stays as it is, [`UNLIMITED`] removes a limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IoMax {
    /// `major:minor` of the whole disk (see [`crate::device::whole_disk`]).
    pub device: String,
    /// Bytes read a second.
    pub rbps: Option<u64>,
    /// Bytes written a second.
    pub wbps: Option<u64>,
    /// Reads a second.
    pub riops: Option<u64>,
    /// Writes a second.
    pub wiops: Option<u64>,
}

/// The limits of a cgroup. `None` or empty means: leave the kernel's default. Bytes and counts; [`UNLIMITED`] is `max`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// cpu.max.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuMax>,
    /// cpu.max.burst: microseconds that may be saved up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_burst_us: Option<u64>,
    /// cpu.weight, 1 to 10000, default 100; on v1 converted to shares.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_weight: Option<u64>,
    /// cpu.idle: run only when nothing else wants to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_idle: Option<bool>,
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
    /// pids.max: processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_max: Option<u64>,
    /// io.weight, 1 to 10000, default 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_weight: Option<u64>,
    /// io.max, one entry a device.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_max: Vec<IoMax>,
    /// hugetlb.SIZE.max in bytes by page size: `2MB`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub hugetlb: BTreeMap<String, u64>,
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
            return Ok(CpuMax { quota_us: UNLIMITED, period_us: PERIOD });
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
        Ok(CpuMax { quota_us: (cpus * PERIOD as f64).round() as u64, period_us: PERIOD })
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

    /// Checks all numbers against the kernel's ranges. Touches nothing.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] naming the limit and what is allowed.
    pub fn check(&self) -> Result<()> {
        if let Some(cpu) = self.cpu {
            range("cpu.max period", cpu.period_us, 1000, 1_000_000, " microseconds")?;
            // The scheduler counts in nanoseconds below 2^44.
            range_or_max("cpu.max quota", cpu.quota_us, 1000, (1 << 44) / 1000, " microseconds")?;
        }
        check(self.cpu_burst_us, |v| range("cpu.max.burst", v, 0, (1 << 44) / 1000, " microseconds"))?;
        check(self.cpu_weight, |v| range("cpu.weight", v, 1, 10_000, ""))?;
        check(self.io_weight, |v| range("io.weight", v, 1, 10_000, ""))?;
        check(self.pids_max, |v| range_or_max("pids.max", v, 1, 4_194_304, ""))?;
        const TOP: u64 = (1 << 63) - 4096;
        let bytes = " bytes (a page or more)";
        check(self.memory_max, |v| range_or_max("memory.max", v, 4096, TOP, bytes))?;
        check(self.memory_high, |v| range_or_max("memory.high", v, 4096, TOP, bytes))?;
        check(self.memory_low, |v| range_or_max("memory.low", v, 0, TOP, " bytes"))?;
        check(self.memory_min, |v| range_or_max("memory.min", v, 0, TOP, " bytes"))?;
        check(self.swap_max, |v| range_or_max("memory.swap.max", v, 0, TOP, " bytes"))?;
        if let Some(list) = &self.cpuset_cpus {
            parse_list("cpuset.cpus", list)?;
        }
        if let Some(list) = &self.cpuset_mems {
            parse_list("cpuset.mems", list)?;
        }
        for io in &self.io_max {
            io.check()?;
        }
        for (page, bytes) in &self.hugetlb {
            if page.is_empty() || !page.bytes().all(|b| b.is_ascii_alphanumeric()) {
                return Err(bad(
                    "hugetlb page size",
                    page,
                    "not a page size (allowed: as in /sys/kernel/mm, 2MB)",
                ));
            }
            range_or_max("hugetlb", *bytes, 0, TOP, " bytes")?;
        }
        self.raw.iter().try_for_each(|(file, value)| check_raw(file, value))
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

fn check_raw(file: &str, value: &str) -> Result<()> {
    let safe = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-');
    let named =
        file.split_once('.').is_some_and(|(controller, rest)| !controller.is_empty() && !rest.is_empty());
    if !named || file.len() > 128 || !file.bytes().all(safe) || file.contains("..") {
        return Err(bad("setting", file, "not a kernel file (allowed: CONTROLLER.FILE such as memory.high)"));
    }
    if file.starts_with("cgroup.") && !matches!(file, "cgroup.max.depth" | "cgroup.max.descendants") {
        return Err(bad(
            "setting",
            file,
            "not a limit (allowed of cgroup.*: cgroup.max.depth, cgroup.max.descendants; to freeze and kill there are commands)",
        ));
    }
    if value.is_empty() || value.len() > 4000 || value.chars().any(char::is_control) {
        return Err(bad(file, value, "not a value (allowed: 1 to 4000 printable characters)"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus() {
        for (text, quota) in
            [("0.5", 50_000), ("50%", 50_000), ("2", 200_000), ("0.01", 1000), ("max", UNLIMITED)]
        {
            assert_eq!(
                Limits::parse_cpus(text).unwrap(),
                CpuMax { quota_us: quota, period_us: 100_000 },
                "{text}"
            );
        }
        for wrong in ["", "0", "-1", "1e3", "nan", "inf", "0.001", "10001", "x", "%", "1.2.3", "+1", " 1"] {
            assert_eq!(Limits::parse_cpus(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }

    #[test]
    fn ranges() {
        let ok = |limits: Limits| limits.check().is_ok();
        assert!(ok(Limits { memory_max: Some(UNLIMITED), swap_max: Some(0), ..Limits::default() }));
        assert!(!ok(Limits { memory_max: Some(1), ..Limits::default() }));
        assert!(!ok(Limits { memory_max: Some(1 << 63), ..Limits::default() }));
        assert!(!ok(Limits { cpu_weight: Some(0), ..Limits::default() }));
        assert!(!ok(Limits { cpu_weight: Some(10_001), ..Limits::default() }));
        assert!(!ok(Limits { pids_max: Some(0), ..Limits::default() }));
        let cpu =
            |quota_us, period_us| Limits { cpu: Some(CpuMax { quota_us, period_us }), ..Limits::default() };
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
    fn lists() {
        assert_eq!(parse_list("x", "4,0-2").unwrap(), [(0, 2), (4, 4)]);
        for wrong in ["", "3-1", "0,,1", "a", "-1", "1-", "0-9999999", "0 1"] {
            assert!(parse_list("x", wrong).is_err(), "{wrong}");
        }
        assert_eq!(first_missing(&[(0, 9)], &[(0, 1)]), Some(2));
        assert_eq!(first_missing(&[(0, 1)], &[(0, 0), (1, 1)]), None);
    }
}
