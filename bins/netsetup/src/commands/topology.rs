//! `netsetup apply` and `check`.

use crate::args::{Apply, Check, Common};
use crate::commands::gc::FOUND;
use crate::owner::{Owner, lease_dir};
use crate::pending::Undo;
use crate::place::Place;
use crate::topology::file::Topology;
use crate::topology::{apply, matrix};
use drydock_cli::Outcome;
use drydock_cli::output::table;
use drydock_core::{Error, Result, text};
use drydock_network::{check, name, state};
use serde_json::json;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// How the owners of topologies begin.
const PREFIX: &str = "topology-";

fn default_owner(file: &Path) -> String {
    let stem = file.file_stem().map_or_else(String::new, |s| s.to_string_lossy().into_owned());
    name::owner_for(&format!("{PREFIX}{stem}"))
}

pub fn run_apply(args: &Apply, common: &Common) -> Outcome {
    let topology = Topology::read(&args.file)?;
    let owner = Owner::new(common, || default_owner(&args.file))?;
    let before = known(common)?.into_iter().find(|(id, _)| *id == owner.id).map(|(_, t)| t);
    // What was there before is not taken away because something new cannot be had.
    let undo = if before.is_some() { Undo::Nothing } else { Undo::Everything };
    let report = owner.journaled(&undo, |ctx| apply::apply(&topology, before.as_ref(), &owner, ctx))?;
    for warning in &report.warnings {
        drydock_cli::output::warn("netsetup", warning);
    }
    if common.json {
        drydock_cli::print_json(&report)?;
        return Ok(0);
    }
    let rows: Vec<Vec<String>> = report
        .places
        .iter()
        .map(|p| {
            let state = if p.already { "already" } else { "made" };
            vec![p.namespace.clone(), p.network.clone(), p.interface.clone(), p.address.clone(), state.into()]
        })
        .collect();
    let mut out = table(&["NAMESPACE", "NETWORK", "INTERFACE", "ADDRESS", "STATE"], &rows);
    for gone in &report.removed {
        out.push_str(&format!("namespace '{gone}' removed\n"));
    }
    drydock_cli::print_text(&out)?;
    Ok(0)
}

/// The topologies that were applied, with their owners.
fn known(common: &Common) -> Result<Vec<(String, Topology)>> {
    let all = state::topologies(&lease_dir(common)?)?;
    Ok(all.into_iter().filter_map(|(id, value)| Some((id, serde_json::from_value(value).ok()?))).collect())
}

pub fn run_check(args: &Check, common: &Common) -> Outcome {
    match (&args.from, &args.to) {
        (Some(from), Some(to)) if !args.matrix => walk(from, to, common),
        (Some(_), Some(_)) => {
            Err(Error::bad_input("--matrix", "goes with one FILE (allowed: check FILE --matrix)").into())
        }
        (file, None) => prove(file.as_deref().map(Path::new), common),
        (None, Some(_)) => Ok(drydock_core::exit::USAGE),
    }
}

fn prove(file: Option<&Path>, common: &Common) -> Outcome {
    let topologies = match file {
        Some(file) => vec![Topology::read(file)?],
        None => known(common)?.into_iter().map(|(_, t)| t).collect(),
    };
    if topologies.is_empty() {
        return Err(Error::bad_input(
            "FILE",
            "is missing, and no topology was applied (allowed: check FILE --matrix)",
        )
        .into());
    }
    let mut pairs = Vec::new();
    for topology in &topologies {
        pairs.extend(matrix::prove(topology).map_err(|e| e.hint("netsetup apply FILE makes the topology"))?);
    }
    let wrong: Vec<&matrix::Pair> = pairs.iter().filter(|p| p.expected != p.reached).collect();
    if common.json {
        drydock_cli::print_json(&json!({ "right": wrong.is_empty(), "pairs": pairs }))?;
    } else {
        drydock_cli::print_text(&matrix_text(&pairs))?;
        for p in &wrong {
            let line = match p.reached {
                true => format!("{} -> {}: reached at {}, but must not be\n", p.from, p.to, p.detail),
                false => format!("{} -> {}: not reached ({}), but must be\n", p.from, p.to, p.detail),
            };
            drydock_cli::print_text(&line)?;
        }
    }
    Ok(if wrong.is_empty() { 0 } else { FOUND })
}

fn matrix_text(pairs: &[matrix::Pair]) -> String {
    let mut names: Vec<&str> = pairs.iter().map(|p| p.from.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let cell = |from: &str, to: &str| {
        let Some(p) = pairs.iter().find(|p| p.from == from && p.to == to) else { return "-".to_string() };
        let word = if p.reached { "ok" } else { "blocked" };
        format!("{word}{}", if p.reached == p.expected { "" } else { " (wrong)" })
    };
    let rows: Vec<Vec<String>> = names
        .iter()
        .map(|from| {
            std::iter::once((*from).to_string()).chain(names.iter().map(|to| cell(from, to))).collect()
        })
        .collect();
    let header: Vec<&str> = std::iter::once("FROM\\TO").chain(names.iter().copied()).collect();
    table(&header, &rows)
}

/// Who is connected to.
struct Target {
    path: Option<PathBuf>,
    name: String,
    address: Option<IpAddr>,
    port: Option<u16>,
}

/// `NAME`, `ADDRESS`, `host`, each with `:PORT`.
fn target(word: &str, common: &Common) -> Result<Target> {
    if let Ok(socket) = word.parse::<SocketAddr>() {
        return Ok(Target {
            path: None,
            name: word.into(),
            address: Some(socket.ip()),
            port: Some(socket.port()),
        });
    }
    if let Ok(address) = word.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(Target { path: None, name: word.into(), address: Some(address), port: None });
    }
    let (name, port) = match word.rsplit_once(':') {
        Some((name, port)) => {
            let shown = text::shorten(&text::escape(port), 20);
            let number = port.parse::<u16>().ok().filter(|p| *p > 0).ok_or_else(|| {
                Error::bad_input(format!("port '{shown}'"), "is not a port (allowed: 1 to 65535)")
            })?;
            (name, Some(number))
        }
        None => (word, None),
    };
    let (path, name) = namespace(name, common)?;
    Ok(Target { path: Some(path), name, address: None, port })
}

fn namespace(name: &str, common: &Common) -> Result<(PathBuf, String)> {
    if name == "host" && std::fs::symlink_metadata("/run/netns/host").is_err() {
        return Ok(("/proc/self/ns/net".into(), "host".into()));
    }
    let place = Place::parse(name, common)?;
    Ok((place.path.clone(), place.shown()))
}

fn walk(from: &str, to: &str, common: &Common) -> Outcome {
    let (from, from_name) = namespace(from, common)?;
    let Target { path, name, address, port } = target(to, common)?;
    let request = check::Request { from, from_name, to: path, to_name: name, address, port };
    let report = request.walk()?;
    if common.json {
        drydock_cli::print_json(&report)?;
    } else {
        let word = |s: check::Status| match s {
            check::Status::Ok => "ok",
            check::Status::Stop => "STOP",
            check::Status::Unknown => "unknown",
        };
        let rows: Vec<Vec<String>> = report
            .stations
            .iter()
            .map(|s| vec![word(s.status).to_string(), s.station.to_string(), s.detail.clone()])
            .collect();
        drydock_cli::print_text(&table(&["STATE", "STATION", "WHAT"], &rows))?;
    }
    Ok(if report.reached { 0 } else { FOUND })
}
