//! `linux.namespaces`, `linux.uidMappings`, `linux.gidMappings`, `linux.timeOffsets`.

use super::{bad, maps, needs_mount_namespace, part};
use crate::request::{Namespaces, Network};
use drydock_bundle::Bundle;
use drydock_core::{Error, Result};
use drydock_namespaces::join::Source;
use drydock_namespaces::time::Offsets;
use drydock_namespaces::{Kind, idmap};
use oci_spec::runtime::Linux;
use std::path::Path;

/// The namespaces, and the network that follows from them.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] with the JSON pointer.
pub fn request(bundle: &Bundle, linux: &Linux) -> Result<(Namespaces, Network)> {
    let mut result = Namespaces::default();
    let mut network = Network::Host;
    for (n, namespace) in linux.namespaces().iter().flatten().enumerate() {
        let at = format!("/linux/namespaces/{n}");
        let kind = Kind::from_flag(namespace.typ() as u32).ok_or_else(|| bad(&at, "unknown type"))?;
        if result.new.contains(kind) || result.join.iter().any(|(k, _)| *k == kind) {
            return Err(bad(&at, format!("{kind} is given twice (allowed: each type once)")));
        }
        let path = namespace.path().as_deref().filter(|path| !path.as_os_str().is_empty());
        match path {
            Some(path) => {
                check_path(path, kind, &format!("{at}/path"))?;
                result.join.push((kind, Source::Path(path.to_path_buf())));
            }
            None => result.new = result.new.with(kind),
        }
        match (kind, path) {
            (Kind::Network, Some(path)) => network = Network::Namespace(path.to_path_buf()),
            (Kind::Network, None) => network = Network::None,
            _ => {}
        }
    }
    if let (false, Some(pointer)) = (super::has_own(&result, Kind::Mount), needs_mount_namespace(linux)) {
        return Err(bad(
            pointer,
            "needs a mount namespace (allowed: with the type mount in /linux/namespaces)",
        ));
    }
    map_ids(linux, &mut result)?;
    result.offsets = offsets(bundle, &result)?;
    Ok((result, network))
}

fn check_path(path: &Path, kind: Kind, at: &str) -> Result<()> {
    if !path.is_absolute() {
        let shown = drydock_core::text::escape(&path.to_string_lossy());
        return Err(bad(at, format!("'{shown}' is relative (allowed: an absolute path)")));
    }
    drydock_namespaces::NamespaceId::of_path(path, Some(kind)).map(drop).map_err(|e| bad(at, e.sentence()))
}

/// A joined user namespace has its maps already.
fn map_ids(linux: &Linux, result: &mut Namespaces) -> Result<()> {
    let lists = [
        ("/linux/uidMappings", linux.uid_mappings().as_deref()),
        ("/linux/gidMappings", linux.gid_mappings().as_deref()),
    ];
    let new = result.new.contains(Kind::User);
    for (at, list) in lists {
        let map = maps(list);
        if !map.is_empty() && !super::has_own(result, Kind::User) {
            return Err(bad(at, "needs a user namespace (allowed: with the type user in /linux/namespaces)"));
        }
        if map.is_empty() && new {
            return Err(bad(at, "required with a new user namespace (allowed: at least one map)"));
        }
        idmap::validate(&format!("config.json: {at}"), &map)?;
    }
    if new {
        result.uid_map = maps(linux.uid_mappings().as_deref());
        result.gid_map = maps(linux.gid_mappings().as_deref());
    }
    Ok(())
}

fn offsets(bundle: &Bundle, namespaces: &Namespaces) -> Result<Offsets> {
    const AT: &str = "/linux/timeOffsets";
    let offsets: Offsets = part(bundle, AT)?.unwrap_or_default();
    if offsets.is_empty() {
        return Ok(offsets);
    }
    if !namespaces.new.contains(Kind::Time) {
        return Err(bad(AT, "needs a new time namespace (allowed: with the type time in /linux/namespaces)"));
    }
    offsets.validate().map_err(|e: Error| bad(AT, e.sentence()))?;
    Ok(offsets)
}

/// Whether ids of the process have an id outside.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] for one that has none: the kernel would refuse it in the child.
pub fn check_mapped(namespaces: &Namespaces, user: &drydock_security::User) -> Result<()> {
    if !namespaces.new.contains(Kind::User) {
        return Ok(());
    }
    let gids = std::iter::once(("/process/user/gid".to_string(), user.gid)).chain(
        (0..).zip(&user.additional_gids).map(|(n, gid)| (format!("/process/user/additionalGids/{n}"), *gid)),
    );
    let uid = ("/process/user/uid".to_string(), user.uid);
    let all = std::iter::once((uid, &namespaces.uid_map)).chain(gids.map(|gid| (gid, &namespaces.gid_map)));
    for ((at, id), map) in all {
        if idmap::outside(map, id).is_none() {
            return Err(bad(
                &at,
                format!("{id} is not mapped (allowed: an id of the user namespace's maps)"),
            ));
        }
    }
    Ok(())
}
