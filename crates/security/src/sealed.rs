//! The program's own file, out of a container's reach.
//!
//! A process of ours that enters a running container is, until its exec, a reference to the host's program file:
//! /proc/PID/exe. Whoever makes it run that file once more can keep a descriptor and overwrite the program later
//! (CVE-2019-5736). So a tool that enters containers first executes itself from a copy that cannot be written through: a
//! read-only clone of the mount, or, without the privilege for that, a sealed copy in memory.

use drydock_core::error::CallExt;
use drydock_core::sys::mount::{ATTR_RDONLY, Attributes, EMPTY_PATH, mount_setattr};
use drydock_core::{Error, Result};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstatvfs, memfd_create};
use rustix::mount::{OpenTreeFlags, open_tree};
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

/// Executes the calling program again from a protected copy, with the same arguments and environment. Returns when it
/// runs from one already. Costs one exec; call it first thing, before anything is open.
///
/// # Errors
/// When the program cannot be read, copied or executed: then no container must be entered.
pub fn run_sealed() -> Result<()> {
    let own = File::open("/proc/self/exe").call(|| "open(\"/proc/self/exe\")")?;
    if is_protected(&own) {
        return Ok(());
    }
    let copy = match read_only_clone() {
        Some(clone) => clone,
        None => sealed_copy(own)?,
    };
    let words =
        |list: Vec<Vec<u8>>| list.into_iter().filter_map(|w| CString::new(w).ok()).collect::<Vec<_>>();
    let args = words(std::env::args_os().map(OsStringExt::into_vec).collect());
    let env = words(
        std::env::vars_os().map(|(k, v)| [k.into_vec(), b"=".to_vec(), v.into_vec()].concat()).collect(),
    );
    let errno = match nix::unistd::execveat(&copy, c"", &args, &env, nix::fcntl::AtFlags::AT_EMPTY_PATH) {
        Err(errno) => errno,
        Ok(never) => match never {},
    };
    Err(Error::call("execveat(copy of /proc/self/exe)", errno))
}

/// On a read-only mount, or in memory with its seals.
fn is_protected(exe: &File) -> bool {
    let read_only = fstatvfs(exe).is_ok_and(|fs| fs.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY));
    read_only || fcntl_get_seals(exe).is_ok_and(|seals| seals.contains(SealFlags::WRITE))
}

fn read_only_clone() -> Option<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(rustix::fs::CWD, "/proc/self/exe", flags).ok()?;
    let attributes = Attributes { set: ATTR_RDONLY, ..Attributes::default() };
    mount_setattr(tree.as_fd(), c"", EMPTY_PATH, attributes).ok()?;
    Some(tree)
}

fn sealed_copy(mut own: File) -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let copy =
        memfd_create("drydock", flags).call(|| "memfd_create(\"drydock\", MFD_CLOEXEC|MFD_ALLOW_SEALING)")?;
    let mut file = File::from(copy);
    std::io::copy(&mut own, &mut file).call(|| "sendfile(/proc/self/exe)")?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(&file, seals).call(|| "fcntl(F_ADD_SEALS)")?;
    Ok(file.into())
}
