//! Limits that can be put somewhere else: those that somebody has set, in terms of both versions, without what is the
//! kernel's default or comes from the cgroup above.

use crate::{Cgroup, CpuMax, DeviceRule, Limits, UNLIMITED, files};
use rustix::fs::{XattrFlags, lgetxattr, lsetxattr};
use std::path::PathBuf;

/// The device rules behind a program, which cannot be read back from it.
const RULES: &str = "user.drydock.devices";

impl Cgroup {
    /// The limits that differ from a new cgroup's in the same place.
    pub fn limits_set(&self) -> Limits {
        let all = self.limits();
        let not = |value: Option<u64>, default: u64| value.filter(|v| *v != default);
        let own_list =
            |file: &str, value: Option<String>| value.filter(|v| self.above(file).as_ref() != Some(v));
        let mut limits = Limits {
            cpu: all.cpu.filter(|cpu| *cpu != CpuMax::new(UNLIMITED, 100_000)),
            cpu_burst_us: not(all.cpu_burst_us, 0),
            cpu_weight: not(all.cpu_weight, 100).filter(|_| all.cpu_idle != Some(true)),
            cpu_idle: all.cpu_idle.filter(|idle| *idle),
            cpuset_cpus: own_list("cpuset.cpus", all.cpuset_cpus),
            cpuset_mems: own_list("cpuset.mems", all.cpuset_mems),
            memory_max: not(all.memory_max, UNLIMITED),
            memory_high: not(all.memory_high, UNLIMITED),
            memory_low: not(all.memory_low, 0),
            memory_min: not(all.memory_min, 0),
            oom_group: all.oom_group.filter(|on| *on),
            swap_max: not(all.swap_max, UNLIMITED),
            pids_max: not(all.pids_max, UNLIMITED),
            io_weight: not(all.io_weight, 100),
            io_weight_device: all.io_weight_device,
            io_max: all.io_max,
            hugetlb: all.hugetlb.into_iter().filter(|(_, v)| *v != UNLIMITED).collect(),
            rdma: all.rdma,
            devices: self.devices(),
            ..Limits::default()
        };
        if limits.io_weight.is_none() {
            // 100 is bfq's default, 500 cfq's.
            limits.blkio_weight = all.blkio_weight.filter(|w| !matches!(w, 100 | 500));
        }
        for file in ["memory.swap.high", "cgroup.max.depth", "cgroup.max.descendants"] {
            let value = self.read(file).map(|t| t.trim().to_string()).filter(|v| v != "max" && !v.is_empty());
            limits.raw.extend(value.map(|v| (file.to_string(), v)));
        }
        for file in ["io.latency", "misc.max"] {
            let text = self.read(file).unwrap_or_default();
            let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.ends_with(" max")).collect();
            if lines.iter().any(|line| !line.is_empty()) {
                limits.raw.insert(file.to_string(), lines.join("\n"));
            }
        }
        limits
    }

    /// The same file of the cgroup above.
    fn above(&self, file: &str) -> Option<String> {
        let path = self.with_file(file)?;
        let text = files::read_if_there(&path.parent()?.parent()?.join(file))?;
        Some(text.trim().to_string())
    }

    /// The device rules in force, where they can be known: as [`note_devices`](Self::note_devices) has written them down;
    /// else v1's list, if it is not the one of the cgroup above.
    pub fn devices(&self) -> Option<Vec<DeviceRule>> {
        let noted = self.gate().and_then(|dir| {
            let mut buffer = vec![0u8; 65536];
            let read = lgetxattr(&dir, RULES, &mut buffer[..]).ok()?;
            let text = std::str::from_utf8(buffer.get(..read)?).ok()?;
            Some(text.lines().filter_map(rule).collect())
        });
        noted.or_else(|| {
            let list = self.read("devices.list")?;
            let same = self.above("devices.list").is_some_and(|above| above.trim() == list.trim());
            (!same).then(|| list.lines().filter_map(|l| DeviceRule::parse(true, l).ok()).collect())
        })
    }

    /// Writes the device rules down beside what enforces them, for [`devices`](Self::devices). Best effort: where the file
    /// system has no such attributes (before Linux 5.7) they are only enforced.
    pub fn note_devices(&self, rules: &[DeviceRule]) {
        let lines: Vec<String> =
            rules.iter().map(|r| format!("{}{r}", if r.allow { '+' } else { '-' })).collect();
        if let Some(dir) = self.gate() {
            let _ = lsetxattr(&dir, RULES, lines.join("\n").as_bytes(), XattrFlags::empty());
        }
    }

    /// The directory whose hierarchy judges devices.
    fn gate(&self) -> Option<PathBuf> {
        let v1 = self.with_file("devices.list").and_then(|p| p.parent().map(PathBuf::from));
        v1.or_else(|| self.entries().iter().find(|d| d.v2).map(|d| d.path.clone()))
    }
}

fn rule(line: &str) -> Option<DeviceRule> {
    let (allow, text) = line.split_at_checked(1)?;
    DeviceRule::parse(allow == "+", text).ok()
}
