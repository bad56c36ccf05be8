//! `--userns`: whether the container has a user namespace, and which ids it maps.

use crate::request::Namespaces;
use drydock_core::{Error, Result};
use drydock_namespaces::idmap::{Ids, has_helper};
use drydock_namespaces::{IdMap, Kind, subid};

/// Ids of one container.
const COUNT: u32 = 65_536;

/// Decides from the option. Without one: none for root, the caller's own id for anybody else; for an image, which has files of
/// several users, all ids that the caller is granted.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] for a map that cannot be, or `host` without the privilege to do without.
pub fn decide(option: Option<&str>, root: bool, image: bool, namespaces: &mut Namespaces) -> Result<()> {
    let asked = option.unwrap_or(if root { "host" } else { "auto" });
    if asked == "host" {
        if !root {
            return Err(Error::bad_input(
                "--userns",
                "'host' needs root: the other namespaces do too (allowed: auto)",
            ));
        }
        return Ok(());
    }
    namespaces.new.insert(Kind::User);
    let (uid, gid) = match asked {
        "auto" if root => (block(Ids::User)?, block(Ids::Group)?),
        "auto" if image => granted().unwrap_or_else(own),
        "auto" => own(),
        map => {
            let map: IdMap = map.parse().map_err(|e: Error| Error::bad_input("--userns", e.sentence()))?;
            (vec![map], vec![map])
        }
    };
    if !uid.iter().any(|m| m.to_outside(0).is_some()) {
        return Err(Error::bad_input("--userns", "does not map id 0 inside, which sets the container up"));
    }
    namespaces.uid_map = uid;
    namespaces.gid_map = gid;
    Ok(())
}

/// Root's ids of /etc/subuid and /etc/subgid, else a block above every ordinary user's.
fn block(ids: Ids) -> Result<Vec<IdMap>> {
    const ABOVE_USERS: u32 = 0x2000_0000;
    let granted = subid::granted(ids).unwrap_or_default();
    let start = granted.iter().find(|range| range.count >= COUNT).map_or(ABOVE_USERS, |range| range.start);
    Ok(vec![IdMap::new(0, start, COUNT)])
}

/// The caller's own id, and the ranges of /etc/subuid and /etc/subgid from 1 on.
fn granted() -> Option<(Vec<IdMap>, Vec<IdMap>)> {
    if !has_helper(Ids::User) || !has_helper(Ids::Group) {
        return None;
    }
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    Some((subid::auto(Ids::User, Some((0, uid))).ok()?, subid::auto(Ids::Group, Some((0, gid))).ok()?))
}

/// One id: what an unprivileged user may map without help.
fn own() -> (Vec<IdMap>, Vec<IdMap>) {
    let uid = nix::unistd::geteuid().as_raw();
    let gid = nix::unistd::getegid().as_raw();
    (vec![IdMap::new(0, uid, 1)], vec![IdMap::new(0, gid, 1)])
}
