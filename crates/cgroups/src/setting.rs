//! `KEY=VALUE` as `cgroupctl set` takes it: the kernel's file names with friendly or raw values.

use crate::limits::bad;
use crate::{CpuMax, DeviceRule, IoMax, Limits, Rdma, UNLIMITED};
use drydock_core::{Error, Result};

/// Short words for what people set most.
const SHORT: [(&str, &str); 6] = [
    ("memory", "memory.max"),
    ("swap", "memory.swap.max"),
    ("swap.max", "memory.swap.max"),
    ("oom.group", "memory.oom.group"),
    ("pids", "pids.max"),
    ("cpuset", "cpuset.cpus"),
];

impl Limits {
    /// Adds one setting: a v2 file name with the kernel's syntax or a friendlier one (`cpu.max=50%`, `memory.max=100M`,
    /// `io.max=/path wbps=1M`, `devices=allow /dev/null rw`). v1's names of the same limits are known too, and work on v2.
    /// The first device rule says by its kind what holds for all other devices: the opposite. Other kernel files are kept
    /// as raw values.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] for a value that the file cannot hold, or a key given twice.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let value = value.trim();
        let key = SHORT.iter().find(|(short, _)| *short == key).map_or(key, |(_, long)| *long);
        match key {
            "cpu" => once(key, &mut self.cpu, Self::parse_cpus(value)?),
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
            "memory.swap.max" => once(key, &mut self.swap_max, Self::parse_size(key, value)?),
            "memory.swap.high" => self.keep(key, size_word(key, value)?),
            "pids.max" => once(key, &mut self.pids_max, processes(value)?),
            "io.weight" => self.io_weight(value),
            "io.max" => {
                self.io_max.push(io_max(value)?);
                Ok(())
            }
            "io.latency" => self.keep_lines(key, value, io_latency),
            "rdma.max" => self.rdma_max(value),
            "misc.max" => self.keep_lines(key, value, misc),
            "devices" => {
                let rules = DeviceRule::parse_words(value)?;
                rules.into_iter().for_each(|rule| self.device(rule));
                Ok(())
            }
            "devices.allow" | "devices.deny" => {
                let rule = DeviceRule::parse(key == "devices.allow", value)?;
                self.device(rule);
                Ok(())
            }
            _ => self.set_v1(key, value),
        }
    }

    /// v1's names.
    fn set_v1(&mut self, key: &str, value: &str) -> Result<()> {
        match key {
            "cpu.shares" => once(key, &mut self.cpu_shares, Self::parse_count(key, value)?),
            "cpu.cfs_quota_us" => once(key, &mut self.cpu_parts().quota_us, v1_count(key, value)?),
            "cpu.cfs_period_us" => once(key, &mut self.cpu_parts().period_us, v1_count(key, value)?),
            "cpu.cfs_burst_us" => once(key, &mut self.cpu_burst_us, Self::parse_count(key, value)?),
            "memory.limit_in_bytes" => once(key, &mut self.memory_max, v1_size(key, value)?),
            "memory.memsw.limit_in_bytes" => once(key, &mut self.memsw_max, v1_size(key, value)?),
            // No limit there is no protection here.
            "memory.soft_limit_in_bytes" => {
                let low = v1_size(key, value)?;
                once(key, &mut self.memory_low, if low == UNLIMITED { 0 } else { low })
            }
            "memory.swappiness" => once(key, &mut self.memory_swappiness, Self::parse_count(key, value)?),
            "blkio.weight" => once(key, &mut self.blkio_weight, Self::parse_count(key, value)?),
            _ => match key.strip_prefix("hugetlb.").and_then(|rest| rest.rsplit_once('.')) {
                Some((page, "max" | "limit_in_bytes")) if !page.ends_with(".rsvd") => {
                    self.hugetlb(page, value)
                }
                _ => match throttle(key, value)? {
                    Some(limit) => {
                        self.io_max.push(limit);
                        Ok(())
                    }
                    None => self.keep(key, value.to_string()),
                },
            },
        }
    }

    /// A kernel file that is written as it is.
    fn keep(&mut self, key: &str, value: String) -> Result<()> {
        match self.raw.insert(key.to_string(), value) {
            None => Ok(()),
            Some(_) => Err(twice(key)),
        }
    }

    /// A kernel file of lines, each for the device or resource that is its first word.
    fn keep_lines(&mut self, key: &str, value: &str, line: fn(&str) -> Result<String>) -> Result<()> {
        let of = |line: &str| line.split(' ').next().map(str::to_string);
        // An empty value is none of them, and says so.
        let words = if value.is_empty() { vec![value] } else { value.lines().collect() };
        for word in words {
            let new = line(word.trim())?;
            let all = self.raw.entry(key.to_string()).or_default();
            if all.lines().any(|old| of(old) == of(&new)) {
                return Err(twice(&format!("{key} of {}", of(&new).unwrap_or_default())));
            }
            if !all.is_empty() {
                all.push('\n');
            }
            all.push_str(&new);
        }
        Ok(())
    }

    /// `200`, `default 200`, or of one disk `8:0 200`, `/path default`.
    fn io_weight(&mut self, value: &str) -> Result<()> {
        let count = |text: &str| Self::parse_count("io.weight", text);
        let words: Vec<&str> = value.split_whitespace().collect();
        match words.as_slice() {
            [weight] | ["default", weight] => once("io.weight", &mut self.io_weight, count(weight)?),
            [device, weight] => {
                let weight = if *weight == "default" { 0 } else { count(weight)? };
                if weight == 0 && words.last() != Some(&"default") {
                    return Err(bad("io.weight", value, "out of range (allowed: 1 to 10000, or default)"));
                }
                let disk = crate::device::whole_disk(device).map_err(|e| e.on("io.weight"))?;
                match self.io_weight_device.insert(disk, weight) {
                    None => Ok(()),
                    Some(_) => Err(twice(&format!("io.weight of {device}"))),
                }
            }
            _ => {
                Err(bad("io.weight", value, "not a weight (allowed: N, default N, or DEVICE N; 1 to 10000)"))
            }
        }
    }

    fn cpu_parts(&mut self) -> &mut CpuMax {
        self.cpu.get_or_insert_default()
    }

    fn device(&mut self, rule: DeviceRule) {
        let rules = self.devices.get_or_insert_default();
        if rules.is_empty() && !rule.allow && rule.kind != crate::DeviceType::All {
            rules.push(DeviceRule::all(true));
        }
        rules.push(rule);
    }

    fn hugetlb(&mut self, page: &str, value: &str) -> Result<()> {
        let sizes = crate::device::huge_pages();
        if !sizes.iter().any(|s| s == page) {
            let problem = match sizes.as_slice() {
                [] => "not to be had: this kernel has no huge pages".to_string(),
                all => format!("not a page size of this machine (allowed: {})", all.join(", ")),
            };
            return Err(bad("hugetlb", page, &problem));
        }
        match self.hugetlb.insert(page.to_string(), v1_size("hugetlb", value)?) {
            None => Ok(()),
            Some(_) => Err(twice(&format!("hugetlb.{page}.max"))),
        }
    }

    /// `mlx5_0 hca_handle=2 hca_object=max`.
    fn rdma_max(&mut self, value: &str) -> Result<()> {
        let allowed = "not a limit (allowed: DEVICE hca_handle=N hca_object=N)";
        let mut words = value.split_whitespace();
        let device =
            words.next().filter(|w| !w.contains('=')).ok_or_else(|| bad("rdma.max", value, allowed))?;
        let mut limit = Rdma::default();
        for word in words {
            let (key, amount) = word.split_once('=').ok_or_else(|| bad("rdma.max", word, allowed))?;
            let amount = Self::parse_count("rdma.max", amount)?;
            let amount = u32::try_from(amount.min(i32::MAX as u64)).unwrap_or(u32::MAX);
            match key {
                "hca_handle" => once(key, &mut limit.hca_handles, amount)?,
                "hca_object" => once(key, &mut limit.hca_objects, amount)?,
                _ => return Err(bad("rdma.max", word, allowed)),
            }
        }
        if limit == Rdma::default() {
            return Err(bad("rdma.max", value, allowed));
        }
        match self.rdma.insert(device.to_string(), limit) {
            None => Ok(()),
            Some(_) => Err(twice("rdma.max")),
        }
    }
}

