//! `netsetup dns`: the resolver of a named namespace, and the names of its neighbours.

use crate::args::{Common, Dns};
use crate::owner::Owner;
use crate::pending::Undo;
use crate::place::Place;
use crate::print;
use drydock_cli::Outcome;
use drydock_core::error::CallExt;
use drydock_core::{Ctx, Error, Result, text};
use drydock_network::{NetStep, etc, names, netns};
use serde_json::json;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

pub fn run(args: &Dns, common: &Common) -> Outcome {
    let place = Place::parse(&args.namespace, common)?;
    let Some(name) = place.name.clone() else {
        return Err(Error::bad_input(
            place.shown(),
            "has no name under /run/netns (allowed: a namespace of ns add)",
        )
        .into());
    };
    let owner = Owner::new(common, || place.default_owner())?;
    if args.off {
        let there = owner.removing(Undo::Nothing, |ctx| names::forget(&name, ctx))?;
        let state = if there { "has the host's resolver" } else { "has no resolver of its own" };
        let line = format!("'{name}' {state}");
        print::result(common, &json!({ "namespace": name, "already": !there }), &line, &[])?;
        return Ok(0);
    }
    let (servers, resolver) = resolver(args)?;
    netns::open_other(&place.path)?;
    let neighbours = names::neighbours(&owner.lease_dir, &owner.id)?;
    let request = etc::Request {
        dir: "/".into(),
        hostname: Some(name.clone()).filter(|n| etc::Request::is_hostname(n)),
        hosts: Vec::new(),
        dns: Vec::new(),
        forwarder: None,
        host_network: false,
    };
    let hosts =
        names::with_lines(&format!("{}\n{}", names::OURS, request.hosts(&place.addresses())), &neighbours);
    let dir = names::directory(&name);
    // What was there before is written over, and made whole by the same command.
    let undo = match dir.exists() {
        true => Undo::Nothing,
        false => Undo::Names { namespace: name.clone() },
    };
    owner.journaled(&undo, |ctx| {
        for (file, text) in
            [("resolv.conf", format!("{}\n{resolver}", names::OURS)), ("hosts", hosts.clone())]
        {
            write(&name, &dir, file, &text, ctx)?;
        }
        Ok(())
    })?;
    let warnings = match servers.is_empty() {
        true => vec![
            "the host has no name server that can be reached from there: give one with --server".to_string(),
        ],
        false => Vec::new(),
    };
    let line =
        format!("'{name}' asks {}", if servers.is_empty() { "nobody".into() } else { servers.join(" ") });
    let value =
        json!({ "namespace": name, "directory": dir, "servers": servers, "neighbours": neighbours.len() });
    print::result(common, &value, &line, &warnings)?;
    Ok(0)
}

/// The servers, and resolv.conf's text.
fn resolver(args: &Dns) -> Result<(Vec<String>, String)> {
    let mut dns = Vec::new();
    for word in &args.server {
        let address = etc::parse_server("--server", word)?;
        if address.is_loopback() || address.is_unspecified() {
            return Err(Error::bad_input(
                "--server",
                format!(
                    "{address} is the namespace's own loopback there (allowed: an address that it reaches)"
                ),
            ));
        }
        dns.push(address);
    }
    let request = etc::Request {
        dir: "/".into(),
        hostname: None,
        hosts: Vec::new(),
        dns,
        forwarder: None,
        host_network: false,
    };
    let mut text = request.resolver();
    if !args.search.is_empty() {
        for word in &args.search {
            if !etc::Request::is_hostname(word) {
                let shown = text::shorten(&text::escape(word), 60);
                return Err(Error::bad_input(
                    "--search",
                    format!("'{shown}' is not a domain (allowed: A-Z a-z 0-9 - . _)"),
                ));
            }
        }
        text = without(&text, &["search", "domain"]);
        text.push_str(&format!("search {}\n", args.search.join(" ")));
    }
    if !args.option.is_empty() {
        for word in &args.option {
            let right =
                !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-:_".contains(&b));
            if !right {
                let shown = text::shorten(&text::escape(word), 60);
                return Err(Error::bad_input(
                    "--option",
                    format!("'{shown}' is no option (allowed: such as ndots:1)"),
                ));
            }
        }
        text = without(&text, &["options"]);
        text.push_str(&format!("options {}\n", args.option.join(" ")));
    }
    let servers = text.lines().filter_map(|l| l.strip_prefix("nameserver ")).map(str::to_string).collect();
    Ok((servers, text))
}

fn without(text: &str, words: &[&str]) -> String {
    let keep = |line: &&str| !line.split_whitespace().next().is_some_and(|first| words.contains(&first));
    text.lines().filter(keep).map(|line| format!("{line}\n")).collect()
}

/// A file of somebody else's stays.
fn write(namespace: &str, dir: &Path, name: &str, text: &str, ctx: &Ctx<'_>) -> Result<()> {
    let path = dir.join(name);
    if let Ok(there) = std::fs::read_to_string(&path)
        && !there.starts_with(names::OURS)
    {
        return Err(Error::failed(
            path.display().to_string(),
            "is there already, and not of netsetup's making",
        )
        .hint("remove it, or edit it"));
    }
    ctx.perform(&NetStep::WriteFile { path: path.clone(), namespace: namespace.into() }, |_| {
        std::fs::create_dir_all(dir).call(|| format!("mkdir({dir:?})")).map_err(|e| e.hint("run as root"))?;
        let open = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(&path);
        let mut file = open.call(|| format!("open({path:?}, O_WRONLY|O_CREAT|O_TRUNC|O_NOFOLLOW)"))?;
        file.write_all(text.as_bytes()).call(|| format!("write({path:?})"))
    })
}
