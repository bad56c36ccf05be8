//! `container up` and `container down`.

use drydock_bundle::Store;
use drydock_cli::Outcome;
use std::path::PathBuf;

/// Arguments of `container up`.
#[derive(clap::Args, Clone, Debug)]
pub struct UpArgs {
    /// Compose file [default: compose.yaml here; without one, a single default container]
    #[arg(short = 'f', long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// Arguments of `container down`.
#[derive(clap::Args, Clone, Debug)]
pub struct DownArgs {
    /// Compose file [default: compose.yaml here]
    #[arg(short = 'f', long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// Starts.
///
/// # Errors
/// Bad files.
pub fn up(_: &UpArgs, _: &Store) -> Outcome {
    Ok(0)
}

/// Stops.
///
/// # Errors
/// Bad files.
pub fn down(_: &DownArgs, _: &Store) -> Outcome {
    Ok(0)
}
