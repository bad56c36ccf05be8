//! `linux.cgroupsPath` and `linux.resources`.

use super::{Bundled, Options, bad, resources};
use drydock_cgroups::{IfExists, Layout, Limits, Place, SHARED_PARENT, UNLIMITED, systemd};
use drydock_core::{ContainerId, Result};
use oci_spec::runtime::Linux;

/// The cgroup of a bundle. With systemd's driver `bundled` gets the scope that makes it.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] with the JSON pointer.
pub fn request(
    linux: &Linux,
    id: &ContainerId,
    bundled: &mut Bundled,
    options: Options,
) -> Result<drydock_cgroups::Request> {
    let rootless = is_rootless();
    let limits = limits(linux, rootless, &bundled.version)?;
    let path = linux.cgroups_path().as_ref().map(|path| path.to_string_lossy().into_owned());
    let path = path.filter(|path| !path.is_empty());
    let said = path.is_some();
    let place = match path.as_deref() {
        _ if !rootless => Place::Base,
        Some(path) if path.starts_with('/') => Place::Root,
        _ => Place::Beside,
    };
    let name = match options.systemd_cgroup {
        false => name(path.as_deref(), id)?,
        true => {
            let pairs = bundled.annotations.iter().map(|(key, value)| (key.as_str(), value.as_str()));
            let scope = systemd::Request {
                path,
                id: id.to_string(),
                limits: limits.clone(),
                properties: systemd::properties_of_annotations(pairs)
                    .map_err(|e| super::place::under("/annotations", &e))?,
                user: rootless,
            };
            let checked = scope.clone().plan(Layout::detect()?.mode());
            let name = checked.map_err(|e| super::place::stage(&e).unwrap_or(e))?.cgroup();
            bundled.scope = Some(scope);
            name
        }
    };
    let if_exists = if options.systemd_cgroup { IfExists::Reuse } else { IfExists::ReuseEmpty };
    Ok(drydock_cgroups::Request {
        name,
        if_exists,
        place,
        // Who may make no cgroup does without one, unless a path or a limit is asked for.
        lenient: rootless && !said && limits.is_empty(),
        limits,
        make_leaf: false,
        lean: true,
        dirs: vec![],
        complete: true,
    })
}

/// Below the hierarchy's root, whether it is absolute or relative; without one, with our other containers.
fn name(path: Option<&str>, id: &ContainerId) -> Result<String> {
    let Some(path) = path else { return Ok(format!("{SHARED_PARENT}/{id}")) };
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    let name = parts.join("/");
    drydock_cgroups::check_name(&name).map_err(|e| bad("/linux/cgroupsPath", e.sentence()))?;
    Ok(name)
}

/// Whether this is not the machine's root: another user, or root of a user namespace. As runc(8)'s `--rootless auto`.
pub fn is_rootless() -> bool {
    if !nix::unistd::geteuid().is_root() {
        return true;
    }
    // The initial namespace maps every id to itself.
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let first = map.lines().next().unwrap_or_default();
    !first.is_empty() && !first.split_whitespace().eq(["0", "0", "4294967295"])
}

/// The limits, and which devices may be used: only root can say that.
fn limits(linux: &Linux, rootless: bool, version: &str) -> Result<Limits> {
    const AT: &str = "config.json: /linux/resources";
    let resources = linux.resources().clone().unwrap_or_default();
    let mut limits = resources::zero_pids(resources::limits(&resources, AT)?, version);
    resources::check_devices(&resources, AT)?;
    if let (None, Some(sum)) = (limits.memory_max, limits.memsw_max.filter(|sum| *sum != UNLIMITED)) {
        return Err(bad(
            "/linux/resources/memory/swap",
            format!(
                "{sum} without a limit of memory (allowed: memory and swap together, beside memory/limit)"
            ),
        ));
    }
    if !rootless {
        limits.devices = Some(resources::devices(resources.devices().as_deref().unwrap_or_default(), AT)?);
    }
    Ok(limits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let id = ContainerId::parse("c1").unwrap();
        assert_eq!(name(None, &id).unwrap(), "drydock/c1");
        for same in ["/a/b", "a/b", "//a//b/", "./a/./b"] {
            assert_eq!(name(Some(same), &id).unwrap(), "a/b", "{same}");
        }
        for wrong in ["/", "/a/../b", "..", "/a/cgroup.procs", "a\n"] {
            let error = name(Some(wrong), &id).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains("/linux/cgroupsPath"), "{error}");
        }
    }
}
