//! `container unshare`: a command in new namespaces. The flags are those of unshare(1); the defaults are what people
//! mean by them: `--pid` forks and, with `--mount`, mounts /proc; the child dies with its parent; signals are forwarded.

mod maps;

use clap::builder::PossibleValuesParser;
use drydock_cli::{Explainer, Outcome};
use drydock_core::exec::Command;
use drydock_core::{Ctx, Error, Result};
use drydock_namespaces::create::{Propagation, Request};
use drydock_namespaces::time::{Offset, Offsets};
use drydock_namespaces::{Kind, Set};
use nix::sys::signal::Signal;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::str::FromStr;

/// Run a command in new namespaces (unshare(1), namespaces(7))
///
/// With --pid the command is forked, so that it is PID 1, and sees a /proc of its own, for which a mount namespace is made
/// too; --no-fork and --no-mount-proc give unshare(1)'s bare behaviour.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    kinds: Kinds,
    /// Run the command in a child process [default with --pid, --user or =FILE]; fork(2)
    #[arg(short, long, overrides_with = "no_fork")]
    fork: bool,
    /// Become the command without forking: a new pid namespace then starts with the command's first child
    #[arg(long, overrides_with = "fork")]
    no_fork: bool,
    /// Mount a new procfs on DIR, in a new mount namespace [default with --pid: /proc]; proc(5)
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true, default_missing_value = "/proc")]
    mount_proc: Option<PathBuf>,
    /// Leave /proc as it is, and make no mount namespace for it
    #[arg(long, conflicts_with = "mount_proc")]
    no_mount_proc: bool,
    /// Signal for the child when this process dies, or 'none' [default: KILL]; PR_SET_PDEATHSIG(2const)
    #[arg(long, value_name = "SIGNAL", num_args = 0..=1, require_equals = true, default_missing_value = "KILL")]
    kill_child: Option<String>,
    /// Run the command in a child process and forward signals to it; whoever forks forwards them anyway
    #[arg(long)]
    forward_signals: bool,
    /// What mounts propagate into and out of a new mount namespace [default: private]; mount_namespaces(7)
    #[arg(long, value_name = "TYPE", value_parser = PossibleValuesParser::new(["private", "slave", "shared", "unchanged"]))]
    propagation: Option<String>,
    #[command(flatten)]
    maps: maps::MapArgs,
    /// Root directory for the command; chroot(2)
    #[arg(short = 'R', long, value_name = "DIR")]
    chroot: Option<PathBuf>,
    /// The same, by unshare(1)'s name; before the verb it says where state is kept
    #[arg(long, value_name = "DIR", conflicts_with = "chroot")]
    root: Option<PathBuf>,
    /// Working directory for the command
    #[arg(short = 'w', long, value_name = "DIR")]
    wd: Option<PathBuf>,
    /// User id for the command, inside; setuid(2)
    #[arg(short = 'S', long, value_name = "UID", value_parser = maps::parse_id)]
    setuid: Option<u32>,
    /// Group id for the command, inside; setgid(2)
    #[arg(short = 'G', long, value_name = "GID", value_parser = maps::parse_id)]
    setgid: Option<u32>,
    /// Pass the capabilities of a new user namespace on to a command that is not root; capabilities(7)
    #[arg(long)]
    keep_caps: bool,
    /// Seconds to add to the monotonic clock of a new time namespace; time_namespaces(7)
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    monotonic: Option<i64>,
    /// Seconds to add to the boot clock of a new time namespace, which uptime shows; time_namespaces(7)
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    boottime: Option<i64>,
    /// Host name; makes a uts namespace; sethostname(2)
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// Print each step before it is done; with =pid (implies --pid), show by a double fork who gets into a pid namespace
    #[arg(long, value_name = "TOPIC", num_args = 0..=1, require_equals = true, default_missing_value = "steps",
          value_parser = PossibleValuesParser::new(["steps", "pid"]))]
    explain: Option<String>,
    /// When the command has ended, print on stderr, as a line of JSON, its PID, the new namespaces and how it ended
    #[arg(long, conflicts_with = "no_fork")]
    json: bool,
    /// Print version
    #[arg(short = 'V', long, action = clap::ArgAction::Version)]
    version: Option<bool>,
    /// The command and its arguments [default: $SHELL or /bin/sh]
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[derive(clap::Args, Debug)]
struct Kinds {
    /// New mount namespace; with =FILE it is kept there (FILE is made for you); mount_namespaces(7)
    #[arg(short, long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    mount: Option<OsString>,
    /// New uts namespace: host name; uts_namespaces(7)
    #[arg(short, long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    uts: Option<OsString>,
    /// New ipc namespace; ipc_namespaces(7)
    #[arg(short, long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    ipc: Option<OsString>,
    /// New network namespace; network_namespaces(7)
    #[arg(short, long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    net: Option<OsString>,
    /// New pid namespace; pid_namespaces(7)
    #[arg(short, long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pid: Option<OsString>,
    /// New user namespace; user_namespaces(7)
    #[arg(short = 'U', long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    user: Option<OsString>,
    /// New cgroup namespace; cgroup_namespaces(7)
    #[arg(short = 'C', long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    cgroup: Option<OsString>,
    /// New time namespace; time_namespaces(7)
    #[arg(short = 'T', long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    time: Option<OsString>,
}

