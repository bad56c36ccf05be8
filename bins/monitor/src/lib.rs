//! `monitor`: namespaces, processes, mounts and resources as the kernel shows them.
//!
//! [`procfs`] reads and parses, [`model`] puts together, [`view`] prints as text or JSON. Nothing is changed anywhere.

pub mod args;
pub mod model;
pub mod procfs;
pub mod view;

use args::{Args, Command, Ns};
use drydock_cli::Outcome;
use drydock_cli::args::Parsed;
use drydock_core::Result;
use model::target::{self, Target};
use procfs::Proc;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The command line, for man pages and shell completions.
pub fn command() -> clap::Command {
    <Args as clap::CommandFactory>::command()
}

/// Entry point of `monitor`.
pub fn main() -> ExitCode {
    drydock_cli::main("monitor", body)
}

fn body() -> Outcome {
    match drydock_cli::parse::<Args>()? {
        Parsed::Done(code) => Ok(code),
        Parsed::Args(args) => {
            Session::new(&args)?.run(&args.command)?;
            Ok(0)
        }
    }
}

/// What every verb needs: the verified /proc, where containers are, and how to print.
#[derive(Debug)]
pub struct Session {
    /// The process file system.
    pub proc: Proc,
    /// `--root`.
    pub root: Option<PathBuf>,
    /// `--json`.
    pub json: bool,
}

impl Session {
    fn new(args: &Args) -> Result<Self> {
        let proc = Proc::open(Path::new("/proc"))?;
        Ok(Self { proc, root: args.root.clone(), json: args.json })
    }

    /// The process that a word on the command line means.
    ///
    /// # Errors
    /// As [`target::resolve`].
    pub fn target(&self, text: &str) -> Result<Target> {
        target::resolve(&self.proc, text, self.root.as_deref())
    }

    /// The same, our own process when nothing was given.
    ///
    /// # Errors
    /// As [`target::resolve`].
    pub fn target_or_self(&self, text: Option<&str>) -> Result<Target> {
        match text {
            Some(text) => self.target(text),
            None => Ok(Target { pid: std::process::id(), container: None }),
        }
    }

    fn run(&self, command: &Command) -> Result<()> {
        match command {
            Command::Ns(verb) => self.namespaces(verb),
            Command::Group { by } => view::group::group(self, *by),
            Command::Pidmap { target } => view::process::pidmap(self, &self.target(target)?),
            Command::Mounts { pid, tree } => {
                view::mounts::mounts(self, &self.target_or_self(pid.as_deref())?, *tree)
            }
            Command::Ipc { pid } => view::ipc::ipc(self, &self.target_or_self(pid.as_deref())?),
            Command::Inspect { target } => view::inspect::inspect(self, &self.target(target)?),
            Command::Tree { target } => view::process::tree(self, target.as_deref()),
            Command::Ps { target } => view::process::ps(self, target.as_deref()),
            Command::Stats { target, sampling } => view::usage::stats(self, &self.target(target)?, sampling),
            Command::Top { sampling } => view::top::top(self, sampling),
            Command::Psi { target } => view::usage::psi(self, target.as_deref()),
        }
    }

    fn namespaces(&self, verb: &Ns) -> Result<()> {
        match verb {
            Ns::Types => view::ns::types(self),
            Ns::Show { pid } => view::ns::show(self, &self.target_or_self(pid.as_deref())?),
            Ns::Diff { a, b } => view::ns::diff(self, &self.target(a)?, &self.target(b)?),
            Ns::Ls { pid, types, persistent } => {
                let only = pid.as_deref().map(|p| self.target(p)).transpose()?;
                view::nslist::list(self, only.as_ref(), types, *persistent)
            }
            Ns::Owner { namespace } => view::ns::owner(self, namespace),
            Ns::Parent { namespace } => view::ns::parent(self, namespace),
            Ns::Tree { by } => view::nstree::tree(self, by),
            Ns::Map { target } => view::ns::map(self, &self.target(target)?),
        }
    }
}
