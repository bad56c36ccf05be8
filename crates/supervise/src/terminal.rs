//! Pseudoterminals: raw mode that is always restored, window size, and copying between two terminals.

use drydock_core::Result;
use drydock_core::error::CallExt;
use nix::libc;
use rustix::termios::{self, OptionalActions, OutputModes, Termios, Winsize};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The caller's terminal in raw mode; dropping it restores the mode it had. Source: termios(3), cfmakeraw.
#[derive(Debug)]
pub struct RawMode<'a> {
    fd: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> RawMode<'a> {
    /// Puts the terminal into raw mode.
    ///
    /// # Errors
    /// ENOTTY when it is not a terminal.
    pub fn enter(fd: BorrowedFd<'a>) -> Result<Self> {
        Self::enter_as(fd, OutputModes::empty())
    }

    /// As [`RawMode::enter`], but what is written is still processed as before: for a pseudoterminal whose lines end as
    /// its programs end them, see [`leave_newlines`].
    ///
    /// # Errors
    /// As [`RawMode::enter`].
    pub fn enter_processing_output(fd: BorrowedFd<'a>) -> Result<Self> {
        Self::enter_as(fd, OutputModes::OPOST)
    }

    fn enter_as(fd: BorrowedFd<'a>, keep: OutputModes) -> Result<Self> {
        let before = termios::tcgetattr(fd).call(|| "ioctl(TCGETS)")?;
        let mut raw = before.clone();
        raw.make_raw();
        raw.output_modes |= before.output_modes & keep;
        termios::tcsetattr(fd, OptionalActions::Drain, &raw).call(|| "ioctl(TCSETSW)")?;
        Ok(Self { fd, before })
    }
}

impl Drop for RawMode<'_> {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(self.fd, OptionalActions::Drain, &self.before);
    }
}

/// Takes the pseudoterminal's own carriage returns away (ONLCR): what its programs write is copied as it is, into a file or
/// a pipe too, and the terminal at which the caller sits adds its own. As runc has it.
pub fn leave_newlines(master: BorrowedFd<'_>) {
    if let Ok(mut modes) = termios::tcgetattr(master) {
        modes.output_modes -= OutputModes::ONLCR;
        let _ = termios::tcsetattr(master, OptionalActions::Now, &modes);
    }
}

/// Gives `to` the window size of `from`. Not a terminal: nothing to copy.
pub fn copy_window_size(from: BorrowedFd<'_>, to: BorrowedFd<'_>) {
    if let Ok(size) = termios::tcgetwinsize(from) {
        let _ = termios::tcsetwinsize(to, size);
    }
}

/// Sets a window size.
pub fn set_window_size(fd: BorrowedFd<'_>, rows: u16, columns: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let _ = termios::tcsetwinsize(fd, size);
}

/// A new pseudoterminal of the devpts instance mounted at /dev/pts of the calling process: the master, and the slave's
/// path. Source: pts(4), devpts documentation (newinstance).
///
/// # Errors
/// ENOENT when there is no /dev/ptmx; ENOSPC when the instance is full.
pub fn open_pty() -> Result<(OwnedFd, String)> {
    use nix::fcntl::OFlag;
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = nix::pty::posix_openpt(flags).call(|| "open(\"/dev/ptmx\", O_RDWR|O_NOCTTY)")?;
    nix::pty::unlockpt(&master).call(|| "ioctl(TIOCSPTLCK, 0)")?;
    let slave = nix::pty::ptsname_r(&master).call(|| "ioctl(TIOCGPTN)")?;
    let owned = master.as_fd().try_clone_to_owned().call(|| "fcntl(F_DUPFD_CLOEXEC)")?;
    Ok((owned, slave))
}

/// Makes `slave` the standard streams of the calling process.
///
/// # Errors
/// dup2(2)'s.
pub fn take_streams(slave: &OwnedFd) -> Result<()> {
    use drydock_core::sys::fd::replace_standard_stream;
    (0..3).try_for_each(|number| {
        replace_standard_stream(slave.as_fd(), number).call(|| format!("dup2(slave, {number})"))
    })
}

/// What one copy attempt gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// This many bytes went through.
    Bytes(usize),
    /// Nothing to read now.
    Nothing,
    /// The reader's side has ended: end of file, or EIO from a pty whose last slave closed.
    Ended,
}

/// Reads once from `from` and writes all of it to `to`.
pub fn copy_once(from: BorrowedFd<'_>, to: BorrowedFd<'_>, buffer: &mut [u8]) -> Copied {
    match rustix::io::read(from, &mut *buffer) {
        Ok(0) => Copied::Ended,
        Ok(n) => {
            write_all(to, buffer.get(..n).unwrap_or(&[]));
            Copied::Bytes(n)
        }
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Copied::Nothing,
        Err(_) => Copied::Ended,
    }
}

/// Writes everything, waiting where the reader is slow; a closed reader is not an error.
pub fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) {
    use nix::poll::{PollFd, PollFlags, PollTimeout};
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(n) => bytes = bytes.get(n..).unwrap_or(&[]),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => {
                let mut fds = [PollFd::new(to, PollFlags::POLLOUT)];
                let _ = nix::poll::poll(&mut fds, PollTimeout::NONE);
            }
            Err(_) => return,
        }
    }
}

/// Is this descriptor a terminal?
pub fn is_terminal(fd: BorrowedFd<'_>) -> bool {
    termios::isatty(fd)
}

/// SIGWINCH, for callers that match on numbers.
pub const WINDOW_CHANGED: i32 = libc::SIGWINCH;
