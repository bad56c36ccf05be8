//! The command line.

use clap::{Args as Flags, Parser, Subcommand};
use drydock_cgroups::Limits;
use drydock_core::Result;
use std::path::PathBuf;

/// Control groups on cgroup v1, hybrid and v2: make, limit, run in, watch, freeze, kill, remove.
#[derive(Parser, Debug)]
#[command(
    name = "cgroupctl",
    version,
    arg_required_else_help = true,
    after_help = "NAME is relative: below the hierarchy, or below our own cgroup where only that is writable. \
`drydock/web` is the container 'web'.\nLimits are given as v2 means them and translated on v1; see `cgroupctl compare`. \
Source: cgroups(7).\n\nExample, with the limits that guides use:\n  cgroupctl create demo --cpu 0.5 --memory 100M --swap 50M \
--pids 100\n  cgroupctl run demo -- sh -c 'echo $$'\n  cgroupctl cleanup demo\n\nExit codes: 0; 2 bad input; 125 failure; \
for run also 126, 127, the command's own, 128+signal."
)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Say what this machine has: v1, hybrid or v2, where, which controllers, what is missing and why
    Check(Output),
    /// Print the table of v2 files and their v1 counterparts
    Compare(Output),
    /// List cgroups with their processes
    #[command(visible_alias = "ls")]
    List(List),
    /// List cgroups as a tree
    Tree(List),
    /// Show the limits and counters of a cgroup, or single kernel files
    #[command(visible_alias = "get")]
    Show(Show),
    /// Make a cgroup; without limit flags none is set (guides use --cpu 0.5 --memory 100M --swap 50M --pids 100)
    Create(Create),
    /// Change limits: cpu.max=50% memory.max=100M 'io.max=/path wbps=1M', or any kernel file with its own syntax
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
    /// Watch processor, memory, processes and block input/output
    Monitor(Monitor),
    /// Print pressure stall information: how long processes waited for cpu, memory and io
    Psi(Show1),
    /// Remove a cgroup that has no processes
    #[command(visible_alias = "remove")]
    Delete(Delete),
    /// Kill all processes of a cgroup, wait for their end, remove it and those below it
    Cleanup(Cleanup),
}

#[derive(Flags, Debug)]
pub struct Output {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Flags, Debug)]
pub struct Name {
    /// Relative name of the cgroup
    pub name: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Flags, Debug)]
pub struct List {
    /// Only this cgroup and those below it
    pub name: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Flags, Debug)]
pub struct Show {
    /// Relative name of the cgroup
    pub name: String,
    /// Kernel files to print, such as memory.max; v2 names also work on v1 where there is a counterpart
    pub files: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Flags, Debug)]
