//! check: what this machine has.

use crate::args::Output;
use drydock_cgroups::{Cgroup, Hierarchy, Layout, Mode, Version};
use drydock_cli::Outcome;
use drydock_cli::output::{print_json, print_text, table};
use drydock_core::text::escape;
use serde::Serialize;
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
