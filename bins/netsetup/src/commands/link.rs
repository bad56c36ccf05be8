//! `netsetup link`.

use crate::args::{Common, Link};
use crate::owner::Owner;
use crate::pending::Undo;
use crate::place::Place;
use crate::print;
use drydock_cli::Outcome;
use drydock_network::{InterfaceAddress, link, netns};

pub fn run(args: &Link, common: &Common) -> Outcome {
    let place = Place::parse(&args.namespace, common)?;
    let owner = Owner::new(common, || place.default_owner())?;
    let request = link::Request {
        owner: owner.id.clone(),
        netns: place.path.clone(),
        host_address: InterfaceAddress::parse_as("--host-addr", &args.host_addr)?,
        address: InterfaceAddress::parse_as("--addr", &args.addr)?,
        interface: args.interface.clone(),
        host_interface: args.host_name.clone(),
        default_route: !args.no_default_route,
        mtu: args.mtu,
    };
    let plan = request.validate()?;
    netns::open_other(&place.path)?;
    let undo = Undo::Detach { link: plan.host_link().to_string() };
    let report = owner.journaled(&undo, |ctx| plan.apply(ctx))?;
    let line = format!(
        "{} {} <-> {} {} in '{}'{}",
        report.host_link,
        report.host_address,
        report.interface,
        report.address,
        place.shown(),
        if report.already { " is there already" } else { "" }
    );
    print::result(common, &report, &line, &[])?;
    Ok(0)
}
