//! `container`: composes the stages into containers.
//!
//! [`request`] is what was asked, [`plan`] is that checked, [`parent`] and [`child`] carry it out, [`handshake`] is what
//! they say to each other, [`cleanup`] takes everything away; [`commands`] are the verbs.

pub mod attach;
mod by_hand;
pub mod child;
mod claim;
pub mod cleanup;
pub mod commands;
pub mod compose;
pub mod console;
mod courier;
mod doctor;
pub mod files;
pub mod handshake;
mod home;
pub mod hooks;
mod idmap;
mod leftovers;
mod log;
pub mod network;
mod oci;
pub mod options;
mod ours;
pub mod parent;
pub mod plan;
pub mod request;
pub mod rootfs;
pub mod session;
pub mod supervisor;
mod userns;
pub mod waiting;
pub mod watch;

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
const VERSION: &str = concat!("version ", env!("CARGO_PKG_VERSION"), "\nspec: 1.3.0");

/// Open Container Initiative runtime, and Linux containers one stage at a time
#[derive(clap::Parser, Debug)]
#[command(name = "container", version = VERSION, after_help = AFTER_HELP, arg_required_else_help = true)]
#[command(disable_version_flag = true)]
struct Cli {
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
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand, Debug)]
enum Verb {
    /// Make a container and run a command in it
    Run(Box<commands::run::Args>),
    /// Make a bundle's container, up to its command [OCI]
    Create(commands::oci::create::Args),
    /// Execute the command of a created container [OCI]
    Start(commands::oci::start::Args),
    /// Print a container's state [OCI]
    State(commands::oci::state::Args),
    /// Write a config.json to begin a bundle with
    Spec(commands::oci::spec::Args),
    /// Print what of the OCI runtime specification is known here, as JSON
    Features(commands::oci::features::Args),
    /// Print what `run` with the same options would do; touch nothing
    Plan(Box<commands::plan::Args>),
    /// Run a command in a running container
    Exec(Box<commands::exec::Args>),
    /// Write a bundle's container, with its processes, into files (criu(8))
    Checkpoint(Box<commands::criu::checkpoint::Args>),
    /// Bring a container back from the files of a checkpoint
    Restore(Box<commands::criu::restore::Args>),
    /// List containers
    #[command(visible_alias = "ls")]
    List(commands::list::Args),
    /// Show the processes of a container
    Ps(commands::processes::Args),
    /// Show everything known of a container, as JSON
    Inspect(commands::show::OneArgs),
    /// Show what containers use
    Stats(commands::show::StatsArgs),
    /// Print what a detached container wrote
    Logs(commands::show::LogsArgs),
    /// Show a detached container's output and pass input on
    Attach(commands::show::AttachArgs),
    /// Freeze all processes of containers
    Pause(commands::pause::Args),
    /// Let paused containers go on
    Resume(commands::pause::Args),
    /// Change the limits of a running container
    Update(Box<commands::update::Args>),
    /// Print what a container uses, and when its memory runs out, as JSON lines
    Events(commands::events::Args),
    /// Stop containers: their stop signal, then SIGKILL
    Stop(commands::signals::StopArgs),
    /// Send a signal to a container
    Kill(commands::signals::KillArgs),
    /// Wait for a container's end and print its exit code
    Wait(commands::signals::WaitArgs),
    /// Delete containers
    #[command(visible_alias = "rm")]
    Delete(commands::delete::DeleteArgs),
    /// Remove what is left of containers whose owner was killed
    Gc(commands::delete::GcArgs),
    /// Start the services of a Compose file, with their networks
    Up(Box<commands::up::UpArgs>),
    /// Stop and remove the services of a Compose file, with their networks
    Down(commands::up::DownArgs),
    /// Probe, by doing, what this machine can do
    Doctor(commands::doctor::Args),
    /// Run a command in new namespaces, as unshare(1)
    Unshare(Box<commands::unshare::Args>),
    /// Show one container pass through every stage, and that nothing is left
    Demo(commands::demo::Args),
}

