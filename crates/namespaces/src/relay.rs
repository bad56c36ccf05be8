//! Parent and child talk over one socket until the child execs: the child says that it is ready or what failed, the
//! parent says go on. The exec closes the child's end, which tells the parent that the command runs.

use drydock_core::error::CallExt;
use drydock_core::{Error, Kind, Result};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

/// The longest message that is believed.
const MAX: u64 = 16 << 10;
const READY: u8 = b'R';
const GO: u8 = b'G';
const ERROR: u8 = b'E';
const TERMINAL: u8 = b'T';
const BORN: u8 = b'B';

/// One end.
#[derive(Debug)]
pub struct End(UnixStream);

/// Both ends, closed by exec.
///
/// # Errors
/// socketpair(2)'s.
pub fn pair() -> Result<(End, End)> {
    UnixStream::pair().map(|(a, b)| (End(a), End(b))).call(|| "socketpair(AF_UNIX, SOCK_STREAM)")
}

impl AsRawFd for End {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// What the other side said.
#[derive(Debug)]
pub enum Said {
    /// Child: its namespaces exist.
    Ready,
    /// Parent: go on.
    Go,
    /// Child: the master of its pseudoterminal.
    Terminal(OwnedFd),
    /// Child: it has made a process for the parent, a sibling of its own, with this pid.
    Born(i32),
    /// Nothing more: it has executed its command, or ended.
    Closed,
}

#[derive(Serialize, Deserialize)]
struct Failure {
    code: u8,
    sentence: String,
    hint: Option<String>,
}

impl End {
    /// Child: the namespaces exist.
    ///
    /// # Errors
    /// When the parent is gone.
    pub fn ready(&self) -> Result<()> {
        self.send(&[READY])
    }

    /// Parent: go on.
    ///
    /// # Errors
    /// When the child is gone.
    pub fn go(&self) -> Result<()> {
        self.send(&[GO])
    }

    /// Child: this is the master of its pseudoterminal.
    ///
    /// # Errors
    /// sendmsg(2)'s.
    pub fn terminal(&self, master: BorrowedFd<'_>) -> Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [master];
        control.push(SendAncillaryMessage::ScmRights(&fds));
        let tag = [IoSlice::new(&[TERMINAL])];
        sendmsg(&self.0, &tag, &mut control, SendFlags::NOSIGNAL).map(drop).call(|| "sendmsg(terminal)")
    }

    /// Child: the parent has another child now.
    ///
    /// # Errors
    /// When the parent is gone.
    pub fn born(&self, pid: i32) -> Result<()> {
        let [a, b, c, d] = pid.to_ne_bytes();
        self.send(&[BORN, a, b, c, d])
    }

    /// Child: this failed. A parent that is gone hears nothing.
    pub fn fail(&self, error: &Error) {
        let failure = Failure {
            code: error.exit_code(),
            sentence: error.sentence(),
            hint: error.remedy().map(str::to_string),
        };
        let mut message = vec![ERROR];
        message.extend(serde_json::to_vec(&failure).unwrap_or_default());
        let _ = self.send(&message);
    }

    /// Says nothing more: the other side hears that this end is closed.
    pub fn shut(&self) {
        let _ = self.0.shutdown(std::net::Shutdown::Write);
    }

    /// Whether the other end is closed, or has said something that was not asked for. Does not wait.
    pub fn is_shut(&self) -> bool {
        use nix::poll::{PollFd, PollFlags, PollTimeout};
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        nix::poll::poll(&mut fds, PollTimeout::ZERO).is_ok_and(|n| n > 0)
    }

    fn send(&self, message: &[u8]) -> Result<()> {
        (&self.0).write_all(message).call(|| "write(socket of parent and child)")
    }

    /// Waits for the next word.
    ///
    /// # Errors
    /// The child's error, as it reported it; read(2)'s.
    pub fn hear(&self) -> Result<Said> {
        let (tag, passed) = self.tag()?;
        match (tag, passed) {
            (None, _) => Ok(Said::Closed),
            (Some(READY), _) => Ok(Said::Ready),
            (Some(GO), _) => Ok(Said::Go),
            (Some(TERMINAL), Some(master)) => Ok(Said::Terminal(master)),
            (Some(BORN), _) => {
                let mut pid = [0u8; 4];
                (&self.0).read_exact(&mut pid).call(|| "read(socket of parent and child)")?;
                Ok(Said::Born(i32::from_ne_bytes(pid)))
            }
            _ => Err(self.failure()),
        }
    }

    /// One byte, and the descriptor that came with it. No byte: the other side has closed.
    fn tag(&self) -> Result<(Option<u8>, Option<OwnedFd>)> {
        let mut tag = [0u8; 1];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = loop {
            let mut slices = [IoSliceMut::new(&mut tag)];
            match recvmsg(&self.0, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::CONNRESET) => return Ok((None, None)),
                other => break other.call(|| "recvmsg(socket of parent and child)")?.bytes,
            }
        };
        let passed = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        Ok((tag.first().copied().filter(|_| got > 0), passed))
    }

    fn failure(&self) -> Error {
        let mut text = Vec::new();
        let read = (&self.0).take(MAX).read_to_end(&mut text);
        let failure = read.ok().and_then(|_| serde_json::from_slice::<Failure>(&text).ok());
        let Some(failure) = failure else { return Error::failed("child", "ended without saying why") };
        let kind = match failure.code {
            drydock_core::exit::USAGE => Kind::BadInput,
            drydock_core::exit::NOT_FOUND => Kind::NotFound,
            drydock_core::exit::CANNOT_EXECUTE => Kind::CannotExecute,
            _ => Kind::Failed,
        };
        let error = Error::told(failure.sentence).with_kind(kind);
        failure.hint.map_or(error.clone(), |hint| error.hint(hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_crosses_whole() {
        let (a, b) = pair().unwrap();
        a.ready().unwrap();
        let error = Error::failed("x", "not found in y").with_kind(Kind::NotFound).hint("z");
        a.fail(&error);
        drop(a);
        assert!(matches!(b.hear(), Ok(Said::Ready)));
        let heard = b.hear().unwrap_err();
        assert_eq!((heard.to_string(), heard.exit_code()), (error.to_string(), 127));
        assert!(matches!(b.hear(), Ok(Said::Closed)));
    }

    #[test]
    fn a_terminal_crosses() {
        let (a, b) = pair().unwrap();
        a.terminal(std::fs::File::open("/dev/null").unwrap().as_fd()).unwrap();
        a.go().unwrap();
        assert!(matches!(b.hear(), Ok(Said::Terminal(_))));
        assert!(matches!(b.hear(), Ok(Said::Go)));
    }
}
