//! `netsetup show`.

use crate::args::{Common, Show};
use crate::place::Place;
use crate::print::or_dash;
use drydock_cli::Outcome;
use drydock_cli::output::table;
use drydock_core::Error;
use drydock_network::netns;
use drydock_network::show::{View, view};
use std::os::fd::AsFd;
use std::path::PathBuf;

pub fn run(args: &Show, common: &Common) -> Outcome {
    let path = match (&args.namespace, args.pid) {
        (_, Some(pid)) if pid < 1 => {
            return Err(Error::bad_input(
                "--pid",
                format!("{pid} is not a process id (allowed: 1 and more)"),
            )
            .into());
        }
        (_, Some(pid)) => {
            let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
            if !path.exists() && std::fs::symlink_metadata(&path).is_err() {
                return Err(Error::bad_input("--pid", format!("there is no process {pid}")).into());
            }
            Some(path)
        }
        (Some(namespace), None) => Some(Place::parse(namespace, common)?.path),
        (None, None) => None,
    };
    let view = match path {
        Some(path) => view(Some(netns::open(&path)?.as_fd()))?,
        None => view(None)?,
    };
    if common.json {
        drydock_cli::print_json(&view)?;
    } else {
        drydock_cli::print_text(&text(&view))?;
    }
    Ok(0)
}

fn text(view: &View) -> String {
    let name = |index: u32| {
        view.links.iter().find(|l| l.index == index).map_or(format!("#{index}"), |l| l.name.clone())
    };
    let mut out = String::from("Links\n");
    let rows: Vec<Vec<String>> = view
        .links
        .iter()
        .map(|l| {
            vec![
                l.name.clone(),
                l.kind.clone().unwrap_or_else(|| "-".into()),
                if l.up { "up".into() } else { "down".to_string() },
                l.state.to_string(),
                or_dash(l.mtu),
                or_dash(l.mac.clone()),
                or_dash(l.qdisc.clone()),
                or_dash(l.master.map(name)),
                or_dash(l.alias.clone()),
            ]
        })
        .collect();
    out += &table(&["NAME", "KIND", "ADMIN", "STATE", "MTU", "MAC", "QDISC", "MASTER", "ALIAS"], &rows);
    let rows = view.addresses.iter().map(|a| vec![name(a.index), a.address.to_string()]);
    section(&mut out, "Addresses", &["LINK", "ADDRESS"], rows.collect());
    let rows = view.routes.iter().map(|r| {
        let to = r.destination.map_or("default".to_string(), |d| d.to_string());
        vec![to, or_dash(r.gateway), or_dash(r.output.map(name)), or_dash(r.source)]
    });
    section(&mut out, "Routes", &["TO", "VIA", "LINK", "SOURCE"], rows.collect());
    let rows = view
        .neighbours
        .iter()
        .map(|n| vec![name(n.index), n.address.to_string(), or_dash(n.mac.clone()), n.state.to_string()]);
    section(&mut out, "Neighbours", &["LINK", "ADDRESS", "MAC", "STATE"], rows.collect());
    let rows = view
        .ports
        .iter()
        .map(|p| vec![p.bridge.clone(), p.port.clone(), p.state.to_string(), or_dash(p.alias.clone())]);
    section(&mut out, "Bridge ports", &["BRIDGE", "PORT", "STATE", "ALIAS"], rows.collect());
    let rows =
        view.nft.iter().map(|r| vec![r.chain.name().to_string(), or_dash(r.comment.clone()), r.text.clone()]);
    section(&mut out, "Rules of nft table inet drydock", &["CHAIN", "COMMENT", "RULE"], rows.collect());
    out
}

fn section(out: &mut String, title: &str, header: &[&str], rows: Vec<Vec<String>>) {
    if !rows.is_empty() {
        out.push_str(&format!("\n{title}\n{}", table(header, &rows)));
    }
}
