//! check, list, tree, show.

use crate::args::{List, Output, Show};
use drydock_cgroups::{Cgroup, Hierarchy, Layout, Limits, Mode, UNLIMITED, Version, check_name};
use drydock_cli::Outcome;
use drydock_cli::output::{print_json, print_line, print_text, table};
use drydock_core::text::escape;
use drydock_core::{Error, Result, size};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

#[derive(Serialize)]
struct Checked<'a> {
    mode: Mode,
    hierarchies: &'a [Hierarchy],
    controllers: Vec<String>,
    missing: Vec<Missing>,
    cgroup_kill: bool,
    clone_into_cgroup: bool,
    pressure: bool,
    swap_limit: bool,
}

#[derive(Serialize)]
struct Missing {
    what: String,
    why: String,
}

/// `cgroupctl check`: exit 1 if no cgroup can be made here.
pub fn check(args: &Output) -> Outcome {
    let layout = Layout::detect()?;
    let root = Cgroup::root(&layout).ok();
    let has = |file: &str| root.as_ref().is_some_and(|r| r.read(file).is_some());
    let v2 = layout.v2().is_some();
    let checked = Checked {
        mode: layout.mode(),
        hierarchies: layout.hierarchies(),
        controllers: layout.controllers(),
        missing: missing(&layout),
        cgroup_kill: v2 && kernel_at_least(5, 14),
        clone_into_cgroup: v2 && kernel_at_least(5, 7),
        pressure: has("memory.pressure"),
        // The v2 root has no memory files: a child would be needed to see them.
        swap_limit: has("memory.memsw.limit_in_bytes")
            || (layout.mode() == Mode::V2 && Path::new("/proc/swaps").exists()),
    };
    if args.json {
        print_json(&checked)?
    } else {
        print_text(&check_text(&checked))?
    }
    Ok(u8::from(!layout.hierarchies().iter().any(|h| h.base.is_some())))
}

fn check_text(checked: &Checked) -> String {
    let mode = match checked.mode {
        Mode::V1 => "v1 (one hierarchy a controller)",
        Mode::Hybrid => "hybrid (controllers in v1 hierarchies, v2 mounted beside them)",
        Mode::V2 => "v2 (one hierarchy with all controllers)",
        Mode::None => "none (no cgroup file system is mounted; mount -t cgroup2 cgroup2 /sys/fs/cgroup)",
    };
    let rows: Vec<Vec<String>> = checked.hierarchies.iter().map(check_row).collect();
    let yes = |b: bool| if b { "yes" } else { "no" };
    let mut text = format!("mode: {mode}\n");
    if !rows.is_empty() {
        text.push_str(&table(
            &["VERSION", "CONTROLLERS", "MOUNTED AT", "OUR CGROUP", "WE MAKE CGROUPS IN"],
            &rows,
        ));
    }
    text.push_str(&format!(
        "cgroup.kill: {}\nCLONE_INTO_CGROUP: {}\npressure (PSI): {}\nswap limit: {}\n",
        yes(checked.cgroup_kill),
        yes(checked.clone_into_cgroup),
        yes(checked.pressure),
        yes(checked.swap_limit)
    ));
    for missing in &checked.missing {
        text.push_str(&format!("missing: {}: {}\n", escape(&missing.what), escape(&missing.why)));
    }
    text
}

fn check_row(hierarchy: &Hierarchy) -> Vec<String> {
    let controllers = match (&hierarchy.name, hierarchy.controllers.is_empty()) {
        (Some(name), _) => format!("(name={name})"),
        (None, true) => "(none)".to_string(),
        _ => hierarchy.controllers.join(" "),
    };
    let base = match &hierarchy.base {
        Some(base) => base.display().to_string(),
        None => "nowhere: not writable to us, not delegated".to_string(),
    };
    vec![
        if hierarchy.version == Version::V2 { "v2" } else { "v1" }.to_string(),
        controllers,
        hierarchy.mount.display().to_string(),
        hierarchy.own.display().to_string(),
        base,
    ]
}

/// Controllers that Drydock can use and that are not here, each with the reason. Source: /proc/cgroups, cgroups(7).
fn missing(layout: &Layout) -> Vec<Missing> {
    let known = std::fs::read_to_string("/proc/cgroups").unwrap_or_default();
    let state = |name: &str| {
        let line = known.lines().find(|l| l.split_whitespace().next() == Some(name))?;
        let mut fields = line.split_whitespace().skip(1);
        Some((fields.next()?.to_string(), fields.nth(1)?.to_string()))
    };
    let mut all = Vec::new();
    for name in ["cpu", "cpuset", "memory", "io", "pids", "hugetlb"] {
        if layout.hierarchy_of(name).is_some() {
            continue;
        }
        let v1 = if name == "io" { "blkio" } else { name };
        let why = match state(v1) {
            // Newer kernels list only v1 controllers there, so v2's own list decides.
            None if layout.mode() == Mode::V2 => {
                "not in cgroup.controllers: not in this kernel, or not delegated"
            }
            None => "not in this kernel",
            Some((_, enabled)) if enabled == "0" => {
                "disabled at boot (cgroup_disable= on the kernel command line)"
            }
            Some((hierarchy, _)) if hierarchy == "0" && layout.mode() == Mode::V2 => {
                "not delegated: not in cgroup.controllers of our cgroup"
            }
            Some((hierarchy, _)) if hierarchy == "0" => {
                "in the kernel, but not mounted (mount -t cgroup -o NAME)"
            }
            Some(_) => "mounted elsewhere: not visible in this mount namespace",
        };
        all.push(Missing { what: format!("controller {name}"), why: why.to_string() });
    }
    if layout.v2().is_none() {
        let why = "v2 is not mounted: no cgroup.kill, CLONE_INTO_CGROUP or pressure".to_string();
        all.push(Missing { what: "cgroup2".to_string(), why });
    }
    for hierarchy in layout.hierarchies().iter().filter(|h| h.base.is_none() && h.name.is_none()) {
        let what = format!("permission in {}", hierarchy.mount.display());
        let why = format!("neither the root nor {} is writable", hierarchy.own.display());
        all.push(Missing { what, why });
    }
    all
}

