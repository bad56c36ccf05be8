//! The system call filters of a process, which only whoever traces it may read. Source: ptrace(2), seccomp(2).

use drydock_core::error::CallExt;
use drydock_core::sys::ptrace::seccomp_filter;
use drydock_core::sys::seccomp::Instruction;
use drydock_core::{Error, Result};
use drydock_namespaces::process::Process;
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::unistd::Pid;
use rustix::process::{WaitOptions, waitpid};
use std::time::{Duration, Instant};

/// How long the process may take to stand still: what is frozen or waits for a disk does not.
const PATIENCE: Duration = Duration::from_secs(2);
/// The kernel's own limit on the length of all filters together would be reached long before.
const MOST: usize = 256;

/// All filters, oldest first. The process stands still meanwhile, for some hundred microseconds.
///
/// # Errors
/// Without ptrace access or CAP_SYS_ADMIN; when it is traced by somebody else, or does not stop.
pub fn of(process: &Process) -> Result<Vec<Vec<Instruction>>> {
    let pid = Pid::from_raw(process.pid());
    ptrace::seize(pid, ptrace::Options::empty()).call(|| format!("ptrace(PTRACE_SEIZE, {pid})"))?;
    // Its end lets the process go on, whatever happens here.
    let held = Held(pid);
    process.check_alive()?;
    ptrace::interrupt(pid).call(|| format!("ptrace(PTRACE_INTERRUPT, {pid})"))?;
    wait_stopped(pid)?;
    let mut filters = Vec::new();
    for index in 0..MOST {
        match seccomp_filter(pid.as_raw(), index) {
            Ok(program) => filters.push(program),
            Err(e) if e.raw_os_error() == Some(Errno::ENOENT as i32) => break,
            Err(e) => return Err(Error::call(format!("ptrace(PTRACE_SECCOMP_GET_FILTER, {pid})"), e)),
        }
    }
    drop(held);
    filters.reverse();
    Ok(filters)
}

struct Held(Pid);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = ptrace::detach(self.0, None);
    }
}

fn wait_stopped(pid: Pid) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    let target = rustix::process::Pid::from_raw(pid.as_raw());
    loop {
        match waitpid(target, WaitOptions::NOHANG | WaitOptions::UNTRACED) {
            Ok(Some((_, status))) if status.stopped() => return Ok(()),
            Ok(Some(_)) => return Err(Error::bad_input(format!("process {pid}"), "no such process")),
            Ok(None) if Instant::now() > until => {
                return Err(Error::failed(
                    format!("process {pid}"),
                    "does not stop: it is frozen or waits in the kernel",
                ));
            }
            Ok(None) => std::thread::sleep(Duration::from_micros(100)),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Error::call(format!("wait4({pid})"), e)),
        }
    }
}
