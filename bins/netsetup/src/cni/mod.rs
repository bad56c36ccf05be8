//! `netsetup` as a CNI plugin (Container Network Interface 1.1): called by a container runtime with CNI_COMMAND in the
//! environment and a network configuration on standard input. Source: the CNI specification, 1.1.0.

mod config;
mod result;

use crate::args::Common;
use crate::owner::Owner;
use crate::pending::Undo;
use config::Config;
use drydock_core::{Error, Result};
use drydock_network::limit::{Direction, Request as Limit};
use drydock_network::netlink::Protocol;
use drydock_network::{attach, gc, lease, name, netns, show};
use result::{Failure, SUPPORTED};
use serde_json::{Value, json};
use std::io::Read;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;

/// A configuration is some KiB.
const MAX_BYTES: u64 = 1 << 20;
/// How the owners of what we make as a plugin begin.
const PREFIX: &str = "cni-";

/// Whether a runtime calls us as a plugin: with the variable, and without arguments.
pub fn is_called() -> bool {
    std::env::var_os("CNI_COMMAND").is_some() && std::env::args_os().count() == 1
}

/// Does what the environment says; the result or the error goes to standard output as JSON.
pub fn main() -> ExitCode {
    match run() {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(value)) => match drydock_cli::print_json(&value) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(failure) => {
            let _ = drydock_cli::print_json(&failure.json());
            ExitCode::FAILURE
        }
    }
}

/// What the environment says.
struct Call {
    container: String,
    netns: Option<PathBuf>,
    interface: String,
}

