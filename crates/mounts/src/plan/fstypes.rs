//! Types of file systems.

use super::paths::quoted;
use drydock_core::{Error, Result};

/// Types that need no look at the kernel's list: each is built in, or explained when it fails.
const USUAL: [&str; 9] =
    ["proc", "sysfs", "tmpfs", "ramfs", "devpts", "mqueue", "cgroup", "cgroup2", "overlay"];

pub(super) fn check(fstype: &str, object: &str) -> Result<()> {
    if USUAL.contains(&fstype) {
        return Ok(());
    }
    let named =
        fstype.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b)) && fstype.len() <= 64;
    // A subtype after a dot is the driver's own business (fuse.sshfs).
    let kernel_name = fstype.split('.').next().unwrap_or(fstype);
    if named && (registered(kernel_name) || loadable(kernel_name)) {
        return Ok(());
    }
    let shown = quoted(fstype);
    Err(Error::bad_input(
        object,
        format!("file system '{shown}' is unknown to this kernel (allowed: see /proc/filesystems)"),
    ))
}

fn registered(fstype: &str) -> bool {
    let list = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    list.lines().any(|line| line.rsplit('\t').next() == Some(fstype))
}

/// mount(2) loads the module of a file system by itself.
fn loadable(fstype: &str) -> bool {
    let release =
        nix::sys::utsname::uname().map(|u| u.release().to_string_lossy().into_owned()).unwrap_or_default();
    let list = std::fs::read_to_string(format!("/lib/modules/{release}/modules.dep")).unwrap_or_default();
    list.lines().any(|line| {
        let file = line.split(':').next().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        file.split(".ko").next() == Some(fstype) && file.contains(".ko")
    })
}
