//! Which cgroup hierarchies there are, where they are mounted, where we are in them, and where we may make cgroups.

use crate::files;
use crate::request::Place;
use drydock_core::Result;
use nix::unistd::{AccessFlags, access};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// How the machine uses cgroups. Source: cgroups(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Controllers in v1 hierarchies, v2 not mounted.
    V1,
    /// Controllers in v1 hierarchies, v2 mounted beside them.
    Hybrid,
    /// One v2 hierarchy with all controllers.
    V2,
    /// No cgroup file system is mounted.
    None,
}

/// The interface of a hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Version {
    /// File system type `cgroup`.
    V1,
    /// File system type `cgroup2`.
    V2,
}

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hierarchy {
    /// Its interface.
    pub version: Version,
    /// Its controllers by the kernel's names (`cpu`, `memory`, `blkio` in v1, `io` in v2); for v2 those that can be
    /// enabled at [`base`](Self::base).
    pub controllers: Vec<String>,
    /// Name of a v1 hierarchy without controllers: `systemd`.
    pub name: Option<String>,
    /// Where it is mounted.
    pub mount: PathBuf,
    /// The directory of our own cgroup in it.
    pub own: PathBuf,
    /// Where cgroups are made: the mount point if we may write there, else our own cgroup; `None` if neither.
    pub base: Option<PathBuf>,
}

impl Hierarchy {
    /// Where names begin: [`base`](Self::base), or the mount point for those who may only look.
    pub fn place(&self) -> &Path {
        self.base.as_deref().unwrap_or(&self.mount)
    }

    /// A process that `--make-leaf` has moved is still where it was, as far as names go.
    fn leave_leaf(&mut self) {
        let leaf = |dir: &&PathBuf| **dir == self.own && dir.file_name().is_some_and(|n| n == "leaf");
        let above = self.base.as_ref().filter(leaf).and_then(|dir| dir.parent());
        let ours = |dir: &&Path| dir.starts_with(&self.mount) && may_make_cgroups(dir);
        if let Some(above) = above.filter(ours).map(Path::to_path_buf) {
            self.base = Some(above);
        }
    }

    fn read_controllers(&mut self) {
        if self.version == Version::V2 {
            let at = self.base.as_ref().unwrap_or(&self.own);
            let offered = files::read_if_there(&at.join("cgroup.controllers")).unwrap_or_default();
            self.controllers = offered.split_whitespace().map(str::to_string).collect();
        }
    }
}

/// All hierarchies that this process can reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    mode: Mode,
    hierarchies: Vec<Hierarchy>,
}

impl Layout {
    /// Reads /proc/self/mountinfo and /proc/self/cgroup, asks where we may write, and which controllers v2 offers.
    ///
    /// # Errors
    /// When /proc is not readable. A machine without cgroups is not an error: its mode is [`Mode::None`].
    pub fn detect() -> Result<Self> {
        let mountinfo = files::read(Path::new("/proc/self/mountinfo"))?;
        let cgroup = files::read_if_there(Path::new("/proc/self/cgroup")).unwrap_or_default();
        let mut layout = Self::parse(&mountinfo, &cgroup);
        for hierarchy in &mut layout.hierarchies {
            hierarchy.base =
                [&hierarchy.mount, &hierarchy.own].into_iter().find(|d| may_make_cgroups(d)).cloned();
            hierarchy.leave_leaf();
            hierarchy.read_controllers();
        }
        Ok(layout)
    }

    /// The same for one name: who may make cgroups only in a part of the tree may also name that part from its root, as
    /// whoever delegated it does.
    #[must_use]
    pub fn for_name(mut self, name: &str) -> Self {
        for hierarchy in &mut self.hierarchies {
            if hierarchy.base.as_ref() == Some(&hierarchy.mount) {
                continue;
            }
            let below = |dir: &&Path| **dir != hierarchy.mount && dir.starts_with(&hierarchy.mount);
            let full = hierarchy.mount.join(name);
            let there = full.ancestors().filter(below).find(|dir| dir.is_dir());
            if there.is_some_and(may_make_cgroups) {
                hierarchy.base = Some(hierarchy.mount.clone());
                hierarchy.read_controllers();
            }
        }
        self
    }

