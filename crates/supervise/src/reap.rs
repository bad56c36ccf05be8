//! PID 1's loop: forward signals to the main child, reap every orphan, end with the main child's status.

use crate::signals::SignalMap;
use crate::wait::Blocked;
use crate::{job, left};
use drydock_core::error::CallExt;
use drydock_core::exit::Ended;
use drydock_core::sys::process::Child;
use drydock_core::sys::signal;
use drydock_core::{Error, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How the reaper treats signals and what is left when the main child ends.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Forward to the main child's whole process group rather than to it alone (tini -g).
    pub group: bool,
    /// The main child's group has the terminal on standard input: it is stopped and continued as a job.
    pub job: bool,
    /// How signals are rewritten on their way.
    pub signals: SignalMap,
    /// How long the other processes may take once the main child has ended; then SIGKILL. `None` and not `wait_all`: they
    /// are not waited for.
    pub grace: Option<Duration>,
    /// They are not asked to end (SIGTERM) but waited for.
    pub wait_all: bool,
    /// Orphans come to us: we are PID 1 or a subreaper.
    pub adopts: bool,
}

/// Processes that were reaped besides the main child.
#[derive(Clone, Debug, Default)]
pub struct Reaped {
    /// How many.
    pub count: u64,
    /// The first of them, with how they ended: as many as [`Reaped::KEPT`], so that memory stays as it is.
    pub first: Vec<(i32, Ended)>,
}

impl Reaped {
    /// How many are kept one by one.
    pub const KEPT: usize = 64;
}

/// Gets what came, and says whether that was all.
pub type Heard<'a> = dyn FnMut(&[u8]) -> bool + 'a;

/// A descriptor that is read while a main child runs.
pub struct Watch<'a> {
    /// The descriptor.
    pub fd: std::os::fd::OwnedFd,
    /// What is done with what came; nothing: the other end is closed.
    pub heard: Box<Heard<'a>>,
}

/// A loop that waits for one process after another, and reaps whatever else ends meanwhile.
pub struct Reaper<'a> {
    signals: &'a Blocked,
    policy: &'a Policy,
    /// What is read beside.
    pub watch: Option<Watch<'a>>,
    /// What has been reaped so far, main children left out.
    pub reaped: Reaped,
    forgot: Option<Instant>,
}

impl<'a> Reaper<'a> {
    /// Signals come through `signals`, which were blocked before the first child was made.
    pub fn new(signals: &'a Blocked, policy: &'a Policy) -> Self {
        Self { signals, policy, watch: None, reaped: Reaped::default(), forgot: None }
    }

    /// Runs until the main child has ended. Source: pid_namespaces(7), "the namespace init process"; wait(2) "zombie".
    ///
    /// # Errors
    /// poll(2)'s and wait4(2)'s.
    pub fn wait(&mut self, main: &Child) -> Result<Ended> {
        loop {
            for (number, _) in self.signals.take() {
                self.forward(main.pid, number);
            }
            if let Some(ended) = self.reap_all(main.pid)? {
                if self.policy.job {
                    job::take_back();
                }
                return Ok(ended);
            }
            self.sleep(PollTimeout::NONE)?;
        }
    }

    /// Reaps until one of these signals comes: an init without a command.
    ///
    /// # Errors
    /// As [`Reaper::wait`].
    pub fn pause(&mut self, until: &[i32]) -> Result<i32> {
        loop {
            let end = self.signals.take().into_iter().find_map(|(number, _)| {
                self.policy.signals.rewrite(number).filter(|number| until.contains(number))
            });
            self.reap_all(0)?;
            match end {
                Some(number) => return Ok(number),
                None => self.sleep(PollTimeout::NONE)?,
            }
        }
    }

    /// The main child is gone: the rest are asked to end, or waited for, and killed when their time is over. How many had to
    /// be killed.
    ///
    /// # Errors
    /// poll(2)'s and wait4(2)'s.
    pub fn finish(&mut self) -> Result<usize> {
        self.reap_all(0)?;
        if !self.policy.adopts || (self.policy.grace.is_none() && !self.policy.wait_all) {
            return Ok(0);
        }
        if !self.policy.wait_all {
            left::signal(nix::libc::SIGTERM);
        }
        let deadline = self.policy.grace.map(|grace| Instant::now() + grace);
        self.drain(deadline)?;
        if !has_children() {
            return Ok(0);
        }
        let killed = left::signal(nix::libc::SIGKILL);
        // A process in an uninterruptible call may take long to die: it is the kernel's then.
        self.drain(Some(Instant::now() + Duration::from_secs(5)))?;
        Ok(killed)
    }

