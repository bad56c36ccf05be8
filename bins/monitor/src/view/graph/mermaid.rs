//! As mermaid draws it: in Markdown on GitHub and elsewhere.

use super::owners::{self, Owner};
use super::text::{memory, own_namespaces};
use crate::model::graph::{Graph, Group, MACHINE};
use drydock_core::text::{escape, shorten};
use std::fmt::Write;

/// The picture.
pub fn draw(graph: &Graph) -> String {
    let mut out = String::from("flowchart TB\n");
    for (n, group) in graph.groups.iter().enumerate() {
        let runtime = group.runtime.map_or(String::new(), |r| format!(" ({r})"));
        let _ = writeln!(out, "  subgraph s{n}[{}]", quote(&format!("{}{runtime}", group.name)));
        let own = own_namespaces(group);
        let label = [
            format!("pid {} {}", group.pid, shorten(&group.command, 40)),
            own.join(" "),
            format!("{}{}", group.cgroup, memory(group)),
        ];
        let _ = writeln!(out, "    g{n}[{}]", quote(label.join("\n").trim_end()));
        let net = graph.network(group).filter(|net| is_here(group, net.ns));
        for (d, device) in net.iter().flat_map(|net| net.devices.iter().enumerate()) {
            let label = format!("{} {}", device.name, device.addresses.join(" "));
            let (open, close) =
                if device.kind.as_deref() == Some("bridge") { ("{{", "}}") } else { ("(", ")") };
            let _ = writeln!(out, "    d{n}_{d}{open}{}{close}", quote(label.trim_end()));
        }
        out.push_str("  end\n");
    }
    for (n, loose) in graph.loose.iter().enumerate() {
        let _ = writeln!(
            out,
            "  l{n}[/{}/]",
            quote(&format!("{}:[{}]\n{}", loose.kind, loose.ns, loose.held_by))
        );
    }
    for cable in &graph.cables {
        if let (Some(a), Some(b)) = (node(graph, &cable.a), node(graph, &cable.b)) {
            let _ = writeln!(out, "  {a} ---|veth| {b}");
        }
    }
    for (n, group) in graph.groups.iter().enumerate() {
        let net = graph.network(group).filter(|net| is_here(group, net.ns));
        for device in net.iter().flat_map(|net| &net.devices) {
            let ends = device.master.as_ref().and_then(|master| {
                let ns = net?.ns;
                Some((node(graph, &(ns, device.name.clone()))?, node(graph, &(ns, master.clone()))?))
            });
            if let Some((port, bridge)) = ends {
                let _ = writeln!(out, "  {port} --- {bridge}");
            }
        }
        if let Some(Owner::Group(owner)) = owners::of(graph, group) {
            let _ = writeln!(out, "  g{owner} -.->|owns| g{n}");
        }
        let above = group.inside.as_ref().and_then(|name| graph.groups.iter().position(|g| g.name == *name));
        if let Some(above) = above.filter(|a| *a != n) {
            let _ = writeln!(out, "  g{above} -.->|inside| g{n}");
        }
    }
    out
}

fn is_here(group: &Group, ns: u64) -> bool {
    group.namespaces.iter().any(|s| s.kind == "net" && s.ns == ns && (s.own || group.name == MACHINE))
}

fn node(graph: &Graph, (ns, name): &(u64, String)) -> Option<String> {
    let n = graph.groups.iter().position(|g| is_here(g, *ns))?;
    let net = graph.networks.iter().find(|net| net.ns == *ns)?;
    let d = net.devices.iter().position(|device| device.name == *name)?;
    Some(format!("d{n}_{d}"))
}

/// A quoted label; mermaid takes HTML's entities for what it would understand.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for (n, line) in text.split('\n').filter(|l| !l.is_empty()).enumerate() {
        if n > 0 {
            out.push_str("<br>");
        }
        for c in escape(line).chars() {
            match c {
                '"' | '<' | '>' | '&' | '#' | '`' | '[' | ']' | '\\' => {
                    let _ = write!(out, "#{};", u32::from(c));
                }
                c => out.push(c),
            }
        }
    }
    out.push('"');
    out
}
