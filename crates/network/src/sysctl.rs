//! Sysctls under /proc/sys/net, which show the calling thread's network namespace. Source: proc_sys(5), the kernel's
//! Documentation/networking/ip-sysctl.rst.

use crate::state::{Store, SysctlUse};
use crate::step::NetStep;
use drydock_core::error::CallExt;
use drydock_core::{Ctx, Error, Result};
use std::io::Write;
use std::net::IpAddr;

/// Forwarding of IPv4.
pub const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
/// Forwarding of IPv6.
pub const IP6_FORWARD: &str = "/proc/sys/net/ipv6/conf/all/forwarding";

/// Reads a value, without its newline.
///
/// # Errors
/// open(2)'s and read(2)'s.
pub fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(path).call(|| format!("read({path:?})")).map(|v| v.trim().to_string())
}

/// Writes a value.
///
/// # Errors
/// open(2)'s and write(2)'s; EROFS where /proc/sys is read-only.
pub fn write(path: &str, value: &str) -> Result<()> {
    let open = std::fs::OpenOptions::new().write(true).open(path);
    let written = open.and_then(|mut file| file.write_all(value.as_bytes()));
    written.call(|| format!("write({path:?}, {value:?})")).map_err(|e| match e.errno() {
        Some(nix::libc::EACCES | nix::libc::EPERM) => e.hint("run as root"),
        Some(nix::libc::EROFS) => {
            e.hint("/proc/sys is mounted read-only here: remount it, or run on the host")
        }
        _ => e,
    })
}

/// Turns forwarding on for the family of `address`, for `owner`; remembers the value before the first user.
///
/// # Errors
/// When the sysctl cannot be read or written.
pub fn enable_forwarding(store: &mut Store, owner: &str, address: IpAddr, ctx: &Ctx<'_>) -> Result<()> {
    let path = if address.is_ipv4() { IP_FORWARD } else { IP6_FORWARD };
    enable(store, owner, path, ctx)
}

/// Lets packets from 127.0.0.1 out through `interface` and their answers in. The table's guard rule keeps others out.
///
/// # Errors
/// As [`enable_forwarding`].
pub fn enable_route_localnet(store: &mut Store, owner: &str, interface: &str, ctx: &Ctx<'_>) -> Result<()> {
    enable(store, owner, &format!("/proc/sys/net/ipv4/conf/{interface}/route_localnet"), ctx)
}

fn enable(store: &mut Store, owner: &str, path: &str, ctx: &Ctx<'_>) -> Result<()> {
    let now = read(path)?;
    let known = store.host.sysctls.get_mut(path);
    let previous = match known {
        Some(entry) => {
            if !entry.users.iter().any(|u| u == owner) {
                entry.users.push(owner.to_string());
            } else if now == "1" {
                return Ok(());
            }
            entry.previous.clone()
        }
        // It was on before anybody of ours came: not ours to turn off.
        None if now == "1" => return Ok(()),
        None => {
            let users = vec![owner.to_string()];
            let entry = SysctlUse { previous: now.clone(), set: "1".into(), users };
            store.host.sysctls.insert(path.to_string(), entry);
            now.clone()
        }
    };
    ctx.perform(&NetStep::Forwarding { path: path.into(), previous: Some(previous) }, |_| {
        store.save_host()?;
        if now == "1" { Ok(()) } else { write(path, "1") }
    })
}

/// Takes `owner` off every sysctl and restores those that nobody needs any more, unless somebody else has changed them
/// meanwhile. The caller saves the store.
///
/// # Errors
/// When a value cannot be written; an interface's sysctl that is gone with it is well.
pub fn release(store: &mut Store, owner: &str) -> Result<bool> {
    let mut changed = false;
    let mut failure: Option<Error> = None;
    store.host.sysctls.retain(|path, entry| {
        let before = entry.users.len();
        entry.users.retain(|u| u != owner);
        changed |= entry.users.len() != before;
        if !entry.users.is_empty() {
            return true;
        }
        changed = true;
        let ours = read(path).is_ok_and(|now| now == entry.set);
        match if ours { write(path, &entry.previous) } else { Ok(()) } {
            Ok(()) => false,
            Err(e) => {
                failure = Some(e);
                true
            }
        }
    });
    match failure {
        Some(e) => Err(e),
        None => Ok(changed),
    }
}

/// No router advertisements, no redirects, no answers for others: a neighbour must not give a container another gateway.
/// Called by a thread that stands in the container's namespace; what is missing (a kernel without IPv6) is left out.
pub fn harden(interface: &str) {
    set(
        interface,
        &[
            ("ipv6", "accept_ra", "0"),
            ("ipv6", "autoconf", "0"),
            ("ipv6", "accept_redirects", "0"),
            ("ipv6", "proxy_ndp", "0"),
            // The link-local address follows from the link-layer one: what the port may send from is known.
            ("ipv6", "addr_gen_mode", "0"),
            ("ipv4", "accept_redirects", "0"),
            ("ipv4", "send_redirects", "0"),
            ("ipv4", "proxy_arp", "0"),
            ("ipv4", "arp_announce", "2"),
        ],
    );
}

/// [`harden`] for the host's end, which also answers only for its own addresses, to senders that are reached through it.
pub fn harden_host(interface: &str) {
    harden(interface);
    set(interface, &[("ipv4", "rp_filter", "1"), ("ipv4", "arp_ignore", "1")]);
}

fn set(interface: &str, values: &[(&str, &str, &str)]) {
    for (family, key, value) in values {
        // Best effort by design: the default of a forwarding or IPv6-less kernel is as safe.
        let path = format!("/proc/sys/net/{family}/conf/{interface}/{key}");
        let _ = write(&path, value);
    }
}

/// The kernel has IPv6, and it is not turned off for the calling thread's namespace.
pub fn has_ipv6() -> bool {
    read("/proc/sys/net/ipv6/conf/all/disable_ipv6").is_ok_and(|off| off == "0")
}
