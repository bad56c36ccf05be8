//! `rootfs propagation`.

use drydock_cli::Outcome;
use drydock_core::Error;

/// Arguments of `rootfs propagation`.
#[derive(clap::Args)]
pub struct Args {}

pub fn run(_: Args) -> Outcome {
    Err(Error::failed("propagation", "is not built in").into())
}
