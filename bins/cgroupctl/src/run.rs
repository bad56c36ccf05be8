//! run: a command that is born inside a cgroup.

use crate::TOOL;
use crate::args::Run;
use crate::make::{apply, request, warn_lacking};
use drydock_cgroups::{Cgroup, IfExists, Layout, join};
use drydock_cli::Outcome;
use drydock_cli::output::print_error_line;
use drydock_core::sys::process::{Child, clone_child};
use drydock_core::sys::signal::{reset_dispositions, unblock_all};
use drydock_core::{Error, Result};
use drydock_supervise::exec::{Command, utf8_words};
use drydock_supervise::{Blocked, Supervised};
use nix::errno::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// `cgroupctl run`.
pub fn run(args: Run) -> Outcome {
    let command = command(&args)?;
    let layout = Layout::detect()?;
    let making = request(&args.name, &args.making, IfExists::Reuse)?;
    if args.rm {
        crate::names::guard_name(&args.name, "remove")?;
    }
    let cgroup = if args.create || !making.limits.is_empty() {
        let plan = making.validate(&layout)?;
        let report = apply(&plan, &args.making)?;
        warn_lacking(&report);
        Cgroup::at(report.dirs)?
    } else {
        Cgroup::open(&args.name, &layout)?
    };
    let outcome = run_in(&cgroup, &command, &args);
    if args.rm {
        let removed = cgroup.remove(Duration::from_secs(10));
        let code = outcome?;
        removed?;
        return Ok(code);
    }
    Ok(outcome?)
}

fn command(args: &Run) -> Result<Command> {
    let words = utf8_words("command", args.command.iter().map(|w| w.as_os_str()))?;
    // Variables that are not UTF-8 cannot be passed on by text; no tool that people use sets such.
    let env = std::env::vars_os().filter_map(|(k, v)| Some(format!("{}={}", k.to_str()?, v.to_str()?)));
    Command::new(&words, &env.collect::<Vec<_>>())
}

fn run_in(cgroup: &Cgroup, command: &Command, args: &Run) -> Result<u8> {
    let signals = Blocked::all()?;
    let child = born_inside(cgroup, command)?;
    if !args.quiet && !args.json {
        print_error_line(&format!("{TOOL}: PID {}", child.pid));
    }
    let code = Supervised::new(&child, false).wait(&signals)?.code();
    if args.json {
        let report = serde_json::json!({ "cgroup": args.name, "pid": child.pid, "exit_code": code });
        print_error_line(&report.to_string());
    }
    Ok(code)
}

/// CLONE_INTO_CGROUP where v2 is mounted; v1's hierarchies are joined by the child itself before its exec.
fn born_inside(cgroup: &Cgroup, command: &Command) -> Result<Child> {
    let target = cgroup.clone_target()?;
    let files = cgroup.join_files()?;
    match clone_child(0, target.as_ref().map(AsFd::as_fd), || become_command(&files, command)) {
        Err(e) if target.is_some() && is_unknown(&e) => {
            let files = cgroup.all_join_files()?;
            clone_child(0, None, || become_command(&files, command)).map_err(explain)
        }
        other => other.map_err(explain),
    }
}

/// Before Linux 5.7, and under filters that refuse clone3, the child moves itself.
fn is_unknown(error: &std::io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(Errno::ENOSYS | Errno::EINVAL | Errno::E2BIG | Errno::EPERM)
    )
}

/// The child: joins, forgets our signal handling, executes. Returns only on failure, which it prints itself: the
/// parent sees no more than the exit code.
fn become_command(files: &[OwnedFd], command: &Command) -> u8 {
    let failed = match join(files) {
        Err(error) => error,
        Ok(()) => {
            reset_dispositions();
            match unblock_all() {
                Err(e) => Error::call("sigprocmask(SIG_SETMASK, [])", e),
                Ok(()) => command.exec(),
            }
        }
    };
    drydock_cli::report(TOOL, &failed.into())
}

fn explain(error: std::io::Error) -> Error {
    let errno = error.raw_os_error().map(Errno::from_raw);
    let error = Error::call("clone3({flags=CLONE_PIDFD|CLONE_INTO_CGROUP})", error).in_stage("cgroup");
    match errno {
        Some(Errno::EAGAIN) => {
            error.because("no process more may start here").hint("pids.max of the cgroup is reached")
        }
        Some(Errno::EBUSY) => error
            .because("the cgroup enables controllers for its children: no-internal-process rule")
            .hint("run in a child of this cgroup"),
        Some(Errno::EOPNOTSUPP) => {
            error.because("the cgroup is threaded or an invalid domain (see its cgroup.type)")
        }
        Some(Errno::ENODEV) => error.because("the cgroup has been removed"),
        Some(Errno::EACCES) => error
            .because("delegation: the common ancestor of our cgroup and this one must be writable to us")
            .hint("run as root"),
        _ => error,
    }
}