fn kernel_at_least(major: u32, minor: u32) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}

#[derive(Serialize)]
struct Entry {
    name: String,
    processes: usize,
    controllers: Vec<String>,
}

/// `cgroupctl list`.
pub fn list(args: &List) -> Outcome {
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

/// All cgroups below the bases, merged over the hierarchies by name.
fn entries(args: &List) -> Result<Vec<Entry>> {
    let layout = Layout::detect()?;
    if let Some(name) = &args.name {
        Cgroup::open(name, &layout)?;
    }
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

#[derive(Serialize)]
struct Shown {
    name: String,
    dirs: Vec<String>,
    frozen: Option<bool>,
    pids: Vec<i32>,
    limits: Limits,
    stats: drydock_cgroups::Stats,
}

/// `cgroupctl show`.
pub fn show(args: &Show) -> Outcome {
    check_name(&args.name)?;
    if let Some(bad) = args.files.iter().find(|f| f.contains('/') || f.starts_with('.') || f.contains('\0')) {
        let problem =
            format!("'{}' is not a file of a cgroup (allowed: names such as memory.max)", escape(bad));
        return Err(Error::bad_input("show", problem).into());
    }
    let cgroup = Cgroup::open(&args.name, &Layout::detect()?)?;
    if !args.files.is_empty() {
        return show_files(&cgroup, args);
    }
    let shown = Shown {
        name: args.name.clone(),
        dirs: cgroup.dirs().map(|d| d.to_string_lossy().into_owned()).collect(),
        frozen: cgroup.is_frozen(),
        pids: cgroup.pids()?,
        limits: cgroup.limits(),
        stats: cgroup.stats(),
    };
    if args.json {
        print_json(&shown)?;
        return Ok(0);
    }
    let mut rows: Vec<Vec<String>> =
        limit_rows(&shown.limits).into_iter().map(|(k, v)| vec![k.to_string(), v]).collect();
    rows.push(vec!["processes".to_string(), join(&shown.pids)]);
    let frozen = shown.frozen.map_or("no freezer", |f| if f { "yes" } else { "no" });
    rows.push(vec!["frozen".to_string(), frozen.to_string()]);
    rows.extend(crate::monitor::stat_rows(&shown.stats, None));
    for dir in &shown.dirs {
        print_line(dir)?;
    }
    print_text(&table(&["WHAT", "VALUE"], &rows))?;
    Ok(0)
}

fn join(pids: &[i32]) -> String {
    let shown: Vec<String> = pids.iter().take(20).map(ToString::to_string).collect();
    let more = pids.len().saturating_sub(20);
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    if pids.is_empty() { "none".to_string() } else { format!("{}{tail}", shown.join(" ")) }
}

/// Limits by their v2 names, in the kernel's own syntax.
pub fn limit_rows(limits: &Limits) -> Vec<(&'static str, String)> {
    let missing = || "not enabled".to_string();
    let number = |v: Option<u64>| v.map_or_else(missing, word);
    let bytes =
        |v: Option<u64>| v.map_or_else(missing, |v| if v == UNLIMITED { word(v) } else { size::show(v) });
    let list = |v: &Option<String>| v.clone().unwrap_or_else(missing);
    vec![
        ("cpu.max", limits.cpu.map_or_else(missing, |c| c.to_string())),
        ("cpu.weight", number(limits.cpu_weight)),
        ("cpuset.cpus", list(&limits.cpuset_cpus)),
        ("memory.max", bytes(limits.memory_max)),
        ("memory.high", bytes(limits.memory_high)),
        ("memory.swap.max", bytes(limits.swap_max)),
        ("pids.max", number(limits.pids_max)),
    ]
}

fn word(value: u64) -> String {
    if value == UNLIMITED { "max".to_string() } else { value.to_string() }
}

/// Single files: as the kernel has them, or a v2 name answered from v1's counterpart.
fn show_files(cgroup: &Cgroup, args: &Show) -> Outcome {
    let limits = cgroup.limits();
    let mut values: BTreeMap<&str, String> = BTreeMap::new();
    for file in &args.files {
        let value = cgroup.read(file).map(|t| t.trim_end().to_string()).or_else(|| translated(file, &limits));
        let Some(value) = value else {
            return Err(Error::failed(
                escape(file),
                "not in this cgroup: no such file, or its controller is not enabled",
            )
            .in_stage("cgroup")
            .hint("see `cgroupctl check` and `cgroupctl compare`")
            .into());
        };
        values.insert(file, value);
    }
    if args.json {
        print_json(&values)?;
        return Ok(0);
    }
    for file in &args.files {
        let value = values.get(file.as_str()).cloned().unwrap_or_default();
        for line in value.lines() {
            if args.files.len() == 1 { print_line(line)? } else { print_line(&format!("{file}: {line}"))? }
        }
    }
    Ok(0)
}

fn translated(file: &str, limits: &Limits) -> Option<String> {
    match file {
        "cpu.max" => limits.cpu.map(|c| c.to_string()),
        "cpu.weight" => limits.cpu_weight.map(word),
        "memory.max" => limits.memory_max.map(word),
        "memory.low" => limits.memory_low.map(word),
        "memory.swap.max" => limits.swap_max.map(word),
        "pids.max" => limits.pids_max.map(word),
        _ => None,
    }
}
