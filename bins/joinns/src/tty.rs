//! The command shares the caller's terminal, but a program in a hostile container must not type into it (TIOCSTI,
//! TIOCLINUX; CVE-2017-5226).

use drydock_core::sys::seccomp::{self, Instruction};
use std::io::IsTerminal;

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K
const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const NR: u32 = 0;
/// Low half of the second argument, where the kernel looks for the request (little-endian).
const REQUEST: u32 = 24;
const TIOCSTI: u32 = 0x5412;
const TIOCLINUX: u32 = 0x541c;
/// ioctl as a native call, of 32-bit programs, and of x32.
#[cfg(target_arch = "x86_64")]
const IOCTLS: [u32; 3] = [16, 54, 0x4000_0202];
#[cfg(not(target_arch = "x86_64"))]
const IOCTLS: [u32; 3] = [29, 54, 54];

/// Refuses the two requests to the caller and what it execs, if it has a terminal. Needs CAP_SYS_ADMIN in its user
/// namespace; without that privilege TIOCSTI is refused by the kernel itself where dev.tty.legacy_tiocsti is 0.
pub fn forbid_typing() {
    let terminal =
        std::io::stdin().is_terminal() || std::io::stdout().is_terminal() || std::io::stderr().is_terminal();
    if terminal {
        // A kernel without seccomp must still be debuggable; the caller asked for its own terminal to be used.
        let _ = seccomp::install(&program(), 0);
    }
}

fn program() -> [Instruction; 9] {
    let step = |code, jt, jf, k| Instruction { code, jt, jf, k };
    let [native, compat, other] = IOCTLS;
    [
        step(LOAD, 0, 0, NR),
        step(EQUAL, 2, 0, native),
        step(EQUAL, 1, 0, compat),
        step(EQUAL, 0, 3, other),
        step(LOAD, 0, 0, REQUEST),
        step(EQUAL, 2, 0, TIOCSTI),
        step(EQUAL, 1, 0, TIOCLINUX),
        step(RETURN, 0, 0, ALLOW),
        step(RETURN, 0, 0, EPERM),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would.
    fn verdict(nr: u32, request: u32) -> u32 {
        let (program, mut at, mut value) = (program(), 0usize, 0u32);
        loop {
            let i = program[at];
            at += 1;
            match i.code {
                LOAD => value = if i.k == NR { nr } else { request },
                EQUAL => at += usize::from(if value == i.k { i.jt } else { i.jf }),
                _ => return i.k,
            }
        }
    }

    #[test]
    fn only_the_two_requests() {
        for nr in IOCTLS {
            assert_eq!(verdict(nr, TIOCSTI), EPERM);
            assert_eq!(verdict(nr, TIOCLINUX), EPERM);
            assert_eq!(verdict(nr, 0x5413), ALLOW);
        }
        assert_eq!(verdict(1, TIOCSTI), ALLOW);
    }
}