impl Kinds {
    fn all(&self) -> [(Kind, Option<&OsStr>); 8] {
        [
            (Kind::User, self.user.as_deref()),
            (Kind::Mount, self.mount.as_deref()),
            (Kind::Pid, self.pid.as_deref()),
            (Kind::Network, self.net.as_deref()),
            (Kind::Ipc, self.ipc.as_deref()),
            (Kind::Uts, self.uts.as_deref()),
            (Kind::Cgroup, self.cgroup.as_deref()),
            (Kind::Time, self.time.as_deref()),
        ]
    }
}

/// Runs `container unshare`.
///
/// # Errors
/// Bad options; what the kernel refuses; a command that cannot be executed.
pub fn run(args: Args) -> Outcome {
    let request = args.request()?;
    let plan = request.plan()?;
    let explainer = Explainer { on: args.explain.is_some() };
    let ctx = Ctx::new(&explainer, None);
    let place = match &request.root {
        Some(root) => format!("the new root {}", root.display()),
        None => "this file system".to_string(),
    };
    let command = Command::of_caller(&args.command())?.within(place);
    if !request.fork {
        // Returns only if it could not become the command.
        return Ok(plan.start(&command, &ctx).map(|_| drydock_core::exit::FAILED)?);
    }
    let signals = drydock_supervise::Blocked::all()?;
    let running = plan.start(&command, &ctx)?;
    let code = drydock_supervise::wait_in_foreground(&running.child, running.is_pid_1, &signals)?.code();
    if args.json {
        let new: Vec<&str> = request.new.iter().map(Kind::proc_name).collect();
        let report = serde_json::json!({ "pid": running.child.pid, "namespaces": new, "exit_code": code });
        drydock_cli::output::print_error_line(&report.to_string());
    }
    Ok(code)
}

impl Args {
    fn command(&self) -> Vec<OsString> {
        if !self.command.is_empty() {
            return self.command.clone();
        }
        vec![std::env::var_os("SHELL").filter(|s| !s.is_empty()).unwrap_or_else(|| "/bin/sh".into())]
    }

