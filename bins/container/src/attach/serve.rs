//! The supervisor's side: its loop, the log, and what clients send.

use super::{LOG, MAX_FRAME, at_socket, frame, next_frame};
use crate::parent::Running;
use crate::supervisor::Outputs;
use drydock_core::error::CallExt;
use drydock_core::exit::Ended;
use drydock_core::{Error, Result};
use drydock_supervise::log::{Stream, Writer};
use drydock_supervise::{Blocked, Supervised, terminal};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

/// A client that does not read this much is dropped: the container must not wait for it.
const MAX_PENDING: usize = 1 << 20;
/// Input that waits for a container which does not read: beyond it no client is read from.
const MAX_INPUT: usize = 1 << 16;
/// What may still be taken from an output when the container has ended: a process that outlives it may write for ever.
const MAX_LAST_WORDS: usize = 1 << 20;

/// One attached client.
struct Client {
    stream: UnixStream,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    open: bool,
}

struct Supervisor {
    log: Writer,
    listener: UnixListener,
    clients: Vec<Client>,
    outputs: Outputs,
    open: [bool; 2],
    input: Input,
}

/// What clients have sent and the container has not read yet.
#[derive(Default)]
struct Input {
    waiting: Vec<u8>,
    ends: bool,
}

/// Keeps the log, serves clients and forwards signals until the container's first process ends.
///
/// # Errors
/// When the log or the socket cannot be made; poll(2)'s.
pub fn serve(running: &Running, outputs: Outputs, signals: &Blocked) -> Result<Ended> {
    let log = Writer::create(&running.dir().join(LOG))?;
    let listener = at_socket(running.dir(), |path| UnixListener::bind(path)).call(|| "bind(attach)")?;
    listener.set_nonblocking(true).call(|| "fcntl(O_NONBLOCK)")?;
    for fd in [Some(&outputs.out), outputs.err.as_ref(), outputs.input.as_ref()].into_iter().flatten() {
        let flags = nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK);
        nix::fcntl::fcntl(fd, flags).call(|| "fcntl(F_SETFL, O_NONBLOCK)")?;
    }
    let open = [true, outputs.err.is_some()];
    let mut supervisor =
        Supervisor { log, listener, clients: Vec::new(), outputs, open, input: Input::default() };
    let mut supervised = Supervised::new(&running.child, running.is_pid_1);
    loop {
        let ended = supervisor.turn(running, signals)?;
        for (signal, _) in signals.take() {
            supervised.forward(signal);
        }
        if ended {
            supervisor.finish();
            return supervised.finish();
        }
    }
}

