//! As SVG 1.1, made by hand: rectangles, text, lines. No script, no font and nothing else from outside.

use super::layout::{Card, EDGE, GAP, Hub, LINE, Layout, MAX_LOOSE, Place, as_f64, layout};
use super::owners;
use crate::model::graph::{Graph, Group};
use drydock_core::text::{escape, shorten};
use std::fmt::Write;

const CABLES: [&str; 6] = ["#2f6fb0", "#b5651d", "#2e8b57", "#8a4fbf", "#c0392b", "#117a8b"];

/// The picture.
pub fn draw(graph: &Graph) -> String {
    let plan = layout(graph);
    let mut out = String::new();
    let (w, h) = (plan.width, plan.height);
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\" \
         font-family=\"DejaVu Sans, Helvetica, Arial, sans-serif\" font-size=\"12\">\n\
         <rect width=\"{w}\" height=\"{h}\" fill=\"#ffffff\"/>"
    );
    let groups = plan.cards.len();
    text(
        &mut out,
        EDGE,
        EDGE + 14.0,
        17.0,
        "#1b2733",
        true,
        &format!("Namespaces of this machine: {groups} besides its own"),
    );
    if let Some((group, place)) = plan.machine {
        machine(&mut out, group, place);
    }
    for (n, hub) in plan.hubs.iter().enumerate() {
        draw_hub(&mut out, hub, CABLES[n % CABLES.len()]);
    }
    for card in &plan.cards {
        cables(&mut out, &plan, card);
    }
    for card in &plan.cards {
        owners::edge(&mut out, graph, &plan, card);
    }
    for card in &plan.cards {
        draw_card(&mut out, card);
    }
    if let Some(place) = plan.loose {
        loose(&mut out, graph, place);
    }
    legend(&mut out, h);
    out.push_str("</svg>\n");
    out
}

fn machine(out: &mut String, group: &Group, place: Place) {
    rect(out, place, 10.0, "#eef2f7", "#9fb0c3");
    text(out, place.x + 16.0, place.y + 24.0, 14.0, "#1b2733", true, "machine");
    let about = format!("{} processes", group.nprocs);
    text(out, place.x + 96.0, place.y + 24.0, 12.0, "#4a5a6a", false, &about);
    let width = (place.w - 32.0 - 7.0 * 8.0) / 8.0;
    for (n, space) in group.namespaces.iter().enumerate() {
        let at =
            Place { x: place.x + 16.0 + as_f64(n) * (width + 8.0), y: place.y + 38.0, w: width, h: 46.0 };
        rect(out, at, 6.0, "#ffffff", "#9fb0c3");
        text(out, at.x + 8.0, at.y + 19.0, 12.0, "#1b2733", true, space.kind);
        text(out, at.x + 8.0, at.y + 36.0, 10.0, "#4a5a6a", false, &space.ns.to_string());
    }
}

fn draw_hub(out: &mut String, hub: &Hub, colour: &str) {
    rect(out, hub.place, 14.0, "#ffffff", colour);
    text(out, hub.place.x + 14.0, hub.place.y + 17.0, 12.0, "#1b2733", true, &hub.name);
    text(out, hub.place.x + 14.0, hub.place.y + 32.0, 10.0, "#4a5a6a", false, &hub.label);
}

/// From the bridge down, along a line of its own, down beside the cards, and to the device.
fn cables(out: &mut String, plan: &Layout, card: &Card) {
    for (n, port) in card.ports.iter().enumerate() {
        let Some((index, hub)) = port.hub.and_then(|i| Some((i, plan.hubs.get(i)?))) else { continue };
        let from = (hub.place.x + hub.place.w / 2.0, hub.place.y + hub.place.h);
        let bus = plan.machine.map_or(0.0, |(_, m)| m.y + m.h) + 14.0 + as_f64(index) * 8.0;
        let aside = card.place.x - 12.0 - as_f64(index % 3) * 6.0;
        let y = port_y(card, n);
        let colour = CABLES[index % CABLES.len()];
        let _ = writeln!(
            out,
            "<path d=\"M{} {} V{bus} H{aside} V{y} H{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.2\" stroke-linejoin=\"round\"/>",
            from.0,
            from.1,
            card.place.x + 14.0
        );
    }
}

