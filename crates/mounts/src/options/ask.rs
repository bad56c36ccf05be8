//! What the running kernel says of a file system's option, before anything is mounted.

use rustix::io::Errno;
use rustix::mount::{FsOpenFlags, fsconfig_set_flag, fsconfig_set_string, fsopen};

/// File systems of a container's own, whose options say nothing of paths, devices or hosts.
const OWN: [&str; 7] = ["tmpfs", "ramfs", "proc", "sysfs", "devpts", "mqueue", "cgroup2"];

/// Whether the kernel refuses the word, or its value, for this file system. False where it cannot be asked: then it is told
/// by mount(2). A context is opened and dropped; nothing is made. Needs CAP_SYS_ADMIN.
pub(super) fn refused(fstype: &str, word: &str) -> bool {
    // Several words in one are mount(2)'s to take apart.
    if !OWN.contains(&fstype) || word.contains(',') {
        return false;
    }
    let Ok(context) = fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC) else { return false };
    let answer = match word.split_once('=') {
        Some((name, value)) => fsconfig_set_string(&context, name, value),
        None => fsconfig_set_flag(&context, word),
    };
    answer == Err(Errno::INVAL)
}
