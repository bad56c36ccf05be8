//! The command line.

use clap::{Args as ClapArgs, Parser, Subcommand};
use drydock_core::{Error, Result};
use drydock_namespaces::Kind;
use std::path::PathBuf;
use std::time::Duration;

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
    #[arg(long, global = true)]
    pub json: bool,
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
        #[arg(long, value_name = "PID|ID", allow_negative_numbers = true)]
        pid: Option<String>,
        /// As a tree
        #[arg(long)]
        tree: bool,
    },
    /// System V IPC objects of a process's ipc namespace: ipc_namespaces(7), ipcs(1)
    Ipc {
        /// Process or container [default: our own namespace]
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
    Ps {
        /// Process or container [default: the whole machine]
        #[arg(value_name = "PID|ID", allow_negative_numbers = true)]
        target: Option<String>,
    },
    /// Resources that the cgroup of a process or container uses: cgroups(7)
    #[command(
        after_help = "CPU is measured between two looks, so the first figures come after one interval.\n\
        A figure that the kernel does not keep for this cgroup is 'not enabled' (null in JSON), never 0."
    )]
    Stats {
        /// Process or container
        #[arg(value_name = "PID|ID", allow_negative_numbers = true)]
        target: String,
        /// How to sample
        #[command(flatten)]
        sampling: Sampling,
    },
    /// All cgroups with processes, the busiest first: systemd-cgtop(1)
    Top {
        /// How to sample
        #[command(flatten)]
        sampling: Sampling,
    },
    /// Pressure: how much time tasks lost waiting for processor, memory or input and output (PSI)
    Psi {
        /// Process or container whose cgroup to ask [default: the whole machine]
        #[arg(value_name = "PID|ID", allow_negative_numbers = true)]
        target: Option<String>,
    },
}

/// The verbs about namespaces.
#[derive(Subcommand, Debug)]
pub enum Ns {
    /// The eight types: flag, man page, first kernel, whether this kernel has it
    Types,
    /// The namespaces of one process: ls -l /proc/PID/ns
    Show {
        /// Process or container [default: this process]
        #[arg(long, value_name = "PID|ID", allow_negative_numbers = true)]
        pid: Option<String>,
    },
    /// Compare the namespaces of two processes, by device and inode number
    Diff {
        /// One process or container
        #[arg(value_name = "PID|ID", allow_negative_numbers = true)]
        a: String,
        /// Another
        #[arg(value_name = "PID|ID", allow_negative_numbers = true)]
        b: String,
    },
    /// All namespaces, also those held only by a bind mount, a descriptor or a thread: lsns(8)
    Ls {
        /// Only those of this process or container
        #[arg(long, value_name = "PID|ID", allow_negative_numbers = true)]
        pid: Option<String>,
        /// Only this type (may be repeated): user, mnt, pid, net, ipc, uts, cgroup, time
        #[arg(long = "type", value_name = "TYPE", value_parser = kind)]
        types: Vec<Kind>,
        /// Only those without a process: they stay as long as a bind mount or descriptor holds them
        #[arg(long)]
        persistent: bool,
    },
    /// The user namespace that owns a namespace: ioctl_ns(2), NS_GET_USERNS
    Owner {
        /// Namespace file (/run/netns/x, /proc/PID/ns/net), or PID:type, or ID:type
        #[arg(value_name = "PATH|PID:TYPE")]
        namespace: String,
    },
    /// The parent of a pid or user namespace: ioctl_ns(2), NS_GET_PARENT
    Parent {
        /// Namespace file, or PID:type, or ID:type
        #[arg(value_name = "PATH|PID:TYPE")]
        namespace: String,
    },
    /// Namespaces as a tree
    Tree {
        /// What stands above what: the owning user namespace, the parent pid or user namespace, or the parent process
        #[arg(long, value_name = "RELATION", default_value = "parent", value_parser = ["owner", "parent", "process"])]
        by: String,
    },
    /// The id maps of a process's user namespace, in words: user_namespaces(7)
    Map {
        /// Process or container
        #[arg(value_name = "PID|ID", allow_negative_numbers = true)]
        target: String,
    },
}

/// How often to look.
#[derive(ClapArgs, Debug, Clone)]
pub struct Sampling {
    /// Print once and end
    #[arg(long, visible_alias = "no-stream")]
    pub once: bool,
    /// Time between two looks: seconds, or with a unit (500ms, 2s, 1m); 100ms to 1h
    #[arg(long, value_name = "TIME", default_value = "1s", allow_negative_numbers = true, value_parser = interval)]
    pub interval: Duration,
}

fn kind(text: &str) -> Result<Kind> {
    text.parse()
}

/// Parses an interval.
///
/// # Errors
/// Bad input with what is allowed.
pub fn interval(text: &str) -> Result<Duration> {
    let wrong = || {
        let shown = drydock_core::text::shorten(&drydock_core::text::escape(text), 40);
        Error::bad_input(
            "--interval",
            format!("'{shown}' is not a time (allowed: 100ms to 1h, as 2, 0.5, 500ms, 2s, 1m)"),
        )
    };
    let units = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let with_unit = units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
    let (number, factor) = with_unit.unwrap_or((text, 1.0));
    let plain =
        !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.') && number.len() < 20;
    let seconds = plain.then(|| number.parse::<f64>().ok()).flatten().map(|n| n * factor);
    let fits = seconds.filter(|s| (0.099_999..=3600.0).contains(s));
    fits.map(Duration::from_secs_f64).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals() {
        for (text, ms) in
            [("1", 1000), ("0.5", 500), ("500ms", 500), ("2s", 2000), ("1m", 60_000), ("100ms", 100)]
        {
            assert_eq!(interval(text).unwrap().as_millis(), ms, "{text}");
        }
        for bad in
            ["", "0", "-1", "abc", "1ns", "1e12", "99ms", "61m", "inf", "NaN", ".", "s", "1.2.3", "1 s", "١"]
        {
            assert_eq!(interval(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }
}
