//! A container's statistics in the words and units of `runc events`: engines read them.

use drydock_cgroups::Cgroup;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What the kernel says when there is no limit, in v2.
const MAX: u64 = u64::MAX;

/// The `data` of an event of the type `stats`. What the kernel does not count here is left out.
pub fn read(group: &Cgroup, pid: Option<i32>) -> Value {
    let pressure = group.pressure();
    let with_pressure = |mut value: Value, resource: &str| {
        if let (Some(map), Some(pressure)) = (value.as_object_mut(), pressure.get(resource)) {
            map.insert("psi".into(), json!(pressure));
        }
        value
    };
    json!({
        "cpu": with_pressure(cpu(group), "cpu"),
        "cpuset": cpuset(group),
        "memory": with_pressure(memory(group), "memory"),
        "pids": pids(group),
        "blkio": with_pressure(blkio(group), "io"),
        "hugetlb": hugetlb(group),
        "intel_rdt": {},
        "network_interfaces": pid.and_then(interfaces),
    })
}

fn number(group: &Cgroup, file: &str) -> Option<u64> {
    let text = group.read(file)?;
    let text = text.trim();
    if text == "max" { Some(MAX) } else { text.parse().ok() }
}

fn numbers(group: &Cgroup, file: &str) -> Option<Vec<u64>> {
    Some(group.read(file)?.split_whitespace().filter_map(|n| n.parse().ok()).collect())
}

fn flat(text: Option<String>) -> BTreeMap<String, u64> {
    let pair = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_string(), value.trim().parse().ok()?))
    };
    text.unwrap_or_default().lines().filter_map(pair).collect()
}

/// An object of those that are known.
fn known<'a>(pairs: impl IntoIterator<Item = (&'a str, Option<Value>)>) -> Value {
    let pairs = pairs.into_iter().filter_map(|(key, value)| Some((key.to_string(), value?)));
    Value::Object(pairs.collect::<Map<String, Value>>())
}

/// Nanoseconds.
fn cpu(group: &Cgroup) -> Value {
    if let Some(total) = number(group, "cpuacct.usage") {
        let list = |file| numbers(group, file).map(|n| json!(n));
        let one = |file| number(group, file).map(|n| json!(n));
        let usage = known([
            ("total", Some(json!(total))),
            ("percpu", list("cpuacct.usage_percpu")),
            ("percpu_kernel", list("cpuacct.usage_percpu_sys")),
            ("percpu_user", list("cpuacct.usage_percpu_user")),
            ("kernel", one("cpuacct.usage_sys")),
            ("user", one("cpuacct.usage_user")),
        ]);
        // On hybrid, v2 has a cpu.stat of its own; v1's stands beside the quota.
        let beside = group.dirs().find(|dir| dir.join("cpu.cfs_quota_us").exists());
        let stat = flat(beside.and_then(|dir| std::fs::read_to_string(dir.join("cpu.stat")).ok()));
        return json!({ "usage": usage, "throttling": throttling(&stat, "throttled_time", 1) });
    }
    let stat = flat(group.read("cpu.stat"));
    let nanoseconds = |key: &str| stat.get(key).map(|us| json!(us.saturating_mul(1000)));
    let usage = known([
        ("total", nanoseconds("usage_usec")),
        ("kernel", nanoseconds("system_usec")),
        ("user", nanoseconds("user_usec")),
    ]);
    json!({ "usage": usage, "throttling": throttling(&stat, "throttled_usec", 1000) })
}

fn throttling(stat: &BTreeMap<String, u64>, time: &str, scale: u64) -> Value {
    known([
        ("periods", stat.get("nr_periods").map(|n| json!(n))),
        ("throttledPeriods", stat.get("nr_throttled").map(|n| json!(n))),
        ("throttledTime", stat.get(time).map(|n| json!(n.saturating_mul(scale)))),
    ])
}

