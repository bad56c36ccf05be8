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

/// A bar of bytes; none if stderr is not a terminal, or it is little.
pub fn bytes(all: u64, explained: bool) -> ByteBar {
    if explained || all < 4 << 20 || !std::io::stderr().is_terminal() {
        return ByteBar(None);
    }
    let bar = ProgressBar::with_draw_target(Some(all), ProgressDrawTarget::stderr_with_hz(8));
    if let Ok(style) =
        indicatif::ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec}")
    {
        bar.set_style(style);
    }
    ByteBar(Some(bar))
}

/// A bar of bytes that vanishes when it is dropped.
pub struct ByteBar(Option<ProgressBar>);

impl ByteBar {
    /// So many bytes are done; more than were announced make it longer (what is unpacked is larger than what is read).
    pub fn at_bytes(&mut self, done: u64) {
        if let Some(bar) = &self.0 {
            if bar.length().is_some_and(|all| all < done) {
                bar.set_length(done);
            }
            bar.set_position(done);
        }
    }
}

impl Drop for ByteBar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
