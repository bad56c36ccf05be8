//! What the kernel has: links, addresses, routes, neighbours, bridge ports, our nft rules.

use crate::netlink::Protocol;
use crate::netns;
use crate::nft::{Nft, Rule};
use crate::publish::Transport;
use crate::rtnl::{Address, Link, Neighbour, Route, Rtnl};
use drydock_core::Result;
use serde::Serialize;
use std::os::fd::BorrowedFd;

/// A port of a bridge.
#[derive(Clone, Debug, Serialize)]
pub struct Port {
    /// The bridge.
    pub bridge: String,
    /// The port.
    pub port: String,
    /// `forwarding`, `disabled`, …
    pub state: &'static str,
    /// `drydock:OWNER`.
    pub alias: Option<String>,
}

/// One network namespace as the kernel has it.
#[derive(Clone, Debug, Serialize)]
pub struct View {
    /// Links by index.
    pub links: Vec<Link>,
    /// Addresses.
    pub addresses: Vec<Address>,
    /// Routes to other hosts.
    pub routes: Vec<Route>,
    /// Neighbours that are known.
    pub neighbours: Vec<Neighbour>,
    /// Bridge ports.
    pub ports: Vec<Port>,
    /// Rules of `table inet drydock`.
    pub nft: Vec<Rule>,
}

/// Looks at the caller's namespace, or at another.
///
/// # Errors
/// The kernel's; EPERM when the namespace may not be entered.
pub fn view(namespace: Option<BorrowedFd<'_>>) -> Result<View> {
    let (rtnl, nft) = match namespace {
        None => (Rtnl::here()?, Nft::here().ok()),
        Some(fd) => netns::within(fd, || Ok((Rtnl::here()?, Nft::here().ok())))?,
    };
    let links = rtnl.links()?;
    let name_of = |index: u32| links.iter().find(|l| l.index == index).map(|l| l.name.clone());
    let ports = links.iter().filter_map(|l| {
        let state = l.port_state?;
        Some(Port { bridge: name_of(l.master?)?, port: l.name.clone(), state, alias: l.alias.clone() })
    });
    let ports = ports.collect();
    let mut routes = rtnl.routes()?;
    routes.retain(Route::is_ordinary);
    Ok(View {
        addresses: rtnl.addresses()?,
        neighbours: rtnl
            .neighbours()?
            .into_iter()
            .filter(|n| n.mac.is_some() && n.state != "noarp")
            .collect(),
        // Listing rules needs CAP_NET_ADMIN; without it the rest is still worth showing.
        nft: nft.and_then(|nft| nft.rules().ok()).unwrap_or_default(),
        routes,
        ports,
        links,
    })
}

/// A netlink socket in a namespace, for callers that need more than [`view`].
///
/// # Errors
/// As [`netns::socket`].
pub fn rtnl_in(namespace: BorrowedFd<'_>) -> Result<Rtnl> {
    netns::socket(namespace, Protocol::Route).map(Rtnl::over)
}

/// The process that has a port of the host open, as far as the caller may see.
pub(crate) fn listener(transport: Transport, port: u16) -> Option<(i32, String)> {
    let inode =
        ["", "6"].iter().find_map(|v| socket_inode(&format!("/proc/net/{}{v}", transport.name()), port))?;
    let wanted = format!("socket:[{inode}]");
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        let Ok(fds) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        let has = fds
            .flatten()
            .any(|fd| std::fs::read_link(fd.path()).is_ok_and(|t| t.as_os_str() == wanted.as_str()));
        if has {
            let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            return Some((pid, drydock_core::text::escape(comm.trim())));
        }
    }
    None
}

/// The inode of the socket on this local port: column 10 of /proc/net/tcp and udp (proc(5)).
fn socket_inode(path: &str, port: u16) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let wanted = format!(":{port:04X}");
    let line = text.lines().skip(1).find(|line| {
        let mut columns = line.split_whitespace();
        let local = columns.nth(1).is_some_and(|c| c.ends_with(&wanted));
        let listening = columns.nth(1).is_some_and(|state| state == "0A" || state == "07");
        local && listening
    })?;
    line.split_whitespace().nth(9)?.parse().ok()
}
