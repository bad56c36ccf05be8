//! `container attach`: the client's side.

use super::{at_socket, frame, next_frame};
use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use drydock_supervise::{Blocked, terminal};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// The supervisor stops reading when the container does: no more input is taken than this.
const MAX_WAITING: usize = 1 << 16;

/// The supervisor makes its socket when the command runs already: a caller may be there first, for a moment.
fn connect(dir: &Path) -> Result<UnixStream> {
    for _ in 0..100 {
        match at_socket(dir, |path| UnixStream::connect(path)) {
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
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
    // A container that reads no input must not keep us from showing what it says.
    stream.set_nonblocking(true).call(|| "fcntl(O_NONBLOCK)")?;
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let raw = if keys_detach && terminal::is_terminal(stdin.as_fd()) {
        terminal::RawMode::enter(stdin.as_fd()).ok()
    } else {
        None
    };
    let mut view = View {
        stream,
        incoming: Vec::new(),
        outgoing: Vec::new(),
        reading: true,
        control_p: false,
        raw: raw.is_some(),
    };
    view.send_size(stdin.as_fd());
    loop {
        let ready = {
            let write = if view.outgoing.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
            let mut fds = vec![
                PollFd::new(view.stream.as_fd(), PollFlags::POLLIN | write),
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            ];
            if view.reading && view.outgoing.len() < MAX_WAITING {
                fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            }
            match nix::poll::poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(e) => return Err(Error::call("poll(attach)", e)),
            }
            fds.iter().map(|fd| fd.any().unwrap_or(false)).collect::<Vec<bool>>()
        };
        let is = |i: usize| ready.get(i).copied().unwrap_or(false);
        if is(0) {
            view.flush();
            if !view.show(stdout.as_fd(), stderr.as_fd()) {
                return Ok(());
            }
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
    outgoing: Vec<u8>,
    reading: bool,
    control_p: bool,
    raw: bool,
}

impl View {
    fn send(&mut self, kind: u8, bytes: &[u8]) {
        frame(&mut self.outgoing, kind, bytes);
        self.flush();
    }

    fn flush(&mut self) {
        while !self.outgoing.is_empty() {
            match self.stream.write(&self.outgoing) {
                Ok(n) => drop(self.outgoing.drain(..n)),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return,
                // Its end is seen when it is read from.
                Err(_) => self.outgoing.clear(),
            }
        }
    }

    fn send_size(&mut self, fd: BorrowedFd<'_>) {
        if let (true, Ok(size)) = (self.raw, rustix::termios::tcgetwinsize(fd)) {
            let [r1, r2] = size.ws_row.to_be_bytes();
            let [c1, c2] = size.ws_col.to_be_bytes();
            self.send(4, &[r1, r2, c1, c2]);
        }
    }

    /// False when the supervisor has closed.
    fn show(&mut self, out: BorrowedFd<'_>, err: BorrowedFd<'_>) -> bool {
        let mut buffer = [0u8; 16 * 1024];
        let n = match self.stream.read(&mut buffer) {
            Ok(n @ 1..) => n,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return true,
            _ => return false,
        };
        self.incoming.extend_from_slice(buffer.get(..n).unwrap_or(&[]));
        while let Some((kind, bytes)) = next_frame(&mut self.incoming) {
            terminal::write_all(if kind == 2 { err } else { out }, &bytes);
        }
        true
    }

    /// True when the user asked to detach: Ctrl-P Ctrl-Q, as in Docker.
    fn pass_input(&mut self, input: BorrowedFd<'_>) -> bool {
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
