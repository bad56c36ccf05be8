//! `process`, `hostname`, `domainname`, `linux.sysctl`: what the container's first process does.

use super::{Options, bad, has_own, mounts, security};
use crate::request::Namespaces;
use drydock_bundle::Bundle;
use drydock_bundle::config::spec::Process;
use drydock_core::{ContainerId, Result};
use drydock_init::inside;
use drydock_mounts::Root;
use drydock_namespaces::Kind;
use oci_spec::runtime::Linux;
use std::collections::BTreeMap;

/// The inside of the container. `around`: its root file system and its namespaces; `more`: the command line, and where
/// warnings go.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] with the JSON pointer.
pub fn request(
    bundle: &Bundle,
    linux: &Linux,
    around: (Root, &Namespaces),
    id: &ContainerId,
    more: (Options, &mut Vec<String>),
) -> Result<inside::Request> {
    let ((root, namespaces), (options, warnings)) = (around, more);
    let spec = &bundle.spec;
    let process = spec.process.as_ref().ok_or_else(|| bad("/process", "required"))?;
    let name = |at: &str, name: &Option<String>| -> Result<Option<String>> {
        let name = name.clone().filter(|name| !name.is_empty());
        if name.is_some() && !has_own(namespaces, Kind::Uts) {
            return Err(bad(at, "needs a uts namespace (allowed: with the type uts in /linux/namespaces)"));
        }
        Ok(name)
    };
    let security = security::request(bundle, process, (id, options), warnings)?;
    if let Some(user) = &security.user {
        super::namespaces::check_mapped(namespaces, user)?;
    }
    let mut mounts = mounts::request(bundle, linux, root, namespaces)?;
    if options.no_pivot && !mounts.shared_namespace {
        mounts.pivot = drydock_mounts::Pivot::Move;
    }
    Ok(inside::Request {
        hostname: name("/hostname", &spec.hostname)?,
        domainname: name("/domainname", &spec.domainname)?,
        cgroup_namespace: namespaces.new.contains(Kind::Cgroup),
        loopback: namespaces.new.contains(Kind::Network),
        session: true,
        terminal: process.terminal,
        sysctls: sysctls(linux, namespaces)?,
        mounts: Some(mounts),
        security,
        // The numbers of the configuration, not what the root's files say about them.
        user: None,
        workdir: Some(process.cwd.to_string_lossy().into_owned()),
        args: process.args.clone(),
        env: environment(process),
        reaper: false,
        make_workdir: true,
        preserve_fds: 0,
    })
}

/// Of several values of one name the last.
pub(super) fn environment(process: &Process) -> Vec<String> {
    let all = &process.env;
    let key = |word: &str| word.split('=').next().unwrap_or_default().to_string();
    let later: BTreeMap<String, usize> = all.iter().enumerate().map(|(n, word)| (key(word), n)).collect();
    let last = |(n, word): (usize, &String)| (later.get(&key(word)) == Some(&n)).then(|| word.clone());
    all.iter().enumerate().filter_map(last).collect()
}

/// Each must belong to a namespace that the container does not share with the host.
fn sysctls(linux: &Linux, namespaces: &Namespaces) -> Result<BTreeMap<String, String>> {
    let all: BTreeMap<String, String> = linux.sysctl().clone().unwrap_or_default().into_iter().collect();
    for (key, value) in &all {
        let at = drydock_bundle::config::json::below("/linux/sysctl", key);
        drydock_init::sysctl::check(key, value).map_err(|e| super::place::under(&at, &e))?;
        let kind = drydock_init::sysctl::namespace(key);
        if !has_own(namespaces, kind) {
            let problem = format!(
                "is the host's without an own {kind} namespace (allowed: with the type {kind} in /linux/namespaces)"
            );
            return Err(bad(&at, problem));
        }
    }
    Ok(all)
}
