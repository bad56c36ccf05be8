//! `joinns`: join the namespaces of a process, a file or a container, and run a command there (setns(2), nsenter(1)).
//!
//! - [`args`]: the command line; [`target`]: who is meant;
//! - [`request`]: both together, opened and checked, before anything changes;
//! - [`enter`]: join, fork if somebody is to be inside a pid namespace, and become the command;
//! - [`cgroup`]: the target's cgroups; [`tty`]: no typing into the caller's terminal.

pub mod args;
pub mod cgroup;
pub mod enter;
pub mod request;
pub mod target;
pub mod tty;

use drydock_cli::Outcome;

/// The command line, for man pages and shell completions.
pub fn command() -> clap::Command {
    <args::Args as clap::CommandFactory>::command()
}

/// Entry point of `joinns`.
pub fn main() -> std::process::ExitCode {
    drydock_cli::main("joinns", run)
}

fn run() -> Outcome {
    // Before anything is opened here: what the caller left open must not go into a container, not even until the exec.
    enter::close_inherited();
    match args::parse()? {
        drydock_cli::args::Parsed::Done(code) => Ok(code),
        drydock_cli::args::Parsed::Args(args) => {
            // What is joined may be hostile: it must not get hold of this program's file.
            drydock_security::run_sealed()?;
            enter::run(args)
        }
    }
}
