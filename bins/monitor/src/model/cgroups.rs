//! The directories of a process's cgroups, in every hierarchy that is mounted.
//!
//! `/proc/PID/cgroup` shows paths relative to the reader's cgroup namespace, and mountinfo shows the root of each cgroup
//! mount the same way. Inside a cgroup namespace with a mount made outside of it, that root is `/../..`: the names of the
//! directories between are not told, so the tree is searched for the one that holds the process. Source: cgroups(7),
//! cgroup_namespaces(7).

use crate::procfs::Proc;
use crate::procfs::cgroup::{self, Membership};
use crate::procfs::mountinfo::{self, Mount};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Where a process stands in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// As `/proc/PID/cgroup` has it.
    #[serde(flatten)]
    pub membership: Membership,
    /// The directory, if the hierarchy is mounted and shows it.
    pub directory: Option<PathBuf>,
    /// Whether that is the root of the whole hierarchy: its figures are the machine's.
    pub root: bool,
}

/// The cgroup mounts that we see.
///
/// # Errors
/// When our own mountinfo cannot be read.
pub fn mounts(proc: &Proc) -> std::io::Result<Vec<Mount>> {
    let text = proc.text("self/mountinfo")?;
    let lines = text.lines().filter(|line| line.contains(" - cgroup"));
    Ok(lines.flat_map(mountinfo::parse).filter(|m| m.fstype.starts_with("cgroup")).collect())
}

/// The places of process `pid`.
///
/// # Errors
/// When `/proc/PID/cgroup` cannot be read.
pub fn places(proc: &Proc, mounts: &[Mount], pid: u32) -> std::io::Result<Vec<Place>> {
    let memberships = cgroup::parse(&proc.text(&format!("{pid}/cgroup"))?);
    let place = |membership: Membership| {
        let directory = directory(mounts, &membership, &|dir: &Path| holds(dir, pid));
        let root = directory.as_deref().is_some_and(|dir| is_root(dir, membership.hierarchy == 0));
        Place { membership, directory, root }
    };
    Ok(memberships.into_iter().map(place).collect())
}

/// Whether a directory is the root of its hierarchy. A path of `/` does not say so inside a cgroup namespace; but only
/// roots have these files in v1, and lack them in v2.
fn is_root(dir: &Path, v2: bool) -> bool {
    if v2 { !dir.join("cgroup.events").exists() } else { dir.join("release_agent").exists() }
}

/// The directories, one a hierarchy that keeps figures (not the named ones, such as systemd's). A process that has a
/// cgroup in some hierarchy is not described by the roots of the others, which count the whole machine; so these are
/// given only when there is nothing else.
pub fn directories(places: &[Place]) -> Vec<PathBuf> {
    let counted: Vec<&Place> = places.iter().filter(|p| p.directory.is_some() && p.counts()).collect();
    let all_roots = counted.iter().all(|p| p.root);
    counted.into_iter().filter(|p| all_roots || !p.root).filter_map(|p| p.directory.clone()).collect()
}

impl Place {
    /// Whether the hierarchy keeps figures: a named one, such as systemd's, only sorts processes.
    pub fn counts(&self) -> bool {
        !self.membership.controllers.iter().any(|c| c.starts_with("name="))
    }
}

fn holds(dir: &Path, pid: u32) -> bool {
    let text = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    text.lines().any(|line| line.parse() == Ok(pid))
}

fn directory(mounts: &[Mount], place: &Membership, holds: &dyn Fn(&Path) -> bool) -> Option<PathBuf> {
    let of_hierarchy = |m: &&Mount| match place.hierarchy {
        0 => m.fstype == "cgroup2",
        _ => {
            m.fstype == "cgroup"
                && place.controllers.iter().all(|c| m.super_options.split(',').any(|o| o == c))
        }
    };
    let mut candidates: Vec<&Mount> = mounts.iter().filter(of_hierarchy).collect();
    // The same hierarchy may be mounted several times, in parts: the widest and shortest first.
    candidates.sort_by_key(|m| (m.root.len(), m.target.len()));
    candidates.into_iter().find_map(|mount| match locate(&mount.root, &place.path)? {
        // join("") would end in a slash.
        Located::At(below) if below.as_os_str().is_empty() => Some(PathBuf::from(&mount.target)),
        Located::At(below) => Some(Path::new(&mount.target).join(below)),
        Located::Below { depth, rest } => search(Path::new(&mount.target), depth, &rest, holds),
    })
}

/// Where a cgroup lies in a mount.
#[derive(Debug, PartialEq, Eq)]
enum Located {
    /// At this path below the mount point.
    At(PathBuf),
    /// At `rest` below some directory that is `depth` levels below the mount point.
    Below { depth: usize, rest: PathBuf },
}

