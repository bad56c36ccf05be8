//! Who watches the steps of a container: `--explain` prints each before it is done, `--timings` adds up the stages, the
//! log of `--debug` has them all once they are done.

use drydock_cli::watch::explain_line;
use drydock_core::{Observer, Step};
use serde::Serialize;
use std::cell::RefCell;
use std::time::{Duration, Instant};

/// How much is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Show {
    /// Each step with its call, before it is done.
    pub steps: bool,
    /// One line a stage, when it begins.
    pub stages: bool,
    /// Time is measured.
    pub timings: bool,
    /// Each step is logged; [`Watch::new`] knows.
    pub log: bool,
}

impl Show {
    /// Nothing at all: no text is made.
    pub fn nothing(self) -> bool {
        self == Self::default()
    }
}

/// Wall time of one stage.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageTime {
    /// Its name.
    pub stage: String,
    /// When its first step began, since the start, in microseconds.
    pub start_us: u64,
    /// The sum of its steps, in microseconds.
    pub wall_us: u64,
    /// How many steps it had.
    pub steps: usize,
}

/// Prints and measures.
#[derive(Debug)]
pub struct Watch {
    show: Show,
    started: Instant,
    stages: RefCell<Vec<StageTime>>,
    log: RefCell<Option<crate::log::Debug>>,
}

impl Watch {
    /// Starts the clock. Whether there is a log of all steps says the command line (`--debug`).
    pub fn new(show: Show) -> Self {
        let log = crate::log::early(std::env::args_os()).opened();
        let show = Show { log: log.is_some(), ..show };
        Self { show, started: Instant::now(), stages: RefCell::new(Vec::new()), log: RefCell::new(log) }
    }

    /// A line in the log of `--debug`. What runc's log says at the same moment begins it, so that who searches for that
    /// finds it here, too.
    pub fn note(&self, line: impl FnOnce() -> String) {
        if let Some(log) = self.log.borrow().as_ref() {
            log.line(&line());
        }
    }

    /// For a process that goes into a container: the log is the host's.
    pub fn close_log(&self) {
        self.log.take();
    }

    /// What is shown.
    pub fn show(&self) -> Show {
        self.show
    }

    /// Since the start.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The stages so far, in the order in which they began.
    pub fn stages(&self) -> Vec<StageTime> {
        self.stages.borrow().clone()
    }

    /// A step that another process has done (and shown).
    pub fn count(&self, step: &Step, took: Duration) {
        self.note(|| format!("{}: {} ({}; {} µs)", step.stage, step.call, step.why, took.as_micros()));
        self.add(&step.stage, took);
    }

    /// Does something that has no typed step of its own, and measures it.
    pub fn timed<T>(&self, stage: &str, act: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        drydock_core::failpoint::pass(|| format!("part-{stage}-begins"));
        let result = act();
        drydock_core::failpoint::pass(|| format!("part-{stage}-ends"));
        if self.show.timings {
            self.add(stage, started.elapsed());
        }
        result
    }

    fn add(&self, stage: &str, took: Duration) {
        let mut stages = self.stages.borrow_mut();
        let micros = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
        match stages.iter_mut().find(|s| s.stage == stage) {
            Some(stage) => {
                stage.wall_us += micros(took);
                stage.steps += 1;
            }
            None => stages.push(StageTime {
                stage: stage.to_string(),
                start_us: micros(self.started.elapsed().saturating_sub(took)),
                wall_us: micros(took),
                steps: 1,
            }),
        }
    }

    /// A line for a stage that begins, if stages are shown.
    pub fn announce(&self, stage: &str, what: &str) {
        if self.show.stages {
            drydock_cli::output::print_error_line(&format!(
                "==> {stage:<10} {}",
                drydock_core::text::escape(what)
            ));
        }
    }

    /// With `--explain`: the pids of the first process, outside and inside.
    pub fn explain_child(&self, pid: i32, is_pid_1: bool) {
        if self.show.steps {
            let inside = if is_pid_1 { ", container PID 1" } else { "" };
            drydock_cli::output::print_error_line(&format!(
                "clone     returned {pid}  # host PID {pid}{inside} [pid_namespaces(7)]"
            ));
        }
    }

    /// With `--explain`: how the first process ended.
    pub fn explain_end(&self, pid: i32, ended: drydock_core::exit::Ended) {
        if self.show.steps {
            let how = match ended {
                drydock_core::exit::Ended::Exited(code) => format!("exited with code {code}"),
                drydock_core::exit::Ended::Signaled(signal) => format!("was ended by signal {signal}"),
            };
            drydock_cli::output::print_error_line(&format!(
                "process   waitid(P_PIDFD, {pid})  # host PID {pid} {how} [waitid(2)]"
            ));
        }
    }
}

impl Observer for Watch {
    fn wants(&self) -> bool {
        !self.show.nothing()
    }

    fn before(&self, step: &Step) {
        if self.show.steps {
            drydock_cli::output::print_error_line(&explain_line(step));
        }
    }

    fn after(&self, step: &Step, took: Duration, _: bool) {
        self.count(step, took);
    }
}

/// The stages, and as `other` what is in none of them (reading arguments and files, waiting for each other), so that all
/// add up to the total.
pub fn rows(stages: &[StageTime], total: Duration) -> Vec<StageTime> {
    let total = u64::try_from(total.as_micros()).unwrap_or(u64::MAX);
    let wall_us = total.saturating_sub(stages.iter().map(|s| s.wall_us).sum());
    let other = StageTime { stage: "other".into(), start_us: 0, wall_us, steps: 0 };
    stages.iter().cloned().chain([other]).collect()
}

/// The same as a table.
pub fn table(stages: &[StageTime], total: Duration) -> String {
    let millis = |us: u64| format!("{}.{:03}", us / 1000, us % 1000);
    let mut rows: Vec<Vec<String>> = rows(stages, total)
        .iter()
        .map(|s| vec![s.stage.clone(), millis(s.start_us), millis(s.wall_us), s.steps.to_string()])
        .collect();
    let total = u64::try_from(total.as_micros()).unwrap_or(u64::MAX);
    rows.push(vec![
        "total".into(),
        millis(0),
        millis(total),
        stages.iter().map(|s| s.steps).sum::<usize>().to_string(),
    ]);
    drydock_cli::output::table(&["STAGE", "START ms", "WALL ms", "STEPS"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_add_up() {
        let watch = Watch::new(Show { timings: true, ..Show::default() });
        watch.timed("one", || std::thread::sleep(Duration::from_millis(2)));
        watch.timed("two", || ());
        watch.timed("one", || ());
        let total = watch.elapsed();
        let rows = rows(&watch.stages(), total);
        let names: Vec<&str> = rows.iter().map(|row| row.stage.as_str()).collect();
        assert_eq!(names, ["one", "two", "other"]);
        assert_eq!(rows[0].steps, 2);
        assert_eq!(u128::from(rows.iter().map(|row| row.wall_us).sum::<u64>()), total.as_micros());
    }
}
