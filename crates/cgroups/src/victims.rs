//! Who was killed for want of memory, by the kernel's own log. Source: mm/oom_kill.c (`oom-kill:` lines), dev-kmsg.

use nix::errno::Errno;
use serde::Serialize;
use std::fs::File;

/// Processes that the OOM killer took in this cgroup, by the kernel's log; empty where that cannot be read.
#[derive(Debug)]
pub struct Victims {
    log: Option<File>,
}

/// A process that the OOM killer took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Victim {
    /// In the kernel's own pid namespace.
    pub pid: i32,
    /// Its name.
    pub name: String,
    /// Its cgroup, from the root of the hierarchy.
    pub cgroup: String,
}

impl Victims {
    /// From now on. The log may be closed to us: then nobody is named.
    pub fn from_now() -> Self {
        use rustix::fs::{Mode, OFlags, SeekFrom, open, seek};
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let log = open("/dev/kmsg", flags, Mode::empty()).ok();
        Self { log: log.filter(|fd| seek(fd, SeekFrom::End(0)).is_ok()).map(File::from) }
    }

    /// Those since the last call, in cgroups whose path ends in this name or is below it.
    pub fn take(&mut self, name: &str) -> Vec<Victim> {
        let mut found = Vec::new();
        let Some(log) = &self.log else { return found };
        let mut record = [0u8; 8192];
        // EPIPE: records were overwritten before we came; the next read goes on.
        for _ in 0..100_000 {
            match nix::unistd::read(log, &mut record) {
                Ok(0) | Err(Errno::EAGAIN) => break,
                Ok(read) => {
                    let text = String::from_utf8_lossy(record.get(..read).unwrap_or_default());
                    found.extend(victim(&text).filter(|v| belongs(&v.cgroup, name)));
                }
                Err(Errno::EPIPE | Errno::EINTR) => {}
                Err(_) => break,
            }
        }
        found
    }
}

/// `6,1234,5678,-;oom-kill:constraint=CONSTRAINT_MEMCG,…,task_memcg=/a,task=tail,pid=12,uid=0`.
fn victim(record: &str) -> Option<Victim> {
    let (_, text) = record.split_once(';')?;
    let fields = text.lines().next()?.strip_prefix("oom-kill:")?;
    // A cgroup's and a process's name may hold commas: the fields around them are looked for.
    let (_, rest) = fields.split_once(",task_memcg=")?;
    let (cgroup, rest) = rest.rsplit_once(",task=")?;
    let (name, rest) = rest.rsplit_once(",pid=")?;
    let pid = rest.split(',').next()?.parse().ok()?;
    Some(Victim { pid, name: name.to_string(), cgroup: cgroup.to_string() })
}

fn belongs(path: &str, name: &str) -> bool {
    path.split('/').collect::<Vec<_>>().windows(name.split('/').count()).any(|w| w.join("/") == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_log_names_victims() {
        let record = "6,1000,5555,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,\
oom_memcg=/a/demo,task_memcg=/a/demo/x,task=ta,il,pid=412,uid=0\n SUBSYSTEM=x\n";
        let found = victim(record).unwrap();
        assert_eq!((found.pid, found.name.as_str(), found.cgroup.as_str()), (412, "ta,il", "/a/demo/x"));
        assert!(
            belongs(&found.cgroup, "demo")
                && belongs(&found.cgroup, "a/demo")
                && !belongs(&found.cgroup, "dem")
        );
        for other in
            ["", "6,1,2,-;", "6,1,2,-;oom-kill:x", "6,1,2,-;Out of memory: Killed process 1", "oom-kill:"]
        {
            assert_eq!(victim(other), None);
        }
    }
}
