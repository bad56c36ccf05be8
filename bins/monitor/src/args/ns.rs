//! The command line of `monitor ns`.

use super::kind;
use crate::view::table::Look;
use clap::{Args as ClapArgs, Subcommand};
use drydock_namespaces::Kind;

/// The verbs about namespaces.
#[derive(Subcommand, Debug)]
pub enum Ns {
    /// The eight types: flag, man page, first kernel, whether this kernel has it
    Types,
    /// The namespaces of one process: ls -l /proc/PID/ns
    Show {
        /// Process or container [default: this process]
        #[arg(value_name = "PID|ID", allow_negative_numbers = true, conflicts_with = "pid")]
        target: Option<String>,
        /// The same
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
    /// All namespaces, also those held only by a bind mount, a descriptor, a socket or a thread: lsns(8)
    #[command(visible_alias = "list")]
    Ls(List),
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

/// Which namespaces to list, and how.
#[derive(ClapArgs, Clone, Debug)]
#[command(
    after_help = "Columns, as lsns(8) has them: NS TYPE PATH NPROCS PID PPID COMMAND UID USER NETNSID NSFS PNS ONS, and HELD-BY.\n\
    What keeps a namespace: process, thread, fd, socket, children (the next children of a process will be in it), mount, or\n\
    descendant (nothing but a namespace below it).\n\n\
    Examples:\n  monitor ns ls --type net -o +PATH,NETNSID\n  monitor ns ls --filter 'nprocs == 0 || held-by =~ mount'\n  \
    monitor ns ls --format '{{.ns}} {{.type}} {{.ons}}'"
)]
pub struct List {
    /// List the processes of the namespace with this inode number
    #[arg(value_name = "NS")]
    pub namespace: Option<u64>,
    /// Only those of this process or container
    #[arg(short, long, visible_alias = "task", value_name = "PID|ID", allow_negative_numbers = true)]
    pub pid: Option<String>,
    /// Only this type (may be repeated): user, mnt, pid, net, ipc, uts, cgroup, time
    #[arg(short, long = "type", value_name = "TYPE", value_parser = kind)]
    pub types: Vec<Kind>,
    /// Only those without a process: they stay as long as a bind mount, descriptor or socket holds them
    #[arg(short = 'P', long)]
    pub persistent: bool,
    /// Only those for which a condition on columns holds: type == net && nprocs > 2
    #[arg(short = 'Q', long, value_name = "CONDITION")]
    pub filter: Option<String>,
    /// Columns, separated by commas; +LIST adds to the usual ones
    #[arg(short, long, value_name = "LIST")]
    pub output: Option<String>,
    /// All columns
    #[arg(long, conflicts_with = "output")]
    pub output_all: bool,
    /// As a tree: by owner, parent or process
    #[arg(short = 'T', long, value_name = "RELATION", num_args = 0..=1, require_equals = true,
          default_missing_value = "parent", value_parser = ["owner", "parent", "process"])]
    pub tree: Option<String>,
    /// One space between columns, spaces in them as \\x20
    #[arg(short, long)]
    pub raw: bool,
    /// Without the heading
    #[arg(short, long)]
    pub noheadings: bool,
    /// Do not cut lines at the width of the terminal
    #[arg(short = 'u', long)]
    pub notruncate: bool,
    /// As a list (as it is anyway)
    #[arg(short, long, hide = true)]
    pub list: bool,
    /// Each namespace on one line (as it is anyway)
    #[arg(short = 'W', long, hide = true)]
    pub nowrap: bool,
}

impl List {
    /// How the table looks.
    pub fn look(&self) -> Look {
        Look { no_headings: self.noheadings, raw: self.raw, whole: self.notruncate }
    }
}