    fn request(&self) -> Result<Request> {
        let mut new: Set =
            self.kinds.all().iter().filter(|(_, file)| file.is_some()).map(|(kind, _)| *kind).collect();
        let given = |file: &OsStr| (!file.is_empty()).then(|| PathBuf::from(file));
        let persist: Vec<(Kind, PathBuf)> =
            self.kinds.all().into_iter().filter_map(|(kind, file)| Some((kind, given(file?)?))).collect();
        let lesson = self.explain.as_deref() == Some("pid");
        for (implied, kind) in [
            (lesson, Kind::Pid),
            (self.maps.any(), Kind::User),
            (self.mount_proc.is_some(), Kind::Mount),
            (self.hostname.is_some(), Kind::Uts),
        ] {
            if implied {
                new.insert(kind);
            }
        }
        let fork = self.forks(new, !persist.is_empty());
        // Whoever wants processes of their own wants to see them.
        let proc_meant = fork && new.contains(Kind::Pid) && !self.no_mount_proc && !lesson;
        if proc_meant {
            new.insert(Kind::Mount);
        }
        let (uid_maps, gid_maps) = self.maps.build()?;
        Ok(Request {
            new,
            persist,
            uid_maps,
            gid_maps,
            setgroups: self.maps.setgroups(),
            propagation: self.propagation(),
            mount_proc: self.mount_proc.clone().or(proc_meant.then(|| PathBuf::from("/proc"))),
            proc_if_possible: self.mount_proc.is_none(),
            owner: self.maps.owner(),
            hostname: self.hostname.clone(),
            time: Offsets { monotonic: seconds(self.monotonic), boottime: seconds(self.boottime) },
            root: self.chroot.clone().or_else(|| self.root.clone().filter(|_| root_is_meant())),
            working_directory: self.wd.clone(),
            uid: self.setuid,
            gid: self.setgid,
            keep_capabilities: self.keep_caps,
            fork,
            kill_child: self.kill_signal(fork)?,
            pid_lesson: lesson,
        })
    }

    fn forks(&self, new: Set, persistent: bool) -> bool {
        // Before Linux 6.1 a time namespace is entered by a fork only.
        let late_time = new.contains(Kind::Time) && !drydock_namespaces::time::exec_enters();
        let wanted = new.contains(Kind::Pid) || new.contains(Kind::User) || persistent || late_time;
        // Somebody must stay to report.
        !self.no_fork
            && (self.fork || self.json || self.forward_signals || wanted || self.kill_child.is_some())
    }

    fn propagation(&self) -> Propagation {
        match self.propagation.as_deref() {
            Some("slave") => Propagation::Slave,
            Some("shared") => Propagation::Shared,
            Some("unchanged") => Propagation::Unchanged,
            _ => Propagation::Private,
        }
    }

    fn kill_signal(&self, fork: bool) -> Result<Option<i32>> {
        let Some(text) = &self.kill_child else { return Ok(fork.then_some(Signal::SIGKILL as i32)) };
        if text == "none" {
            return Ok(None);
        }
        if !fork {
            return Err(Error::bad_input("--kill-child", "needs a child (allowed: without --no-fork)"));
        }
        let name = text.to_ascii_uppercase();
        let by_number = || Signal::try_from(text.parse::<i32>().ok()?).ok();
        let by_name = Signal::from_str(&name).or_else(|_| Signal::from_str(&format!("SIG{name}"))).ok();
        let bad = || {
            let shown = drydock_core::text::shorten(&drydock_core::text::escape(text), 40);
            Error::bad_input(
                "--kill-child",
                format!("'{shown}' is not a signal (allowed: KILL, TERM, 15, none, …)"),
            )
        };
        by_name.or_else(by_number).map(|s| Some(s as i32)).ok_or_else(bad)
    }
}

/// Whether `--root` stands behind the verb. clap also hands down the global option of that name, with which nobody asks
/// for another root directory.
fn root_is_meant() -> bool {
    let behind = std::env::args_os().skip_while(|word| word != "unshare");
    behind.take_while(|word| word != "--").any(|word| word.as_encoded_bytes().starts_with(b"--root"))
}

fn seconds(secs: Option<i64>) -> Option<Offset> {
    secs.map(|secs| Offset { secs, nanosecs: 0 })
}
