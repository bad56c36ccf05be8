//! What the parent and the container's first process say to each other, over one SOCK_SEQPACKET socket pair.
//!
//! ```text
//!   parent (host)                              child (the new namespaces)
//!   -------------                              --------------------------
//!   clone3 ------------------------------------> starts
//!   writes id maps, or explains: network first
//!        Begin --------------------------------> only if the plan says so
//!   attaches the network                         mounts, pivot, host name
//!                <-------------------- Step      with --explain and --timings
//!                <-------------------- Hosts     with files of its own: its copy of /etc/hosts, as a descriptor
//!                <-------------------- Mounted   with hooks before the pivot
//!   prestart, createRuntime hooks
//!        Hooks --------------------------------> createContainer hooks, pivot
//!                <-------------------- Console   with -t: the pty's master, as a descriptor
//!                <-------------------- SeccompNotify   a filter that asks is about to be installed: take its descriptor
//!                <-------------------- Ready     everything but the last is done
//!   writes state "running"
//!        Settle -------------------------------> only of `create`: clears its tie to the parent
//!                <-------------------- Settled   the parent ends; `start` comes by the socket of the module `waiting`
//!        Exec, or Start -----------------------> startContainer hooks, drops privileges, execve
//!                <-------------------- (closed)  by the exec: the command runs
//!                <-------------------- Failed    or why it does not
//! ```
//! Where the pid namespace is another's (`exec`, or a bundle that joins one), the child prepares outside of it, and nobody in
//! there ever sees a process that has more privileges than its command:
//! ```text
//!                <-------------------- Entered   only with new namespaces: they are there
//!                (as above, up to Ready, which is not said)
//!                <-------------------- Born      privileges are dropped; a child of it is inside, and it ends
//!        Begin --------------------------------> the one inside: session, controlling terminal
//!                <-------------------- Ready     and on as above
//! ```
//! Each side takes the other's end closing as its death: a child whose parent dies before `Exec` ends itself.

use drydock_core::error::CallExt;
use drydock_core::{Error, Kind, Result, Step};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The longest message; longer step texts are cut by their maker.
const MAX_MESSAGE: usize = 32 * 1024;

/// One message, in either direction (see the table above).
#[derive(Debug, Serialize, Deserialize)]
pub enum Message {
    /// The child may begin; with a user namespace, an id-mapped view of the root comes with this message.
    Begin,
    /// The child is prepared up to the point of no return.
    Ready,
    /// The child shall execute the command.
    Exec,
    /// The container's copy of /etc/hosts comes with this message: its addresses are not in it yet.
    Hosts,
    /// Everything is mounted, and the host's root is still there: the moment of the hooks.
    Mounted,
    /// The runtime's hooks have run; the child's own get this state.
    Hooks {
        /// The container's state, as JSON.
        state: String,
    },
    /// The parent is going to end; the child waits for a start by its socket.
    Settle,
    /// The child does not depend on the parent any more.
    Settled,
    /// The child shall carry out its last hooks and execute the command.
    Start {
        /// The container's state, as JSON.
        state: String,
    },
    /// To a child that waits for its start: somebody wants to open its namespaces who may not while it is hidden.
    Show,
    /// It can be seen until this conversation ends.
    Shown,
    /// The pty's master comes with this message.
    Console,
    /// The child is about to install a filter with a notify descriptor, which the parent takes from it.
    SeccompNotify,
    /// A step was done: how long it took in nanoseconds, and whether it went well.
    Step {
        /// The step.
        step: Step,
        /// Nanoseconds.
        took: u64,
        /// False when it failed.
        ok: bool,
    },
    /// The namespaces are there that a process must have before it is given anything: one that prepares outside of the
    /// container's pid namespace makes them itself.
    Entered,
    /// The command's process is in the container: a child of the parent's, which waits for `Begin`. A courier's pidfd comes
    /// with this message.
    Born {
        /// Its pid on the host.
        pid: i32,
    },
    /// The child failed and exits.
    Failed {
        /// The whole sentence.
        sentence: String,
        /// The remedy.
        hint: Option<String>,
        /// 0 bad input, 1 not found, 2 cannot execute, 3 failed.
        kind: u8,
        /// errno, if a call failed.
        errno: Option<i32>,
    },
}

