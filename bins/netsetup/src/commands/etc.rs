//! `netsetup etc`: the files by which a container knows names.

use crate::args::{Common, Etc};
use crate::commands::attach::parse_address;
use crate::place::Place;
use crate::print;
use drydock_cli::Outcome;
use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use drydock_network::{etc, netns};
use serde_json::json;
use std::net::IpAddr;

fn request(args: &Etc) -> Result<etc::Request> {
    if args.dir.as_os_str().is_empty() {
        return Err(Error::bad_input("DIR", "empty (allowed: a directory)"));
    }
    let request = etc::Request {
        dir: std::path::absolute(&args.dir).call(|| "getcwd()")?,
        hostname: args.hostname.clone(),
        hosts: args.add_host.iter().map(|word| etc::parse_host(word)).collect::<Result<_>>()?,
        dns: args.dns.iter().map(|word| etc::parse_server("--dns", word)).collect::<Result<_>>()?,
        forwarder: None,
        host_network: args.host_network,
    };
    request.validate()?;
    Ok(request)
}

fn addresses(args: &Etc, common: &Common) -> Result<Vec<IpAddr>> {
    let Some(namespace) = &args.address_of else {
        return args.address.iter().map(|word| parse_address("--address", word)).collect();
    };
    let place = Place::parse(namespace, common)?;
    netns::open_other(&place.path)?;
    Ok(place.addresses())
}

pub fn run(args: &Etc, common: &Common) -> Outcome {
    let request = request(args)?;
    let own = addresses(args, common)?;
    request.write(&own)?;
    let names: Vec<&str> = request.names().collect();
    let line =
        format!("{}: {}", drydock_core::text::escape(&request.dir.to_string_lossy()), names.join(", "));
    print::result(
        common,
        &json!({ "directory": request.dir, "files": names, "addresses": own }),
        &line,
        &[],
    )?;
    Ok(0)
}