/// The command line, for man pages and shell completions.
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// The command line with help that names the program as it was called, and each command with what it does first.
fn named(program: &str) -> clap::Command {
    let template = |name: &str| {
        format!(
            "NAME:\n   {name} - {{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{{all-args}}{{after-help}}"
        )
    };
    command().display_name(program).help_template(template(program)).mut_subcommands(|verb| {
        let name = format!("{program} {}", verb.get_name());
        verb.help_template(template(&name))
    })
}

/// The last part of what the program was called as.
fn program() -> String {
    let called = std::env::args_os().next().map(PathBuf::from);
    let name = called.as_deref().and_then(std::path::Path::file_name).map(|name| name.to_string_lossy());
    let plain =
        |name: &str| !name.is_empty() && !name.contains(['{', '}']) && !name.contains(char::is_control);
    name.filter(|name| plain(name)).map_or_else(|| "container".into(), std::borrow::Cow::into_owned)
}

/// Entry point of `container`.
pub fn main() -> ExitCode {
    drydock_cli::main("container", run)
}

fn run() -> Outcome {
    let log = log::early(std::env::args_os());
    log.note_start();
    dispatch().or_else(|error| {
        log.error(&drydock_cli::sentence(&error));
        Ok(drydock_cli::report("container", &error))
    })
}

fn dispatch() -> Outcome {
    let cli = match drydock_cli::args::parse_with::<Cli>(named(&program()), std::env::args_os())? {
        Parsed::Args(cli) => cli,
        Parsed::Done(code) => return Ok(code),
    };
    let root = cli.root.as_deref();
    // `doctor` and `unshare` work where no store can be; the command of `unshare` keeps the caller's umask.
    let store = || {
        // What containers are made of has the modes that it needs, not those that the caller's umask leaves; a container's
        // command starts with this one, too.
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
        commands::run::store(root)
    };
    match cli.verb {
        Verb::Run(args) => commands::run::run(&args, cli.systemd_cgroup, &store()?),
        Verb::Create(args) => commands::oci::create::run(&args, cli.systemd_cgroup, &store()?),
        Verb::Start(args) => commands::oci::start::run(&args, &store()?),
        Verb::State(args) => commands::oci::state::run(&args, &store()?),
        Verb::Spec(args) => commands::oci::spec::run(&args),
        Verb::Features(args) => commands::oci::features::run(&args),
        Verb::Plan(args) => commands::plan::run(&args, &store()?),
        Verb::Exec(args) => commands::exec::run(&args, &store()?),
        Verb::Checkpoint(args) => commands::criu::checkpoint::run(&args, &store()?),
        Verb::Restore(args) => commands::criu::restore::run(&args, &store()?),
        Verb::List(args) => commands::list::run(&args, &store()?),
        Verb::Ps(args) => commands::processes::run(&args, &store()?),
        Verb::Inspect(args) => commands::show::inspect(&args, &store()?),
        Verb::Stats(args) => commands::show::stats(&args, &store()?),
        Verb::Logs(args) => commands::show::logs(&args, &store()?),
        Verb::Attach(args) => commands::show::attach(&args, &store()?),
        Verb::Pause(args) => commands::pause::pause(&args, &store()?),
        Verb::Resume(args) => commands::pause::resume(&args, &store()?),
        Verb::Update(args) => commands::update::run(&args, &store()?),
        Verb::Events(args) => commands::events::run(&args, &store()?),
        Verb::Stop(args) => commands::signals::stop(&args, &store()?),
        Verb::Kill(args) => commands::signals::kill(&args, &store()?),
        Verb::Wait(args) => commands::signals::wait(&args, &store()?),
        Verb::Delete(args) => commands::delete::delete(&args, &store()?),
        Verb::Gc(args) => commands::delete::gc(&args, &store()?),
        Verb::Up(args) => commands::up::up(&args, &store()?),
        Verb::Down(args) => commands::up::down(&args, &store()?),
        Verb::Doctor(args) => commands::doctor::run(&args, root),
        Verb::Unshare(args) => commands::unshare::run(*args),
        Verb::Demo(args) => commands::demo::run(&args, &store()?),
    }
}
