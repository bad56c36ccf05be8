//! Which user namespace owns the namespaces of a group, and the edges of the SVG that show it.

use super::layout::{Card, EDGE, GAP, Layout, as_f64};
use crate::model::graph::{Graph, Group, MACHINE};
use std::fmt::Write;

/// The colour of owners' edges.
pub const COLOUR: &str = "#a0522d";

/// Whose user namespace owns a group's own namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Its own.
    Itself,
    /// That of the group at this place: the machine, or another one.
    Group(usize),
    /// One that no group is in.
    Nobody(u64),
}

/// The owner; `None` for a group without namespaces of its own, or where the kernel does not tell.
pub fn of(graph: &Graph, group: &Group) -> Option<Owner> {
    let owner = group.owner?;
    let in_it = |g: &&Group| g.namespaces.iter().any(|s| s.kind == "user" && s.ns == owner);
    // Of several in it the first process's group, which others have joined; the machine has the lowest pids.
    let first = graph.groups.iter().enumerate().filter(|(_, g)| in_it(g)).min_by_key(|(_, g)| g.pid);
    Some(match first {
        Some((_, other)) if std::ptr::eq(other, group) => Owner::Itself,
        Some((place, _)) => Owner::Group(place),
        None => Owner::Nobody(owner),
    })
}

impl Owner {
    /// In words.
    pub fn words(&self, graph: &Graph) -> String {
        match self {
            Owner::Itself => "owned by its own user namespace".to_string(),
            Owner::Group(place) => match graph.groups.get(*place) {
                Some(other) if other.name != MACHINE => {
                    format!("owned by the user namespace of {}", other.name)
                }
                _ => "owned by the machine's user namespace".to_string(),
            },
            Owner::Nobody(ns) => format!("owned by user:[{ns}]"),
        }
    }
}

/// Dashed, from the owner, along the right side of the cards, with a dot where it owns.
pub fn edge(out: &mut String, graph: &Graph, plan: &Layout<'_>, card: &Card<'_>) {
    let right = |card: &Card<'_>| card.place.x + card.place.w;
    let (end, y, aside) = (right(card), card.place.y + 49.0, right(card) + 9.0);
    let Some(Owner::Group(place)) = of(graph, card.group) else { return };
    let Some(owner) = graph.groups.get(place) else { return };
    let path = match (plan.machine, plan.cards.iter().find(|c| std::ptr::eq(c.group, owner))) {
        (_, Some(from)) => {
            let (start, turn) = (right(from), right(from) + 15.0);
            format!("M{start} {} H{turn} V{} H{aside} V{y} H{end}", from.place.y + 62.0, card.place.y - 9.0)
        }
        (Some((machine, at)), None) if std::ptr::eq(machine, owner) => {
            format!("M{aside} {} V{y} H{end}", at.y + at.h)
        }
        _ => return,
    };
    let _ = writeln!(
        out,
        "<path d=\"{path}\" fill=\"none\" stroke=\"{COLOUR}\" stroke-width=\"1.4\" stroke-dasharray=\"5 4\"/>\n\
         <circle cx=\"{}\" cy=\"{y}\" r=\"3.5\" fill=\"{COLOUR}\"/>",
        end + 2.0
    );
}

/// What the edges mean.
pub fn legend(out: &mut String, at: usize, middle: f64) -> f64 {
    let x = EDGE + as_f64(at);
    let _ = writeln!(
        out,
        "<path d=\"M{x} {middle} H{}\" stroke=\"{COLOUR}\" stroke-width=\"1.4\" stroke-dasharray=\"5 4\"/>",
        x + GAP - 10.0
    );
    x + GAP - 2.0
}
