//! What has happened to containers: lines of JSON in one file of the state root, written by whoever did it. No daemon.
//!
//! Each line is one write(2) with O_APPEND, so that lines of several writers never mix. The file is bounded: when it is
//! full it becomes `@events.old`, and a new one begins.

use drydock_core::error::CallExt;
use drydock_core::{ContainerId, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The file's name in the state root; no container can be called so.
pub const FILE: &str = "@events";
/// The older half.
pub const OLD: &str = "@events.old";
/// The file is full then.
const MAX_BYTES: u64 = 1 << 20;
/// A line is cut to a fact or two rather than be longer.
const MAX_LINE: usize = 4000;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Seconds since the epoch.
    pub time: f64,
    /// `create`, `start`, `exec`, `oom`, `seccomp`, `exit`, `fail`, `pause`, `resume`, `update`, `kill`, `delete`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The container.
    pub id: String,
    /// What is known besides.
    #[serde(default, flatten)]
    pub more: Map<String, Value>,
}

impl Event {
    /// Of now.
    pub fn now(kind: &str, id: &str) -> Self {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |t| t.as_secs_f64());
        // Milliseconds are enough, and shorter.
        let time = (time * 1000.0).round() / 1000.0;
        Self { time, kind: kind.to_string(), id: id.to_string(), more: Map::new() }
    }

    /// With a fact.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.more.insert(key.to_string(), value.into());
        self
    }
}

/// Writes an event down. Nothing depends on it: what cannot be written is left out.
pub fn note(root: &Path, event: &Event) {
    // An event that cannot be told must not fail what it tells of.
    let _ = append(root, event);
}

fn append(root: &Path, event: &Event) -> Result<()> {
    let mut event = event.clone();
    let mut line = serde_json::to_string(&event).unwrap_or_default();
    while line.len() > MAX_LINE && !event.more.is_empty() {
        let longest = event.more.iter().max_by_key(|(_, v)| v.to_string().len()).map(|(k, _)| k.clone());
        event.more.remove(&longest.unwrap_or_default());
        line = serde_json::to_string(&event).unwrap_or_default();
    }
    line.push('\n');
    let path = root.join(FILE);
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC;
    let open = || {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600).custom_flags(flags);
        options.open(&path).call(|| format!("open({path:?}, O_APPEND|O_CREAT)"))
    };
    let mut file = open()?;
    let meta = file.metadata().call(|| "fstat(events)")?;
    if !meta.is_file() {
        return Ok(());
    }
    if meta.len() > MAX_BYTES {
        let old = root.join(OLD);
        std::fs::rename(&path, &old).call(|| format!("rename({path:?}, {old:?})"))?;
        file = open()?;
    }
    file.write_all(line.as_bytes()).call(|| "write(events)")
}

/// What a file of events says, oldest first, and the numbers of lines that make no sense.
pub type Told = (Vec<Event>, Vec<usize>);

/// All events that are kept.
pub fn all(root: &Path) -> Told {
    let (mut events, mut bad) = parse(&read(&root.join(OLD), 0).unwrap_or_default());
    let (more, more_bad) = parse(&read(&root.join(FILE), 0).unwrap_or_default());
    events.extend(more);
    bad.extend(more_bad);
    (events, bad)
}

/// The last event of a container for which `wanted` holds.
pub fn last(root: &Path, id: &ContainerId, wanted: impl Fn(&Event) -> bool) -> Option<Event> {
    all(root).0.into_iter().rev().find(|e| e.id == id.as_str() && wanted(e))
}

/// A file of ours from `from` on: not through a link, not another user's, bounded.
fn read(path: &Path, from: u64) -> Option<Vec<u8>> {
    use std::io::Seek;
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC;
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    let meta = file.metadata().ok()?;
    if !meta.is_file() || meta.uid() != nix::unistd::geteuid().as_raw() {
        return None;
    }
    file.seek(std::io::SeekFrom::Start(from)).ok()?;
    let mut bytes = Vec::new();
    file.take(4 * MAX_BYTES).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Lines as events.
fn parse(bytes: &[u8]) -> Told {
    let (mut events, mut bad) = (Vec::new(), Vec::new());
    for (n, line) in bytes.split(|b| *b == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
        match serde_json::from_slice(line) {
            Ok(event) => events.push(event),
            Err(_) => bad.push(n + 1),
        }
    }
    (events, bad)
}

/// Reads what is written from now on.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    at: u64,
    inode: u64,
}

impl Follower {
    /// From the present end of the file.
    pub fn new(root: &Path) -> Self {
        let path = root.join(FILE);
        let meta = std::fs::symlink_metadata(&path).ok();
        Self { at: meta.as_ref().map_or(0, |m| m.len()), inode: meta.map_or(0, |m| m.ino()), path }
    }

    /// What is new. A line that is not whole yet is read the next time.
    pub fn new_events(&mut self) -> Told {
        let meta = std::fs::symlink_metadata(&self.path).ok();
        let inode = meta.map_or(0, |m| m.ino());
        let mut told = (Vec::new(), Vec::new());
        if inode != self.inode {
            // It was full: the rest of it is in the old one.
            let rest = if self.inode == 0 { None } else { read(&self.path.with_file_name(OLD), self.at) };
            told = parse(&rest.unwrap_or_default());
            (self.inode, self.at) = (inode, 0);
        }
        let bytes = read(&self.path, self.at).unwrap_or_default();
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
        self.at += whole as u64;
        let (events, bad) = parse(bytes.get(..whole).unwrap_or_default());
        told.0.extend(events);
        told.1.extend(bad);
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_read_followed_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let mut follower = Follower::new(dir.path());
        note(dir.path(), &Event::now("create", "a").with("pid", 7));
        std::fs::OpenOptions::new()
            .append(true)
            .open(dir.path().join(FILE))
            .unwrap()
            .write_all(b"rubbish\n")
            .unwrap();
        note(dir.path(), &Event::now("exit", "a").with("code", 1).with("long", "x".repeat(10_000)));
        let (events, bad) = all(dir.path());
        assert_eq!(events.iter().map(|e| e.kind.as_str()).collect::<Vec<_>>(), ["create", "exit"]);
        assert_eq!((bad, events[0].more["pid"].as_u64()), (vec![2], Some(7)));
        assert_eq!(
            (events[1].more.get("long"), events[1].more["code"].as_u64()),
            (None, Some(1)),
            "too long a line"
        );
        assert_eq!(follower.new_events().0.len(), 2);
        assert_eq!(follower.new_events().0.len(), 0);
        let id: ContainerId = ContainerId::parse("a").unwrap();
        assert_eq!(last(dir.path(), &id, |e| e.kind == "exit").unwrap().more["code"].as_u64(), Some(1));
        for n in 0..600 {
            note(dir.path(), &Event::now("exec", "b").with("command", "y".repeat(3000)).with("n", n));
        }
        let size = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().len();
        assert!(size(FILE) <= MAX_BYTES + 4096 && size(OLD) <= MAX_BYTES + 4096, "{}", size(FILE));
        let seen = follower.new_events().0;
        assert_eq!(seen.len(), 600, "none is lost when the file changes");
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), dir.path().join(FILE)).unwrap();
        note(dir.path(), &Event::now("create", "a"));
        assert!(!dir.path().join("elsewhere").exists());
        assert_eq!(all(dir.path()).0, []);
    }
}