    fn drain(&mut self, deadline: Option<Instant>) -> Result<()> {
        while has_children() {
            let timeout = match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
                None => PollTimeout::NONE,
                Some(Duration::ZERO) => return Ok(()),
                // Rounded up: a poll of 0 ms would be a busy loop.
                Some(left) => {
                    PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
                }
            };
            self.sleep(timeout)?;
            for (number, _) in self.signals.take() {
                match self.policy.signals.rewrite(number) {
                    Some(number) if number != nix::libc::SIGCHLD => drop(left::signal(number)),
                    _ => {}
                }
            }
            self.reap_all(0)?;
        }
        Ok(())
    }

    fn forward(&self, main: i32, number: i32) {
        if number == nix::libc::SIGCHLD {
            return;
        }
        let Some(number) = self.policy.signals.rewrite(number) else { return };
        // The child may have ended in between, which reaping sees; or not lead its group yet.
        if !self.policy.group || signal::kill(-main, number).is_err() {
            let _ = signal::kill(main, number);
        }
    }

    fn sleep(&mut self, timeout: PollTimeout) -> Result<()> {
        if self.forgot.is_none_or(|then| then.elapsed() > Duration::from_secs(1)) {
            // It may be long until something happens, and takes little of the program then.
            drydock_core::sys::memory::forget_own_program();
            self.forgot = Some(Instant::now());
        }
        let signals = PollFd::new(self.signals.as_fd(), PollFlags::POLLIN);
        let polled = match &self.watch {
            None => nix::poll::poll(&mut [signals], timeout),
            Some(watch) => {
                let mut fds = [signals, PollFd::new(watch.fd.as_fd(), PollFlags::POLLIN)];
                nix::poll::poll(&mut fds, timeout)
            }
        };
        self.look();
        match polled {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(e) => Err(Error::call("poll(signalfd)", e)),
        }
    }

    /// Reads what is watched, which does not block.
    fn look(&mut self) {
        let Some(watch) = &mut self.watch else { return };
        let mut buffer = [0u8; 256];
        let over = match rustix::io::read(&watch.fd, &mut buffer) {
            Ok(n) => (watch.heard)(buffer.get(..n).unwrap_or(&[])) || n == 0,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => false,
            Err(_) => true,
        };
        if over {
            self.watch = None;
        }
    }

    /// Reaps everything that has ended; SIGCHLD coalesces, so one signal may stand for many. The main child's end, if seen.
    fn reap_all(&mut self, main: i32) -> Result<Option<Ended>> {
        use rustix::process::{WaitOptions, wait};
        let stops = if self.policy.job { WaitOptions::UNTRACED } else { WaitOptions::empty() };
        let mut ended = None;
        loop {
            match wait(WaitOptions::NOHANG | stops) {
                Ok(Some((pid, status))) if status.stopped() => {
                    if pid.as_raw_pid() == main {
                        job::stopped(main, status.stopping_signal());
                    }
                }
                Ok(Some((pid, status))) if pid.as_raw_pid() == main => ended = Some(how(status)),
                Ok(Some((pid, status))) => {
                    self.reaped.count += 1;
                    if self.reaped.first.len() < Reaped::KEPT {
                        self.reaped.first.push((pid.as_raw_pid(), how(status)));
                    }
                }
                Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(ended),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(Error::call("wait4(-1, WNOHANG)", e)),
            }
        }
    }
}

fn how(status: rustix::process::WaitStatus) -> Ended {
    let byte = |n: i32| u8::try_from(n & 0xff).unwrap_or(u8::MAX);
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Ended::Exited(byte(code)),
        (None, signal) => Ended::Signaled(signal.map_or(9, byte)),
    }
}

fn has_children() -> bool {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT).is_ok()
}

/// Makes the calling process the reaper of its orphaned descendants when it is not PID 1. Source: prctl(2).
///
/// # Errors
/// prctl(2)'s.
pub fn become_subreaper() -> Result<()> {
    rustix::process::set_child_subreaper(rustix::process::Pid::from_raw(1))
        .call(|| "prctl(PR_SET_CHILD_SUBREAPER, 1)")
}
