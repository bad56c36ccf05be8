//! The supervisor's loop, and the conversation with `container attach`, over a socket in the state directory.
//!
//! A frame is one byte of kind, four of length (big endian), then the bytes. To the client: 1 output, 2 error output.
//! To the supervisor: 0 input, 3 end of input, 4 window size (rows, columns: two bytes each).

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
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// The log's name in the state directory.
pub const LOG: &str = "log";
/// The socket's name in the state directory.
pub const SOCKET: &str = "attach";
/// A client that does not read this much is dropped: the container must not wait for it.
const MAX_PENDING: usize = 1 << 20;
/// Longer frames are not ours.
const MAX_FRAME: usize = 1 << 16;

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
}

/// Keeps the log, serves clients and forwards signals until the container's first process ends.
///
/// # Errors
/// When the log or the socket cannot be made; poll(2)'s.
pub fn serve(running: &Running, outputs: Outputs, signals: &Blocked) -> Result<Ended> {
    let log = Writer::create(&running.dir().join(LOG))?;
    let listener = at_socket(running.dir(), |path| UnixListener::bind(path)).call(|| "bind(attach)")?;
    listener.set_nonblocking(true).call(|| "fcntl(O_NONBLOCK)")?;
    for fd in [Some(&outputs.out), outputs.err.as_ref()].into_iter().flatten() {
        let flags = nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK);
        nix::fcntl::fcntl(fd, flags).call(|| "fcntl(F_SETFL, O_NONBLOCK)")?;
    }
    let open = [true, outputs.err.is_some()];
    let mut supervisor = Supervisor { log, listener, clients: Vec::new(), outputs, open };
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

