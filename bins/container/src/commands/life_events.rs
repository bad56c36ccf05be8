//! `container events` without a container, or with a filter: what happens to containers, as it happens.

use crate::commands::events::Args;
use crate::commands::when;
use crate::kmsg::Kmsg;
use drydock_bundle::Store;
use drydock_bundle::events::{Event, FILE, Follower, all};
use drydock_cli::Outcome;
use drydock_core::text::{escape, shorten};
use drydock_core::{Error, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::inotify;
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What happens to containers. Source of older ones: the file that is kept in the state root.
///
/// # Errors
/// Bad times and filters; when the state root cannot be watched.
pub fn run(args: &Args, store: &Store) -> Outcome {
    let wanted = Wanted::of(args, store)?;
    store.ensure_root()?;
    // First the present end, then the past: what happens meanwhile is not lost.
    let follower = Follower::new(store.root());
    if args.since.is_some() || args.no_follow {
        let (events, bad) = all(store.root());
        complain(&bad);
        for event in events.iter().filter(|event| wanted.fits(event)) {
            print(event, args.json)?;
        }
    }
    let over = wanted.until.is_some_and(|until| until <= now());
    if args.no_follow || over {
        return Ok(0);
    }
    follow(args, store, &wanted, follower)?;
    Ok(0)
}

fn follow(args: &Args, store: &Store, wanted: &Wanted, mut follower: Follower) -> Result<()> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK);
    let watch = watch.map_err(|e| Error::call("inotify_init1(IN_CLOEXEC|IN_NONBLOCK)", e))?;
    let flags = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
    let root = store.root();
    inotify::add_watch(&watch, root, flags)
        .map_err(|e| Error::call(format!("inotify_add_watch({root:?})"), e))?;
    let mut kernel = Kmsg::open();
    loop {
        let (events, bad) = follower.new_events();
        complain(&bad);
        let denied = kernel.as_mut().map(|k| k.denials(store)).unwrap_or_default();
        for event in events.iter().chain(&denied).filter(|event| wanted.fits(event)) {
            print(event, args.json)?;
        }
        let left = wanted.until.map(|until| until - now());
        if left.is_some_and(|left| left <= 0.0) {
            return Ok(());
        }
        let mut fds = vec![PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
        fds.extend(kernel.as_ref().map(|k| PollFd::new(k.as_fd(), PollFlags::POLLIN)));
        let timeout = left.map_or(PollTimeout::NONE, |left| {
            let left = Duration::from_secs_f64(left.min(86_400.0)) + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(Error::call("poll(inotify)", e)),
        }
        // What it says does not matter: the file is read.
        let mut buffer = [0u8; 4096];
        while rustix::io::read(&watch, &mut buffer).is_ok_and(|n| n > 0) {}
    }
}

fn complain(bad: &[usize]) {
    for line in bad {
        drydock_cli::output::warn("container", &format!("{FILE}: line {line} makes no sense; left out"));
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |t| t.as_secs_f64())
}

fn print(event: &Event, json: bool) -> Result<()> {
    if json {
        let line = serde_json::to_string(event).map_err(|e| Error::failed("events", e.to_string()))?;
        return drydock_cli::print_text(&format!("{line}\n"));
    }
    let more =
        event.more.iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| match value.as_str() {
            Some(text) => format!(" {key}={}", drydock_core::text::shell_quote(text)),
            None => format!(" {key}={value}"),
        });
    let time = when::show(event.time);
    drydock_cli::print_line(&format!("{time} {:<8} {}{}", event.kind, event.id, more.collect::<String>()))
}

/// Which events.
struct Wanted {
    since: Option<f64>,
    until: Option<f64>,
    filters: BTreeMap<String, Vec<String>>,
}

const KEYS: [&str; 4] = ["id", "container", "type", "event"];
const TYPES: [&str; 12] = [
    "create", "start", "exec", "oom", "seccomp", "exit", "fail", "pause", "resume", "update", "kill",
    "delete",
];

impl Wanted {
    fn of(args: &Args, store: &Store) -> Result<Self> {
        let time =
            |option: &str, text: &Option<String>| text.as_deref().map(|t| when::parse(option, t)).transpose();
        let (since, until) = (time("--since", &args.since)?, time("--until", &args.until)?);
        if since.zip(until).is_some_and(|(since, until)| until < since) {
            return Err(Error::bad_input("--until", "is before --since"));
        }
        let mut filters: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for text in &args.filter {
            let shown = shorten(&escape(text), 40);
            let allowed = "allowed: id=NAME, type=create, start, exec, oom, seccomp, exit, fail, pause, resume, update, kill or delete";
            let pair = text.split_once('=').filter(|(key, value)| KEYS.contains(key) && !value.is_empty());
            let Some((key, value)) = pair else {
                return Err(Error::bad_input("--filter", format!("'{shown}' is no filter ({allowed})")));
            };
            let key = match key {
                "container" => "id",
                "event" => "type",
                key => key,
            };
            if key == "type" && !TYPES.contains(&value) {
                return Err(Error::bad_input("--filter", format!("'{shown}': unknown type ({allowed})")));
            }
            filters.entry(key.to_string()).or_default().push(value.to_string());
        }
        if let Some(name) = &args.name {
            // One that is gone may have left events.
            let id = store.find(name).map_or_else(|_| name.clone(), |entry| entry.id.to_string());
            filters.entry("id".to_string()).or_default().push(id);
        }
        Ok(Self { since, until, filters })
    }

    fn fits(&self, event: &Event) -> bool {
        let of = |key: &str| if key == "id" { event.id.as_str() } else { event.kind.as_str() };
        self.since.is_none_or(|since| event.time >= since)
            && self.until.is_none_or(|until| event.time <= until)
            && self.filters.iter().all(|(key, values)| values.iter().any(|value| value == of(key)))
    }
}
