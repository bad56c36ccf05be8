//! The command line of `container exec`.

use drydock_core::{Error, Result};
use std::ffi::OsString;
use std::path::PathBuf;

/// Arguments of `container exec`.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Args {
    /// Run in the background: exec returns as soon as the command runs; the command keeps the caller's streams
    #[arg(short = 'd', long)]
    pub detach: bool,
    /// Keep standard input open
    #[arg(short = 'i', long)]
    pub interactive: bool,
    /// Give the command a terminal of its own
    #[arg(short = 't', long)]
    pub tty: bool,
    /// Environment: KEY=VALUE, or KEY to pass on the caller's
    #[arg(short = 'e', long, value_name = "KEY=VALUE")]
    pub env: Vec<String>,
    /// Working directory inside
    #[arg(short = 'w', long, visible_alias = "cwd", value_name = "DIR")]
    pub workdir: Option<String>,
    /// User inside: `UID[:GID]`, or names that the container knows [default: the container's]
    #[arg(short = 'u', long, value_name = "USER")]
    pub user: Option<String>,
    /// One more supplementary group (repeatable)
    #[arg(short = 'g', long, value_name = "GID", value_parser = clap::value_parser!(u32).range(0..=4_294_967_294))]
    pub additional_gids: Vec<u32>,
    /// One more capability than the container has, such as CAP_NET_RAW (repeatable)
    #[arg(short = 'c', long, value_name = "CAP")]
    pub cap: Vec<String>,
    /// Take the whole process from this file instead: the `process` object of the OCI runtime specification, as JSON
    #[arg(short = 'p', long, value_name = "FILE", conflicts_with = "command")]
    pub process: Option<PathBuf>,
    /// Run in this existing cgroup below the container's; on v1 `[CONTROLLER[,CONTROLLER]:]PATH` (repeatable)
    #[arg(long, value_name = "PATH")]
    pub cgroup: Vec<String>,
    /// Write the command's pid here once it runs
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// With -d: send the terminal's master to the AF_UNIX stream socket that listens here
    #[arg(long, value_name = "PATH")]
    pub console_socket: Option<PathBuf>,
    /// Send a pidfd of the command to the AF_UNIX stream socket that listens here
    #[arg(long, value_name = "PATH")]
    pub pidfd_socket: Option<PathBuf>,
    /// Pass on N more of the caller's descriptors: 3 and up, after those of $LISTEN_FDS
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
    /// Go on although the container is paused; the command runs once it is resumed
    #[arg(long)]
    pub ignore_paused: bool,
    /// No program of the command's can gain privileges (prctl(2) PR_SET_NO_NEW_PRIVS)
    #[arg(long)]
    pub no_new_privs: bool,
    /// AppArmor profile of the command
    #[arg(long, value_name = "PROFILE")]
    pub apparmor: Option<String>,
    /// SELinux label of the command
    #[arg(long, value_name = "LABEL")]
    pub process_label: Option<String>,
    /// Accepted for runc's sake: exec never becomes a subreaper
    #[arg(long)]
    pub no_subreaper: bool,
    /// Print each step before it is done
    #[arg(long)]
    pub explain: bool,
    /// The container
    pub name: String,
    /// The command and its arguments
    #[arg(required_unless_present = "process", trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Who gets the command's terminal.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] for options that leave it to nobody.
pub fn check_terminal(args: &Args, terminal: bool) -> Result<()> {
    match (&args.console_socket, terminal, args.detach) {
        (None, true, true) => Err(Error::bad_input(
            "--tty",
            "with --detach nobody would show the terminal (allowed: with --console-socket)",
        )),
        (Some(_), false, _) | (Some(_), _, false) => Err(Error::bad_input(
            "--console-socket",
            "is for a command with a terminal in the background (allowed: with --detach and --tty)",
        )),
        _ => Ok(()),
    }
}
