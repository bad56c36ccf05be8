//! run: a command that is born inside a cgroup.

use crate::TOOL;
use crate::args::Run;
use crate::make::{apply, check_disks, request, warn_lacking};
use crate::names::layout_for;
use drydock_cgroups::{Cgroup, IfExists, Layout, Victim, Victims, join};
use drydock_cli::Outcome;
use drydock_cli::output::print_error_line;
use drydock_core::error::CallExt;
use drydock_core::exit::Ended;
use drydock_core::sys::process::{Child, clone_child};
use drydock_core::sys::signal::{reset_dispositions, unblock_all};
use drydock_core::text::escape;
use drydock_core::{Error, Result};
use drydock_supervise::exec::{Command, utf8_words};
use drydock_supervise::{Blocked, Supervised};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// `cgroupctl run`.
pub fn run(args: Run) -> Outcome {
    let command = command(&args)?;
    if args.scope {
        return in_scope(&args, &command);
    }
    let making = request(&args.name, &args.making, IfExists::Reuse)?;
    let layout = layout_for(&args.name)?;
    check_disks(&making.limits)?;
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
    refuse_frozen(&cgroup, &args.name)?;
    let outcome = watched(&cgroup, &args, || born_inside(&cgroup, &command));
    if args.rm {
        let removed = cgroup.remove(Duration::from_secs(10));
        let code = outcome?;
        removed?;
        return Ok(code);
    }
    Ok(outcome?)
}

/// What is born in a frozen cgroup does not begin, and takes no signal either.
fn refuse_frozen(cgroup: &Cgroup, name: &str) -> Result<()> {
    if cgroup.is_frozen() == Some(true) {
        let name = escape(name);
        return Err(Error::failed(format!("'{name}'"), "is frozen: no command would begin in it")
            .hint(format!("cgroupctl thaw {name}")));
    }
    Ok(())
}

/// `cgroupctl run --scope`.
fn in_scope(args: &Run, command: &Command) -> Outcome {
    let layout = Layout::detect()?;
    check_disks(&args.making.limits.limits()?)?;
    let scope = crate::scope::plan(args, &layout)?;
    let signals = Blocked::all()?;
    let mut seen = Oom::begin();
    let (cgroup, child) = crate::scope::start(&scope, args, &layout, command)?;
    let ended = wait(&child, &signals, args)?;
    // systemd removes the scope with its last process; what the command has left keeps it.
    seen.end(&cgroup, &scope.cgroup(), &child, ended);
    if args.rm {
        drydock_cgroups::systemd::stop(scope.unit(), args.user)?;
    }
    finish(args, &child, ended, seen)
}

fn command(args: &Run) -> Result<Command> {
    let words = utf8_words("command", args.command.iter().map(|w| w.as_os_str()))?;
    // Variables that are not UTF-8 cannot be passed on by text; no tool that people use sets such.
    let env = std::env::vars_os().filter_map(|(k, v)| Some(format!("{}={}", k.to_str()?, v.to_str()?)));
    Command::new(&words, &env.collect::<Vec<_>>())
}

fn watched(cgroup: &Cgroup, args: &Run, start: impl FnOnce() -> Result<Child>) -> Result<u8> {
    let signals = Blocked::all()?;
    let mut seen = Oom::begin();
    seen.before = cgroup.oom_kills().unwrap_or(0);
    let child = start()?;
    let ended = wait(&child, &signals, args)?;
    seen.end(cgroup, &args.name, &child, ended);
    finish(args, &child, ended, seen)
}

fn wait(child: &Child, signals: &Blocked, args: &Run) -> Result<Ended> {
    if !args.quiet && !args.json {
        print_error_line(&format!("{TOOL}: PID {}", child.pid));
    }
    Supervised::new(child, false).wait(signals)
}

/// What is said at the end.
fn finish<E>(args: &Run, child: &Child, ended: Ended, seen: Oom) -> std::result::Result<u8, E> {
    let code = ended.code();
    if args.json {
        let mut report = serde_json::json!({
            "cgroup": args.name, "pid": child.pid, "exit_code": code, "oom_kills": seen.kills,
        });
        if let (Some(map), false) = (report.as_object_mut(), seen.victims.is_empty()) {
            map.insert("victims".into(), serde_json::json!(seen.victims));
        }
        print_error_line(&report.to_string());
    } else if seen.kills > 0 {
        let who: Vec<String> =
            seen.victims.iter().map(|v| format!("process {} ({})", v.pid, escape(&v.name))).collect();
        let who = match (who.is_empty(), seen.kills) {
            (false, _) => who.join(", "),
            (true, 1) => "1 process".to_string(),
            (true, many) => format!("{many} processes"),
        };
        print_error_line(&format!(
            "{TOOL}: out of memory: the kernel killed {who} (memory.max of {})",
            args.name
        ));
    }
    Ok(code)
}

/// The OOM killer's work while a command ran.
struct Oom {
    log: Victims,
    before: u64,
    kills: u64,
    victims: Vec<Victim>,
}

impl Oom {
    fn begin() -> Self {
        Self { log: Victims::from_now(), before: 0, kills: 0, victims: Vec::new() }
    }

    fn end(&mut self, cgroup: &Cgroup, name: &str, child: &Child, ended: Ended) {
        self.kills = cgroup.oom_kills().unwrap_or(0).saturating_sub(self.before);
        if self.kills == 0 {
            return;
        }
        self.victims = self.log.take(name);
        if self.victims.is_empty() && ended == Ended::Signaled(9) {
            let name = "the command".to_string();
            self.victims.push(Victim { pid: child.pid, name, cgroup: String::new() });
        }
    }
}

/// CLONE_INTO_CGROUP where v2 is mounted; v1's hierarchies are joined by the child itself before its exec.
fn born_inside(cgroup: &Cgroup, command: &Command) -> Result<Child> {
    let files = cgroup.join_files()?;
    let Some(target) = cgroup.clone_target()? else {
        return clone_child(0, None, || become_command(&files, command)).map_err(explain);
    };
    let (alive, tell) = pipe2(OFlag::O_CLOEXEC).call(|| "pipe2(O_CLOEXEC)")?;
    let born = clone_child(0, Some(target.as_fd()), || {
        // Nobody listens if that fails: then the command runs all the same.
        let _ = nix::unistd::write(&tell, b"1");
        become_command(&files, command)
    });
    drop(tell);
    let child = match born {
        Err(e) if is_unknown(&e) => return self_moved(cgroup, command),
        other => other.map_err(explain)?,
    };
    // From Linux 6.14 on whoever is born into a cgroup that was killed once is killed, too: it never runs at all.
    if matches!(nix::unistd::read(&alive, &mut [0u8; 1]), Ok(0)) {
        drydock_supervise::wait_exit(&child)?;
        return self_moved(cgroup, command);
    }
    Ok(child)
}

/// The child moves itself in before its exec.
fn self_moved(cgroup: &Cgroup, command: &Command) -> Result<Child> {
    let files = cgroup.all_join_files()?;
    clone_child(0, None, || become_command(&files, command)).map_err(explain)
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
pub fn become_command(files: &[OwnedFd], command: &Command) -> u8 {
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