fn port_y(card: &Card, n: usize) -> f64 {
    card.place.y + card.place.h - 12.0 - as_f64(card.ports.len() - 1 - n) * LINE - 4.0
}

fn draw_card(out: &mut String, card: &Card) {
    let (group, place) = (card.group, card.place);
    let (head, body, line) = colours(group.runtime);
    rect(out, place, 8.0, body, line);
    let _ = writeln!(
        out,
        "<path d=\"M{x} {b} V{t} Q{x} {y} {l} {y} H{r} Q{e} {y} {e} {t} V{b} Z\" fill=\"{head}\"/>",
        x = place.x,
        y = place.y,
        t = place.y + 8.0,
        b = place.y + 30.0,
        l = place.x + 8.0,
        r = place.x + place.w - 8.0,
        e = place.x + place.w
    );
    text(out, place.x + 12.0, place.y + 20.0, 14.0, "#ffffff", true, &shorten(&group.name, 26));
    if let Some(runtime) = group.runtime {
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" font-size=\"12\" fill=\"#ffffff\" text-anchor=\"end\">{}</text>",
            place.x + place.w - 12.0,
            place.y + 20.0,
            xml(runtime)
        );
    }
    chips(out, group, place, head);
    let mut y = place.y + 34.0 + 62.0;
    for (n, line) in card.lines.iter().enumerate() {
        let (size, fill) = if n == 1 { (11.0, "#1b2733") } else { (11.0, "#33424f") };
        text(out, place.x + 12.0, y + 12.0, size, fill, n == 1, &shorten(line, 48));
        y += LINE;
    }
    if let Some((now, max)) = group.memory {
        bar(out, Place { x: place.x + 12.0, y: y + 2.0, w: place.w - 24.0, h: 8.0 }, now, max, head);
    }
    for (n, port) in card.ports.iter().enumerate() {
        let at = port_y(card, n);
        let fill = port.hub.map_or("#8795a3", |i| CABLES[i % CABLES.len()]);
        let _ = writeln!(out, "<circle cx=\"{}\" cy=\"{at}\" r=\"4.5\" fill=\"{fill}\"/>", place.x + 14.0);
        let far = port.far.as_ref().map_or(String::new(), |far| format!("   ⇄ {far}"));
        text(
            out,
            place.x + 26.0,
            at + 4.0,
            11.0,
            "#1b2733",
            false,
            &shorten(&format!("{}{far}", port.label), 50),
        );
    }
}

/// Eight namespaces: filled when they are its own.
fn chips(out: &mut String, group: &Group, place: Place, colour: &str) {
    let width = (place.w - 24.0 - 18.0) / 4.0;
    for (n, space) in group.namespaces.iter().enumerate() {
        let (column, row) = (n % 4, n / 4);
        let at = Place {
            x: place.x + 12.0 + as_f64(column) * (width + 6.0),
            y: place.y + 38.0 + as_f64(row) * 27.0,
            w: width,
            h: 23.0,
        };
        let (fill, ink) = if space.own { (colour, "#ffffff") } else { ("#ffffff", "#8795a3") };
        rect(out, at, 11.0, fill, if space.own { colour } else { "#c5ced8" });
        // The last digits tell them apart.
        let label = match (space.own, space.kind.len()) {
            (false, _) => space.kind.to_string(),
            (true, ..=4) => format!("{} …{:04}", space.kind, space.ns % 10_000),
            (true, _) => format!("{} {:04}", space.kind, space.ns % 10_000),
        };
        text(out, at.x + 7.0, at.y + 15.0, 9.5, ink, space.own, &label);
    }
}

