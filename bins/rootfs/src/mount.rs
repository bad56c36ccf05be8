//! `rootfs mount` and `rootfs umount`.

use drydock_cli::Outcome;
use drydock_core::Error;

/// Arguments of `rootfs mount`.
#[derive(clap::Args)]
pub struct Args {}

/// Arguments of `rootfs umount`.
#[derive(clap::Args)]
pub struct UmountArgs {}

pub fn run(_: Args) -> Outcome {
    Err(Error::failed("mount", "is not built in").into())
}

pub fn run_umount(_: UmountArgs) -> Outcome {
    Err(Error::failed("umount", "is not built in").into())
}
