//! Programs of others that some options use.

use super::place::Facts;
use super::{Finding, Need, Probe};
use drydock_core::Result;
use nix::unistd::{AccessFlags, access};
use std::path::PathBuf;

macro_rules! probe {
    ($id:literal, $what:literal, $lost:literal, $fix:literal, $names:expr) => {
        Probe {
            id: $id,
            group: "programs",
            what: $what,
            lost: $lost,
            fix: $fix,
            options: &[],
            need: Need::None,
            test: |_| any(&$names),
        }
    };
}

pub(super) const PROBES: &[Probe] = &[
    Probe {
        id: "init",
        group: "programs",
        what: "init, beside this program",
        lost: "container run --init",
        fix: "install all seven programs into one directory",
        options: &[],
        need: Need::None,
        test: init,
    },
    probe!(
        "rootless-network",
        "pasta or slirp4netns",
        "a network for rootless containers; without it --net none or host",
        "apt install passt (or slirp4netns)",
        ["pasta", "slirp4netns"]
    ),
    probe!("criu", "criu", "checkpoint and restore", "apt install criu", ["criu"]),
    probe!(
        "mmdebstrap",
        "mmdebstrap or debootstrap",
        "rootfs deb; the default root file system does not need it",
        "apt install mmdebstrap",
        ["mmdebstrap", "debootstrap"]
    ),
];

/// Where a program is in PATH.
pub(super) fn which(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let places = std::env::split_paths(&path).map(|dir| dir.join(name));
    let runs = |p: &PathBuf| p.is_file() && access(p.as_path(), AccessFlags::X_OK).is_ok();
    places.into_iter().find(runs)
}

fn any(names: &[&str]) -> Result<Finding> {
    match names.iter().find_map(|name| which(name)) {
        Some(path) => Finding::ok(path.display().to_string()),
        None => Finding::missing(format!("{}: not in PATH", names.join(", "))),
    }
}

fn init(_: &Facts) -> Result<Finding> {
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name("init")).filter(|p| p.is_file());
    match beside {
        Some(path) => Finding::ok(path.display().to_string()),
        None => Finding::missing("no init beside it"),
    }
}
