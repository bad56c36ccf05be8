//! drydock-cli: what the `main` of every tool shares: arguments, the one printed error, output, exit codes.

pub mod args;
pub mod output;
pub mod watch;

use drydock_core::Error;
use std::process::ExitCode;

pub use args::parse;
pub use output::{print_json, print_line, print_text};
pub use watch::Explainer;

/// What a tool ends with when it fails.
pub type Failure = anyhow::Error;

/// How a tool ends well: the exit code to pass on.
pub type Outcome = anyhow::Result<u8>;

/// Runs a tool: restores SIGPIPE and SIGCHLD, ignores SIGXFSZ, runs `body`, prints its error once, returns the exit code.
///
/// Errors are [`drydock_core::Error`] inside anyhow; any other error exits 125.
pub fn main(tool: &str, body: impl FnOnce() -> Outcome) -> ExitCode {
    // Rust ignores SIGPIPE; a tool in a pipeline should end quietly when its reader has gone.
    drydock_core::sys::signal::set_default(nix::libc::SIGPIPE);
    // A caller that ignored SIGCHLD has passed that on: the kernel would reap our children before we see how they ended.
    drydock_core::sys::signal::set_default(nix::libc::SIGCHLD);
    // A write beyond RLIMIT_FSIZE is an error to tell and to undo, not an end in the middle. Commands get the default again.
    drydock_core::sys::signal::ignore(nix::libc::SIGXFSZ);
    match body() {
        Ok(code) => ExitCode::from(code),
        Err(error) => ExitCode::from(report(tool, &error)),
    }
}

/// Prints an error once, as one line on stderr, and returns its exit code.
pub fn report(tool: &str, error: &anyhow::Error) -> u8 {
    output::print_error_line(&format!("{tool}: {}", sentence(error)));
    core(error).map_or(drydock_core::exit::FAILED, Error::exit_code)
}

/// The error of ours that is behind an error.
pub fn core(error: &anyhow::Error) -> Option<&Error> {
    error.chain().find_map(|e| e.downcast_ref::<Error>())
}

/// An error as one line, without control characters.
pub fn sentence(error: &anyhow::Error) -> String {
    let line = match core(error) {
        Some(core) => core.to_string(),
        None => error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": "),
    };
    drydock_core::text::shorten(&drydock_core::text::escape(&line), 4000).to_string()
}
