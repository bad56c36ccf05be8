//! `KEY=VALUE` as `cgroupctl set` takes it: the kernel's file names with friendly or raw values.

use crate::limits::bad;
use crate::{CpuMax, DeviceRule, IoMax, Limits};
use drydock_core::{Error, Result};

impl Limits {
    /// Adds one setting: a v2 file name with the kernel's syntax or a friendlier one (`cpu.max=50%`, `memory.max=100M`,
    /// `io.max=/path wbps=1M`). Of v1's files cpu.shares, memory.memsw.limit_in_bytes, blkio.weight and devices.allow and
    /// .deny are known, and work on v2 too; the first device rule denies all others. Other kernel files are kept as raw
    /// values.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] for a value that the file cannot hold, or a key given twice.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let value = value.trim();
        match key {
            "cpu.max" => once(key, &mut self.cpu, cpu_max(value)?),
            "cpu.max.burst" => once(key, &mut self.cpu_burst_us, Self::parse_count(key, value)?),
            "cpu.weight" => once(key, &mut self.cpu_weight, Self::parse_count(key, value)?),
            "cpu.idle" => once(key, &mut self.cpu_idle, switch(key, value)?),
            "cpuset.cpus" => once(key, &mut self.cpuset_cpus, value.to_string()),
            "cpuset.mems" => once(key, &mut self.cpuset_mems, value.to_string()),
            "memory.max" => once(key, &mut self.memory_max, Self::parse_size(key, value)?),
            "memory.high" => once(key, &mut self.memory_high, Self::parse_size(key, value)?),
            "memory.low" => once(key, &mut self.memory_low, Self::parse_size(key, value)?),
            "memory.min" => once(key, &mut self.memory_min, Self::parse_size(key, value)?),
            "memory.oom.group" => once(key, &mut self.oom_group, switch(key, value)?),
            "memory.swap.max" | "swap.max" => once(key, &mut self.swap_max, Self::parse_size(key, value)?),
            "pids.max" => once(key, &mut self.pids_max, processes(value)?),
            "io.weight" => once(key, &mut self.io_weight, io_weight(value)?),
            "io.max" => {
                self.io_max.push(io_max(value)?);
                Ok(())
            }
            "cpu.shares" => once(key, &mut self.cpu_shares, Self::parse_count(key, value)?),
            "memory.memsw.limit_in_bytes" => once(key, &mut self.memsw_max, Self::parse_size(key, value)?),
            "blkio.weight" => once(key, &mut self.blkio_weight, Self::parse_count(key, value)?),
            "devices.allow" | "devices.deny" => {
                let rule = DeviceRule::parse(key == "devices.allow", value)?;
                self.devices.get_or_insert_default().push(rule);
                Ok(())
            }
            _ => match self.raw.insert(key.to_string(), value.to_string()) {
                None => Ok(()),
                Some(_) => Err(twice(key)),
            },
        }
    }
}

fn once<T>(key: &str, slot: &mut Option<T>, value: T) -> Result<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(twice(key)),
    }
}

fn twice(key: &str) -> Error {
    Error::bad_input(drydock_core::text::escape(key), "given twice (allowed: each setting once)")
}

fn switch(key: &str, value: &str) -> Result<bool> {
    match value {
        "1" | "on" | "true" | "yes" => Ok(true),
        "0" | "off" | "false" | "no" => Ok(false),
        _ => Err(bad(key, value, "not a switch (allowed: 0 or 1)")),
    }
}

/// `50%`, `max`, or the kernel's `QUOTA PERIOD` with QUOTA a number or `max`. A lone whole number is the kernel's
/// quota in microseconds; with a fraction or `%` it is processors.
fn cpu_max(value: &str) -> Result<CpuMax> {
    let mut words = value.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some(quota), None, None) if quota.contains(['%', '.']) => Limits::parse_cpus(quota),
        (Some(quota), period, None) => Ok(CpuMax::new(
            Limits::parse_count("cpu.max", quota)?,
            period.map_or(Ok(100_000), |p| Limits::parse_count("cpu.max", p))?,
        )),
        _ => Err(bad(
            "cpu.max",
            value,
            "not a limit (allowed: 50%, 0.5, max, or QUOTA PERIOD in microseconds)",
        )),
    }
}

