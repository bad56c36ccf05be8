//! i386's calls behind one number: socketcall(2) and ipc(2), whose first argument says which is meant.
//! Source: linux/net.h (SYS_SOCKET, …), linux/ipc.h (SEMOP, …).

use super::names::Arch;
use super::profile::{Arg, Operator};

const fn call(value: u64) -> [Arg; 1] {
    [Arg { index: 0, value, value_two: 0, op: Operator::Eq }]
}

static SOCKET: [(&str, [Arg; 1]); 20] = [
    ("socket", call(1)),
    ("bind", call(2)),
    ("connect", call(3)),
    ("listen", call(4)),
    ("accept", call(5)),
    ("getsockname", call(6)),
    ("getpeername", call(7)),
    ("socketpair", call(8)),
    ("send", call(9)),
    ("recv", call(10)),
    ("sendto", call(11)),
    ("recvfrom", call(12)),
    ("shutdown", call(13)),
    ("setsockopt", call(14)),
    ("getsockopt", call(15)),
    ("sendmsg", call(16)),
    ("recvmsg", call(17)),
    ("accept4", call(18)),
    ("recvmmsg", call(19)),
    ("sendmmsg", call(20)),
];

static IPC: [(&str, [Arg; 1]); 12] = [
    ("semop", call(1)),
    ("semget", call(2)),
    ("semctl", call(3)),
    ("semtimedop", call(4)),
    ("msgsnd", call(11)),
    ("msgrcv", call(12)),
    ("msgget", call(13)),
    ("msgctl", call(14)),
    ("shmat", call(21)),
    ("shmdt", call(22)),
    ("shmget", call(23)),
    ("shmctl", call(24)),
];

/// The number behind which a call is hidden besides its own, and the condition that means it.
pub fn multiplexed(arch: Arch, name: &str) -> Option<(u32, &'static [Arg])> {
    if arch != Arch::X86 {
        return None;
    }
    let of = |table: &'static [(&str, [Arg; 1])], through: &str| {
        let (_, condition) = table.iter().find(|(known, _)| *known == name)?;
        Some((arch.number(through)?, condition.as_slice()))
    };
    of(&SOCKET, "socketcall").or_else(|| of(&IPC, "ipc"))
}
