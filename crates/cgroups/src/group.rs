//! An existing cgroup, known by its directories.

use crate::layout::Layout;
use crate::name::check_name;
use crate::procs::pids_in;
use crate::{files, owned};
use drydock_core::error::CallExt;
use drydock_core::text::escape;
use drydock_core::{Error, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::statfs::statfs;
use std::collections::BTreeSet;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

const CGROUP_V1: i64 = 0x0027_e0eb;
const CGROUP_V2: i64 = 0x6367_7270;

/// One directory of a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dir {
    pub path: PathBuf,
    pub v2: bool,
}

/// A cgroup: one directory in each hierarchy, one in all on pure v2. Directories that are gone are left out.
#[derive(Clone, Debug)]
pub struct Cgroup {
    /// As given, gone or not.
    given: Vec<PathBuf>,
    dirs: Vec<Dir>,
}

impl Cgroup {
    /// The cgroup with these absolute directories. Nothing but directories of a cgroup file system is accepted, so that
    /// removing can never touch other files.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] for a relative path, one with `..`, or one that is not a cgroup.
    pub fn at(dirs: impl IntoIterator<Item = PathBuf>) -> Result<Self> {
        let given: Vec<PathBuf> = dirs.into_iter().collect();
        let mut found = Vec::new();
        for path in &given {
            let plain = path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
            let object = || escape(&path.to_string_lossy());
            if !path.is_absolute() || !plain {
                return Err(Error::bad_input(object(), "not a cgroup directory (allowed: an absolute path)"));
            }
            let kind = match statfs(path.as_path()) {
                Err(Errno::ENOENT | Errno::ENODEV) => continue,
                other => other.call(|| format!("statfs({path:?})"))?.filesystem_type().0,
            };
            #[allow(clippy::unnecessary_cast)] // the type differs between targets
            let v2 = match kind as i64 {
                CGROUP_V2 => true,
                CGROUP_V1 => false,
                _ => return Err(Error::bad_input(object(), "not on a cgroup file system")),
            };
            found.push(Dir { path: path.clone(), v2 });
        }
        Ok(Self { given, dirs: found })
    }

    /// The existing cgroup of a relative name; in systemd's hierarchy of v1 only if it was made by us.
    ///
    /// # Errors
    /// Bad names, and a name that no hierarchy has.
    pub fn open(name: &str, layout: &Layout) -> Result<Self> {
        check_name(name)?;
        let dirs = layout.hierarchies().iter().map(|h| (h, h.place().join(name)));
        let own = dirs.filter(|(h, dir)| h.name.is_none() || owned::is_own(dir));
        let cgroup = Self::at(own.map(|(_, dir)| dir))?;
        if cgroup.exists() {
            return Ok(cgroup);
        }
        let object = format!("cgroup '{}'", escape(name));
        Err(Error::failed(object, "no such cgroup")
            .with_kind(drydock_core::Kind::BadInput)
            .in_stage("cgroup")
            .hint("make it with `cgroupctl create`; `cgroupctl list` shows those that exist"))
    }

    /// The root cgroup (or the delegated one under which we make cgroups), for looking at.
    ///
    /// # Errors
    /// When no cgroup file system is there.
    pub fn root(layout: &Layout) -> Result<Self> {
        let own = layout.hierarchies().iter().filter(|h| h.name.is_none());
        Self::at(own.map(|h| h.base.as_ref().unwrap_or(&h.own).clone()))
    }

    /// Whether any of its directories is there.
    pub fn exists(&self) -> bool {
        !self.dirs.is_empty()
    }

    /// The directories that were there when it was opened.
    pub fn dirs(&self) -> impl Iterator<Item = &Path> {
        self.dirs.iter().map(|d| d.path.as_path())
    }

    pub(crate) fn entries(&self) -> &[Dir] {
        &self.dirs
    }

    pub(crate) fn given(&self) -> &[PathBuf] {
        &self.given
    }

    /// The first directory that has this kernel file.
    pub(crate) fn with_file(&self, file: &str) -> Option<PathBuf> {
        self.dirs.iter().map(|d| d.path.join(file)).find(|p| p.exists())
    }

