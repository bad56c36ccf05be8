//! The caller's terminal and a container's: raw mode, window size, copying both ways until the container ends.

use crate::terminal::{self, Copied, RawMode};
use crate::{Blocked, Supervised};
use drydock_core::exit::Ended;
use drydock_core::sys::process::Child;
use drydock_core::{Error, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Shows the container's terminal on the caller's until its first process ends.
///
/// The caller's terminal is in raw mode meanwhile, and is restored however this ends. Input is passed on when asked for
/// (`-i`), or when it comes from a terminal. Before its programs write, [`terminal::leave_newlines`] of the master: the
/// caller's terminal adds carriage returns as it did before.
///
/// # Errors
/// poll(2)'s and waitid(2)'s.
pub fn relay(
    child: &Child,
    is_pid_1: bool,
    signals: &Blocked,
    master: &OwnedFd,
    interactive: bool,
) -> Result<Ended> {
    let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
    let (input, output) = (stdin.as_fd(), stdout.as_fd());
    let from_terminal = terminal::is_terminal(input);
    let _raw = if from_terminal { RawMode::enter_processing_output(input).ok() } else { None };
    let screen = if from_terminal { input } else { output };
    terminal::copy_window_size(screen, master.as_fd());
    let mut supervised = Supervised::new(child, is_pid_1);
    let mut reading = interactive || from_terminal;
    let mut buffer = vec![0u8; 32 * 1024];
    loop {
        let ready = ready(child, signals, master.as_fd(), reading.then_some(input))?;
        if ready.output
            && terminal::copy_once(master.as_fd(), output, &mut buffer) == Copied::Ended
            && !ready.ended
        {
            // The last program that had the terminal open has closed it; the end of the container is near.
            return supervised.wait(signals);
        }
        if ready.input && terminal::copy_once(input, master.as_fd(), &mut buffer) == Copied::Ended {
            reading = false;
            if !from_terminal {
                // What a terminal's user would type to end the input.
                terminal::write_all(master.as_fd(), &[4]);
            }
        }
        for (signal, _) in signals.take() {
            if signal == terminal::WINDOW_CHANGED {
                terminal::copy_window_size(screen, master.as_fd());
            } else {
                supervised.forward(signal);
            }
        }
        if ready.ended {
            drain(master, output, &mut buffer);
            return supervised.finish();
        }
    }
}

struct Ready {
    ended: bool,
    output: bool,
    input: bool,
}

fn ready(
    child: &Child,
    signals: &Blocked,
    master: BorrowedFd<'_>,
    input: Option<BorrowedFd<'_>>,
) -> Result<Ready> {
    let mut fds = vec![
        PollFd::new(child.pidfd.as_fd(), PollFlags::POLLIN),
        PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        PollFd::new(master, PollFlags::POLLIN),
    ];
    fds.extend(input.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
    match nix::poll::poll(&mut fds, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(e) => return Err(Error::call("poll(pidfd, signalfd, pty, stdin)", e)),
    }
    let is = |i: usize| fds.get(i).is_some_and(|fd| fd.any().unwrap_or(false));
    Ok(Ready { ended: is(0), output: is(2), input: is(3) })
}

/// What the container wrote last may still be in the terminal's buffer.
fn drain(master: &OwnedFd, output: BorrowedFd<'_>, buffer: &mut [u8]) {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let _ = fcntl(master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
    // A process that outlives the container may write for ever.
    let mut left = 1usize << 20;
    while let (1.., Copied::Bytes(n)) = (left, terminal::copy_once(master.as_fd(), output, buffer)) {
        left = left.saturating_sub(n);
    }
}
