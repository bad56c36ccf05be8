//! The plain init: what comes before the command, the command, what is left of it, what comes after.

use crate::pidfile::PidFile;
use crate::ready::Ready;
use crate::reaping::{Checked, Reaping};
use drydock_core::error::CallExt;
use drydock_core::exit::Ended;
use drydock_core::sys::{fd, process, signal};
use drydock_core::{Error, Result};
use drydock_supervise::exec::Command;
use drydock_supervise::reap::{self, Policy, Reaped, Reaper, Watch};
use drydock_supervise::{Blocked, job};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Instant;

/// What is known in the end.
#[derive(Debug)]
pub struct Report {
    /// The code to exit with.
    pub code: u8,
    /// The command's process, and how it ended; nothing in pause mode.
    pub main: Option<(i32, Ended)>,
    /// What else was reaped.
    pub reaped: Reaped,
    /// How many had to be killed.
    pub killed: usize,
    /// How long the command ran.
    pub milliseconds: u128,
}

/// Runs a command as PID 1 does, in place. `inherited`: descriptors that are the command's alone; `settle`: what its process
/// does first.
///
/// # Errors
/// No process can be made; a `--pre` command that fails.
pub fn run(
    options: &Reaping,
    command: &[String],
    inherited: Vec<RawFd>,
    settle: &dyn Fn() -> Result<()>,
) -> Result<Report> {
    let options = with_environment(options);
    let checked = options.check()?;
    let mut env = environment(options.sd_notify);
    if !options.pause {
        // What is wrong with it is said before anything else is.
        Command::new(command, &env)?;
    }
    let adopts = adopt(&options)?;
    let ready = Rc::new(Ready::open(&options)?);
    let mut pid_file = PidFile::open(options.pid_file.as_deref())?;
    tie(checked.parent_death)?;
    let signals = Blocked::all()?;
    let job = !options.session && !options.pause && job::has_terminal();
    let policy = Policy {
        group: options.group || options.session,
        job,
        signals: checked.signals.clone(),
        grace: checked.grace,
        wait_all: options.wait_all,
        adopts,
    };
    let quiet = Policy { job: false, group: false, ..policy.clone() };
    before(&checked, &env, &signals, &quiet)?;
    let mut reaper = Reaper::new(&signals, &policy);
    let started = Instant::now();
    let main = if options.pause {
        pid_file.write(i32::try_from(std::process::id()).unwrap_or(1))?;
        ready.say();
        reaper.pause(&[nix::libc::SIGTERM, nix::libc::SIGINT, nix::libc::SIGQUIT])?;
        None
    } else {
        let main = Main { words: command, env: &env, options: &options, job, settle };
        let child = main.start(&ready, &mut reaper, &mut pid_file)?;
        // What we stay for is the command: no directory and no descriptor of the caller's is held beside it.
        let _ = nix::unistd::chdir("/");
        for number in inherited.into_iter().filter(|fd| options.ready_fd != Some(*fd)) {
            let _ = nix::unistd::close(number);
        }
        Some((child.pid, reaper.wait(&child)?))
    };
    drop(pid_file);
    let own = main.map_or(0, |(_, ended)| ended.code());
    let milliseconds = started.elapsed().as_millis();
    ready.over(own);
    let killed = reaper.finish()?;
    let reaped = std::mem::take(&mut reaper.reaped);
    drop(reaper);
    if options.warn_reaped {
        warn_reaped(&reaped);
    }
    env.push(format!("INIT_EXIT_CODE={own}"));
    if let Some((_, Ended::Signaled(number))) = main {
        env.push(format!("INIT_SIGNAL={number}"));
    }
    after(&checked, &env, &signals, &quiet);
    let code = checked.exits.get(&own).copied().unwrap_or(own);
    Ok(Report { code, main, reaped, killed, milliseconds })
}

/// tini's variables say the same as its options.
fn with_environment(options: &Reaping) -> Reaping {
    let set = |name: &str| std::env::var_os(name).is_some();
    let mut options = options.clone();
    options.subreaper |= set("TINI_SUBREAPER");
    options.group |= set("TINI_KILL_PROCESS_GROUP");
    options
}

fn environment(notifies: bool) -> Vec<String> {
    std::env::vars_os()
        .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
        .filter(|(k, _)| !(notifies && k == "NOTIFY_SOCKET"))
        .map(|(k, v)| format!("{k}={v}"))
        .collect()
}

/// Whether orphans come to us.
fn adopt(options: &Reaping) -> Result<bool> {
    if std::process::id() == 1 {
        return Ok(true);
    }
    if !options.subreaper {
        drydock_cli::output::warn(
            "init",
            "not PID 1: orphans of the command go to the system's init (-s keeps them)",
        );
        return Ok(false);
    }
    reap::become_subreaper()?;
    Ok(true)
}

/// Dies, or whatever the signal does to the command, with the parent.
fn tie(number: Option<i32>) -> Result<()> {
    let Some(number) = number else { return Ok(()) };
    let parent = nix::unistd::getppid();
    let signal = nix::sys::signal::Signal::try_from(number)
        .map_err(|_| Error::bad_input("--parent-death", "a real-time signal (allowed: 1 to 31)"))?;
    nix::sys::prctl::set_pdeathsig(signal).call(|| format!("prctl(PR_SET_PDEATHSIG, {number})"))?;
    // It may have died in between, and then nobody tells us.
    if nix::unistd::getppid() != parent {
        return Err(Error::failed("--parent-death", "the parent has ended"));
    }
    Ok(())
}

