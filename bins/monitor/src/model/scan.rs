//! Which namespaces every process, thread and descriptor is in: one pass over /proc with as few calls as can be.
//!
//! For a process: open its `ns` directory, read the ten links, list its descriptors, ask how many threads there are.
//! Threads are read only where there is more than one. Work is shared among the processors.

use super::digits::{Digits, PidPath};
use super::sockets;
use crate::procfs::{Proc, identity, is_gone, nslink, numbers, numbers_of_proc};
use drydock_core::Result;
use drydock_namespaces::Kind;
use rustix::fs::{AtFlags, Mode, OFlags, openat, readlinkat_raw, statat};
use rustix::io::Errno;
use std::collections::BTreeMap;
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
    /// Sockets that are in another network namespace than the process: descriptor and inode number of the namespace.
    pub sockets: Vec<(u32, u64)>,
    /// Its descriptors could not be listed.
    pub fds_unreadable: bool,
    /// Sockets whose network namespace could not be asked.
    pub sockets_unreadable: usize,
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
    /// Sockets whose network namespace could not be asked.
    pub sockets_unreadable: usize,
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
        all.sockets_unreadable += part.sockets_unreadable;
    }
    all.processes.sort_by_key(|p| p.pid);
    all.unreadable.sort_unstable();
    Ok(all)
}

fn scan_some<'a>(proc: &Proc, pids: impl Iterator<Item = &'a u32>, depth: Depth) -> Scan {
    let mut scan = Scan::default();
    // A socket that many processes have inherited is asked once.
    let mut asked = BTreeMap::new();
    for pid in pids {
        match read_with(proc, *pid, depth, &mut asked) {
            Ok(Some(process)) => {
                scan.fds_unreadable += usize::from(process.fds_unreadable);
                scan.sockets_unreadable += process.sockets_unreadable;
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
    read_with(proc, pid, depth, &mut BTreeMap::new())
}

/// Network namespaces of sockets by the sockets' inode numbers; `None` for one that could not be asked.
type Asked = BTreeMap<u64, Option<u64>>;

fn read_with(proc: &Proc, pid: u32, depth: Depth, asked: &mut Asked) -> std::io::Result<Option<Process>> {
    let mut process = Process { pid, ..Process::default() };
    let mut path = PidPath::new(pid);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let ns = openat(proc.root(), path.to("/ns"), flags, Mode::empty())?;
    process.links = read_links(ns.as_fd())?;
    drop(ns);
    if process.links.iter().all(Option::is_none) {
        return Ok(None);
    }
    if depth == Depth::Everything {
        process.threads = read_threads(proc.root(), &mut path, pid, &process.links);
        match read_fds(proc, &mut path, &mut process, asked) {
            Ok(()) => {}
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
fn read_threads(proc: BorrowedFd<'_>, path: &mut PidPath, pid: u32, main: &Links) -> Vec<(u32, Links)> {
    // The link count of the directory is two more than the number of threads: cheaper than listing it.
    if statat(proc, path.to("/task"), AtFlags::empty()).is_ok_and(|s| s.st_nlink <= 3) {
        return Vec::new();
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(task) = openat(proc, path.to("/task"), flags, Mode::empty()) else { return Vec::new() };
    let tids = numbers(task.as_fd()).unwrap_or_default();
    let read = |tid: u32| {
        let ns = openat(&task, format!("{tid}/ns"), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
        Some((tid, read_links(ns.as_fd()).ok()?))
    };
    let others = tids.into_iter().filter(|tid| *tid != pid).filter_map(read);
    others.filter(|(_, links)| links != main).collect()
}

/// Looks behind each descriptor: at namespaces, and at sockets that stay in the namespace they were made in.
fn read_fds(
    proc: &Proc,
    path: &mut PidPath,
    process: &mut Process,
    asked: &mut Asked,
) -> std::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = openat(proc.root(), path.to("/fd"), flags, Mode::empty())?;
    let mut name = Digits::default();
    let mut sockets = Vec::new();
    for number in numbers_of_proc(dir.as_fd())? {
        let name = name.of(number);
        match identity(dir.as_fd(), name) {
            Ok(found) if found.socket => sockets.push((number, found.inode)),
            Ok(found) if proc.nsfs().is_some_and(|nsfs| nsfs != found.device) => {}
            other => {
                let inode = other.ok().map(|found| found.inode);
                process.fds.extend(namespace_behind(dir.as_fd(), name, inode).map(|id| (number, id)));
            }
        }
    }
    let own = process.namespace(Kind::Network);
    for (fd, namespace) in sockets::namespaces(process.pid, &sockets, asked) {
        match namespace {
            None => process.sockets_unreadable += 1,
            found if found == own => {}
            Some(inode) => process.sockets.push((fd, inode)),
        }
    }
    Ok(())
}

/// The namespace that a descriptor is open on. Its link says `net:[…]` when it was opened through /proc, but shows a
/// path when it was opened through a bind mount: so what it leads to is looked at.
fn namespace_behind(dir: BorrowedFd<'_>, name: &CStr, inode: Option<u64>) -> Option<Id> {
    if let Some(id) = read_link(dir, name).ok()? {
        return Some(id);
    }
    let inode = inode?;
    let file = openat(dir, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let file = super::relations::reopen(file)?;
    Some((super::relations::kind_of(&file)?, inode))
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
