//! Id-mapped mounts of what only the child can see: its own mounts inside the root. It makes the copy and hands it to a
//! helper outside of its user namespace, which maps it.

use super::map;
use crate::action::IdMap;
use drydock_core::error::CallExt;
use drydock_core::sys::process::clone_child;
use drydock_core::{Error, Result};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// The child's end of the conversation. The helper ends with it.
#[derive(Debug)]
pub(crate) struct Helper(UnixStream);

/// Starts a helper that knows these maps. It is nobody's child to wait for: the one in between is waited for here.
///
/// # Errors
/// clone(2)'s.
pub(crate) fn start(known: &[(IdMap, OwnedFd)]) -> Result<Helper> {
    let (ours, theirs) = UnixStream::pair().call(|| "socketpair(AF_UNIX, SOCK_STREAM)")?;
    let mut ours = Some(ours);
    let between = clone_child(0, None, || {
        ours = None;
        clone_child(0, None, || {
            serve(theirs, known);
            0
        })
        .map_or(1, |_| 0)
    })
    .call(|| "clone3()")?;
    let status = waitid(WaitId::PidFd(between.pidfd.as_fd()), WaitIdOptions::EXITED)
        .call(|| "waitid(P_PIDFD, WEXITED)")?;
    match (status.and_then(|s| s.exit_status()), ours) {
        (Some(0), Some(ours)) => Ok(Helper(ours)),
        _ => Err(Error::failed("id-mapped mount", "the process that makes it could not be started")),
    }
}

/// One mount after another, until the other end is closed. Answers 0 or the errno.
fn serve(mut socket: UnixStream, known: &[(IdMap, OwnedFd)]) {
    while let Ok(Some((which, tree))) = receive(&socket) {
        let answer = match (known.get(usize::from(which)), tree) {
            (Some((wanted, namespace)), Some(tree)) => {
                let result = map(&tree, Some(namespace.as_fd()), wanted);
                result.err().map_or(0, |e| e.errno().unwrap_or(nix::libc::EIO))
            }
            _ => nix::libc::EINVAL,
        };
        if socket.write_all(&answer.to_ne_bytes()).is_err() {
            return;
        }
    }
}

fn receive(socket: &UnixStream) -> Result<Option<(u8, Option<OwnedFd>)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut which = [0u8];
    let read = recvmsg(socket, &mut [IoSliceMut::new(&mut which)], &mut control, RecvFlags::CMSG_CLOEXEC)
        .call(|| "recvmsg()")?;
    let tree = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok((read.bytes > 0).then_some((u8::from_ne_bytes(which), tree)))
}

impl Helper {
    /// Has a detached mount mapped by the maps that are `which` in the helper's list.
    ///
    /// # Errors
    /// mount_setattr(2)'s, from the helper.
    pub(crate) fn map(&mut self, tree: BorrowedFd<'_>, which: u8) -> Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [tree];
        control.push(SendAncillaryMessage::ScmRights(&fds));
        sendmsg(&self.0, &[IoSlice::new(&[which])], &mut control, SendFlags::NOSIGNAL)
            .call(|| "sendmsg(SCM_RIGHTS)")?;
        let mut answer = [0u8; 4];
        self.0.read_exact(&mut answer).call(|| "recv()")?;
        match i32::from_ne_bytes(answer) {
            0 => Ok(()),
            errno => Err(super::explain(Error::call(
                "mount_setattr(tree, MOUNT_ATTR_IDMAP)",
                std::io::Error::from_raw_os_error(errno),
            ))),
        }
    }
}
