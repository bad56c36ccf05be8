//! One run of one command, by a process of its own: what getrusage(2) says of its children is then of this run alone.

use crate::tree::Tree;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Instant;

/// The first argument of a worker.
pub const WORD: &str = "worker";

/// What one run took.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Wall time, ms.
    pub wall: f64,
    /// User and system time of the command and the children that it has waited for, ms.
    pub cpu: f64,
    /// The largest resident set among them, KiB.
    pub peak: u64,
    /// What the whole tree took, KiB.
    pub tree: u64,
}

/// Runs a command in a worker.
pub fn run(words: &[String], tree: Option<&Tree>) -> Result<Sample, String> {
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut worker = Command::new(own);
    worker.arg(WORD).arg(tree.map(Tree::procs).unwrap_or_default()).args(words);
    if let Some(tree) = tree {
        tree.reset();
    }
    let output = worker.output().map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    match (output.status.success(), numbers.as_slice()) {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a size in KiB
        (true, [wall, cpu, peak]) => {
            Ok(Sample { wall: *wall, cpu: *cpu, peak: *peak as u64, tree: tree.map_or(0, Tree::peak) })
        }
        _ => Err(String::from_utf8_lossy(&output.stderr).trim().to_string()),
    }
}

/// The worker: `FILE COMMAND…`; joins the cgroup by its file, if there is one, and prints its three numbers.
pub fn main(words: &[String]) -> Result<(), String> {
    let [procs, program, args @ ..] = words else { return Err("no command".into()) };
    if !procs.is_empty() {
        std::fs::write(procs, "0").map_err(|e| format!("{procs}: {e}"))?;
    }
    // Not a pipe: a container that stays would hold it open.
    let path = std::env::temp_dir().join(format!("drydock-bench-{}", std::process::id()));
    let errors = File::create(&path).map_err(|e| e.to_string())?;
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
    let started = Instant::now();
    let status = command.status().map_err(|e| format!("{program}: {e}"));
    let wall = started.elapsed().as_secs_f64() * 1000.0;
    let mut said = String::new();
    let _ = File::open(&path).and_then(|mut file| file.read_to_string(&mut said));
    let _ = std::fs::remove_file(&path);
    let status = status?;
    if !status.success() {
        return Err(format!("{status}: {}", said.trim()));
    }
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(|e| e.to_string())?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    let millis = std::time::Duration::from_micros(micros.unsigned_abs()).as_secs_f64() * 1000.0;
    println!("{wall} {millis} {}", usage.max_rss());
    Ok(())
}
