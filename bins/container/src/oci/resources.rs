//! `linux.resources` as limits of a cgroup: also what `container update -r` reads.

use drydock_cgroups::{CpuMax, DeviceRule, DeviceType, DeviceWeight, IoMax, Limits, Rdma, UNLIMITED};
use drydock_core::{Error, Result};
use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxDeviceType, LinuxMemory, LinuxResources,
    LinuxThrottleDevice,
};

/// The limits, without the device rules. `at`: where the resources stand, for errors (`config.json: /linux/resources`).
///
/// As runc has it, 0 leaves alone what it would make no sense for, and -1 is no limit.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] with the field's path. The kernel's ranges are checked by [`Limits::check`].
pub fn limits(resources: &LinuxResources, at: &str) -> Result<Limits> {
    let mut limits = Limits::default();
    if let Some(found) = resources.memory() {
        memory(found, &format!("{at}/memory"), &mut limits)?;
    }
    if let Some(found) = resources.cpu() {
        cpu(found, &format!("{at}/cpu"), &mut limits)?;
    }
    if let Some(pids) = resources.pids() {
        limits.pids_max = Some(count(&format!("{at}/pids/limit"), pids.limit())?);
    }
    if let Some(found) = resources.block_io() {
        block_io(found, &format!("{at}/blockIO"), &mut limits)?;
    }
    for (n, huge) in resources.hugepage_limits().iter().flatten().enumerate() {
        page_size(&format!("{at}/hugepageLimits/{n}/pageSize"), huge.page_size())?;
        let bytes = count(&format!("{at}/hugepageLimits"), huge.limit())?;
        limits.hugetlb.insert(huge.page_size().clone(), bytes);
    }
    if let Some(network) = resources.network() {
        limits.net_cls_classid = network.class_id().filter(|id| *id != 0);
        let priorities = network.priorities().iter().flatten();
        limits.net_prio = priorities.map(|p| (p.name().clone(), p.priority())).collect();
    }
    for (device, rdma) in resources.rdma().iter().flatten() {
        let value = Rdma { hca_handles: rdma.hca_handles(), hca_objects: rdma.hca_objects() };
        limits.rdma.insert(device.clone(), value);
    }
    limits.unified = resources.unified().clone().unwrap_or_default().into_iter().collect();
    Ok(limits)
}

/// That the devices that the limits are for are there: the kernel would say so when the cgroup has been made. Where it does
/// not show them, it judges later.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] with the field's path.
pub fn check_devices(resources: &LinuxResources, at: &str) -> Result<()> {
    let there = |field: &str, n: usize, (major, minor): (i64, i64)| {
        let numbers = format!("{major}:{minor}");
        if drydock_cgroups::device::is_there(&numbers) {
            return Ok(());
        }
        let problem =
            format!("{numbers} is no block device of this machine (allowed: those in /sys/dev/block)");
        Err(Error::bad_input(format!("{at}/blockIO/{field}/{n}"), problem))
    };
    if let Some(io) = resources.block_io() {
        for (n, device) in io.weight_device().iter().flatten().enumerate() {
            there("weightDevice", n, (device.major(), device.minor()))?;
        }
        let tables = [
            ("throttleReadBpsDevice", io.throttle_read_bps_device()),
            ("throttleWriteBpsDevice", io.throttle_write_bps_device()),
            ("throttleReadIOPSDevice", io.throttle_read_iops_device()),
            ("throttleWriteIOPSDevice", io.throttle_write_iops_device()),
        ];
        for (field, table) in tables {
            for (n, device) in table.iter().flatten().enumerate() {
                there(field, n, (device.major(), device.minor()))?;
            }
        }
    }
    resources.rdma().iter().flatten().try_for_each(|(name, _)| rdma_device(&format!("{at}/rdma"), name))
}

fn rdma_device(at: &str, name: &str) -> Result<()> {
    let all = std::path::Path::new("/sys/class/infiniband");
    let names = std::fs::read_dir(all).into_iter().flatten().flatten();
    let known: Vec<String> = names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    if known.iter().any(|one| one == name) || !std::path::Path::new("/sys/class/net").is_dir() {
        return Ok(());
    }
    let shown = drydock_core::text::shorten(&drydock_core::text::escape(name), 60);
    let has = if known.is_empty() { "none is here".into() } else { known.join(", ") };
    let pointer = shown.replace('~', "~0").replace('/', "~1");
    Err(Error::bad_input(
        format!("{at}/{pointer}"),
        format!("no RDMA device of this machine (allowed: {has})"),
    ))
}