fn processes(value: &str) -> Result<u64> {
    match Limits::parse_count("pids.max", value)? {
        0 => Err(bad("pids.max", value, "too few (allowed: 1 to 4194304, or max)")),
        count => Ok(count),
    }
}

fn io_weight(value: &str) -> Result<u64> {
    Limits::parse_count("io.weight", value.strip_prefix("default ").unwrap_or(value))
}

/// `8:0 rbps=1M wiops=max`, or a path instead of the numbers.
fn io_max(value: &str) -> Result<IoMax> {
    let mut words = value.split_whitespace();
    let device = crate::device::whole_disk(words.next().unwrap_or_default())?;
    let mut limit = IoMax { device, ..IoMax::default() };
    for word in words {
        let allowed = "not a limit (allowed: rbps=, wbps=, riops=, wiops= with a number or max)";
        let (key, amount) = word.split_once('=').ok_or_else(|| bad("io.max", word, allowed))?;
        match key {
            "rbps" => once(key, &mut limit.rbps, Limits::parse_size("io.max rbps", amount)?)?,
            "wbps" => once(key, &mut limit.wbps, Limits::parse_size("io.max wbps", amount)?)?,
            "riops" => once(key, &mut limit.riops, Limits::parse_count("io.max riops", amount)?)?,
            "wiops" => once(key, &mut limit.wiops, Limits::parse_count("io.max wiops", amount)?)?,
            _ => return Err(bad("io.max", word, allowed)),
        }
    }
    Ok(limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UNLIMITED;

    fn parsed(key: &str, value: &str) -> Result<Limits> {
        let mut limits = Limits::default();
        limits.set(key, value).and_then(|()| limits.check()).map(|()| limits)
    }

    #[test]
    fn friendly_and_raw() {
        let half = CpuMax::new(50_000, 100_000);
        for text in ["50%", "0.5", "50000 100000", "50000"] {
            assert_eq!(parsed("cpu.max", text).unwrap().cpu, Some(half), "{text}");
        }
        assert_eq!(parsed("cpu.max", "max 20000").unwrap().cpu.unwrap().quota_us, Some(UNLIMITED));
        assert_eq!(parsed("memory.max", "100M").unwrap().memory_max, Some(100 << 20));
        assert_eq!(parsed("swap.max", "0").unwrap().swap_max, Some(0));
        let io = parsed("io.max", "8:0 rbps=1M wiops=max").unwrap().io_max;
        assert_eq!((io[0].rbps, io[0].wiops, io[0].wbps), (Some(1 << 20), Some(UNLIMITED), None));
        assert_eq!(parsed("memory.swap.high", "7").unwrap().raw["memory.swap.high"], "7");
    }

    #[test]
    fn refused() {
        for (key, value) in [
            ("cpu.max", "0 100000"),
            ("cpu.max", "50000 0"),
            ("cpu.max", "1 2 3"),
            ("cpu.max", ""),
            ("cpu.weight", "0"),
            ("cpu.weight", "x"),
            ("cpu.idle", "2"),
            ("memory.max", "-2"),
            ("memory.max", "1e3"),
            ("memory.max", "9223372036854775808"),
            ("pids.max", "-5"),
            ("pids.max", "abc"),
            ("io.max", "8:0"),
            ("io.max", "8:0 rbps"),
            ("io.max", "8:0 rbps=x"),
            ("io.max", "x rbps=1"),
            ("io.max", "/no/such/path rbps=1"),
            ("cgroup.procs", "1"),
            ("frobnicate", "1"),
        ] {
            assert_eq!(parsed(key, value).unwrap_err().exit_code(), 2, "{key}={value}");
        }
        let mut limits = Limits::default();
        limits.set("pids.max", "1").unwrap();
        assert_eq!(limits.set("pids.max", "2").unwrap_err().exit_code(), 2);
    }
}
