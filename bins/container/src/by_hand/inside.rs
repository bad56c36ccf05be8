//! The options of the inside, as they were given.

use super::option;
use crate::options::Options;
use crate::request::Request;
use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use std::path::Path;

/// For `init`, which has the same.
///
/// # Errors
/// getcwd(2)'s.
pub fn of_options(request: &Request, options: &Options) -> Result<Vec<String>> {
    let given = &options.inside;
    let mut line = Vec::new();
    option(&mut line, "--hostname", request.inside.hostname.as_ref());
    option(&mut line, "--workdir", given.workdir.as_ref());
    option(&mut line, "--user", given.user.as_ref());
    option(&mut line, "--shm-size", given.shm_size.as_ref());
    for file in &given.env_file {
        option(&mut line, "--env-file", Some(absolute(file)?));
    }
    for volume in &given.volume {
        option(&mut line, "--volume", Some(absolute_volume(volume)?));
    }
    for word in &given.security_opt {
        option(&mut line, "--security-opt", Some(absolute_profile(word)?));
    }
    let many: [(&str, &[String]); 7] = [
        ("--env", &given.env),
        ("--tmpfs", &given.tmpfs),
        ("--file", &given.file),
        ("--cap-add", &given.cap_add),
        ("--cap-drop", &given.cap_drop),
        ("--ulimit", &given.ulimit),
        ("--sysctl", &given.sysctl),
    ];
    for (name, values) in many {
        for value in values {
            option(&mut line, name, Some(value));
        }
    }
    for (destination, source) in crate::files::injected(&request.files, &request.rootfs) {
        option(&mut line, "--file", Some(format!("{}:{destination}", source.display())));
    }
    for (flag, given) in [("--read-only", given.read_only), ("--tty", given.tty)] {
        if given {
            line.push(flag.into());
        }
    }
    Ok(line)
}

/// The inside of a bundle, as one word; the command follows it.
///
/// # Errors
/// When it is no JSON, which cannot be.
pub fn of_bundle(request: &Request) -> Result<Vec<String>> {
    let mut inside = request.inside.clone();
    inside.args.clear();
    Ok(vec!["--request".into(), json(&inside)?])
}

/// A stage's request.
///
/// # Errors
/// When it is no JSON, which cannot be.
pub fn json(request: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(request).map_err(|e| Error::failed("plan", e.to_string()))
}

/// The lines may be run in another directory.
fn absolute(path: &Path) -> Result<String> {
    Ok(std::path::absolute(path).call(|| "getcwd()")?.display().to_string())
}

/// A volume's source may be relative to the caller's directory (`./data`).
fn absolute_volume(volume: &str) -> Result<String> {
    match volume.split_once(':') {
        Some((source, rest)) if source.starts_with('.') => {
            Ok(format!("{}:{rest}", absolute(Path::new(source))?))
        }
        _ => Ok(volume.to_string()),
    }
}

/// `seccomp=FILE` names a file of the caller's.
fn absolute_profile(word: &str) -> Result<String> {
    match word.split_once(['=', ':']) {
        Some(("seccomp", file)) if !matches!(file, "default" | "unconfined") => {
            Ok(format!("seccomp={}", absolute(Path::new(file))?))
        }
        _ => Ok(word.to_string()),
    }
}
