//! The cgroup file systems inside a container: whatever this machine has. Source: cgroups(7), cgroup_namespaces(7).
//!
//! Mounted from inside a cgroup namespace of its own, a hierarchy's root is the container's own cgroup.

use crate::table::Entry;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Where cgroup file systems are by convention.
pub const ROOT: &str = "/sys/fs/cgroup";

/// One v1 hierarchy of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hierarchy {
    /// The directory's name under /sys/fs/cgroup: `memory`, `cpu,cpuacct`, `systemd`.
    pub name: String,
    /// mount(2)'s data that names the hierarchy: `memory`, `cpu,cpuacct`, `name=systemd`.
    pub data: String,
    /// Where the host has it.
    pub host: PathBuf,
    /// The cgroup that is seen there as the root of the hierarchy.
    pub root: PathBuf,
}

/// What this machine has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layout {
    /// cgroup2 on /sys/fs/cgroup.
    Unified,
    /// v1 hierarchies (also on a hybrid machine).
    V1(Vec<Hierarchy>),
    /// None mounted.
    None,
}

/// Looks at the caller's mounts.
pub fn detect() -> Layout {
    const CGROUP2: u64 = 0x6367_7270;
    let magic = rustix::fs::statfs(ROOT).map(|s| u64::try_from(s.f_type).unwrap_or(0));
    if magic.is_ok_and(|m| m == CGROUP2) {
        return Layout::Unified;
    }
    crate::table::read(None).map_or(Layout::None, |mounts| from_mounts(&mounts))
}

/// The layout that a mount table shows.
pub fn from_mounts(mounts: &[Entry]) -> Layout {
    let mut v1: Vec<Hierarchy> = Vec::new();
    for mount in mounts.iter().filter(|m| m.fstype == "cgroup") {
        let Some(name) = mount.mount_point.file_name().and_then(|n| n.to_str()) else { continue };
        let data = controllers(&mount.super_options);
        if !data.is_empty() && !v1.iter().any(|h| h.data == data || h.name == name) {
            v1.push(Hierarchy {
                name: name.to_string(),
                data,
                host: mount.mount_point.clone(),
                root: mount.root.clone(),
            });
        }
    }
    if !v1.is_empty() {
        return Layout::V1(v1);
    }
    let unified = mounts.iter().any(|m| m.fstype == "cgroup2" && m.mount_point == Path::new(ROOT));
    if unified { Layout::Unified } else { Layout::None }
}

impl Hierarchy {
    /// Where the host has the cgroup of this hierarchy that a /proc/PID/cgroup names.
    pub(crate) fn own_of(&self, table: &str) -> PathBuf {
        let mut wanted: Vec<&str> = self.data.split(',').filter(|w| *w != "xattr").collect();
        wanted.sort_unstable();
        let found = table.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let mut named: Vec<&str> = fields.next()?.split(',').collect();
            named.sort_unstable();
            (named == wanted).then(|| fields.next()).flatten()
        });
        let below = found.and_then(|path| Path::new(path).strip_prefix(&self.root).ok());
        below.map_or_else(|| self.host.clone(), |path| self.host.join(path))
    }
}

/// The words that name a hierarchy. `release_agent` may only be given in the initial namespaces; `rw` and `ro` are flags.
fn controllers(super_options: &str) -> String {
    let named =
        super_options.split(',').filter(|w| !matches!(*w, "rw" | "ro") && !w.starts_with("release_agent="));
    named.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_v1_hierarchies_once() {
        let table = crate::table::parse(
            b"1 0 0:1 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
              2 0 0:2 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
              3 0 0:2 / /other rw - cgroup cgroup rw,cpu,cpuacct\n\
              4 0 0:3 / /sys/fs/cgroup/systemd rw - cgroup x rw,xattr,release_agent=/x,name=systemd\n",
        );
        let Layout::V1(all) = from_mounts(&table) else { panic!("not v1") };
        let shown: Vec<_> = all.iter().map(|h| (h.name.as_str(), h.data.as_str())).collect();
        assert_eq!(shown, [("cpu,cpuacct", "cpu,cpuacct"), ("systemd", "xattr,name=systemd")]);
    }

    #[test]
    fn finds_the_own_cgroup_below_what_is_mounted() {
        let hierarchy = |data: &str, root: &str| Hierarchy {
            name: data.into(),
            data: data.into(),
            host: "/h".into(),
            root: root.into(),
        };
        let table = "4:cpuacct,cpu:/a/b\n3:name=systemd:/s\n2:memory:/\n0::/u\n";
        assert_eq!(hierarchy("cpu,cpuacct", "/").own_of(table), Path::new("/h/a/b"));
        assert_eq!(hierarchy("cpu,cpuacct", "/a").own_of(table), Path::new("/h/b"));
        assert_eq!(hierarchy("xattr,name=systemd", "/").own_of(table), Path::new("/h/s"));
        assert_eq!(hierarchy("memory", "/").own_of(table), Path::new("/h/"));
        assert_eq!(hierarchy("pids", "/").own_of(table), Path::new("/h"));
    }

    #[test]
    fn pure_v2_and_nothing() {
        let v2 = crate::table::parse(b"1 0 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
        assert_eq!(from_mounts(&v2), Layout::Unified);
        assert_eq!(from_mounts(&[]), Layout::None);
    }
}
