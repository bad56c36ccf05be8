//! `netsetup nat`.

use crate::args::{Common, Nat};
use crate::owner::Owner;
use crate::print;
use drydock_cli::Outcome;
use drydock_core::{Error, Result};
use drydock_network::{Subnet, nat};
use serde_json::json;

pub fn run(command: &Nat, common: &Common) -> Outcome {
    match command {
        Nat::On { subnet } => on(subnet, common)?,
        Nat::Off { subnet: Some(subnet) } => off(subnet, common)?,
        Nat::Off { subnet: None } => off_all(common)?,
    }
    Ok(0)
}

fn on(subnet: &str, common: &Common) -> Result<()> {
    let subnet = Subnet::parse(subnet)?;
    let owner = Owner::new(common, || nat::default_owner(subnet))?;
    let request = nat::Request { owner: owner.id.clone(), subnet, lease_dir: owner.lease_dir.clone() };
    let plan = request.validate()?;
    let undo = |ctx: &drydock_core::Ctx<'_>| nat::off(&owner.id, subnet, &owner.lease_dir, ctx).map(drop);
    let report = owner.journaled(undo, |ctx| plan.apply(ctx))?;
    let line = format!("NAT for {subnet} is on{}", if report.already { " already" } else { "" });
    print::result(common, &report, &line, &report.warnings)
}

/// Every NAT that was turned on for itself.
fn off_all(common: &Common) -> Result<()> {
    if common.owner.is_some() {
        return Err(Error::bad_input(
            "--owner",
            "needs a SUBNET (or, for all that it has: netsetup undo --owner ID)",
        ));
    }
    let root = drydock_core::paths::state_root(common.root.as_deref())?;
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut off = Vec::new();
    for name in names.filter(|name| name.starts_with(nat::OWNER_PREFIX)) {
        let owner = Owner::new(common, || name.clone())?;
        // A container may have such a name.
        if !owner.is_container()? && owner.undo()? {
            off.push(name);
        }
    }
    off.sort();
    let line = match off.len() {
        0 => "NAT is off already".to_string(),
        _ => format!("NAT is off: {}", off.join(", ")),
    };
    print::result(common, &json!({ "owners": off, "already": off.is_empty() }), &line, &[])
}

fn off(subnet: &str, common: &Common) -> Result<()> {
    let subnet = Subnet::parse(subnet)?;
    let owner = Owner::new(common, || nat::default_owner(subnet))?;
    let was_on = nat::off(&owner.id, subnet, &owner.lease_dir, &owner.ctx())?;
    if common.owner.is_none() {
        owner.undo()?;
    }
    let line = format!("NAT for {subnet} is off{}", if was_on { "" } else { " already" });
    print::result(common, &json!({ "subnet": subnet, "owner": owner.id, "already": !was_on }), &line, &[])
}
