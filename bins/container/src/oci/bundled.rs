//! What a configuration asks of the runtime itself, beyond the stages' requests.

use super::{bad, has_own, part};
use crate::request::Namespaces;
use drydock_bundle::{Bundle, Hooks, OciState};
use drydock_core::{ContainerId, Result};
use drydock_namespaces::Kind;
use drydock_namespaces::join::Source;
use drydock_security::{ExecCpuAffinity, rdt};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The runtime's part of a configuration.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Bundled {
    /// `ociVersion`.
    pub version: String,
    /// The bundle's directory, absolute.
    pub bundle: PathBuf,
    /// `annotations`.
    pub annotations: BTreeMap<String, String>,
    /// `hooks`, all six kinds.
    pub hooks: Hooks,
    /// `process.consoleSize`: rows and columns.
    pub console_size: Option<(u16, u16)>,
    /// `linux.netDevices`: the host's name of a network device, and its name in the container.
    pub net_devices: BTreeMap<String, String>,
    /// `linux.intelRdt`: the parent makes the group and puts the container into it.
    pub intel_rdt: Option<rdt::Request>,
    /// `process.execCPUAffinity`: for what enters the running container, not for its first process.
    pub exec_cpu_affinity: Option<ExecCpuAffinity>,
    /// With `--systemd-cgroup`: the scope that systemd makes, whose cgroup is the container's.
    #[serde(skip)]
    pub scope: Option<drydock_cgroups::systemd::Request>,
    /// The namespaces that are joined by a path, by their kinds' names.
    #[serde(skip)]
    pub joined: Vec<(String, PathBuf)>,
    /// What of the configuration is ignored, and why: logged as warnings.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The container outlives its creator, who waits for nobody: `create`, and `run --detach` of a bundle.
    pub unattended: bool,
    /// An engine waits for it: `--pid-file`.
    #[serde(skip)]
    pub awaited: bool,
}

impl Bundled {
    /// The host's user id of the container's root, if it may manage the container's cgroup: it has a user and a cgroup
    /// namespace of its own, and its view of the cgroup is not read-only. As runc(8) does.
    pub fn cgroup_owner(&self, request: &crate::request::Request) -> Option<u32> {
        let namespaces = &request.namespaces;
        let own = namespaces.new.contains(Kind::User) && namespaces.new.contains(Kind::Cgroup);
        let writable = request.inside.mounts.iter().flat_map(|m| &m.mounts).any(|mount| {
            mount.fstype.as_deref().is_some_and(|kind| kind.starts_with("cgroup"))
                && !mount.options.iter().any(|word| word == "ro")
        });
        let root = request.inside.security.user.as_ref().map_or(0, |user| user.uid);
        let host = |map: &drydock_namespaces::IdMap| {
            let offset = root.checked_sub(map.inside).filter(|offset| *offset < map.count)?;
            map.outside.checked_add(offset)
        };
        namespaces.uid_map.iter().find_map(host).filter(|_| own && writable)
    }

    /// As it is kept in the container's state.
    pub fn state(&self) -> OciState {
        OciState {
            version: self.version.clone(),
            bundle: self.bundle.clone(),
            annotations: self.annotations.clone(),
            hooks: self.hooks.clone(),
            // Not before its maker has done all: killed until then, it leaves a leak.
            unattended: false,
            awaited: self.awaited,
            joined: self.joined.clone(),
        }
    }
}

