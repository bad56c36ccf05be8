//! list and tree.

use crate::args::List;
use crate::names::layout_for;
use drydock_cgroups::{Brief, Cgroup, Layout, Version};
use drydock_cli::Outcome;
use drydock_cli::output::{print_json, print_line, print_text, table};
use drydock_core::{Result, size};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

#[derive(Serialize)]
struct Entry {
    name: String,
    processes: usize,
    controllers: Vec<String>,
}

/// `cgroupctl list`.
pub fn list(args: &List) -> Outcome {
    if args.stats {
        return stats(args);
    }
    let entries = entries(args)?;
    if args.json {
        print_json(&entries)?;
        return Ok(0);
    }
    let row = |e: &Entry| vec![e.name.clone(), e.processes.to_string(), e.controllers.join(" ")];
    print_text(&table(&["NAME", "PROCESSES", "HIERARCHIES"], &entries.iter().map(row).collect::<Vec<_>>()))?;
    Ok(0)
}

/// `cgroupctl tree`.
pub fn tree(args: &List) -> Outcome {
    let entries = entries(args)?;
    if args.json {
        print_json(&entries)?;
        return Ok(0);
    }
    let base = args.name.as_deref().map_or(0, |n| n.split('/').count() - 1);
    for entry in &entries {
        let depth = entry.name.split('/').count().saturating_sub(1 + base);
        let last = entry.name.rsplit('/').next().unwrap_or_default();
        let count = if entry.processes == 0 { String::new() } else { format!("  ({})", entry.processes) };
        print_line(&format!("{}{last}{count}", "  ".repeat(depth)))?;
    }
    Ok(0)
}

#[derive(Serialize)]
struct Counted<'a> {
    name: &'a str,
    #[serde(flatten)]
    counters: &'a Brief,
}

/// `cgroupctl list --stats`: one pass over all.
fn stats(args: &List) -> Outcome {
    let all = layout_of(args)?.survey(args.name.as_deref());
    if args.json {
        let rows: Vec<Counted> = all.iter().map(|(name, counters)| Counted { name, counters }).collect();
        print_json(&rows)?;
        return Ok(0);
    }
    let missing = || "-".to_string();
    let count = |v: Option<u64>| v.map_or_else(missing, |v| v.to_string());
    let bytes = |v: Option<u64>| v.map_or_else(missing, size::show);
    let time = |v: Option<u64>| v.map_or_else(missing, |us| format!("{:.3}", us as f64 / 1e6));
    let row = |(name, b): (&String, &Brief)| {
        vec![
            name.clone(),
            count(b.tasks),
            time(b.cpu_us),
            bytes(b.memory),
            bytes(b.swap),
            bytes(b.read),
            bytes(b.written),
            count(b.oom_kills),
        ]
    };
    let head = ["NAME", "TASKS", "CPU S", "MEMORY", "SWAP", "READ", "WRITTEN", "OOM KILLS"];
    print_text(&table(&head, &all.iter().map(row).collect::<Vec<_>>()))?;
    Ok(0)
}

/// The layout, and that the cgroup asked for is there.
fn layout_of(args: &List) -> Result<Layout> {
    match &args.name {
        Some(name) => {
            let layout = layout_for(name)?;
            Cgroup::open(name, &layout)?;
            Ok(layout)
        }
        None => Layout::detect(),
    }
}

/// All cgroups below the bases, merged over the hierarchies by name.
fn entries(args: &List) -> Result<Vec<Entry>> {
    let layout = layout_of(args)?;
    let mut found: BTreeMap<Vec<String>, (BTreeSet<i32>, Vec<String>)> = BTreeMap::new();
    for hierarchy in layout.hierarchies().iter().filter(|h| h.name.is_none()) {
        let base = hierarchy.place();
        let label = match hierarchy.version {
            Version::V2 => "v2".to_string(),
            Version::V1 => hierarchy.controllers.join(","),
        };
        let start = args.name.as_ref().map_or(base.to_path_buf(), |n| base.join(n));
        walk(&start, base, &mut |name, pids| {
            let entry = found.entry(name).or_default();
            entry.0.extend(pids);
            entry.1.push(label.clone());
        });
    }
    let to_entry = |(name, (pids, controllers)): (Vec<String>, (BTreeSet<i32>, Vec<String>))| Entry {
        name: name.join("/"),
        processes: pids.len(),
        controllers,
    };
    Ok(found.into_iter().map(to_entry).collect())
}

fn walk(dir: &Path, base: &Path, each: &mut impl FnMut(Vec<String>, Vec<i32>)) {
    // A cgroup that vanishes while we look is no error.
    let Ok(children) = std::fs::read_dir(dir) else { return };
    if let Ok(relative) = dir.strip_prefix(base) {
        let name: Vec<String> = relative.iter().map(|c| c.to_string_lossy().into_owned()).collect();
        if !name.is_empty() {
            let pids = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            each(name, pids.lines().filter_map(|l| l.parse().ok()).collect());
        }
    }
    for child in children.flatten().filter(|c| c.file_type().is_ok_and(|t| t.is_dir())) {
        walk(&child.path(), base, each);
    }
}