    /// The text of a kernel file of this cgroup, from the hierarchy that has it; `None` if none has.
    pub fn read(&self, file: &str) -> Option<String> {
        self.dirs.iter().find_map(|d| files::read_if_there(&d.path.join(file)))
    }

    /// How many of its processes the kernel has killed for want of memory; `None` without the memory controller.
    /// One file instead of all statistics: for the end of a container.
    pub fn oom_kills(&self) -> Option<u64> {
        let text = self.read("memory.oom_control").or_else(|| self.read("memory.events"))?;
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "))?;
        count.trim().parse().ok()
    }

    /// The v2 directory for clone3's CLONE_INTO_CGROUP, so that the child is born inside; `None` on pure v1. On hybrid
    /// the child also has to [`join`] the v1 hierarchies.
    ///
    /// # Errors
    /// open(2)'s.
    pub fn clone_target(&self) -> Result<Option<OwnedFd>> {
        let Some(dir) = self.dirs.iter().find(|d| d.v2) else { return Ok(None) };
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let fd = open(&dir.path, flags, Mode::empty()).call(|| format!("open({:?}, O_PATH)", dir.path))?;
        Ok(Some(fd))
    }

    /// The v1 hierarchies' `tasks` files, opened for writing, for [`join`] in the child. Empty on pure v2.
    ///
    /// # Errors
    /// open(2)'s.
    pub fn join_files(&self) -> Result<Vec<OwnedFd>> {
        self.open_files(|d| (!d.v2).then_some("tasks"))
    }

    /// All hierarchies' files for [`join`], v2's included: where clone3 cannot put the child inside.
    ///
    /// # Errors
    /// open(2)'s.
    pub fn all_join_files(&self) -> Result<Vec<OwnedFd>> {
        self.open_files(|d| Some(if d.v2 { "cgroup.procs" } else { "tasks" }))
    }

    fn open_files(&self, file: impl Fn(&Dir) -> Option<&'static str>) -> Result<Vec<OwnedFd>> {
        let paths = self.dirs.iter().filter_map(|d| file(d).map(|f| d.path.join(f)));
        let open = |p: PathBuf| files::open_for_writing(&p).call(|| format!("open({p:?}, O_WRONLY)"));
        paths.map(|p| open(p).map_err(crate::kill::permission)).collect()
    }

    /// The processes in this cgroup (not below), of all hierarchies, sorted.
    ///
    /// # Errors
    /// When cgroup.procs cannot be read.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let mut all = BTreeSet::new();
        for dir in &self.dirs {
            all.extend(pids_in(&dir.path)?);
        }
        Ok(all.into_iter().collect())
    }

    /// The processes in this cgroup and all below it, sorted.
    ///
    /// # Errors
    /// As [`pids`](Self::pids).
    pub fn all_pids(&self) -> Result<Vec<i32>> {
        let mut all = BTreeSet::new();
        for dir in &self.dirs {
            for path in subtree(&dir.path) {
                all.extend(pids_in(&path)?);
            }
        }
        Ok(all.into_iter().collect())
    }

    /// Moves a process into this cgroup in each hierarchy, and verifies that cgroup.procs lists it.
    ///
    /// # Errors
    /// With the rule that refused: no such process, no-internal-process, empty cpuset, delegation, realtime.
    pub fn add(&self, pid: i32) -> Result<()> {
        for dir in &self.dirs {
            let file = dir.path.join("cgroup.procs");
            files::write(&file, &pid.to_string()).map_err(|e| explain_add(e, pid, dir))?;
            // A threaded cgroup lists threads only.
            let threaded = dir.v2 && is_threaded(&dir.path);
            let there = threaded || pids_in(&dir.path)?.contains(&pid);
            // A process that has ended meanwhile is not listed either.
            if !there && Path::new(&format!("/proc/{pid}")).exists() && !is_zombie(pid) {
                let problem = format!("the kernel took the write, but {} does not list it", file.display());
                return Err(Error::failed(format!("process {pid}"), problem).in_stage("cgroup"));
            }
        }
        Ok(())
    }
    /// Moves a single thread: on v1 by `tasks`; on v2 into a threaded cgroup of its own domain, by `cgroup.threads`.
    ///
    /// # Errors
    /// As [`add`](Self::add); EOPNOTSUPP for a v2 cgroup that is not threaded.
    pub fn add_thread(&self, tid: i32) -> Result<()> {
        let v1 = self.dirs.iter().any(|d| !d.v2);
        for dir in self.dirs.iter().filter(|d| !(d.v2 && v1)) {
            let file = dir.path.join(if dir.v2 { "cgroup.threads" } else { "tasks" });
            files::write(&file, &tid.to_string()).map_err(|e| match e.errno().map(Errno::from_raw) {
                Some(Errno::EOPNOTSUPP) => e
                    .in_stage("cgroup")
                    .on(format!("thread {tid}"))
                    .because("a v2 cgroup holds single threads only if its cgroup.type is threaded, inside their process's domain"),
                _ => explain_add(e, tid, dir),
            })?;
        }
        Ok(())
    }
}