/// A pids limit of 0 as the specification's version has it: from 1.3 on a limit; before, when the field was not optional, what
/// stood there when none was asked for.
pub fn zero_pids(limits: Limits, version: &str) -> Limits {
    let minor = version.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
    let before = minor.is_some_and(|minor| minor < 3);
    Limits { pids_max: limits.pids_max.filter(|max| *max != 0 || !before), ..limits }
}

fn memory(memory: &LinuxMemory, at: &str, limits: &mut Limits) -> Result<()> {
    limits.memory_max = amount(&format!("{at}/limit"), memory.limit())?;
    limits.memory_low = amount(&format!("{at}/reservation"), memory.reservation())?;
    limits.memsw_max = amount(&format!("{at}/swap"), memory.swap())?;
    limits.memory_swappiness = memory.swappiness();
    limits.oom_kill_disable = memory.disable_oom_killer().filter(|disable| *disable);
    limits.memory_check = memory.check_before_update().unwrap_or(false);
    match (limits.memory_max, limits.memsw_max) {
        (Some(memory), Some(sum)) if memory != UNLIMITED && sum < memory => Err(Error::bad_input(
            format!("{at}/swap"),
            format!(
                "{sum} is less than the memory limit (allowed: memory and swap together, {memory} or more; -1)"
            ),
        )),
        _ => Ok(()),
    }
}

fn cpu(cpu: &LinuxCpu, at: &str, limits: &mut Limits) -> Result<()> {
    // The kernel's word for no limit is any negative number.
    let quota_us = amount(&format!("{at}/quota"), cpu.quota().map(|quota| quota.max(-1)))?;
    let period_us = cpu.period().filter(|period| *period != 0);
    if quota_us.is_some() || period_us.is_some() {
        limits.cpu = Some(CpuMax { quota_us, period_us });
    }
    limits.cpu_burst_us = cpu.burst();
    limits.cpu_shares = cpu.shares().filter(|shares| *shares != 0);
    limits.cpu_idle = match cpu.idle() {
        None => None,
        Some(0) => Some(false),
        Some(1) => Some(true),
        Some(n) => return Err(Error::bad_input(format!("{at}/idle"), format!("{n} is neither 0 nor 1"))),
    };
    limits.cpu_rt_runtime_us = amount(&format!("{at}/realtimeRuntime"), cpu.realtime_runtime())?;
    limits.cpu_rt_period_us = cpu.realtime_period().filter(|period| *period != 0);
    limits.cpuset_cpus = cpu.cpus().clone().filter(|list| !list.is_empty());
    limits.cpuset_mems = cpu.mems().clone().filter(|list| !list.is_empty());
    Ok(())
}

fn block_io(io: &LinuxBlockIo, at: &str, limits: &mut Limits) -> Result<()> {
    let weight = |w: Option<u16>| w.filter(|w| *w != 0).map(u64::from);
    limits.blkio_weight = weight(io.weight());
    limits.blkio_leaf_weight = weight(io.leaf_weight());
    for (n, device) in io.weight_device().iter().flatten().enumerate() {
        limits.blkio_weight_device.push(DeviceWeight {
            device: numbers(&format!("{at}/weightDevice/{n}"), device.major(), device.minor())?,
            weight: weight(device.weight()),
            leaf_weight: weight(device.leaf_weight()),
        });
    }
    type Slot = fn(&mut IoMax) -> &mut Option<u64>;
    let tables: [(&str, &Option<Vec<LinuxThrottleDevice>>, Slot); 4] = [
        ("throttleReadBpsDevice", io.throttle_read_bps_device(), |io| &mut io.rbps),
        ("throttleWriteBpsDevice", io.throttle_write_bps_device(), |io| &mut io.wbps),
        ("throttleReadIOPSDevice", io.throttle_read_iops_device(), |io| &mut io.riops),
        ("throttleWriteIOPSDevice", io.throttle_write_iops_device(), |io| &mut io.wiops),
    ];
    for (name, table, slot) in tables {
        for (n, entry) in table.iter().flatten().enumerate() {
            let device = numbers(&format!("{at}/{name}/{n}"), entry.major(), entry.minor())?;
            // As on v1, a rate of 0 is no limit.
            let rate = if entry.rate() == 0 { UNLIMITED } else { entry.rate() };
            let known = limits.io_max.iter().position(|io| io.device == device);
            let at = known.unwrap_or_else(|| {
                limits.io_max.push(IoMax { device, ..IoMax::default() });
                limits.io_max.len() - 1
            });
            if let Some(io) = limits.io_max.get_mut(at) {
                *slot(io) = Some(rate);
            }
        }
    }
    Ok(())
}

