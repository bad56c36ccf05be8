//! Which of the caller's descriptors go on to the command: `--preserve-fds`, and those of socket activation.
//! Source: sd_listen_fds(3).

use drydock_core::{Error, Result};
use std::path::Path;

/// The descriptors from 3 up that the command gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// How many of them are sockets of $LISTEN_FDS.
    pub listening: u32,
    /// All.
    pub all: u32,
}

impl Passed {
    /// What the caller has given and asked for, checked before anything of ours is opened.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] for one that is not open.
    pub fn find(preserve: u32) -> Result<Self> {
        let number = |key: &str| std::env::var(key).ok().and_then(|text| text.parse::<u32>().ok());
        // Meant for us, not for a parent that has forgotten to take it away.
        let ours = number("LISTEN_PID") == Some(std::process::id());
        let listening = if ours { number("LISTEN_FDS").unwrap_or(0) } else { 0 };
        let all = listening.saturating_add(preserve);
        for n in 3..all.saturating_add(3) {
            if !inherited(n) {
                let option = if n < listening.saturating_add(3) { "$LISTEN_FDS" } else { "--preserve-fds" };
                return Err(Error::bad_input(option, format!("descriptor {n} is not open")));
            }
        }
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

/// Open, and not one of ours: those are all close-on-exec.
pub fn inherited(fd: u32) -> bool {
    let Ok(text) = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")) else { return false };
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & nix::libc::O_CLOEXEC == 0)
}
