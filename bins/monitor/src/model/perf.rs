//! Counters of a cgroup or of processes over a while: perf stat(1) without perf.

use crate::procfs::{Proc, numbers};
use drydock_core::sys::perf::{HARDWARE, SOFTWARE, Whom, counter};
use serde::Serialize;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

/// What is counted: name, type, number. Source: perf_event_open(2).
const EVENTS: [(&str, u32, u64); 11] = [
    ("task-clock", SOFTWARE, 1),
    ("context-switches", SOFTWARE, 3),
    ("cpu-migrations", SOFTWARE, 4),
    ("page-faults", SOFTWARE, 2),
    ("major-faults", SOFTWARE, 6),
    ("cycles", HARDWARE, 0),
    ("instructions", HARDWARE, 1),
    ("branches", HARDWARE, 4),
    ("branch-misses", HARDWARE, 5),
    ("cache-references", HARDWARE, 2),
    ("cache-misses", HARDWARE, 3),
];

/// One counter's result.
#[derive(Clone, Debug, Serialize)]
pub struct Counted {
    /// As perf(1) calls it.
    pub event: &'static str,
    /// Nanoseconds for task-clock, else a number; null when it could not be counted.
    pub value: Option<u64>,
    /// Share of the time in which it ran; less than 100 when counters had to take turns (the value is scaled).
    pub running_percent: Option<f64>,
    /// Why there is no value.
    pub reason: Option<String>,
}

/// What was counted, and of whom.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `cgroup` or `threads`.
    pub scope: &'static str,
    /// Seconds.
    pub seconds: f64,
    /// All counters.
    pub counters: Vec<Counted>,
}

/// Counts for a while: of the cgroup where the kernel can, else of the threads of these processes and their new children.
pub fn count(proc: &Proc, directories: &[PathBuf], pids: &[u32], time: Duration) -> Report {
    let cgroup = directories.iter().find_map(by_cgroup);
    let threads: Vec<i32> = pids.iter().flat_map(|pid| tids(proc, *pid)).collect();
    let scope = if cgroup.is_some() { "cgroup" } else { "threads" };
    let open = |(event, kind, config): &(&'static str, u32, u64)| {
        let fds: std::io::Result<Vec<OwnedFd>> = match &cgroup {
            Some((dir, cpus)) => {
                cpus.iter().map(|cpu| counter(*kind, *config, Whom::Cgroup(dir.as_fd(), *cpu))).collect()
            }
            None => of_threads(*kind, *config, &threads),
        };
        (*event, fds)
    };
    let opened: Vec<_> = EVENTS.iter().map(open).collect();
    let started = std::time::Instant::now();
    std::thread::sleep(time);
    let counters = opened.into_iter().map(|(event, fds)| counted(event, fds)).collect();
    Report { scope, seconds: started.elapsed().as_secs_f64(), counters }
}

/// A thread that has ended meanwhile counts no more.
fn of_threads(kind: u32, config: u64, threads: &[i32]) -> std::io::Result<Vec<OwnedFd>> {
    let mut fds = Vec::new();
    for tid in threads {
        match counter(kind, config, Whom::Thread(*tid)) {
            Ok(fd) => fds.push(fd),
            Err(e) if e.raw_os_error() == Some(nix::libc::ESRCH) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(fds)
}

fn tids(proc: &Proc, pid: u32) -> Vec<i32> {
    let dir = proc.directory(&format!("{pid}/task"), true);
    let tids = dir.ok().and_then(|dir| numbers(dir.as_fd()).ok()).unwrap_or_default();
    tids.into_iter().filter_map(|tid| i32::try_from(tid).ok()).collect()
}

/// The cgroup and the processors, if the kernel counts for this cgroup: v2, or v1's perf_event hierarchy.
fn by_cgroup(dir: &PathBuf) -> Option<(std::fs::File, Vec<i32>)> {
    let file = std::fs::File::open(dir).ok()?;
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").ok()?;
    let cpus = list(online.trim())?;
    counter(SOFTWARE, 1, Whom::Cgroup(file.as_fd(), *cpus.first()?)).ok()?;
    Some((file, cpus))
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // scaled counts
fn counted(event: &'static str, fds: std::io::Result<Vec<OwnedFd>>) -> Counted {
    let fds = match fds {
        Ok(fds) => fds,
        Err(error) => {
            return Counted { event, value: None, running_percent: None, reason: Some(reason(&error)) };
        }
    };
    let (mut sum, mut enabled, mut running) = (0.0, 0u64, 0u64);
    for fd in &fds {
        let mut bytes = [0u8; 24];
        if rustix::io::read(fd, &mut bytes).is_ok_and(|n| n == 24) {
            let number = |at: usize| {
                bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_ne_bytes)
            };
            let (value, on, ran) = (number(0), number(8), number(16));
            let scale = if ran > 0 { on as f64 / ran as f64 } else { 1.0 };
            sum += value as f64 * scale;
            (enabled, running) = (enabled.saturating_add(on), running.saturating_add(ran));
        }
    }
    let percent = (enabled > 0).then(|| super::processes::round(running as f64 / enabled as f64 * 100.0));
    Counted { event, value: Some(sum as u64), running_percent: percent, reason: None }
}

/// Why the kernel does not count.
fn reason(error: &std::io::Error) -> String {
    let paranoid = std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap_or_default();
    match error.raw_os_error() {
        Some(nix::libc::EACCES | nix::libc::EPERM) => format!(
            "not permitted: needs CAP_PERFMON, or kernel.perf_event_paranoid below {} (a seccomp filter may refuse it, too)",
            paranoid.trim()
        ),
        Some(nix::libc::ENOENT | nix::libc::EOPNOTSUPP | nix::libc::EINVAL) => {
            "this processor does not count it (virtual machines often do not)".to_string()
        }
        Some(nix::libc::ENOSYS) => "the kernel has no perf_event_open".to_string(),
        Some(nix::libc::EMFILE) => "too many open files".to_string(),
        _ => error.to_string(),
    }
}

/// `0-3,6` as numbers.
fn list(text: &str) -> Option<Vec<i32>> {
    let mut all = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (i32, i32) = (first.parse().ok()?, last.parse().ok()?);
        all.extend((first..=last).take(4096));
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    #[test]
    fn lists() {
        assert_eq!(super::list("0-2,5"), Some(vec![0, 1, 2, 5]));
        assert_eq!(super::list("x"), None);
        assert_eq!(super::list("3-1"), Some(vec![]));
    }
}
