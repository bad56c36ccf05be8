//! `netsetup undo` and `leases`.

use crate::args::{Common, Undo};
use crate::owner::{Owner, lease_dir};
use crate::print;
use drydock_cli::Outcome;
use drydock_core::Error;
use drydock_network::lease;
use serde_json::json;

pub fn run(args: &Undo, common: &Common) -> Outcome {
    let id = match (&common.owner, &args.id) {
        (Some(a), Some(b)) if a != b => {
            return Err(Error::bad_input("--owner", "two owners are given").into());
        }
        (Some(id), _) | (None, Some(id)) => id.clone(),
        (None, None) => {
            return Err(Error::bad_input("--owner", "is missing (allowed: undo --owner ID)").into());
        }
    };
    let owner = Owner::new(common, || id.clone())?;
    let there = owner.undo()?;
    let line = format!("'{}' {}", owner.id, if there { "undone" } else { "has nothing to undo" });
    print::result(common, &json!({ "owner": owner.id, "already": !there }), &line, &[])?;
    Ok(0)
}

pub fn leases(common: &Common) -> Outcome {
    let networks = lease::list(&lease_dir(common)?)?;
    let mut rows = Vec::new();
    for n in &networks {
        for l in &n.leases {
            let to = l.interface.clone();
            rows.push(vec![
                n.network.clone(),
                n.subnet.to_string(),
                l.address.to_string(),
                l.owner.clone(),
                to,
            ]);
        }
        for h in &n.holders {
            let gateway = print::or_dash(n.gateway);
            rows.push(vec![n.network.clone(), n.subnet.to_string(), gateway, h.clone(), "bridge".into()]);
        }
    }
    print::list(common, &networks, &["NETWORK", "SUBNET", "ADDRESS", "OWNER", "INTERFACE"], &rows)?;
    Ok(0)
}
