//! A talk with `criu swrk`: a request, what criu tells on the way, the answer. Source: criu.org/RPC, criu's rpc.proto.

use super::wire::{Message, Value, fields};
use drydock_core::error::CallExt;
use drydock_core::exit::Ended;
use drydock_core::sys::fd::keep_over_exec;
use drydock_core::sys::process::clone_child;
use drydock_core::{Error, Result, text};
use drydock_supervise::exec::Command;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketFlags, SocketType,
    recvmsg, send, socketpair,
};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;

/// What is asked of criu, by rpc.proto's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Write the processes into files.
    Dump = 1,
    /// Bring them back.
    Restore = 2,
    /// Write the memory only.
    PreDump = 4,
}

const NOTIFY: i64 = 6;

impl Kind {
    /// criu's word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Kind::Dump => "dump",
            Kind::Restore => "restore",
            Kind::PreDump => "pre-dump",
        }
    }
}

/// What criu tells: it waits until it has been heard.
#[derive(Debug)]
pub struct Notice {
    /// Its name: `setup-namespaces`, `post-restore`, `orphan-pts-master` and others.
    pub name: String,
    /// The first process's pid, where it is known.
    pub pid: Option<i32>,
    /// A descriptor that comes with it.
    pub fd: Option<OwnedFd>,
}

/// A request.
pub struct Request<'a> {
    /// criu.
    pub program: &'a Path,
    /// What is to be done.
    pub kind: Kind,
    /// How: rpc.proto's criu_opts.
    pub options: Message,
    /// Descriptors that criu's process is to have.
    pub inherited: &'a [OwnedFd],
    /// Where criu's log is.
    pub log: &'a Path,
}

impl Request<'_> {
    /// Has it done. `before` is what criu's process does first, `hear` takes what criu tells.
    ///
    /// # Errors
    /// When criu fails: with what its log says. `hear`'s, after which criu gives up.
    pub fn run(
        self,
        before: impl FnOnce() -> Result<()>,
        mut hear: impl FnMut(Notice) -> Result<()>,
    ) -> Result<()> {
        let (here, there) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .call(|| "socketpair(AF_UNIX, SOCK_SEQPACKET|SOCK_CLOEXEC)")?;
        let mut here = Some(here);
        let name = self.program.to_string_lossy().into_owned();
        let env = crate::hooks::own_environment();
        let command = Command::new(&[name, "swrk".into(), there.as_raw_fd().to_string()], &env)?;
        let child = clone_child(0, None, || {
            drop(here.take());
            let kept = self.inherited.iter().map(AsRawFd::as_raw_fd).chain([there.as_raw_fd()]);
            let ready = keep(kept).and_then(|()| before());
            let error = ready.err().unwrap_or_else(|| command.exec());
            drydock_cli::report("container", &error.into())
        })
        .call(|| "clone3(CLONE_PIDFD)")?;
        drop(there);
        let here = here.ok_or_else(|| Error::failed("criu", "has gone"))?;
        let answered = self.talk(&here, &mut hear);
        drop(here);
        let ended = drydock_supervise::wait_exit(&child)?;
        match (answered?, ended) {
            (Some(true), _) => Ok(()),
            (Some(false), _) => Err(self.failed("failed")),
            (None, Ended::Exited(code)) => Err(self.failed(&format!("exit code {code}"))),
            (None, Ended::Signaled(signal)) => Err(self.failed(&format!("signal {signal}"))),
        }
    }

    /// The request, and all that comes until the answer: whether criu has done it. `None` when it ends without one.
    fn talk(&self, socket: &OwnedFd, hear: &mut dyn FnMut(Notice) -> Result<()>) -> Result<Option<bool>> {
        let mut request = Message::default();
        request.number(1, self.kind as i64);
        request.message(2, &self.options);
        say(socket, &request)?;
        while let Some((bytes, fd)) = receive(socket)? {
            let strange = || Error::failed("criu", "an answer makes no sense");
            let all = fields(&bytes).ok_or_else(strange)?;
            let number = |wanted: u64| {
                all.iter().find_map(|(field, value)| match value {
                    Value::Number(n) if *field == wanted => Some(*n),
                    _ => None,
                })
            };
            if number(1) != Some(NOTIFY.cast_unsigned()) {
                return Ok(Some(number(1) == Some(self.kind as u64) && number(2) == Some(1)));
            }
            let heard = notice(&all, fd).map_or_else(|| Err(strange()), &mut *hear);
            let mut reply = Message::default();
            reply.number(1, NOTIFY);
            // Without success criu undoes what it has done.
            reply.number(3, i64::from(heard.is_ok()));
            let said = say(socket, &reply);
            heard.and(said)?;
        }
        Ok(None)
    }

    fn failed(&self, problem: &str) -> Error {
        let said = std::fs::read(self.log).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let line = reason(&said).map(|line| format!(": {}", text::shorten(&text::escape(line), 300)));
        Error::failed(format!("criu {}", self.kind.word()), format!("{problem}{}", line.unwrap_or_default()))
            .hint(format!("all of it is in {}", text::escape(&self.log.to_string_lossy())))
    }
}

