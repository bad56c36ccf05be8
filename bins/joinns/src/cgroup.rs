//! The target's cgroups, in every hierarchy that is mounted here. Source: cgroups(7).

use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use drydock_namespaces::process::Process;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Opens `cgroup.procs` (v1: `tasks`, which costs less) of each of the target's cgroups for writing, while they can still be seen.
///
/// # Errors
/// No hierarchy is mounted; a cgroup is gone, frozen, or may not be joined.
pub fn open(process: &Process) -> Result<Vec<(PathBuf, File)>> {
    let memberships = String::from_utf8_lossy(&process.read("cgroup")?).into_owned();
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    if own == memberships && !own.is_empty() {
        return Ok(Vec::new());
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").call(|| "open(\"/proc/self/mountinfo\")")?;
    let mut files = Vec::new();
    let mut seen = 0usize;
    for line in memberships.lines() {
        let Some((controllers, path)) = membership(line) else { continue };
        let Some(mount) = find_mount(&mounts, controllers) else { continue };
        seen += 1;
        if own.lines().any(|o| o == line) {
            continue;
        }
        let directory = mount.join(path.trim_start_matches('/'));
        check_thawed(&directory)?;
        // v1 makes a process wait for all others when it moves with all its threads; ours has one.
        let procs = directory.join(if controllers.is_empty() { "cgroup.procs" } else { "tasks" });
        let file = File::options().write(true).open(&procs).call(|| format!("open({procs:?}, O_WRONLY)"))?;
        files.push((procs, file));
    }
    if seen == 0 {
        return Err(Error::failed("--join-cgroup", "no cgroup hierarchy is mounted here")
            .hint("mount -t cgroup2 none /sys/fs/cgroup"));
    }
    Ok(files)
}

/// Controllers (empty on v2) and path of a line of /proc/PID/cgroup.
fn membership(line: &str) -> Option<(&str, &str)> {
    let (_, rest) = line.split_once(':')?;
    let (controllers, path) = rest.split_once(':')?;
    // `..` shows that the target is outside of our cgroup namespace's root.
    (!path.split('/').any(|part| part == "..")).then_some((controllers, path))
}

/// The mount point of a hierarchy, from /proc/self/mountinfo (proc_pid_mountinfo(5)).
fn find_mount(mountinfo: &str, controllers: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (head, tail) = line.split_once(" - ")?;
        let mut tail = tail.split(' ');
        let (fstype, options) = (tail.next()?, tail.nth(1).unwrap_or(""));
        let wanted = match controllers {
            "" => fstype == "cgroup2",
            other => fstype == "cgroup" && other.split(',').all(|c| options.split(',').any(|o| o == c)),
        };
        let mut head = head.split(' ');
        let (root, mount_point) = (head.nth(3)?, head.next()?);
        (wanted && root == "/").then(|| PathBuf::from(mount_point))
    })
}

/// A process that joins a frozen cgroup stops there, and its caller would wait for ever.
fn check_thawed(directory: &Path) -> Result<()> {
    let has = |file: &str, text: &str| {
        std::fs::read_to_string(directory.join(file)).is_ok_and(|t| t.lines().any(|line| line.trim() == text))
    };
    if has("cgroup.events", "frozen 1") || has("freezer.state", "FROZEN") {
        let name = directory.display().to_string();
        return Err(Error::bad_input(name, "the cgroup is frozen: a process in it would not run")
            .hint("thaw it first"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_hierarchies() {
        let info = "30 20 0:26 / /sys/fs/cgroup/unified rw - cgroup2 none rw\n\
                    31 20 0:27 / /sys/fs/cgroup/cpu rw - cgroup cpu rw,cpu,cpuacct\n\
                    32 20 0:27 /x /mnt rw - cgroup cpu rw,memory\n";
        assert_eq!(find_mount(info, ""), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(find_mount(info, "cpu,cpuacct"), Some("/sys/fs/cgroup/cpu".into()));
        assert_eq!(find_mount(info, "memory"), None);
        assert_eq!(membership("4:memory:/a/b"), Some(("memory", "/a/b")));
        assert_eq!(membership("0::/../x"), None);
        assert_eq!(membership("9:name=systemd:/"), Some(("name=systemd", "/")));
    }
}