#[allow(clippy::cast_precision_loss)] // a bar
fn bar(out: &mut String, place: Place, now: u64, max: Option<u64>, colour: &str) {
    rect(out, place, 4.0, "#ffffff", "#c5ced8");
    let share = max.filter(|m| *m > 0).map_or(0.0, |max| (now as f64 / max as f64).min(1.0));
    if share > 0.0 {
        rect(out, Place { w: (place.w * share).max(3.0), ..place }, 4.0, colour, colour);
    }
}

fn loose(out: &mut String, graph: &Graph, place: Place) {
    rect(out, place, 8.0, "#f7f1fb", "#b79acb");
    text(out, place.x + 16.0, place.y + 22.0, 13.0, "#1b2733", true, "held without processes");
    let columns = ((place.w + GAP) / (super::layout::CARD + GAP)).max(1.0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a handful
    let columns = columns as usize;
    let mut labels: Vec<String> =
        graph.loose.iter().take(MAX_LOOSE).map(|l| format!("{} {}  {}", l.kind, l.ns, l.held_by)).collect();
    if graph.loose.len() > MAX_LOOSE {
        labels.push(format!("and {} more", graph.loose.len() - MAX_LOOSE));
    }
    for (n, label) in labels.iter().enumerate() {
        let x = place.x + 16.0 + as_f64(n % columns) * (super::layout::CARD + GAP);
        let y = place.y + 44.0 + as_f64(n / columns) * LINE;
        text(out, x, y, 11.0, "#33424f", false, &shorten(label, 54));
    }
}

fn legend(out: &mut String, height: f64) {
    let y = height - 30.0;
    let chip = |x: f64| Place { x, y, w: 34.0, h: 14.0 };
    rect(out, chip(EDGE), 7.0, "#33424f", "#33424f");
    text(out, EDGE + 42.0, y + 11.0, 11.0, "#4a5a6a", false, "a namespace of its own");
    rect(out, chip(EDGE + 200.0), 7.0, "#ffffff", "#c5ced8");
    text(out, EDGE + 242.0, y + 11.0, 11.0, "#4a5a6a", false, "shared with the machine");
    let _ = writeln!(
        out,
        "<path d=\"M{} {m} H{}\" stroke=\"{}\" stroke-width=\"2.2\"/>",
        EDGE + 410.0,
        EDGE + 444.0,
        CABLES[0],
        m = y + 7.0
    );
    text(out, EDGE + 452.0, y + 11.0, 11.0, "#4a5a6a", false, "veth pair");
    let x = owners::legend(out, 540, y + 7.0);
    text(out, x, y + 11.0, 11.0, "#4a5a6a", false, "owner: whose user namespace");
}

/// Heading, body, frame.
fn colours(runtime: Option<&str>) -> (&'static str, &'static str, &'static str) {
    match runtime {
        Some("drydock") => ("#1f6f8b", "#eef7fa", "#9cc5d3"),
        Some("docker" | "containerd" | "kubernetes") => ("#2456a6", "#eef3fb", "#a9bfe0"),
        Some("podman" | "cri-o") => ("#7a3f91", "#f6effa", "#c9aad8"),
        Some("lxc" | "nspawn" | "libvirt") => ("#99581c", "#fbf4ec", "#dcbf9f"),
        _ => ("#51606e", "#f5f7f9", "#bcc7d1"),
    }
}

fn rect(out: &mut String, p: Place, radius: f64, fill: &str, line: &str) {
    let _ = writeln!(
        out,
        "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"{radius}\" fill=\"{fill}\" stroke=\"{line}\" stroke-width=\"1.2\"/>",
        p.x, p.y, p.w, p.h
    );
}

fn text(out: &mut String, x: f64, y: f64, size: f64, fill: &str, bold: bool, content: &str) {
    let weight = if bold { " font-weight=\"bold\"" } else { "" };
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" fill=\"{fill}\"{weight}>{}</text>",
        xml(content)
    );
}

/// Names may hold anything: control characters are shown, markup is none.
fn xml(text: &str) -> String {
    escape(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    #[test]
    fn markup_in_names_is_text() {
        assert_eq!(super::xml("<a b=\"c\">&\x1b"), "&lt;a b=&quot;c&quot;&gt;&amp;\\x1b");
    }
}
