//! Making processes, and holding them.

use super::place::Facts;
use super::{Finding, Need, Probe};
use drydock_core::error::CallExt;
use drydock_core::sys::signal::pidfd_kill;
use drydock_core::{Result, sys};
use nix::libc;
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use std::os::fd::AsFd;

pub(super) const PROBES: &[Probe] = &[
    Probe {
        id: "clone3",
        group: "processes",
        what: "clone3",
        lost: "a process is not born in its v2 cgroup but moved there (CLONE_INTO_CGROUP); clone(2) is used instead",
        fix: "Linux 5.3, or an outer seccomp filter that lets clone3 through",
        options: &[],
        need: Need::None,
        test: clone3,
    },
    Probe {
        id: "pidfd",
        group: "processes",
        what: "pidfd_open, pidfd_send_signal",
        lost: "container run, kill, stop and wait, which never signal a pid that may be another's by now",
        fix: "Linux 5.4, or an outer seccomp filter that lets pidfd_open and pidfd_send_signal through",
        options: &[],
        need: Need::All,
        test: pidfd,
    },
    Probe {
        id: "new-container",
        group: "processes",
        what: "one clone into all namespaces",
        lost: "container run: every container begins with this call",
        fix: "see the namespace types below for the one that is missing",
        options: &["CONFIG_NAMESPACES"],
        need: Need::All,
        test: all,
    },
];

fn clone3(_: &Facts) -> Result<Finding> {
    match sys::probe::clone3() {
        Ok(()) => Finding::ok(""),
        Err(e) if e.raw_os_error() == Some(libc::ENOSYS) => {
            Finding::degraded("ENOSYS: clone(2) is used instead, and processes are moved into their cgroup")
        }
        Err(e) => Err(drydock_core::Error::call("clone3(NULL, 0)", e)),
    }
}

fn pidfd(_: &Facts) -> Result<Finding> {
    let own = pidfd_open(getpid(), PidfdFlags::empty()).call(|| "pidfd_open(getpid(), 0)")?;
    pidfd_kill(own.as_fd(), 0).call(|| "pidfd_send_signal(pidfd, 0, NULL, 0)")?;
    Finding::ok("")
}

fn all(facts: &Facts) -> Result<Finding> {
    let set = facts.container();
    facts.inside(set, || {
        let pid = std::process::id();
        if pid == 1 {
            Finding::ok(set.to_string())
        } else {
            Finding::missing(format!("the first process is {pid}, not 1"))
        }
    })
}
