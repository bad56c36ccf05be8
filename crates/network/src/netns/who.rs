//! Which processes are in a namespace, and which namespace a process is in.

use super::{list, open, within};
use crate::rtnl::Rtnl;
use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use serde::Serialize;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The pids in the namespace of this inode, ascending. Processes that the caller may not look into are left out.
///
/// # Errors
/// When /proc cannot be read.
pub fn pids(inode: u64) -> Result<Vec<i32>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir("/proc").call(|| "opendir(\"/proc\")")? {
        let name = entry.call(|| "readdir(\"/proc\")")?.file_name();
        let Some(pid) = name.to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        if std::fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|m| m.ino() == inode) {
            all.push(pid);
        }
    }
    all.sort_unstable();
    Ok(all)
}

/// What a process's network namespace is called.
#[derive(Clone, Debug, Serialize)]
pub struct Identity {
    /// The process.
    pub pid: i32,
    /// Inode of its network namespace.
    pub inode: u64,
    /// Names under /run/netns.
    pub names: Vec<String>,
    /// It is the caller's own.
    pub host: bool,
    /// Host ends of its veth pairs: how to find an anonymous namespace.
    pub peers: Vec<String>,
    /// Owners, from the aliases of those host ends.
    pub owners: Vec<String>,
}

/// Names the network namespace of a process.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] if there is no such process.
pub fn identify(pid: i32) -> Result<Identity> {
    let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
    let inode = std::fs::metadata(&path).map(|m| m.ino()).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Error::bad_input(format!("pid {pid}"), "no such process"),
        _ => Error::call(format!("stat({path:?})"), e),
    })?;
    let names = list()?.into_iter().filter(|n| n.inode == Some(inode)).map(|n| n.name).collect();
    let host = super::own_inode()? == inode;
    let (peers, owners) = if host { (Vec::new(), Vec::new()) } else { peers(&path).unwrap_or_default() };
    Ok(Identity { pid, inode, names, host, peers, owners })
}

/// Both ends of a pair know the other's index; only if both agree it is the same pair.
fn peers(path: &Path) -> Result<(Vec<String>, Vec<String>)> {
    let fd = open(path)?;
    let inside = within(fd.as_fd(), || Rtnl::here()?.links())?;
    let host = Rtnl::here()?.links()?;
    let is_veth = |kind: &Option<String>| kind.as_deref() == Some("veth");
    let pairs = inside.iter().filter(|l| is_veth(&l.kind)).filter_map(|l| {
        host.iter().find(|h| is_veth(&h.kind) && l.peer == Some(h.index) && h.peer == Some(l.index))
    });
    let pairs: Vec<_> = pairs.collect();
    let names = pairs.iter().map(|h| h.name.clone()).collect();
    let owner = |alias: &Option<String>| alias.as_deref()?.strip_prefix("drydock:").map(str::to_string);
    Ok((names, pairs.iter().filter_map(|h| owner(&h.alias)).collect()))
}
