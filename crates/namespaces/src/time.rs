//! Clock offsets of a time namespace. Source: time_namespaces(7).
//!
//! unshare(CLONE_NEWTIME) gives the caller's *children* the new namespace; the offsets are written to
//! /proc/self/timens_offsets before the first of them is born (or, since Linux 6.1, before the caller execs), and never
//! again. clone3(CLONE_NEWTIME) enters at once, so it leaves no moment to write them.

use crate::Kind;
use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use nix::errno::Errno;
use nix::sched::CloneFlags;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// The kernel refuses clocks beyond half of its range: 146 years.
const MAX_SECONDS: i64 = i64::MAX / 1_000_000_000 / 2;

/// An amount of time that a clock is moved by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offset {
    /// Seconds, negative to go back.
    #[serde(default)]
    pub secs: i64,
    /// Nanoseconds, 0 to 999999999, always added.
    #[serde(default)]
    pub nanosecs: u32,
}

/// By how much the clocks of the namespace differ from those of the caller. CLOCK_REALTIME cannot be moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offsets {
    /// CLOCK_MONOTONIC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monotonic: Option<Offset>,
    /// CLOCK_BOOTTIME: what uptime shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boottime: Option<Offset>,
}

impl Offsets {
    /// Whether no clock is moved.
    pub fn is_empty(&self) -> bool {
        self.monotonic.is_none() && self.boottime.is_none()
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] for more than 146 years or a second's worth of nanoseconds.
    pub fn validate(&self) -> Result<()> {
        for (name, offset) in [("monotonic", self.monotonic), ("boottime", self.boottime)] {
            let Some(offset) = offset else { continue };
            if offset.secs.unsigned_abs() > MAX_SECONDS.unsigned_abs() || offset.nanosecs > 999_999_999 {
                let problem = format!(
                    "{}.{:09} s is out of range (allowed: -{MAX_SECONDS} to {MAX_SECONDS})",
                    offset.secs, offset.nanosecs
                );
                return Err(Error::bad_input(format!("{name} offset"), problem));
            }
        }
        Ok(())
    }

    /// The lines for /proc/self/timens_offsets.
    pub fn lines(&self) -> String {
        let mut text = String::new();
        for (name, offset) in [("monotonic", self.monotonic), ("boottime", self.boottime)] {
            if let Some(offset) = offset {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{name} {} {}", offset.secs, offset.nanosecs);
            }
        }
        text
    }
}

/// Makes a time namespace for the caller's children (and, since Linux 6.1, for what it execs).
///
/// # Errors
/// unshare(2)'s; EPERM without CAP_SYS_ADMIN; EINVAL before Linux 5.6.
pub fn unshare() -> Result<()> {
    nix::sched::unshare(CloneFlags::from_bits_retain(0x80)).map_err(|e| {
        let error = Error::call("unshare(CLONE_NEWTIME)", e);
        match (e, Kind::Time.require()) {
            (Errno::EINVAL, Err(missing)) => missing,
            _ => error,
        }
    })
}

/// Writes the offsets of the time namespace that the caller has just made for its children; nobody may be in it yet.
///
/// # Errors
/// EACCES once somebody is in it; ERANGE when a clock would leave its range; EPERM without CAP_SYS_TIME in the owning
/// user namespace.
pub fn write_offsets(offsets: &Offsets) -> Result<()> {
    use std::io::Write;
    offsets.validate()?;
    if offsets.is_empty() {
        return Ok(());
    }
    let path = "/proc/self/timens_offsets";
    let mut file =
        std::fs::OpenOptions::new().write(true).open(path).call(|| format!("open({path:?}, O_WRONLY)"))?;
    let text = offsets.lines();
    file.write_all(text.as_bytes()).call(|| format!("write({path:?}, {text:?})")).map_err(|e| {
        match e.errno().map(Errno::from_raw) {
            Some(Errno::ERANGE) => e.because("a clock would become negative or too large"),
            _ => e,
        }
    })
}

/// Whether exec enters the time namespace that was made for children (Linux 6.1). Before, only a fork does.
pub fn exec_enters() -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|n| n.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_ranges() {
        let day = Offset { secs: 86400, nanosecs: 0 };
        let offsets = Offsets { monotonic: None, boottime: Some(day) };
        assert_eq!(offsets.lines(), "boottime 86400 0\n");
        offsets.validate().unwrap();
        let wrong = Offsets { monotonic: Some(Offset { secs: i64::MIN, nanosecs: 0 }), boottime: None };
        assert_eq!(wrong.validate().unwrap_err().exit_code(), 2);
        let wrong = Offsets { monotonic: Some(Offset { secs: 0, nanosecs: 1_000_000_000 }), boottime: None };
        assert_eq!(wrong.validate().unwrap_err().exit_code(), 2);
    }
}
