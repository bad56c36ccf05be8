//! Our default profile: what ordinary programs need, and nothing else.
//!
//! Refused unless a capability asks for it: looking into other processes, mounts and namespaces, modules, clocks,
//! rare socket families. Refused always: io_uring, userfaultfd, keys, modify_ldt, pushing input into a terminal
//! (TIOCSTI, CVE-2017-5226), switching off address randomisation, i386 and x32.

use super::action::Action;
use super::allowed::{ALWAYS, WITH_CAPABILITY};
use super::profile::{Arg, Operator, Profile, Rule, Selector};
use nix::libc;
use std::borrow::Cow;

/// CLONE_NEW* that clone(2) takes; its low byte is the exit signal, so CLONE_NEWTIME is not among them.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;
/// CLONE_NEW* that unshare(2) takes.
const UNSHARE_NAMESPACES: u64 = CLONE_NAMESPACES | 0x80;

/// Socket families that programs need. AF_NETLINK is below, by protocol.
const FAMILIES: [i32; 3] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];

/// personality(2): Linux, Linux on 32 bits, with UNAME26, and the question what it is.
const PERSONALITIES: [u32; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The default profile, as a value that can be compiled, printed and changed like one from a file.
pub fn profile() -> Profile {
    let mut rules: Vec<Rule> = ALWAYS.iter().map(|names| allow(names)).collect();
    rules.extend(WITH_CAPABILITY.iter().map(|(cap, names)| with_cap(allow(names), cap)));
    rules.extend(namespaces());
    rules.extend(sockets());
    rules.extend(PERSONALITIES.map(|p| when(allow(&["personality"]), vec![int(0, p)])));
    rules.extend(terminals());
    Profile {
        default_action: Action::Errno,
        default_errno_ret: Some(errno(libc::EPERM)),
        default_errno: None,
        architectures: None,
        arch_map: None,
        flags: None,
        listener_path: None,
        listener_metadata: None,
        syscalls: Some(rules),
    }
}

/// New namespaces need CAP_SYS_ADMIN (whose rules stand before these). clone3 passes its flags in memory, where a
/// filter cannot look: it does not exist, and the C libraries fall back to clone.
fn namespaces() -> Vec<Rule> {
    let none = |mask: u64| Arg { index: 0, value: mask, value_two: 0, op: Operator::MaskedEq };
    vec![
        when(allow(&["clone"]), vec![none(CLONE_NAMESPACES)]),
        when(allow(&["unshare"]), vec![none(UNSHARE_NAMESPACES)]),
        because(
            refuse(&["clone3"], libc::ENOSYS),
            "its flags cannot be checked; the C library falls back to clone",
        ),
    ]
}

fn sockets() -> Vec<Rule> {
    let socket = || allow(&["socket"]);
    let netlink = || int(0, 16);
    let mut rules: Vec<Rule> =
        FAMILIES.map(|family| when(socket(), vec![int(0, family.unsigned_abs())])).to_vec();
    rules.extend([
        when(socket(), vec![netlink(), int(2, 0)]),
        with_cap(when(socket(), vec![netlink()]), "CAP_NET_ADMIN"),
        with_cap(when(socket(), vec![netlink(), int(2, 9)]), "CAP_AUDIT_WRITE"),
        with_cap(when(socket(), vec![int(0, libc::AF_PACKET.unsigned_abs())]), "CAP_NET_RAW"),
        because(
            when(refuse(&["socket"], libc::EPROTONOSUPPORT), vec![netlink()]),
            "netlink other than routing, answered as by a kernel without it: su and useradd expect that of audit",
        ),
        when(allow(&["socketpair"]), vec![int(0, libc::AF_UNIX.unsigned_abs())]),
    ]);
    rules
}

/// The kernel looks at the low 32 bits of the request only (CVE-2019-10063).
fn terminals() -> Vec<Rule> {
    let mut rules: Vec<Rule> = [0x5412u32, 0x541c]
        .map(|request| when(refuse(&["ioctl"], libc::EPERM), vec![int(1, request)]))
        .map(|rule| because(rule, "TIOCSTI and TIOCLINUX push input into the terminal"))
        .to_vec();
    rules.push(allow(&["ioctl"]));
    rules
}

fn rule(names: &[&'static str], action: Action, errno_ret: Option<u32>) -> Rule {
    Rule {
        names: names.iter().map(|name| Cow::Borrowed(*name)).collect(),
        name: None,
        action,
        errno_ret,
        errno: None,
        args: None,
        comment: None,
        includes: None,
        excludes: None,
    }
}

fn allow(names: &[&'static str]) -> Rule {
    rule(names, Action::Allow, None)
}

fn refuse(names: &[&'static str], code: i32) -> Rule {
    rule(names, Action::Errno, Some(errno(code)))
}

fn errno(code: i32) -> u32 {
    code.unsigned_abs()
}

fn when(rule: Rule, args: Vec<Arg>) -> Rule {
    Rule { args: Some(args), ..rule }
}

fn with_cap(rule: Rule, cap: &'static str) -> Rule {
    let includes = Selector { caps: Some(vec![Cow::Borrowed(cap)]), ..Selector::default() };
    Rule { includes: Some(includes), ..rule }
}

fn because(rule: Rule, comment: &'static str) -> Rule {
    Rule { comment: Some(Cow::Borrowed(comment)), ..rule }
}

/// An `int` argument: the upper half of its register may hold anything, for the caller and for the kernel.
fn int(index: u32, value: u32) -> Arg {
    Arg { index, value: 0xffff_ffff, value_two: u64::from(value), op: Operator::MaskedEq }
}
