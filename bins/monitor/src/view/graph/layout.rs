//! Where everything stands in the SVG: the machine above, its bridges at its lower edge, containers in columns below.

use crate::model::cables::Device;
use crate::model::graph::{Graph, Group, MACHINE};

/// A rectangle, in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Place {
    pub x: f64,
    pub y: f64,
    pub w: f64,
    pub h: f64,
}

pub const CARD: f64 = 344.0;
pub const GAP: f64 = 44.0;
pub const EDGE: f64 = 28.0;
pub const LINE: f64 = 19.0;
const TITLE: f64 = 34.0;
const CHIPS: f64 = 62.0;

/// A bridge (or other device) of the machine to which cables lead.
#[derive(Clone, Debug)]
pub struct Hub {
    pub name: String,
    pub label: String,
    pub place: Place,
}

/// A container's card.
#[derive(Clone, Debug)]
pub struct Card<'a> {
    pub group: &'a Group,
    pub place: Place,
    pub lines: Vec<String>,
    /// Its devices with their cables: (label, the hub that it leads to, the device at the machine's end).
    pub ports: Vec<Port>,
}

/// A device of a container.
#[derive(Clone, Debug)]
pub struct Port {
    pub label: String,
    pub hub: Option<usize>,
    pub far: Option<String>,
}

/// The whole picture.
#[derive(Clone, Debug)]
pub struct Layout<'a> {
    pub width: f64,
    pub height: f64,
    pub machine: Option<(&'a Group, Place)>,
    pub hubs: Vec<Hub>,
    pub cards: Vec<Card<'a>>,
    pub loose: Option<Place>,
}

/// Lays it out.
pub fn layout(graph: &Graph) -> Layout<'_> {
    let machine = graph.groups.iter().find(|g| g.name == MACHINE);
    let others: Vec<&Group> = graph.groups.iter().filter(|g| g.name != MACHINE).collect();
    let columns = match others.len() {
        0 | 1 => 2,
        2..=4 => others.len(),
        5 | 6 => 3,
        7..=24 => 4,
        _ => 6,
    };
    let width = EDGE * 2.0 + as_f64(columns) * CARD + as_f64(columns - 1) * GAP;
    let hubs = machine.map_or_else(Vec::new, |m| hubs(graph, m, width));
    let top = Place {
        x: EDGE,
        y: EDGE + 34.0,
        w: width - EDGE * 2.0,
        h: if hubs.is_empty() { 108.0 } else { 168.0 },
    };
    let mut cards = Vec::new();
    // Room for the cables to turn.
    let mut y = top.y + top.h + 34.0 + as_f64(hubs.len()) * 8.0;
    for row in others.chunks(columns) {
        let made: Vec<Card> = row.iter().map(|group| card(graph, group, &hubs)).collect();
        let tallest = made.iter().map(|c| c.place.h).fold(0.0, f64::max);
        for (n, mut card) in made.into_iter().enumerate() {
            (card.place.x, card.place.y) = (EDGE + as_f64(n) * (CARD + GAP), y);
            cards.push(card);
        }
        y += tallest + GAP;
    }
    let loose = (!graph.loose.is_empty()).then(|| {
        let rows = graph.loose.len().min(MAX_LOOSE + 1).div_ceil(columns);
        let place = Place { x: EDGE, y, w: width - EDGE * 2.0, h: TITLE + as_f64(rows) * LINE + 12.0 };
        y += place.h + 20.0;
        place
    });
    Layout { width, height: y + 34.0, machine: machine.map(|m| (m, top)), hubs, cards, loose }
}

/// More namespaces without processes are counted.
pub const MAX_LOOSE: usize = 40;

fn net_of<'a>(graph: &'a Graph, group: &Group) -> &'a [Device] {
    graph.network(group).map_or(&[], |net| net.devices.as_slice())
}

