//! `container audit`: the ten best practices of the guides, and what a running container can still reach, each with the
//! command that proves it.

use crate::audit::{Facts, Finding, Verdict, practices, reach};
use crate::commands::signals;
use drydock_bundle::Store;
use drydock_cli::Outcome;
use serde::Serialize;

/// Arguments of `container audit`.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Exit codes: 0 all pass; 1 something does not; 125 the container does not run.\n\
    'unknown' is what this machine cannot have (a kernel without AppArmor and SELinux) or we cannot see.")]
pub struct Args {
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// The container
    pub name: String,
}

#[derive(Serialize)]
struct Report<'a> {
    id: &'a str,
    pid: i32,
    /// The ten practices.
    practices: &'a [Finding],
    /// What it can still reach.
    reach: &'a [Finding],
    passed: usize,
    failed: usize,
    unknown: usize,
}

/// Checks.
///
/// # Errors
/// Unknown container; one that does not run.
pub fn run(args: &Args, store: &Store) -> Outcome {
    let entry = store.find(&args.name)?;
    let (state, _pidfd) = signals::running(&entry)?;
    let facts = Facts::of(&state, store.root())?;
    let (ten, reachable) = (practices(&facts), reach(&facts));
    let count = |verdict: Verdict| ten.iter().chain(&reachable).filter(|f| f.verdict == verdict).count();
    let (passed, failed, unknown) = (count(Verdict::Pass), count(Verdict::Fail), count(Verdict::Unknown));
    if args.json {
        let (id, pid) = (entry.id.as_str(), facts.pid);
        let report = Report { id, pid, practices: &ten, reach: &reachable, passed, failed, unknown };
        drydock_cli::print_json(&report)?;
    } else {
        let mut text = String::from("best practices\n");
        ten.iter().for_each(|finding| text.push_str(&finding.lines()));
        text.push_str("what it can still reach\n");
        reachable.iter().for_each(|finding| text.push_str(&finding.lines()));
        text.push_str(&format!("{passed} pass, {failed} fail, {unknown} unknown\n"));
        drydock_cli::print_text(&text)?;
    }
    Ok(u8::from(failed > 0))
}
