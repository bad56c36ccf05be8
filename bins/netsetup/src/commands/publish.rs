//! `netsetup publish` and `unpublish`.

use crate::args::{Common, Publish, Unpublish};
use crate::owner::Owner;
use crate::pending::Undo;
use crate::place;
use crate::print;
use drydock_cli::Outcome;
use drydock_network::publish::Request;
use drydock_network::{Publish as Port, detach, publish};
use serde_json::json;

pub fn run(args: &Publish, common: &Common) -> Outcome {
    let mut ports = Vec::new();
    for spec in &args.specs {
        ports.extend(Port::parse(spec)?);
    }
    publish::check(&ports, None)?;
    let (container, default) = place::target(&args.target, common)?;
    let owner = Owner::new(common, || default)?;
    let request =
        Request { owner: owner.id.clone(), container, publish: ports, lease_dir: owner.lease_dir.clone() };
    let plan = request.validate()?;
    let undo = Undo::Publish { container, ports: request.publish.clone() };
    let report = owner.journaled(&undo, |ctx| plan.apply(ctx))?;
    let list: Vec<String> = report.publish.iter().map(ToString::to_string).collect();
    let already = if report.already { "already published" } else { "published" };
    print::result(
        common,
        &report,
        &format!("{container} {already} at {}", list.join(", ")),
        &report.warnings,
    )?;
    Ok(0)
}

pub fn off(args: &Unpublish, common: &Common) -> Outcome {
    let (container, default) = place::target(&args.target, common)?;
    let owner = Owner::new(common, || default)?;
    let undo = Undo::Publish { container, ports: Vec::new() };
    let there = owner.removing(undo, |ctx| detach::unpublish(&owner.id, container, &owner.lease_dir, ctx))?;
    let line =
        format!("{container} {}", if there { "is not published any more" } else { "is not published" });
    print::result(
        common,
        &json!({ "container": container, "owner": owner.id, "already": !there }),
        &line,
        &[],
    )?;
    Ok(0)
}
