//! `monitor`: namespaces, processes, mounts and resources as the kernel shows them.
//!
//! [`procfs`] reads and parses, [`model`] puts together, [`view`] prints as text or JSON. Nothing is changed anywhere.

pub mod args;
pub mod model;
pub mod procfs;
pub mod query;
pub mod template;
pub mod tui;
pub mod view;

use args::{Args, Command, Format, Ns};
use drydock_cli::Outcome;
use drydock_cli::args::Parsed;
use drydock_core::{Error, Result};
use model::foreign;
use model::target::{self, Target};
use procfs::Proc;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use template::Template;

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
    /// `--json` or `--format`: not for people.
    pub json: bool,
    /// `--format` with a template.
    pub template: Option<Template>,
}

impl Session {
    fn new(args: &Args) -> Result<Self> {
        let proc = Proc::open(Path::new("/proc"))?;
        let template = match &args.format {
            Some(Format::Template(template)) => Some(template.clone()),
            _ => None,
        };
        Ok(Self { proc, root: args.root.clone(), json: args.json || args.format.is_some(), template })
    }

    /// Prints a result for programs: JSON, or by the template.
    ///
    /// # Errors
    /// Output errors; bad input for a field that is not there.
    pub fn print<T: Serialize + ?Sized>(&self, document: &T) -> Result<()> {
        self.print_rows(document, document)
    }

    /// The same for a document that holds its rows beside other things: a template is for the rows.
    ///
    /// # Errors
    /// As [`Session::print`].
    pub fn print_rows<D: Serialize + ?Sized, R: Serialize + ?Sized>(
        &self,
        document: &D,
        rows: &R,
    ) -> Result<()> {
        match &self.template {
            None => drydock_cli::print_json(document),
            Some(template) => drydock_cli::print_text(&template.render(&value(rows)?)?),
        }
    }

    /// One document of a stream: JSON on one line, or by the template.
    ///
    /// # Errors
    /// As [`Session::print`].
    pub fn print_sample<T: Serialize + ?Sized>(&self, document: &T) -> Result<()> {
        match &self.template {
            None => {
                let line = serde_json::to_string(document);
                let line = line.map_err(|e| Error::failed("output", e.to_string()))?;
                drydock_cli::print_text(&format!("{line}\n"))
            }
            Some(template) => drydock_cli::print_text(&template.render(&value(document)?)?),
        }
    }

    /// The process that a word on the command line means.
    ///
    /// # Errors
    /// As [`target::resolve`].
    pub fn target(&self, text: &str) -> Result<Target> {
        match target::resolve(&self.proc, text, self.root.as_deref()) {
            Err(error) if error.kind() == drydock_core::Kind::BadInput => {
                // Not ours: perhaps another engine's.
                let found = foreign::find(&self.proc, text, self.root.as_deref())?;
                found.ok_or(error)
            }
            other => other,
        }
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
            Command::Mounts { target, pid, tree } => {
                let whose = target.as_deref().or(pid.as_deref());
                view::mounts::mounts(self, &self.target_or_self(whose)?, *tree)
            }
            Command::Ipc { target, pid } => {
                view::ipc::ipc(self, &self.target_or_self(target.as_deref().or(pid.as_deref()))?)
            }
            Command::Inspect { target } => view::inspect::inspect(self, &self.target(target)?),
            Command::Tree { target } => view::process::tree(self, target.as_deref()),
            Command::Ps { target, output } => view::process::ps(self, target.as_deref(), output.as_deref()),
            Command::Stats(options) => match options.targets.as_slice() {
                [one] => view::usage::stats(self, &self.target(one)?, options),
                _ => view::many::stats(self, options),
            },
            Command::Top(options) => view::top::top(self, options),
            Command::Graph(options) => view::graph::graph(self, options),
            Command::Record(options) => view::record::record(self, options),
            Command::Replay(options) => view::record::replay(self, options),
            Command::Serve(options) => view::serve::serve(self, options),
            Command::Perf(options) => view::counts::perf(self, &self.target(&options.target)?, options),
            Command::Syscalls(options) => {
                view::counts::syscalls(self, &self.target(&options.target)?, options)
            }
            Command::Psi { target } => view::usage::psi(self, target.as_deref()),
        }
    }

    fn namespaces(&self, verb: &Ns) -> Result<()> {
        match verb {
            Ns::Types => view::ns::types(self),
            Ns::Show { target, pid } => {
                view::ns::show(self, &self.target_or_self(target.as_deref().or(pid.as_deref()))?)
            }
            Ns::Diff { a, b } => view::ns::diff(self, &self.target(a)?, &self.target(b)?),
            Ns::Ls(options) => match &options.tree {
                Some(by) => view::nstree::tree(self, by),
                None => view::nslist::list(self, options),
            },
            Ns::Owner { namespace } => view::ns::owner(self, namespace),
            Ns::Parent { namespace } => view::ns::parent(self, namespace),
            Ns::Tree { by } => view::nstree::tree(self, by),
            Ns::Map { target } => view::ns::map(self, &self.target(target)?),
        }
    }
}

fn value<T: Serialize + ?Sized>(document: &T) -> Result<serde_json::Value> {
    serde_json::to_value(document).map_err(|e| Error::failed("output", e.to_string()))
}
