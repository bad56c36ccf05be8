//! `netsetup attach` and `detach`.

use crate::args::{Attach, Common, Detach};
use crate::owner::Owner;
use crate::pending::Undo;
use crate::place::Place;
use crate::print;
use drydock_cli::Outcome;
use drydock_core::{Error, Result, text};
use drydock_network::{
    InterfaceAddress, Mac, Publish, Subnet, attach, detach as removal, name, names, netns,
};
use serde_json::json;
use std::net::IpAddr;

/// An address without prefix length.
pub fn parse_address(object: &str, address: &str) -> Result<IpAddr> {
    let shown = text::shorten(&text::escape(address), 60);
    let parsed = address.parse().map_err(|_| {
        Error::bad_input(object, format!("'{shown}' is not an IP address (allowed: such as 10.0.0.1)"))
    })?;
    drydock_network::address::check_unicast(object, parsed, address)?;
    Ok(parsed)
}

/// At most one address of each family: `(first or only, IPv6 beside IPv4)`.
pub fn two_addresses(
    option: &str,
    given: &[String],
) -> Result<(Option<InterfaceAddress>, Option<InterfaceAddress>)> {
    let all: Vec<_> = given.iter().map(|a| InterfaceAddress::parse_as(option, a)).collect::<Result<_>>()?;
    match all.as_slice() {
        [] => Ok((None, None)),
        [one] => Ok((Some(*one), None)),
        [a, b] if a.address().is_ipv4() != b.address().is_ipv4() => {
            Ok(if a.address().is_ipv4() { (Some(*a), Some(*b)) } else { (Some(*b), Some(*a)) })
        }
        _ => Err(Error::bad_input(option, "is given too often (allowed: one address of each family)")),
    }
}

/// `FIRST-LAST`.
pub fn pool(option: &str, text: &str) -> Result<(IpAddr, IpAddr)> {
    let bad = || Error::bad_input(option, "is no range (allowed: such as 10.0.0.10-10.0.0.99)");
    let (first, last) = text.split_once('-').ok_or_else(bad)?;
    let (first, last) = (parse_address(option, first)?, parse_address(option, last)?);
    if first.is_ipv4() != last.is_ipv4() || first > last {
        return Err(bad());
    }
    Ok((first, last))
}

fn request(args: &Attach, owner: &Owner, place: &Place) -> Result<attach::Request> {
    let mut publish = Vec::new();
    for spec in &args.publish {
        publish.extend(Publish::parse(spec)?);
    }
    let mut request = attach::Request::new(&owner.id, &place.path, &owner.lease_dir);
    request.bridge = args.bridge.clone();
    request.network = args.network.clone().unwrap_or_else(|| args.bridge.clone());
    request.subnet = args.subnet.as_deref().map(|s| Subnet::parse_as("--subnet", s)).transpose()?;
    request.subnet6 = args.subnet6.as_deref().map(|s| Subnet::parse_as("--subnet6", s)).transpose()?;
    request.gateway = args.gateway.as_deref().map(|g| parse_address("--gateway", g)).transpose()?;
    (request.address, request.address6) = two_addresses("--addr", &args.addr)?;
    request.pool = args.range.as_deref().map(|r| pool("--range", r)).transpose()?;
    request.interface = args.interface.clone();
    request.default_route = !args.no_default_route;
    request.nat = args.nat || args.nat6;
    request.nat6 = args.nat6;
    request.ipv6 = !args.no_ipv6;
    request.internal = args.internal;
    request.isolated = args.isolated;
    request.check_source = !args.allow_spoofing;
    request.metadata = args.allow_metadata;
    request.mtu = args.mtu;
    request.mac = args.mac.as_deref().map(Mac::parse).transpose()?;
    request.publish = publish;
    request.create_bridge = !args.no_create;
    Ok(request)
}

pub fn run(args: &Attach, common: &Common) -> Outcome {
    let place = Place::parse(&args.namespace, common)?;
    name::check_interface("--bridge", &args.bridge)?;
    let owner = Owner::new(common, || place.default_owner())?;
    let request = request(args, &owner, &place)?;
    let plan = request.validate()?;
    netns::open_other(&place.path)?;
    let undo = Undo::Detach { link: request.host_link() };
    let report = owner.journaled(&undo, |ctx| plan.apply(ctx))?;
    names::refresh(&owner.lease_dir, std::slice::from_ref(&report.network))?;
    let mut line = format!(
        "'{}' {}{} {}{} by {} on bridge '{}'",
        place.shown(),
        if report.already { "is attached already: " } else { "attached: " },
        report.interface,
        report.address,
        report.address6.map_or(String::new(), |a| format!(" {a}")),
        report.host_link,
        report.bridge
    );
    for p in &report.publish {
        line.push_str(&format!(", published {p}"));
    }
    print::result(common, &report, &line, &report.warnings)?;
    Ok(0)
}

pub fn detach(args: &Detach, common: &Common) -> Outcome {
    let place = Place::parse(&args.namespace, common)?;
    name::check_interface("--interface", &args.interface)?;
    let owner = Owner::new(common, || place.default_owner())?;
    let link = name::host_link(&owner.id, &place.path, &args.interface);
    let addresses = place.addresses_of(&args.interface);
    let undo = Undo::Detach { link: link.clone() };
    let remove =
        |ctx: &drydock_core::Ctx<'_>| removal::detach(&owner.id, &link, &addresses, &owner.lease_dir, ctx);
    let networks = names::networks_of(&owner.lease_dir, &owner.id)?;
    let there = owner.removing(undo, remove)?;
    names::refresh(&owner.lease_dir, &networks)?;
    let line = format!("'{}' {}", place.shown(), if there { "detached" } else { "is not attached" });
    print::result(
        common,
        &json!({ "namespace": place.shown(), "link": link, "already": !there }),
        &line,
        &[],
    )?;
    Ok(0)
}
