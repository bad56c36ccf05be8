//! Where containers' state and data are, and terminals.

use super::place::{Facts, Scratch, nearest};
use super::{Finding, Need, Probe};
use drydock_core::Result;
use drydock_core::error::CallExt;

pub(super) const PROBES: &[Probe] = &[
    Probe {
        id: "state",
        group: "files",
        what: "state directory can be written",
        lost: "container run, and every verb that changes a container",
        fix: "give --root DIR, or set DRYDOCK_ROOT, to a directory that this user may write",
        options: &[],
        need: Need::All,
        test: |facts| writable(facts, &facts.state),
    },
    Probe {
        id: "data",
        group: "files",
        what: "data directory can be written",
        lost: "container run without --rootfs (root file systems and layers are kept there)",
        fix: "set DRYDOCK_DATA to a directory that this user may write",
        options: &[],
        need: Need::All,
        test: |facts| writable(facts, &facts.data),
    },
    Probe {
        id: "data-fs",
        group: "files",
        what: "data directory is not on an overlay",
        lost: "an overlay's upper layer on another overlay is refused or slow: container run without --rootfs",
        fix: "set DRYDOCK_DATA to a directory on ext4, xfs, btrfs or tmpfs",
        options: &[],
        need: Need::None,
        test: not_overlay,
    },
    Probe {
        id: "pty",
        group: "files",
        what: "pseudoterminals",
        lost: "container run -t, exec -t",
        fix: "mount devpts on /dev/pts",
        options: &["CONFIG_UNIX98_PTYS"],
        need: Need::None,
        test: |_| {
            let (_master, slave) = drydock_supervise::terminal::open_pty()?;
            Finding::ok(slave)
        },
    },
];

fn writable(_: &Facts, place: &Result<std::path::PathBuf>) -> Result<Finding> {
    let dir = place.clone()?;
    let scratch = Scratch::new(&dir)?;
    let file = scratch.0.join("file");
    std::fs::write(&file, "x").call(|| format!("write({file:?})"))?;
    let there =
        if dir.is_dir() { String::new() } else { format!(" (to be made in {})", nearest(&dir).display()) };
    Finding::ok(format!("{}{there}", dir.display()))
}

fn not_overlay(facts: &Facts) -> Result<Finding> {
    const OVERLAY: rustix::fs::FsWord = 0x794c_7630;
    let dir = facts.data.clone()?;
    let near = nearest(&dir);
    let stat = rustix::fs::statfs(near).call(|| format!("statfs({near:?})"))?;
    let said = format!("{}: file system type {:#x}", near.display(), stat.f_type);
    if stat.f_type == OVERLAY { Finding::degraded(format!("{said}, overlay")) } else { Finding::ok(said) }
}
