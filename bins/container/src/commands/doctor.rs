//! `container doctor`.

use drydock_bundle::Store;
use drydock_cli::Outcome;

/// Arguments of `container doctor`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Probes.
///
/// # Errors
/// None yet.
pub fn run(_: &Args, _: &Store) -> Outcome {
    Ok(0)
}