/// Bridges, and devices that cables lead to directly.
fn hubs(graph: &Graph, machine: &Group, width: f64) -> Vec<Hub> {
    let devices = net_of(graph, machine);
    let ns = graph.network(machine).map_or(0, |n| n.ns);
    let has_cable =
        |d: &Device| graph.cables.iter().any(|c| c.a == (ns, d.name.clone()) || c.b == (ns, d.name.clone()));
    let is_hub = |d: &&Device| {
        d.kind.as_deref() == Some("bridge") || (has_cable(d) && d.master.is_none()) || d.kind.is_none()
    };
    let mut hubs = Vec::new();
    let mut x = EDGE + 18.0;
    for device in devices.iter().filter(is_hub) {
        let kind = device.kind.as_deref().unwrap_or("device");
        let label = format!("{} {}", kind, device.addresses.first().map_or("", String::as_str));
        let w =
            (as_f64(device.name.chars().count().max(label.trim().chars().count())) * 7.4 + 28.0).max(96.0);
        if x + w > width - EDGE - 18.0 {
            break;
        }
        hubs.push(Hub {
            name: device.name.clone(),
            label: label.trim().to_string(),
            place: Place { x, y: 0.0, w, h: 40.0 },
        });
        x += w + 18.0;
    }
    for hub in &mut hubs {
        hub.place.y = EDGE + 34.0 + 168.0 - 54.0;
    }
    hubs
}

fn card<'a>(graph: &Graph, group: &'a Group, hubs: &[Hub]) -> Card<'a> {
    let own_net = group.namespaces.iter().find(|s| s.kind == "net" && s.own);
    let ports: Vec<Port> = own_net.map_or_else(Vec::new, |net| {
        net_of(graph, group).iter().map(|d| port(graph, net.ns, d, hubs)).collect()
    });
    let lines = lines(graph, group);
    let bar = if group.memory.is_some() { 16.0 } else { 0.0 };
    let h = TITLE + CHIPS + as_f64(lines.len()) * LINE + bar + as_f64(ports.len()) * LINE + 14.0;
    Card { group, place: Place { x: 0.0, y: 0.0, w: CARD, h }, lines, ports }
}

fn port(graph: &Graph, ns: u64, device: &Device, hubs: &[Hub]) -> Port {
    let here = (ns, device.name.clone());
    let far = graph.cables.iter().find_map(|c| match (c.a == here, c.b == here) {
        (true, _) => Some(c.b.clone()),
        (_, true) => Some(c.a.clone()),
        _ => None,
    });
    let devices =
        far.as_ref().and_then(|(ns, _)| graph.networks.iter().find(|n| n.ns == *ns)).map(|n| &n.devices);
    let far_device = devices.and_then(|all| all.iter().find(|d| far.as_ref().is_some_and(|f| f.1 == d.name)));
    let leads = far_device.map(|d| d.master.clone().unwrap_or_else(|| d.name.clone()));
    let in_machine = far.as_ref().is_some_and(|(ns, _)| super::text::owner_of(graph, *ns) == MACHINE);
    let hub = leads.filter(|_| in_machine).and_then(|name| hubs.iter().position(|h| h.name == name));
    let address = device.addresses.first().map_or("no address", String::as_str);
    Port { label: format!("{}  {address}", device.name), hub, far: far.map(|(_, name)| name) }
}

fn lines(graph: &Graph, group: &Group) -> Vec<String> {
    let plural = if group.nprocs == 1 { "process" } else { "processes" };
    let mut lines = vec![format!("pid {}, {} {plural}", group.pid, group.nprocs), group.command.clone()];
    if let Some(inside) = &group.inside {
        lines.push(format!("inside {inside}"));
    }
    lines.extend(group.id_map.clone());
    lines.extend(super::owners::of(graph, group).map(|owner| owner.words(graph)));
    if !group.cgroup.is_empty() {
        lines.push(format!("cgroup {}", group.cgroup));
    }
    lines.push(match group.notable_mounts.as_slice() {
        [] => format!("{} mounts", group.mounts),
        [first, rest @ ..] => {
            let more = if rest.is_empty() { String::new() } else { format!(", {}", rest.join(", ")) };
            format!("{} mounts: {first}{more}", group.mounts)
        }
    });
    if group.memory.is_some() {
        lines.push(format!("memory{}", super::text::memory(group)));
    }
    lines
}

/// Few of anything.
#[allow(clippy::cast_precision_loss)]
pub fn as_f64(n: usize) -> f64 {
    n as f64
}