/// v1's word for no limit is -1.
fn v1_size(key: &str, value: &str) -> Result<u64> {
    if value == "-1" { Ok(UNLIMITED) } else { Limits::parse_size(key, value) }
}

fn v1_count(key: &str, value: &str) -> Result<u64> {
    if value == "-1" { Ok(UNLIMITED) } else { Limits::parse_count(key, value) }
}

fn size_word(key: &str, value: &str) -> Result<String> {
    Limits::parse_size(key, value).map(crate::items::word)
}

/// `res_a 10`, or `res_a max`.
fn misc(value: &str) -> Result<String> {
    let mut words = value.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some(resource), Some(amount), None) => {
            let amount = Limits::parse_count("misc.max", amount)?;
            Ok(format!("{resource} {}", crate::items::word(amount)))
        }
        _ => Err(bad("misc.max", value, "not a limit (allowed: RESOURCE N, see misc.capacity)")),
    }
}

/// `8:0 target=10ms`; the kernel counts in microseconds.
fn io_latency(value: &str) -> Result<String> {
    let wrong = || {
        bad("io.latency", value, "not a target (allowed: DEVICE target=10ms, or a number of microseconds)")
    };
    let (device, target) = value.split_once(char::is_whitespace).ok_or_else(wrong)?;
    let target = target.trim().strip_prefix("target=").ok_or_else(wrong)?;
    let micros = match target.parse::<u64>() {
        Ok(plain) if target.bytes().all(|b| b.is_ascii_digit()) => plain,
        _ => crate::psi::micros(target).ok_or_else(wrong)?,
    };
    let disk = crate::device::whole_disk(device).map_err(|e| e.on("io.latency"))?;
    Ok(format!("{disk} target={micros}"))
}

