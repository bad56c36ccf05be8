//! What the kernel's log tells of seccomp filters: the audit records of calls that were refused with a kill or a log.
//! Source: kmsg(4), syslog(2) (CAP_SYSLOG where dmesg_restrict says so), the kernel's audit of type 1326.

use drydock_bundle::Store;
use drydock_bundle::events::Event;
use drydock_security::seccomp::Arch;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

/// The log, from its end on.
#[derive(Debug)]
pub struct Kmsg(File);

/// One refused call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Who called.
    pub pid: i32,
    /// Its short name.
    pub comm: String,
    /// The number of the call.
    pub number: u32,
    /// AUDIT_ARCH_* of the call.
    pub arch: u32,
    /// The signal that it got; 0 if it was only logged.
    pub signal: u32,
}

impl Denial {
    /// The call's name, as far as we know it.
    pub fn syscall(&self) -> String {
        let all = ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64", "SCMP_ARCH_X86", "SCMP_ARCH_ARM"]
            .into_iter()
            .filter_map(|name| Arch::parse(name).ok().flatten());
        let name = all.filter(|arch| arch.audit() == self.arch).find_map(|arch| arch.name(self.number));
        name.map_or_else(|| self.number.to_string(), str::to_string)
    }
}

impl Kmsg {
    /// Opens it at its end; `None` where we may not read it.
    pub fn open() -> Option<Self> {
        use std::io::Seek;
        let mut file = Self::at_the_beginning()?;
        file.0.seek(std::io::SeekFrom::End(0)).ok()?;
        Some(file)
    }

    /// The same from the oldest record that the kernel keeps.
    pub fn at_the_beginning() -> Option<Self> {
        let flags = nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC;
        std::fs::OpenOptions::new().read(true).custom_flags(flags).open("/dev/kmsg").ok().map(Self)
    }

    /// Refused calls since the last look.
    pub fn read(&mut self) -> Vec<Denial> {
        let mut found = Vec::new();
        let mut buffer = [0u8; 8192];
        // Each read gives one record; EPIPE says that some were overwritten, and goes on after them.
        for _ in 0..100_000 {
            match self.0.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => found.extend(parse(&String::from_utf8_lossy(buffer.get(..n).unwrap_or_default()))),
                Err(e) if e.raw_os_error() == Some(nix::libc::EPIPE) => {}
                Err(_) => break,
            }
        }
        found
    }

    /// Those of containers, as events.
    pub fn denials(&mut self, store: &Store) -> Vec<Event> {
        let found = self.read();
        if found.is_empty() {
            return Vec::new();
        }
        let entries = store.entries().unwrap_or_default();
        let of = |denial: &Denial| {
            let cgroup = std::fs::read_to_string(format!("/proc/{}/cgroup", denial.pid)).unwrap_or_default();
            entries.iter().find(|entry| {
                let Ok(state) = &entry.state else { return false };
                let inside = |dir: &std::path::PathBuf| {
                    let dir = dir.to_string_lossy();
                    cgroup
                        .lines()
                        .filter_map(|l| l.splitn(3, ':').nth(2))
                        .any(|path| path.len() > 1 && dir.ends_with(path))
                };
                state.pid == Some(denial.pid) || state.cgroup.iter().any(inside)
            })
        };
        let event = |denial: &Denial| {
            let entry = of(denial)?;
            let action = if denial.signal == 0 { "log" } else { "kill" };
            let event = Event::now("seccomp", entry.id.as_str())
                .with("action", action)
                .with("syscall", denial.syscall())
                .with("pid", denial.pid)
                .with("comm", denial.comm.as_str());
            Some(event)
        };
        found.iter().filter_map(event).collect()
    }
}

impl AsFd for Kmsg {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A record of the kernel's audit about a seccomp filter.
fn parse(record: &str) -> Option<Denial> {
    let (_, text) = record.split_once(';')?;
    let text = text.lines().next()?;
    if !text.contains("type=1326") {
        return None;
    }
    let field = |key: &str| {
        let words = text.split(' ').filter_map(|word| word.split_once('='));
        words.filter(|(k, _)| *k == key).map(|(_, value)| value.trim_matches('"')).next()
    };
    Some(Denial {
        pid: field("pid")?.parse().ok()?,
        comm: drydock_core::text::escape(field("comm").unwrap_or("")),
        number: field("syscall")?.parse().ok()?,
        arch: u32::from_str_radix(field("arch")?, 16).ok()?,
        signal: field("sig").and_then(|s| s.parse().ok()).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records() {
        let text = "5,812,99,-;audit: type=1326 audit(1700.1:3): auid=4294967295 uid=0 gid=0 ses=1 pid=77 comm=\"sh\" exe=\"/bin/sh\" sig=31 arch=c000003e syscall=165 compat=0 ip=0x1 code=0x80000000\n SUBSYSTEM=x\n";
        let denial = parse(text).unwrap();
        assert_eq!((denial.pid, denial.comm.as_str(), denial.signal), (77, "sh", 31));
        assert_eq!(denial.syscall(), "mount");
        for other in ["", "5,1,2,-;hello", "5,1,2,-;audit: type=1326 pid=x", "type=1326"] {
            assert_eq!(parse(other), None);
        }
    }
}
