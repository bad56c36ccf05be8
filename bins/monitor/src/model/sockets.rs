//! Which network namespace a socket is in: it stays there when its process goes elsewhere, and keeps the namespace alive.
//!
//! The socket is borrowed for the moment of the question. Source: pidfd_getfd(2), netdevice(7), `SIOCGSKNS`.

use drydock_core::sys::ns;
use rustix::fs::fstat;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The namespaces of sockets of process `pid`, given as (descriptor, the socket's inode number); `None` for one that
/// could not be asked. `asked` remembers sockets that several processes share.
pub fn namespaces(
    pid: u32,
    sockets: &[(u32, u64)],
    asked: &mut BTreeMap<u64, Option<u64>>,
) -> Vec<(u32, Option<u64>)> {
    if sockets.is_empty() {
        return Vec::new();
    }
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let process = process.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let mut ask = |(fd, inode): &(u32, u64)| {
        if let Some(known @ Some(_)) = asked.get(inode) {
            return (*fd, *known);
        }
        let found = process.as_ref().and_then(|process| namespace(process.as_fd(), *fd, *inode));
        asked.insert(*inode, found);
        (*fd, found)
    };
    sockets.iter().map(&mut ask).collect()
}

fn namespace(process: BorrowedFd<'_>, fd: u32, inode: u64) -> Option<u64> {
    let socket = pidfd_getfd(process, i32::try_from(fd).ok()?, PidfdGetfdFlags::empty()).ok()?;
    // The number may have become another socket meanwhile.
    if fstat(&socket).ok()?.st_ino != inode {
        return None;
    }
    Some(fstat(ns::of_socket(socket.as_fd()).ok()?).ok()?.st_ino)
}

/// The network namespace of descriptor `fd` of process `pid`, opened.
pub fn open(pid: u32, fd: u32) -> Option<OwnedFd> {
    let process = pidfd_open(Pid::from_raw(i32::try_from(pid).ok()?)?, PidfdFlags::empty()).ok()?;
    let socket = pidfd_getfd(process, i32::try_from(fd).ok()?, PidfdGetfdFlags::empty()).ok()?;
    ns::of_socket(socket.as_fd()).ok()
}
