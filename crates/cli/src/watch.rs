//! `--explain` for the stage tools: prints each step before it is done.

use crate::output::print_error_line;
use drydock_core::text::escape;
use drydock_core::{Observer, Step};
use std::time::Duration;

/// Prints each step on stderr before it is done: stage, call, why, man page, undo.
#[derive(Clone, Copy, Debug)]
pub struct Explainer {
    /// Print at all.
    pub on: bool,
}

impl Observer for Explainer {
    fn wants(&self) -> bool {
        self.on
    }

    fn before(&self, step: &Step) {
        print_error_line(&explain_line(step));
    }

    fn after(&self, _: &Step, _: Duration, _: bool) {}
}

/// One step as one line: `cgroup    mkdir("…", 0755)  # why [mkdir(2)] undo: …`.
pub fn explain_line(step: &Step) -> String {
    let undo = step.undo.as_ref().map_or(String::new(), |undo| format!("  undo: {}", escape(undo)));
    format!("{:<9} {}  # {} [{}]{undo}", step.stage, escape(&step.call), escape(&step.why), step.man)
}
