//! PID 1 that stays: the `init` program, executed from a read-only view of itself.

use drydock_core::error::CallExt;
use drydock_core::sys::mount::{ATTR_NODEV, ATTR_NOSUID, ATTR_RDONLY, Attributes, EMPTY_PATH, mount_setattr};
use drydock_core::{Error, Result};
use drydock_supervise::exec::Command;
use rustix::mount::{OpenTreeFlags, open_tree};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// The `init` program as a descriptor, taken before the pivot. It is a read-only bind clone of the file: what the
/// container's root finds behind /proc/1/exe cannot be written through (CVE-2019-5736). Before Linux 5.12, or without
/// the privilege to clone a mount, it is the file opened for reading only.
///
/// # Errors
/// When there is no `init` beside the running program.
pub fn open_program() -> Result<OwnedFd> {
    let path = program()?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if let Ok(tree) = open_tree(rustix::fs::CWD, &path, flags) {
        let set = ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV;
        if mount_setattr(tree.as_fd(), c"", EMPTY_PATH, Attributes { set, ..Attributes::default() }).is_ok() {
            return Ok(tree);
        }
    }
    let file = std::fs::File::open(&path).call(|| format!("open({path:?}, O_RDONLY)"))?;
    Ok(file.into())
}

/// `init` lies beside the program that runs, whichever of the tools that is.
fn program() -> Result<PathBuf> {
    let own = std::env::current_exe().call(|| "readlink(\"/proc/self/exe\")")?;
    let beside = own.with_file_name("init");
    if beside.is_file() {
        return Ok(beside);
    }
    Err(Error::failed("--init", format!("there is no 'init' program beside {}", own.display()))
        .hint("install all seven programs into one directory"))
}

/// Executes the reaper with its own `options` and the command behind `--`.
pub fn exec(program: BorrowedFd<'_>, options: &[CString], command: &Command) -> Error {
    let words: Vec<CString> =
        [c"init".into()].into_iter().chain(options.iter().cloned()).chain([c"--".into()]).collect();
    let error = command.exec_fd(program, &words);
    if error.errno() != Some(nix::libc::ENOENT) {
        return error;
    }
    // The file is open: what is missing is its loader.
    error.because("init is linked dynamically, and its loader is not in this root file system").hint(
        "build it static, as scripts/cargo.sh does; or leave the reaper out (init --exec; container run without --init)",
    )
}
