//! `state.json`: what is known of one container. Written atomically, read with suspicion.

use drydock_core::error::CallExt;
use drydock_core::exit::Ended;
use drydock_core::{ContainerId, Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Version of the file's format; a reader refuses a newer one.
pub const VERSION: u32 = 1;
/// The file's name in the state directory.
pub const FILE: &str = "state.json";
/// A state is a few KiB; more is not ours.
const MAX_BYTES: u64 = 1 << 20;

/// Where a container is in its life, as written down. Whether a `running` one still runs is asked of the kernel: see
/// [`State::life`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Life {
    /// Its parts are being made.
    Creating,
    /// Everything is made; the command has not been executed.
    Created,
    /// The command runs.
    Running,
    /// All its processes are frozen.
    Paused,
    /// The command has ended.
    Stopped,
}

impl Life {
    /// The word that the OCI runtime specification uses.
    pub fn name(self) -> &'static str {
        match self {
            Life::Creating => "creating",
            Life::Created => "created",
            Life::Running => "running",
            Life::Paused => "paused",
            Life::Stopped => "stopped",
        }
    }
}

/// What the state of a bundle's container says besides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OciState {
    /// The configuration's version of the specification.
    pub version: String,
    /// The bundle's directory, absolute.
    pub bundle: PathBuf,
    /// The configuration's annotations.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Its hooks; those after the start are carried out by later commands.
    #[serde(default)]
    pub hooks: crate::Hooks,
    /// Nobody owns it: whoever called `create` (or `run --detach`) deletes it.
    #[serde(default)]
    pub unattended: bool,
    /// An engine waits for its process: it was given a pid file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub awaited: bool,
    /// The namespaces that it has joined by a path, by their kinds' names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub joined: Vec<(String, PathBuf)>,
}

/// One container's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// [`VERSION`].
    pub version: u32,
    /// Its name.
    pub id: ContainerId,
    /// As last written.
    pub status: Life,
    /// Host pid of its first process.
    pub pid: Option<i32>,
    /// That process's start time in clock ticks since boot (/proc/PID/stat field 22), which tells it from a later one.
    pub start_time: Option<u64>,
    /// When it was created: seconds since the epoch.
    pub created: u64,
    /// And nanoseconds.
    #[serde(default)]
    pub created_nanos: u32,
    /// The process that looks after it, and that one's start time; `None`: nobody stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<(i32, u64)>,
    /// When it ended: seconds since the epoch.
    pub finished: Option<u64>,
    /// How its command ended.
    pub ended: Option<Ended>,
    /// Whether the kernel killed one of its processes for want of memory.
    #[serde(default)]
    pub oom_killed: bool,
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Its root file system: a directory, or the lower layer of its overlay.
    pub rootfs: PathBuf,
    /// Host name inside.
    pub hostname: Option<String>,
    /// Its cgroup's absolute directories, one for each hierarchy.
    #[serde(default)]
    pub cgroup: Vec<PathBuf>,
    /// `none`, `host`, `bridge`, `ns:PATH`.
    pub network: String,
    /// Its address on the bridge, with prefix length.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Published ports as asked.
    #[serde(default)]
    pub ports: Vec<String>,
    /// The network it is attached to, if any.
    #[serde(default)]
    pub network_name: Option<String>,
    /// Its supervisor keeps logs (`run -d`).
    #[serde(default)]
    pub detached: bool,
    /// It has a terminal (`-t`).
    #[serde(default)]
    pub terminal: bool,
    /// It is removed when it ends.
    #[serde(default)]
    pub remove: bool,
    /// The signal that asks it to stop, and the seconds until SIGKILL.
    #[serde(default = "default_stop")]
    pub stop: (i32, u64),
    /// Labels (`project`, `service` of `container up`).
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What it could not have on this machine.
    #[serde(default)]
    pub lacking: Vec<String>,
    /// Why it never ran, if it failed.
    #[serde(default)]
    pub error: Option<String>,
    /// Of a bundle's container; `None` for one of `run` with options.
    #[serde(default)]
    pub oci: Option<OciState>,
}

fn default_stop() -> (i32, u64) {
    (nix::libc::SIGTERM, 10)
}

