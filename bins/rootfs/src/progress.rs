//! Progress of long work: a bar on stderr when that is a terminal, nothing otherwise.

use indicatif::{ProgressBar, ProgressDrawTarget};
use std::io::IsTerminal;

/// A bar that vanishes when it is dropped.
pub struct Bar(Option<ProgressBar>);

/// A bar of `all` steps; none if stderr is not a terminal, the work is short, or the steps are printed anyway.
pub fn bar(all: usize, explained: bool) -> Bar {
    if explained || all < 50 || !std::io::stderr().is_terminal() {
        return Bar(None);
    }
    let bar = ProgressBar::with_draw_target(u64::try_from(all).ok(), ProgressDrawTarget::stderr());
    Bar(Some(bar))
}

impl Bar {
    /// So many steps are done.
    pub fn at(&self, done: usize) {
        if let Some(bar) = &self.0 {
            bar.set_position(u64::try_from(done).unwrap_or(u64::MAX));
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
