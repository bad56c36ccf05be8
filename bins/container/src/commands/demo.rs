//! `container demo`.

use drydock_bundle::Store;
use drydock_cli::Outcome;

/// Arguments of `container demo`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs the demo.
///
/// # Errors
/// What failed.
pub fn run(_: &Args, _: &Store) -> Outcome {
    Ok(0)
}
