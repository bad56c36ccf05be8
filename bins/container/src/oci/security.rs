//! What `process` and `linux` say for the security stage.

use super::{Options, bad, part};
use drydock_bundle::Bundle;
use drydock_core::{ContainerId, Result};
use drydock_security::seccomp::profile::Profile;
use drydock_security::{CapSet, Capabilities, CapabilityNames, Request, Rlimit, Seccomp, User};
use oci_spec::runtime::Process;

/// The security stage of a bundle.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] with the JSON pointer.
pub fn request(
    bundle: &Bundle,
    process: &Process,
    (id, options): (&ContainerId, Options),
    warnings: &mut Vec<String>,
) -> Result<Request> {
    let text = |value: &Option<String>| value.clone().filter(|text| !text.is_empty());
    let rlimit = |r: &oci_spec::runtime::PosixRlimit| Rlimit {
        name: r.typ().to_string(),
        soft: r.soft(),
        hard: r.hard(),
        best_effort: false,
    };
    Ok(Request {
        capabilities: Some(capabilities(bundle, warnings)?),
        no_new_privs: process.no_new_privileges().unwrap_or(false),
        seccomp: seccomp(bundle)?,
        rlimits: process.rlimits().iter().flatten().map(rlimit).collect(),
        user: Some(user(process)),
        own_streams: true,
        keyring: (!options.no_new_keyring).then(|| format!("_ses.{id}")),
        apparmor: text(process.apparmor_profile()),
        selinux: text(process.selinux_label()),
        oom_score_adj: process.oom_score_adj(),
        scheduler: part(bundle, "/process/scheduler")?,
        io_priority: part(bundle, "/process/ioPriority")?,
        memory_policy: part(bundle, "/linux/memoryPolicy")?,
        personality: part(bundle, "/linux/personality")?,
        ..Request::default()
    })
}

/// Exactly these ids and groups; the specification leaves the umask open, and all runtimes have 022.
fn user(process: &Process) -> User {
    let user = process.user();
    User {
        uid: user.uid(),
        gid: user.gid(),
        additional_gids: user.additional_gids().clone().unwrap_or_default(),
        umask: user.umask().or(Some(0o022)),
    }
}

/// None given: none kept.
fn capabilities(bundle: &Bundle, warnings: &mut Vec<String>) -> Result<Capabilities> {
    let Some(names) = part::<CapabilityNames>(bundle, "/process/capabilities")? else {
        return Ok(Capabilities::uniform(CapSet::EMPTY));
    };
    let (sets, ignored) = names.resolve();
    warnings.extend(
        ignored.into_iter().map(|warning| format!("config.json: /process/{}", warning.replacen('.', "/", 1))),
    );
    sets.check().map_err(|e| bad("/process/capabilities", e.sentence()))?;
    within_bounding(&sets)?;
    Ok(sets)
}

/// The exec of the command would lose without a word what the bounding set lacks.
fn within_bounding(sets: &Capabilities) -> Result<()> {
    let named =
        [("permitted", sets.permitted), ("effective", sets.effective), ("inheritable", sets.inheritable)];
    match named.into_iter().find(|(_, set)| !sets.bounding.contains(*set)) {
        None => Ok(()),
        Some((name, set)) => Err(bad(
            &format!("/process/capabilities/{name}"),
            format!("{} is not in the bounding set (allowed: what is)", set - sets.bounding),
        )),
    }
}

fn seccomp(bundle: &Bundle) -> Result<Seccomp> {
    match bundle.json.pointer("/linux/seccomp").filter(|value| !value.is_null()) {
        None => Ok(Seccomp::None),
        Some(value) => {
            let profile = Profile::from_oci(value).map_err(|e| super::place::stage(&e).unwrap_or(e))?;
            Ok(Seccomp::Inline(Box::new(profile)))
        }
    }
}
