//! `cgroupctl`: makes, limits, runs in, watches, freezes, kills and removes cgroups, on v1, hybrid and v2.

mod args;
mod check;
mod compare;
mod controllers;
mod delegate;
mod events;
mod files;
mod list;
mod make;
mod manage;
mod monitor;
mod names;
mod owner;
mod run;
mod say;
mod scope;
mod show;
mod top;
mod transfer;

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
        Parsed::Args(args) => {
            say::set_json(args.log_format == "json");
            match dispatch(args.command) {
                Err(error) if say::is_json() || say::in_colour() => Ok(say::error(&error)),
                outcome => outcome,
            }
        }
    })
}

fn dispatch(command: Command) -> drydock_cli::Outcome {
    match command {
        Command::Check(a) => check::check(&a),
        Command::Compare(a) => compare::print(&a),
        Command::Controllers(a) => controllers::controllers(&a),
        Command::List(a) => list::list(&a),
        Command::Tree(a) => list::tree(&a),
        Command::Show(a) => show::show(&a),
        Command::Create(a) => make::create(&a),
        Command::Set(a) => make::set(&a),
        Command::Add(a) => manage::add(&a),
        Command::Move(a) => manage::move_all(&a),
        Command::Run(a) => run::run(a),
        Command::Freeze(a) => manage::freeze(&a),
        Command::Thaw(a) => manage::thaw(&a),
        Command::Kill(a) => manage::kill(&a),
        Command::Watch(a) => events::watch(&a),
        Command::Monitor(a) => monitor::monitor(&a),
        Command::Top(a) => top::top(&a),
        Command::Psi(a) => events::psi(&a),
        Command::Copy(a) => transfer::copy(&a),
        Command::Save(a) => transfer::save(&a),
        Command::Restore(a) => transfer::restore(&a),
        Command::Delegate(a) => delegate::delegate(&a),
        Command::Delete(a) => manage::delete(&a),
        Command::Cleanup(a) => manage::cleanup(&a),
    }
}