/// The runtime's part of a bundle.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] with the JSON pointer.
pub(super) fn request(bundle: &Bundle, namespaces: &Namespaces, id: &ContainerId) -> Result<Bundled> {
    let spec = &bundle.spec;
    let intel_rdt: Option<rdt::Request> = part(bundle, "/linux/intelRdt")?;
    if let Some(request) = &intel_rdt {
        request.check().map_err(|e| super::place::stage(&e).unwrap_or(e))?;
        // Said now if this machine has none: nothing has been made yet.
        request.validate(id).map_err(|e| super::place::stage(&e).unwrap_or(e))?;
    }
    let exec_cpu_affinity: Option<ExecCpuAffinity> = part(bundle, "/process/execCPUAffinity")?;
    if let Some(affinity) = &exec_cpu_affinity {
        affinity.check().map_err(|e| super::place::stage(&e).unwrap_or(e))?;
    }
    Ok(Bundled {
        version: spec.oci_version.clone(),
        bundle: bundle.dir.clone(),
        annotations: spec.annotations.clone(),
        hooks: hooks(bundle)?,
        console_size: console_size(bundle),
        net_devices: net_devices(bundle, namespaces)?,
        intel_rdt,
        exec_cpu_affinity,
        warnings: bundle.warnings.clone(),
        joined: joined(namespaces),
        ..Bundled::default()
    })
}

/// Those of `create` are told now if they are not there: nothing has been made yet.
fn hooks(bundle: &Bundle) -> Result<Hooks> {
    let hooks: Hooks = part(bundle, "/hooks")?.unwrap_or_default();
    let early = [
        ("prestart", &hooks.prestart),
        ("createRuntime", &hooks.create_runtime),
        ("createContainer", &hooks.create_container),
    ];
    for (kind, list) in early {
        for (n, hook) in list.iter().enumerate() {
            if let Some(why) = no_program(&hook.path) {
                let path = drydock_core::text::shorten(
                    &drydock_core::text::escape(&hook.path.to_string_lossy()),
                    200,
                );
                let problem = format!("'{path}': {why} (allowed: a program of the host)");
                return Err(bad(&format!("/hooks/{kind}/{n}/path"), problem));
            }
        }
    }
    Ok(hooks)
}

/// Why this cannot be executed, as far as looking can tell.
fn no_program(path: &Path) -> Option<&'static str> {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    match std::fs::metadata(path) {
        Err(e) if matches!(e.kind(), NotFound | NotADirectory) => Some("no such file or directory"),
        Ok(meta) if !meta.is_file() => Some("not a file"),
        Ok(meta) if std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o111 == 0 => {
            Some("permission denied: it is not executable")
        }
        _ => None,
    }
}

fn joined(namespaces: &Namespaces) -> Vec<(String, PathBuf)> {
    let path = |(kind, source): &(Kind, Source)| match source {
        Source::Path(path) => Some((kind.to_string(), path.clone())),
        Source::Pid(_) => None,
    };
    namespaces.join.iter().filter_map(path).collect()
}

/// Ignored without a terminal, and when it is 0 by 0.
pub(super) fn console_size(bundle: &Bundle) -> Option<(u16, u16)> {
    let process = bundle.spec.process.as_ref().filter(|p| p.terminal)?;
    let size = process.console_size?;
    let side = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
    Some((side(size.height()), side(size.width()))).filter(|size| *size != (0, 0))
}

/// The container's names default to the host's. The names themselves are the network stage's to check.
fn net_devices(bundle: &Bundle, namespaces: &Namespaces) -> Result<BTreeMap<String, String>> {
    const AT: &str = "/linux/netDevices";
    let devices = bundle.linux.net_devices().clone().unwrap_or_default();
    if !devices.is_empty() && !has_own(namespaces, Kind::Network) {
        return Err(bad(
            AT,
            "needs a network namespace (allowed: with the type network in /linux/namespaces)",
        ));
    }
    let missing =
        |host: &&String| nix::net::if_::if_nametoindex(host.as_str()) == Err(nix::errno::Errno::ENODEV);
    if let Some(host) = devices.keys().find(missing) {
        let shown = drydock_core::text::shorten(&drydock_core::text::escape(host), 60);
        let pointer = format!("{AT}/{}", shown.replace('~', "~0").replace('/', "~1"));
        let problem = format!("no network device '{shown}' on the host (allowed: one of `ip link`)");
        return Err(bad(&pointer, problem));
    }
    let named = devices.into_iter().map(|(host, device)| {
        let inside = device.name().clone().filter(|name| !name.is_empty()).unwrap_or_else(|| host.clone());
        (host, inside)
    });
    Ok(named.collect())
}