fn cpuset(group: &Cgroup) -> Value {
    let list = |file: &str| {
        let text = group.read(file).filter(|t| !t.trim().is_empty());
        text.or_else(|| group.read(&format!("{file}.effective"))).map(|t| json!(expand(t.trim())))
    };
    let one = |file: &str| {
        let text = group.read(file)?;
        text.trim().parse::<i64>().ok().map(|n| json!(n))
    };
    known([
        ("cpus", list("cpuset.cpus")),
        ("cpu_exclusive", one("cpuset.cpu_exclusive")),
        ("mems", list("cpuset.mems")),
        ("mem_hardwall", one("cpuset.mem_hardwall")),
        ("mem_exclusive", one("cpuset.mem_exclusive")),
        ("memory_migrate", one("cpuset.memory_migrate")),
        ("memory_spread_page", one("cpuset.memory_spread_page")),
        ("memory_spread_slab", one("cpuset.memory_spread_slab")),
        ("memory_pressure", one("cpuset.memory_pressure")),
        ("sched_load_balance", one("cpuset.sched_load_balance")),
        ("sched_relax_domain_level", one("cpuset.sched_relax_domain_level")),
    ])
}

/// `0-2,4` as 0, 1, 2, 4.
fn expand(list: &str) -> Vec<u16> {
    let range = |part: &str| {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        Some(low.parse::<u16>().ok()?..=high.parse::<u16>().ok()?)
    };
    list.split(',').filter_map(range).flatten().collect()
}

/// Bytes. As on v1, `swap` is memory and swap together.
fn memory(group: &Cgroup) -> Value {
    let raw = |text: Option<String>| flat(text);
    if let Some(usage) = number(group, "memory.usage_in_bytes") {
        let stat = raw(group.read("memory.stat"));
        let entry = |prefix: &str| {
            let one = |file: &str| number(group, &format!("{prefix}.{file}")).map(|n| json!(n));
            let usage = one("usage_in_bytes")?;
            Some(known([
                ("limit", one("limit_in_bytes")),
                ("usage", Some(usage)),
                ("max", one("max_usage_in_bytes")),
                ("failcnt", one("failcnt")),
            ]))
        };
        return known([
            ("cache", Some(json!(stat.get("total_cache").or(stat.get("cache"))))),
            ("usage", entry("memory").or(Some(json!({ "usage": usage })))),
            ("swap", entry("memory.memsw")),
            ("kernel", entry("memory.kmem")),
            ("kernelTCP", entry("memory.kmem.tcp")),
            ("raw", Some(json!(stat))),
        ]);
    }
    let Some(usage) = number(group, "memory.current") else { return json!({}) };
    let limit = number(group, "memory.max");
    let stat = raw(group.read("memory.stat"));
    let failed = flat(group.read("memory.events")).get("max").copied().unwrap_or(0);
    let swap = number(group, "memory.swap.current").map(|swap| {
        let sum = number(group, "memory.swap.max").zip(limit).map(|(s, m)| s.saturating_add(m));
        let failed = flat(group.read("memory.swap.events")).get("max").copied().unwrap_or(0);
        json!({ "limit": sum, "usage": swap.saturating_add(usage), "failcnt": failed })
    });
    known([
        ("cache", stat.get("file").map(|n| json!(n))),
        (
            "usage",
            Some(known([
                ("limit", limit.map(|n| json!(n))),
                ("usage", Some(json!(usage))),
                ("max", number(group, "memory.peak").map(|n| json!(n))),
                ("failcnt", Some(json!(failed))),
            ])),
        ),
        ("swap", swap),
        ("kernel", stat.get("kernel").map(|n| json!({ "usage": n, "failcnt": 0 }))),
        ("raw", Some(json!(stat))),
    ])
}

fn pids(group: &Cgroup) -> Value {
    known([
        ("current", number(group, "pids.current").map(|n| json!(n))),
        ("limit", number(group, "pids.max").filter(|n| *n != MAX).map(|n| json!(n))),
    ])
}

