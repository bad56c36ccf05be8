//! A terminal of the command's own: of the target's devpts if it has one, else of ours. Then nobody inside ever holds the
//! caller's (SEC-26).

use drydock_core::error::CallExt;
use drydock_core::sys::fd::replace_standard_stream;
use drydock_core::sys::pty::slave_of;
use drydock_core::{Error, Result};
use rustix::fs::{Mode, OFlags, ResolveFlags, fstatfs, open, openat2};
use std::io::IsTerminal;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;

/// Both ends.
#[derive(Debug)]
pub struct Terminal {
    /// Stays with us.
    pub master: OwnedFd,
    slave: OwnedFd,
}

/// Whether the caller sits at a terminal with all three streams.
pub fn callers() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal() && std::io::stderr().is_terminal()
}

impl Terminal {
    /// A new one. `root`: the target's root directory.
    ///
    /// # Errors
    /// When there is no devpts anywhere, or it is full.
    pub fn open(root: Option<BorrowedFd<'_>>) -> Result<Terminal> {
        let master = match root.and_then(inside) {
            Some(master) => master,
            None => {
                let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
                open("/dev/ptmx", flags, Mode::empty()).call(|| "open(\"/dev/ptmx\", O_RDWR|O_NOCTTY)")?
            }
        };
        let slave = slave_of(master.as_fd()).call(|| "ioctl(TIOCGPTPEER)")?;
        drydock_supervise::terminal::leave_newlines(master.as_fd());
        Ok(Terminal { master, slave })
    }

    /// In a process that is, or makes, the command's: its streams.
    ///
    /// # Errors
    /// dup2(2)'s.
    pub fn take_streams(&self) -> Result<()> {
        // Whoever may look at this process must not find the other end.
        let _ = nix::unistd::close(self.master.as_raw_fd());
        (0..3).try_for_each(|number| {
            replace_standard_stream(self.slave.as_fd(), number).call(|| format!("dup2(terminal, {number})"))
        })
    }

    /// In the command's process, whose streams it is: a session, whose controlling terminal it is too.
    ///
    /// # Errors
    /// setsid(2)'s, ioctl(2)'s.
    pub fn lead(&self) -> Result<()> {
        nix::unistd::setsid().map(drop).call(|| "setsid()")?;
        rustix::process::ioctl_tiocsctty(std::io::stdin()).call(|| "ioctl(TIOCSCTTY)")
    }

    /// The parent's: the slave belongs to the child alone.
    pub fn keep_master(self) -> OwnedFd {
        self.master
    }
}

/// The multiplexer of the target's devpts. What stands there is the target's to choose: only a real one is opened.
fn inside(root: BorrowedFd<'_>) -> Option<OwnedFd> {
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = openat2(root, "dev/pts/ptmx", flags, Mode::empty(), how).ok()?;
    let magic = fstatfs(&found).ok()?.f_type;
    if u64::try_from(magic).ok()? != DEVPTS_SUPER_MAGIC {
        return None;
    }
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    open(format!("/proc/self/fd/{}", found.as_raw_fd()), flags, Mode::empty()).ok()
}

/// The command's terminal was asked for, but there is nobody to show it to.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`].
pub fn check_caller() -> Result<()> {
    if std::io::stdin().is_terminal() {
        return Ok(());
    }
    Err(Error::bad_input("--tty", "standard input is not a terminal (allowed: at one, or without --tty)"))
}
