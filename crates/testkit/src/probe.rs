//! What the machine offers.

/// How cgroups are mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupMode {
    /// cgroup2 at /sys/fs/cgroup.
    V2,
    /// v1 controllers, and cgroup2 beside them.
    Hybrid,
    /// v1 controllers only.
    V1,
    /// Nothing mounted.
    None,
}

/// The machine's cgroup mode, by the file system types that are mounted.
pub fn cgroup_mode() -> CgroupMode {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let fields = || mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let is = |fields: &[&str], kind: &str| fields.get(2) == Some(&kind);
    let at_top = |fields: &[&str]| fields.get(1) == Some(&"/sys/fs/cgroup");
    if fields().any(|f| is(&f, "cgroup2") && at_top(&f)) {
        return CgroupMode::V2;
    }
    match (fields().any(|f| is(&f, "cgroup")), fields().any(|f| is(&f, "cgroup2"))) {
        (true, true) => CgroupMode::Hybrid,
        (true, false) => CgroupMode::V1,
        _ => CgroupMode::None,
    }
}

/// Whether an effective user id of 0.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether this is the test VM (emulated: ten times slower).
pub fn in_vm() -> bool {
    std::env::var_os("DRYDOCK_VM").is_some()
}

/// Whether a command is in PATH.
pub fn have(command: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(command).is_file())
}

/// Whether a Linux security module is active.
pub fn lsm(name: &str) -> bool {
    let list = std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    list.trim().split(',').any(|active| active == name)
}

/// Whether the kernel knows a file system type now (`/proc/filesystems`).
pub fn filesystem(name: &str) -> bool {
    let list = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    list.lines().any(|line| line.split_whitespace().last() == Some(name))
}

/// Whether a capability is in this process's effective set, by its number (capability.h: CAP_SYS_RESOURCE is 24).
pub fn capability(number: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let mask = mask.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    mask.checked_shr(number).unwrap_or(0) & 1 == 1
}

/// Where the cgroup hierarchies are mounted, each once.
pub fn cgroup_mounts() -> Vec<std::path::PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let cgroups = fields.filter(|f| matches!(f.get(2), Some(&"cgroup" | &"cgroup2")));
    let mut points: Vec<_> = cgroups.filter_map(|f| f.get(1).map(std::path::PathBuf::from)).collect();
    points.retain(|point| point.starts_with("/sys/fs/cgroup"));
    points.sort();
    points.dedup();
    points
}

#[cfg(test)]
mod tests {
    #[test]
    fn knows_this_machine() {
        assert!(super::have("sh") && !super::have("no-such-command"));
        assert_eq!(super::cgroup_mode() == super::CgroupMode::None, super::cgroup_mounts().is_empty());
        assert!(super::filesystem("proc"));
    }
}
