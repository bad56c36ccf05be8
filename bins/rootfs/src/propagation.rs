//! `rootfs propagation`: shows or sets whether mounts made here are seen elsewhere.

use drydock_cli::Outcome;
use drydock_core::text::escape;
use drydock_core::{Error, Result};
use drydock_mounts::propagation::{self, Propagation};
use drydock_mounts::table::{self, Entry};
use serde::Serialize;
use std::path::PathBuf;

/// Shows how mounts spread from and to the mount at PATH (mount_namespaces(7)), or sets it. Setting needs root.
#[derive(clap::Args)]
pub struct Args {
    /// A mount point; to show, any path on a mount
    path: PathBuf,
    /// New type; with 'r' in front it also applies to every mount below
    #[arg(value_name = "TYPE", value_parser = Propagation::WORDS)]
    kind: Option<String>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    /// Print the step with its system call and why, before doing it
    #[arg(long)]
    explain: bool,
}

#[derive(Serialize)]
struct Shown<'a> {
    mount_point: &'a PathBuf,
    propagation: &'static str,
    peer_group: Option<u32>,
    master_group: Option<u32>,
}

struct Set<'a> {
    path: &'a PathBuf,
    propagation: Propagation,
    recursive: bool,
}

impl drydock_core::Explain for Set<'_> {
    fn explain(&self) -> drydock_core::Step {
        drydock_core::Step {
            stage: "mounts".into(),
            call: self.propagation.call(&self.path.to_string_lossy(), self.recursive),
            why: self.propagation.why().into(),
            man: "mount_namespaces(7)".into(),
            undo: None,
        }
    }
}

/// Shows or sets.
pub fn run(args: Args) -> Outcome {
    let path = std::fs::canonicalize(&args.path).map_err(|e| {
        let why = e.raw_os_error().map_or_else(|| e.to_string(), drydock_core::error::errno_text);
        let shown = escape(&args.path.to_string_lossy());
        Error::bad_input(format!("'{shown}'"), format!("{why} (allowed: a path that exists)"))
    })?;
    if let Some((propagation, recursive)) = args.kind.as_deref().and_then(Propagation::parse) {
        let explainer = drydock_cli::Explainer { on: args.explain };
        let ctx = drydock_core::Ctx::new(&explainer, None);
        let step = Set { path: &path, propagation, recursive };
        ctx.perform(&step, |s| propagation::set(s.path, s.propagation, s.recursive))?;
        if !args.json {
            return Ok(0);
        }
    }
    show(&table::of_path(&path)?, args.json)?;
    Ok(0)
}

fn show(entry: &Entry, json: bool) -> Result<()> {
    if json {
        return drydock_cli::print_json(&Shown {
            mount_point: &entry.mount_point,
            propagation: entry.propagation(),
            peer_group: entry.shared,
            master_group: entry.master,
        });
    }
    let mut words = vec![entry.propagation().to_string()];
    words.extend(entry.shared.map(|group| format!("peer group {group}")));
    words.extend(entry.master.map(|group| format!("master group {group}")));
    drydock_cli::print_line(&format!("{}: {}", entry.mount_point.display(), words.join(", ")))
}
