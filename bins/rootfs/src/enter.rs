//! `rootfs enter`.

use drydock_cli::Outcome;
use drydock_core::Error;

/// Arguments of `rootfs enter`.
#[derive(clap::Args)]
pub struct Args {}

pub fn run(_: Args) -> Outcome {
    Err(Error::failed("enter", "is not built in").into())
}
