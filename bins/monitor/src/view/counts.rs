//! `monitor perf` and `monitor syscalls`.

use crate::Session;
use crate::args::Counting;
use crate::model::processes;
use crate::model::target::Target;
use crate::model::{cgroups, perf, syscalls};
use crate::procfs::numbers;
use drydock_cli::output::{print_text, table};
use drydock_core::{Error, Result};
use serde::Serialize;
use std::os::fd::AsFd;

/// The target's processes, and the directories of its cgroup if that is its own.
fn members(session: &Session, target: &Target) -> Result<(Vec<u32>, Vec<std::path::PathBuf>)> {
    let rows = processes::all(&session.proc)?;
    let pids = processes::members(&session.proc, &rows, target.pid);
    // A plain process shares its cgroup with others: only a container's is counted as a whole.
    let directories = target.container.as_ref().map(|c| c.cgroup.clone()).unwrap_or_default();
    let mounts = cgroups::mounts(&session.proc).unwrap_or_default();
    let places = cgroups::places(&session.proc, &mounts, target.pid).unwrap_or_default();
    let perf =
        places.into_iter().filter(|p| p.membership.controllers.iter().any(|c| c == "perf_event") && !p.root);
    let perf = perf.filter(|_| target.container.is_some()).filter_map(|p| p.directory);
    Ok((pids.into_iter().collect(), perf.chain(directories).collect()))
}

/// `monitor perf`.
///
/// # Errors
/// Unknown process; when nothing at all may be counted.
pub fn perf(session: &Session, target: &Target, options: &Counting) -> Result<()> {
    let (pids, directories) = members(session, target)?;
    let report = perf::count(&session.proc, &directories, &pids, options.time);
    if session.json {
        return session.print_rows(&report, &report.counters);
    }
    if let Some(first) = report.counters.first().filter(|_| report.counters.iter().all(|c| c.value.is_none()))
    {
        let reason = first.reason.clone().unwrap_or_default();
        return Err(Error::failed("perf", reason)
            .hint("run as root; kernel.perf_event_paranoid=1 lets everybody count"));
    }
    let rows: Vec<Vec<String>> = report
        .counters
        .iter()
        .map(|c| {
            let value = match (c.event, c.value) {
                ("task-clock", Some(n)) => format!("{}.{:03}ms", n / 1_000_000, n / 1000 % 1000),
                (_, Some(n)) => n.to_string(),
                (_, None) => "-".to_string(),
            };
            let share = c
                .running_percent
                .filter(|p| *p < 99.9)
                .map(|p| format!("counted {p:.0}% of the time, scaled"));
            vec![c.event.to_string(), value, c.reason.clone().or(share).unwrap_or_default()]
        })
        .collect();
    print_text(&table(&["EVENT", "COUNT", ""], &rows))?;
    print_text(&format!("of its {} in {:.3}s\n", report.scope, report.seconds))
}

#[derive(Serialize)]
struct Calls {
    pid: u32,
    seconds: f64,
    threads: usize,
    /// Threads that could not be traced.
    refused: usize,
    syscalls: Vec<Call>,
}

#[derive(Serialize)]
struct Call {
    name: String,
    count: u64,
    per_second: f64,
}

/// `monitor syscalls`.
///
/// # Errors
/// Unknown process; when it may not be traced.
#[allow(clippy::cast_precision_loss)] // counts
pub fn syscalls(session: &Session, target: &Target, options: &Counting) -> Result<()> {
    let (pids, _) = members(session, target)?;
    if pids.contains(&std::process::id()) {
        return Err(Error::bad_input(
            format!("process {}", target.pid),
            "we belong to it: nobody can trace itself",
        ));
    }
    let tids = |pid: &u32| {
        let dir = session.proc.directory(&format!("{pid}/task"), true).ok();
        dir.and_then(|dir| numbers(dir.as_fd()).ok()).unwrap_or_default()
    };
    let threads: Vec<i32> = pids.iter().flat_map(tids).filter_map(|tid| i32::try_from(tid).ok()).collect();
    let started = std::time::Instant::now();
    let seen = syscalls::count(&threads, options.time);
    let seconds = started.elapsed().as_secs_f64();
    let refused = seen.refused.map_or(0, |(count, _)| count);
    if let (0, Some((_, errno))) = (seen.threads, seen.refused) {
        return Err(Error::call(format!("ptrace(PTRACE_SEIZE, {})", target.pid), errno)
            .on(format!("process {}", target.pid))
            .hint("tracing is not permitted: it needs CAP_SYS_PTRACE or the same user, no other tracer, and kernel.yama.ptrace_scope below 2"));
    }
    let calls: Vec<Call> = seen
        .by_name()
        .into_iter()
        .map(|(name, count)| Call { name, count, per_second: processes::round(count as f64 / seconds) })
        .collect();
    if session.json {
        let document = Calls { pid: target.pid, seconds, threads: seen.threads, refused, syscalls: calls };
        return session.print_rows(&document, &document.syscalls);
    }
    let rows: Vec<Vec<String>> = calls
        .iter()
        .map(|c| vec![c.count.to_string(), format!("{:.1}", c.per_second), c.name.clone()])
        .collect();
    print_text(&table(&["CALLS", "PER-SECOND", "NAME"], &rows))?;
    print_text(&format!("{} threads traced for {seconds:.3}s\n", seen.threads))?;
    if refused > 0 {
        super::notes(&[format!("{refused} threads could not be traced")]);
    }
    Ok(())
}