/// v1's `blkio.throttle.read_bps_device` and the like: `8:0 1048576`, 0 for no limit.
fn throttle(key: &str, value: &str) -> Result<Option<IoMax>> {
    let Some(what) = key.strip_prefix("blkio.throttle.").and_then(|k| k.strip_suffix("_device")) else {
        return Ok(None);
    };
    let wrong = || bad(key, value, "not a limit (allowed: DEVICE NUMBER)");
    let (device, amount) = value.split_once(char::is_whitespace).ok_or_else(wrong)?;
    let amount = match Limits::parse_size(key, amount.trim())? {
        0 => UNLIMITED,
        other => other,
    };
    let mut limit = IoMax { device: crate::device::whole_disk(device)?, ..IoMax::default() };
    match what {
        "read_bps" => limit.rbps = Some(amount),
        "write_bps" => limit.wbps = Some(amount),
        "read_iops" => limit.riops = Some(amount),
        "write_iops" => limit.wiops = Some(amount),
        _ => return Ok(None),
    }
    Ok(Some(limit))
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
    let wrong =
        || bad("cpu.max", value, "not a limit (allowed: 50%, 0.5, max, or QUOTA PERIOD in microseconds)");
    let count = |word: &str| Limits::parse_count("cpu.max", word).map_err(|_| wrong());
    let mut words = value.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some(quota), None, None) if quota.contains(['%', '.']) => Limits::parse_cpus(quota),
        (Some(quota), period, None) => Ok(CpuMax::new(count(quota)?, period.map_or(Ok(100_000), count)?)),
        _ => Err(wrong()),
    }
}

