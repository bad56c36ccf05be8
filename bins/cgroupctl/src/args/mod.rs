//! The command line.

mod limits;
mod looking;

pub use limits::{Making, settings_into};
pub use looking::{List, Monitor, Output, Psi, Show, Top, Watch};

use clap::{Args as Flags, Parser, Subcommand};

/// Control groups on cgroup v1, hybrid and v2: make, limit, run in, watch, freeze, kill, remove.
#[derive(Parser, Debug)]
#[command(
    name = "cgroupctl",
    version,
    arg_required_else_help = true,
    after_help = "NAME is relative: below the hierarchy, or below our own cgroup where only that is writable; a cgroup that was \
delegated to you may also be named from the root. `drydock/web` is the container 'web'.\nLimits are given as v2 means them and \
translated on v1; see `cgroupctl compare`. Source: cgroups(7).\n\nExample, with the limits that guides use:\n  cgroupctl create \
demo --cpu 0.5 --memory 100M --swap 50M --pids 100\n  cgroupctl run demo -- sh -c 'echo $$'\n  cgroupctl cleanup demo\n\nExit \
codes: 0; 2 bad input, also a cgroup that is not there (delete and cleanup: nothing to do, 0); 125 failure; 1 if watch or psi \
--watch saw nothing in --timeout; for run also 126, 127, the command's own, 128+signal."
)]
pub struct Args {
    /// Errors and warnings on stderr: text, or json, one object a line
    #[arg(long, global = true, value_name = "FORMAT", value_parser = ["text", "json"], default_value = "text")]
    pub log_format: String,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Say what this machine has: v1, hybrid or v2, where, which controllers, what is missing and why
    Check(Output),
    /// Print the table of v2 files and their v1 counterparts
    Compare(Output),
    /// Show which controllers a cgroup has and hands on to those below; enable or disable them
    Controllers(Controllers),
    /// List cgroups with their processes; with --stats their counters in one pass
    #[command(visible_alias = "ls")]
    List(List),
    /// List cgroups as a tree
    Tree(List),
    /// Show a cgroup: limits, use, peaks, events; or single kernel files
    #[command(visible_alias = "get")]
    Show(Show),
    /// Make a cgroup; without limit flags none is set (guides use --cpu 0.5 --memory 100M --swap 50M --pids 100)
    Create(Create),
    /// Change limits: cpu.max=50% memory.max=100M 'io.max=/path wbps=1M' 'devices=allow /dev/null rw', or any kernel file
    Set(Set),
    /// Move processes into a cgroup and verify that it lists them
    Add(Add),
    /// Move all processes of one cgroup into another
    Move(Move),
    /// Run a command that is born inside the cgroup; prints its PID on stderr, passes signals and exit code on
    Run(Run),
    /// Stop all processes of a cgroup and wait until they are stopped
    Freeze(Name),
    /// Let the processes of a frozen cgroup go on
    Thaw(Name),
    /// Kill all processes of a cgroup and those below it
    Kill(Name),
    /// Tell what happens: OOM kills, memory and process limits that were hit, the last process leaving, pressure
    Watch(Watch),
    /// Watch processor, memory, processes and block input/output of one cgroup
    Monitor(Monitor),
    /// Watch all cgroups, the busiest first
    Top(Top),
    /// Print pressure stall information, or tell each time when it exceeds a threshold
    Psi(Psi),
    /// Give a cgroup the limits of another
    Copy(Copy),
    /// Write a cgroup's limits to a file, with those of the cgroups below
    Save(Save),
    /// Make the cgroups of such a file, with their limits; on v1 or v2, whatever it was written on
    Restore(Restore),
    /// Let a user manage what is below a cgroup: make cgroups, move their processes among them; its limits stay
    Delegate(Delegate),
    /// Remove a cgroup that has no processes
    #[command(visible_alias = "remove")]
    Delete(Delete),
    /// Kill all processes of a cgroup, wait for their end, remove it and those below it
    Cleanup(Cleanup),
}

/// What every command that does something can say.
#[derive(Flags, Debug, Default)]
pub struct Saying {
    /// Print each step before it is done
    #[arg(long)]
    pub explain: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Flags, Debug)]
pub struct Name {
    /// Relative name of the cgroup
    pub name: String,
    #[command(flatten)]
    pub say: Saying,
}

#[derive(Flags, Debug)]
pub struct Controllers {
    /// Relative name of the cgroup; without it the place where names begin
    pub name: Option<String>,
    /// v2: let the cgroups below use these controllers: memory,io
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub enable: Vec<String>,
    /// v2: no longer let them
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub disable: Vec<String>,
    /// v2: move processes that are in the way of enabling a controller into a child cgroup 'leaf'
    #[arg(long)]
    pub make_leaf: bool,
    #[command(flatten)]
    pub say: Saying,
}

#[derive(Flags, Debug)]
pub struct Create {
    /// Relative name of the cgroup; parents are made too
    pub name: String,
    #[command(flatten)]
    pub making: Making,
    /// If it exists, use it and set the limits
    #[arg(long, conflicts_with = "replace")]
    pub reuse: bool,
    /// If it exists, kill what is in it, remove it, make it anew
    #[arg(long)]
    pub replace: bool,
    /// Let this user manage what is below it, as `cgroupctl delegate` does
    #[arg(long, value_name = "USER[:GROUP]")]
    pub delegate: Option<String>,
    /// All of it as JSON instead of flags, as `container plan --format commands` prints it for a bundle
    #[arg(long, value_name = "JSON", conflicts_with_all = ["reuse", "replace"])]
    pub request: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Flags, Debug)]
