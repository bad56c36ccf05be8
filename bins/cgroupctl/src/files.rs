//! Single kernel files of a cgroup, by the names of either version.

use crate::args::Show;
use drydock_cgroups::{Cgroup, IoMax, Limits, UNLIMITED, convert};
use drydock_cli::Outcome;
use drydock_cli::output::{print_json, print_line};
use drydock_core::text::{escape, shorten};
use drydock_core::{Error, Result};
use std::collections::BTreeMap;

/// `cgroupctl show NAME FILE…`, `--all`, `--controller`.
pub fn show(cgroup: &Cgroup, args: &Show) -> Outcome {
    let values = if args.files.is_empty() { listed(cgroup, args)? } else { named(cgroup, args)? };
    if args.json {
        let map: BTreeMap<&str, &str> = values.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        print_json(&map)?;
        return Ok(0);
    }
    let bare = args.values || args.files.len() == 1;
    for (file, value) in &values {
        for line in value.lines() {
            if bare { print_line(line)? } else { print_line(&format!("{file}: {line}"))? }
        }
    }
    Ok(0)
}

fn named(cgroup: &Cgroup, args: &Show) -> Result<Vec<(String, String)>> {
    if let Some(bad) = args.files.iter().find(|f| !is_file_name(f)) {
        let shown = shorten(&escape(bad), 60).to_string();
        let problem = format!("'{shown}' is not a file of a cgroup (allowed: names such as memory.max)");
        return Err(Error::bad_input("show", problem));
    }
    let limits = cgroup.limits();
    let one = |file: &String| {
        let text = cgroup.read(file).map(|t| t.trim_end().to_string());
        let value = text.or_else(|| translated(file, cgroup, &limits));
        value.map(|v| (file.clone(), v)).ok_or_else(|| {
            if !crate::compare::is_known(file) {
                let problem = "no such file in this cgroup (allowed: see `cgroupctl compare`, or show --all)";
                return Error::bad_input(escape(file), problem);
            }
            Error::failed(escape(file), "not in this cgroup: no such file, or its controller is not enabled")
                .in_stage("cgroup")
                .hint("see `cgroupctl check` and `cgroupctl compare`")
        })
    };
    args.files.iter().map(one).collect()
}

fn is_file_name(file: &str) -> bool {
    !file.is_empty()
        && file.len() <= 128
        && file.bytes().all(|b| b.is_ascii_graphic() && b != b'/')
        && !file.starts_with('.')
}

/// All files, or those of one controller, that can be read.
fn listed(cgroup: &Cgroup, args: &Show) -> Result<Vec<(String, String)>> {
    let mut all = BTreeMap::new();
    let wanted = |name: &str| match args.controller.as_deref() {
        None => true,
        Some(controller) => {
            name.split('.').next().is_some_and(|c| c == controller || (c == "blkio" && controller == "io"))
        }
    };
    for dir in cgroup.dirs() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !wanted(&name) || all.contains_key(&name) || entry.file_type().is_ok_and(|t| t.is_dir()) {
                continue;
            }
            // Files that cannot be read, such as write-only ones, are left out.
            if let Ok(bytes) = std::fs::read(entry.path()) {
                all.insert(name, String::from_utf8_lossy(&bytes).trim_end().to_string());
            }
        }
    }
    match (&args.controller, all.is_empty()) {
        (Some(controller), true) => {
            let shown = shorten(&escape(controller), 40).to_string();
            Err(Error::bad_input(
                "--controller",
                format!("'{shown}' has no files in this cgroup (allowed: see `cgroupctl controllers`)"),
            ))
        }
        _ => Ok(all.into_iter().collect()),
    }
}

/// A name of the other version, answered from this one's counterpart.
fn translated(file: &str, cgroup: &Cgroup, limits: &Limits) -> Option<String> {
    let read = |file: &str| cgroup.read(file).map(|t| t.trim_end().to_string());
    match file {
        "cpu.max" => limits.cpu.map(|c| c.to_string()),
        "cpu.max.burst" | "cpu.cfs_burst_us" => limits.cpu_burst_us.map(word),
        "cpu.weight" => limits.cpu_weight.map(word),
        "memory.max" => limits.memory_max.map(word),
        "memory.low" => limits.memory_low.map(word),
        "memory.swap.max" => limits.swap_max.map(word),
        "memory.current" => read("memory.usage_in_bytes"),
        "memory.peak" => read("memory.max_usage_in_bytes"),
        "memory.swap.current" => cgroup.stats().memory.swap.map(word),
        "io.max" => Some(limits.io_max.iter().map(io_line).collect::<Vec<_>>().join("\n")),
        "cgroup.freeze" => cgroup.is_frozen().map(|f| u8::from(f).to_string()),
        "freezer.state" => cgroup.is_frozen().map(|f| if f { "FROZEN" } else { "THAWED" }.to_string()),
        "cpu.cfs_quota_us" => limits.cpu?.quota_us.map(minus_one),
        "cpu.cfs_period_us" => limits.cpu?.period_us.map(word),
        "cpu.shares" => limits.cpu_weight.map(|w| convert::shares_from_weight(w).to_string()),
        "cpuacct.usage" => cgroup.stats().cpu.usage_us.map(|us| (us.saturating_mul(1000)).to_string()),
        "memory.limit_in_bytes" => limits.memory_max.map(minus_one),
        "memory.soft_limit_in_bytes" => {
            limits.memory_low.map(|n| if n == 0 { "-1".to_string() } else { word(n) })
        }
        "memory.memsw.limit_in_bytes" => {
            Some(minus_one(convert::memsw_from_swap(limits.memory_max?, limits.swap_max?)))
        }
        "memory.usage_in_bytes" => read("memory.current"),
        "memory.max_usage_in_bytes" => read("memory.peak"),
        _ => {
            let (page, end) = file.strip_prefix("hugetlb.")?.rsplit_once('.')?;
            let limit = limits.hugetlb.get(page)?;
            match end {
                "max" => Some(word(*limit)),
                "limit_in_bytes" => Some(minus_one(*limit)),
                _ => None,
            }
        }
    }
}

fn io_line(io: &IoMax) -> String {
    let max = |v: Option<u64>| v.map_or("max".to_string(), word);
    let rates = format!("rbps={} wbps={}", max(io.rbps), max(io.wbps));
    format!("{} {rates} riops={} wiops={}", io.device, max(io.riops), max(io.wiops))
}

fn word(value: u64) -> String {
    if value == UNLIMITED { "max".to_string() } else { value.to_string() }
}

fn minus_one(value: u64) -> String {
    if value == UNLIMITED { "-1".to_string() } else { value.to_string() }
}
