//! `rootfs mount --bind SRC --map-users …`: a tree whose files belong to the ids of a user namespace.

use drydock_core::error::CallExt;
use drydock_core::sys::process::{Child, clone_child};
use drydock_core::{Ctx, Error, Result};
use drydock_namespaces::idmap::{outside, write_maps};
use drydock_namespaces::relay::{self, End};
use drydock_namespaces::{IdMap, Kind, Set};
use std::path::{Path, PathBuf};

/// Which ids a bind mount shifts to which.
#[derive(clap::Args, Debug, Default)]
pub struct Maps {
    /// With --bind: show files of user INSIDE as those of user OUTSIDE (MOUNT_ATTR_IDMAP in mount_setattr(2))
    #[arg(long, value_name = "INSIDE:OUTSIDE:COUNT", requires = "bind", requires = "map_groups")]
    map_users: Vec<IdMap>,
    /// The same for groups
    #[arg(long, value_name = "INSIDE:OUTSIDE:COUNT", requires = "bind", requires = "map_users")]
    map_groups: Vec<IdMap>,
}

/// A process that does nothing but keep a user namespace with the maps; it ends with this value.
pub struct Holder {
    child: Child,
    end: Option<End>,
}

impl Maps {
    /// Whether anything is to be shifted.
    pub fn any(&self) -> bool {
        !self.map_users.is_empty()
    }

    /// Gives a directory to the ids that are 0 in the namespace.
    ///
    /// # Errors
    /// chown(2)'s; maps without an id 0.
    pub fn give(&self, dir: &Path) -> Result<()> {
        let (uid, gid) = (outside(&self.map_users, 0), outside(&self.map_groups, 0));
        if uid.is_none() || gid.is_none() {
            return Err(Error::bad_input(
                "--map-users",
                "does not map id 0 (allowed: such as 0:100000:65536)",
            ));
        }
        std::os::unix::fs::chown(dir, uid, gid).call(|| format!("chown({dir:?}, {uid:?}, {gid:?})"))
    }

    /// Makes the user namespace.
    ///
    /// # Errors
    /// clone3(2)'s, and those of writing the maps.
    pub fn hold(&self, ctx: &Ctx<'_>) -> Result<Holder> {
        let (here, there) = relay::pair()?;
        let mut end = Some(here);
        let kinds: Set = [Kind::User].into_iter().collect();
        let child = clone_child(kinds.flags(), None, || {
            drop(end.take());
            // Nothing is said: the other end closes.
            let _ = there.hear();
            0
        })
        .map_err(|e| drydock_namespaces::create::explain_clone(e, kinds, "clone3"))?;
        let holder = Holder { child, end };
        write_maps(holder.child.pid, &self.map_users, &self.map_groups, ctx)?;
        Ok(holder)
    }
}

impl Holder {
    /// The namespace's file.
    pub fn file(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/user", self.child.pid))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.end.take());
        let _ = drydock_supervise::wait_exit(&self.child);
    }
}
