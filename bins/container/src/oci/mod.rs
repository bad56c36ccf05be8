//! An OCI bundle as a container's request: every stage gets its part of config.json.

mod bundled;
pub mod clock;
pub mod life;
mod mounts;
pub mod resources;

pub use bundled::Bundled;

use crate::request::{Namespaces, Network, Request};
use crate::rootfs::Source;
use drydock_bundle::Bundle;
use drydock_cgroups::{IfExists, Limits};
use drydock_core::{ContainerId, Error, Result};
use drydock_init::inside;
use drydock_mounts::Root;
use drydock_namespaces::join::Source as NamespaceSource;
use drydock_namespaces::{IdMap, Kind};
use drydock_security::{CapSet, Capabilities, Rlimit, Seccomp, User};
use oci_spec::runtime::{Linux, Process, Spec};
use std::collections::BTreeMap;
use std::path::Path;

fn bad(pointer: &str, problem: impl Into<String>) -> Error {
    Error::bad_input(format!("config.json: {pointer}"), problem)
}

/// The request that a bundle makes.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] with the JSON pointer of what is wrong, or of what is not supported.
pub fn request(bundle: &Bundle, id: &ContainerId, state_root: &Path) -> Result<Request> {
    let spec = &bundle.spec;
    let linux = spec.linux().clone().unwrap_or_default();
    if spec.hooks().is_some()
        && bundle.json.pointer("/hooks").and_then(|h| h.as_object()).is_some_and(|h| !h.is_empty())
    {
        return Err(bad("/hooks", "not supported yet"));
    }
    let (namespaces, network) = namespaces(&linux)?;
    let root = root(bundle)?;
    let process = spec.process().as_ref().ok_or_else(|| bad("/process", "required"))?;
    let inside = inside_request(bundle, &linux, process, root.clone(), &namespaces, id)?;
    Ok(Request {
        cgroup: Some(drydock_cgroups::Request {
            name: cgroup_name(&linux, id)?,
            limits: limits(&linux)?,
            if_exists: IfExists::ReuseEmpty,
            lenient: false,
            make_leaf: false,
            lean: true,
            dirs: vec![],
            complete: true,
        }),
        id: id.clone(),
        rootfs: Source::Directory(root.path),
        mapped: None,
        namespaces,
        network,
        files: drydock_network::etc::Request {
            dir: state_root.join(id),
            hostname: None,
            hosts: vec![],
            dns: vec![],
            host_network: false,
        },
        inside,
        detach: false,
        interactive: true,
        remove: true,
        stop: (nix::libc::SIGTERM, 10),
        labels: annotations(spec),
        bundled: Some(Bundled {
            version: spec.version().clone(),
            bundle: bundle.dir.clone(),
            annotations: annotations(spec),
            ..Bundled::default()
        }),
    })
}

fn annotations(spec: &Spec) -> BTreeMap<String, String> {
    spec.annotations().clone().unwrap_or_default().into_iter().collect()
}

fn root(bundle: &Bundle) -> Result<Root> {
    let root = bundle.spec.root().as_ref().ok_or_else(|| bad("/root", "required"))?;
    let path = bundle.dir.join(root.path());
    let real =
        std::fs::canonicalize(&path).map_err(|e| bad("/root/path", format!("{}: {e}", path.display())))?;
    if !real.is_dir() {
        return Err(bad("/root/path", format!("{} is not a directory", real.display())));
    }
    if real == Path::new("/") {
        return Err(bad("/root/path", "is the host's own root (allowed: a directory of its own)"));
    }
    Ok(Root { readonly: root.readonly().unwrap_or(false), ..Root::directory(real) })
}

fn namespaces(linux: &Linux) -> Result<(Namespaces, Network)> {
    let mut result = Namespaces::default();
    let mut network = Network::Host;
    for namespace in linux.namespaces().clone().unwrap_or_default() {
        let kind = Kind::from_flag(namespace.typ() as u32)
            .ok_or_else(|| bad("/linux/namespaces", "unknown type"))?;
        let twice = result.new.contains(kind) || result.join.iter().any(|(k, _)| *k == kind);
        if twice {
            return Err(bad("/linux/namespaces", format!("{kind} given twice")));
        }
        match namespace.path() {
            Some(path) => {
                drydock_namespaces::NamespaceId::of_path(path, Some(kind))?;
                result.join.push((kind, NamespaceSource::Path(path.clone())));
                if kind == Kind::Network {
                    network = Network::Namespace(path.clone());
                }
            }
            None => {
                result.new.insert(kind);
                if kind == Kind::Network {
                    network = Network::None;
                }
            }
        }
    }
    if !result.new.contains(Kind::Mount) {
        return Err(bad("/linux/namespaces", "a mount namespace is required"));
    }
    result.uid_map = maps(linux.uid_mappings().as_deref());
    result.gid_map = maps(linux.gid_mappings().as_deref());
    let mapped = !result.uid_map.is_empty() || !result.gid_map.is_empty();
    if mapped && !result.new.contains(Kind::User) {
        return Err(bad("/linux/uidMappings", "needs a user namespace"));
    }
    drydock_namespaces::idmap::validate("config.json: /linux/uidMappings", &result.uid_map)?;
    drydock_namespaces::idmap::validate("config.json: /linux/gidMappings", &result.gid_map)?;
    Ok((result, network))
}

