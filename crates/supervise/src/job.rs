//! The terminal on standard input, handed to the main child's process group, and job control between it and whoever
//! started us. Source: termios(3), tcsetpgrp(3), setpgid(2).

use drydock_core::sys::signal;
use nix::libc::{SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU};
use nix::unistd::{Pid, getpgrp, getpid, getsid, tcgetpgrp, tcsetpgrp};

/// Whether standard input is our controlling terminal and our group has it: then it can be handed on. A job in the
/// background must not take it.
pub fn has_terminal() -> bool {
    tcgetpgrp(std::io::stdin()).is_ok_and(|group| group == getpgrp())
}

/// The child: a process group of its own, which gets the terminal. SIGTTOU must be blocked.
pub fn lead() {
    lead_group();
    let _ = tcsetpgrp(std::io::stdin(), getpgrp());
}

/// The child: a process group of its own. A session's leader has one.
pub fn lead_group() {
    let _ = nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0));
}

/// The child has ended: the terminal is ours again, if it was its.
pub fn take_back() {
    let _ = tcsetpgrp(std::io::stdin(), getpgrp());
}

/// The main child has been stopped. With a shell above us we stop too, so that the shell sees it, and go on together;
/// without one nobody could continue the child, so it goes on at once after a terminal's stop.
pub fn stopped(main: i32, by: Option<i32>) {
    let by_terminal = by.is_some_and(|n| [SIGTSTP, SIGTTIN, SIGTTOU].contains(&n));
    let alone = getpid().as_raw() == 1 || getsid(None).is_ok_and(|session| session == getpid());
    if alone {
        if by_terminal {
            let _ = signal::kill(-main, SIGCONT);
        }
        return;
    }
    take_back();
    // Takes effect before kill returns to us, and we go on here when we are continued.
    let _ = signal::kill(getpid().as_raw(), SIGSTOP);
    if has_terminal() {
        let _ = tcsetpgrp(std::io::stdin(), Pid::from_raw(main));
    }
    let _ = signal::kill(-main, SIGCONT);
}