/// 0 is "not given".
fn amount(at: &str, value: Option<i64>) -> Result<Option<u64>> {
    value.filter(|v| *v != 0).map(|v| count(at, v)).transpose()
}

fn count(at: &str, value: i64) -> Result<u64> {
    match value {
        -1 => Ok(UNLIMITED),
        v => u64::try_from(v).map_err(|_| {
            Error::bad_input(at, format!("{v} is negative (allowed: a number, or -1 for no limit)"))
        }),
    }
}

/// One of those that the kernel has; where it does not say, it judges later.
fn page_size(at: &str, size: &str) -> Result<()> {
    let kilobytes = |name: &str| name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok();
    let named = |kb: u64| match kb {
        kb if kb % (1 << 20) == 0 => format!("{}GB", kb >> 20),
        kb if kb % (1 << 10) == 0 => format!("{}MB", kb >> 10),
        kb => format!("{kb}KB"),
    };
    let entries = std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    let mut known: Vec<u64> = entries.filter_map(|e| kilobytes(&e.file_name().to_string_lossy())).collect();
    known.sort_unstable();
    let known: Vec<String> = known.into_iter().map(named).collect();
    if known.is_empty() || known.iter().any(|one| one == size) {
        return Ok(());
    }
    let shown = drydock_core::text::shorten(&drydock_core::text::escape(size), 60);
    Err(Error::bad_input(
        at,
        format!("'{shown}' is no size of this machine's huge pages (allowed: {})", known.join(", ")),
    ))
}

fn numbers(at: &str, major: i64, minor: i64) -> Result<String> {
    let (Ok(major), Ok(minor)) = (u32::try_from(major), u32::try_from(minor)) else {
        return Err(Error::bad_input(at, format!("{major}:{minor} is no device (allowed: numbers from 0)")));
    };
    Ok(format!("{major}:{minor}"))
}

/// The device rules of the configuration, and behind them what each container needs: the last that fits decides.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] for a type that has no rules, or numbers that are none.
pub fn devices(rules: &[LinuxDeviceCgroup], at: &str) -> Result<Vec<DeviceRule>> {
    let own = rules.iter().enumerate().map(|(i, rule)| device(rule, &format!("{at}/devices/{i}")));
    let mut all = own.collect::<Result<Vec<DeviceRule>>>()?;
    all.extend(DeviceRule::container_defaults());
    Ok(all)
}