/// Puts the calling process into the cgroups whose files these are (see [`Cgroup::join_files`]). For the child after
/// clone: a single-threaded process that moves itself waits for nobody, unlike a parent that writes the child's pid.
///
/// # Errors
/// write(2)'s: ENOSPC for an empty v1 cpuset; EACCES, EBUSY.
pub fn join(files: &[OwnedFd]) -> Result<()> {
    files.iter().try_for_each(|fd| {
        nix::unistd::write(fd, b"0").map(drop).map_err(|errno| {
            let error = Error::call(format!("write({:?}, \"0\")", path_of(fd)), errno).in_stage("cgroup");
            match errno {
                Errno::ENOSPC => error.hint("its cpuset.cpus or cpuset.mems is empty"),
                Errno::EBUSY => {
                    error.hint("a v2 cgroup that gives its children controllers holds no processes itself")
                }
                _ => error,
            }
        })
    })
}

/// Where a descriptor leads, for a message.
fn path_of(fd: &OwnedFd) -> PathBuf {
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    std::fs::read_link(link).unwrap_or_else(|_| PathBuf::from("cgroup.procs"))
}

/// A directory and all below it, children after their parents.
pub(crate) fn subtree(dir: &Path) -> Vec<PathBuf> {
    // Far more than any real machine has; against loops there is none to follow: cgroupfs has no links to directories.
    const MAX: usize = 100_000;
    let mut all = vec![dir.to_path_buf()];
    let mut next = 0;
    while let Some(current) = all.get(next).cloned() {
        next += 1;
        let Ok(entries) = std::fs::read_dir(&current) else { continue };
        let dirs = entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
        all.extend(dirs.map(|e| e.path()));
        if all.len() > MAX {
            break;
        }
    }
    all
}

fn is_threaded(dir: &Path) -> bool {
    files::read_if_there(&dir.join("cgroup.type")).is_some_and(|kind| kind.trim() == "threaded")
}

fn is_zombie(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']))
}

fn explain_add(error: Error, pid: i32, dir: &Dir) -> Error {
    let error = error.in_stage("cgroup").on(format!("process {pid}"));
    match error.errno().map(Errno::from_raw) {
        Some(Errno::ESRCH) => error.because("no such process"),
        Some(Errno::EBUSY) => error
            .because("the cgroup enables controllers for its children: no-internal-process rule")
            .hint("add it to a child of this cgroup"),
        Some(Errno::EOPNOTSUPP) => {
            error.because("the cgroup is threaded or an invalid domain (see its cgroup.type)")
        }
        Some(Errno::ENOENT | Errno::ENODEV) => error.because("the cgroup has been removed"),
        Some(Errno::EROFS) => error
            .because("the cgroup file system is mounted read-only here")
            .hint("mount -o remount,rw it, or do this outside of the container"),
        Some(Errno::ENOSPC) => error.because("the cpuset has no processors or no memory nodes"),
        Some(Errno::EACCES | Errno::EPERM) => error
            .because("delegation: the common ancestor of its cgroup and this one must be writable to you")
            .hint("run as root"),
        Some(Errno::EINVAL) if std::fs::read_link(format!("/proc/{pid}/exe")).is_err() => {
            error.because("a kernel thread: it cannot be moved")
        }
        Some(Errno::EINVAL) => error.because(if dir.v2 {
            "the kernel refuses to move it"
        } else {
            "the kernel refuses to move it (a realtime process needs cpu.rt_runtime_us)"
        }),
        _ => error,
    }
}
