//! Limits as properties of a unit. Source: systemd.resource-control(5), org.freedesktop.systemd1(5).
//!
//! The limits are also written to the cgroup itself; systemd has to know them because it writes its own view again
//! whenever it reloads. What it has no property for is left to cgroupfs.

use super::wire::Value;
use crate::convert;
use crate::limits::parse_list;
use crate::{CpuMax, DeviceRule, DeviceType, Limits, UNLIMITED};
use drydock_core::Result;

/// A property's name and value.
pub type Property = (String, Value);

/// What the machine is, as far as names of properties depend on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// The unified hierarchy; else v1 or hybrid.
    pub v2: bool,
    /// systemd's version.
    pub version: u32,
}

/// systemd's word for "no limit" is the kernel's here: all bits set.
const INFINITY: u64 = u64::MAX;

/// The properties for these limits.
///
/// # Errors
/// Lists of processors that are none.
pub(super) fn of(limits: &Limits, kind: Kind) -> Result<Vec<Property>> {
    let mut all = Vec::new();
    let mut add = |name: &str, value: Value| all.push((name.to_string(), value));
    if let Some(pids) = limits.pids_max {
        add("TasksMax", Value::U64(if pids == UNLIMITED { INFINITY } else { pids }));
    }
    memory(limits, kind, &mut add);
    cpu(limits, kind, &mut add);
    io(limits, kind, &mut add);
    if kind.version >= 244 {
        if let Some(list) = &limits.cpuset_cpus {
            add("AllowedCPUs", Value::Bytes(mask(&parse_list("cpuset.cpus", list)?)));
        }
        if let Some(list) = &limits.cpuset_mems {
            add("AllowedMemoryNodes", Value::Bytes(mask(&parse_list("cpuset.mems", list)?)));
        }
    }
    if let Some(rules) = &limits.devices {
        devices(rules, &mut add);
    }
    Ok(all)
}

fn memory(limits: &Limits, kind: Kind, add: &mut impl FnMut(&str, Value)) {
    // UNLIMITED and INFINITY are the same number.
    let set = |name: &str, value: Option<u64>, add: &mut dyn FnMut(&str, Value)| {
        if let Some(value) = value {
            add(name, Value::U64(value));
        }
    };
    if !kind.v2 {
        set("MemoryLimit", limits.memory_max, add);
        return;
    }
    set("MemoryMax", limits.memory_max, add);
    set("MemoryHigh", limits.memory_high, add);
    set("MemoryLow", limits.memory_low, add);
    set("MemoryMin", limits.memory_min, add);
    let difference = || convert::swap_from_memsw(limits.memory_max?, limits.memsw_max?);
    let unlimited = limits.memsw_max.filter(|sum| *sum == UNLIMITED);
    set("MemorySwapMax", limits.swap_max.or(unlimited).or_else(difference), add);
}

fn cpu(limits: &Limits, kind: Kind, add: &mut impl FnMut(&str, Value)) {
    let weight = limits.cpu_weight.or(limits.cpu_shares.map(convert::weight_from_shares));
    let shares = limits.cpu_shares.or(limits.cpu_weight.map(convert::shares_from_weight));
    match (kind.v2, weight, shares) {
        (true, Some(weight), _) => add("CPUWeight", Value::U64(weight)),
        (false, _, Some(shares)) => add("CPUShares", Value::U64(shares)),
        _ => {}
    }
    if kind.v2 && limits.cpu_idle == Some(true) && kind.version >= 252 {
        add("CPUWeight", Value::U64(0));
    }
    if let Some(cpu) = limits.cpu {
        if let Some(period) = cpu.period_us.filter(|_| kind.version >= 242) {
            add("CPUQuotaPeriodUSec", Value::U64(period));
        }
        if let Some(quota) = per_second(cpu) {
            add("CPUQuotaPerSecUSec", Value::U64(quota));
        }
    }
}

/// Microseconds a second. systemd counts in hundredths of a processor: rounded up, so that what is written to the cgroup
/// itself fits below it.
fn per_second(cpu: CpuMax) -> Option<u64> {
    let quota = cpu.quota_us?;
    if quota == UNLIMITED {
        return Some(INFINITY);
    }
    let period = cpu.period_us.unwrap_or(100_000).max(1);
    let exact = quota.saturating_mul(1_000_000) / period;
    Some(exact.div_ceil(10_000).saturating_mul(10_000))
}

fn io(limits: &Limits, kind: Kind, add: &mut impl FnMut(&str, Value)) {
    if kind.v2 {
        let weight = limits.io_weight.or(limits.blkio_weight.map(convert::io_weight_from_blkio));
        if let Some(weight) = weight {
            add("IOWeight", Value::U64(weight));
        }
    } else if let Some(weight) = limits.blkio_weight.or(limits.io_weight.map(convert::blkio_weight_from_io)) {
        add("BlockIOWeight", Value::U64(weight));
    }
}

