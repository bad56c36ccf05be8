//! `container doctor`.

use drydock_cli::Outcome;
use drydock_cli::output::{colour_on_stdout, print_json, print_text};
use std::path::Path;

const AFTER_HELP: &str = "\
Every probe does the thing itself, in a child process and mostly in new namespaces, so that nothing of the host changes.
For what does not work it says what is lost and what helps. Exit code 1 if a plain `container run` cannot work here.
See namespaces(7), cgroups(7), user_namespaces(7), capabilities(7).";

/// Arguments of `container doctor`.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Probes and prints. 1 if `container run` cannot work.
///
/// # Errors
/// A wrong `--root`, or when the report cannot be written.
pub fn run(args: &Args, root: Option<&Path>) -> Outcome {
    let report = crate::doctor::examine(root)?;
    if args.json {
        print_json(&report)?;
    } else {
        print_text(&crate::doctor::text::render(&report, colour_on_stdout()))?;
    }
    Ok(u8::from(!report.works))
}
