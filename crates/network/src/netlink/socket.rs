//! A netlink socket: the kernel answers within the send itself, so nothing here ever waits.

use super::parse::u32_at;
use super::{Batch, DUMP, REQUEST, messages};
use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};
use std::io;
use std::os::fd::OwnedFd;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const FLAG_DUMP_INTERRUPTED: u16 = 0x10;
/// A dump that raced with changes, or overflowed the receive buffer, is asked for again.
const RETRIES: usize = 5;

/// Which part of the kernel a socket talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Links, addresses, routes: rtnetlink(7).
    Route,
    /// nf_tables.
    Netfilter,
}

/// One message of an answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// nlmsg_type.
    pub kind: u16,
    /// What follows the message's header.
    pub payload: Vec<u8>,
}

/// A netlink socket. It stays in the network namespace in which it was opened.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// socket(2)'s: EMFILE, EPROTONOSUPPORT.
    pub fn open(protocol: Protocol) -> io::Result<Self> {
        let number = match protocol {
            Protocol::Route => None,
            Protocol::Netfilter => Some(netlink::NETFILTER),
        };
        let fd =
            rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, number)?;
        Ok(Self { fd })
    }

    /// Opens one for the calling thread's namespace, with the error named.
    ///
    /// # Errors
    /// As [`Socket::open`].
    pub fn here(protocol: Protocol) -> Result<Self> {
        Self::open(protocol).call(|| format!("socket(AF_NETLINK, SOCK_RAW, {protocol:?})"))
    }

    /// Opens one that hears a multicast group of the protocol, in the calling thread's namespace.
    ///
    /// # Errors
    /// As [`Socket::open`]; bind(2)'s.
    pub fn listening(protocol: Protocol, group: u32) -> Result<Self> {
        let socket = Self::here(protocol)?;
        let groups = 1u32.checked_shl(group.wrapping_sub(1)).unwrap_or(0);
        rustix::net::bind(&socket.fd, &netlink::SocketAddrNetlink::new(0, groups))
            .call(|| format!("bind(AF_NETLINK, group {group})"))?;
        Ok(socket)
    }

    /// What is queued, without waiting.
    ///
    /// # Errors
    /// recvfrom(2)'s.
    pub fn receive_queued(&self, mut visit: impl FnMut(&[u8])) -> Result<()> {
        let received = self.receive(|datagram| {
            visit(datagram);
            true
        });
        received.call(|| "recvfrom(AF_NETLINK)")
    }

    fn send(&self, bytes: &[u8]) -> Result<()> {
        loop {
            match rustix::net::send(&self.fd, bytes, SendFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(Error::call("sendto(AF_NETLINK)", e)),
            }
        }
    }

    /// Everything that is queued, without waiting; `visit` gets each datagram and says whether to go on.
    fn receive(&self, mut visit: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
        let mut buffer = vec![0u8; 64 << 10];
        loop {
            match rustix::net::recv(&self.fd, buffer.as_mut_slice(), RecvFlags::DONTWAIT) {
                Ok((0, _)) | Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Ok((length, _)) => {
                    if !visit(buffer.get(..length).unwrap_or(&[])) {
                        return Ok(());
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Sends a batch in one call and checks the acknowledgement of each message.
    ///
    /// # Errors
    /// The first failure that its message does not allow, with the message's name and object.
    pub fn execute(&self, batch: &Batch) -> Result<()> {
        self.execute_with(batch).map(drop)
    }

    /// [`Socket::execute`], with the messages that came besides acknowledgements.
    ///
    /// # Errors
    /// As there.
    pub fn execute_with(&self, batch: &Batch) -> Result<Vec<Reply>> {
        if batch.too_long() {
            let e = io::Error::from_raw_os_error(nix::libc::EMSGSIZE);
            return Err(Error::call("netlink attribute of more than 65531 bytes", e));
        }
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        self.send(batch.bytes())?;
        let mut answers: Vec<Option<i32>> = vec![None; batch.labels().len()];
        let mut replies = Vec::new();
        let mut whole_failed = None;
        self.receive(|datagram| {
            for message in messages(datagram) {
                if message.kind != NLMSG_ERROR {
                    replies.push(Reply { kind: message.kind, payload: message.payload.to_vec() });
                    continue;
                }
                let errno = u32_at(message.payload, 0).map_or(0, |e| e.cast_signed().wrapping_neg());
                match usize::try_from(message.sequence).ok().and_then(|i| answers.get_mut(i)) {
                    // The first failure of a message is the one to tell.
                    Some(slot) if slot.is_none_or(|old| old == 0) => *slot = Some(errno),
                    Some(_) => {}
                    None => whole_failed = Some(errno),
                }
            }
            true
        })
        .call(|| "recvfrom(AF_NETLINK)")?;
        for (label, answer) in batch.labels().iter().zip(&answers) {
            let errno = match answer {
                Some(0) => continue,
                Some(errno) if label.allow.contains(errno) => continue,
                Some(errno) => *errno,
                // A marker that nobody complained about, or a message after one that stopped the batch.
                None if !label.acked => continue,
                None => whole_failed.unwrap_or(nix::libc::ENOBUFS),
            };
            return Err(named(label.what, &label.object, errno));
        }
        Ok(replies)
    }

    /// Asks for one object: the first answer, or `None` if the kernel says that it does not exist.
    ///
    /// # Errors
    /// Any other failure.
    pub fn get(&self, batch: &Batch) -> Result<Option<Reply>> {
        match self.execute_with(batch) {
            Ok(replies) => Ok(replies.into_iter().next()),
            Err(e) if matches!(e.errno(), Some(nix::libc::ENODEV | nix::libc::ENOENT)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Asks for all objects of a kind: `fixed` and attributes filter where the kernel supports it.
    ///
    /// # Errors
    /// The kernel's, or EINTR when the list kept changing.
    pub fn dump(&self, what: &'static str, kind: u16, body: &[u8]) -> Result<Vec<Reply>> {
        let mut last = nix::libc::EINTR;
        for _ in 0..RETRIES {
            let mut request = Batch::new();
            request.add(what, "", kind, REQUEST | DUMP, &[], false, |m| {
                m.fixed(body);
            });
            self.send(request.bytes())?;
            let mut replies = Vec::new();
            let mut outcome = None;
            let mut interrupted = false;
            let received = self.receive(|datagram| {
                for message in messages(datagram) {
                    interrupted |= message.flags & FLAG_DUMP_INTERRUPTED != 0;
                    match message.kind {
                        NLMSG_DONE => outcome = Some(0),
                        NLMSG_ERROR => {
                            outcome = Some(
                                u32_at(message.payload, 0).map_or(0, |e| e.cast_signed().wrapping_neg()),
                            );
                        }
                        kind => replies.push(Reply { kind, payload: message.payload.to_vec() }),
                    }
                }
                outcome.is_none()
            });
            match (received, outcome) {
                (Ok(()), Some(0)) if !interrupted => return Ok(replies),
                (Ok(()), Some(0)) => {}
                (Ok(()), Some(errno)) => return Err(named(what, "", errno)),
                (Ok(()), None) => last = nix::libc::ENOBUFS,
                (Err(e), _) if e.raw_os_error() == Some(nix::libc::ENOBUFS) => last = nix::libc::ENOBUFS,
                (Err(e), _) => return Err(Error::call("recvfrom(AF_NETLINK)", e)),
            }
            // What a broken dump left in the queue is not the next one's answer.
            let _ = self.receive(|_| true);
        }
        Err(named(what, "", last))
    }
}

fn named(what: &str, object: &str, errno: i32) -> Error {
    let call = if object.is_empty() { what.to_string() } else { format!("{what} {object}") };
    let error = Error::call(call, io::Error::from_raw_os_error(errno));
    match errno {
        nix::libc::EPERM => error.hint(
            "this needs CAP_NET_ADMIN in the user namespace that owns the network namespace: run as root",
        ),
        nix::libc::EOPNOTSUPP => error.hint("the kernel lacks this kind of object: see `container doctor`"),
        _ => error,
    }
}
