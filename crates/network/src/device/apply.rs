//! Moving the devices of [`super::Plan`], and giving them back when one cannot go.

use super::addresses::{self, Kept};
use super::{Move, NUMBER, Plan, Report, place};
use crate::netlink::Batch;
use crate::netns;
use crate::rtnl::{Link, Rtnl};
use drydock_core::error::CallExt;
use drydock_core::{Ctx, Error, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// A device that may go, as it is here.
struct Device {
    /// The host's name in the request.
    asked: String,
    step: Move,
    link: Link,
    addresses: Vec<Kept>,
}

/// Both namespaces.
struct Way<'a> {
    home: OwnedFd,
    here: Rtnl,
    target: BorrowedFd<'a>,
    there: Rtnl,
    /// What was there before, by index.
    strangers: BTreeSet<u32>,
}

pub(super) fn run(plan: &Plan, ctx: &Ctx<'_>, target: &OwnedFd) -> Result<Report> {
    let home = netns::open(Path::new("/proc/thread-self/ns/net"))?;
    let here = Rtnl::here()?;
    let there = socket_in(target.as_fd(), home.as_fd())?;
    let links = there.links()?;
    let devices = look(plan, &here, &there, &links)?;
    let strangers = links.iter().map(|link| link.index).collect();
    let way = Way { home, here, target: target.as_fd(), there, strangers };
    let mut report = Report::default();
    for (done, device) in devices.iter().enumerate() {
        if let Err(error) = ctx.perform(&device.step, |_| device.go(&way)) {
            let begun = devices.iter().take(done + 1).rev();
            // The last one may have got no further than half of the way.
            return Err(begun.fold(error, |error, device| match device.come_back(&way) {
                Ok(()) => error,
                Err(e) => error.hint(format!("{} could not be given back: {e}", device.step.host)),
            }));
        }
        report.devices.insert(device.asked.clone(), device.step.inside.clone());
    }
    Ok(report)
}

/// A socket in the namespace `target`. The calling thread goes there and comes back: a socket stays where it was opened.
fn socket_in(target: BorrowedFd<'_>, home: BorrowedFd<'_>) -> Result<Rtnl> {
    let enter = |namespace| move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network));
    enter(target)
        .call(|| "setns(namespace, CLONE_NEWNET)")
        .map_err(|e| e.hint("this needs CAP_SYS_ADMIN: run as root"))?;
    let socket = Rtnl::here();
    enter(home).call(|| "setns(own namespace, CLONE_NEWNET)")?;
    socket
}

/// Finds every device and settles its name there. Nothing has moved yet.
fn look(plan: &Plan, here: &Rtnl, there: &Rtnl, links: &[Link]) -> Result<Vec<Device>> {
    let mut taken: BTreeSet<String> = links.iter().map(|link| link.name.clone()).collect();
    let asked = plan.steps();
    taken.extend(asked.iter().map(|step| step.inside.clone()));
    let mut devices = Vec::new();
    for mut step in asked {
        let missing = || {
            Error::bad_input(
                place(&step.host),
                format!("no network device '{}' on the host (allowed: one of `ip link`)", step.host),
            )
        };
        let link = here.link(&step.host)?.ok_or_else(missing)?;
        if let Some(start) = step.inside.strip_suffix(NUMBER) {
            step.inside = numbered(start, &taken)?;
            taken.insert(step.inside.clone());
        } else if there.link(&step.inside)?.is_some() {
            return Err(Error::bad_input(
                place(&step.host),
                format!(
                    "the container has a network device '{}' already (allowed: a free name)",
                    step.inside
                ),
            ));
        }
        let addresses = addresses::of(here, link.index)?;
        devices.push(Device { asked: step.host.clone(), step, link, addresses });
    }
    Ok(devices)
}

/// The first free name, as the kernel numbers devices.
fn numbered(start: &str, taken: &BTreeSet<String>) -> Result<String> {
    let mut names = (0..=taken.len()).map(|number| format!("{start}{number}"));
    let free = names.find(|name| !taken.contains(name));
    free.filter(|name| name.len() <= crate::name::MAX_INTERFACE)
        .ok_or_else(|| Error::failed(format!("{start}{NUMBER}"), "no name of up to 15 bytes is free"))
}

impl Device {
    fn go(&self, way: &Way<'_>) -> Result<()> {
        let Move { host, inside } = &self.step;
        let mut batch = Batch::new();
        batch.move_link(self.link.index, inside, way.target);
        way.here.execute(&batch).map_err(|e| match e.errno() {
            Some(nix::libc::EINVAL) => e.hint(format!("the kernel does not let {host} leave its namespace")),
            _ => e,
        })?;
        let link = way.there.link(inside)?.ok_or_else(|| Error::failed(inside, "vanished on its way"))?;
        self.restore(&way.there, link.index, host, inside, true)
    }

    /// The addresses, and up: a device that has moved has lost both, and nothing else.
    fn restore(&self, rtnl: &Rtnl, index: u32, from: &str, to: &str, up: bool) -> Result<()> {
        let mut batch = Batch::new();
        for address in &self.addresses {
            address.add_to(&mut batch, index, from, to);
        }
        if up {
            batch.set_up(to);
        }
        rtnl.execute(&batch).map_err(|e| match e.errno() {
            Some(nix::libc::EACCES | nix::libc::EOPNOTSUPP) => {
                e.hint("IPv6 is off in the namespace: net.ipv6.conf.all.disable_ipv6")
            }
            _ => e,
        })
    }

    /// Back to where it was and as it was, but for the routes over it.
    fn come_back(&self, way: &Way<'_>) -> Result<()> {
        let name = &self.link.name;
        if way.here.link_by_index(self.link.index)?.is_some_and(|link| link.name == *name) {
            return Ok(());
        }
        // The kernel moves first and renames then: it may be there under either name.
        let mine = |name: &String| {
            let found = way.there.link(name).ok().flatten();
            found.filter(|link| !way.strangers.contains(&link.index))
        };
        let Some(link) = mine(&self.step.inside).or_else(|| mine(name)) else { return Ok(()) };
        let mut batch = Batch::new();
        batch.move_link(link.index, name, way.home.as_fd());
        way.there.execute(&batch)?;
        let back = way.here.link(name)?.ok_or_else(|| Error::failed(name, "vanished on its way back"))?;
        self.restore(&way.here, back.index, name, name, self.link.up)
    }
}
