//! How often processes make which system calls: by ptrace(2), which every kernel has. What is traced is slower meanwhile.

use drydock_security::seccomp::Arch;
use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Calls by architecture (AUDIT_ARCH_*) and number.
    pub calls: BTreeMap<(u32, u64), u64>,
    /// Threads that were traced.
    pub threads: usize,
    /// Threads that could not be, and the reason of the first.
    pub refused: Option<(usize, Errno)>,
}

impl Seen {
    /// Calls by name, the most frequent first.
    pub fn by_name(&self) -> Vec<(String, u64)> {
        let mut names: BTreeMap<String, u64> = BTreeMap::new();
        for ((arch, number), count) in &self.calls {
            *names.entry(name(*arch, *number)).or_default() += count;
        }
        let mut all: Vec<(String, u64)> = names.into_iter().collect();
        all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        all
    }
}

/// The name of a call of an architecture; its number where we do not know it.
pub fn name(arch: u32, number: u64) -> String {
    let all = ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64", "SCMP_ARCH_X86", "SCMP_ARCH_ARM"]
        .into_iter()
        .filter_map(|word| Arch::parse(word).ok().flatten());
    let small = u32::try_from(number).unwrap_or(u32::MAX);
    let found = all.filter(|a| a.audit() == arch).find_map(|a| a.name(small));
    found.map_or_else(|| number.to_string(), str::to_string)
}

/// Traces these threads, and those that they make, for a while. Afterwards all run as before.
pub fn count(threads: &[i32], time: Duration) -> Seen {
    let mut tracer = Tracer::default();
    for tid in threads {
        tracer.take(Pid::from_raw(*tid));
    }
    let until = Instant::now() + time;
    while Instant::now() < until && !tracer.traced.is_empty() {
        if !tracer.step() {
            // Nothing has happened: the traced run on their own meanwhile.
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    tracer.let_go();
    tracer.seen
}

#[derive(Default)]
struct Tracer {
    traced: BTreeSet<Pid>,
    /// Inside a call: the next stop is its end.
    inside: BTreeSet<Pid>,
    seen: Seen,
}

impl Tracer {
    fn take(&mut self, tid: Pid) {
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACEEXEC;
        match ptrace::seize(tid, options).and_then(|()| ptrace::interrupt(tid)) {
            Ok(()) => {
                self.traced.insert(tid);
                self.seen.threads += 1;
            }
            Err(Errno::ESRCH) => {}
            Err(errno) => {
                let (count, first) = self.seen.refused.unwrap_or((0, errno));
                self.seen.refused = Some((count + 1, first));
            }
        }
    }

    /// Handles one stop; false when there is none.
    fn step(&mut self) -> bool {
        match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)) {
            Ok(WaitStatus::StillAlive) => false,
            Ok(status) => {
                self.stopped(status);
                true
            }
            // A traced thread that ended by a real-time signal: nix has no name for it.
            Err(Errno::EINVAL | Errno::EINTR) => true,
            Err(_) => {
                self.traced.clear();
                false
            }
        }
    }

    fn stopped(&mut self, status: WaitStatus) {
        match status {
            WaitStatus::PtraceSyscall(tid) => {
                if !self.inside.remove(&tid) {
                    self.inside.insert(tid);
                    self.entered(tid);
                }
                let _ = ptrace::syscall(tid, None);
            }
            WaitStatus::PtraceEvent(tid, signal, event) => {
                self.born(tid);
                // A group stop stays one: the thread is to wait for SIGCONT.
                let is_stop = event == nix::libc::PTRACE_EVENT_STOP
                    && matches!(
                        signal,
                        Signal::SIGSTOP | Signal::SIGTSTP | Signal::SIGTTIN | Signal::SIGTTOU
                    );
                if is_stop {
                    let _ = drydock_core::sys::tracing::listen(tid.as_raw());
                } else {
                    let _ = ptrace::syscall(tid, None);
                }
            }
            WaitStatus::Stopped(tid, signal) => {
                self.born(tid);
                let _ = ptrace::syscall(tid, Some(signal));
            }
            WaitStatus::Exited(tid, _) | WaitStatus::Signaled(tid, ..) => {
                self.traced.remove(&tid);
                self.inside.remove(&tid);
            }
            _ => {}
        }
    }

    /// A thread or child that began under our eyes.
    fn born(&mut self, tid: Pid) {
        if self.traced.insert(tid) {
            self.seen.threads += 1;
        }
    }

    fn entered(&mut self, tid: Pid) {
        let Ok(call) = drydock_core::sys::tracing::syscall_entry(tid.as_raw()) else { return };
        if let Some(call) = call {
            *self.seen.calls.entry(call).or_default() += 1;
        }
    }

    /// Lets all run as before.
    fn let_go(&mut self) {
        for tid in &self.traced {
            let _ = ptrace::interrupt(*tid);
        }
        let until = Instant::now() + Duration::from_secs(5);
        while !self.traced.is_empty() && Instant::now() < until {
            match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)) {
                Ok(WaitStatus::StillAlive) => std::thread::sleep(Duration::from_micros(200)),
                Ok(WaitStatus::Stopped(tid, signal)) => {
                    let _ = ptrace::detach(tid, Some(signal));
                    self.traced.remove(&tid);
                }
                Ok(WaitStatus::PtraceEvent(tid, ..) | WaitStatus::PtraceSyscall(tid)) => {
                    let _ = ptrace::detach(tid, None);
                    self.traced.remove(&tid);
                }
                Ok(WaitStatus::Exited(tid, _) | WaitStatus::Signaled(tid, ..)) => {
                    self.traced.remove(&tid);
                }
                Ok(_) | Err(Errno::EINTR | Errno::EINVAL) => {}
                Err(_) => return,
            }
        }
    }
}
