//! A running container's root, for `rootfs pack --container`.

use drydock_bundle::{Life, Store};
use drydock_core::error::CallExt;
use drydock_core::{Error, Result, paths};
use drydock_images::oci::pack::{View, mount_of};
use drydock_namespaces::idmap::parse_line;
use drydock_namespaces::process::Process;
use rustix::fs::{Mode, OFlags};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// What is known of one.
pub struct Found {
    /// Its root, as it sees it itself.
    pub dir: OwnedFd,
    /// What of it is its own, and whose.
    pub view: View,
    /// What its overlay lies on.
    pub rootfs: PathBuf,
}

/// Finds a running one by its name or id.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] if there is none, or it has ended; open(2)'s.
pub fn find(name: &str) -> Result<Found> {
    let entry = Store::at(paths::state_root(None)?).find(name)?;
    let stopped = || {
        let problem = "does not run: what it has written is gone with it (allowed: a running container)";
        Error::bad_input(format!("container '{}'", entry.id), problem)
    };
    let runs = matches!(entry.life(), Some(Life::Running | Life::Paused | Life::Created));
    let Some(state) = entry.state.as_ref().ok().filter(|_| runs) else { return Err(stopped()) };
    let process = Process::open(state.pid.ok_or_else(stopped)?)?;
    if Some(process.start_time()?) != state.start_time {
        return Err(stopped());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(process.root()?, ".", flags, Mode::empty());
    let dir = opened.call(|| "openat(container's root)")?;
    let map = |file: &str| -> Result<Vec<(u32, u32, u32)>> {
        let text = String::from_utf8_lossy(&process.read(file)?).into_owned();
        let lines = text.lines().filter_map(parse_line);
        Ok(lines.map(|line| (line.inside, line.outside, line.count)).collect())
    };
    let view = View { mount: Some(mount_of(&dir)?), users: map("uid_map")?, groups: map("gid_map")? };
    // The root was its own when the process was held.
    process.check_alive()?;
    Ok(Found { dir, view, rootfs: state.rootfs.clone() })
}
