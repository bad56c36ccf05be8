//! Why a user namespace, or something within one, was refused: found out by trying. Source: user_namespaces(7), clone(2).

use drydock_core::sys::process::{clone_child, thread_count};
use drydock_core::sys::signal::pidfd_kill;
use nix::errno::Errno;
use nix::sched::CloneFlags;
use std::os::fd::AsFd;
use std::path::Path;

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

/// A procfs; another directory in tests.
#[derive(Clone, Copy)]
struct Proc<'a>(&'a Path);

fn proc() -> Proc<'static> {
    Proc(Path::new("/proc"))
}

impl Proc<'_> {
    fn read(self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap_or_default()
    }

    fn sysctl(self, name: &str) -> String {
        self.read(&format!("sys/{name}")).trim().to_string()
    }

    fn is_filtered(self) -> bool {
        self.read("self/status").lines().any(|line| line == "Seccomp:\t2")
    }

    /// In a chroot that is no mount of its own, no mount has the root's path.
    fn is_chrooted(self) -> bool {
        let text = self.read("self/mountinfo");
        !text.is_empty() && !text.lines().any(|line| line.split(' ').nth(4) == Some("/"))
    }

    /// What the machine is set to, and where the process is.
    fn setting(self) -> Option<Refusal> {
        if self.sysctl("kernel/unprivileged_userns_clone") == "0" {
            return Some(Refusal {
                because: "sysctl kernel.unprivileged_userns_clone is 0: user namespaces are for root only here",
                fix: "sysctl -w kernel.unprivileged_userns_clone=1, or run as root",
            });
        }
        if self.sysctl("user/max_user_namespaces") == "0" {
            return Some(Refusal {
                because: "sysctl user.max_user_namespaces is 0",
                fix: "sysctl -w user.max_user_namespaces=15000, or run as root without a user namespace",
            });
        }
        if self.restricts_by_apparmor() {
            return Some(BY_APPARMOR);
        }
        self.is_chrooted().then_some(Refusal {
            because: "this process is in a chroot, where the kernel refuses user namespaces",
            fix: "enter the directory by pivot_root instead (rootfs enter DIR)",
        })
    }

    fn restricts_by_apparmor(self) -> bool {
        self.sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1"
    }
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
    if proc().is_filtered() && try_unshare(CloneFlags::empty()).is_some() {
        return Some(FILTERED);
    }
    if let Some(setting) = proc().setting() {
        return Some(setting);
    }
    let refused = try_unshare(CloneFlags::CLONE_NEWUSER)?;
    if proc().is_filtered() && [Errno::EPERM, Errno::ENOSYS].contains(&refused) {
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

const BY_APPARMOR: Refusal = Refusal {
    because: "sysctl kernel.apparmor_restrict_unprivileged_userns is 1: AppArmor takes the capabilities in a new user namespace away",
    fix: "give this program an AppArmor profile with `userns,`, or sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
};

/// Why something within a new user namespace was refused, although its root asked.
pub fn within_user_namespace() -> Option<Refusal> {
    proc().restricts_by_apparmor().then_some(BY_APPARMOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A made-up procfs with these files.
    fn made(files: &[(&str, &str)], check: impl FnOnce(Proc<'_>)) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        check(Proc(dir.path()));
    }

    const ROOT: (&str, &str) =
        ("self/mountinfo", "1 1 0:1 / / rw - ext4 /dev/x rw\n2 1 0:2 / /proc rw - proc proc rw\n");
    const CHROOT: (&str, &str) = ("self/mountinfo", "2 1 0:2 / /proc rw - proc proc rw\n");

    #[test]
    fn settings_that_refuse() {
        let cases = [
            (("sys/kernel/unprivileged_userns_clone", "0\n"), "unprivileged_userns_clone is 0"),
            (("sys/user/max_user_namespaces", "0\n"), "max_user_namespaces is 0"),
            (
                ("sys/kernel/apparmor_restrict_unprivileged_userns", "1\n"),
                "apparmor_restrict_unprivileged_userns is 1",
            ),
            (CHROOT, "in a chroot"),
        ];
        for (file, says) in cases {
            made(&[ROOT, file], |proc| {
                let found = proc.setting().unwrap_or_else(|| panic!("{file:?}: nothing"));
                assert!(found.because.contains(says), "{file:?}: {found:?}");
            });
        }
        let allowed = [
            ROOT,
            ("sys/kernel/unprivileged_userns_clone", "1\n"),
            ("sys/user/max_user_namespaces", "100\n"),
            ("sys/kernel/apparmor_restrict_unprivileged_userns", "0\n"),
        ];
        made(&allowed, |proc| assert_eq!(proc.setting(), None));
        // Where there is no procfs nothing is claimed.
        made(&[], |proc| assert!(proc.setting().is_none() && !proc.is_filtered()));
    }

    #[test]
    fn filters_and_restrictions() {
        made(&[("self/status", "Name:\tx\nSeccomp:\t2\n")], |proc| assert!(proc.is_filtered()));
        made(&[("self/status", "Name:\tSeccomp:\t2\nSeccomp:\t0\n")], |proc| assert!(!proc.is_filtered()));
        let file = ("sys/kernel/apparmor_restrict_unprivileged_userns", "1\n");
        made(&[file], |proc| assert!(proc.restricts_by_apparmor()));
    }
}