fn device(rule: &LinuxDeviceCgroup, at: &str) -> Result<DeviceRule> {
    let number = |name: &str, value: Option<i64>| match value {
        None | Some(-1) => Ok(None),
        Some(n) => u32::try_from(n).map(Some).map_err(|_| {
            Error::bad_input(
                format!("{at}/{name}"),
                format!("{n} is no device (allowed: numbers from 0, or -1 for all)"),
            )
        }),
    };
    let kind = match rule.typ() {
        None | Some(LinuxDeviceType::A) => DeviceType::All,
        Some(LinuxDeviceType::B) => DeviceType::Block,
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => DeviceType::Char,
        Some(_) => return Err(Error::bad_input(format!("{at}/type"), "no device (allowed: a, b, c)")),
    };
    Ok(DeviceRule {
        allow: rule.allow(),
        kind,
        major: number("major", rule.major())?,
        minor: number("minor", rule.minor())?,
        access: rule.access().clone().filter(|access| !access.is_empty()).unwrap_or("rwm".to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Limits> {
        limits(&serde_json::from_str(json).unwrap(), "config.json: /linux/resources")
    }

    #[test]
    fn every_field_has_its_limit() {
        let limits = parse(
            r#"{"memory":{"limit":104857600,"swap":-1,"reservation":1048576,"swappiness":10,"disableOOMKiller":false,"checkBeforeUpdate":true,"kernel":5},
            "cpu":{"shares":512,"quota":50000,"period":0,"burst":1000,"idle":1,"realtimeRuntime":-1,"realtimePeriod":9,"cpus":"0-1","mems":""},
            "pids":{"limit":-1},"blockIO":{"weight":0,"leafWeight":20,"weightDevice":[{"major":8,"minor":0,"weight":30}],
            "throttleReadBpsDevice":[{"major":8,"minor":0,"rate":600}],"throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":0}]},
            "hugepageLimits":[{"pageSize":"2MB","limit":4096}],"network":{"classID":7,"priorities":[{"name":"eth0","priority":3}]},
            "rdma":{"mlx5":{"hcaHandles":3}},"unified":{"memory.high":"max"}}"#,
        )
        .unwrap();
        let io = IoMax { device: "8:0".into(), rbps: Some(600), wiops: Some(UNLIMITED), ..IoMax::default() };
        assert_eq!(
            limits,
            Limits {
                memory_max: Some(100 << 20),
                memsw_max: Some(UNLIMITED),
                memory_low: Some(1 << 20),
                memory_swappiness: Some(10),
                memory_check: true,
                cpu: Some(CpuMax { quota_us: Some(50_000), period_us: None }),
                cpu_burst_us: Some(1000),
                cpu_shares: Some(512),
                cpu_idle: Some(true),
                cpu_rt_runtime_us: Some(UNLIMITED),
                cpu_rt_period_us: Some(9),
                cpuset_cpus: Some("0-1".into()),
                pids_max: Some(UNLIMITED),
                blkio_leaf_weight: Some(20),
                blkio_weight_device: vec![DeviceWeight {
                    device: "8:0".into(),
                    weight: Some(30),
                    leaf_weight: None
                }],
                io_max: vec![io],
                hugetlb: [("2MB".into(), 4096)].into(),
                net_cls_classid: Some(7),
                net_prio: [("eth0".into(), 3)].into(),
                rdma: [("mlx5".into(), Rdma { hca_handles: Some(3), hca_objects: None })].into(),
                unified: [("memory.high".into(), "max".into())].into(),
                ..Limits::default()
            }
        );
        assert!(parse("{}").unwrap().is_empty());
    }

    #[test]
    fn no_processes_are_a_limit_since_1_3() {
        let of = |limit: &str, version| {
            zero_pids(parse(&format!(r#"{{"pids":{{"limit":{limit}}}}}"#)).unwrap(), version).pids_max
        };
        for (version, zero) in [
            ("1.0.2-dev", None),
            ("1.2.1", None),
            ("1.3.0", Some(0)),
            ("1.3.0-rc.1", Some(0)),
            ("1.10.0", Some(0)),
        ] {
            assert_eq!((of("0", version), of("7", version)), (zero, Some(7)), "{version}");
        }
    }

    #[test]
    fn bad_values_name_their_path() {
        for (json, path) in [
            (r#"{"memory":{"limit":-2}}"#, "/linux/resources/memory/limit: "),
            (r#"{"memory":{"limit":8192,"swap":4096}}"#, "/linux/resources/memory/swap: "),
            (r#"{"cpu":{"idle":2}}"#, "/linux/resources/cpu/idle: "),
            (
                r#"{"blockIO":{"weightDevice":[{"major":-1,"minor":0}]}}"#,
                "/linux/resources/blockIO/weightDevice/0: ",
            ),
        ] {
            let error = parse(json).unwrap_err();
            assert!(error.to_string().contains(path) && error.exit_code() == 2, "{error}");
        }
    }

    #[test]
    fn device_rules_end_with_the_defaults() {
        let rules: Vec<LinuxDeviceCgroup> = serde_json::from_str(
            r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":10,"minor":-1}]"#,
        )
        .unwrap();
        let all = devices(&rules, "x").unwrap();
        assert_eq!((all[0].allow, all[0].kind), (false, DeviceType::All));
        assert_eq!((all[1].major, all[1].minor, all[1].access.as_str()), (Some(10), None, "rwm"));
        assert_eq!(all[2..], DeviceRule::container_defaults());
    }
}
