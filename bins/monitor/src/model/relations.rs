//! Who owns a namespace and who its parent is. Source: ioctl_ns(2).

use super::namespaces::Namespace;
use super::scan::Id;
use crate::procfs::Proc;
use drydock_core::sys::ns;
use drydock_namespaces::{Kind, nsfile};
use rustix::fs::{Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// An answer about another namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relation {
    /// There is none: only pid and user namespaces have parents.
    #[default]
    None,
    /// This inode number.
    Is(u64),
    /// It is not below our own user or pid namespace (EPERM), or there is nothing above.
    Outside,
    /// The namespace itself could not be opened.
    Unreadable,
}

impl Relation {
    /// The inode number, if known.
    pub fn inode(self) -> Option<u64> {
        match self {
            Relation::Is(inode) => Some(inode),
            _ => None,
        }
    }
}

/// Asks the kernel about every namespace that has not been asked, and adds the ancestors that nothing else led to.
pub fn resolve(proc: &Proc, all: &mut BTreeMap<Id, Namespace>) {
    let asked = |ns: &Namespace| ns.owner != Relation::None || ns.parent != Relation::None;
    let known: Vec<Id> = all.iter().filter(|(_, ns)| !asked(ns)).map(|(id, _)| *id).collect();
    for id in known {
        let opened = all.get(&id).and_then(|ns| open(proc, id, ns));
        match opened {
            Some(fd) => resolve_one(all, id, fd),
            None => {
                let Some(ns) = all.get_mut(&id) else { continue };
                ns.owner = Relation::Unreadable;
                ns.parent = if has_parent(id.0) { Relation::Unreadable } else { Relation::None };
            }
        }
    }
}

fn resolve_one(all: &mut BTreeMap<Id, Namespace>, id: Id, fd: OwnedFd) {
    // Ancestors are few and each is looked at once; the list replaces a recursion of unknown depth.
    let mut waiting = vec![(id, fd)];
    while let Some((id, fd)) = waiting.pop() {
        let (owner, owner_fd) = relation(ns::owner(fd.as_fd()));
        let (parent, parent_fd) = match id.0 {
            Kind::Pid => relation(ns::parent(fd.as_fd())),
            // The owner of a user namespace is its parent.
            Kind::User => (owner, None),
            _ => (Relation::None, None),
        };
        let creator = (id.0 == Kind::User).then(|| ns::owner_uid(fd.as_fd()).ok()).flatten();
        let entry = all.entry(id).or_default();
        (entry.owner, entry.parent, entry.creator) = (owner, parent, creator);
        let above = [(Kind::User, owner, owner_fd), (Kind::Pid, parent, parent_fd)];
        for (kind, relation, fd) in above {
            if let (Some(inode), Some(fd)) = (relation.inode(), fd)
                && !all.contains_key(&(kind, inode))
            {
                all.insert((kind, inode), Namespace::default());
                waiting.push(((kind, inode), fd));
            }
        }
    }
}

/// Whether this type has parents.
pub fn has_parent(kind: Kind) -> bool {
    matches!(kind, Kind::Pid | Kind::User)
}

/// The answer of an ioctl: the namespace's inode number, and the namespace.
pub fn relation(answer: io::Result<OwnedFd>) -> (Relation, Option<OwnedFd>) {
    match answer {
        Ok(fd) => match fstat(&fd) {
            Ok(stat) => (Relation::Is(stat.st_ino), Some(fd)),
            Err(_) => (Relation::Unreadable, None),
        },
        Err(e) if Errno::from_io_error(&e) == Some(Errno::PERM) => (Relation::Outside, None),
        Err(e) if Errno::from_io_error(&e) == Some(Errno::INVAL) => (Relation::None, None),
        Err(_) => (Relation::Unreadable, None),
    }
}

/// Opens a namespace by whatever holds it; `None` if nothing works, or it is another one by now.
pub fn open(proc: &Proc, (kind, inode): Id, ns: &Namespace) -> Option<OwnedFd> {
    let name = kind.proc_name();
    let from_process = ns.pid.map(|pid| format!("{pid}/ns/{name}"));
    let from_thread = ns.threads.first().map(|(pid, tid)| format!("{pid}/task/{tid}/ns/{name}"));
    let from_fd = ns.fds.first().map(|(pid, fd)| format!("{pid}/fd/{fd}"));
    let from_children = ns.for_children_of.first().map(|pid| format!("{pid}/ns/{name}_for_children"));
    let same = |fd: &OwnedFd| fstat(fd).is_ok_and(|s| s.st_ino == inode);
    let paths = [from_process, from_thread, from_fd, from_children].into_iter().flatten();
    let by_path = paths.filter_map(|path| proc.open_at(&path).ok()).find(same);
    let mounted = || ns.mounts.iter().filter_map(|(pid, target)| open_mounted(proc, *pid, target)).find(same);
    let by_socket = || ns.sockets.iter().filter_map(|(pid, fd)| super::sockets::open(*pid, *fd)).find(same);
    by_path.or_else(mounted).or_else(by_socket)
}

/// Opens a bind-mounted namespace inside the root of the process that sees it. The path is walked inside that root
/// (its owner may have put links there), and nothing but a namespace is opened for reading.
fn open_mounted(proc: &Proc, pid: u32, target: &str) -> Option<OwnedFd> {
    let root = proc.directory(&format!("{pid}/root"), false).ok()?;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    reopen(openat2(&root, target, flags, Mode::empty(), ResolveFlags::IN_ROOT).ok()?)
}

/// Opens a path descriptor for reading if, and only if, it stands on a namespace file: opening a device or a FIFO that
/// somebody put in its place would have effects.
pub fn reopen(file: OwnedFd) -> Option<OwnedFd> {
    if !is_nsfs(file.as_fd()) {
        return None;
    }
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
}

/// Whether a (path) descriptor stands on nsfs.
fn is_nsfs(fd: BorrowedFd<'_>) -> bool {
    const NSFS_MAGIC: u64 = 0x6e73_6673;
    rustix::fs::fstatfs(fd).is_ok_and(|s| u64::try_from(s.f_type).is_ok_and(|t| t == NSFS_MAGIC))
}

/// The type of an open namespace.
pub fn kind_of(fd: &OwnedFd) -> Option<Kind> {
    nsfile::kind_of(fd.as_fd())
}
