//! `netsetup nat`.

use crate::args::{Common, Nat};
use crate::owner::Owner;
use crate::print;
use drydock_cli::Outcome;
use drydock_core::Result;
use drydock_network::{Subnet, nat};
use serde_json::json;

pub fn run(command: &Nat, common: &Common) -> Outcome {
    match command {
        Nat::On { subnet } => on(subnet, common)?,
        Nat::Off { subnet } => off(subnet, common)?,
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
