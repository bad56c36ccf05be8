//! `container`: composes the stages into containers.
//!
//! [`request`] is what was asked, [`plan`] is that checked, [`parent`] and [`child`] carry it out, [`handshake`] is what
//! they say to each other, [`cleanup`] takes everything away; [`commands`] are the verbs.

pub mod attach;
mod audit;
mod by_hand;
mod called;
mod calls;
pub mod child;
mod claim;
pub mod cleanup;
pub mod commands;
pub mod compose;
pub mod console;
mod courier;
mod doctor;
pub mod files;
mod first;
pub mod handshake;
mod heir;
mod home;
pub mod hooks;
mod idmap;
mod image;
mod kmsg;
mod leftovers;
mod log;
pub mod network;
mod oci;
pub mod options;
mod ours;
mod owner;
pub mod parent;
pub mod plan;
pub mod pull;
pub mod request;
pub mod rootfs;
pub mod session;
pub mod streams;
pub mod supervisor;
mod told;
mod userns;
mod verbs;
pub mod waiting;
pub mod watch;
mod witness;

use drydock_cli::Outcome;
use drydock_cli::args::Parsed;
use std::path::PathBuf;
use std::process::ExitCode;

const AFTER_HELP: &str = "\
Start here:  container run -- sh            a shell in a container of its own
             container run --explain -- ls  the same, each step shown before it is done
             container plan -- ls           the same, nothing touched
             container doctor               what this machine can do

Exit codes: the command's own; 128+n if signal n ended it; 125 container failed; 126 cannot execute; 127 not found; 2 usage.";

/// As engines read it: `NAME version NUMBER`, then what is known besides.
const VERSION: &str =
    concat!("version ", env!("CARGO_PKG_VERSION"), "\ncommit: ", env!("DRYDOCK_COMMIT"), "\nspec: 1.3.0");

/// Open Container Initiative runtime, and Linux containers one stage at a time
#[derive(clap::Parser)]
#[command(name = "container", version = VERSION, after_help = AFTER_HELP, arg_required_else_help = true)]
#[command(disable_version_flag = true)]
struct Globals {
    /// Print version
    #[arg(short = 'V', long, visible_short_alias = 'v', action = clap::ArgAction::Version)]
    version: Option<bool>,
    /// Where containers' state is kept [default: $DRYDOCK_ROOT, else /run/drydock, or $XDG_RUNTIME_DIR/drydock]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global")]
    root: Option<PathBuf>,
    #[command(flatten)]
    log: log::Args,
    /// Have systemd make cgroups, as scopes: cgroupsPath is SLICE:PREFIX:NAME
    #[arg(long, global = true, help_heading = "Global")]
    systemd_cgroup: bool,
    /// What the caller is: what can be told by trying needs no telling [accepted for engines]
    #[arg(long, value_name = "true|false|auto", hide = true)]
    rootless: Option<String>,
    /// Ignored: CRIU is found in PATH [accepted for engines]
    #[arg(long, value_name = "PATH", hide = true)]
    criu: Option<PathBuf>,
}

/// The command line, for man pages and shell completions.
pub fn command() -> clap::Command {
    with_verbs(None)
}

/// The command line with all verbs, or with this one alone where it is known: a start need not build the others.
fn with_verbs(asked: Option<&std::ffi::OsStr>) -> clap::Command {
    verbs::add(<Globals as clap::CommandFactory>::command().subcommand_required(true), asked)
}

/// The command line with help that names the program as it was called, and each command with what it does first.
fn named(program: &str, asked: Option<&std::ffi::OsStr>) -> clap::Command {
    let template = |name: &str| {
        format!(
            "NAME:\n   {name} - {{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{{all-args}}{{after-help}}"
        )
    };
    with_verbs(asked).display_name(program).help_template(template(program)).mut_subcommands(|verb| {
        let name = format!("{program} {}", verb.get_name());
        verb.help_template(template(&name))
    })
}

/// Entry point of `container`.
pub fn main() -> ExitCode {
    drydock_cli::main("container", run)
}

fn run() -> Outcome {
    let log = log::early(std::env::args_os());
    if log.enters() {
        // Where that cannot be, the verb says so.
        let _ = drydock_security::run_sealed();
    }
    log.note_start();
    let called = called::Name::find();
    let mut verb = "";
    dispatch(&called, &mut verb, &log).or_else(|error| {
        log.error(&called.sentence(verb, &error));
        Ok(called.report(verb, &error))
    })
}

/// `verb`: what was asked for, once that is known.
fn dispatch(called: &called::Name, verb: &mut &'static str, log: &log::Log) -> Outcome {
    let command = named(called.as_str(), log.verb());
    let parsed = drydock_cli::args::parse_with::<verbs::Asked<Globals>>(command, std::env::args_os());
    let cli = match parsed.map_err(called::unknown_verb)? {
        Parsed::Args(cli) => cli,
        Parsed::Done(code) => return Ok(code),
    };
    *verb = cli.verb.name();
    log.check()?;
    let globals = cli.globals;
    let caller = verbs::Caller {
        root: globals.root,
        systemd_cgroup: globals.systemd_cgroup,
        strict: called.is_runc(),
    };
    cli.verb.run(&caller)
}
