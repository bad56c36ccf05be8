//! `container plan`: what `run` would do, as steps, as JSON, or as the stage tools' own command lines.

use crate::by_hand::{self, Origin};
use crate::options::Options;
use crate::plan::Plan;
use crate::request::Request;
use drydock_bundle::{Bundle, Store};
use drydock_cli::Outcome;
use drydock_cli::watch::explain_line;
use drydock_core::{ContainerId, Error, Result};
use drydock_supervise::exec::utf8_words;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// How a plan is printed.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Each step: stage, system call, why
    #[default]
    Steps,
    /// Each stage's request, as JSON
    Json,
    /// Lines for the six tools; run top to bottom they give the same container
    Commands,
}

/// Arguments of `container plan`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub options: Options,
    /// Plan this OCI bundle (a directory with config.json) instead of a root file system and a command
    #[arg(short = 'b', long, value_name = "DIR")]
    pub bundle: Option<PathBuf>,
    /// How to print the plan
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    pub format: Format,
    /// The same as --format json
    #[arg(long, help_heading = "Output")]
    pub json: bool,
    /// The command and its arguments [default: /bin/sh]
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// A bundle says everything itself: the only thing that may be added is a name.
fn of_bundle(dir: &Path, args: &Args, command: &[String], store: &Store) -> Result<Request> {
    if !command.is_empty() || args.options.rootfs.is_some() {
        return Err(Error::bad_input(
            "--bundle",
            "has its own root and command (allowed: no --rootfs, no COMMAND)",
        ));
    }
    let id = match &args.options.name {
        Some(name) => ContainerId::parse(name)?,
        None => ContainerId::random(),
    };
    crate::oci::request(&Bundle::read(dir)?, &id, store.root())
}

/// Prints the plan. Touches nothing.
///
/// # Errors
/// Bad input.
pub fn run(args: &Args, store: &Store) -> Outcome {
    let command = utf8_words("command", args.command.iter().map(OsString::as_os_str))?;
    let open = args.bundle.is_none() && super::run::open_ended();
    // An image is unpacked into the store, so that its tree can be named; nothing else is done.
    let resolved = crate::image::resolve(&args.options, &command, open, &drydock_core::Ctx::silent())?;
    let (options, command) = match &resolved {
        Some(resolved) => (&resolved.options, &resolved.command),
        None => (&args.options, &command),
    };
    let request = match &args.bundle {
        Some(dir) => of_bundle(dir, args, command, store)?,
        None => Request::from_options(options, command, store.root())?,
    };
    let plan: Plan = request.validate()?;
    plan.warn();
    match (args.json, args.format) {
        (true, _) | (_, Format::Json) => drydock_cli::print_json(&plan.to_json())?,
        (_, Format::Steps) => {
            for step in plan.steps(store.root())? {
                drydock_cli::print_line(&explain_line(&step))?;
            }
        }
        (_, Format::Commands) => {
            let origin = match &args.bundle {
                Some(_) => Origin::Bundle,
                None => Origin::Options(options),
            };
            drydock_cli::print_text(&by_hand::lines(&plan, origin, store.root())?)?
        }
    }
    Ok(0)
}
