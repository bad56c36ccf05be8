//! The system calls that a container's first process makes between giving up its privileges and its exec: a filter that must
//! be installed first, and does not permit them, is installed later.

use drydock_security::seccomp::Call;

const fn plain(name: &'static str) -> Call {
    (name, [0; 6])
}

/// PR_SET_PDEATHSIG.
const DEATH_SIGNAL: [u64; 6] = [1, 0, 0, 0, 0, 0];

/// PR_SET_DUMPABLE.
const DUMPABLE: [u64; 6] = [4, 0, 0, 0, 0, 0];

/// CLONE_PIDFD|SIGCHLD.
const CLONE: [u64; 6] = [0x1011, 0, 0, 0, 0, 0];

/// The conversation of the module `handshake`, and the exec.
const ALWAYS: [Call; 10] = [
    plain("sendmsg"),
    plain("recvmsg"),
    plain("close"),
    plain("close_range"),
    plain("brk"),
    plain("mmap"),
    plain("munmap"),
    plain("exit_group"),
    ("prctl", DEATH_SIGNAL),
    ("prctl", DUMPABLE),
];

/// Of a process that waits for its start, or for a signal.
const WAITING: [Call; 5] =
    [plain("accept4"), plain("poll"), plain("read"), plain("rt_sigprocmask"), plain("signalfd4")];

/// To carry out hooks.
const HOOKS: [Call; 8] = [
    plain("pipe2"),
    ("clone", CLONE),
    plain("fcntl"),
    plain("read"),
    plain("write"),
    plain("poll"),
    plain("waitid"),
    plain("dup2"),
];

/// What is ahead of a process.
pub fn ahead(waits: bool, hooks: bool) -> Vec<Call> {
    let some = |calls: &'static [Call], yes: bool| calls.iter().copied().filter(move |_| yes);
    some(&ALWAYS, true).chain(some(&WAITING, waits)).chain(some(&HOOKS, hooks)).collect()
}
