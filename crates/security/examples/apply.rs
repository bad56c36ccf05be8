//! Applies a security request to this process and execs a command:
//! `apply '{"no_new_privs":true,"seccomp":"default"}' grep Seccomp /proc/self/status`.
//! With `--compile` first, only compiles, and says how long that took.

use drydock_core::{Ctx, Error, Result};
use drydock_security::Request;
use std::io::Write;
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
    plan.apply(&Ctx::silent())?;
    let program = args.next().ok_or_else(usage)?;
    let error = Command::new(&program).args(args).exec();
    Err(Error::call(format!("execve({program:?})"), error))
}
