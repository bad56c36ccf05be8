//! Pressure stall triggers: the kernel wakes who waits when processes have been stalled for so long within a window.
//! Source: the kernel's accounting/psi ("Monitoring for pressure thresholds"), Linux 5.2.

use crate::Cgroup;
use crate::limits::bad;
use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write;

/// The resources that pressure is measured of.
pub const RESOURCES: [&str; 3] = ["cpu", "memory", "io"];
/// The kernel's limits of a window, microseconds.
const WINDOW: std::ops::RangeInclusive<u64> = 500_000..=10_000_000;

/// Windows that the kernel gives to everybody are a multiple of this, microseconds.
const UNPRIVILEGED: u64 = 2_000_000;

/// `some:150ms/1s`: a stall of 150 ms, of some processes at the same time or not, within any second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// `cpu`, `memory` or `io`.
    pub resource: String,
    /// Only time in which all processes were stalled, instead of some.
    pub full: bool,
    /// Microseconds of stall.
    pub stall_us: u64,
    /// Within so many microseconds, 0.5 to 10 s.
    pub window_us: u64,
}

impl Trigger {
    /// Parses `[RESOURCE:]some|full:STALL/WINDOW`, such as `memory:some:150ms/1s`; without a resource it is one trigger
    /// for each.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] with what is allowed.
    pub fn parse(text: &str) -> Result<Vec<Self>> {
        let wrong = || {
            bad(
                "trigger",
                text,
                "not a trigger (allowed: [cpu:|memory:|io:]some|full:STALL/WINDOW such as some:150ms/1s)",
            )
        };
        let parts: Vec<&str> = text.split(':').collect();
        let (resources, kind, times) = match parts.as_slice() {
            [kind, times] => (RESOURCES.to_vec(), *kind, *times),
            [resource, kind, times] => {
                let known = RESOURCES.iter().find(|r| *r == resource).ok_or_else(wrong)?;
                (vec![*known], *kind, *times)
            }
            _ => return Err(wrong()),
        };
        let full = match kind {
            "some" => false,
            "full" => true,
            _ => return Err(wrong()),
        };
        let (stall, window) = times.split_once('/').ok_or_else(wrong)?;
        let stall_us = micros(stall).ok_or_else(wrong)?;
        let window_us = micros(window).ok_or_else(wrong)?;
        if !WINDOW.contains(&window_us) {
            return Err(bad("trigger window", window, "out of range (allowed: 500ms to 10s)"));
        }
        if stall_us == 0 || stall_us > window_us {
            return Err(bad(
                "trigger",
                text,
                "with a stall that its window cannot hold (allowed: above 0, up to the window)",
            ));
        }
        let one = |r: &str| Self { resource: r.to_string(), full, stall_us, window_us };
        Ok(resources.into_iter().map(one).collect())
    }

    /// Sets the trigger up, and gives it as it is in force: without CAP_SYS_RESOURCE the kernel wants a window of a multiple
    /// of 2 s (Linux 6.6), so both times are made longer in the same proportion. The file is to be polled for POLLPRI, and
    /// says POLLERR when the cgroup is gone. The trigger ends with the file.
    ///
    /// # Errors
    /// Without pressure files; write(2)'s.
    pub fn open(self, cgroup: &Cgroup) -> Result<(Self, File)> {
        let name = format!("{}.pressure", self.resource);
        let Some(path) = cgroup.with_file(&name) else {
            return Err(Error::failed(name, "not enabled").in_stage("cgroup").hint(
                "pressure needs cgroup v2 and a kernel with CONFIG_PSI (psi=1 at boot), and cgroup.pressure 1",
            ));
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .call(|| format!("open({path:?}, O_RDWR)"))?;
        let mut write = |trigger: &Self| {
            let line = trigger.line();
            file.write_all(format!("{line}\0").as_bytes()).call(|| format!("write({path:?}, {line:?})"))
        };
        let first = write(&self).map_err(|e| e.in_stage("cgroup"));
        match first {
            Ok(()) => Ok((self, file)),
            Err(e)
                if e.errno() == Some(Errno::EINVAL as i32)
                    && !self.window_us.is_multiple_of(UNPRIVILEGED) =>
            {
                let longer = self.unprivileged();
                write(&longer).map_err(|_| e)?;
                Ok((longer, file))
            }
            Err(e) => match e.errno().map(Errno::from_raw) {
                Some(Errno::EOPNOTSUPP | Errno::ENODEV) => Err(e.hint("pressure is switched off here")),
                _ => Err(e),
            },
        }
    }

    fn unprivileged(&self) -> Self {
        let window = self.window_us.next_multiple_of(UNPRIVILEGED);
        // Both are below 10^7.
        let stall = self.stall_us * window / self.window_us.max(1);
        Self { stall_us: stall, window_us: window, ..self.clone() }
    }

    /// As the kernel reads it.
    pub fn line(&self) -> String {
        format!("{} {} {}", if self.full { "full" } else { "some" }, self.stall_us, self.window_us)
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.full { "full" } else { "some" };
        write!(f, "{} {kind} {}/{}", self.resource, time(self.stall_us), time(self.window_us))
    }
}

fn time(us: u64) -> String {
    match us {
        _ if us.is_multiple_of(1_000_000) => format!("{}s", us / 1_000_000),
        _ if us.is_multiple_of(1000) => format!("{}ms", us / 1000),
        _ => format!("{us}us"),
    }
}

/// `150ms`, `1s`, `1.5s`, `500000us`, as microseconds.
pub(crate) fn micros(text: &str) -> Option<u64> {
    let units = [("us", 1.0), ("ms", 1e3), ("s", 1e6)];
    let (number, factor) =
        units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)))?;
    let plain =
        !number.is_empty() && number.len() <= 12 && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let value = number.parse::<f64>().ok().filter(|_| plain)? * factor;
    // At most 12 digits: far below what a f64 holds exactly.
    Some(value.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn triggers() {
        let one = &Trigger::parse("memory:some:150ms/1s").unwrap()[0];
        assert_eq!(
            (one.line().as_str(), one.to_string().as_str()),
            ("some 150000 1000000", "memory some 150ms/1s")
        );
        assert_eq!(one.unprivileged().line(), "some 300000 2000000");
        let all = Trigger::parse("full:0.5s/2s").unwrap();
        assert_eq!(all.iter().map(|t| t.resource.as_str()).collect::<Vec<_>>(), RESOURCES);
        assert_eq!(all[0].line(), "full 500000 2000000");
        for wrong in [
            "",
            "low",
            "some",
            "some:150ms",
            "some:150ms/",
            "some:x/1s",
            "some:150/1s",
            "few:150ms/1s",
            "disk:some:150ms/1s",
            "some:2s/1s",
            "some:0ms/1s",
            "some:1ms/100ms",
            "some:1ms/11s",
            "some:-1ms/1s",
            "some:1e3ms/1s",
            "a:b:c:d",
        ] {
            assert_eq!(Trigger::parse(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }
}
