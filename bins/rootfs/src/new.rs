//! `rootfs new`: an empty root file system.

use crate::Telling;
use drydock_cli::Outcome;
use drydock_images::skeleton::Request;
use std::path::PathBuf;

/// Make an empty root file system: its directories (/tmp with mode 1777, /root 0700, …) and /etc/passwd, group, hosts,
/// hostname, nsswitch.conf, os-release. See hier(7).
#[derive(clap::Args)]
pub struct Args {
    /// The directory; it is made, or must be empty.
    dir: PathBuf,
    /// Build also in a directory that is not empty; /etc files are replaced.
    #[arg(long)]
    force: bool,
    /// Plain /bin, /sbin and /lib directories, also where the host has links into /usr.
    #[arg(long)]
    plain: bool,
    #[command(flatten)]
    telling: Telling,
}

pub fn run(args: &Args) -> Outcome {
    let request = Request {
        root: args.dir.clone(),
        force: args.force,
        merged: !args.plain,
        variant: "root file system".to_string(),
    };
    crate::apply(&request.plan()?, args.telling)?;
    Ok(0)
}
