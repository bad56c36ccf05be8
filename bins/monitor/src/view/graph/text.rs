//! As text, for a terminal.

use crate::model::graph::{Graph, Group, MACHINE};
use drydock_core::size::show;
use drydock_core::text::{escape, shorten};

/// The picture.
pub fn draw(graph: &Graph) -> String {
    let mut out = String::new();
    for group in &graph.groups {
        for line in group_lines(graph, group) {
            out.push_str(&line);
            out.push('\n');
        }
    }
    if !graph.loose.is_empty() {
        out.push_str("held without processes\n");
    }
    for (n, loose) in graph.loose.iter().enumerate() {
        let branch = if n + 1 == graph.loose.len() { "└─" } else { "├─" };
        out.push_str(&format!("{branch} {}:[{}]  {}\n", loose.kind, loose.ns, escape(&loose.held_by)));
        let net = graph.networks.iter().find(|net| net.ns == loose.ns && loose.kind == "net");
        for device in net.iter().flat_map(|n| &n.devices) {
            out.push_str(&format!("     {}\n", device_line(graph, loose.ns, device)));
        }
    }
    out
}

fn group_lines(graph: &Graph, group: &Group) -> Vec<String> {
    let runtime = group.runtime.map_or(String::new(), |r| format!("  [{r}]"));
    let inside = group.inside.as_ref().map_or(String::new(), |i| format!("  inside {}", escape(i)));
    let plural = if group.nprocs == 1 { "process" } else { "processes" };
    let mut lines = vec![format!("{}{runtime}{inside}", escape(&group.name))];
    let mut below = vec![format!(
        "pid {}  {} {plural}  {}",
        group.pid,
        group.nprocs,
        shorten(&escape(&group.command), 80)
    )];
    let list = |own: bool| {
        let of = group.namespaces.iter().filter(|s| s.own == own);
        of.map(|s| format!("{}:[{}]", s.kind, s.ns)).collect::<Vec<_>>().join(" ")
    };
    let (own, shared) = (list(true), list(false));
    if !own.is_empty() {
        let owner = group.owner.map_or(String::new(), |o| {
            let whose = super::owners::of(graph, group).map(|owner| owner.words(graph)).unwrap_or_default();
            format!("  {whose} (user:[{o}])")
                .replace(&format!("user:[{o}] (user:[{o}])"), &format!("user:[{o}]"))
        });
        below.push(format!("own     {own}{owner}"));
    }
    if !shared.is_empty() {
        let word = if group.name == MACHINE { "has   " } else { "shared" };
        below.push(format!("{word}  {shared}"));
    }
    below.extend(group.id_map.as_ref().map(|map| format!("ids     {map}")));
    if !group.cgroup.is_empty() {
        below.push(format!("cgroup  {}{}", escape(&group.cgroup), memory(group)));
    }
    let notable = group.notable_mounts.iter().take(6).map(|m| escape(m)).collect::<Vec<_>>().join(", ");
    let notable = if notable.is_empty() { notable } else { format!(": {notable}") };
    below.push(format!("mounts  {}{notable}", group.mounts));
    let net = graph.network(group).filter(|net| {
        // The machine's devices are shown with the machine.
        group.namespaces.iter().any(|s| s.kind == "net" && (s.own || group.name == MACHINE) && s.ns == net.ns)
    });
    for device in net.iter().flat_map(|n| &n.devices) {
        below.push(format!("net     {}", device_line(graph, net.map_or(0, |n| n.ns), device)));
    }
    let last = below.len() - 1;
    lines.extend(below.into_iter().enumerate().map(|(n, line)| {
        let branch = if n == last { "└─" } else { "├─" };
        format!("{branch} {line}")
    }));
    lines
}

/// `net:[4026531840]` for each namespace that is not the machine's; of the machine, all.
pub fn own_namespaces(group: &Group) -> Vec<String> {
    let machine = group.name == MACHINE;
    let own = group.namespaces.iter().filter(|s| s.own || machine);
    own.map(|s| format!("{}:[{}]", s.kind, s.ns)).collect()
}

/// `  632K of 100M`.
pub fn memory(group: &Group) -> String {
    match group.memory {
        Some((now, Some(max))) => format!("  {} of {}", show(now), show(max)),
        Some((now, None)) => format!("  {}", show(now)),
        None => String::new(),
    }
}

/// `eth0 10.88.0.2/16 ── dd123 (machine)`.
pub fn device_line(graph: &Graph, ns: u64, device: &crate::model::cables::Device) -> String {
    let mut words = vec![device.name.clone()];
    words.extend(device.kind.iter().filter(|k| *k != "veth").map(|kind| format!("({kind})")));
    words.extend(device.addresses.iter().cloned());
    words.extend(device.master.as_ref().map(|master| format!("port of {master}")));
    if !device.up {
        words.push("down".to_string());
    }
    let here = (ns, device.name.clone());
    let end = graph.cables.iter().find_map(|c| match (c.a == here, c.b == here) {
        (true, _) => Some(&c.b),
        (_, true) => Some(&c.a),
        _ => None,
    });
    words.extend(end.map(|(ns, name)| format!("── {name} in {}", owner_of(graph, *ns))));
    words.join(" ")
}

/// Whose a network namespace is.
pub fn owner_of(graph: &Graph, ns: u64) -> String {
    let has = |g: &&Group| g.namespaces.iter().any(|s| s.kind == "net" && s.ns == ns);
    graph.groups.iter().find(has).map_or(format!("net:[{ns}]"), |g| escape(&g.name))
}
