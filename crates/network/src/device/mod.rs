//! Network devices of the host that go into another network namespace: they leave here and come up there, with the
//! addresses that were given to them for good. Guide: `ip link set DEVICE netns … name …; ip addr add …; ip link set … up`.
//!
//! Nothing of it is journalled, and nothing brings a device back when the namespace ends: then the kernel moves hardware
//! to the first network namespace, under the name that it had inside, and deletes virtual devices
//! (network_namespaces(7)). Routes over a device do not survive its leaving.

mod addresses;
mod apply;

use crate::name::{MAX_INTERFACE, check_interface};
use crate::{STAGE, netns};
use drydock_core::{Ctx, Error, Explain, Object, Result, Step, text};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// At the end of a name inside: the first number that makes a name which is free there.
const NUMBER: &str = "%d";

/// Which devices, by their names here, and their names there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The host's name of each, and its name in the namespace; one that ends in `%d` gets a number there.
    pub devices: BTreeMap<String, String>,
}

/// A checked [`Request`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    request: Request,
}

/// What is in the namespace now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The host's name of each device, and the name that it has in the namespace.
    pub devices: BTreeMap<String, String>,
}

/// A device goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Its name here.
    pub host: String,
    /// Its name there.
    pub inside: String,
}

/// The part of a configuration that an error is about: a JSON pointer (RFC 6901).
pub(crate) fn place(host: &str) -> String {
    let name = host.replace('~', "~0").replace('/', "~1");
    format!("/linux/netDevices/{}", text::shorten(&text::escape(&name), 40))
}

impl Request {
    /// Checks everything that can be checked without the kernel.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] for what is no name, and for one name inside for two devices.
    pub fn validate(&self) -> Result<Plan> {
        let mut taken = BTreeSet::new();
        for (host, inside) in &self.devices {
            check_interface(&place(host), host)?;
            check_inside(&format!("{}/name", place(host)), inside)?;
            if !inside.ends_with(NUMBER) && !taken.insert(inside) {
                return Err(Error::bad_input(
                    place(host),
                    format!("a second device would be '{inside}' inside (allowed: a name for each)"),
                ));
            }
        }
        Ok(Plan { request: self.clone() })
    }
}

/// A name, or the beginning of one that gets a number.
fn check_inside(object: &str, name: &str) -> Result<()> {
    let fits = name.len() <= MAX_INTERFACE;
    match name.strip_suffix(NUMBER).filter(|start| fits && !start.is_empty()) {
        // With the number it is none of the names that mean something else: `lo%d` is `lo0`.
        Some(start) => check_interface(object, &format!("{start}0")),
        None => check_interface(object, name),
    }
}

impl Plan {
    /// Whether any device goes.
    pub fn is_empty(&self) -> bool {
        self.request.devices.is_empty()
    }

    /// What was asked.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// What will be done, in order.
    pub fn steps(&self) -> Vec<Move> {
        let one = |(host, inside): (&String, &String)| Move { host: host.clone(), inside: inside.clone() };
        self.request.devices.iter().map(one).collect()
    }

    /// Moves the devices into the network namespace at `path` (`/proc/PID/ns/net`, `/run/netns/NAME`). All is checked
    /// before the first one moves; if one fails, those that have moved come back.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] for a device that is not here and for a name that is taken there; else the
    /// kernel's.
    pub fn apply(&self, ctx: &Ctx<'_>, path: &Path) -> Result<Report> {
        if self.is_empty() {
            return Ok(Report::default());
        }
        let target = netns::open_other(path).map_err(|e| e.in_stage(STAGE))?;
        apply::run(self, ctx, &target).map_err(|e| e.in_stage(STAGE))
    }
}

impl Explain for Move {
    fn explain(&self) -> Step {
        Step {
            stage: STAGE.into(),
            call: format!(
                "RTM_NEWLINK {} netns PID name {}; there: RTM_NEWADDR for each permanent global address, RTM_SETLINK up",
                self.host, self.inside
            ),
            why: "a device is in one network namespace at a time; its permanent addresses go with it".into(),
            man: "ip-link(8)".into(),
            undo: Some(
                "none: when the namespace ends, the kernel moves hardware back and deletes virtual devices"
                    .into(),
            ),
        }
    }

    fn leaves(&self) -> Option<Object> {
        None
    }
}

#[cfg(test)]
mod tests;