    /// The same with names that begin elsewhere.
    #[must_use]
    pub fn seen_from(mut self, place: Place) -> Self {
        for hierarchy in &mut self.hierarchies {
            match place {
                Place::Base => continue,
                Place::Root => hierarchy.base = Some(hierarchy.mount.clone()),
                Place::Beside => {
                    let above = hierarchy.own.parent().filter(|dir| dir.starts_with(&hierarchy.mount));
                    let ours =
                        |dir: &&Path| may_make_cgroups(dir) && may_make_cgroups(&dir.join("cgroup.procs"));
                    let above = above.filter(ours).map(Path::to_path_buf);
                    let elsewhere = above.filter(|_| hierarchy.base.as_ref() != Some(&hierarchy.mount));
                    hierarchy.base = elsewhere.or(hierarchy.base.take());
                }
            }
            hierarchy.read_controllers();
        }
        self
    }

    /// The same from given texts, for tests: every mount point counts as writable, and v2's controllers are unknown.
    /// Lines that cannot be understood are left out.
    pub fn parse(mountinfo: &str, cgroup: &str) -> Self {
        let mounts: Vec<Mount> = mountinfo.lines().filter_map(Mount::parse).collect();
        let hierarchies: Vec<Hierarchy> =
            cgroup.lines().filter_map(|line| hierarchy(line, &mounts)).collect();
        let v1 = hierarchies.iter().any(|h| h.version == Version::V1 && !h.controllers.is_empty());
        let v2 = hierarchies.iter().any(|h| h.version == Version::V2);
        let mode = match (v1, v2) {
            (true, true) => Mode::Hybrid,
            (true, false) => Mode::V1,
            (false, true) => Mode::V2,
            (false, false) => Mode::None,
        };
        Self { mode, hierarchies }
    }

    /// For tests: v2 with the controllers that it usually has.
    #[cfg(test)]
    pub(crate) fn offer_all(&mut self) {
        for hierarchy in self.hierarchies.iter_mut().filter(|h| h.version == Version::V2) {
            hierarchy.controllers = ["cpu", "cpuset", "io", "memory", "pids"].map(String::from).to_vec();
        }
    }

    /// v1, hybrid, v2 or none.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The hierarchies in the kernel's order, v2 last.
    pub fn hierarchies(&self) -> &[Hierarchy] {
        &self.hierarchies
    }

    /// The v2 hierarchy, if mounted.
    pub fn v2(&self) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|h| h.version == Version::V2)
    }

    /// All controllers, by their v2 names where there is one (`io` for `blkio`).
    pub fn controllers(&self) -> Vec<String> {
        let all = self.hierarchies.iter().flat_map(|h| h.controllers.iter());
        all.map(|c| if c == "blkio" { "io".to_string() } else { c.clone() }).collect()
    }

    /// The hierarchy that has a controller; `io` and `blkio` are the same one.
    pub fn hierarchy_of(&self, controller: &str) -> Option<&Hierarchy> {
        let is = |c: &str| c == controller || matches!((c, controller), ("blkio", "io") | ("io", "blkio"));
        self.hierarchies.iter().find(|h| h.controllers.iter().any(|c| is(c)))
    }
}

fn may_make_cgroups(dir: &Path) -> bool {
    access(dir, AccessFlags::W_OK).is_ok()
}

/// The part of a mountinfo line that matters here.
struct Mount {
    root: String,
    point: PathBuf,
    v2: bool,
    super_options: Vec<String>,
}

impl Mount {
    /// proc_pid_mountinfo(5): `id parent major:minor root point options [optional…] - type source super-options`.
    fn parse(line: &str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut after = after.split(' ');
        let v2 = match after.next()? {
            "cgroup" => false,
            "cgroup2" => true,
            _ => return None,
        };
        let super_options = after.nth(1)?.split(',').map(str::to_string).collect();
        let mut before = before.split(' ').skip(3);
        let root = unescape(before.next()?);
        let point = PathBuf::from(unescape(before.next()?));
        point.is_absolute().then_some(Self { root, point, v2, super_options })
    }

    /// The directory of cgroup `path` in this mount; the mount point if it is not below what is mounted.
    fn dir_of(&self, path: &str) -> PathBuf {
        let outside = path.split('/').any(|c| c == "..");
        let below = Path::new(path).strip_prefix(&self.root).ok().filter(|_| !outside);
        match below {
            Some(rest) if !rest.as_os_str().is_empty() => self.point.join(rest),
            _ => self.point.clone(),
        }
    }
}

