//! `rootfs default`: the root file system of containers that are given none.

use drydock_cli::{Explainer, Outcome};
use drydock_core::{Ctx, paths};
use drydock_images::default::default_rootfs_with;
use serde::Serialize;

/// Print the path of the root file system that `container run` uses by default, building it when there is none or when
/// a program that it was made from has changed. Containers share it read-only: do not change it.
#[derive(clap::Args)]
pub struct Args {
    /// Build it anew; containers that run keep the old one.
    #[arg(long)]
    rebuild: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Print each step with its system call and why, before doing it.
    #[arg(long)]
    explain: bool,
}

#[derive(Serialize)]
struct Shown {
    path: std::path::PathBuf,
    built: bool,
}

pub fn run(args: &Args) -> Outcome {
    let explainer = Explainer { on: args.explain };
    let ctx = Ctx::new(&explainer, None);
    let mut bar = None;
    let made = default_rootfs_with(&paths::data_root()?, args.rebuild, &ctx, &mut |done, all| {
        bar.get_or_insert_with(|| crate::progress::bar(all, args.explain)).at(done);
    })?;
    drop(bar);
    if args.json {
        drydock_cli::print_json(&Shown { path: made.path, built: made.built })?;
    } else {
        drydock_cli::print_line(&made.path.to_string_lossy())?;
    }
    Ok(0)
}