fn processes(value: &str) -> Result<u64> {
    match Limits::parse_count("pids.max", value)? {
        0 => Err(bad("pids.max", value, "too few (allowed: 1 to 4194304, or max)")),
        count => Ok(count),
    }
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
        assert_eq!(parsed("memory.swap.high", "7k").unwrap().raw["memory.swap.high"], "7168");
    }

    #[test]
    fn the_names_of_v1_mean_the_same() {
        let quota = |key: &str, value: &str| parsed(key, value).unwrap().cpu.unwrap();
        assert_eq!(quota("cpu.cfs_quota_us", "-1").quota_us, Some(UNLIMITED));
        assert_eq!(quota("cpu.cfs_period_us", "50000").period_us, Some(50_000));
        assert_eq!(parsed("memory.limit_in_bytes", "4096").unwrap().memory_max, Some(4096));
        assert_eq!(parsed("memory.soft_limit_in_bytes", "-1").unwrap().memory_low, Some(0));
        let io = parsed("blkio.throttle.write_bps_device", "8:0 1M").unwrap().io_max;
        assert_eq!((io[0].device.as_str(), io[0].wbps), ("8:0", Some(1 << 20)));
        assert_eq!(
            parsed("blkio.throttle.read_iops_device", "8:0 0").unwrap().io_max[0].riops,
            Some(UNLIMITED)
        );
    }

    #[test]
    fn devices_and_what_else_has_words() {
        let rules = |value: &str| parsed("devices", value).unwrap().devices.unwrap();
        let shown = |value: &str| rules(value).iter().map(|r| (r.allow, r.to_string())).collect::<Vec<_>>();
        assert_eq!(shown("allow /dev/null rw"), [(true, "c 1:3 rw".to_string())]);
        assert_eq!(shown("allow c 1:3 r; allow b 8:* m").len(), 2);
        // Denying one thing leaves the others.
        assert_eq!(shown("deny c 1:5 w"), [(true, "a".to_string()), (false, "c 1:5 w".to_string())]);
        assert_eq!(
            shown("deny all, allow /dev/zero"),
            [(false, "a".to_string()), (true, "c 1:5 rwm".to_string())]
        );
        assert_eq!(parsed("io.latency", "8:0 target=10ms").unwrap().raw["io.latency"], "8:0 target=10000");
        assert_eq!(parsed("misc.max", "res_a max").unwrap().raw["misc.max"], "res_a max");
        let both = parsed("misc.max", "res_a 1\nres_b 2").unwrap();
        assert_eq!(both.raw["misc.max"], "res_a 1\nres_b 2");
        let weights = parsed("io.weight", "8:0 200").unwrap().io_weight_device;
        assert_eq!(weights["8:0"], 200);
        assert_eq!(parsed("io.weight", "8:0 default").unwrap().io_weight_device["8:0"], 0);
        assert_eq!(parsed("io.weight", "default 7").unwrap().io_weight, Some(7));
        let rdma = parsed("rdma.max", "mlx5 hca_handle=2 hca_object=max").unwrap().rdma;
        assert_eq!(rdma["mlx5"].hca_handles, Some(2));
        for (key, value) in [
            ("devices", ""),
            ("devices", "permit /dev/null"),
            ("devices", "allow /etc/passwd r"),
            ("devices", "allow /no/such r"),
            ("devices", "allow c 1:3 z"),
            ("devices", "allow c 1:-3 r"),
            ("io.latency", "8:0"),
            ("misc.max", "res_a"),
            ("misc.max", ""),
            ("misc.max", "res_a 1\nres_a 2"),
            ("io.weight", "8:0 0"),
            ("io.weight", "8:0 10001"),
            ("io.weight", "default 0"),
            ("io.weight", "8:0 1 2"),
            ("io.weight", "sda 1"),
            ("rdma.max", "mlx5"),
            ("rdma.max", "mlx5 foo=1"),
            ("hugetlb.3MB.max", "3M"),
            ("memory.swap.high", "x"),
        ] {
            assert_eq!(parsed(key, value).unwrap_err().exit_code(), 2, "{key}={value}");
        }
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
