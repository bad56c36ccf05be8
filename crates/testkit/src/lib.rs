//! drydock-testkit: what integration tests share. Development only.
//!
//! - [`Sandbox`]: a place of its own for each test: directories, unique names, commands with the right environment, and
//!   a clean-up that fails the test if something of it is left on the machine.
//! - [`run::Output`]: how a command ended, with assertions that read as prose.
//! - [`census`]: what of ours is on the machine, as the kernel shows it.
//! - [`Terminal`]: a command on a terminal of its own.
//! - [`probe`]: what the machine offers; [`skip`] says why a test does not run.
//!
//! ```no_run
//! let sandbox = drydock_testkit::Sandbox::new();
//! sandbox.run("container", &["run", "--net", "none", "--", "true"]).success();
//! sandbox.run("container", &["run", "--cpus", "x"]).fails_with(2).says("--cpus");
//! ```
// A test that cannot go on fails: that is what these are for here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod bins;
pub mod census;
pub mod probe;
pub mod registry;
pub mod run;
pub mod sandbox;
pub mod systemd;
pub mod terminal;

pub use bins::bin;
pub use census::{Census, Scope};
pub use probe::{CgroupMode, cgroup_mode, have, in_vm, is_root};
pub use registry::Registry;
pub use run::{Output, run, run_for};
pub use sandbox::Sandbox;
pub use terminal::Terminal;

use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};

/// Says that the test of this thread does not run here, and why: `SKIP name: reason` on the real stderr (libtest captures
/// only the print macros). The reason names what the machine lacks; CI compares it with what is there.
pub fn skip(reason: &str) {
    let thread = std::thread::current();
    let line = format!("SKIP {}: {reason}\n", thread.name().unwrap_or("?"));
    // Nobody to tell if stderr is closed.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Returns from the test, after saying why, unless the condition holds: `require!(is_root(), "needs root");`
#[macro_export]
macro_rules! require {
    ($condition:expr, $reason:expr) => {
        if !$condition {
            $crate::skip($reason);
            return;
        }
    };
}

/// A name that no other test, process or run uses: `PREFIX-tPID-NNN`. Short enough to be a host name or a network's name.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    // Padded, so that no name is the beginning of another.
    format!("{prefix}-t{}-{n:03}", std::process::id())
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_differ() {
        assert_ne!(super::unique("a"), super::unique("a"));
    }
}
