//! `cgroupctl`: makes, limits, runs in, watches, freezes, kills and removes cgroups, on v1, hybrid and v2.

mod args;
mod compare;
mod look;
mod make;
mod manage;
mod monitor;
mod names;
mod owner;
mod run;

use args::{Args, Command};
use drydock_cli::args::Parsed;

/// The tool's name in messages.
pub(crate) const TOOL: &str = "cgroupctl";

/// The command line, for man pages and shell completions.
pub fn command() -> clap::Command {
    <Args as clap::CommandFactory>::command()
}

/// Entry point of `cgroupctl`.
pub fn main() -> std::process::ExitCode {
    drydock_cli::main(TOOL, || match drydock_cli::parse::<Args>()? {
        Parsed::Done(code) => Ok(code),
        Parsed::Args(args) => dispatch(args),
    })
}

fn dispatch(args: Args) -> drydock_cli::Outcome {
    match args.command {
        Command::Check(a) => look::check(&a),
        Command::Compare(a) => compare::print(&a),
        Command::List(a) => look::list(&a),
        Command::Tree(a) => look::tree(&a),
        Command::Show(a) => look::show(&a),
        Command::Create(a) => make::create(&a),
        Command::Set(a) => make::set(&a),
        Command::Add(a) => manage::add(&a),
        Command::Move(a) => manage::move_all(&a),
        Command::Run(a) => run::run(a),
        Command::Freeze(a) => manage::freeze(&a),
        Command::Thaw(a) => manage::thaw(&a),
        Command::Kill(a) => manage::kill(&a),
        Command::Monitor(a) => monitor::monitor(&a),
        Command::Psi(a) => monitor::psi(&a),
        Command::Delete(a) => manage::delete(&a),
        Command::Cleanup(a) => manage::cleanup(&a),
    }
}
