//! `netsetup limit`.

use crate::args::{Common, Limit};
use crate::owner::Owner;
use crate::place::Place;
use crate::print;
use drydock_cli::Outcome;
use drydock_core::{Error, Result};
use drydock_network::limit::{Direction, Report, Request};
use drydock_network::rate;

pub fn run(args: &Limit, common: &Common) -> Outcome {
    let (namespace, off) = target(args)?;
    let place = Place::parse(namespace, common)?;
    let egress = Direction {
        rate: args.egress.as_deref().map(|r| rate::rate("--egress", r)).transpose()?,
        burst: args.burst.as_deref().map(|b| rate::size("--burst", b)).transpose()?,
        latency: args.latency.as_deref().map(|t| rate::time("--latency", t)).transpose()?,
        delay: args.delay.as_deref().map(|t| time("--delay", t)).transpose()?,
        jitter: args.jitter.as_deref().map(|t| time("--jitter", t)).transpose()?,
        loss: args.loss.as_deref().map(|l| rate::percent("--loss", l)).transpose()?,
    };
    let rate = args.ingress.as_deref().map(|r| rate::rate("--ingress", r)).transpose()?;
    let mut request = Request {
        netns: place.path.clone(),
        shown: place.shown(),
        interface: args.interface.clone(),
        // Burst and latency go with a rate; delay and loss are of what the namespace sends.
        ingress: match rate {
            Some(_) => {
                Direction { rate, burst: egress.burst, latency: egress.latency, ..Direction::default() }
            }
            None => Direction::default(),
        },
        egress,
    };
    if rate.is_some() && request.egress.rate.is_none() {
        request.egress = Direction { burst: None, latency: None, ..egress };
    }
    let asked = request.egress != Direction::default() || request.ingress != Direction::default();
    if off && asked {
        return Err(Error::bad_input("off", "goes with no other limit (allowed: limit NS off)").into());
    }
    let owner = Owner::new(common, || place.default_owner())?;
    let report = match (off, asked) {
        (true, _) => request.off(&owner.ctx())?,
        (_, true) => request.set(&owner.ctx())?,
        _ => request.look()?,
    };
    print::result(common, &report, &line(&place, &report, off || asked), &[])?;
    Ok(0)
}

/// `limit NS`, `limit NS off`, and the other way round.
fn target(args: &Limit) -> Result<(&str, bool)> {
    match (args.namespace.as_str(), args.off.as_deref()) {
        (namespace, None) if !args.remove => Ok((namespace, false)),
        (namespace, None) => Ok((namespace, true)),
        (namespace, Some("off")) => Ok((namespace, true)),
        ("off", Some(namespace)) => Ok((namespace, true)),
        (_, Some(other)) => {
            let shown = drydock_core::text::escape(other);
            Err(Error::bad_input(
                format!("'{shown}'"),
                "is not understood (allowed: limit NS [off] [--egress RATE] …)",
            ))
        }
    }
}

/// Zero takes a delay away.
fn time(option: &str, word: &str) -> Result<std::time::Duration> {
    match word {
        "0" | "0ms" | "0s" | "0us" => Ok(std::time::Duration::ZERO),
        _ => rate::time(option, word),
    }
}

fn line(place: &Place, report: &Report, changed: bool) -> String {
    let already = if report.already && changed { " already" } else { "" };
    format!(
        "'{}' {}{already}: egress {}; ingress {} (on {})",
        place.shown(),
        report.interface,
        report.egress,
        report.ingress,
        report.host_link
    )
}
