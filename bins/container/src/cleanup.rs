//! Taking a container's objects away again: after it ended, when its making failed, and when its owner was killed.

use crate::ours;
use crate::request::Request;
use drydock_bundle::remove::remove_below;
use drydock_bundle::state::start_time;
use drydock_bundle::{Held, Life, Store};
use drydock_cgroups::Cgroup;
use drydock_core::error::CallExt;
use drydock_core::{ContainerId, Ctx, Error, Journal, Object, Result, paths};
use drydock_mounts::table;
use drydock_namespaces::Kind;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a cgroup's processes may take to die.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// Removes everything that the journal of `dir` names, last made first; goes on after an error and returns the first.
///
/// # Errors
/// What could not be removed.
pub fn undo(id: &ContainerId, dir: &Path, state_root: &Path, ctx: &Ctx<'_>) -> Result<()> {
    let objects = ours::objects(dir)?;
    let mut first_error = None;
    let mut keep = |result: Result<()>| {
        if let Err(e) = result {
            first_error.get_or_insert(e);
        }
    };
    // Processes first: what they hold (namespaces, mounts, links) cannot go before them.
    for object in objects.iter().rev() {
        match object {
            Object::Process { pid, start_time } if ours::is_process(*pid) => {
                keep(ctx.measure("process", "pidfd_send_signal(SIGKILL)", || {
                    kill_process(*pid, *start_time);
                    Ok(())
                }))
            }
            Object::Cgroup { dirs } => keep(ctx.measure("cgroup", "rmdir()", || {
                ours::check_cgroup(dirs).and_then(|()| remove_cgroup(dirs))
            })),
            Object::SystemdUnit { name, user } => {
                keep(ctx.measure("cgroup", "StopUnit()", || drydock_cgroups::systemd::stop(name, *user)));
            }
            Object::ResctrlGroup { path } => {
                keep(ctx.measure("security", "rmdir()", || drydock_security::rdt::remove(path)));
            }
            _ => {}
        }
    }
    keep(crate::network::detach(id.as_str(), &objects, state_root, ctx));
    for object in objects.iter().rev() {
        match object {
            Object::Mount { target, below } => {
                keep(ours::check_mount(target, dir).and_then(|()| unmount(target, *below)));
            }
            Object::Directory { path } | Object::File { path } => keep(remove_path(path, dir)),
            _ => {}
        }
    }
    match first_error {
        Some(error) => Err(error.hint(format!("try again: container delete --force {id}"))),
        None => Ok(()),
    }
}

fn remove_cgroup(dirs: &[PathBuf]) -> Result<()> {
    Cgroup::at(dirs.iter().cloned())?.remove(KILL_TIMEOUT)
}

/// Kills one process of ours, unless its pid has come to mean another.
fn kill_process(pid: i32, start: u64) {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    let Some(target) = Pid::from_raw(pid) else { return };
    let Ok(pidfd) = pidfd_open(target, PidfdFlags::empty()) else { return };
    // The descriptor is held: the pid cannot be given away between this look and the kill.
    if start_time(pid) == Some(start) {
        use std::os::fd::AsFd;
        let _ = drydock_core::sys::signal::pidfd_kill(pidfd.as_fd(), nix::libc::SIGKILL);
        let mut fds = [nix::poll::PollFd::new(pidfd.as_fd(), nix::poll::PollFlags::POLLIN)];
        let _ = nix::poll::poll(&mut fds, 5000u16);
    }
}

/// Writes down what a container without a mount namespace of its own will leave mounted in ours: its root, with all below.
/// In a namespace that it joins, that is its owner's business.
///
/// # Errors
/// When the mounts cannot be listed, or the journal not be written.
pub fn note_shared_mounts(request: &Request, dir: &Path, journal: &Journal) -> Result<()> {
    let joins = request.namespaces.join.iter().any(|(kind, _)| *kind == Kind::Mount);
    let Some(mounts) = request.inside.mounts.as_ref().filter(|m| m.shared_namespace && !joins) else {
        return Ok(());
    };
    let target = mounts.root.path.clone();
    if ours::check_mount(&target, dir).is_err() {
        return Ok(());
    }
    let below = table::stacked(&target)?;
    journal.record(&Object::Mount { target, below })
}

