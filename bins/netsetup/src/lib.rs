//! `netsetup`: network namespaces, links, bridges, addresses, routes, NAT and published ports, over netlink only.
//!
//! Each subcommand is a request to `drydock-network`; this package only parses, names and prints.

mod args;
mod cni;
mod commands;
mod owner;
mod pending;
mod place;
mod print;
mod topology;

use args::{Args, Command};
use drydock_cli::args::Parsed;
use std::process::ExitCode;

/// The command line, for man pages and shell completions.
pub fn command() -> clap::Command {
    <Args as clap::CommandFactory>::command()
}

/// Entry point of `netsetup`.
pub fn main() -> ExitCode {
    if cni::is_called() {
        drydock_core::sys::signal::set_default(nix::libc::SIGCHLD);
        return cni::main();
    }
    drydock_cli::main("netsetup", || match drydock_cli::parse::<Args>()? {
        Parsed::Done(code) => Ok(code),
        Parsed::Args(args) => run(args),
    })
}

fn run(args: Args) -> drydock_cli::Outcome {
    let common = args.common;
    match args.command {
        Command::Ns(command) => commands::ns::run(command, &common),
        Command::Link(link) => commands::link::run(&link, &common),
        Command::Limit(limit) => commands::limit::run(&limit, &common),
        Command::Bridge(command) => commands::bridge::run(&command, &common),
        Command::Attach(attach) => commands::attach::run(&attach, &common),
        Command::Detach(detach) => commands::attach::detach(&detach, &common),
        Command::Addr(addr) => commands::address::run(&addr, &common),
        Command::Route(route) => commands::address::route(&route, &common),
        Command::Nat(command) => commands::nat::run(&command, &common),
        Command::Forward(command) => commands::nat::forward(&command, &common),
        Command::Reload => commands::gc::reload(&common),
        Command::Gc(gc) => commands::gc::run(&gc, &common),
        Command::Apply(apply) => commands::topology::run_apply(&apply, &common),
        Command::Check(check) => commands::topology::run_check(&check, &common),
        Command::Publish(publish) => commands::publish::run(&publish, &common),
        Command::Unpublish(target) => commands::publish::off(&target, &common),
        Command::Dns(dns) => commands::dns::run(&dns, &common),
        Command::Etc(etc) => commands::etc::run(&etc, &common),
        Command::Show(show) => commands::show::run(&show, &common),
        Command::Undo(undo) => commands::undo::run(&undo, &common),
        Command::Leases => commands::undo::leases(&common),
    }
}
