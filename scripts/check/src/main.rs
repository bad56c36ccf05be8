//! The rules that keep the workspace as ARCHITECTURE.md describes it. `cargo run -p drydock-check` prints one sentence
//! for each offence and exits 1 if there is one.
#![allow(clippy::print_stdout, clippy::print_stderr)] // printing is what it does

mod files;
mod layers;
mod manifests;
mod sources;
mod strip;
mod workspace;

use std::process::ExitCode;
use workspace::Workspace;

/// A rule: what it found, one sentence each, naming the offender first.
type Rule = fn(&Workspace) -> Vec<String>;

const RULES: [Rule; 11] = [
    layers::layers,
    layers::oci_types,
    manifests::inherited,
    manifests::unused_dependencies,
    sources::unsafe_only_in_sys,
    sources::unsafe_has_reason,
    sources::no_shelling_out,
    files::short_mains,
    files::file_size,
    files::architecture_size,
    files::machine_paths,
];

fn main() -> ExitCode {
    let workspace = match Workspace::load() {
        Ok(workspace) => workspace,
        Err(problem) => {
            eprintln!("drydock-check: {problem}");
            return ExitCode::from(125);
        }
    };
    let offences: Vec<String> = RULES.iter().flat_map(|rule| rule(&workspace)).collect();
    for offence in &offences {
        println!("{offence}");
    }
    println!(
        "{} packages, {} files, {} offences",
        workspace.packages.len(),
        workspace.files.len(),
        offences.len()
    );
    if offences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