/// Takes away what is mounted there, down to what was there before.
fn unmount(target: &Path, below: usize) -> Result<()> {
    use nix::mount::{MntFlags, umount2};
    while below == 0 || table::stacked(target)? > below {
        match umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => return Ok(()),
            Err(e) => return Err(Error::call(format!("umount2({target:?}, MNT_DETACH)"), e)),
        }
    }
    Ok(())
}

/// The place where only we make things, below which it is.
fn place_of(path: &Path, state_dir: &Path) -> Option<PathBuf> {
    let state = path.starts_with(state_dir).then(|| state_dir.parent().map(Path::to_path_buf)).flatten();
    let data = || paths::data_root().ok().map(|root| root.join("containers"));
    state.or_else(|| data().filter(|data| path.starts_with(data) && path != data))
}

/// Removes a directory or a file that the journal names, if it is below a place of ours.
fn remove_path(path: &Path, state_dir: &Path) -> Result<()> {
    match place_of(path, state_dir) {
        Some(place) => remove_below(&place, path),
        None => {
            Err(Error::failed(path.display().to_string(), "is in the journal but is not ours; left alone"))
        }
    }
}

/// Removes a directory of ours with all that is in it; one that is gone is fine.
///
/// # Errors
/// unlink and rmdir errors.
pub fn remove_directory(path: &Path) -> Result<()> {
    remove_below(path.parent().unwrap_or(Path::new("/")), path)
}

/// Forgets a container: its journal has been undone, only its directory is left. Renamed first, so that a death in the
/// middle leaves a name that cannot be a container's.
///
/// # Errors
/// rename, unlink and rmdir errors.
pub fn forget(store: &Store, id: &ContainerId) -> Result<()> {
    let dir = store.dir(id);
    let gone = store.root().join(format!("@gone-{}-{id}", std::process::id()));
    match std::fs::rename(&dir, &gone) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.call(|| format!("rename({dir:?}, {gone:?})"))?,
    }
    crate::told::deleted(store.root(), id.as_str());
    store.remove(&gone)
}

/// Directories that a [`forget`] was killed over: of one container, or of all.
pub fn half_forgotten(store: &Store, of: Option<&str>) -> Vec<PathBuf> {
    let Ok(listing) = std::fs::read_dir(store.root()) else { return Vec::new() };
    let wanted = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let id = name.strip_prefix("@gone-").and_then(|rest| rest.split_once('-')).map(|(_, id)| id);
        id.is_some_and(|id| of.is_none_or(|wanted| wanted == id))
    };
    listing.flatten().map(|entry| entry.path()).filter(wanted).collect()
}

/// What became of a container that nobody owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Somebody owns it, or it is a finished container's record.
    Fine,
    /// It was made by hand with the stage tools; only its maker knows whether it is still wanted.
    ByHand,
    /// Its owner died before it could clean up.
    Leaked,
}

/// Judges a container. The lock comes back with [`Verdict::Leaked`], so that nobody else removes it at the same time.
///
/// # Errors
/// When its lock cannot be opened.
pub fn judge(store: &Store, entry: &drydock_bundle::Entry) -> Result<(Verdict, Option<Held>)> {
    // A lock file that is missing was never taken, or is gone with the rest; asking must not make one.
    let lock = entry.dir.join("lock");
    if ours::is_foreign(&lock) {
        // An owner's is a regular file.
        return Ok((Verdict::Leaked, None));
    }
    let made = lock.exists();
    let Some(held) = (if made { store.try_own(&entry.id)? } else { None }) else {
        let verdict = match (made, entry.is_by_hand()) {
            (true, _) => Verdict::Fine,
            (false, true) => Verdict::ByHand,
            (false, false) => Verdict::Leaked,
        };
        return Ok((verdict, None));
    };
    if entry.state.as_ref().is_ok_and(|s| s.oci.as_ref().is_some_and(|oci| oci.unattended)) {
        // Nobody owns it, and that is as it should be: whoever made it deletes it.
        return Ok((Verdict::Fine, None));
    }
    let finished = entry.state.as_ref().is_ok_and(|s| s.status == Life::Stopped);
    let clean = ours::objects(&entry.dir).is_ok_and(|objects| objects.is_empty());
    if finished && clean { Ok((Verdict::Fine, None)) } else { Ok((Verdict::Leaked, Some(held))) }
}