fn blkio(group: &Cgroup) -> Value {
    let mut tables: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    let mut add = |table, device: &str, op: &str, value: u64| {
        let Some((major, minor)) = device.split_once(':') else { return };
        let (Ok(major), Ok(minor)) = (major.parse::<u64>(), minor.parse::<u64>()) else { return };
        let entry = json!({ "major": major, "minor": minor, "op": op, "value": value });
        tables.entry(table).or_default().push(entry);
    };
    for (table, file) in [
        ("ioServiceBytesRecursive", "blkio.throttle.io_service_bytes_recursive"),
        ("ioServicedRecursive", "blkio.throttle.io_serviced_recursive"),
    ] {
        for line in group.read(file).unwrap_or_default().lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let [device, op, value] = words.as_slice() {
                add(table, device, op, value.parse().unwrap_or(0));
            }
        }
    }
    for line in group.read("io.stat").unwrap_or_default().lines() {
        let mut words = line.split_whitespace();
        let device = words.next().unwrap_or_default();
        for (key, value) in words.filter_map(|w| w.split_once('=')) {
            let (table, op) = match key {
                "rbytes" => ("ioServiceBytesRecursive", "Read"),
                "wbytes" => ("ioServiceBytesRecursive", "Write"),
                "rios" => ("ioServicedRecursive", "Read"),
                "wios" => ("ioServicedRecursive", "Write"),
                _ => continue,
            };
            add(table, device, op, value.parse().unwrap_or(0));
        }
    }
    json!(tables)
}

/// By page size.
fn hugetlb(group: &Cgroup) -> Value {
    let mut sizes = Map::new();
    for entry in group.dirs().filter_map(|dir| std::fs::read_dir(dir).ok()).flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((size, file)) = name.strip_prefix("hugetlb.").and_then(|n| n.split_once('.')) else {
            continue;
        };
        let one = |file: &str| number(group, &format!("hugetlb.{size}.{file}"));
        let value = match file {
            "usage_in_bytes" => {
                let (usage, max, failed) = (one(file), one("max_usage_in_bytes"), one("failcnt"));
                json!({ "usage": usage, "max": max, "failcnt": failed })
            }
            "current" => {
                let failed = flat(group.read(&format!("hugetlb.{size}.events"))).get("max").copied();
                json!({ "usage": one(file), "failcnt": failed.unwrap_or(0) })
            }
            _ => continue,
        };
        sizes.insert(size.to_string(), value);
    }
    Value::Object(sizes)
}

/// The container's interfaces except `lo`; nothing when it has our own network.
fn interfaces(pid: i32) -> Option<Value> {
    let network = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/net")).ok();
    let (ours, theirs) = (network("self")?, network(&pid.to_string())?);
    if ours == theirs {
        return None;
    }
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).ok()?;
    let all = text.lines().filter_map(interface).collect::<Vec<Value>>();
    (!all.is_empty()).then(|| json!(all))
}

/// One line of proc_pid_net(5) `dev`: 8 numbers received, 8 sent.
fn interface(line: &str) -> Option<Value> {
    let (name, rest) = line.rsplit_once(':')?;
    let name = name.trim();
    let n: Vec<u64> = rest.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    let [
        rx_bytes,
        rx_packets,
        rx_errors,
        rx_dropped,
        _,
        _,
        _,
        _,
        tx_bytes,
        tx_packets,
        tx_errors,
        tx_dropped,
        ..,
    ] = n.as_slice()
    else {
        return None;
    };
    (name != "lo").then(|| {
        json!({
            "Name": name,
            "RxBytes": rx_bytes, "RxPackets": rx_packets, "RxErrors": rx_errors, "RxDropped": rx_dropped,
            "TxBytes": tx_bytes, "TxPackets": tx_packets, "TxErrors": tx_errors, "TxDropped": tx_dropped,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_lines() {
        assert_eq!(expand("0-2,4"), [0, 1, 2, 4]);
        assert_eq!(expand("x,3-1,-,"), [0u16; 0]);
        let line = "  eth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0";
        let shown = interface(line).unwrap();
        assert_eq!(
            (&shown["Name"], &shown["RxDropped"], &shown["TxBytes"]),
            (&json!("eth0"), &json!(4), &json!(5))
        );
        assert_eq!(interface("    lo: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0"), None);
        assert_eq!(interface("Inter-|   Receive   |  Transmit"), None);
        assert_eq!(flat(Some("a 1\nb x\nc\n".into())), [("a".to_string(), 1)].into());
    }
}
