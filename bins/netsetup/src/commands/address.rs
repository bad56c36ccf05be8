//! `netsetup addr` and `route`: within a namespace.

use super::attach::parse_address;
use crate::args::{Addr, Common, Route};
use crate::owner::Owner;
use crate::place::Place;
use crate::print;
use drydock_cli::Outcome;
use drydock_core::{Error, Result};
use drydock_network::netlink::Batch;
use drydock_network::rtnl::{Link, Rtnl};
use drydock_network::{InterfaceAddress, Subnet, guard, name, netns, show};
use serde_json::json;
use std::os::fd::AsFd;

fn find(place: &Place, interface: &str) -> Result<(Rtnl, Link)> {
    name::check_interface("--interface", interface)?;
    let fd = netns::open_other(&place.path)?;
    let rtnl = show::rtnl_in(fd.as_fd())?;
    let link = rtnl.link(interface)?.ok_or_else(|| {
        Error::failed(place.shown(), format!("has no interface '{interface}'"))
            .hint(format!("netsetup show {} lists them", place.shown()))
    })?;
    Ok((rtnl, link))
}

pub fn run(args: &Addr, common: &Common) -> Outcome {
    let place = Place::parse(&args.namespace, common)?;
    let address = InterfaceAddress::parse_as("address", &args.address)?;
    let (rtnl, link) = find(&place, &args.interface)?;
    let there = rtnl.addresses()?.iter().any(|a| a.index == link.index && a.address == address);
    let owner = Owner::new(common, || place.default_owner())?;
    let fd = netns::open_other(&place.path)?;
    if !args.del && !there {
        guard::check_foreign(fd.as_fd(), &args.interface, address.address(), &owner.lease_dir)?;
    }
    let mut batch = Batch::new();
    if args.del {
        batch.delete_address(link.index, address);
    } else {
        batch.add_address(link.index, address);
    }
    rtnl.execute(&batch)?;
    guard::learn(fd.as_fd(), &args.interface, address.address(), !args.del, &owner.lease_dir, &owner.ctx())?;
    let state = done(args.del, there);
    let value = json!({ "namespace": place.shown(), "interface": link.name, "address": address,
                        "already": there != args.del });
    print::result(
        common,
        &value,
        &format!("{address} on {} in '{}' {state}", link.name, place.shown()),
        &[],
    )?;
    Ok(0)
}

fn done(delete: bool, there: bool) -> &'static str {
    match (delete, there) {
        (false, false) => "added",
        (false, true) => "is there already",
        (true, true) => "removed",
        (true, false) => "is not there",
    }
}

pub fn route(args: &Route, common: &Common) -> Outcome {
    let place = Place::parse(&args.namespace, common)?;
    let to = match args.destination.as_str() {
        "default" => None,
        subnet => Some(Subnet::parse_as("destination", subnet)?),
    };
    let via = parse_address("--via", &args.via)?;
    if to.is_some_and(|t| t.address().is_ipv4() != via.is_ipv4()) {
        return Err(Error::bad_input("--via", "destination and next hop are of different families").into());
    }
    let (rtnl, link) = find(&place, &args.interface)?;
    let there = rtnl.routes()?.iter().any(|r| {
        r.is_ordinary() && r.destination == to && r.gateway == Some(via) && r.output == Some(link.index)
    });
    let mut batch = Batch::new();
    if args.del {
        batch.delete_route(to, via, link.index);
    } else if !there {
        batch.add_route(to, via, link.index, &[]);
    }
    rtnl.execute(&batch).map_err(|e| match e.errno() {
        Some(17) => e.hint("another route to there exists: remove it with --del first"),
        Some(101) => e.hint(format!("{via} is in no subnet of {}", link.name)),
        _ => e,
    })?;
    let shown = to.map_or("default".to_string(), |t| t.to_string());
    let value = json!({ "namespace": place.shown(), "destination": shown, "via": via, "interface": link.name,
                        "already": there != args.del });
    let line =
        format!("{shown} via {via} dev {} in '{}' {}", link.name, place.shown(), done(args.del, there));
    print::result(common, &value, &line, &[])?;
    Ok(0)
}
