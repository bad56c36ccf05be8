//! What `process` and `linux` say for the security stage.

use super::{Options, bad, part};
use drydock_bundle::Bundle;
use drydock_bundle::config::spec::Process;
use drydock_core::{ContainerId, Result};
use drydock_security::seccomp::profile::Profile;
use drydock_security::{CapSet, Capabilities, CapabilityNames, Request, Rlimit, Seccomp, User};

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
        no_new_privs: process.no_new_privileges,
        seccomp: seccomp(bundle)?,
        rlimits: process.rlimits.iter().map(rlimit).collect(),
        user: Some(user(process)),
        own_streams: true,
        keyring: (!options.no_new_keyring).then(|| format!("_ses.{id}")),
        apparmor: text(&process.apparmor_profile),
        selinux: text(&process.selinux_label),
        oom_score_adj: process.oom_score_adj,
        // What the caller was confined to is its own business, as in runc.
        all_cpus: true,
        scheduler: part(bundle, "/process/scheduler")?,
        io_priority: part(bundle, "/process/ioPriority")?,
        memory_policy: part(bundle, "/linux/memoryPolicy")?,
        personality: part(bundle, "/linux/personality")?,
        ..Request::default()
    })
}

/// Exactly these ids and groups; the specification leaves the umask open, and all runtimes have 022.
fn user(process: &Process) -> User {
    let user = &process.user;
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
    within_bounding(&sets, warnings)?;
    Ok(sets)
}

/// The kernel takes nothing inheritable that the bounding set lacks (capset(2)); of what is permitted besides, the exec of
/// the command takes it away, which is what runc's users rely on.
fn within_bounding(sets: &Capabilities, warnings: &mut Vec<String>) -> Result<()> {
    let outside = |set: CapSet| set - sets.bounding;
    if !outside(sets.inheritable).is_empty() {
        let lacking = outside(sets.inheritable);
        let problem =
            format!("{lacking} is not in the bounding set, which is EPERM to capset(2) (allowed: what is)");
        let error = bad("/process/capabilities/inheritable", problem);
        // A name that is not known may be why.
        return Err(if warnings.is_empty() { error } else { error.hint(warnings.join("; ")) });
    }
    let lost = outside(sets.permitted);
    if !lost.is_empty() {
        warnings.push(format!(
            "config.json: /process/capabilities/permitted: {lost} is lost by the exec: not in the bounding set"
        ));
    }
    Ok(())
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
