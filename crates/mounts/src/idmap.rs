//! Id-mapped mounts: files seen with other owners than they have on disk. Source: mount_setattr(2), user_namespaces(7).

pub(crate) mod helper;

use crate::action::IdMap;
use crate::request::IdMapping;
use drydock_core::error::CallExt;
use drydock_core::sys::mount::{self as setattr, Attributes, mount_setattr};
use drydock_core::sys::process::clone_child;
use drydock_core::{Error, Result};
use std::fmt::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const CLONE_NEWUSER: u64 = 0x1000_0000;

/// A user namespace with these maps. The caller is single-threaded and has CAP_SETUID and CAP_SETGID.
///
/// # Errors
/// clone(2)'s, and write(2)'s for maps that the kernel refuses.
pub(crate) fn namespace(map: &IdMap) -> Result<OwnedFd> {
    let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .call(|| "pipe2(O_CLOEXEC)")
        .map(|(read, write)| (write, read))?;
    let mut held = Some(ours);
    let child = clone_child(CLONE_NEWUSER, None, || {
        // Lives until the parent has what it needs, or has died: then the pipe ends.
        held = None;
        let _ = rustix::io::read(&theirs, &mut [0u8; 1][..]);
        0
    })
    .call(|| "clone3(CLONE_NEWUSER)")?;
    let result = write_maps(child.pid, map);
    drop(held);
    let _ = rustix::process::waitid(
        rustix::process::WaitId::PidFd(child.pidfd.as_fd()),
        rustix::process::WaitIdOptions::EXITED,
    );
    result
}

fn write_maps(pid: i32, map: &IdMap) -> Result<OwnedFd> {
    for (name, maps) in [("uid_map", &map.uid), ("gid_map", &map.gid)] {
        let (file, text) = (format!("/proc/{pid}/{name}"), lines(maps));
        std::fs::write(&file, &text).call(|| format!("write({file:?}, {text:?})"))?;
    }
    let file = format!("/proc/{pid}/ns/user");
    std::fs::File::open(&file).map(OwnedFd::from).call(|| format!("open({file:?}, O_RDONLY)"))
}

fn lines(maps: &[IdMapping]) -> String {
    maps.iter().fold(String::new(), |mut text, m| {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{} {} {}", m.container_id, m.host_id, m.size);
        text
    })
}

/// Shows the files of a detached mount by the maps of a user namespace.
///
/// # Errors
/// EINVAL when the file system has no id-mapped mounts; EPERM when its user namespace is not the caller's.
pub(crate) fn map(tree: &OwnedFd, namespace: Option<BorrowedFd<'_>>, map: &IdMap) -> Result<()> {
    let namespace = namespace.ok_or_else(|| {
        Error::failed("id-mapped mount", "needs a privileged parent outside the container's user namespace")
    })?;
    let recursive = if map.recursive { setattr::RECURSIVE } else { 0 };
    let attributes =
        Attributes { set: setattr::ATTR_IDMAP, user_namespace: Some(namespace), ..Attributes::default() };
    mount_setattr(tree.as_fd(), c"", setattr::EMPTY_PATH | recursive, attributes)
        .call(|| "mount_setattr(tree, MOUNT_ATTR_IDMAP)")
        .map_err(explain)
}

fn explain(error: Error) -> Error {
    match error.errno() {
        Some(nix::libc::EINVAL) => error.hint(
            "the source's file system, or one mounted below it, has no id-mapped mounts on this kernel",
        ),
        Some(nix::libc::EPERM) => {
            error.hint("needs CAP_SYS_ADMIN in the user namespace that owns the file system")
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_written_as_the_kernel_reads_them() {
        let maps = [
            IdMapping { container_id: 0, host_id: 1000, size: 1 },
            IdMapping { container_id: 1, host_id: 100_000, size: 65_536 },
        ];
        assert_eq!(lines(&maps), "0 1000 1\n1 100000 65536\n");
    }
}