impl State {
    /// Writes the state: a temporary file in the same directory, then rename(2), so that a reader sees the old one or
    /// the new one.
    ///
    /// # Errors
    /// open, write and rename errors, naming the path.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let bytes = serde_json::to_vec(self).map_err(|e| Error::failed("state", e.to_string()))?;
        write_atomically(dir, FILE, &bytes)
    }

    /// Reads the state of the directory `dir`.
    ///
    /// # Errors
    /// [`Error`] saying `corrupt: …` for anything but a regular file of ours, of at most 1 MiB, with this format.
    pub fn read(dir: &Path) -> Result<Self> {
        let bytes = read_bounded(&dir.join(FILE), MAX_BYTES)?;
        let corrupt =
            |why: String| Error::failed(dir.join(FILE).display().to_string(), format!("corrupt: {why}"));
        let state: Self = serde_json::from_slice(&bytes).map_err(|e| corrupt(e.to_string()))?;
        if state.version > VERSION {
            return Err(corrupt(format!("version {} (this program reads up to {VERSION})", state.version)));
        }
        Ok(state)
    }

    /// Where the container is now: what was written, corrected by what the kernel says of its process and cgroup.
    pub fn life(&self) -> Life {
        match self.status {
            Life::Stopped => Life::Stopped,
            Life::Creating => Life::Creating,
            _ if !self.alive() => Life::Stopped,
            // Never written: whoever freezes and thaws the cgroup, what the kernel says is so.
            _ if self.frozen() => Life::Paused,
            written => written,
        }
    }

    /// Whether the freezer of its cgroup holds its processes (freezer.state of v1, cgroup.events of v2).
    fn frozen(&self) -> bool {
        let says = |dir: &Path, file: &str, line: &str| {
            std::fs::read_to_string(dir.join(file)).is_ok_and(|text| text.lines().any(|l| l == line))
        };
        self.cgroup
            .iter()
            .any(|dir| says(dir, "freezer.state", "FROZEN") || says(dir, "cgroup.events", "frozen 1"))
    }

    /// Does its first process still exist (and is it no later process with the same pid)?
    pub fn alive(&self) -> bool {
        match (self.pid, self.start_time) {
            (Some(pid), Some(start)) => start_time(pid) == Some(start),
            _ => false,
        }
    }
}

/// The start time of a live process: field 22 of /proc/PID/stat. `None` when it is gone or a zombie.
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command may contain spaces and parentheses: fields are counted after the last one.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let life = fields.next()?;
    if matches!(life, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Writes `dir/name` (0600) so that it is there whole or not at all.
///
/// # Errors
/// The failing call with its path.
pub fn write_atomically(dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let temporary = dir.join(format!(".{name}.{}", std::process::id()));
    let path = dir.join(name);
    let point = |when: &str| drydock_core::failpoint::pass(|| format!("state-{name}-{when}"));
    point("begins");
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC)
        .open(&temporary)
        .and_then(|mut file| file.write_all(bytes))
        .call(|| format!("write({temporary:?})"))
        .and_then(|()| {
            point("written");
            drydock_core::replace(&temporary, &path).call(|| format!("rename({temporary:?}, {path:?})"))
        });
    if written.is_err() {
        // Nothing to say if it was never made.
        let _ = std::fs::remove_file(&temporary);
    }
    point("ends");
    written
}

/// Reads a regular file of ours: not through a link, not a FIFO, not another user's, not larger than `max`.
///
/// # Errors
/// The failing call, or what is wrong with the file.
pub fn read_bounded(path: &Path, max: u64) -> Result<Vec<u8>> {
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC;
    let file =
        OpenOptions::new().read(true).custom_flags(flags).open(path).call(|| format!("open({path:?})"))?;
    let meta = file.metadata().call(|| format!("fstat({path:?})"))?;
    let wrong = |why: &str| Error::failed(path.display().to_string(), format!("corrupt: {why}"));
    if !meta.is_file() {
        return Err(wrong("not a regular file"));
    }
    if meta.uid() != nix::unistd::geteuid().as_raw() {
        return Err(wrong("belongs to another user"));
    }
    if meta.len() > max {
        return Err(wrong("too large"));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or_default() + 1);
    file.take(max).read_to_end(&mut bytes).call(|| format!("read({path:?})"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> State {
        State {
            version: VERSION,
            id: ContainerId::parse("a").unwrap(),
            status: Life::Running,
            pid: Some(std::process::id().cast_signed()),
            start_time: start_time(std::process::id().cast_signed()),
            created: 1,
            created_nanos: 5,
            owner: None,
            finished: None,
            ended: None,
            oom_killed: false,
            command: vec!["true".into()],
            rootfs: "/x".into(),
            hostname: None,
            cgroup: vec![],
            network: "none".into(),
            addresses: vec![],
            ports: vec![],
            network_name: None,
            detached: false,
            terminal: false,
            remove: false,
            stop: default_stop(),
            labels: BTreeMap::new(),
            lacking: vec![],
            error: None,
            oci: None,
        }
    }

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("drydock-state-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn round_trip_and_liveness() {
        let dir = scratch("rt");
        sample().write(&dir).unwrap();
        let mut read = State::read(&dir).unwrap();
        assert_eq!(read, sample());
        assert_eq!(read.life(), Life::Running);
        read.start_time = Some(1);
        assert_eq!(read.life(), Life::Stopped, "another process with the same pid is not ours");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn every_truncation_is_refused_and_nothing_hangs() {
        let dir = scratch("cut");
        let whole = serde_json::to_vec(&sample()).unwrap();
        for n in 0..whole.len() {
            std::fs::write(dir.join(FILE), &whole[..n]).unwrap();
            assert!(State::read(&dir).is_err(), "{n}");
        }
        std::fs::remove_file(dir.join(FILE)).unwrap();
        nix::unistd::mkfifo(&dir.join(FILE), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(State::read(&dir).unwrap_err().to_string().contains("not a regular file"));
        std::fs::remove_dir_all(dir).unwrap();
    }
}
