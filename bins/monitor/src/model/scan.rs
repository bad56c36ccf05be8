//! Which namespaces every process, thread and descriptor is in: one pass over /proc with as few calls as can be.
//!
//! For a process: open its directory, read the ten links, list its descriptors, ask how many threads there are.
//! Threads are read only where there is more than one. Work is shared among the processors.

use crate::procfs::{Device, Proc, identity, is_gone, nslink, numbers};
use drydock_core::Result;
use drydock_namespaces::Kind;
use rustix::fs::{AtFlags, Mode, OFlags, openat, readlinkat_raw, statat};
use rustix::io::Errno;
use std::ffi::CStr;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, BorrowedFd};

/// The links of `/proc/PID/ns`: name, type, whether it is the process's own (or the one for its children).
pub const LINKS: [(&CStr, Kind, bool); 10] = [
    (c"cgroup", Kind::Cgroup, true),
    (c"ipc", Kind::Ipc, true),
    (c"mnt", Kind::Mount, true),
    (c"net", Kind::Network, true),
    (c"pid", Kind::Pid, true),
    (c"pid_for_children", Kind::Pid, false),
    (c"time", Kind::Time, true),
    (c"time_for_children", Kind::Time, false),
    (c"user", Kind::User, true),
    (c"uts", Kind::Uts, true),
];

/// The inode numbers behind [`LINKS`]; `None` where there is none (a zombie has few, `pid_for_children` comes with
/// the first child).
pub type Links = [Option<NonZeroU64>; LINKS.len()];

/// A namespace: its type and inode number. All are on one nsfs, so the device number adds nothing here.
pub type Id = (Kind, u64);

/// One process.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its namespaces.
    pub links: Links,
    /// Threads whose namespaces differ from the main thread's.
    pub threads: Vec<(u32, Links)>,
    /// Descriptors open on namespaces.
    pub fds: Vec<(u32, Id)>,
    /// Its descriptors could not be listed.
    pub fds_unreadable: bool,
}

impl Process {
    /// The namespace of type `kind` that the process is in.
    pub fn namespace(&self, kind: Kind) -> Option<u64> {
        own(&self.links, kind)
    }
}

/// The namespace of type `kind` among links.
pub fn own(links: &Links, kind: Kind) -> Option<u64> {
    LINKS
        .iter()
        .zip(links)
        .find(|((_, k, own), _)| *own && *k == kind)
        .and_then(|(_, ino)| ino.map(NonZeroU64::get))
}

/// What a pass over /proc found.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// Readable processes, by pid.
    pub processes: Vec<Process>,
    /// Processes whose namespaces are closed to us.
    pub unreadable: Vec<u32>,
    /// Processes whose descriptors are closed to us (they may hold namespaces that we cannot see).
    pub fds_unreadable: usize,
}

/// How deep to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Processes only.
    Processes,
    /// Also each thread, and each open descriptor.
    Everything,
}

/// Reads every process.
///
/// # Errors
/// Only when /proc itself cannot be listed.
pub fn scan(proc: &Proc, depth: Depth) -> Result<Scan> {
    let pids = proc.pids()?;
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    // A thread costs more than it saves for a few processes.
    let parts = if pids.len() < 64 { 1 } else { workers };
    // Every n-th process for each: kernel threads, which are quick to read, have the low numbers.
    let pids = pids.as_slice();
    let part = move |n: usize| scan_some(proc, pids.iter().skip(n).step_by(parts), depth);
    let results: Vec<Scan> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..parts).map(|n| scope.spawn(move || part(n))).collect();
        let first = part(0);
        std::iter::once(first).chain(others.into_iter().filter_map(|t| t.join().ok())).collect()
    });
    let mut all = Scan::default();
    for part in results {
        all.processes.extend(part.processes);
        all.unreadable.extend(part.unreadable);
        all.fds_unreadable += part.fds_unreadable;
    }
    all.processes.sort_by_key(|p| p.pid);
    all.unreadable.sort_unstable();
    Ok(all)
}

fn scan_some<'a>(proc: &Proc, pids: impl Iterator<Item = &'a u32>, depth: Depth) -> Scan {
    let mut scan = Scan::default();
    for pid in pids {
        match read_process(proc, *pid, depth) {
            Ok(Some(process)) => {
                scan.fds_unreadable += usize::from(process.fds_unreadable);
                scan.processes.push(process);
            }
            Ok(None) => {}
            Err(error) if is_gone(&error) => {}
            Err(_) => scan.unreadable.push(*pid),
        }
    }
    scan
}

