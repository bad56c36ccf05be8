//! Applies a security request to this process and execs a command:
//! `apply '{"no_new_privs":true,"seccomp":"default"}' grep Seccomp /proc/self/status`.
//! With `--compile` first, only compiles, and says how long that took. With a filter that asks an agent, a child execs
//! the command, and this process hands the agent its descriptor.

use drydock_core::error::CallExt;
use drydock_core::sys::process::clone_child;
use drydock_core::{Ctx, Error, Result};
use drydock_security::{Handover, Request};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let Err(error) = run() else { return ExitCode::SUCCESS };
    let _ = writeln!(std::io::stderr(), "apply: {error}");
    ExitCode::from(error.exit_code())
}

fn run() -> Result<()> {
    let usage = || Error::bad_input("usage", "apply [--compile] REQUEST-JSON [COMMAND…]");
    let mut args = std::env::args().skip(1).peekable();
    let only = args.next_if(|a| a == "--compile").is_some();
    let json = args.next().ok_or_else(usage)?;
    let request: Request =
        serde_json::from_str(&json).map_err(|e| Error::bad_input("request", e.to_string()))?;
    let started = std::time::Instant::now();
    let plan = request.validate()?;
    let took = started.elapsed();
    if only {
        let _ = writeln!(std::io::stdout(), "{took:?} unknown={:?}", plan.unknown_syscalls());
        for step in plan.steps() {
            let _ = writeln!(std::io::stdout(), "{}  # {} [{}]", step.call, step.why, step.man);
        }
        return Ok(());
    }
    let program = args.next().ok_or_else(usage)?;
    let mut command = Command::new(&program);
    command.args(args);
    let Some(listener) = plan.listener() else {
        plan.apply(&Ctx::silent())?;
        return Err(Error::call(format!("execve({program:?})"), command.exec()));
    };
    let handover = Handover::new()?;
    let child = clone_child(0, None, || {
        let applied = hide().and_then(|()| plan.apply_settings(&Ctx::silent()));
        let applied = applied.and_then(|()| plan.apply_privileges(&Ctx::silent(), Some(&handover)));
        let error = match applied {
            Ok(_) => Error::call("execve()", command.exec()),
            Err(error) => error,
        };
        let _ = writeln!(std::io::stderr(), "apply: {error}");
        error.exit_code()
    })
    .call(|| "clone3()")?;
    match handover.take(child.pidfd.as_fd()) {
        Ok(Some(fd)) => listener.send(
            &serde_json::json!({"ociVersion": "1.3.0", "id": "apply"}),
            child.pid,
            fd.as_fd(),
        )?,
        Ok(None) => {}
        Err(error) => {
            drydock_core::sys::signal::pidfd_kill(child.pidfd.as_fd(), nix::libc::SIGKILL)
                .call(|| "kill()")?;
            return Err(error);
        }
    }
    let status = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child.pid), None);
    let _ = writeln!(std::io::stderr(), "{status:?}");
    std::process::exit(0)
}

/// As the runtime's own processes are, on their way to the exec.
fn hide() -> Result<()> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable).call(|| "prctl()")
}
