//! `joinns`: join the namespaces of a process, a file or a container, and run a command there (setns(2), nsenter(1)).
//!
//! - [`args`]: the command line; [`target`]: who is meant; [`numbers`]: namespaces without a path;
//! - [`request`]: all together, opened and checked, before anything changes;
//! - [`enter`]: join, fork if somebody is to be inside a pid namespace, and become the command;
//! - [`taken`], [`filters`]: what the target may do, and so the command; [`ids`]: whom it runs as;
//!   [`environment`]: what of the caller's goes along;
//! - [`cgroup`]: the target's cgroups; [`terminal`]: one of the command's own; [`tty`]: no typing into the caller's;
//! - [`tools`], [`launcher`]: this machine's programs for a target that has none.

pub mod args;
pub mod cgroup;
pub mod enter;
pub mod environment;
pub mod filters;
pub mod ids;
pub mod launcher;
pub mod numbers;
pub mod request;
mod steps;
pub mod taken;
pub mod target;
pub mod terminal;
pub mod tools;
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
    if launcher::is_meant() {
        return Err(launcher::run().into());
    }
    // Before the command line is read, which would be done twice. What fails here is told below.
    if args::plainly_confined(std::env::args_os().skip(1)) {
        let _ = drydock_security::run_sealed();
    }
    match args::parse()? {
        drydock_cli::args::Parsed::Done(code) => Ok(code),
        drydock_cli::args::Parsed::Args(args) => {
            // Before anything is opened here: what the caller left open must not go into a container, not even until the exec.
            enter::close_inherited(args.preserve_fds);
            // What is entered may be hostile: it must not get hold of this program's file. Who joins neither its processes nor
            // its mounts nor its users is nowhere to be seen there. And with all of the caller's privileges the command could
            // be made to write to the file in any case.
            if args.enters() && !args.privileged {
                drydock_security::run_sealed()?;
            }
            enter::run(args)
        }
    }
}