pub struct Set {
    /// Relative name of the cgroup
    pub name: String,
    /// FILE=VALUE, such as cpu.max=50%, memory.max=100M, 'cpu.max=50000 100000', 'devices=allow /dev/null rw'; v1's names, too
    #[arg(required = true, value_name = "FILE=VALUE")]
    pub settings: Vec<String>,
    /// Also in all cgroups below
    #[arg(short, long)]
    pub recursive: bool,
    /// Go on without what this kernel lacks, and say so
    #[arg(long)]
    pub lenient: bool,
    /// v2: move processes that are in the way of enabling a controller into a child cgroup 'leaf'
    #[arg(long)]
    pub make_leaf: bool,
    #[command(flatten)]
    pub say: Saying,
}

#[derive(Flags, Debug)]
pub struct Add {
    /// Relative name of the cgroup
    pub name: String,
    /// Process ids; with --thread thread ids
    #[arg(required = true, value_name = "PID")]
    pub pids: Vec<String>,
    /// Single threads: v1 tasks, v2 cgroup.threads of a threaded cgroup
    #[arg(long)]
    pub thread: bool,
    #[command(flatten)]
    pub say: Saying,
}

#[derive(Flags, Debug)]
pub struct Move {
    /// The cgroup that gives its processes
    pub from: String,
    /// The cgroup that takes them
    pub to: String,
    #[command(flatten)]
    pub say: Saying,
}

#[derive(Flags, Debug)]
pub struct Run {
    /// Relative name of the cgroup; with limit flags or --create it is made if it does not exist
    pub name: String,
    #[command(flatten)]
    pub making: Making,
    /// Make the cgroup if it does not exist
    #[arg(long)]
    pub create: bool,
    /// Remove the cgroup, with whatever is left in it, when the command has ended
    #[arg(long)]
    pub rm: bool,
    /// Have systemd make the cgroup, as the scope NAME.scope, delegated to us
    #[arg(long, conflicts_with_all = ["create", "owner", "lean", "make_leaf"])]
    pub scope: bool,
    /// With --scope: the slice that it is made in [default: system.slice; with --user app.slice]
    #[arg(long, requires = "scope")]
    pub slice: Option<String>,
    /// With --scope: the calling user's systemd instead of the system's
    #[arg(long, requires = "scope")]
    pub user: bool,
    /// With --scope: a property of the unit as systemd writes it: 'TasksMax=uint64 100'. May be repeated
    #[arg(short, long, value_name = "NAME=VALUE", requires = "scope")]
    pub property: Vec<String>,
    /// Do not print the PID
    #[arg(short, long)]
    pub quiet: bool,
    /// When the command has ended, print on stderr, as a line of JSON, its PID, its cgroup and how it ended
    #[arg(long)]
    pub json: bool,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    pub command: Vec<std::ffi::OsString>,
}

#[derive(Flags, Debug)]
pub struct Delete {
    /// Relative name of the cgroup
    pub name: String,
    /// Also the cgroups below it, if none has processes
    #[arg(short, long)]
    pub recursive: bool,
    #[command(flatten)]
    pub say: Saying,
}

#[derive(Flags, Debug)]
pub struct Cleanup {
    /// Relative name of the cgroup
    pub name: String,
    /// Accepted for symmetry with delete: cleanup always removes the cgroups below too
    #[arg(short, long)]
    pub recursive: bool,
    /// Seconds to wait for killed processes to be gone, 0 to 3600
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    pub timeout: String,
    #[command(flatten)]
    pub say: Saying,
}

#[derive(Flags, Debug)]
pub struct Copy {
    /// The cgroup whose limits are read
    pub from: String,
    /// The cgroup that is to have them
    pub to: String,
    /// Make it if it does not exist
    #[arg(long)]
    pub create: bool,
    /// Go on without what this kernel lacks, and say so
    #[arg(long)]
    pub lenient: bool,
    #[command(flatten)]
    pub say: Saying,
}

#[derive(Flags, Debug)]
pub struct Save {
    /// Relative name of the cgroup
    pub name: String,
    /// The file; it is replaced as a whole. Without it, or with -, standard output
    pub file: Option<std::path::PathBuf>,
    /// Only this cgroup, not those below
    #[arg(long)]
    pub alone: bool,
    /// Print JSON about what was saved where
    #[arg(long, requires = "file")]
    pub json: bool,
}

#[derive(Flags, Debug)]
pub struct Restore {
    /// The file that `save` has written; - is standard input
    pub file: std::path::PathBuf,
    /// Another name for the cgroup that was saved; those below follow
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Cgroups that exist are used, and get the limits
    #[arg(long, conflicts_with = "replace")]
    pub reuse: bool,
    /// If it exists, kill what is in it, remove it, make it anew
    #[arg(long)]
    pub replace: bool,
    /// Go on without what this kernel lacks, and say so
    #[arg(long)]
    pub lenient: bool,
    #[command(flatten)]
    pub say: Saying,
}

#[derive(Flags, Debug)]
pub struct Delegate {
    /// Relative name of the cgroup
    pub name: String,
    /// A name or number; with :GROUP also the group
    #[arg(value_name = "USER[:GROUP]")]
    pub user: String,
    #[command(flatten)]
    pub say: Saying,
}