/// Compares the root of a mount with the path of a cgroup; both are relative to our cgroup namespace's root.
/// `None`: the mount does not show the cgroup.
fn locate(root: &str, path: &str) -> Option<Located> {
    let parts =
        |text: &str| text.split('/').filter(|p| !p.is_empty()).map(str::to_string).collect::<Vec<_>>();
    let (root, path) = (parts(root), parts(path));
    let shared = root.iter().zip(&path).take_while(|(a, b)| a == b).count();
    let (root, path) = (root.get(shared..)?, path.get(shared..)?);
    let is_up = |part: &String| part == "..";
    if path.iter().any(is_up) || !root.iter().all(is_up) {
        return None;
    }
    let rest = path.iter().collect();
    Some(if root.is_empty() { Located::At(rest) } else { Located::Below { depth: root.len(), rest } })
}

fn search(at: &Path, depth: usize, rest: &Path, holds: &dyn Fn(&Path) -> bool) -> Option<PathBuf> {
    if depth == 0 {
        let found = at.join(rest);
        return holds(&found).then_some(found);
    }
    let entries = std::fs::read_dir(at).ok()?.flatten();
    let below = entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
    below.into_iter().find_map(|e| search(&e.path(), depth - 1, rest, holds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &str) -> Option<Located> {
        Some(Located::At(PathBuf::from(path)))
    }

    #[test]
    fn locates() {
        assert_eq!(locate("/", "/a/b"), at("a/b"));
        assert_eq!(locate("/", "/"), at(""));
        assert_eq!(locate("/docker/x", "/docker/x/in"), at("in"));
        assert_eq!(locate("/docker/x", "/docker/y"), None);
        // In a cgroup namespace two levels down, with the host's mount.
        assert_eq!(locate("/../..", "/in"), Some(Located::Below { depth: 2, rest: "in".into() }));
        assert_eq!(locate("/../..", "/../x"), Some(Located::Below { depth: 1, rest: "x".into() }));
        assert_eq!(locate("/../..", "/../../x"), at("x"));
        // Above everything that the mount shows.
        assert_eq!(locate("/", "/../x"), None);
        assert_eq!(locate("/../..", "/../../../x"), None);
    }

    #[test]
    fn searches_the_tree_for_the_process() {
        let top = std::env::temp_dir().join(format!("drydock-cgsearch-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&top);
        for (dir, pids) in [("a/b/in", "5\n"), ("a/c/in", "7\n"), ("d/e", "7\n")] {
            std::fs::create_dir_all(top.join(dir)).unwrap();
            std::fs::write(top.join(dir).join("cgroup.procs"), pids).unwrap();
        }
        let mount = Mount {
            root: "/../..".into(),
            target: top.display().to_string(),
            fstype: "cgroup2".into(),
            ..Mount::default()
        };
        let place = Membership { hierarchy: 0, controllers: vec![], path: "/in".into() };
        let found = directory(&[mount], &place, &|d| holds(d, 7));
        assert_eq!(found, Some(top.join("a/c/in")));
        std::fs::remove_dir_all(top).unwrap();
    }

    #[test]
    fn roots_stand_for_a_process_only_when_it_has_nothing_else() {
        let place = |dir: &str, name: &str, root| Place {
            membership: Membership { hierarchy: 1, controllers: vec![name.into()], path: "/".into() },
            directory: Some(dir.into()),
            root,
        };
        let (cpu, memory) = (place("/cg/cpu", "cpu", true), place("/cg/memory/x", "memory", false));
        let systemd = place("/cg/systemd/y", "name=systemd", false);
        assert_eq!(directories(&[cpu.clone(), memory, systemd.clone()]), [PathBuf::from("/cg/memory/x")]);
        assert_eq!(directories(&[cpu, systemd]), [PathBuf::from("/cg/cpu")]);
    }

    #[test]
    fn picks_the_hierarchy() {
        let line = |target: &str, fstype: &str, options: &str| Mount {
            root: "/".into(),
            target: target.into(),
            fstype: fstype.into(),
            super_options: options.into(),
            ..Mount::default()
        };
        let mounts = [line("/cg/cpu", "cgroup", "rw,cpu,cpuacct"), line("/cg/u", "cgroup2", "rw")];
        let place = |hierarchy, controllers: &[&str]| Membership {
            hierarchy,
            controllers: controllers.iter().map(ToString::to_string).collect(),
            path: "/x".into(),
        };
        let dir = |p| directory(&mounts, &p, &|_| false);
        assert_eq!(dir(place(3, &["cpu", "cpuacct"])), Some("/cg/cpu/x".into()));
        assert_eq!(dir(place(0, &[])), Some("/cg/u/x".into()));
        assert_eq!(dir(place(4, &["memory"])), None);
    }
}
