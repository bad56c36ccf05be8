//! Why a user namespace, or something within one, was refused: found out by trying. Source: user_namespaces(7), clone(2).

use drydock_core::sys::process::{clone_child, thread_count};
use drydock_core::sys::signal::pidfd_kill;
use nix::errno::Errno;
use nix::sched::CloneFlags;
use std::os::fd::AsFd;

/// A reason and what helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What was found.
    pub because: &'static str,
    /// The remedy.
    pub fix: &'static str,
}

const FILTERED: Refusal = Refusal {
    because: "a system call filter (seccomp) around this process refuses unshare and clone for new namespaces",
    fix: "give the outer container a profile that allows them (--security-opt seccomp=unconfined), or CAP_SYS_ADMIN",
};

/// What a throw-away child gets from the kernel for `unshare(flags)`: nothing if it is allowed.
fn try_unshare(flags: CloneFlags) -> Option<Errno> {
    let child = clone_child(0, None, || match nix::sched::unshare(flags) {
        Ok(()) => 0,
        Err(errno) => u8::try_from(errno as i32).unwrap_or(u8::MAX),
    })
    .ok()?;
    let status = rustix::process::waitid(
        rustix::process::WaitId::PidFd(child.pidfd.as_fd()),
        rustix::process::WaitIdOptions::EXITED,
    );
    let code = status.ok().flatten().and_then(|s| s.exit_status());
    if code.is_none() {
        // A filter that kills.
        let _ = pidfd_kill(child.pidfd.as_fd(), nix::libc::SIGKILL);
        return Some(Errno::EPERM);
    }
    code.filter(|code| *code != 0).map(Errno::from_raw)
}

fn sysctl(name: &str) -> String {
    std::fs::read_to_string(format!("/proc/sys/{name}")).unwrap_or_default().trim().to_string()
}

fn is_filtered() -> bool {
    std::fs::read_to_string("/proc/self/status")
        .is_ok_and(|text| text.lines().any(|line| line == "Seccomp:\t2"))
}

/// In a chroot that is no mount of its own, no mount has the root's path.
fn is_chrooted() -> bool {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    !text.is_empty() && !text.lines().any(|line| line.split(' ').nth(4) == Some("/"))
}

/// Why this process may not make a user namespace, most certain reason first.
pub fn of_user_namespace() -> Option<Refusal> {
    if thread_count().is_some_and(|threads| threads > 1) {
        return Some(Refusal {
            because: "the calling process has more than one thread",
            fix: "only a process with one thread may: do it before threads are started, or in a child",
        });
    }
    // Nothing is asked for, so only a filter can say no.
    if is_filtered() && try_unshare(CloneFlags::empty()).is_some() {
        return Some(FILTERED);
    }
    if sysctl("kernel/unprivileged_userns_clone") == "0" {
        return Some(Refusal {
            because: "sysctl kernel.unprivileged_userns_clone is 0: user namespaces are for root only here",
            fix: "sysctl -w kernel.unprivileged_userns_clone=1, or run as root",
        });
    }
    if sysctl("user/max_user_namespaces") == "0" {
        return Some(Refusal {
            because: "sysctl user.max_user_namespaces is 0",
            fix: "sysctl -w user.max_user_namespaces=15000, or run as root without a user namespace",
        });
    }
    if sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1" {
        return Some(restricted_by_apparmor());
    }
    if is_chrooted() {
        return Some(Refusal {
            because: "this process is in a chroot, where the kernel refuses user namespaces",
            fix: "enter the directory by pivot_root instead (rootfs enter DIR)",
        });
    }
    let refused = try_unshare(CloneFlags::CLONE_NEWUSER)?;
    if is_filtered() && [Errno::EPERM, Errno::ENOSYS].contains(&refused) {
        return Some(Refusal {
            because: "a system call filter (seccomp) is around this process, and nothing else here refuses user namespaces",
            ..FILTERED
        });
    }
    Some(Refusal {
        because: "the kernel refuses new user namespaces to this process",
        fix: "its own id may be unmapped here, or a security module says no: see dmesg, container doctor",
    })
}

fn restricted_by_apparmor() -> Refusal {
    Refusal {
        because: "sysctl kernel.apparmor_restrict_unprivileged_userns is 1: AppArmor takes the capabilities in a new user namespace away",
        fix: "give this program an AppArmor profile with `userns,`, or sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    }
}

/// Why something within a new user namespace was refused, although its root asked.
pub fn within_user_namespace() -> Option<Refusal> {
    (sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1").then(restricted_by_apparmor)
}
