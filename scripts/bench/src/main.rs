//! `drydock-bench ROUNDS GAP_MS [TREE]` reads cases from standard input, a line each:
//!
//! ```text
//! NAME|STEP=COMMAND WORDS|STEP=COMMAND WORDS…
//! ```
//!
//! and runs them by turns, ROUNDS times and once more to warm up, with GAP_MS of idle time before each step. For each step
//! it prints `NAME,STEP,wall ms,processor ms,peak KiB of the largest process,peak KiB of the tree`: medians for the times,
//! the largest for the peaks. The tree is all that a step makes below the memory cgroup TREE: the tool, its children, and
//! the container's own cgroup, if the configuration puts it there. A step whose name ends in `!` is done but not measured.
#![allow(clippy::print_stderr, clippy::print_stdout)] // printing is what it does

mod tree;
mod worker;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tree::Tree;
use worker::Sample;

struct Step {
    name: String,
    words: Vec<String>,
}

struct Case {
    name: String,
    steps: Vec<Step>,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.split_first() {
        Some((first, words)) if first == worker::WORD => worker::main(words),
        _ => measure(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("drydock-bench: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn measure(args: &[String]) -> Result<(), String> {
    let [rounds, gap, tree @ ..] = args else { return Err("which ROUNDS and GAP_MS?".into()) };
    let rounds: usize = rounds.parse().map_err(|e| format!("ROUNDS: {e}"))?;
    let gap = Duration::from_millis(gap.parse().map_err(|e| format!("GAP_MS: {e}"))?);
    let tree = tree.first().map(PathBuf::from).map(Tree::make).transpose()?;
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|e| e.to_string())?;
    let cases =
        text.lines().filter(|line| !line.trim().is_empty()).map(case).collect::<Result<Vec<_>, _>>()?;
    let mut samples: BTreeMap<(usize, usize), Vec<Sample>> = BTreeMap::new();
    for round in 0..=rounds {
        for (i, case) in cases.iter().enumerate() {
            for (k, step) in case.steps.iter().enumerate() {
                std::thread::sleep(gap);
                let sample = worker::run(&step.words, tree.as_ref())
                    .map_err(|e| format!("{}, {}: {e}", case.name, step.name))?;
                if round > 0 && !step.name.ends_with('!') {
                    samples.entry((i, k)).or_default().push(sample);
                }
            }
        }
    }
    for ((i, k), samples) in &samples {
        let (Some(case), Some(step)) = (cases.get(*i), cases.get(*i).and_then(|c| c.steps.get(*k))) else {
            continue;
        };
        println!("{},{},{}", case.name, step.name, summary(samples));
    }
    Ok(())
}

fn case(line: &str) -> Result<Case, String> {
    let mut parts = line.split('|');
    let name = parts.next().unwrap_or_default().to_string();
    let step = |part: &str| {
        let (name, command) = part.split_once('=').ok_or(format!("'{part}' is not STEP=COMMAND"))?;
        let words: Vec<String> = command.split_whitespace().map(String::from).collect();
        Ok(Step { name: name.to_string(), words })
    };
    let steps = parts.map(step).collect::<Result<Vec<_>, String>>()?;
    Ok(Case { name, steps })
}

fn summary(samples: &[Sample]) -> String {
    let median = |of: fn(&Sample) -> f64| {
        let mut values: Vec<f64> = samples.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    let largest = |of: fn(&Sample) -> u64| samples.iter().map(of).max().unwrap_or_default();
    format!(
        "{:.3},{:.3},{},{}",
        median(|s| s.wall),
        median(|s| s.cpu),
        largest(|s| s.peak),
        largest(|s| s.tree)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_case() {
        let case = case("crun|create=crun create x|delete!=crun delete x").unwrap();
        assert_eq!(case.steps.len(), 2);
        assert_eq!(case.steps[0].words, ["crun", "create", "x"]);
        assert!(super::case("crun|nothing").is_err());
    }

    #[test]
    fn medians_and_maxima() {
        let sample = |n: u32| Sample { wall: n.into(), cpu: n.into(), peak: n.into(), tree: n.into() };
        assert_eq!(summary(&[sample(3), sample(1), sample(2)]), "2.000,2.000,3,3");
    }
}
