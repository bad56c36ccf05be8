//! A created container waits for its start: its first process listens on a socket in the container's state directory.
//!
//! A socket leads nowhere in the file system: it is all that the waiting process keeps of the host. Who can reach it is
//! whoever may enter the state directory.

use crate::handshake::Channel;
use drydock_core::Result;
use drydock_core::error::CallExt;
use drydock_supervise::Blocked;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen, socket_with,
};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

/// The socket's name in the state directory.
const NAME: &str = "start";

/// Makes the socket. To be called in the parent, before the clone: the child inherits it.
///
/// # Errors
/// bind(2)'s.
pub fn open(dir: &Path) -> Result<OwnedFd> {
    let socket = new()?;
    let (_dir, address) = address(dir)?;
    bind(&socket, &address).call(|| format!("bind({:?})", dir.join(NAME)))?;
    listen(&socket, 1).call(|| "listen(start)")?;
    Ok(socket)
}

/// Waits for the next one who wants to start the container. A signal whose default action it is ends the process instead.
///
/// # Errors
/// accept4(2)'s.
pub fn accept(socket: &OwnedFd, signals: Option<&Blocked>) -> Result<Channel> {
    loop {
        if let Some(signals) = signals {
            let mut fds = [
                PollFd::new(socket.as_fd(), PollFlags::POLLIN),
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            ];
            let polled = nix::poll::poll(&mut fds, PollTimeout::NONE);
            if let Some((signal, _)) = signals.take().into_iter().find(|(signal, _)| ends(*signal)) {
                drydock_core::sys::process::exit_now(u8::try_from(128 + signal).unwrap_or(u8::MAX));
            }
            // Should poll be refused (a filter of the container's may be in force), accept waits just as well.
            let refused = polled.is_err_and(|errno| errno != nix::errno::Errno::EINTR);
            if !refused && !fds.first().is_some_and(|fd| fd.any().unwrap_or(true)) {
                continue;
            }
        }
        match accept_with(socket, SocketFlags::CLOEXEC) {
            Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => {}
            other => return other.map(Channel::from).call(|| "accept4(start)"),
        }
    }
}

/// Whether a process without a handler ends by a signal. Source: signal(7).
fn ends(signal: i32) -> bool {
    use nix::libc::{SIGCHLD, SIGCONT, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGWINCH};
    !matches!(signal, SIGCHLD | SIGCONT | SIGTSTP | SIGTTIN | SIGTTOU | SIGURG | SIGWINCH)
}

/// Reaches the waiting process of a container.
///
/// # Errors
/// ECONNREFUSED and ENOENT when nobody waits there.
pub fn reach(dir: &Path) -> Result<Channel> {
    let socket = new()?;
    let (_dir, address) = address(dir)?;
    connect(&socket, &address).call(|| format!("connect({:?})", dir.join(NAME)))?;
    Ok(Channel::from(socket))
}

fn new() -> Result<OwnedFd> {
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .call(|| "socket(AF_UNIX, SOCK_SEQPACKET|SOCK_CLOEXEC)")
}

/// An address holds 107 bytes, a state directory's name may be longer: by way of its descriptor.
fn address(dir: &Path) -> Result<(std::fs::File, SocketAddrUnix)> {
    let open = std::fs::File::open(dir).call(|| format!("open({dir:?}, O_RDONLY)"))?;
    let path = format!("/proc/self/fd/{}/{NAME}", open.as_raw_fd());
    let address = SocketAddrUnix::new(path).call(|| "socket address")?;
    Ok((open, address))
}