/// A bit for each number, the lowest first.
fn mask(ranges: &[(u32, u32)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in ranges.iter().flat_map(|(low, high)| *low..=*high) {
        let at = usize::try_from(number / 8).unwrap_or(0);
        if bytes.len() <= at {
            bytes.resize(at + 1, 0u8);
        }
        if let Some(byte) = bytes.get_mut(at) {
            *byte |= 1 << (number % 8);
        }
    }
    bytes
}

/// systemd knows lists of what is allowed only. What such a list cannot say is left to the cgroup's own rules, which
/// hold beside systemd's: then systemd allows everything.
fn devices(rules: &[DeviceRule], add: &mut impl FnMut(&str, Value)) {
    match allowed(rules) {
        Some(list) => {
            add("DevicePolicy", Value::Text("strict".into()));
            add("DeviceAllow", Value::Pairs(list));
        }
        None => {
            add("DevicePolicy", Value::Text("auto".into()));
            add("DeviceAllow", Value::Pairs(Vec::new()));
        }
    }
}

fn allowed(rules: &[DeviceRule]) -> Option<Vec<(String, String)>> {
    let mut list: Vec<&DeviceRule> = Vec::new();
    for rule in rules {
        match (rule.allow, rule.kind) {
            (true, DeviceType::All) => return None,
            (false, DeviceType::All) => list.clear(),
            (true, _) => list.push(rule),
            // An exception from what is allowed.
            (false, _) if list.iter().any(|a| a.kind == rule.kind && overlap(a, rule)) => return None,
            (false, _) => {}
        }
    }
    list.into_iter().map(|rule| Some((node(rule)?, rule.access.clone()))).collect()
}

fn overlap(a: &DeviceRule, b: &DeviceRule) -> bool {
    let meet = |a: Option<u32>, b: Option<u32>| a.zip(b).is_none_or(|(a, b)| a == b);
    meet(a.major, b.major) && meet(a.minor, b.minor)
}

/// `/dev/char/1:3`, `char-*`; a whole major by the name that /proc/devices has for it.
fn node(rule: &DeviceRule) -> Option<String> {
    let kind = if rule.kind == DeviceType::Block { "block" } else { "char" };
    match (rule.major, rule.minor) {
        (Some(major), Some(minor)) => Some(format!("/dev/{kind}/{major}:{minor}")),
        (None, None) => Some(format!("{kind}-*")),
        (Some(major), None) => {
            let text = crate::files::read_if_there(std::path::Path::new("/proc/devices"))?;
            group_name(&text, kind, major).map(|name| format!("{kind}-{name}"))
        }
        (None, Some(_)) => None,
    }
}

/// /proc/devices: two parts with a heading, lines `NUMBER NAME`.
fn group_name(text: &str, kind: &str, major: u32) -> Option<String> {
    let heading = if kind == "block" { "Block devices:" } else { "Character devices:" };
    let part = text.lines().skip_while(|line| *line != heading).skip(1).take_while(|line| !line.is_empty());
    part.filter_map(|line| line.trim().split_once(' '))
        .find(|(number, _)| number.parse() == Ok(major))
        .map(|(_, name)| name.trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: Kind = Kind { v2: true, version: 252 };
    const V1: Kind = Kind { v2: false, version: 241 };

    fn shown(limits: &Limits, kind: Kind) -> Vec<String> {
        of(limits, kind).unwrap().iter().map(|(name, value)| format!("{name}={value:?}")).collect()
    }

    #[test]
    fn limits_by_version() {
        let limits = Limits {
            cpu: Some(CpuMax::new(50_500, 100_000)),
            cpu_shares: Some(1024),
            memory_max: Some(1 << 20),
            memsw_max: Some(3 << 20),
            pids_max: Some(UNLIMITED),
            cpuset_cpus: Some("0-1,9".into()),
            blkio_weight: Some(1000),
            ..Limits::default()
        };
        assert_eq!(
            shown(&limits, V2),
            [
                "TasksMax=U64(18446744073709551615)",
                "MemoryMax=U64(1048576)",
                "MemorySwapMax=U64(2097152)",
                "CPUWeight=U64(100)",
                "CPUQuotaPeriodUSec=U64(100000)",
                "CPUQuotaPerSecUSec=U64(510000)",
                "IOWeight=U64(10000)",
                "AllowedCPUs=Bytes([3, 2])",
            ]
        );
        assert_eq!(
            shown(&limits, V1),
            [
                "TasksMax=U64(18446744073709551615)",
                "MemoryLimit=U64(1048576)",
                "CPUShares=U64(1024)",
                "CPUQuotaPerSecUSec=U64(510000)",
                "BlockIOWeight=U64(1000)",
            ]
        );
        assert!(shown(&Limits::default(), V2).is_empty());
        let unlimited = Limits { cpu: Some(CpuMax::new(UNLIMITED, 100_000)), ..Limits::default() };
        assert_eq!(shown(&unlimited, V1), ["CPUQuotaPerSecUSec=U64(18446744073709551615)"]);
    }

    #[test]
    fn device_lists() {
        let rule = |allow, kind, major, minor, access: &str| DeviceRule {
            allow,
            kind,
            major,
            minor,
            access: access.into(),
        };
        let null = rule(true, DeviceType::Char, Some(1), Some(3), "rwm");
        let nodes = rule(true, DeviceType::Block, None, None, "m");
        let list =
            allowed(&[rule(false, DeviceType::All, None, None, "rwm"), null.clone(), nodes.clone()]).unwrap();
        assert_eq!(list, [("/dev/char/1:3".into(), "rwm".into()), ("block-*".into(), "m".into())]);
        let exception = rule(false, DeviceType::Block, Some(8), None, "m");
        assert_eq!(allowed(&[nodes.clone(), exception.clone()]), None, "no list can say this");
        assert_eq!(allowed(&[exception, null]).unwrap().len(), 1);
        assert_eq!(allowed(&[rule(true, DeviceType::All, None, None, "rwm")]), None);
        let text = "Character devices:\n  1 mem\n136 pts\n\nBlock devices:\n  1 ramdisk\n";
        assert_eq!(group_name(text, "char", 136).as_deref(), Some("pts"));
        assert_eq!(group_name(text, "block", 1).as_deref(), Some("ramdisk"));
        assert_eq!(group_name(text, "block", 136), None);
    }
}
