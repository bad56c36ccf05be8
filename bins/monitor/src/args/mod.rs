//! The command line.

mod graph;
mod more;
mod ns;

mod watch;

pub use graph::{Drawing, GraphOptions};
pub use more::{Counting, Record, Replay, Serve};
pub use ns::{List, Ns};
use watch::TOP_HELP;
pub use watch::{Sampling, Stats, Top, interval};

use crate::template::Template;
use clap::{Parser, Subcommand};
use drydock_core::Result;
use drydock_namespaces::Kind;
use std::path::PathBuf;

/// Shows namespaces, processes, mounts and resources, as the kernel has them.
///
/// Works for any process on the machine, whoever started it: no daemon, no container runtime is asked. PID|ID is the
/// number of a process, or the name (or unambiguous beginning of it) of a Drydock container.
#[derive(Parser, Debug)]
#[command(
    name = "monitor",
    version,
    after_help = "What the guides use, and ours:\n  \
        ls -l /proc/$$/ns            monitor ns show --pid $$\n  \
        readlink /proc/{$$,1}/ns/*   monitor ns diff $$ 1\n  \
        lsns, lsns -p $$             monitor ns ls, monitor ns ls --pid $$\n  \
        grep NSpid /proc/PID/status  monitor pidmap PID\n  \
        findmnt --kernel             monitor mounts --tree\n  \
        pstree -p PID                monitor tree PID\n  \
        ipcs                         monitor ipc --pid PID\n  \
        systemd-cgtop                monitor top\n\n\
        Exit codes: 0; 2 bad arguments, unknown process or container; 125 it could not be done.\n\
        See namespaces(7), cgroups(7), proc(5)."
)]
pub struct Args {
    /// What to show
    #[command(subcommand)]
    pub command: Command,
    /// Print JSON (field names are in the documentation of this tool)
    #[arg(short = 'J', long, global = true)]
    pub json: bool,
    /// Print `json`, or a line for each row by a template of JSON fields: '{{.name}} {{.memory.current}}'
    #[arg(long, global = true, value_name = "FORMAT", conflicts_with = "json", value_parser = format)]
    pub format: Option<Format>,
    /// Where Drydock keeps the state of its containers [default: /run/drydock, or $XDG_RUNTIME_DIR/drydock]
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

/// The verbs.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Namespaces: namespaces(7), lsns(8)
    #[command(subcommand)]
    Ns(Ns),
    /// Processes grouped by the namespace they are in
    Group {
        /// Type of namespace: user, mnt, pid, net, ipc, uts, cgroup, time
        #[arg(long, value_name = "TYPE", default_value = "pid", value_parser = kind)]
        by: Kind,
    },
    /// The pid of a process in every pid namespace it is in: pid_namespaces(7)
    Pidmap {
        /// Process or container
        #[arg(value_name = "PID|ID", allow_negative_numbers = true)]
        target: String,
    },
    /// Mounts with their propagation: proc_pid_mountinfo(5), mount_namespaces(7)
    Mounts {
        /// Process or container whose mounts to show [default: our own]
        #[arg(value_name = "PID|ID", allow_negative_numbers = true, conflicts_with = "pid")]
        target: Option<String>,
        /// The same
        #[arg(long, value_name = "PID|ID", allow_negative_numbers = true)]
        pid: Option<String>,
        /// As a tree
        #[arg(long)]
        tree: bool,
    },
    /// System V IPC objects of a process's ipc namespace: ipc_namespaces(7), ipcs(1)
    Ipc {
        /// Process or container [default: our own namespace]
        #[arg(value_name = "PID|ID", allow_negative_numbers = true, conflicts_with = "pid")]
        target: Option<String>,
        /// The same
        #[arg(long, value_name = "PID|ID", allow_negative_numbers = true)]
        pid: Option<String>,
    },
    /// All about one process or container: namespaces, cgroups, process tree, usage, network name, privileges
    #[command(
        after_help = "What the guides use: ls -la /proc/PID/ns; cat /proc/PID/cgroup; pstree -p PID;\n\
        ps -p PID -o %cpu,%mem; ip netns identify PID. All of it for any runtime's PID:\n  monitor inspect PID"
    )]
    Inspect {
        /// Process or container
        #[arg(value_name = "PID|ID", allow_negative_numbers = true)]
        target: String,
    },
    /// Process tree with the namespaces that begin at each process: pstree(1)
    Tree {
        /// Where it begins [default: the whole machine]
        #[arg(value_name = "PID|ID", allow_negative_numbers = true)]
        target: Option<String>,
    },
    /// Processes with their pids outside and inside: ps(1)
    #[command(after_help = format!("Columns:\n{}\n\nExample:\n  monitor ps web -o pid,inside,user,huser,capeff,seccomp,command",
        crate::view::pscolumns::Column::help()))]
    Ps {
        /// Process or container [default: the whole machine]
        #[arg(value_name = "PID|ID", allow_negative_numbers = true)]
        target: Option<String>,
        /// Columns, separated by commas; +LIST adds to the usual ones
        #[arg(short, long, visible_alias = "columns", value_name = "LIST")]
        output: Option<String>,
    },
    /// Resources that containers use: of one in detail, of several or all as a table
    #[command(
        after_help = "CPU is measured between two looks, so the first figures come after one interval and are right: no averages\n\
        over a lifetime. Again and again on a terminal, or with --interval; once into a pipe or a file, and with --once. A figure that the kernel does not keep for this cgroup is 'not enabled' (null in JSON), never 0.\n\n\
        Examples:\n  monitor stats web\n  monitor stats --once\n  monitor stats web --interval 5s -n 3\n  monitor stats --once --all --format '{{.name}} {{.cpu_percent}}'"
    )]
    Stats(Stats),
    /// All cgroups with processes, the busiest first: systemd-cgtop(1); a full screen on a terminal
    #[command(after_help = TOP_HELP)]
    Top(Top),
    /// Everything as one picture: namespaces, owners, processes, veth pairs and bridges, cgroups, mounts
    #[command(
        after_help = "Examples:\n  monitor graph\n  monitor graph -o machine.svg\n  monitor graph --as dot | dot -Tpng -o machine.png\n  \
        monitor graph --as mermaid web"
    )]
    Graph(GraphOptions),
    /// Write statistics of all containers to a compact file
    #[command(
        after_help = "Examples:\n  monitor record -o night.rec --interval 10s\n  monitor replay night.rec --filter 'cpu > 50'\n  \
        monitor replay night.rec --json | jq ."
    )]
    Record(Record),
    /// Show what `record` has written
    Replay(Replay),
    /// Serve statistics of all containers for Prometheus (OpenMetrics), on this machine alone unless asked
    #[command(
        after_help = "Labels: name, runtime, id. At most 2000 containers are listed, the rest is counted. Loopback only, but for --listen-any.\n\n\
        Example:\n  monitor serve --prometheus 127.0.0.1:9417 & curl -s http://127.0.0.1:9417/metrics"
    )]
    Serve(Serve),
    /// Count cycles, instructions, faults, switches of a process or container for a while: perf-stat(1)
    #[command(
        after_help = "Of a container's cgroup as a whole where the kernel can, else of its threads and their new children.\n\
        What may not or cannot be counted is shown with the reason."
    )]
    Perf(Counting),
    /// Count system calls of a process or container for a while, by name
    #[command(
        after_help = "By ptrace(2), which every kernel has: what is traced is several times slower meanwhile, and goes on as before afterwards."
    )]
    Syscalls(Counting),
    /// Pressure: how much time tasks lost waiting for processor, memory or input and output (PSI)
    Psi {
        /// Process or container whose cgroup to ask [default: the whole machine]
        #[arg(value_name = "PID|ID", allow_negative_numbers = true)]
        target: Option<String>,
    },
}

/// `--format`.
#[derive(Clone, Debug)]
pub enum Format {
    /// As `--json`.
    Json,
    /// A line for each row.
    Template(Template),
}

fn format(text: &str) -> Result<Format> {
    if text.trim() == "json" { Ok(Format::Json) } else { Template::parse(text).map(Format::Template) }
}

fn kind(text: &str) -> Result<Kind> {
    text.parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }
}