fn maps(lines: Option<&[oci_spec::runtime::LinuxIdMapping]>) -> Vec<IdMap> {
    lines.unwrap_or_default().iter().map(|l| IdMap::new(l.container_id(), l.host_id(), l.size())).collect()
}

/// `cgroupsPath`, made relative: an absolute one starts at the hierarchy's root, too.
fn cgroup_name(linux: &Linux, id: &ContainerId) -> Result<String> {
    match linux.cgroups_path() {
        None => Ok(format!("{}/{id}", drydock_cgroups::SHARED_PARENT)),
        Some(path) => {
            let name = path.to_string_lossy().trim_start_matches('/').to_string();
            drydock_cgroups::check_name(&name).map_err(|e| bad("/linux/cgroupsPath", e.sentence()))?;
            Ok(name)
        }
    }
}

/// The limits, and which devices may be used: only root can say that.
fn limits(linux: &Linux) -> Result<Limits> {
    const AT: &str = "config.json: /linux/resources";
    let resources = linux.resources().clone().unwrap_or_default();
    let mut limits = resources::limits(&resources, AT)?;
    if nix::unistd::geteuid().is_root() {
        limits.devices = Some(resources::devices(resources.devices().as_deref().unwrap_or_default(), AT)?);
    }
    Ok(limits)
}

fn inside_request(
    bundle: &Bundle,
    linux: &Linux,
    process: &Process,
    root: Root,
    namespaces: &Namespaces,
    id: &ContainerId,
) -> Result<inside::Request> {
    let spec = &bundle.spec;
    let args = process.args().clone().unwrap_or_default();
    if args.is_empty() {
        return Err(bad("/process/args", "empty (allowed: a program and its arguments)"));
    }
    let cwd = process.cwd().to_string_lossy().into_owned();
    if !cwd.starts_with('/') {
        return Err(bad("/process/cwd", "must be absolute"));
    }
    let user = process.user();
    Ok(inside::Request {
        hostname: spec.hostname().clone().filter(|h| !h.is_empty()),
        domainname: spec.domainname().clone().filter(|d| !d.is_empty()),
        cgroup_namespace: namespaces.new.contains(Kind::Cgroup),
        loopback: namespaces.new.contains(Kind::Network),
        session: true,
        terminal: process.terminal().unwrap_or(false),
        sysctls: linux.sysctl().clone().unwrap_or_default().into_iter().collect(),
        mounts: Some(mounts::request(bundle, linux, root, namespaces)?),
        security: security(bundle, process, id)?,
        user: Some(format!("{}:{}", user.uid(), user.gid())),
        workdir: Some(cwd),
        args,
        env: process.env().clone().unwrap_or_default(),
        reaper: false,
        preserve_fds: 0,
    })
}

fn security(bundle: &Bundle, process: &Process, id: &ContainerId) -> Result<drydock_security::Request> {
    let seccomp = match bundle.json.pointer("/linux/seccomp") {
        None | Some(serde_json::Value::Null) => Seccomp::None,
        Some(value) => {
            let profile =
                serde_json::from_value(value.clone()).map_err(|e| bad("/linux/seccomp", e.to_string()))?;
            Seccomp::Inline(Box::new(profile))
        }
    };
    let user = process.user();
    Ok(drydock_security::Request {
        capabilities: capabilities(bundle)?,
        no_new_privs: process.no_new_privileges().unwrap_or(false),
        seccomp,
        rlimits: process
            .rlimits()
            .iter()
            .flatten()
            .map(|r| Rlimit { name: r.typ().to_string(), soft: r.soft(), hard: r.hard(), best_effort: false })
            .collect(),
        user: Some(User {
            uid: user.uid(),
            gid: user.gid(),
            additional_gids: user.additional_gids().clone().unwrap_or_default(),
            umask: user.umask().or(Some(0o022)),
        }),
        keyring: Some(format!("_ses.{id}")),
        apparmor: process.apparmor_profile().clone().filter(|p| !p.is_empty()),
        selinux: process.selinux_label().clone().filter(|l| !l.is_empty()),
        oom_score_adj: process.oom_score_adj(),
        ..drydock_security::Request::default()
    })
}

fn capabilities(bundle: &Bundle) -> Result<Option<Capabilities>> {
    let Some(sets) = bundle.json.pointer("/process/capabilities").filter(|v| !v.is_null()) else {
        // None given: none kept.
        return Ok(Some(Capabilities::uniform(CapSet::EMPTY)));
    };
    let set = |name: &str| -> Result<CapSet> {
        let names = sets.get(name).and_then(|v| v.as_array()).cloned().unwrap_or_default();
        names.iter().filter_map(|v| v.as_str()).try_fold(CapSet::EMPTY, |all, name| {
            let one = CapSet::parse(name).map_err(|e| bad("/process/capabilities", e.sentence()))?;
            Ok(all | one)
        })
    };
    let (permitted, inheritable) = (set("permitted")?, set("inheritable")?);
    Ok(Some(Capabilities {
        bounding: set("bounding")?,
        effective: set("effective")?,
        permitted,
        inheritable,
        // The kernel keeps ambient what is also permitted and inheritable; configurations ask for more (runc spec does).
        ambient: set("ambient")? & permitted & inheritable,
    }))
}