/// The line of a log that says why: the last error but for those that only say that there was one.
fn reason(log: &str) -> Option<&str> {
    let errors = || log.lines().filter(|line| line.contains("Error")).map(str::trim);
    let telling = |line: &&str| {
        let line = line.to_ascii_lowercase();
        !line.ends_with("failed.") && !line.contains("failed with -1") && !line.contains("diag module")
    };
    errors().rfind(telling).or_else(|| errors().next_back())
}

fn keep(mut descriptors: impl Iterator<Item = RawFd>) -> Result<()> {
    descriptors.try_for_each(|raw| keep_over_exec(raw).call(|| format!("fcntl({raw}, F_SETFD, 0)")))
}

fn say(socket: &OwnedFd, message: &Message) -> Result<()> {
    send(socket, message.bytes(), SendFlags::NOSIGNAL).map(drop).call(|| "send(criu)")
}

fn receive(socket: &OwnedFd) -> Result<Option<(Vec<u8>, Option<OwnedFd>)>> {
    let mut bytes = vec![0u8; 1 << 16];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = loop {
        let mut slices = [IoSliceMut::new(&mut bytes)];
        match recvmsg(socket, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            other => break other.call(|| "recvmsg(criu)")?,
        }
    };
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    bytes.truncate(got.bytes);
    Ok((got.bytes > 0).then_some((bytes, fd)))
}

fn notice(all: &[(u64, Value<'_>)], fd: Option<OwnedFd>) -> Option<Notice> {
    let inner = all.iter().find_map(|(field, value)| match value {
        Value::Bytes(bytes) if *field == 5 => fields(bytes),
        _ => None,
    })?;
    let mut notice = Notice { name: String::new(), pid: None, fd };
    for (field, value) in inner {
        match (field, value) {
            (1, Value::Bytes(name)) => notice.name = String::from_utf8_lossy(name).into_owned(),
            (2, Value::Number(pid)) => notice.pid = i32::try_from(pid).ok().filter(|pid| *pid > 0),
            _ => {}
        }
    }
    Some(notice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons() {
        let log = "(0.1) Error (criu/sockets.c:209): sockets: Diag module missing (-2)\n\
                   (0.2) Error (criu/tty.c:1): tty: no such thing\n(0.3) Error (criu/cr-dump.c:1635): Dump files (pid: 7) failed with -1\n(0.3) Error (criu/cr-dump.c:2053): Dumping FAILED.\n";
        assert_eq!(reason(log), Some("(0.2) Error (criu/tty.c:1): tty: no such thing"));
        assert_eq!(reason("(0) Error (x): Dumping FAILED."), Some("(0) Error (x): Dumping FAILED."));
        assert_eq!(reason("fine"), None);
    }

    #[test]
    fn notices() {
        let mut inner = Message::default();
        inner.text(1, "post-restore");
        inner.number(2, 77);
        let mut outer = Message::default();
        outer.number(1, NOTIFY);
        outer.number(2, 1);
        outer.message(5, &inner);
        let read = notice(&fields(outer.bytes()).unwrap(), None).unwrap();
        assert_eq!((read.name.as_str(), read.pid), ("post-restore", Some(77)));
        assert!(notice(&[], None).is_none());
    }
}
