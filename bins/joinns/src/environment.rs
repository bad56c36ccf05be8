//! What of the caller's environment goes in. Source: environ(7).

use crate::args::Args;
use drydock_core::exec::DEFAULT_PATH;
use drydock_core::{Error, Result, text};
use drydock_namespaces::process::Process;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

type Pair = (OsString, OsString);

/// What decides.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// Strangers can look at the command.
    pub confined: bool,
    /// The command's files are not the caller's.
    pub other_files: bool,
    /// The home directory there.
    pub home: &'a Path,
}

/// What is about the terminal and the language says nothing about the caller's machine.
const HARMLESS: [&str; 19] = [
    "TERM",
    "COLORTERM",
    "NO_COLOR",
    "TZ",
    "LANG",
    "LANGUAGE",
    "LC_ALL",
    "LC_CTYPE",
    "LC_NUMERIC",
    "LC_TIME",
    "LC_COLLATE",
    "LC_MONETARY",
    "LC_MESSAGES",
    "LC_PAPER",
    "LC_NAME",
    "LC_ADDRESS",
    "LC_TELEPHONE",
    "LC_MEASUREMENT",
    "LC_IDENTIFICATION",
];

/// Where programs and the user's own files are.
const PLACES: [&str; 5] = ["PATH", "HOME", "USER", "LOGNAME", "SHELL"];

/// The command's environment.
///
/// # Errors
/// `--env` without a process; a word of `--setenv` that is none.
pub fn of(args: &Args, process: Option<&Process>, situation: Situation<'_>) -> Result<Vec<Pair>> {
    let mut env: Vec<Pair> = match (args.env, process) {
        (true, None) => return Err(crate::request::needs_target("--env")),
        (true, Some(process)) => process.read("environ")?.split(|b| *b == 0).filter_map(pair).collect(),
        (false, _) => callers(situation),
    };
    for word in &args.setenv {
        let bad = || {
            let shown = text::shorten(&text::escape_bytes(word.as_bytes()), 60);
            Error::bad_input("--setenv", format!("'{shown}' is no variable (allowed: NAME=VALUE)"))
        };
        let (name, value) = pair(word.as_bytes()).ok_or_else(bad)?;
        env.retain(|(known, _)| *known != name);
        env.push((name, value));
    }
    Ok(env)
}

fn callers(situation: Situation<'_>) -> Vec<Pair> {
    if !situation.confined {
        // The loader of another root would load the caller's libraries by these.
        let loader = |name: &OsStr| situation.other_files && name.as_bytes().starts_with(b"LD_");
        return std::env::vars_os().filter(|(name, _)| !loader(name)).collect();
    }
    // One by one: of what else is there no copy is made in memory that the target's processes may come to read.
    let places = if situation.other_files { &[][..] } else { &PLACES[..] };
    let names = HARMLESS.iter().chain(places);
    let mut env: Vec<Pair> =
        names.filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?))).collect();
    if situation.other_files {
        env.push(("PATH".into(), DEFAULT_PATH.into()));
        env.push(("HOME".into(), situation.home.into()));
    }
    env
}

fn pair(entry: &[u8]) -> Option<Pair> {
    let at = entry.iter().position(|b| *b == b'=').filter(|at| *at > 0)?;
    let (name, value) = (entry.get(..at)?, entry.get(at + 1..)?);
    Some((OsString::from_vec(name.to_vec()), OsString::from_vec(value.to_vec())))
}
