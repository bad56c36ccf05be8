//! `container inspect`, `stats`, `logs` and `attach`: looking at a container.

use crate::commands::{list, processes, signals};
use drydock_bundle::{Entry, Life, Store};
use drydock_cgroups::Cgroup;
use drydock_cli::Outcome;
use drydock_core::error::CallExt;
use drydock_core::{Error, Journal, Result, size};
use drydock_supervise::log::{Stream, kept_from, read_lines};
use serde_json::{Value, json};
use std::io::{BufReader, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

/// Arguments that name one container.
#[derive(clap::Args, Clone, Debug)]
pub struct OneArgs {
    /// The container
    pub name: String,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `container attach`.
#[derive(clap::Args, Clone, Debug)]
pub struct AttachArgs {
    /// The container
    pub name: String,
}

/// Arguments of `container stats`.
#[derive(clap::Args, Clone, Debug)]
pub struct StatsArgs {
    /// The containers [default: all that run]
    pub names: Vec<String>,
    /// Keep printing, every SECONDS
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub interval: Option<u64>,
    /// Once (the default; for those who are used to it)
    #[arg(long, hide = true)]
    pub no_stream: bool,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `container logs`.
#[derive(clap::Args, Clone, Debug)]
pub struct LogsArgs {
    /// Keep printing until the container ends
    #[arg(short = 'f', long)]
    pub follow: bool,
    /// Each line with its time
    #[arg(short = 't', long)]
    pub timestamps: bool,
    /// Only the last N lines
    #[arg(short = 'n', long, value_name = "N")]
    pub tail: Option<usize>,
    /// The container
    pub name: String,
}

/// Everything known of a container, as JSON: the record, and what the kernel shows now.
///
/// # Errors
/// Unknown container.
pub fn inspect(args: &OneArgs, store: &Store) -> Outcome {
    let entry = store.find(&args.name)?;
    let mut value = list::to_json(&entry);
    let live = signals::running(&entry).ok();
    if let Some(map) = value.as_object_mut() {
        map.insert("directory".into(), json!(entry.dir));
        map.insert("journal".into(), json!(Journal::read(&entry.dir).unwrap_or_default()));
        if let Some((state, _)) = live {
            let pid = state.pid.unwrap_or(0);
            map.insert("namespaces".into(), namespaces(pid));
            map.insert("processes".into(), json!(processes::pids(&entry)?));
            map.insert("security".into(), security(pid));
            if let Ok(group) = Cgroup::at(state.cgroup.iter().cloned()) {
                map.insert("limits".into(), without_max(json!(group.limits())));
            }
        }
    }
    drydock_cli::print_json(&value)?;
    Ok(0)
}

/// No limit is null, as in `stats`; within the program it is the greatest number.
fn without_max(value: Value) -> Value {
    match value {
        Value::Object(map) => map.into_iter().map(|(key, value)| (key, without_max(value))).collect(),
        Value::Number(number) if number.as_u64() == Some(u64::MAX) => Value::Null,
        other => other,
    }
}

fn namespaces(pid: i32) -> Value {
    let names = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
    let read = |name: &&str| {
        let link = std::fs::read_link(format!("/proc/{pid}/ns/{name}")).ok()?;
        Some(((*name).to_string(), json!(link)))
    };
    Value::Object(names.iter().filter_map(read).collect())
}

fn security(pid: i32) -> Value {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let keys =
        ["CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Uid", "Gid", "Groups"];
    let read = |key: &&str| {
        let line = status.lines().find_map(|line| line.strip_prefix(*key)?.strip_prefix(':'))?;
        Some(((*key).to_string(), json!(line.split_whitespace().collect::<Vec<_>>().join(" "))))
    };
    Value::Object(keys.iter().filter_map(read).collect())
}

/// Resources of containers: CPU as a share of one processor over a tenth of a second, memory, processes.
///
/// # Errors
/// Unknown containers, or named ones that do not run.
pub fn stats(args: &StatsArgs, store: &Store) -> Outcome {
    loop {
        let entries: Vec<Entry> = if args.names.is_empty() {
            store
                .entries()?
                .into_iter()
                .filter(|e| matches!(e.life(), Some(Life::Running | Life::Paused)))
                .collect()
        } else {
            args.names.iter().map(|name| store.find(name)).collect::<Result<_>>()?
        };
        let samples = sample(&entries)?;
        if args.json {
            drydock_cli::print_json(&samples)?;
        } else {
            print_stats(&samples)?;
        }
        match args.interval {
            Some(seconds) => std::thread::sleep(Duration::from_secs(seconds)),
            None => return Ok(0),
        }
    }
}

fn sample(entries: &[Entry]) -> Result<Vec<Value>> {
    const WINDOW: Duration = Duration::from_millis(100);
    let groups = entries
        .iter()
        .map(|entry| {
            signals::running(entry)
                .and_then(|(state, _)| Cgroup::at(state.cgroup))
                .map(|group| (entry, group))
        })
        .collect::<Result<Vec<_>>>()?;
    let usage = |group: &Cgroup| group.stats().cpu.usage_us;
    let before: Vec<Option<u64>> = groups.iter().map(|(_, group)| usage(group)).collect();
    let started = std::time::Instant::now();
    std::thread::sleep(WINDOW);
    let rows = groups.iter().zip(before).map(|((entry, group), before)| {
        let stats = group.stats();
        let now = stats.cpu.usage_us;
        let elapsed = started.elapsed().as_micros() as f64;
        let percent =
            before.zip(now).map(|(a, b)| (b.saturating_sub(a) as f64 / elapsed * 1000.0).round() / 10.0);
        json!({ "id": entry.id, "cpu_percent": percent, "stats": stats })
    });
    Ok(rows.collect())
}

fn print_stats(samples: &[Value]) -> Result<()> {
    // A missing controller is "not enabled", never 0.
    let at = |v: &Value, path: &str| v.pointer(path).and_then(Value::as_u64);
    let bytes = |v: &Value, path: &str| at(v, path).map_or("not enabled".to_string(), size::show);
    let limit = |v: &Value, path: &str| {
        at(v, path).map_or("max".to_string(), |n| if n > 1 << 60 { "max".into() } else { size::show(n) })
    };
    let rows: Vec<Vec<String>> = samples
        .iter()
        .map(|v| {
            vec![
                v.get("id").and_then(Value::as_str).unwrap_or("?").to_string(),
                v.get("cpu_percent")
                    .and_then(Value::as_f64)
                    .map_or("not enabled".into(), |p| format!("{p:.1}%")),
                bytes(v, "/stats/memory/current"),
                limit(v, "/stats/memory/max"),
                at(v, "/stats/pids/current").map_or("not enabled".into(), |n| n.to_string()),
                at(v, "/stats/pids/max").map_or("max".into(), |n| n.to_string()),
            ]
        })
        .collect();
    drydock_cli::print_text(&drydock_cli::output::table(
        &["NAME", "CPU", "MEMORY", "LIMIT", "PIDS", "LIMIT"],
        &rows,
    ))
}

/// What a detached container wrote.
///
/// # Errors
/// Unknown container, or one that was run in the foreground.
pub fn logs(args: &LogsArgs, store: &Store) -> Outcome {
    let entry = store.find(&args.name)?;
    let path = entry.dir.join(crate::attach::LOG);
    if !path.exists() && entry.state.as_ref().is_ok_and(|s| !s.detached) {
        let why = "has no log: it was run in the foreground, and its output went to its caller";
        return Err(Error::failed(format!("'{}'", entry.id), why).hint("container run -d").into());
    }
    if !path.exists() {
        return Ok(0);
    }
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
        .open(&path)
        .call(|| format!("open({path:?})"))?;
    let mut offset = kept_from(&file, 0);
    let mut reader = BufReader::new(file);
    reader.seek(SeekFrom::Start(offset)).call(|| "lseek(log)")?;
    let skip = args.tail.map_or(Ok(0), |n| lines_before(&mut reader, n))?;
    let mut seen = 0usize;
    loop {
        // Asked before reading: what is written before the end is still read.
        let over = !matches!(
            store.find(entry.id.as_str()).ok().and_then(|e| e.life()),
            Some(Life::Running | Life::Paused)
        );
        let mut failed = Ok(());
        offset += read_lines(&mut reader, |line| {
            seen += 1;
            if seen > skip && failed.is_ok() {
                failed = print_log_line(&line, args.timestamps);
            }
        })?;
        failed?;
        if over || !args.follow {
            return Ok(0);
        }
        offset = kept_from(reader.get_ref(), offset);
        reader.seek(SeekFrom::Start(offset)).call(|| "lseek(log)")?;
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn lines_before(reader: &mut BufReader<std::fs::File>, tail: usize) -> Result<usize> {
    let mut count = 0usize;
    let begin = reader.stream_position().call(|| "lseek(log)")?;
    read_lines(reader, |_| count += 1)?;
    reader.seek(SeekFrom::Start(begin)).call(|| "lseek(log)")?;
    Ok(count.saturating_sub(tail))
}

fn print_log_line(line: &drydock_supervise::log::Line, timestamps: bool) -> Result<()> {
    let mut bytes = Vec::new();
    if timestamps {
        bytes.extend_from_slice(line.time.as_bytes());
        bytes.push(b' ');
    }
    bytes.extend_from_slice(&line.bytes);
    // A log is what the program wrote, byte for byte, on the stream it was written to.
    let written = match line.stream {
        Stream::Stdout => std::io::stdout().lock().write_all(&bytes),
        Stream::Stderr => std::io::stderr().lock().write_all(&bytes),
    };
    written.call(|| "write(log line)").map_err(|e| e.on("stdout"))
}

/// Shows a detached container's output as it comes, and passes input on.
///
/// # Errors
/// Unknown container, one that does not run, or one that was run in the foreground.
pub fn attach(args: &AttachArgs, store: &Store) -> Outcome {
    let entry = store.find(&args.name)?;
    let (state, pidfd) = signals::running(&entry)?;
    if !state.detached {
        let why = "runs in the foreground: its terminal is its caller's";
        return Err(Error::failed(format!("'{}'", entry.id), why).hint("container exec").into());
    }
    let signals = drydock_supervise::Blocked::all()?;
    crate::attach::client(&entry.dir, &signals, state.terminal)?;
    // Ended, not detached: pass on its exit code.
    let mut fds = [nix::poll::PollFd::new(pidfd.as_fd(), nix::poll::PollFlags::POLLIN)];
    if nix::poll::poll(&mut fds, nix::poll::PollTimeout::ZERO).unwrap_or(0) == 0 {
        return Ok(0);
    }
    store.wait_unowned(&entry.id).or_else(|e| if entry.dir.exists() { Err(e) } else { Ok(()) })?;
    let ended = drydock_bundle::State::read(&entry.dir).ok().and_then(|state| state.ended);
    Ok(ended.map_or(0, drydock_core::exit::Ended::code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_is_null() {
        let limits = json!({ "cpu": { "quota_us": u64::MAX, "period_us": 100_000 }, "pids_max": 5 });
        let shown = json!({ "cpu": { "quota_us": null, "period_us": 100_000 }, "pids_max": 5 });
        assert_eq!(without_max(limits), shown);
    }
}
