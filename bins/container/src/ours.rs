//! Whether what a journal names is a container's: a journal that somebody has written to must not make us kill or unmount
//! what is not ours.

use drydock_cgroups::SHARED_PARENT;
use drydock_core::{Error, Journal, Object, Result, journal, paths};
use std::path::{Component, Path, PathBuf};

/// The objects of a state directory. What stands in the journal's place and is no journal of ours names none.
///
/// # Errors
/// When a journal cannot be read.
pub fn objects(dir: &Path) -> Result<Vec<Object>> {
    match Journal::read(dir) {
        Err(_) if is_foreign(&dir.join(journal::FILE)) => Ok(Vec::new()),
        other => other,
    }
}

/// Something other than the regular file that we make.
pub fn is_foreign(file: &Path) -> bool {
    std::fs::symlink_metadata(file).is_ok_and(|meta| !meta.is_file())
}

fn plain(path: &Path) -> bool {
    path.is_absolute() && path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)))
}

fn refused(path: &Path) -> Error {
    Error::failed(path.display().to_string(), "is in the journal but is not ours; left alone")
}

/// Directories of one cgroup that may be removed with all that is in it: in a cgroup file system, and neither the root,
/// nor the parent of all containers, nor anything that this process or PID 1 is in. Those that are gone are fine.
///
/// # Errors
/// The first that is none.
pub fn check_cgroup(dirs: &[PathBuf]) -> Result<()> {
    const V1: u64 = 0x0027_e0eb;
    const V2: u64 = 0x6367_7270;
    let held = cgroups_of_us();
    for dir in dirs {
        if !plain(dir) {
            return Err(refused(dir));
        }
        let Ok(stat) = rustix::fs::statfs(dir) else { continue };
        let known = u64::try_from(stat.f_type).is_ok_and(|magic| magic == V1 || magic == V2);
        let within = within_hierarchy(dir);
        let top = within.as_os_str().is_empty();
        if !known
            || top
            || within == Path::new(SHARED_PARENT)
            || held.iter().any(|own| own.starts_with(&within))
        {
            return Err(refused(dir));
        }
    }
    Ok(())
}

/// A cgroup's path below its hierarchy's mount point; empty for the mount point itself.
fn within_hierarchy(dir: &Path) -> PathBuf {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| std::fs::metadata(path).map(|meta| meta.dev()).ok();
    let own = device(dir);
    let root = dir.ancestors().take_while(|above| device(above) == own).last().unwrap_or(dir);
    dir.strip_prefix(root).unwrap_or(dir).to_path_buf()
}

/// The cgroups that this process and PID 1 are in, in all hierarchies, without the leading `/`.
fn cgroups_of_us() -> Vec<PathBuf> {
    let text = |pid| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let both = text("self") + &text("1");
    let paths = both.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths.map(|own| PathBuf::from(own.trim_start_matches('/'))).collect()
}

/// A process that may be killed: not this one, nor PID 1, and in a mount namespace of its own, as every container is.
pub fn is_process(pid: i32) -> bool {
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    let (own, its) = (namespace("self"), namespace(&pid.to_string()));
    pid > 1 && pid.cast_unsigned() != std::process::id() && its.is_none_or(|its| Some(its) != own)
}

/// A mount point that may be unmounted: no directory right below `/`, none that a state or data directory lies in, and
/// nothing of the kernel's.
///
/// # Errors
/// When it is one of those.
pub fn check_mount(target: &Path, state_dir: &Path) -> Result<()> {
    let system = ["/proc", "/sys", "/dev"].iter().any(|dir| target.starts_with(dir));
    let shallow = target.components().count() < 3;
    let holds =
        state_dir.starts_with(target) || paths::data_root().is_ok_and(|data| data.starts_with(target));
    if plain(target) && !system && !shallow && !holds { Ok(()) } else { Err(refused(target)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_hosts_is_left_alone() {
        let state = Path::new("/run/drydock/web");
        for bad in
            ["/", "/home", "/proc/sys/fs", "relative/a/b", "/run/drydock", "/run/drydock/web", "/a/../b/c"]
        {
            assert!(check_mount(Path::new(bad), state).is_err(), "{bad}");
        }
        assert!(check_mount(Path::new("/run/drydock/web/layers/root"), state).is_ok());
        for bad in ["/sys/fs/cgroup", "/tmp", "/etc", "relative", "/sys/fs/cgroup/../x"] {
            assert!(check_cgroup(&[PathBuf::from(bad)]).is_err(), "{bad}");
        }
        assert!(check_cgroup(&[PathBuf::from("/sys/fs/cgroup/pids/drydock/nobody-here")]).is_ok());
        assert!(!is_process(1) && !is_process(std::process::id().cast_signed()) && !is_process(0));
    }

    #[test]
    fn a_journal_is_a_regular_file() {
        let dir = std::env::temp_dir().join(format!("drydock-ours-{}", std::process::id()));
        std::fs::create_dir_all(dir.join(journal::FILE)).unwrap();
        assert_eq!(objects(&dir).unwrap(), []);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
