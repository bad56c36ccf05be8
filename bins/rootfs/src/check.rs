//! `rootfs check`: what the programs of a root lack.

use drydock_cli::Outcome;
use drydock_images::check::Request;
use std::path::PathBuf;

/// Check that every program and library in a root finds its interpreter and libraries there (never on the host).
/// Exits 1 and names what is missing; nothing is run or changed. See ld.so(8).
#[derive(clap::Args)]
pub struct Args {
    /// The root directory.
    dir: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Outcome {
    let report = Request { root: args.dir.clone() }.run()?;
    let code = u8::from(!report.unresolved.is_empty());
    if args.json {
        drydock_cli::print_json(&report)?;
        return Ok(code);
    }
    for missing in &report.unresolved {
        drydock_cli::print_line(&format!("{}: unresolved: {}", missing.object.display(), missing.need))?;
    }
    for missing in &report.scripts {
        drydock_cli::output::warn("rootfs", &format!("{}: no {}", missing.object.display(), missing.need));
    }
    let count = report.unresolved.len();
    drydock_cli::print_line(&format!("{count} unresolved in {} ELF files", report.elf_files))?;
    Ok(code)
}
