//! `netsetup ns`.

use crate::args::{Common, Ns};
use crate::owner::Owner;
use crate::pending::Undo;
use crate::place::Place;
use crate::print;
use drydock_cli::Outcome;
use drydock_core::{Error, Kind, Result, exit, text};
use drydock_network::netns;
use serde_json::json;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;

pub fn run(command: Ns, common: &Common) -> Outcome {
    match command {
        Ns::Add { name } => add(&name, common)?,
        Ns::Attach { name, pid } => attach(&name, pid, common)?,
        Ns::List => list(common)?,
        Ns::Exec { namespace, command } => return exec(&namespace, &command, common),
        Ns::Del { name } => delete(&name, common)?,
        Ns::Identify { pid } => identify(pid, common)?,
        Ns::Pids { namespace } => pids(&namespace, common)?,
    }
    Ok(0)
}

fn add(name: &str, common: &Common) -> Result<()> {
    let path = netns::path_of(name)?;
    let owner = Owner::new(common, || drydock_network::name::owner_for(name))?;
    let undo = Undo::Namespace { path: path.clone() };
    let made = owner.journaled(&undo, |ctx| netns::add(name, ctx))?;
    let line = format!("namespace '{name}' {}", if made { "added" } else { "is there already" });
    let value = json!({ "namespace": name, "path": path, "owner": owner.id, "already": !made });
    print::result(common, &value, &line, &[])
}

fn attach(name: &str, pid: i32, common: &Common) -> Result<()> {
    if pid < 1 {
        return Err(Error::bad_input(format!("pid {pid}"), "is not a process id (allowed: 1 and more)"));
    }
    let path = netns::path_of(name)?;
    let owner = Owner::new(common, || drydock_network::name::owner_for(name))?;
    let made =
        owner.journaled(&Undo::Namespace { path: path.clone() }, |ctx| netns::attach(name, pid, ctx))?;
    let state = if made { "is now" } else { "is already" };
    let line = format!("namespace '{name}' {state} that of pid {pid}");
    let value = json!({ "namespace": name, "path": path, "pid": pid, "owner": owner.id, "already": !made });
    print::result(common, &value, &line, &[])
}

fn list(common: &Common) -> Result<()> {
    let all = netns::list()?;
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|n| vec![n.name.clone(), n.inode.map_or("not mounted".into(), |i| format!("net:[{i}]"))])
        .collect();
    print::list(common, &all, &["NAME", "NAMESPACE"], &rows)
}

fn delete(name: &str, common: &Common) -> Result<()> {
    let place = Place::parse(name, common)?;
    let path = netns::path_of(place.name.as_deref().unwrap_or(name))?;
    let owner = Owner::new(common, || place.default_owner())?;
    // A file that is no namespace's must be refused before anything is undone.
    let there = std::fs::symlink_metadata(&path).is_ok();
    let undo = Undo::Namespace { path: path.clone() };
    let removed = owner.removing(undo, |ctx| netns::delete(&path, ctx))?;
    // What was made for it by its own name goes too; an owner that was named may have more than this namespace.
    let undone = if common.owner.is_none() && !owner.is_container()? { owner.undo()? } else { false };
    let line = format!("namespace '{name}' {}", if removed || undone { "removed" } else { "is not there" });
    print::result(common, &json!({ "namespace": name, "already": !there && !undone }), &line, &[])
}

fn identify(pid: Option<i32>, common: &Common) -> Result<()> {
    let pid = match pid {
        Some(pid) if pid < 1 => {
            return Err(Error::bad_input(format!("pid {pid}"), "is not a process id (allowed: 1 and more)"));
        }
        Some(pid) => pid,
        None => i32::try_from(std::process::id()).unwrap_or(i32::MAX),
    };
    let found = netns::identify(pid)?;
    if common.json {
        return drydock_cli::print_json(&found);
    }
    for name in &found.names {
        drydock_cli::print_line(name)?;
    }
    if !found.names.is_empty() {
        return Ok(());
    }
    let line = if found.host {
        format!("the host's own (net:[{}])", found.inode)
    } else {
        let peers = if found.peers.is_empty() {
            String::new()
        } else {
            format!(", veth peer {}", found.peers.join(" "))
        };
        let owners = if found.owners.is_empty() {
            String::new()
        } else {
            format!(", owner {}", found.owners.join(" "))
        };
        format!("anonymous (net:[{}]){peers}{owners}", found.inode)
    };
    drydock_cli::print_line(&line)
}

fn pids(namespace: &str, common: &Common) -> Result<()> {
    let fd = netns::open(&Place::parse(namespace, common)?.path)?;
    let all = netns::pids(netns::inode(fd.as_fd())?)?;
    if common.json {
        return drydock_cli::print_json(&all);
    }
    all.iter().try_for_each(|pid| drydock_cli::print_line(&pid.to_string()))
}

fn exec(namespace: &str, command: &[OsString], common: &Common) -> Outcome {
    let place = Place::parse(namespace, common)?;
    let Some((program, arguments)) = command.split_first() else { return Ok(exit::USAGE) };
    for skipped in netns::enter(&place.path, place.name.as_deref())? {
        drydock_cli::output::warn("netsetup", &skipped);
    }
    let error = std::process::Command::new(program).args(arguments).exec();
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => Kind::NotFound,
        _ => Kind::CannotExecute,
    };
    let shown = text::shorten(&text::escape(&program.to_string_lossy()), 200);
    Err(Error::call(format!("execvp({shown:?})"), error).with_kind(kind).into())
}
