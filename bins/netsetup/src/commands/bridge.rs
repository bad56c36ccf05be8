//! `netsetup bridge`.

use super::attach::two_addresses;
use crate::args::{Bridge, Common, NewBridge};
use crate::owner::{Owner, lease_dir};
use crate::pending::Undo;
use crate::print;
use drydock_cli::Outcome;
use drydock_core::{Error, Result};
use drydock_network::{bridge, lease, show};
use serde_json::json;

pub fn run(command: &Bridge, common: &Common) -> Outcome {
    match command {
        Bridge::Add { name, new } => add(name, new, common)?,
        Bridge::List => list(common)?,
        Bridge::Del { name, force } => delete(name, *force, common)?,
    }
    Ok(0)
}

fn add(name: &str, new: &NewBridge, common: &Common) -> Result<()> {
    drydock_network::name::check_interface("bridge", name)?;
    let owner = Owner::new(common, || drydock_network::name::owner_for(name))?;
    let (address, address6) = two_addresses("--addr", &new.addr)?;
    let address =
        address.ok_or_else(|| Error::bad_input("--addr", "is missing (allowed: such as 10.0.0.1/24)"))?;
    let request = bridge::Request {
        owner: owner.id.clone(),
        bridge: name.into(),
        address,
        address6,
        ipv6: !new.no_ipv6,
        internal: new.internal,
        mtu: new.mtu,
        lease_dir: owner.lease_dir.clone(),
    };
    let plan = request.validate()?;
    let undo = Undo::Bridge { name: name.into() };
    let report = owner.journaled(&undo, |ctx| plan.apply(ctx))?;
    let state = if report.already { "is there already" } else { "added" };
    let second = report.address6.map_or(String::new(), |a| format!(" {a}"));
    let line = format!("bridge '{name}' {}{second} {state}", report.address);
    print::result(common, &report, &line, &report.warnings)
}

fn list(common: &Common) -> Result<()> {
    let view = show::view(None)?;
    let rows: Vec<serde_json::Value> = view
        .links
        .iter()
        .filter(|l| l.kind.as_deref() == Some("bridge"))
        .map(|l| {
            let addresses = view.addresses.iter().filter(|a| a.index == l.index && a.scope == 0);
            let ports: Vec<_> = view.ports.iter().filter(|p| p.bridge == l.name).collect();
            json!({ "bridge": l.name, "state": l.state, "mtu": l.mtu, "alias": l.alias, "ports": ports,
                    "addresses": addresses.map(|a| a.address.to_string()).collect::<Vec<_>>() })
        })
        .collect();
    if common.json {
        return drydock_cli::print_json(&rows);
    }
    let mut table = Vec::new();
    for link in view.links.iter().filter(|l| l.kind.as_deref() == Some("bridge")) {
        let addresses = view.addresses.iter().filter(|a| a.index == link.index && a.scope == 0);
        let addresses: Vec<String> = addresses.map(|a| a.address.to_string()).collect();
        let ports = view.ports.iter().filter(|p| p.bridge == link.name);
        let ports: Vec<String> = ports.map(|p| format!("{} {}", p.port, p.state)).collect();
        table.push(vec![
            link.name.clone(),
            link.state.into(),
            if addresses.is_empty() { "-".into() } else { addresses.join(" ") },
            if ports.is_empty() { "-".into() } else { ports.join(", ") },
        ]);
    }
    drydock_cli::print_text(&drydock_cli::output::table(&["BRIDGE", "STATE", "ADDRESSES", "PORTS"], &table))
}

fn delete(name: &str, force: bool, common: &Common) -> Result<()> {
    drydock_network::name::check_interface("bridge", name)?;
    let owner = Owner::new(common, || drydock_network::name::owner_for(name))?;
    let networks = lease::list(&lease_dir(common)?)?;
    let users: Vec<String> = networks
        .iter()
        .filter(|n| n.bridge == name)
        .flat_map(|n| n.leases.iter().map(|l| format!("{} ({})", l.owner, l.address)))
        .collect();
    if !users.is_empty() && !force {
        return Err(Error::failed(name, format!("is still used by {}", users.join(", ")))
            .hint("netsetup detach NS first, or give --force"));
    }
    let undo = Undo::Bridge { name: name.into() };
    let there = owner.removing(undo, |ctx| bridge::release(name, None, &owner.lease_dir, ctx))?;
    if common.owner.is_none() && !owner.is_container()? {
        owner.undo()?;
    }
    let line = format!("bridge '{name}' {}", if there { "removed" } else { "is not there" });
    print::result(common, &json!({ "bridge": name, "already": !there }), &line, &[])
}