fn common() -> Common {
    Common { json: true, explain: false, root: None, owner: None }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

fn run() -> std::result::Result<Option<Value>, Failure> {
    let command = variable("CNI_COMMAND").unwrap_or_default();
    let mut text = String::new();
    std::io::stdin()
        .take(MAX_BYTES)
        .read_to_string(&mut text)
        .map_err(|e| Failure::new(result::IO, format!("reading the configuration: {e}")))?;
    if command == "VERSION" {
        let asked: Option<Value> = serde_json::from_str(&text).ok();
        let version = asked.and_then(|v| v.get("cniVersion").and_then(Value::as_str).map(String::from));
        let version = version.filter(|v| SUPPORTED.contains(&v.as_str())).unwrap_or_else(|| "1.1.0".into());
        return Ok(Some(json!({ "cniVersion": version, "supportedVersions": SUPPORTED })));
    }
    let config = Config::parse(&text)?;
    let outcome = match command.as_str() {
        "ADD" => call(true).and_then(|c| add(&config, &c)).map(Some),
        "DEL" => call(false).and_then(|c| delete(&c)).map(|()| None),
        "CHECK" => call(true).and_then(|c| check(&config, &c)).map(|()| None),
        "GC" => collect(&config).map(|()| None),
        "STATUS" => status().map(|()| None),
        other => {
            let shown = drydock_core::text::escape(other);
            Err(Failure::new(result::ENVIRONMENT, format!("CNI_COMMAND '{shown}' is not known")))
        }
    };
    outcome.map_err(|f| f.of_version(&config.cni_version))
}

fn call(needs_netns: bool) -> std::result::Result<Call, Failure> {
    let missing = |name: &str| Failure::new(result::ENVIRONMENT, format!("{name} is missing"));
    let container = variable("CNI_CONTAINERID").ok_or_else(|| missing("CNI_CONTAINERID"))?;
    let interface = variable("CNI_IFNAME").ok_or_else(|| missing("CNI_IFNAME"))?;
    name::check_interface("CNI_IFNAME", &interface)
        .map_err(|e| Failure::new(result::ENVIRONMENT, e.sentence()))?;
    let right = container.len() <= 128
        && container.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        && container.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if !right {
        return Err(Failure::new(result::ENVIRONMENT, "CNI_CONTAINERID is not a container id"));
    }
    let netns = variable("CNI_NETNS").map(PathBuf::from);
    if needs_netns && netns.is_none() {
        return Err(missing("CNI_NETNS"));
    }
    Ok(Call { container, netns, interface })
}

impl Call {
    fn owner_id(container: &str, interface: &str) -> String {
        name::owner_for(&format!("{PREFIX}{container}-{interface}"))
    }

    fn owner(&self) -> std::result::Result<Owner, Failure> {
        Ok(Owner::of(&common(), &Self::owner_id(&self.container, &self.interface))?)
    }

    fn netns(&self) -> std::result::Result<PathBuf, Failure> {
        let path = self.netns.clone().unwrap_or_default();
        netns::open_other(&path).map_err(|e| Failure::new(result::ENVIRONMENT, e.sentence()))?;
        Ok(path)
    }
}

fn add(config: &Config, call: &Call) -> std::result::Result<Value, Failure> {
    let owner = call.owner()?;
    let netns = call.netns()?;
    let mut request = attach::Request::new(&owner.id, &netns, &owner.lease_dir);
    config.fill(&mut request)?;
    request.interface.clone_from(&call.interface);
    let plan = request.validate()?;
    let limits = config.limits()?;
    let report = owner.journaled(&Undo::Everything, |ctx| {
        let report = plan.apply(ctx)?;
        if let Some((egress, ingress)) = limits {
            limit(&netns, call, egress, ingress).set(ctx)?;
        }
        Ok(report)
    })?;
    for warning in &report.warnings {
        drydock_cli::output::warn("netsetup", warning);
    }
    Ok(result::of(config, call.netns.as_deref(), &report)?)
}

fn limit(netns: &std::path::Path, call: &Call, egress: Direction, ingress: Direction) -> Limit {
    Limit {
        netns: netns.to_path_buf(),
        shown: call.container.clone(),
        interface: call.interface.clone(),
        egress,
        ingress,
    }
}

/// What is gone already is well, and so is a namespace that is gone.
fn delete(call: &Call) -> std::result::Result<(), Failure> {
    let owner = call.owner()?;
    owner.undo()?;
    Ok(())
}

fn check(config: &Config, call: &Call) -> std::result::Result<(), Failure> {
    let owner = call.owner()?;
    let path = call.netns()?;
    let broken = |why: String| Failure::new(result::BROKEN, why);
    let networks = lease::list(&owner.lease_dir)?;
    let held = networks.iter().find_map(|n| n.leases.iter().find(|l| l.owner == owner.id));
    let lease = held.ok_or_else(|| broken(format!("'{}' has no address", call.container)))?;
    if gc::dead_leases(&owner.lease_dir)?.iter().any(|(_, l)| l.owner == owner.id) {
        return Err(broken(format!("{} is gone", lease.link)));
    }
    let fd = netns::open_other(&path)?;
    let inside = show::rtnl_in(fd.as_fd())?;
    let link = inside.link(&call.interface)?.ok_or_else(|| broken(format!("{} is gone", call.interface)))?;
    if !link.up {
        return Err(broken(format!("{} is down", call.interface)));
    }
    let there = inside.addresses()?;
    let has = |address| there.iter().any(|a| a.index == link.index && a.address.address() == address);
    let wanted = std::iter::once(lease.address).chain(config.previous_addresses());
    for address in wanted {
        if !has(address) {
            return Err(broken(format!("{} does not have {address}", call.interface)));
        }
    }
    Ok(())
}

/// Everything of this network that the runtime does not list goes.
fn collect(config: &Config) -> std::result::Result<(), Failure> {
    let dir = crate::owner::lease_dir(&common())?;
    let valid: Vec<String> =
        config.valid_attachments.iter().map(|a| Call::owner_id(&a.container_id, &a.ifname)).collect();
    let mut first: Result<()> = Ok(());
    for network in lease::list(&dir)?.into_iter().filter(|n| n.network == config.name) {
        for lease in network.leases {
            if lease.owner.starts_with(PREFIX) && !valid.contains(&lease.owner) {
                let gone = Owner::of(&common(), &lease.owner).and_then(|o| o.undo()).map(drop);
                if first.is_ok() {
                    first = gone;
                }
            }
        }
    }
    Ok(first?)
}

/// Whether an ADD can work: netlink, and nf_tables.
fn status() -> std::result::Result<(), Failure> {
    let unavailable = |e: Error| Failure::new(result::UNAVAILABLE, e.sentence());
    drydock_network::netlink::Socket::here(Protocol::Route).map_err(unavailable)?;
    drydock_network::nft::Nft::here().and_then(|nft| nft.rules().map(drop)).map_err(unavailable)
}
