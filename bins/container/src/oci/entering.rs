//! A process that enters a running container, as the `process` object of the specification.

use super::{bad, bundled, part, process, security};
use drydock_bundle::Bundle;
use drydock_core::{ContainerId, Error, Result};
use drydock_init::inside;
use std::path::Path;

/// The request of a process in a file, and its terminal's rows and columns. What the file leaves out is as for the
/// container's `first` process; filter, keyring and execution domain always are.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] with the JSON pointer in the file.
pub fn request(
    file: &Path,
    id: &ContainerId,
    first: inside::Request,
) -> Result<(inside::Request, Option<(u16, u16)>)> {
    read(file, id, first).map_err(|e| in_file(&e))
}

fn read(
    file: &Path,
    id: &ContainerId,
    first: inside::Request,
) -> Result<(inside::Request, Option<(u16, u16)>)> {
    let bundle = Bundle::of_process(file)?;
    let given = bundle.spec.process.as_ref().ok_or_else(|| bad("/process", "required"))?;
    let mut warnings = Vec::new();
    let asked = security::request(&bundle, given, (id, super::Options::default()), &mut warnings)?;
    for warning in warnings {
        drydock_cli::output::warn("exec", &warning.replacen("config.json: /process", "--process: ", 1));
    }
    let says = |field: &str| bundle.json.get("process").is_some_and(|p| p.get(field).is_some());
    let before = first.security.clone();
    let security = drydock_security::Request {
        capabilities: if says("capabilities") { asked.capabilities } else { before.capabilities },
        no_new_privs: if says("noNewPrivileges") { asked.no_new_privs } else { before.no_new_privs },
        rlimits: if says("rlimits") { asked.rlimits } else { before.rlimits },
        user: asked.user,
        own_streams: asked.own_streams,
        apparmor: asked.apparmor.or(before.apparmor),
        selinux: asked.selinux.or(before.selinux),
        oom_score_adj: asked.oom_score_adj.or(before.oom_score_adj),
        scheduler: asked.scheduler.or(before.scheduler),
        io_priority: asked.io_priority.or(before.io_priority),
        exec_cpu_affinity: part(&bundle, "/process/execCPUAffinity")?.or(before.exec_cpu_affinity),
        ..first.security
    };
    let args = given.args.clone();
    if args.is_empty() {
        return Err(bad("/process/args", "empty (allowed: a program and its arguments)"));
    }
    let inside = inside::Request {
        args,
        env: process::environment(given),
        workdir: Some(given.cwd.to_string_lossy().into_owned()),
        terminal: given.terminal,
        user: None,
        security,
        ..first
    };
    Ok((inside, bundled::console_size(&bundle)))
}

/// What a stage refuses of such a process, at its place in the file.
pub fn placed(error: Error) -> Error {
    super::place::stage(&error).map_or(error, |error| in_file(&error))
}

/// The file is a part of a configuration, and its pointers begin below that.
fn in_file(error: &Error) -> Error {
    let sentence = error.sentence();
    let at = sentence.strip_prefix("config.json: /process").map(|rest| rest.trim_start_matches(": "));
    let placed = match at {
        Some(at) => Error::bad_input("--process", at.to_string()),
        None => error.clone(),
    };
    match error.remedy() {
        Some(hint) if at.is_some() => placed.hint(hint),
        _ => placed,
    }
}
