//! The processes of a cgroup.

use crate::files;
use drydock_core::Result;
use drydock_core::text::{escape, shorten};
use nix::errno::Errno;
use std::path::Path;

/// The processes in one directory, without those below; those of other pid namespaces (0) are left out. A cgroup that
/// is gone has none.
pub(crate) fn pids_in(dir: &Path) -> Result<Vec<i32>> {
    let text = match files::read(&dir.join("cgroup.procs")) {
        Ok(text) => text,
        Err(e) => match e.errno().map(Errno::from_raw) {
            // Gone, gone while reading, or a threaded cgroup, whose processes its domain lists.
            Some(Errno::ENOENT | Errno::ENODEV | Errno::EOPNOTSUPP) => return Ok(Vec::new()),
            _ => return Err(e),
        },
    };
    Ok(parse(&text))
}

pub(crate) fn parse(text: &str) -> Vec<i32> {
    text.lines().filter_map(|line| line.trim().parse().ok()).filter(|pid| *pid > 0).collect()
}

/// `process 12 (sleep)` or `processes 12 (sleep), 13 (sh) and 5 more`, for error messages.
pub fn describe_pids(pids: &[i32]) -> String {
    const SHOWN: usize = 5;
    let named: Vec<String> = pids.iter().take(SHOWN).map(|pid| format!("{pid}{}", comm(*pid))).collect();
    match (pids.len(), pids.len().saturating_sub(SHOWN)) {
        (0, _) => "no process that this pid namespace shows".to_string(),
        (1, _) => format!("process {}", named.join("")),
        (_, 0) => format!("processes {}", named.join(", ")),
        (_, more) => format!("processes {} and {more} more", named.join(", ")),
    }
}

fn comm(pid: i32) -> String {
    match std::fs::read(format!("/proc/{pid}/comm")) {
        Ok(name) => format!(" ({})", shorten(&escape(String::from_utf8_lossy(&name).trim()), 32)),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn pid_lists() {
        assert_eq!(super::parse("12\n0\nx\n-3\n99999999999\n7"), [12, 7]);
        assert_eq!(super::describe_pids(&[]), "no process that this pid namespace shows");
        assert!(super::describe_pids(&[i32::MAX - 1; 7]).ends_with("and 2 more"));
    }
}
