//! Exit codes, the same in every tool: 0; the command's own; 128+n when signal n ended it; and those below.

/// A hook that is called afterwards failed (a check that found something has this code, too).
pub const HOOK: u8 = 1;
/// The command line, a file given on it or a name in it is wrong; nothing was touched.
pub const USAGE: u8 = 2;
/// The tool itself failed.
pub const FAILED: u8 = 125;
/// The command was found but cannot be executed.
pub const CANNOT_EXECUTE: u8 = 126;
/// The command was not found.
pub const NOT_FOUND: u8 = 127;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// It exited with this code.
    Exited(u8),
    /// This signal ended it (numbers, so that real-time signals fit too).
    Signaled(u8),
}

impl Ended {
    /// The exit code that a tool passes on: the command's own, or 128+n.
    pub fn code(self) -> u8 {
        match self {
            Ended::Exited(code) => code,
            Ended::Signaled(signal) => signal.saturating_add(128),
        }
    }
}
