//! Giving a container's terminal away: its master goes to whoever listens on `--console-socket`, and the descriptor of its
//! first process to whoever listens on `--pidfd-socket`.

use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, connect, sendmsg, socket_with,
};
use rustix::termios::Winsize;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// How long a receiver may take for what we send.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connects to an AF_UNIX stream socket, before anything is made.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] naming the option, when nobody listens there.
pub fn connect_to(option: &str, path: &Path) -> Result<OwnedFd> {
    let bad = |why: String| {
        let shown = drydock_core::text::escape(&path.to_string_lossy());
        Error::bad_input(option, format!("'{shown}': {why} (allowed: an AF_UNIX stream socket that listens)"))
    };
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .call(|| "socket(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC)")?;
    // Who listens and takes nothing must not keep us for ever.
    set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE)).call(|| "setsockopt(SO_SNDTIMEO)")?;
    let address = SocketAddrUnix::new(path).map_err(|e| bad(e.to_string()))?;
    connect(&socket, &address).map_err(|e| bad(drydock_core::error::errno_text(e.raw_os_error())))?;
    Ok(socket)
}

/// Sends one descriptor with a name.
///
/// # Errors
/// sendmsg(2)'s.
pub fn send(socket: &OwnedFd, fd: BorrowedFd<'_>, name: &str) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(socket, &[IoSlice::new(name.as_bytes())], &mut control, SendFlags::NOSIGNAL)
        .map(drop)
        .call(|| format!("sendmsg({name:?}, SCM_RIGHTS)"))
}

/// Sets a terminal's size.
///
/// # Errors
/// ioctl(2)'s.
pub fn resize(terminal: &OwnedFd, (rows, columns): (u16, u16)) -> Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(terminal.as_fd(), size)
        .call(|| format!("ioctl(TIOCSWINSZ, {rows} rows, {columns} columns)"))
}
