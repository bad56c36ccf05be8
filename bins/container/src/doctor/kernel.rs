//! The kernel and the machine.

use super::place::Facts;
use super::{Finding, Need, Probe};
use drydock_core::Result;
use std::os::fd::AsFd;

pub(super) const PROBES: &[Probe] = &[
    Probe {
        id: "kernel",
        group: "kernel",
        what: "Linux 5.10 or newer",
        lost: "older kernels are not tested; each feature below is probed all the same",
        fix: "a newer kernel",
        options: &[],
        need: Need::None,
        test: version,
    },
    Probe {
        id: "architecture",
        group: "kernel",
        what: "x86-64 or aarch64",
        lost: "the default seccomp profile is made for x86-64 and aarch64",
        fix: "--security-opt seccomp=unconfined, or another machine",
        options: &[],
        need: Need::None,
        test: architecture,
    },
    Probe {
        id: "procfs",
        group: "kernel",
        what: "/proc is there, and is a procfs",
        lost: "every command: the kernel is asked, and set up, through /proc; probes below that read it fail too",
        fix: "mount -t proc proc /proc",
        options: &["CONFIG_PROC_FS"],
        need: Need::All,
        test: procfs,
    },
];

fn procfs(_: &Facts) -> Result<Finding> {
    let root =
        drydock_mounts::inside::open_host(std::path::Path::new("/proc"), rustix::fs::OFlags::DIRECTORY)?;
    if drydock_mounts::inside::is_proc(root.as_fd()) {
        Finding::ok("")
    } else {
        Finding::missing("/proc is not a procfs")
    }
}

fn version(_: &Facts) -> Result<Finding> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= (5, 10) => Finding::ok(release),
        _ => Finding::degraded(release),
    }
}

fn architecture(_: &Facts) -> Result<Finding> {
    let machine = rustix::system::uname().machine().to_string_lossy().into_owned();
    if matches!(machine.as_str(), "x86_64" | "aarch64") {
        Finding::ok(machine)
    } else {
        Finding::degraded(machine)
    }
}