pub struct Show1 {
    /// Relative name of the cgroup
    pub name: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Limits as flags.
#[derive(Flags, Debug, Default)]
pub struct LimitFlags {
    /// Processors: 0.5, 50%, 2, or max (v2 cpu.max)
    #[arg(long, visible_alias = "cpus", value_name = "N")]
    pub cpu: Option<String>,
    /// Share of the processor against others, 1 to 10000, default 100 (v2 cpu.weight)
    #[arg(long, value_name = "WEIGHT")]
    pub cpu_weight: Option<String>,
    /// Processors that may be used: 0-2,4
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes that may be used: 0
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Memory in bytes or as 100M, or max (v2 memory.max)
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Memory above which it is slowed down (v2 memory.high; not in v1)
    #[arg(long, value_name = "SIZE")]
    pub memory_high: Option<String>,
    /// Memory that is spared from reclaim (v2 memory.low)
    #[arg(long, value_name = "SIZE")]
    pub memory_low: Option<String>,
    /// Swap alone, not memory and swap (v2 memory.swap.max); on v1 it needs --memory
    #[arg(long, value_name = "SIZE")]
    pub swap: Option<String>,
    /// Processes and threads (pids.max)
    #[arg(long, value_name = "N")]
    pub pids: Option<String>,
    /// Share of block input/output, 1 to 10000, default 100 (v2 io.weight)
    #[arg(long, value_name = "WEIGHT")]
    pub io_weight: Option<String>,
    /// Rates of a disk: 'DEVICE rbps=1M wbps=1M riops=100 wiops=100', DEVICE a path or major:minor; may be repeated
    #[arg(long, value_name = "SPEC")]
    pub io_max: Vec<String>,
}

impl LimitFlags {
    /// The limits, parsed.
    pub fn limits(&self) -> Result<Limits> {
        let mut limits = Limits::default();
        if let Some(text) = &self.cpu {
            limits.cpu = Some(Limits::parse_cpus(text)?);
        }
        let settings = [
            ("cpu.weight", &self.cpu_weight),
            ("cpuset.cpus", &self.cpuset_cpus),
            ("cpuset.mems", &self.cpuset_mems),
            ("memory.max", &self.memory),
            ("memory.high", &self.memory_high),
            ("memory.low", &self.memory_low),
            ("memory.swap.max", &self.swap),
            ("pids.max", &self.pids),
            ("io.weight", &self.io_weight),
        ];
        for (key, value) in settings {
            if let Some(value) = value {
                limits.set(key, value)?;
            }
        }
        self.io_max.iter().try_for_each(|spec| limits.set("io.max", spec))?;
        Ok(limits)
    }
}

/// How a cgroup is made.
#[derive(Flags, Debug, Default)]
pub struct Making {
    #[command(flatten)]
    pub limits: LimitFlags,
    /// Go on without what this kernel lacks, and say so
    #[arg(long)]
    pub lenient: bool,
    /// v1: no cpuset cgroup unless a limit needs one, as `container run` does
    #[arg(long)]
    pub lean: bool,
    /// v2: move processes that are in the way of enabling a controller into a child cgroup 'leaf'
    #[arg(long)]
    pub make_leaf: bool,
    /// Print each step before it is done
    #[arg(long)]
    pub explain: bool,
    /// Record the cgroup in the journal of container ID, so that `container gc` and `container delete` find it
    #[arg(long, value_name = "ID")]
    pub owner: Option<String>,
    /// State directory for --owner [default: /run/drydock, or DRYDOCK_ROOT]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
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
    /// FILE=VALUE, such as cpu.max=50%, memory.max=100M, 'cpu.max=50000 100000'
    #[arg(required = true, value_name = "FILE=VALUE")]
    pub settings: Vec<String>,
    /// Go on without what this kernel lacks, and say so
    #[arg(long)]
    pub lenient: bool,
    /// v2: move processes that are in the way of enabling a controller into a child cgroup 'leaf'
    #[arg(long)]
    pub make_leaf: bool,
    /// Print each step before it is done
    #[arg(long)]
    pub explain: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Flags, Debug)]
pub struct Add {
    /// Relative name of the cgroup
    pub name: String,
    /// Process ids
    #[arg(required = true, value_name = "PID")]
    pub pids: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Flags, Debug)]
pub struct Move {
    /// The cgroup that gives its processes
    pub from: String,
    /// The cgroup that takes them
    pub to: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
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
pub struct Monitor {
    /// Relative name of the cgroup
    pub name: String,
    /// One sample (the processor's share is measured over the interval, at most 0.2 s), then end
    #[arg(long)]
    pub once: bool,
    /// Print JSON; without --once one line a sample
    #[arg(long)]
    pub json: bool,
    /// Seconds between samples, 0.05 to 3600
    #[arg(long, value_name = "SECONDS", default_value = "2")]
    pub interval: String,
}

#[derive(Flags, Debug)]
pub struct Delete {
    /// Relative name of the cgroup
    pub name: String,
    /// Also the cgroups below it, if none has processes
    #[arg(short, long)]
    pub recursive: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
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
    /// Print each step before it is done
    #[arg(long)]
    pub explain: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
