//! Namespaces that have no path: by number, by a socket in them, by what they own. Source: ioctl_ns(2).

use drydock_core::error::CallExt;
use drydock_core::sys::ns;
use drydock_core::{Error, Result};
use drydock_namespaces::join::{Opened, Source};
use drydock_namespaces::process::Process;
use drydock_namespaces::{Kind, NamespaceId, nsfile};
use nix::errno::Errno;
use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

/// The namespace whose file has this inode number (what lsns(8) and readlink(1) show), or this identifier (Linux 6.18).
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] if no process, thread's file or mount shows it.
pub fn open(kind: Kind, number: u64) -> Result<Opened> {
    let label = format!("{kind} namespace {number}");
    // Identifiers count from 1, inodes begin above four thousand million: one is never taken for the other.
    let found = ns::open_by_id(number).ok().filter(|fd| nsfile::kind_of(fd.as_fd()) == Some(kind));
    let found = found.or_else(|| by_processes(kind, number)).or_else(|| by_mounts(kind, number));
    found.map(|fd| Opened { kind, fd, label: label.clone() }).ok_or_else(|| {
        Error::bad_input(label, "not found (allowed: the number of one that a process or a mount holds)")
            .hint("monitor ns ls shows them; those of other users take privileges to be seen")
    })
}

fn matches(fd: OwnedFd, kind: Kind, number: u64) -> Option<OwnedFd> {
    let inode = || NamespaceId::of_fd(fd.as_fd()).is_ok_and(|id| id.ino == number);
    let id = || ns::id(fd.as_fd()).is_ok_and(|id| id == number);
    (nsfile::kind_of(fd.as_fd()) == Some(kind) && (inode() || id())).then_some(fd)
}

fn by_processes(kind: Kind, number: u64) -> Option<OwnedFd> {
    let entries = std::fs::read_dir("/proc").ok()?.flatten();
    let pids = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let files = pids.filter(|name| name.bytes().all(|b| b.is_ascii_digit())).flat_map(|pid| {
        let children = format!("/proc/{pid}/ns/{kind}_for_children");
        [format!("/proc/{pid}/ns/{kind}"), children]
    });
    // Each namespace is looked at once.
    let mut seen = BTreeSet::new();
    let new = files.filter_map(|file| {
        let link = std::fs::read_link(&file).ok()?;
        seen.insert(link).then_some(file)
    });
    first_match(new, kind, number)
}

fn by_mounts(kind: Kind, number: u64) -> Option<OwnedFd> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let prefix = format!("{kind}:[");
    let point = |line: &str| {
        let mut fields = line.split(' ');
        let root = fields.nth(3)?;
        root.starts_with(&prefix).then(|| fields.next().map(str::to_string)).flatten()
    };
    first_match(text.lines().filter_map(point), kind, number)
}

fn first_match(files: impl Iterator<Item = String>, kind: Kind, number: u64) -> Option<OwnedFd> {
    let mut found = files.filter_map(|file| Some(nsfile::open(Path::new(&file), Some(kind)).ok()?.0));
    found.find_map(|fd| matches(fd, kind, number))
}

/// The network namespace of one of the process's sockets.
///
/// # Errors
/// No such descriptor, or no socket; EPERM without privileges over the process or the namespace.
pub fn of_socket(process: &Process, number: i32) -> Result<Opened> {
    let socket = process.descriptor(number)?;
    let label = format!("the socket {number} of process {}", process.pid());
    let found = ns::of_socket(socket.as_fd()).call(|| "ioctl(SIOCGSKNS)").map_err(|e| {
        match e.errno().map(Errno::from_raw) {
            Some(Errno::ENOTTY | Errno::EINVAL) => Error::bad_input(label.clone(), "is not a socket"),
            Some(Errno::EPERM) => {
                e.hint("this needs CAP_NET_ADMIN in the user namespace of the network namespace")
            }
            _ => e,
        }
    })?;
    Ok(Opened { kind: Kind::Network, fd: found, label })
}

/// Adds the user namespace that owns what is joined; in place of a user namespace, its parent.
///
/// # Errors
/// Nothing is joined; EPERM if the parent is outside of the caller's view.
pub fn user_parent(
    targets: &mut Vec<(Kind, Source)>,
    opened: &mut Vec<Opened>,
    held: &mut Vec<Rc<Process>>,
) -> Result<()> {
    let explain = |e: Error| {
        e.on("--user-parent").hint("the parent must be in your view: your own user namespace, or below it")
    };
    let parent = |fd: BorrowedFd<'_>| ns::parent(fd).call(|| "ioctl(NS_GET_PARENT)").map_err(explain);
    let owner = |fd: BorrowedFd<'_>| ns::owner(fd).call(|| "ioctl(NS_GET_USERNS)").map_err(explain);
    let user = |kind: Kind| kind == Kind::User;
    let found = if let Some((kind, source)) = targets.iter().find(|(kind, _)| user(*kind)) {
        parent(source.open(*kind, held)?.as_fd())?
    } else if let Some(own) = opened.iter().find(|opened| user(opened.kind)) {
        parent(own.fd.as_fd())?
    } else if let Some((kind, source)) = targets.first() {
        owner(source.open(*kind, held)?.as_fd())?
    } else if let Some(other) = opened.first() {
        owner(other.fd.as_fd())?
    } else {
        return Err(Error::bad_input("--user-parent", "needs another namespace (allowed: with -n, -m, …)"));
    };
    targets.retain(|(kind, _)| !user(*kind));
    opened.retain(|opened| !user(opened.kind));
    // The caller's own is nothing to join.
    if NamespaceId::of_fd(found.as_fd())? != NamespaceId::of_self(Kind::User)? {
        opened.push(Opened { kind: Kind::User, fd: found, label: "the parent user namespace".into() });
    }
    Ok(())
}
