//! Which of the caller's descriptors go on to the command: `--preserve-fds`, and those of socket activation.
//! Source: sd_listen_fds(3).

use drydock_core::error::CallExt;
use drydock_core::sys::fd::closes_on_exec;
use drydock_core::{Error, Result};
use std::path::Path;

/// The descriptors from 3 up that the command gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// How many of them are sockets of $LISTEN_FDS.
    pub listening: u32,
    /// How many numbers from 3 up they lie among.
    pub all: u32,
}

impl Passed {
    /// What the caller has given and asked for. It may ask for more than there are. In the numbers between, descriptors of
    /// ours may be: they are told from the caller's by their close-on-exec flag.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] for a socket of $LISTEN_FDS that is not open.
    pub fn find(preserve: u32) -> Result<Self> {
        let number = |key: &str| std::env::var(key).ok().and_then(|text| text.parse::<u32>().ok());
        // Meant for us, not for a parent that has forgotten to take it away.
        let ours = number("LISTEN_PID") == Some(std::process::id());
        let listening = if ours { number("LISTEN_FDS").unwrap_or(0) } else { 0 };
        if listening.saturating_add(preserve) == 0 {
            return Ok(Self::default());
        }
        let asked = 3..listening.saturating_add(preserve).saturating_add(3);
        let open: Vec<u32> = inherited()?.into_iter().filter(|n| asked.contains(n)).collect();
        if let Some(n) = (3..listening.saturating_add(3)).find(|n| !open.contains(n)) {
            return Err(Error::bad_input("$LISTEN_FDS", format!("descriptor {n} is not open")));
        }
        let all = open.iter().max().map_or(0, |last| last.saturating_sub(2));
        Ok(Self { listening, all })
    }

    /// The first descriptor that is not passed on.
    pub fn end(self) -> u32 {
        self.all.saturating_add(3)
    }

    /// What the command is told. Every container's own pid is unknown here; runtimes say 1.
    pub fn environment(self) -> Vec<String> {
        if self.listening == 0 {
            return Vec::new();
        }
        let names = std::env::var("LISTEN_FDNAMES").ok().map(|names| format!("LISTEN_FDNAMES={names}"));
        let words = [format!("LISTEN_FDS={}", self.listening), "LISTEN_PID=1".to_string()];
        words.into_iter().chain(names).collect()
    }
}

/// The number of an open descriptor that a path names, as a shell's process substitution does: `/dev/fd/63`.
pub fn named(path: &Path) -> Option<i32> {
    let parent = path.parent()?;
    let lists = ["/dev/fd", "/proc/self/fd"].iter().any(|dir| parent == Path::new(dir));
    path.file_name()?.to_str()?.parse().ok().filter(|fd| lists && *fd > 2)
}

/// What the caller left open for us: all of ours close on exec.
fn inherited() -> Result<Vec<u32>> {
    let listing = std::fs::read_dir("/proc/self/fd").call(|| "open(\"/proc/self/fd\", O_DIRECTORY)")?;
    let numbers = listing.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(numbers.filter(|n| !closes_on_exec(*n)).collect())
}
