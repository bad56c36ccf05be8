//! The command line of `init`.

use crate::options::Options;
use crate::reaping::Reaping;
use drydock_cli::Outcome;
use drydock_cli::args::Parsed;
use drydock_core::Error;
use drydock_namespaces::IdMap;
use std::ffi::OsString;
use std::path::PathBuf;

const AFTER_HELP: &str = "\
The guide's init.sh, line by line:
  mount -t proc, sysfs, tmpfs, devtmpfs   init --unshare mount,pid --root DIR -- sh   (all of them, and safer ones)
  hostname $(cat /etc/hostname)           init --unshare uts --hostname NAME -- …
  exec /bin/sh                            init --exec … -- /bin/sh     (without --exec init stays as PID 1 and reaps)

As a plain init for a container image (like tini): init -- COMMAND. It forwards every signal to the command, reaps every
orphan, and exits with the command's code, or 128+n if signal n ended it; 126 not executable, 127 not found, 125 its own
failure, 2 bad usage. See pid_namespaces(7), pivot_root(2), capabilities(7), seccomp(2).";

/// PID 1 of a container: sets up the inside, runs COMMAND, reaps zombies, forwards signals
#[derive(clap::Parser, Debug)]
#[command(name = "init", version, after_help = AFTER_HELP, arg_required_else_help = true)]
pub struct Args {
    /// Make these namespaces first and run as PID 1 in them: mount,pid,uts,ipc,net,cgroup,user,time (unshare(2))
    #[arg(long, value_name = "TYPES", value_delimiter = ',')]
    pub unshare: Vec<String>,
    /// Make DIR the root file system, with proc, sys, dev, tmp and the like in it (pivot_root(2); needs --unshare mount)
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// First mount an overlay on --root's DIR: this directory below, and above it, in the new mount namespace, a tmpfs that
    /// is mounted on the directory DIR lies in
    #[arg(long, value_name = "DIR", requires = "root")]
    pub lower: Option<PathBuf>,
    /// Size of that tmpfs [default: 1g]
    #[arg(long, value_name = "SIZE", requires = "lower")]
    pub scratch: Option<String>,
    /// Users of a new user namespace [default: the caller is 0] (user_namespaces(7))
    #[arg(long, value_name = "INSIDE:OUTSIDE:COUNT", requires = "map_groups")]
    pub map_users: Vec<IdMap>,
    /// Its groups
    #[arg(long, value_name = "INSIDE:OUTSIDE:COUNT", requires = "map_users")]
    pub map_groups: Vec<IdMap>,
    /// The whole inside as JSON instead of options, as `container plan --format commands` prints it for a bundle
    #[arg(long, value_name = "JSON", conflicts_with_all = ["root", "lower", "id", "confine"])]
    pub request: Option<String>,
    /// Become the command instead of staying as PID 1
    #[arg(long, conflicts_with_all = ["reaper", "group", "session", "subreaper", "grace", "wait_all",
        "signal_map", "exit_map", "parent_death", "pre", "post", "pause", "ready_fd", "sd_notify", "notify_fd", "warn_reaped", "pid_file"])]
    pub exec: bool,
    /// Apply the container's default capabilities, seccomp profile and no_new_privs even without --root
    #[arg(long)]
    pub confine: bool,
    /// Be born in this cgroup, which must exist (cgroupctl create; cgroups(7))
    #[arg(long, value_name = "NAME")]
    pub cgroup: Option<String>,
    /// Give the command /dev/null as standard input
    #[arg(long)]
    pub no_stdin: bool,
    /// The container's name, for its session keyring
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Print each step before it is done
    #[arg(long)]
    pub explain: bool,
    /// When the command has ended, print on stderr, as a line of JSON, how, and what else was reaped
    #[arg(long, conflicts_with = "exec")]
    pub json: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub reaping: Reaping,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub inside: Options,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Runs `init`.
///
/// # Errors
/// See [`crate::spawn::run`].
pub fn run() -> Outcome {
    if std::env::args_os().skip(1).eq(["--"]) {
        return Err(Error::bad_input("command", "missing (allowed: init [OPTIONS] -- COMMAND…)").into());
    }
    match drydock_cli::parse::<Args>()? {
        Parsed::Done(code) => Ok(code),
        Parsed::Args(args) => Ok(crate::spawn::run(&args)?),
    }
}
