//! `container events`: what a container uses, and when memory runs out, one JSON object a line.

use crate::commands::{event_stats, signals};
use drydock_bundle::{Entry, State, Store};
use drydock_cgroups::{Cgroup, OomWatch};
use drydock_cli::Outcome;
use drydock_core::{Error, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;
use serde_json::Value;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// Arguments of `container events`.
#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "With a container alone: its statistics in intervals, and an oom line each time its memory runs out (runc's form).\n\
    Otherwise what happens to containers: create, start, exec, oom, seccomp, exit, fail, pause, resume, update, kill, delete.\n\
    No daemon: each is written down by whoever did it, and followed until it is interrupted.\n\n\
    Examples:\n  container events\n  container events --json --filter type=oom --filter type=exit\n  \
    container events --since 1h --no-follow --filter id=web"
)]
pub struct Args {
    /// Print the statistics once, and exit
    #[arg(long, requires = "name")]
    pub stats: bool,
    /// Time between two lines of statistics, such as 5s, 500ms, 1m30s
    #[arg(long, value_name = "DURATION", default_value = "5s", allow_hyphen_values = true)]
    pub interval: String,
    /// Begin with what happened since then: 10m (ago), 2026-01-31T12:00:00Z, seconds since 1970
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub since: Option<String>,
    /// End then
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub until: Option<String>,
    /// Only these: id=NAME, type=TYPE; several of one key: any of them
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
    /// Print what is known, and end
    #[arg(long, visible_alias = "no-stream")]
    pub no_follow: bool,
    /// Follow what happens (the default), also of one container
    #[arg(long, conflicts_with = "no_follow")]
    pub follow: bool,
    /// JSON, one object a line
    #[arg(long)]
    pub json: bool,
    /// The container [default: what happens to all]
    pub name: Option<String>,
}

impl Args {
    /// Statistics of one container, as runc prints them.
    fn is_statistics(&self) -> bool {
        let life = self.since.is_some()
            || self.until.is_some()
            || !self.filter.is_empty()
            || self.no_follow
            || self.follow
            || self.json;
        self.stats || (self.name.is_some() && !life)
    }
}

/// Prints what happens to containers; or statistics of one in intervals and each time that its memory runs out, until it
/// ends.
///
/// # Errors
/// Unknown container, one that does not run, an interval that is none.
pub fn run(args: &Args, store: &Store) -> Outcome {
    let Some(name) = args.name.as_ref().filter(|_| args.is_statistics()) else {
        parse_interval(&args.interval)?;
        return super::life_events::run(args, store);
    };
    let interval = parse_interval(&args.interval)?;
    let entry = store.find(name)?;
    let (state, pidfd) = signals::running(&entry)?;
    let group = Cgroup::at(state.cgroup.iter().cloned())?;
    if args.stats {
        print(&entry, "stats", Some(event_stats::read(&group, state.pid)))?;
        return Ok(0);
    }
    let mut oom = group.watch_oom()?;
    let mut told = false;
    loop {
        print(&entry, "stats", Some(event_stats::read(&group, state.pid)))?;
        let next = Instant::now() + interval;
        if watch(&entry, &pidfd, oom.as_mut(), next, &mut told)? {
            return Ok(0);
        }
    }
}

/// Until it is time for the next statistics: tells of memory that ran out. True when the container has ended.
fn watch(
    entry: &Entry,
    pidfd: &OwnedFd,
    mut oom: Option<&mut OomWatch>,
    next: Instant,
    told: &mut bool,
) -> Result<bool> {
    loop {
        let left = next.saturating_duration_since(Instant::now());
        let ended = wait(pidfd, oom.as_deref(), left)?;
        let mut times = oom.as_deref_mut().map_or(Ok(0), OomWatch::events)?;
        *told |= times > 0;
        if ended && !*told && State::read(&entry.dir).is_ok_and(|state| state.oom_killed) {
            // The cgroup went before we looked; its record tells.
            times = 1;
        }
        for _ in 0..times {
            print(entry, "oom", None)?;
        }
        if ended || Instant::now() >= next {
            return Ok(ended);
        }
    }
}

/// Waits for the container's end (true), for memory to run out, or for the time to be over.
fn wait(pidfd: &OwnedFd, oom: Option<&OomWatch>, left: Duration) -> Result<bool> {
    let mut fds = vec![PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    if let Some((fd, events)) = oom.map(OomWatch::poll_for) {
        fds.push(PollFd::new(fd, events));
    }
    // Rounded up: not a busy loop through the last millisecond.
    let left = left + Duration::from_micros(999);
    match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
        Ok(_) => Ok(fds.first().and_then(PollFd::any).unwrap_or(false)),
        Err(Errno::EINTR) => Ok(false),
        Err(e) => Err(Error::call("poll(pidfd, memory events)", e)),
    }
}

/// One line, in the order in which runc writes it.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

fn print(entry: &Entry, kind: &str, data: Option<Value>) -> Result<()> {
    let event = Event { kind, id: entry.id.as_str(), data };
    let line = serde_json::to_string(&event).map_err(|e| Error::failed("events", e.to_string()))?;
    drydock_cli::print_line(&line)
}

/// A duration in Go's syntax: numbers with units, `1h`, `1m30s`, `1.5s`, `500ms`.
fn parse_interval(text: &str) -> Result<Duration> {
    let bad = || {
        let shown = drydock_core::text::shorten(&drydock_core::text::escape(text), 40);
        Error::bad_input(
            "--interval",
            format!(
                "'{shown}' is not an interval (allowed: more than 0, at most 24h, such as 5s, 500ms, 1m30s)"
            ),
        )
    };
    let interval = crate::compose::words::duration(text).map_err(|_| bad())?;
    let allowed = Duration::from_nanos(1)..=Duration::from_secs(86_400);
    if allowed.contains(&interval) { Ok(interval) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals() {
        for (text, millis) in [
            ("5s", 5000),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("1.5s", 1500),
            ("24h", 86_400_000),
            ("1000us", 1),
        ] {
            assert_eq!(parse_interval(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
        for wrong in ["", "5", "-1s", "0", "0s", "s", "1d", "25h", "1e3s", "1.2.3s", "5s ", "nan", "+1s"] {
            assert_eq!(parse_interval(wrong).unwrap_err().exit_code(), 2, "{wrong:?}");
        }
    }
}