/// One end of the conversation.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
}

impl Channel {
    /// Both ends. Each process drops the other's after the clone.
    ///
    /// # Errors
    /// socketpair(2)'s.
    pub fn pair() -> Result<(Self, Self)> {
        let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .call(|| "socketpair(AF_UNIX, SOCK_SEQPACKET|SOCK_CLOEXEC)")?;
        Ok((Self { socket: a }, Self { socket: b }))
    }

    /// Sends a message.
    ///
    /// # Errors
    /// EPIPE when the other side has gone.
    pub fn send(&self, message: &Message) -> Result<()> {
        self.send_with(message, None)
    }

    /// Sends a message with a descriptor.
    ///
    /// # Errors
    /// As [`Channel::send`].
    pub fn send_with(&self, message: &Message, fd: Option<BorrowedFd<'_>>) -> Result<()> {
        let bytes = serde_json::to_vec(message).map_err(|e| Error::failed("handshake", e.to_string()))?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
        if !fds.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(&fds));
        }
        sendmsg(&self.socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)
            .map(drop)
            .call(|| "sendmsg(handshake)")
    }

    /// Waits for a message; `None` when the other side has closed (its exec, or its end).
    ///
    /// # Errors
    /// recvmsg(2)'s, or a message that is not ours.
    pub fn receive(&self) -> Result<Option<(Message, Option<OwnedFd>)>> {
        let mut bytes = vec![0u8; MAX_MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = loop {
            let mut slices = [IoSliceMut::new(&mut bytes)];
            match recvmsg(&self.socket, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::CONNRESET) => return Ok(None),
                other => break other.call(|| "recvmsg(handshake)")?,
            }
        };
        if got.bytes == 0 {
            return Ok(None);
        }
        let mut passed = None;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                passed = fds.last().or(passed);
            }
        }
        let message = serde_json::from_slice(bytes.get(..got.bytes).unwrap_or(&[]))
            .map_err(|e| Error::failed("handshake", format!("a message that is not ours: {e}")))?;
        Ok(Some((message, passed)))
    }
}

impl From<OwnedFd> for Channel {
    fn from(socket: OwnedFd) -> Self {
        Self { socket }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// An error as a message.
pub fn failure(error: &Error) -> Message {
    let kind = match error.kind() {
        Kind::BadInput => 0,
        Kind::NotFound => 1,
        Kind::CannotExecute => 2,
        Kind::Failed | Kind::Hook => 3,
    };
    let cut = |text: &str| drydock_core::text::shorten(text, 4000);
    Message::Failed {
        sentence: cut(&error.sentence()),
        hint: error.remedy().map(cut),
        kind,
        errno: error.errno(),
    }
}

/// The error that a `Failed` message stands for.
pub fn failed(sentence: String, hint: Option<String>, kind: u8) -> Error {
    let kind = match kind {
        0 => Kind::BadInput,
        1 => Kind::NotFound,
        2 => Kind::CannotExecute,
        _ => Kind::Failed,
    };
    let error = Error::told(sentence).with_kind(kind);
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_descriptors_cross() {
        let (a, b) = Channel::pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        a.send_with(&Message::Console, Some(file.as_fd())).unwrap();
        a.send(&failure(&Error::failed("x", "broke").hint("mend it"))).unwrap();
        drop(a);
        let (message, fd) = b.receive().unwrap().unwrap();
        assert!(matches!(message, Message::Console) && fd.is_some());
        match b.receive().unwrap().unwrap() {
            (Message::Failed { sentence, hint, kind, .. }, None) => {
                let error = failed(sentence, hint, kind);
                assert_eq!(error.to_string(), "x: broke; hint: mend it");
            }
            other => panic!("{other:?}"),
        }
        assert!(b.receive().unwrap().is_none());
    }
}
