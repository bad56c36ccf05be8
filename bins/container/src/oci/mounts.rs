//! `mounts`, `root`, `linux.rootfsPropagation`, `linux.devices`, masked and read-only paths, `linux.mountLabel`.

use super::bad;
use crate::request::Namespaces;
use drydock_bundle::Bundle;
use drydock_core::Result;
use drydock_mounts::{Device, DeviceKind, IdMapping, Mount, Pivot, Propagation, Request, Root};
use drydock_namespaces::Kind;
use oci_spec::runtime::{Linux, LinuxDeviceType, LinuxIdMapping};
use std::path::Path;

/// The mounts of a bundle. `root`: its root file system.
///
/// # Errors
/// A propagation that the specification does not know.
pub fn request(bundle: &Bundle, linux: &Linux, root: Root, namespaces: &Namespaces) -> Result<Request> {
    for (n, mount) in (0..).zip(bundle.spec.mounts.iter()) {
        check_maps(n, mount)?;
        let empty = mount.source().as_ref().is_some_and(|source| source.as_os_str().is_empty());
        if empty && binds(mount) {
            // It would be the bundle's own directory.
            return Err(bad(&format!("/mounts/{n}/source"), "empty (allowed: a path of the host)"));
        }
    }
    let defaults = Request::container_defaults(Root::default());
    let shared_namespace = !namespaces.new.contains(Kind::Mount);
    Ok(Request {
        mounts: list(bundle),
        devices: devices(linux, defaults.devices),
        symlinks: defaults.symlinks,
        masked_paths: linux.masked_paths().clone().unwrap_or_default(),
        readonly_paths: linux.readonly_paths().clone().unwrap_or_default(),
        user_namespace: super::has_own(namespaces, Kind::User),
        host_cgroup_namespace: !super::has_own(namespaces, Kind::Cgroup),
        shared_namespace,
        pivot: if shared_namespace { Pivot::Chroot } else { Pivot::PivotRoot },
        uid_mappings: mappings(linux.uid_mappings().as_ref()),
        gid_mappings: mappings(linux.gid_mappings().as_ref()),
        label: linux.mount_label().clone().filter(|label| !label.is_empty()),
        directory: directory(bundle),
        pass_unknown: true,
        root: propagated(linux, root)?,
        ..Request::default()
    })
}

/// The configuration's own mounts.
pub fn list(bundle: &Bundle) -> Vec<Mount> {
    bundle.spec.mounts.iter().map(|m| mount(&bundle.dir, m)).collect()
}

/// Where the command begins, which cannot be made any more once the root is read-only.
fn directory(bundle: &Bundle) -> Option<String> {
    let readonly = bundle.spec.root.as_ref().and_then(|root| root.readonly()).unwrap_or(false);
    let process = bundle.spec.process.as_ref().filter(|_| readonly)?;
    Some(process.cwd.to_string_lossy().into_owned()).filter(|path| path != "/")
}

fn check_maps(n: usize, mount: &oci_spec::runtime::Mount) -> Result<()> {
    let lists = [("uidMappings", mount.uid_mappings()), ("gidMappings", mount.gid_mappings())];
    lists.into_iter().try_for_each(|(field, list)| {
        let map = super::maps(list.as_deref());
        drydock_namespaces::idmap::validate(&format!("config.json: /mounts/{n}/{field}"), &map)
    })
}

/// Without a word, mounts of the host appear in the container's bind mounts, and nothing goes back.
fn propagated(linux: &Linux, mut root: Root) -> Result<Root> {
    root.propagation = Propagation::Slave;
    if let Some(word) = linux.rootfs_propagation().as_deref().filter(|word| !word.is_empty()) {
        let (propagation, recursive) = Propagation::parse(word).ok_or_else(|| {
            let known = Propagation::WORDS.join(", ");
            let shown = drydock_core::text::escape(word);
            bad("/linux/rootfsPropagation", format!("'{shown}' is no propagation (allowed: {known})"))
        })?;
        (root.propagation, root.propagation_recursive) = (propagation, recursive);
    }
    Ok(root)
}

fn mount(bundle: &Path, mount: &oci_spec::runtime::Mount) -> Mount {
    let options = mount.options().clone().unwrap_or_default();
    let source = mount.source().as_ref().map(|source| match binds(mount) {
        true => bundle.join(source).to_string_lossy().into_owned(),
        false => source.to_string_lossy().into_owned(),
    });
    Mount {
        destination: mount.destination().to_string_lossy().into_owned(),
        fstype: mount.typ().clone(),
        source,
        options,
        uid_mappings: mappings(mount.uid_mappings().as_ref()),
        gid_mappings: mappings(mount.gid_mappings().as_ref()),
    }
}

fn binds(mount: &oci_spec::runtime::Mount) -> bool {
    mount.options().iter().flatten().any(|option| option == "bind" || option == "rbind")
        || mount.typ().as_deref().is_none_or(|t| matches!(t, "" | "bind" | "none"))
}

fn mappings(lines: Option<&Vec<LinuxIdMapping>>) -> Vec<IdMapping> {
    let one = |l: &LinuxIdMapping| IdMapping {
        container_id: l.container_id(),
        host_id: l.host_id(),
        size: l.size(),
    };
    lines.into_iter().flatten().map(one).collect()
}

/// The devices that the specification supplies, and the configuration's own.
fn devices(linux: &Linux, mut devices: Vec<Device>) -> Vec<Device> {
    for device in linux.devices().iter().flatten() {
        let path = device.path().to_string_lossy().into_owned();
        devices.retain(|d| d.path != path);
        devices.push(Device {
            path,
            kind: match device.typ() {
                LinuxDeviceType::B => DeviceKind::Block,
                LinuxDeviceType::P => DeviceKind::Fifo,
                _ => DeviceKind::Char,
            },
            major: u32::try_from(device.major()).unwrap_or(u32::MAX),
            minor: u32::try_from(device.minor()).unwrap_or(u32::MAX),
            // Engines leave the bits of the type in it.
            mode: device.file_mode().unwrap_or(0o666) & 0o7777,
            uid: device.uid().unwrap_or(0),
            gid: device.gid().unwrap_or(0),
        });
    }
    devices
}
