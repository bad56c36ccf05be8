//! drydock-cli: what the `main` of every tool shares: arguments, the one printed error, output, exit codes.

pub mod args;
pub mod output;
pub mod watch;

use drydock_core::Error;
use std::process::ExitCode;

pub use args::parse;
pub use output::{print_json, print_line, print_text};
pub use watch::Explainer;

/// How a tool ends well: the exit code to pass on.
pub type Outcome = anyhow::Result<u8>;

/// Runs a tool: restores SIGPIPE and SIGCHLD, runs `body`, prints its error once, returns the exit code.
///
/// Errors are [`drydock_core::Error`] inside anyhow; any other error exits 125.
pub fn main(tool: &str, body: impl FnOnce() -> Outcome) -> ExitCode {
    // Rust ignores SIGPIPE; a tool in a pipeline should end quietly when its reader has gone.
    drydock_core::sys::signal::set_default(nix::libc::SIGPIPE);
    // A caller that ignored SIGCHLD has passed that on: the kernel would reap our children before we see how they ended.
    drydock_core::sys::signal::set_default(nix::libc::SIGCHLD);
    match body() {
        Ok(code) => ExitCode::from(code),
        Err(error) => ExitCode::from(report(tool, &error)),
    }
}

/// Prints an error once, as one line on stderr, and returns its exit code.
pub fn report(tool: &str, error: &anyhow::Error) -> u8 {
    let core = error.chain().find_map(|e| e.downcast_ref::<Error>());
    let line = match core {
        Some(core) => core.to_string(),
        None => error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": "),
    };
    let line = drydock_core::text::shorten(&drydock_core::text::escape(&line), 4000);
    output::print_error_line(&format!("{tool}: {line}"));
    core.map_or(drydock_core::exit::FAILED, Error::exit_code)
}