impl Supervisor {
    /// Waits for something to do and does it; true when the container's first process has ended.
    fn turn(&mut self, running: &Running, signals: &Blocked) -> Result<bool> {
        let ready = {
            let mut fds = vec![
                PollFd::new(running.child.pidfd.as_fd(), PollFlags::POLLIN),
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
            ];
            // A closed output would be ready for ever: it is polled with nothing to wait for on a quiet descriptor.
            let err = self.outputs.err.as_ref().unwrap_or(&self.outputs.out);
            for (fd, open) in [&self.outputs.out, err].into_iter().zip(self.open) {
                fds.push(if open {
                    PollFd::new(fd.as_fd(), PollFlags::POLLIN)
                } else {
                    PollFd::new(running.child.pidfd.as_fd(), PollFlags::empty())
                });
            }
            let (input, wanted) = match &self.outputs.input {
                Some(input) if !self.input.waiting.is_empty() => (input.as_fd(), PollFlags::POLLOUT),
                _ => (running.child.pidfd.as_fd(), PollFlags::empty()),
            };
            fds.push(PollFd::new(input, wanted));
            let read =
                if self.input.waiting.len() < MAX_INPUT { PollFlags::POLLIN } else { PollFlags::empty() };
            for client in &self.clients {
                let write = if client.outgoing.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
                fds.push(PollFd::new(client.stream.as_fd(), read | write));
            }
            match nix::poll::poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(e) => return Err(Error::call("poll(supervisor)", e)),
            }
            fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty())).collect::<Vec<PollFlags>>()
        };
        let is = |i: usize| ready.get(i).is_some_and(|events| !events.is_empty());
        let gone = |i: usize| ready.get(i).is_some_and(|events| events.contains(PollFlags::POLLHUP));
        if is(3) && self.open[0] {
            self.take_output(Stream::Stdout);
        }
        if is(4) && self.open[1] {
            self.take_output(Stream::Stderr);
        }
        for (i, client) in self.clients.iter_mut().enumerate() {
            if is(6 + i) {
                client.turn(&self.outputs, &mut self.input, gone(6 + i));
            }
        }
        self.input.pass_on(&mut self.outputs.input);
        self.clients.retain(|client| client.open);
        if is(2) {
            self.accept();
        }
        Ok(is(0))
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            // The socket is in a 0700 directory; whoever gets here may read the container's output.
            if stream.set_nonblocking(true).is_ok() && self.clients.len() < 64 {
                self.clients.push(Client { stream, incoming: Vec::new(), outgoing: Vec::new(), open: true });
            }
        }
    }

    /// Reads once from an output; how much came.
    fn take_output(&mut self, stream: Stream) -> usize {
        let mut buffer = [0u8; 16 * 1024];
        let (index, fd) = match (stream, &self.outputs.err) {
            (Stream::Stderr, Some(err)) => (1, err),
            _ => (0, &self.outputs.out),
        };
        match rustix::io::read(fd, &mut buffer) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => 0,
            Ok(0) | Err(_) => {
                self.open[index] = false;
                0
            }
            Ok(n) => {
                let bytes = buffer.get(..n).unwrap_or(&[]);
                self.log.take(stream, bytes);
                let kind = if stream == Stream::Stderr { 2 } else { 1 };
                for client in &mut self.clients {
                    client.queue(kind, bytes);
                }
                self.clients.retain(|client| client.open);
                n
            }
        }
    }

    /// The container has ended: what is still in the pipes goes into the log and to the clients.
    fn finish(&mut self) {
        for (stream, index) in [(Stream::Stdout, 0), (Stream::Stderr, 1)] {
            let mut taken = 0;
            while self.open[index] && taken < MAX_LAST_WORDS {
                match self.take_output(stream) {
                    0 => break,
                    n => taken += n,
                }
            }
        }
        self.log.finish();
        for client in &mut self.clients {
            client.flush();
        }
    }
}

impl Client {
    fn queue(&mut self, kind: u8, bytes: &[u8]) {
        if self.outgoing.len() + bytes.len() > MAX_PENDING {
            self.open = false;
            return;
        }
        frame(&mut self.outgoing, kind, bytes);
        self.flush();
    }

    fn flush(&mut self) {
        while !self.outgoing.is_empty() {
            match self.stream.write(&self.outgoing) {
                Ok(n) => drop(self.outgoing.drain(..n)),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.open = false;
                    return;
                }
            }
        }
    }

    /// `gone`: the client has closed; what it has sent before is read all the same.
    fn turn(&mut self, outputs: &Outputs, input: &mut Input, gone: bool) {
        self.flush();
        if input.waiting.len() >= MAX_INPUT && !gone {
            return;
        }
        let mut buffer = [0u8; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.open = false,
            Ok(n) => {
                self.incoming.extend_from_slice(buffer.get(..n).unwrap_or(&[]));
                while let Some((kind, bytes)) = next_frame(&mut self.incoming) {
                    obey(kind, &bytes, outputs, input);
                }
                self.open &= self.incoming.len() <= MAX_FRAME + 5;
            }
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => self.open = false,
        }
    }
}

fn obey(kind: u8, bytes: &[u8], outputs: &Outputs, input: &mut Input) {
    match (kind, &outputs.input) {
        (0, Some(_)) if !input.ends => input.waiting.extend_from_slice(bytes),
        (3, Some(_)) if outputs.err.is_some() => input.ends = true,
        // What a terminal's user would type to end the input.
        (3, Some(_)) => input.waiting.push(4),
        (4, Some(terminal)) => {
            if let [r1, r2, c1, c2] = bytes {
                let (rows, columns) = (u16::from_be_bytes([*r1, *r2]), u16::from_be_bytes([*c1, *c2]));
                terminal::set_window_size(terminal.as_fd(), rows, columns);
            }
        }
        _ => {}
    }
}

impl Input {
    /// Writes what the container takes now, and closes its input when that was all.
    fn pass_on(&mut self, to: &mut Option<OwnedFd>) {
        if let Some(fd) = &to {
            while !self.waiting.is_empty() {
                match rustix::io::write(fd, &self.waiting) {
                    Ok(n) => drop(self.waiting.drain(..n)),
                    Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return,
                    // Nobody reads any more.
                    Err(_) => self.waiting.clear(),
                }
            }
        }
        if self.ends {
            *to = None;
        }
    }
}
