//! Ids and capabilities of a process that has entered namespaces. Source: credentials(7), capabilities(7).

use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use nix::errno::Errno;
use nix::unistd::{Gid, Uid};
use rustix::process::DumpableBehavior;
use rustix::thread::CapabilitySet;

/// Makes the process invisible to ptrace(2) and its /proc/PID files unreadable for those without privilege over it,
/// until the next exec. For a process that enters a hostile container with open descriptors (CVE-2016-9962).
///
/// # Errors
/// prctl(2)'s.
pub fn hide() -> Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).call(|| "prctl(PR_SET_DUMPABLE, 0)")
}

/// Undoes [`hide`]; also after a change of ids, which hides too. A process in a user namespace needs it to open its own
/// /proc files.
///
/// # Errors
/// prctl(2)'s.
pub fn show() -> Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable).call(|| "prctl(PR_SET_DUMPABLE, 1)")
}

/// Empties the inheritable and ambient capability sets, so that exec passes on no more than the ids grant
/// (CVE-2022-29162).
///
/// # Errors
/// prctl(2)'s and capset(2)'s.
pub fn clear_inheritable() -> Result<()> {
    rustix::thread::clear_ambient_capability_set()
        .call(|| "prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)")?;
    let mut sets = rustix::thread::capabilities(None).call(|| "capget()")?;
    sets.inheritable = CapabilitySet::empty();
    rustix::thread::set_capabilities(None, sets).call(|| "capset(inheritable: 0)")
}

/// Makes the permitted capabilities survive an exec as a user other than root: inheritable and ambient.
///
/// # Errors
/// prctl(2)'s and capset(2)'s.
pub fn keep_over_exec() -> Result<()> {
    let mut sets = rustix::thread::capabilities(None).call(|| "capget()")?;
    sets.inheritable = sets.permitted;
    sets.effective = sets.permitted;
    rustix::thread::set_capabilities(None, sets).call(|| "capset(inheritable: permitted)")?;
    for capability in sets.permitted.iter() {
        rustix::thread::configure_capability_in_ambient_set(capability, true)
            .call(|| "prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE)")?;
    }
    Ok(())
}

/// Which ids to take on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// Real, effective, saved and file system user id.
    pub uid: Option<u32>,
    /// The same for the group.
    pub gid: Option<u32>,
    /// Keep the permitted capabilities when the uid leaves 0.
    pub keep_capabilities: bool,
}

/// Takes on ids: supplementary groups are dropped (unless setgroups(2) is denied in this user namespace), then the
/// group, then the user.
///
/// # Errors
/// EINVAL, said in words, when an id has no mapping in the user namespace; EPERM without CAP_SETUID or CAP_SETGID.
pub fn become_ids(ids: Ids) -> Result<()> {
    if ids.uid.is_none() && ids.gid.is_none() {
        return Ok(());
    }
    if ids.keep_capabilities {
        rustix::thread::set_keep_capabilities(true).call(|| "prctl(PR_SET_KEEPCAPS, 1)")?;
    }
    drop_groups()?;
    if let Some(gid) = ids.gid {
        let id = Gid::from_raw(gid);
        nix::unistd::setresgid(id, id, id).map_err(|e| explain("setresgid", "gid", gid, e))?;
    }
    if let Some(uid) = ids.uid {
        let id = Uid::from_raw(uid);
        nix::unistd::setresuid(id, id, id).map_err(|e| explain("setresuid", "uid", uid, e))?;
    }
    Ok(())
}

/// Becomes root of the user namespace that the process was born in: it still has the ids of its parent, which may mean
/// nobody in there. What it has been told about its parent's death it keeps (prctl(2) forgets it).
///
/// # Errors
/// setresgid(2)'s and setresuid(2)'s.
pub fn become_root_inside() -> Result<()> {
    if nix::unistd::getuid().is_root() {
        return Ok(());
    }
    let tied = rustix::process::parent_process_death_signal().ok().flatten();
    let (gid, uid) = (Gid::from_raw(0), Uid::from_raw(0));
    nix::unistd::setresgid(gid, gid, gid).call(|| "setresgid(0, 0, 0)")?;
    nix::unistd::setresuid(uid, uid, uid).call(|| "setresuid(0, 0, 0)")?;
    match tied {
        None => Ok(()),
        tied => rustix::process::set_parent_process_death_signal(tied).call(|| "prctl(PR_SET_PDEATHSIG, …)"),
    }
}

/// Drops the supplementary groups, if there are any, unless that is denied in this user namespace.
///
/// # Errors
/// EPERM without CAP_SETGID.
pub fn drop_groups() -> Result<()> {
    if nix::unistd::getgroups().is_ok_and(|groups| groups.is_empty()) {
        return Ok(());
    }
    match nix::unistd::setgroups(&[]) {
        Ok(()) => Ok(()),
        // Denied for good in this user namespace, or without a gid map: there is no way to drop them.
        Err(Errno::EPERM) if setgroups_is_denied() => Ok(()),
        Err(e) => Err(Error::call("setgroups(0, [])", e).hint("changing groups needs CAP_SETGID")),
    }
}

fn setgroups_is_denied() -> bool {
    let denied = std::fs::read_to_string("/proc/self/setgroups").is_ok_and(|text| text.trim() == "deny");
    let unmapped = std::fs::read_to_string("/proc/self/gid_map").is_ok_and(|text| text.trim().is_empty());
    denied || unmapped || !std::path::Path::new("/proc/self").exists()
}

fn explain(call: &str, what: &str, id: u32, errno: Errno) -> Error {
    let error = Error::call(format!("{call}({id}, {id}, {id})"), errno);
    match errno {
        Errno::EINVAL => {
            let ids = if what == "uid" { crate::idmap::Ids::User } else { crate::idmap::Ids::Group };
            let map = crate::idmap::words(&crate::idmap::of_self(ids));
            error
                .on(format!("{what} {id}"))
                .because(format!("not mapped in this user namespace, which has {map}"))
                .hint("monitor ns map PID shows the map; or keep your ids with --preserve-credentials")
        }
        Errno::EPERM => {
            error.hint(format!("changing the {what} needs CAP_SETUID and CAP_SETGID in the user namespace"))
        }
        _ => error,
    }
}
