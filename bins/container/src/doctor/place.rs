//! Where probes run: new namespaces, a private file tree, and a throw-away directory where the data is.

use super::{Finding, causes, child};
use drydock_cgroups::Layout;
use drydock_core::error::CallExt;
use drydock_core::{Kind as ErrorKind, Result, paths};
use drydock_namespaces::create::explain_clone;
use drydock_namespaces::{Kind, Set};
use nix::mount::{MsFlags, mount};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A little less than a probe's own time, so that it can still say what happened.
const TIME: Duration = Duration::from_millis(1800);

/// Directories that a mount hides nothing under that a probe needs.
const SPOTS: [&str; 6] = ["/mnt", "/media", "/srv", "/opt", "/boot", "/sys"];

/// What probes have to know.
pub(super) struct Facts {
    /// Effective user id 0: containers are made without a user namespace.
    pub root: bool,
    /// The state directory.
    pub state: Result<PathBuf>,
    /// The data directory.
    pub data: Result<PathBuf>,
    /// The cgroup hierarchies.
    pub layout: Result<Layout>,
}

impl Facts {
    /// Looks around; touches nothing.
    pub fn gather(root: Option<&Path>) -> Result<Self> {
        let (state, data) = (paths::state_root(root), paths::data_root());
        // A wrong option is the caller's mistake, a missing XDG_RUNTIME_DIR is the machine's.
        for place in [&state, &data] {
            if let Err(e) = place
                && e.kind() == ErrorKind::BadInput
            {
                return Err(e.clone());
            }
        }
        Ok(Self { root: nix::unistd::geteuid().is_root(), state, data, layout: Layout::detect() })
    }

    /// The namespaces of a plain container of this user.
    pub fn container(&self) -> Set {
        let set: Set =
            [Kind::Mount, Kind::Pid, Kind::Network, Kind::Ipc, Kind::Uts, Kind::Cgroup].into_iter().collect();
        if self.root { set } else { set.with(Kind::User) }
    }

    /// Runs `probe` as the first process of new namespaces; for an ordinary user also of a user namespace, as root in it.
    pub fn inside(&self, kinds: Set, probe: impl FnOnce() -> Result<Finding>) -> Result<Finding> {
        let kinds = if self.root { kinds } else { kinds.with(Kind::User) };
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let entered = child::run(kinds.flags(), TIME, || {
            if kinds.contains(Kind::User) {
                map_own(uid, gid)?;
            }
            if kinds.contains(Kind::Mount) {
                make_private()?;
            }
            probe()
        });
        entered.map_err(|e| match (e.failed_call(), e.errno()) {
            (Some(child::CALL), Some(errno)) => refused(kinds, errno),
            _ => e,
        })
    }

    /// The same with an empty tmpfs of the probe's own.
    pub fn on_tmpfs(&self, kinds: Set, probe: impl FnOnce(&Path) -> Result<Finding>) -> Result<Finding> {
        self.inside(kinds.with(Kind::Mount), || {
            let spot = spot();
            mount(
                Some("tmpfs"),
                spot,
                Some("tmpfs"),
                MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
                Some("mode=755"),
            )
            .call(|| format!("mount(\"tmpfs\", {spot:?}, \"tmpfs\", MS_NOSUID|MS_NODEV)"))?;
            probe(spot)
        })
    }
}

/// Why namespaces were refused: the user namespace's cause, which is behind all of an ordinary user's.
pub(super) fn refused(kinds: Set, errno: i32) -> drydock_core::Error {
    let io = std::io::Error::from_raw_os_error(errno);
    match causes::user_namespace(Some(errno)).filter(|_| kinds.contains(Kind::User)) {
        Some((cause, fix)) => {
            drydock_core::Error::call(format!("clone3({})", kinds.flag_names()), io).because(cause).hint(fix)
        }
        None => explain_clone(io, kinds, "clone3"),
    }
}

fn spot() -> &'static Path {
    let there = SPOTS.iter().map(Path::new).find(|p| p.is_dir());
    there.unwrap_or(Path::new("/"))
}

/// One id, which everybody may map. Source: user_namespaces(7).
pub(super) fn map_own(uid: u32, gid: u32) -> Result<()> {
    let write = |file: &str, text: &str| {
        let path = format!("/proc/self/{file}");
        std::fs::write(&path, text).call(|| format!("write({path:?}, {text:?})"))
    };
    write("setgroups", "deny")?;
    write("uid_map", &format!("0 {uid} 1"))?;
    write("gid_map", &format!("0 {gid} 1"))
}

fn make_private() -> Result<()> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .call(|| "mount(NULL, \"/\", NULL, MS_REC|MS_PRIVATE, NULL)")
}

/// The nearest directory that exists: `dir` itself, or one above it.
pub(super) fn nearest(dir: &Path) -> &Path {
    dir.ancestors().find(|d| d.is_dir()).unwrap_or(Path::new("/"))
}

/// Whether this process is one of a doctor that is at work. Not a zombie, and no later process of the same pid.
pub(super) fn is_a_doctor(pid: i32) -> bool {
    let stat = |who: &str| std::fs::read_to_string(format!("/proc/{who}/stat")).unwrap_or_default();
    let name = |stat: &str| {
        Some((stat.find('(')?, stat.rfind(')')?)).and_then(|(a, b)| stat.get(a..b).map(str::to_string))
    };
    let (theirs, own) = (stat(&pid.to_string()), stat("self"));
    let ended = theirs.rsplit(") ").next().is_none_or(|rest| rest.starts_with(['Z', 'X']));
    !ended && name(&theirs).is_some() && name(&theirs) == name(&own)
}

/// A throw-away directory, removed when dropped.
pub(super) struct Scratch(pub PathBuf);

impl Scratch {
    const PREFIX: &'static str = ".drydock-doctor-";

    /// In `dir`, or in the nearest directory above it that exists.
    pub fn new(dir: &Path) -> Result<Self> {
        let parent = nearest(dir);
        Self::sweep(parent);
        let path = parent.join(format!("{}{}", Self::PREFIX, std::process::id()));
        std::fs::create_dir(&path).call(|| format!("mkdir({path:?}, 0777)")).map_err(|e| match e.errno() {
            Some(nix::libc::EACCES | nix::libc::EPERM | nix::libc::EROFS) => e.hint(
                "this user may not write there: set DRYDOCK_DATA (data), or DRYDOCK_ROOT or --root (state), to a \
                 directory where it may",
            ),
            _ => e,
        })?;
        Ok(Self(path))
    }

    /// What a doctor that was killed has left.
    fn sweep(parent: &Path) {
        for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let pid =
                name.to_str().and_then(|n| n.strip_prefix(Self::PREFIX)).and_then(|n| n.parse::<i32>().ok());
            if pid.is_some_and(|pid| !is_a_doctor(pid)) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }

    /// A directory in it.
    pub fn dir(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        std::fs::create_dir(&path).call(|| format!("mkdir({path:?}, 0777)"))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