/// Reads one process; `None` when it went away.
///
/// # Errors
/// EACCES or EPERM when its namespaces are closed to us (ptrace(2), access mode checking).
pub fn read_process(proc: &Proc, pid: u32, depth: Depth) -> std::io::Result<Option<Process>> {
    let mut process = Process { pid, ..Process::default() };
    let dir = proc.directory(&pid.to_string(), false)?;
    let ns = openat(&dir, c"ns", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    process.links = read_links(ns.as_fd())?;
    if process.links.iter().all(Option::is_none) {
        return Ok(None);
    }
    if depth == Depth::Everything {
        process.threads = read_threads(dir.as_fd(), pid, &process.links);
        match read_fds(dir.as_fd(), proc.nsfs()) {
            Ok(fds) => process.fds = fds,
            Err(error) => process.fds_unreadable = !is_gone(&error),
        }
    }
    Ok(Some(process))
}

fn read_links(ns: BorrowedFd<'_>) -> std::io::Result<Links> {
    let mut links = Links::default();
    for ((name, _, own), slot) in LINKS.iter().zip(&mut links) {
        match read_link(ns, name) {
            Ok(found) => *slot = found.and_then(|(_, inode)| NonZeroU64::new(inode)),
            // The kernel lacks the type, the process is a zombie, or it has no child yet.
            Err(Errno::NOENT | Errno::SRCH) => {}
            // pid_for_children answers so between unshare and the first fork.
            Err(_) if !*own => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(links)
}

/// The type with this name in a link.
pub fn kind_named(name: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| kind.proc_name() == name)
}

/// Reads a link and keeps it if it is a namespace.
fn read_link(dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<Option<Id>> {
    let mut buffer = [0u8; 64];
    let length = readlinkat_raw(dir, name, &mut buffer[..])?;
    let text = buffer.get(..length).and_then(|b| std::str::from_utf8(b).ok());
    Ok(text.and_then(nslink::parse).and_then(|(kind, inode)| Some((kind_named(kind)?, inode))))
}

/// Threads that left their process's namespaces (unshare(2) and setns(2) act on one thread).
fn read_threads(dir: BorrowedFd<'_>, pid: u32, main: &Links) -> Vec<(u32, Links)> {
    // The link count of the directory is two more than the number of threads: cheaper than listing it.
    if statat(dir, c"task", AtFlags::empty()).is_ok_and(|s| s.st_nlink <= 3) {
        return Vec::new();
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(task) = openat(dir, c"task", flags, Mode::empty()) else { return Vec::new() };
    let tids = numbers(task.as_fd()).unwrap_or_default();
    let read = |tid: u32| {
        let ns = openat(&task, format!("{tid}/ns"), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
        Some((tid, read_links(ns.as_fd()).ok()?))
    };
    let others = tids.into_iter().filter(|tid| *tid != pid).filter_map(read);
    others.filter(|(_, links)| links != main).collect()
}

fn read_fds(dir: BorrowedFd<'_>, nsfs: Option<Device>) -> std::io::Result<Vec<(u32, Id)>> {
    let fd = openat(dir, c"fd", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut found = Vec::new();
    let mut name = itoa::Digits::default();
    for number in numbers(fd.as_fd())? {
        if let Some(id) = namespace_behind(fd.as_fd(), name.of(number), nsfs) {
            found.push((number, id));
        }
    }
    Ok(found)
}

/// The namespace that a descriptor is open on. Its link says `net:[…]` when it was opened through /proc, but shows a
/// path when it was opened through a bind mount: so what it leads to is looked at.
fn namespace_behind(dir: BorrowedFd<'_>, name: &CStr, nsfs: Option<Device>) -> Option<Id> {
    let inode = match identity(dir, name) {
        Ok((device, inode)) if nsfs.is_none_or(|nsfs| nsfs == device) => inode,
        Ok(_) => return None,
        Err(_) => return read_link(dir, name).ok()?,
    };
    if let Some(id) = read_link(dir, name).ok()? {
        return Some(id);
    }
    let file = openat(dir, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let file = super::relations::reopen(file)?;
    Some((super::relations::kind_of(&file)?, inode))
}

/// Numbers as C strings without an allocation each.
mod itoa {
    use std::ffi::CStr;

    #[derive(Default)]
    pub struct Digits([u8; 11]);

    impl Digits {
        /// The number in decimal.
        pub fn of(&mut self, mut number: u32) -> &CStr {
            let mut at = self.0.len() - 1;
            while at > 0 {
                at -= 1;
                if let Some(digit) = self.0.get_mut(at) {
                    *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
                }
                number /= 10;
                if number == 0 {
                    break;
                }
            }
            self.0.get(at..).and_then(|b| CStr::from_bytes_until_nul(b).ok()).unwrap_or_default()
        }
    }

    #[test]
    fn digits() {
        for n in [0, 7, 10, 4_294_967_295] {
            assert_eq!(Digits::default().of(n).to_str().unwrap(), n.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn fixture(name: &str) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("drydock-scan-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        for pid in ["7", "8", "9"] {
            std::fs::create_dir_all(dir.join(pid).join("ns")).unwrap();
            std::fs::create_dir_all(dir.join(pid).join("fd")).unwrap();
            std::fs::create_dir_all(dir.join(pid).join("task")).unwrap();
        }
        std::fs::create_dir_all(dir.join("sys")).unwrap();
        for (pid, link, text) in [
            ("7", "ns/net", "net:[11]"),
            ("7", "ns/pid_for_children", "pid:[12]"),
            ("7", "fd/3", "mnt:[13]"),
            ("7", "fd/4", "socket:[14]"),
            ("7", "fd/5", "/tmp/net:[15]"),
            ("8", "ns/net", "garbage"),
            ("8", "ns/uts", "uts:[16]"),
        ] {
            symlink(text, dir.join(pid).join(link)).unwrap();
        }
        dir
    }

    #[test]
    fn reads_a_fixture() {
        let dir = fixture("reads");
        let proc = Proc::unverified(&dir).unwrap();
        let found = scan(&proc, Depth::Everything).unwrap();
        // 9 has nothing at all: it is as if it had ended.
        assert_eq!(found.processes.iter().map(|p| p.pid).collect::<Vec<_>>(), [7, 8]);
        assert_eq!(found.processes[0].namespace(Kind::Network), Some(11));
        assert_eq!(found.processes[0].namespace(Kind::Pid), None);
        assert_eq!(found.processes[0].fds, [(3, (Kind::Mount, 13))]);
        assert_eq!(
            (found.processes[1].namespace(Kind::Network), found.processes[1].namespace(Kind::Uts)),
            (None, Some(16))
        );
        assert!(found.unreadable.is_empty());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_directory_that_is_not_procfs_is_refused() {
        let error = Proc::open(&std::env::temp_dir()).unwrap_err();
        assert!(error.to_string().contains("not a proc file system"), "{error}");
    }
}
