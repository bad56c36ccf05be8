//! System V IPC objects of a process's ipc namespace (S40).

use super::target::unreadable;
use crate::procfs::{Proc, sysvipc};
use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use drydock_namespaces::{Kind, NamespaceId};
use nix::sched::{CloneFlags, setns};
use serde::Serialize;
use std::os::fd::{AsFd, OwnedFd};

/// One object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Object {
    /// `shm`, `sem` or `msg`.
    pub kind: &'static str,
    /// Key given to shmget(2) and its like, as `ipcs` prints it.
    pub key: String,
    /// Identifier.
    pub id: i64,
    /// Owner.
    pub uid: u32,
    /// Permission bits, octal.
    pub perms: String,
    /// Bytes (shm), semaphores (sem), messages (msg).
    pub size: u64,
    /// Attached processes (shm).
    pub attached: Option<u64>,
}

/// The objects that process `pid` sees. One thread of ours enters its ipc namespace to read them.
///
/// # Errors
/// When the namespace cannot be opened or joined (setns(2): CAP_SYS_ADMIN).
pub fn objects(proc: &Proc, pid: u32) -> Result<Vec<Object>> {
    let ns = proc.open_at(&format!("{pid}/ns/ipc")).map_err(|e| unreadable(pid, "ns/ipc", e))?;
    let own = NamespaceId::of_self(Kind::Ipc).ok();
    if own.is_some() && own == NamespaceId::of_fd(ns.as_fd()).ok() {
        return read(proc);
    }
    // Namespaces other than user belong to a thread: this one ends with its answer, and ours stays where it is.
    let found = std::thread::scope(|scope| scope.spawn(|| read_inside(proc, &ns, pid)).join());
    found.unwrap_or_else(|_| Err(Error::failed("ipc", "the reading thread ended")))
}

fn read_inside(proc: &Proc, ns: &OwnedFd, pid: u32) -> Result<Vec<Object>> {
    let joined = setns(ns, CloneFlags::CLONE_NEWIPC);
    joined.call(|| format!("setns(/proc/{pid}/ns/ipc, CLONE_NEWIPC)")).map_err(|e| {
        e.on(format!("process {pid}")).hint("run as root (CAP_SYS_ADMIN in the namespace's owner)")
    })?;
    read(proc)
}

/// The objects of the ipc namespace that the calling thread is in.
fn read(proc: &Proc) -> Result<Vec<Object>> {
    let mut found = Vec::new();
    for (kind, id, size) in [("shm", "shmid", "size"), ("sem", "semid", "nsems"), ("msg", "msqid", "qnum")] {
        let path = format!("sysvipc/{kind}");
        let text = match proc.text(&path) {
            Ok(text) => text,
            // A kernel without System V IPC.
            Err(e) if crate::procfs::is_gone(&e) => continue,
            Err(e) => return Err(Error::call(format!("open(\"/proc/{path}\")"), e)),
        };
        found.extend(sysvipc::parse(&text).iter().filter_map(|row| object(kind, id, size, row)));
    }
    Ok(found)
}

fn object(kind: &'static str, id: &str, size: &str, row: &[(String, String)]) -> Option<Object> {
    let cell = |name: &str| row.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
    let key: i32 = cell("key")?.parse().ok()?;
    Some(Object {
        kind,
        key: format!("{key:#010x}"),
        id: cell(id)?.parse().ok()?,
        uid: cell("uid")?.parse().ok()?,
        perms: cell("perms")?.to_string(),
        size: cell(size)?.parse().ok()?,
        attached: cell("nattch").and_then(|n| n.parse().ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_objects() {
        let text = "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid\n\
                    -559038737          2  1600                  4096    11     0      3  1000     0     0     0\n";
        let rows = sysvipc::parse(text);
        let found = object("shm", "shmid", "size", &rows[0]).unwrap();
        assert_eq!(
            (found.key.as_str(), found.id, found.size, found.attached),
            ("0xdeadbeef", 2, 4096, Some(3))
        );
        assert_eq!(object("shm", "nope", "size", &rows[0]), None);
    }
}
