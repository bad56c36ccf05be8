//! As dot(1) draws it.

use super::owners::{self, Owner};
use super::text::{device_line, memory, own_namespaces};
use crate::model::graph::{Graph, MACHINE};
use drydock_core::text::{escape, shorten};
use std::fmt::Write;

/// The picture.
pub fn draw(graph: &Graph) -> String {
    let mut out = String::from(
        "graph drydock {\n  graph [rankdir=TB, fontname=\"sans-serif\"];\n  node [shape=box, style=\"rounded,filled\", fillcolor=white, fontname=\"sans-serif\", fontsize=10];\n",
    );
    for (n, group) in graph.groups.iter().enumerate() {
        let machine = group.name == MACHINE;
        let runtime = group.runtime.map_or(String::new(), |r| format!(" [{r}]"));
        let colour = if machine { "#eef2f7" } else { "#e9f5ec" };
        let title = quote(&format!("{}{runtime}", group.name));
        let _ =
            writeln!(out, "  subgraph cluster_{n} {{\n    label={title}; style=filled; color=\"{colour}\";");
        let own = own_namespaces(group);
        let label = [
            format!("pid {} {}", group.pid, shorten(&group.command, 40)),
            format!("{} processes, {} mounts", group.nprocs, group.mounts),
            own.join("\n"),
            format!("{}{}", group.cgroup, memory(group)),
        ];
        let _ = writeln!(out, "    g{n} [label={}];", quote(label.join("\n").trim_end()));
        out.push_str("  }\n");
    }
    for net in &graph.networks {
        let at = cluster(graph, net.ns);
        for device in &net.devices {
            let node = id(net.ns, &device.name);
            let label = quote(&device_line(graph, net.ns, device));
            let shape = if device.kind.as_deref() == Some("bridge") {
                ", shape=hexagon, fillcolor=\"#ffe9c7\""
            } else {
                ""
            };
            match at {
                Some(n) => {
                    let _ = writeln!(
                        out,
                        "  subgraph cluster_{n} {{ {node} [label={label}{shape}]; }}\n  g{n} -- {node} [style=dotted];"
                    );
                }
                None => {
                    let _ = writeln!(
                        out,
                        "  {node} [label={}{shape}];",
                        quote(&format!("net:[{}] {}", net.ns, device.name))
                    );
                }
            }
            if let Some(master) = &device.master {
                let _ = writeln!(out, "  {node} -- {};", id(net.ns, master));
            }
        }
    }
    for cable in &graph.cables {
        let (a, b) = (id(cable.a.0, &cable.a.1), id(cable.b.0, &cable.b.1));
        let _ = writeln!(out, "  {a} -- {b} [color=\"#2f6fb0\", penwidth=2, label=veth, fontsize=9];");
    }
    for (n, group) in graph.groups.iter().enumerate() {
        if let Some(Owner::Group(owner)) = owners::of(graph, group) {
            let _ = writeln!(
                out,
                "  g{owner} -- g{n} [style=dashed, color=\"#a0522d\", label=owns, fontsize=9];"
            );
        }
        let above = group.inside.as_ref().and_then(|name| graph.groups.iter().position(|g| g.name == *name));
        if let Some(above) = above.filter(|a| *a != n) {
            let _ = writeln!(out, "  g{above} -- g{n} [style=dashed, label=inside, fontsize=9];");
        }
    }
    for (n, loose) in graph.loose.iter().enumerate() {
        let label = quote(&format!("{}:[{}]\n{}", loose.kind, loose.ns, loose.held_by));
        let _ = writeln!(out, "  l{n} [label={label}, fillcolor=\"#f3e8fb\"];");
    }
    out.push_str("}\n");
    out
}

/// The group that a network namespace is drawn in.
fn cluster(graph: &Graph, ns: u64) -> Option<usize> {
    let own = |g: &crate::model::graph::Group| {
        g.namespaces.iter().any(|s| s.kind == "net" && s.ns == ns && (s.own || g.name == MACHINE))
    };
    graph.groups.iter().position(own)
}

fn id(ns: u64, device: &str) -> String {
    quote(&format!("{ns}/{device}"))
}

/// A quoted string: names may hold anything.
fn quote(text: &str) -> String {
    let lines: Vec<String> =
        text.split('\n').map(|l| escape(l).replace('\\', "\\\\").replace('"', "\\\"")).collect();
    format!("\"{}\"", lines.join("\\n"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn quotes() {
        assert_eq!(super::quote("a\"b\\\nc\x1b"), "\"a\\\"b\\\\\\nc\\\\x1b\"");
    }
}