/// Binds or connects without the length limit of socket addresses: through a descriptor of the directory.
pub fn at_socket<T>(dir: &Path, act: impl FnOnce(&Path) -> std::io::Result<T>) -> std::io::Result<T> {
    let dir = std::fs::File::open(dir)?;
    act(&Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(SOCKET))
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
            for client in &self.clients {
                let write = if client.outgoing.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
                fds.push(PollFd::new(client.stream.as_fd(), PollFlags::POLLIN | write));
            }
            match nix::poll::poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(e) => return Err(Error::call("poll(supervisor)", e)),
            }
            fds.iter().map(|fd| fd.any().unwrap_or(false)).collect::<Vec<bool>>()
        };
        let is = |i: usize| ready.get(i).copied().unwrap_or(false);
        if is(3) && self.open[0] {
            self.take_output(Stream::Stdout);
        }
        if is(4) && self.open[1] {
            self.take_output(Stream::Stderr);
        }
        for (i, client) in self.clients.iter_mut().enumerate() {
            if is(5 + i) {
                client.turn(&mut self.outputs);
            }
        }
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

    /// Reads once from an output; false when nothing came.
    fn take_output(&mut self, stream: Stream) -> bool {
        let mut buffer = [0u8; 16 * 1024];
        let (index, fd) = match (stream, &self.outputs.err) {
            (Stream::Stderr, Some(err)) => (1, err),
            _ => (0, &self.outputs.out),
        };
        match rustix::io::read(fd, &mut buffer) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => false,
            Ok(0) | Err(_) => {
                self.open[index] = false;
                false
            }
            Ok(n) => {
                let bytes = buffer.get(..n).unwrap_or(&[]);
                self.log.take(stream, bytes);
                let kind = if stream == Stream::Stderr { 2 } else { 1 };
                for client in &mut self.clients {
                    client.queue(kind, bytes);
                }
                self.clients.retain(|client| client.open);
                true
            }
        }
    }

    /// The container has ended: what is still in the pipes goes into the log and to the clients.
    fn finish(&mut self) {
        for (stream, index) in [(Stream::Stdout, 0), (Stream::Stderr, 1)] {
            while self.open[index] && self.take_output(stream) {}
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

    fn turn(&mut self, outputs: &mut Outputs) {
        self.flush();
        let mut buffer = [0u8; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.open = false,
            Ok(n) => {
                self.incoming.extend_from_slice(buffer.get(..n).unwrap_or(&[]));
                while let Some((kind, bytes)) = next_frame(&mut self.incoming) {
                    obey(kind, &bytes, outputs);
                }
                self.open &= self.incoming.len() <= MAX_FRAME + 5;
            }
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => self.open = false,
        }
    }
}

fn obey(kind: u8, bytes: &[u8], outputs: &mut Outputs) {
    match (kind, &outputs.input) {
        (0, Some(input)) => terminal::write_all(input.as_fd(), bytes),
        (3, Some(_)) if outputs.err.is_some() => outputs.input = None,
        (3, Some(input)) => terminal::write_all(input.as_fd(), &[4]),
        (4, Some(input)) => {
            if let [r1, r2, c1, c2] = bytes {
                let (rows, columns) = (u16::from_be_bytes([*r1, *r2]), u16::from_be_bytes([*c1, *c2]));
                terminal::set_window_size(input.as_fd(), rows, columns);
            }
        }
        _ => {}
    }
}

/// Appends a frame.
pub fn frame(to: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    for piece in bytes.chunks(MAX_FRAME) {
        to.push(kind);
        to.extend_from_slice(&u32::try_from(piece.len()).unwrap_or(0).to_be_bytes());
        to.extend_from_slice(piece);
    }
    if bytes.is_empty() {
        to.extend_from_slice(&[kind, 0, 0, 0, 0]);
    }
}

/// Takes a whole frame from the front. A length beyond the limit empties the buffer: the stream is not ours.
pub fn next_frame(buffer: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let (kind, length) = match buffer.as_slice() {
        [kind, a, b, c, d, ..] => (*kind, u32::from_be_bytes([*a, *b, *c, *d]) as usize),
        _ => return None,
    };
    if length > MAX_FRAME {
        buffer.clear();
        return None;
    }
    let bytes = buffer.get(5..5 + length)?.to_vec();
    buffer.drain(..5 + length);
    Some((kind, bytes))
}

/// The supervisor makes its socket when the command runs already: a caller may be there first, for a moment.
fn connect(dir: &Path) -> Result<UnixStream> {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    for _ in 0..100 {
        match at_socket(dir, |path| UnixStream::connect(path)) {
            Err(e) if matches!(e.kind(), NotFound | ConnectionRefused) => {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            other => return other.call(|| "connect(attach)"),
        }
    }
    at_socket(dir, |path| UnixStream::connect(path)).call(|| "connect(attach)")
}

/// `container attach`: shows the container's output on the caller's streams and passes its input on, until the
/// container ends or the input does.
///
/// # Errors
/// When nobody serves the container.
pub fn client(dir: &Path, signals: &Blocked, keys_detach: bool) -> Result<()> {
    let stream = connect(dir)?;
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let raw = if keys_detach && terminal::is_terminal(stdin.as_fd()) {
        terminal::RawMode::enter(stdin.as_fd()).ok()
    } else {
        None
    };
    let mut view = View { stream, incoming: Vec::new(), reading: true, control_p: false, raw: raw.is_some() };
    view.send_size(stdin.as_fd());
    loop {
        let ready = {
            let mut fds = vec![
                PollFd::new(view.stream.as_fd(), PollFlags::POLLIN),
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            ];
            if view.reading {
                fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            }
            match nix::poll::poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(e) => return Err(Error::call("poll(attach)", e)),
            }
            fds.iter().map(|fd| fd.any().unwrap_or(false)).collect::<Vec<bool>>()
        };
        let is = |i: usize| ready.get(i).copied().unwrap_or(false);
        if is(0) && !view.show(stdout.as_fd(), stderr.as_fd()) {
            return Ok(());
        }
        if is(2) && view.pass_input(stdin.as_fd()) {
            return Ok(());
        }
        for (signal, _) in signals.take() {
            match signal {
                terminal::WINDOW_CHANGED => view.send_size(stdin.as_fd()),
                nix::libc::SIGINT | nix::libc::SIGTERM | nix::libc::SIGHUP => return Ok(()),
                _ => {}
            }
        }
    }
}

struct View {
    stream: UnixStream,
    incoming: Vec<u8>,
    reading: bool,
    control_p: bool,
    raw: bool,
}

impl View {
    fn send(&mut self, kind: u8, bytes: &[u8]) {
        let mut out = Vec::new();
        frame(&mut out, kind, bytes);
        let _ = self.stream.write_all(&out);
    }

    fn send_size(&mut self, fd: std::os::fd::BorrowedFd<'_>) {
        if let (true, Ok(size)) = (self.raw, rustix::termios::tcgetwinsize(fd)) {
            let [r1, r2] = size.ws_row.to_be_bytes();
            let [c1, c2] = size.ws_col.to_be_bytes();
            self.send(4, &[r1, r2, c1, c2]);
        }
    }

    /// False when the supervisor has closed.
    fn show(&mut self, out: std::os::fd::BorrowedFd<'_>, err: std::os::fd::BorrowedFd<'_>) -> bool {
        let mut buffer = [0u8; 16 * 1024];
        let Ok(n @ 1..) = self.stream.read(&mut buffer) else { return false };
        self.incoming.extend_from_slice(buffer.get(..n).unwrap_or(&[]));
        while let Some((kind, bytes)) = next_frame(&mut self.incoming) {
            terminal::write_all(if kind == 2 { err } else { out }, &bytes);
        }
        true
    }

    /// True when the user asked to detach: Ctrl-P Ctrl-Q, as in Docker.
    fn pass_input(&mut self, input: std::os::fd::BorrowedFd<'_>) -> bool {
        let mut buffer = [0u8; 4096];
        match rustix::io::read(input, &mut buffer) {
            Ok(n @ 1..) => {
                let bytes = buffer.get(..n).unwrap_or(&[]).to_vec();
                if self.raw && (bytes == [0x10, 0x11] || (self.control_p && bytes.first() == Some(&0x11))) {
                    return true;
                }
                self.control_p = bytes.last() == Some(&0x10);
                self.send(0, &bytes);
            }
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            _ => {
                self.reading = false;
                self.send(3, &[]);
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_whole() {
        let mut buffer = Vec::new();
        frame(&mut buffer, 1, b"hello");
        frame(&mut buffer, 3, b"");
        let rest = buffer.split_off(7);
        assert!(next_frame(&mut buffer).is_none(), "half a frame waits");
        buffer.extend(rest);
        assert_eq!(next_frame(&mut buffer), Some((1, b"hello".to_vec())));
        assert_eq!(next_frame(&mut buffer), Some((3, Vec::new())));
        let mut hostile = vec![0, 0xff, 0xff, 0xff, 0xff, 1, 2];
        assert!(next_frame(&mut hostile).is_none() && hostile.is_empty());
    }
}
