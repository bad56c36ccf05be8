//! `netsetup nat` and `forward`.

use crate::args::{Common, Forward, Nat};
use crate::owner::{Owner, lease_dir};
use crate::pending::Undo;
use crate::print;
use drydock_cli::Outcome;
use drydock_core::{Error, Result};
use drydock_network::{Subnet, forward, nat};
use serde_json::json;

pub fn run(command: &Nat, common: &Common) -> Outcome {
    match command {
        Nat::On { subnet } => on(subnet, true, common)?,
        Nat::Off { subnet: Some(subnet) } => off(subnet, true, common)?,
        Nat::Off { subnet: None } => off_all(true, common)?,
    }
    Ok(0)
}

/// `netsetup forward`: without masquerade; and which networks may reach each other.
pub fn forward(command: &Forward, common: &Common) -> Outcome {
    match command {
        Forward::On { subnet } => on(subnet, false, common)?,
        Forward::Off { subnet: Some(subnet) } => off(subnet, false, common)?,
        Forward::Off { subnet: None } => off_all(false, common)?,
        Forward::Allow { a, b } => allow(a, b, true, common)?,
        Forward::Deny { a, b } => allow(a, b, false, common)?,
        Forward::List => list(common)?,
    }
    Ok(0)
}

fn what(masquerade: bool) -> &'static str {
    if masquerade { "NAT" } else { "forwarding" }
}

fn allow(a: &str, b: &str, yes: bool, common: &Common) -> Result<()> {
    let dir = lease_dir(common)?;
    let owner = Owner::new(common, || "forward".into())?;
    let changed = forward::allow(a, b, yes, &dir, &owner.ctx())?;
    let state = if yes { "may reach each other" } else { "are kept apart" };
    let line = format!("'{a}' and '{b}' {state}{}", if changed { "" } else { " already" });
    print::result(common, &json!({ "a": a, "b": b, "allowed": yes, "already": !changed }), &line, &[])
}

fn list(common: &Common) -> Result<()> {
    let found = forward::list(&lease_dir(common)?)?;
    let mut rows: Vec<Vec<String>> = Vec::new();
    for s in &found.subnets {
        let kind = if s.masquerade { "nat" } else { "forward" };
        rows.push(vec![kind.into(), s.subnet.to_string(), "any".into(), s.owner.clone()]);
    }
    for pair in &found.allowed {
        rows.push(vec!["allow".into(), pair.a.to_string(), pair.b.to_string(), "-".into()]);
    }
    print::list(common, &found, &["KIND", "FROM", "TO", "OWNER"], &rows)
}

fn on(subnet: &str, masquerade: bool, common: &Common) -> Result<()> {
    let subnet = Subnet::parse(subnet)?;
    let owner = Owner::new(common, || nat::default_owner(subnet, masquerade))?;
    let request =
        nat::Request { owner: owner.id.clone(), subnet, masquerade, lease_dir: owner.lease_dir.clone() };
    let plan = request.validate()?;
    let report = owner.journaled(&Undo::Nat { subnet }, |ctx| plan.apply(ctx))?;
    let line =
        format!("{} for {subnet} is on{}", what(masquerade), if report.already { " already" } else { "" });
    print::result(common, &report, &line, &report.warnings)
}

/// Every NAT (or forwarding) that was turned on for itself.
fn off_all(masquerade: bool, common: &Common) -> Result<()> {
    if common.owner.is_some() {
        return Err(Error::bad_input(
            "--owner",
            "needs a SUBNET (or, for all that it has: netsetup undo --owner ID)",
        ));
    }
    let prefix = if masquerade { nat::OWNER_PREFIX } else { nat::FORWARD_PREFIX };
    let root = drydock_core::paths::state_root(common.root.as_deref())?;
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut off = Vec::new();
    for name in names.filter(|name| name.starts_with(prefix)) {
        let owner = Owner::new(common, || name.clone())?;
        // A container may have such a name.
        if !owner.is_container()? && owner.undo()? {
            off.push(name);
        }
    }
    off.sort();
    let line = match off.len() {
        0 => format!("{} is off already", what(masquerade)),
        _ => format!("{} is off: {}", what(masquerade), off.join(", ")),
    };
    print::result(common, &json!({ "owners": off, "already": off.is_empty() }), &line, &[])
}

fn off(subnet: &str, masquerade: bool, common: &Common) -> Result<()> {
    let subnet = Subnet::parse(subnet)?;
    let owner = Owner::new(common, || nat::default_owner(subnet, masquerade))?;
    let was_on =
        owner.removing(Undo::Nat { subnet }, |ctx| nat::off(&owner.id, subnet, &owner.lease_dir, ctx))?;
    if common.owner.is_none() {
        owner.undo()?;
    }
    let line = format!("{} for {subnet} is off{}", what(masquerade), if was_on { "" } else { " already" });
    print::result(common, &json!({ "subnet": subnet, "owner": owner.id, "already": !was_on }), &line, &[])
}