/// One line of /proc/self/cgroup (`id:controllers:path`) with the mount of its hierarchy; `None` if it is not mounted.
fn hierarchy(line: &str, mounts: &[Mount]) -> Option<Hierarchy> {
    let mut fields = line.splitn(3, ':');
    let (_, subsystems, path) = (fields.next()?, fields.next()?, fields.next()?);
    let wanted: Vec<&str> = subsystems.split(',').filter(|s| !s.is_empty()).collect();
    let fits = |m: &&Mount| {
        m.v2 == wanted.is_empty() && wanted.iter().all(|w| m.super_options.iter().any(|o| o == w))
    };
    // A hierarchy can be mounted several times: its whole tree at the usual place comes first.
    let mount = mounts.iter().filter(fits).min_by_key(|m| {
        (m.root != "/", !m.point.starts_with("/sys/fs/cgroup"), m.point.components().count())
    })?;
    let named = wanted.first().and_then(|w| w.strip_prefix("name="));
    let controllers = if named.is_some() { vec![] } else { wanted.iter().map(ToString::to_string).collect() };
    Some(Hierarchy {
        version: if mount.v2 { Version::V2 } else { Version::V1 },
        controllers,
        name: named.map(str::to_string),
        mount: mount.point.clone(),
        own: mount.dir_of(path),
        base: Some(mount.point.clone()),
    })
}

/// mountinfo writes space, tab, newline and backslash as `\040` and so on.
pub(crate) fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, tail)) = rest.split_first() {
        let code = match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..]) => {
                Some((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'))
            }
            _ => None,
        };
        out.push(code.unwrap_or(first));
        rest = tail.get(if code.is_some() { 3 } else { 0 }..).unwrap_or_default();
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
22 27 0:21 / /proc rw - proc proc rw
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 master:2 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
50 31 0:32 /a /mnt/x rw - cgroup cgroup rw,memory
";

    #[test]
    fn hybrid() {
        let layout = Layout::parse(
            HYBRID,
            "9:name=systemd:/\n4:memory:/api/x\n3:cpu,cpuacct:/\n2:pids:/\n0::/\nrubbish\n",
        );
        assert_eq!(layout.mode(), Mode::Hybrid);
        let memory = layout.hierarchy_of("memory").unwrap();
        assert_eq!(memory.mount, Path::new("/sys/fs/cgroup/memory"));
        assert_eq!(memory.own, Path::new("/sys/fs/cgroup/memory/api/x"));
        assert_eq!(layout.hierarchy_of("cpuacct").unwrap().mount, Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        assert!(layout.hierarchy_of("pids").is_none(), "in the kernel, but not mounted");
        assert_eq!(layout.v2().unwrap().mount, Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(layout.hierarchies()[0].name.as_deref(), Some("systemd"));
    }

    #[test]
    fn v1_and_v2_and_none() {
        let v1 = "35 31 0:32 / /cg/my\\040memory rw - cgroup cgroup rw,memory\n";
        let layout = Layout::parse(v1, "4:memory:/\n0::/\n");
        assert_eq!(layout.mode(), Mode::V1);
        assert_eq!(layout.hierarchies()[0].mount, Path::new("/cg/my memory"));
        let v2 = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let layout = Layout::parse(v2, "0::/user.slice/x.scope\n");
        assert_eq!(layout.mode(), Mode::V2);
        assert_eq!(layout.v2().unwrap().own, Path::new("/sys/fs/cgroup/user.slice/x.scope"));
        assert_eq!(Layout::parse("", "0::/\n").mode(), Mode::None);
        assert_eq!(Layout::parse(v2, "").mode(), Mode::None);
    }

    #[test]
    fn inside_a_container() {
        // v1 bind mounts of a part of the hierarchy, without a cgroup namespace.
        let part = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let own =
            |path: &str| Layout::parse(part, &format!("4:memory:{path}\n")).hierarchies()[0].own.clone();
        assert_eq!(own("/docker/abc/in"), Path::new("/sys/fs/cgroup/memory/in"));
        assert_eq!(own("/docker/abc"), Path::new("/sys/fs/cgroup/memory"));
        // Outside of the cgroup namespace's root.
        assert_eq!(own("/../../x"), Path::new("/sys/fs/cgroup/memory"));
    }

    #[test]
    fn rubbish_does_not_panic() {
        for text in
            ["", "-", " - ", "a - cgroup", "1 2 3 / - cgroup2 x rw", "1 2 3 \\0 \\04 - cgroup2 x", "::", "0:"]
        {
            let _ = Layout::parse(text, text);
        }
    }
}