fn no_process(error: Error) -> Error {
    match error.errno() {
        Some(nix::libc::EAGAIN) => error
            .because("cannot make a process")
            .hint("RLIMIT_NPROC (ulimit -u) or a cgroup's pids.max is reached"),
        _ => error,
    }
}

/// Makes a child that becomes a command, or says why not.
fn spawn(make: impl FnOnce() -> Result<Command>, failed: Option<OwnedFd>) -> Result<process::Child> {
    let child = || {
        signal::reset_dispositions();
        let made = make();
        let _ = signal::unblock_all();
        let error = match made {
            Ok(command) => command.exec(),
            Err(error) => error,
        };
        if let Some(pipe) = &failed {
            let _ = rustix::io::write(pipe, b"!");
        }
        drydock_cli::report("init", &error.into())
    };
    process::clone_child(0, None, child).call(|| "clone3(CLONE_PIDFD)").map_err(no_process)
}

/// Ends a child that was made in vain.
pub fn end(child: &process::Child, error: Error) -> Error {
    let _ = signal::pidfd_kill(child.pidfd.as_fd(), nix::libc::SIGKILL);
    let _ = drydock_supervise::wait_exit(child);
    error
}

/// The command.
struct Main<'a> {
    words: &'a [String],
    env: &'a [String],
    options: &'a Reaping,
    job: bool,
    settle: &'a dyn Fn() -> Result<()>,
}

impl Main<'_> {
    fn start(
        &self,
        ready: &Rc<Ready>,
        reaper: &mut Reaper<'_>,
        pid_file: &mut PidFile,
    ) -> Result<process::Child> {
        let command = Command::new(self.words, self.env)?;
        let (runs, failed) = pipe()?;
        let said = self.options.notify_fd.map(|number| Ok::<_, Error>((pipe()?, number))).transpose()?;
        let child = spawn(
            || {
                self.place()?;
                if let Some(((_, end), number)) = &said {
                    fd::put_at(end.as_fd(), *number).call(|| format!("dup2(pipe, {number})"))?;
                }
                (self.settle)()?;
                match for_listener(self.env) {
                    Some(env) => Command::new(self.words, &env),
                    None => Ok(command),
                }
            },
            Some(failed),
        )?;
        if let Err(error) = pid_file.write(child.pid) {
            return Err(end(&child, error));
        }
        if self.options.group && !self.options.session {
            // Both sides do it: a signal may come before the child gets there.
            let pid = nix::unistd::Pid::from_raw(child.pid);
            let _ = nix::unistd::setpgid(pid, pid);
        }
        match said {
            Some(((from, _), _)) => {
                use nix::fcntl::{FcntlArg, OFlag, fcntl};
                fcntl(&from, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).call(|| "fcntl(pipe, O_NONBLOCK)")?;
                let ready = ready.clone();
                let heard = move |bytes: &[u8]| {
                    let line = bytes.contains(&b'\n');
                    if line {
                        ready.say();
                    }
                    line
                };
                reaper.watch = Some(Watch { fd: from, heard: Box::new(heard) });
            }
            // Closed without a word: by the exec.
            None if ready.any() && matches!(std::fs::File::from(runs).read(&mut [0u8; 1]), Ok(0)) => {
                ready.say()
            }
            None => {}
        }
        Ok(child)
    }

    fn place(&self) -> Result<()> {
        if self.options.session {
            return nix::unistd::setsid().map(drop).call(|| "setsid()");
        }
        if self.job {
            job::lead();
        } else if self.options.group {
            job::lead_group();
        }
        Ok(())
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).call(|| "pipe2(O_CLOEXEC)")
}

/// Sockets that were passed to us are the command's, which looks for its own pid in $LISTEN_PID (sd_listen_fds(3)).
fn for_listener(env: &[String]) -> Option<Vec<String>> {
    let ours = format!("LISTEN_PID={}", nix::unistd::getppid());
    let own = format!("LISTEN_PID={}", std::process::id());
    env.contains(&ours)
        .then(|| env.iter().map(|word| if *word == ours { own.clone() } else { word.clone() }).collect())
}

fn before(checked: &Checked, env: &[String], signals: &Blocked, policy: &Policy) -> Result<()> {
    for words in &checked.pre {
        let command = Command::new(words, env)?;
        let child = spawn(|| Ok(command), None)?;
        let ended = Reaper::new(signals, policy).wait(&child)?;
        if ended.code() != 0 {
            let name = drydock_core::text::escape(words.first().map_or("", String::as_str));
            return Err(Error::failed("--pre", format!("'{name}' ended with {}", ended.code())));
        }
    }
    Ok(())
}

/// The command's code is what counts by now: what fails here is only said.
fn after(checked: &Checked, env: &[String], signals: &Blocked, policy: &Policy) {
    for words in &checked.post {
        let result = Command::new(words, env)
            .and_then(|command| spawn(|| Ok(command), None))
            .and_then(|child| Reaper::new(signals, policy).wait(&child));
        let problem = match result {
            Ok(ended) if ended.code() == 0 => continue,
            Ok(ended) => format!("ended with {}", ended.code()),
            Err(error) => error.sentence(),
        };
        let name = drydock_core::text::escape(words.first().map_or("", String::as_str));
        drydock_cli::output::warn("init", &format!("--post: '{name}': {problem}"));
    }
}

fn warn_reaped(reaped: &Reaped) {
    for (pid, ended) in &reaped.first {
        drydock_cli::output::warn("init", &format!("reaped {pid}: {}", crate::report::how(*ended)));
    }
    if reaped.count > Reaped::KEPT as u64 {
        drydock_cli::output::warn("init", &format!("reaped {} in all", reaped.count));
    }
}
