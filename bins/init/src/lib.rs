//! `init`: PID 1. Sets up the inside of a container, reaps, forwards signals, keeps exit codes.
//!
//! [`inside`] is the library that `container` calls in its own child; [`options`] are the options both share.

mod ask;
pub mod command;
pub mod inside;
pub mod options;
mod pidfile;
mod ready;
pub mod reaper;
pub mod reaping;
mod report;
mod spawn;
mod stay;
mod steps;
pub mod sysctl;

use std::process::ExitCode;

/// The command line, for man pages and shell completions.
pub fn command() -> clap::Command {
    <command::Args as clap::CommandFactory>::command()
}

/// Entry point of `init`.
pub fn main() -> ExitCode {
    drydock_cli::main("init", command::run)
}
