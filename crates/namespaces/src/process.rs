//! A target process, held by pidfd and by its /proc directory, so that the pid cannot come to mean another process
//! between two looks. Source: pidfd_open(2), proc(5).

use crate::{Kind, NamespaceId};
use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use nix::errno::Errno;
use rustix::fs::{Mode, OFlags};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const PROC_SUPER_MAGIC: u64 = 0x9fa0;
/// Flag of kernel threads in field 9 of /proc/PID/stat.
const PF_KTHREAD: u64 = 0x0020_0000;

/// A live process with namespaces of its own to join.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    pidfd: OwnedFd,
    proc: OwnedFd,
}

/// What /proc/PID/stat tells about a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    flags: u64,
    start_time: u64,
}

impl Process {
    /// Takes hold of a process.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] if there is no such process, it has ended (zombie) or is a kernel thread;
    /// [`drydock_core::Kind::Failed`] if /proc is not procfs or the kernel has no pidfds (before Linux 5.3).
    pub fn open(pid: i32) -> Result<Self> {
        let name = format!("process {pid}");
        let Some(target) = Some(pid).filter(|pid| *pid > 0).and_then(rustix::process::Pid::from_raw) else {
            return Err(Error::bad_input(name, "not a process id (allowed: 1 to 4194304)"));
        };
        let gone = || Error::bad_input(name.clone(), "no such process");
        let pidfd = match rustix::process::pidfd_open(target, rustix::process::PidfdFlags::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::SRCH) => return Err(gone()),
            Err(rustix::io::Errno::INVAL) => {
                return Err(Error::bad_input(name, "a thread, not a process (allowed: the id of a process)"));
            }
            Err(e) => {
                let error = Error::call(format!("pidfd_open({pid}, 0)"), e);
                return Err(
                    error.hint("pidfds need Linux 5.3 or newer, and a seccomp filter that allows them")
                );
            }
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = match rustix::fs::open(format!("/proc/{pid}"), flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::NOENT) => return Err(hidden_or_gone(&name)),
            Err(e) => return Err(Error::call(format!("open(\"/proc/{pid}\", O_DIRECTORY)"), e)),
        };
        let fs = rustix::fs::fstatfs(&proc).call(|| "fstatfs(\"/proc\")")?;
        if u64::try_from(fs.f_type).unwrap_or(0) != PROC_SUPER_MAGIC {
            return Err(Error::failed("/proc", "not procfs").hint("mount -t proc proc /proc"));
        }
        let process = Self { pid, pidfd, proc };
        let stat = process.stat()?;
        // The pid cannot have been reused before the pidfd was opened and answer now: so both are one process.
        process.check_alive()?;
        match stat {
            Stat { state: 'Z' | 'X' | 'x', .. } => Err(Error::bad_input(
                name,
                "has ended and only waits for its parent (zombie): it has no namespaces",
            )),
            Stat { flags, .. } if flags & PF_KTHREAD != 0 => {
                Err(Error::bad_input(name, "is a kernel thread: it has no namespaces to join"))
            }
            _ => Ok(process),
        }
    }

    /// The pid, in the caller's pid namespace.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The pidfd.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The inode number of the pidfd: unique to the process for as long as the system runs (pidfs, Linux 6.9).
    ///
    /// # Errors
    /// fstat(2)'s.
    pub fn pidfd_inode(&self) -> Result<u64> {
        rustix::fs::fstat(&self.pidfd).map(|s| s.st_ino).call(|| "fstat(pidfd)")
    }

    /// Start time in clock ticks since boot: with the pid, the identity that state files record.
    ///
    /// # Errors
    /// When it has ended.
    pub fn start_time(&self) -> Result<u64> {
        self.stat().map(|s| s.start_time)
    }

    /// An error if it has ended.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`]: `process 7: no such process`.
    pub fn check_alive(&self) -> Result<()> {
        match drydock_core::sys::signal::pidfd_kill(self.pidfd.as_fd(), 0) {
            Err(e) if e.raw_os_error() == Some(Errno::ESRCH as i32) => Err(self.gone()),
            // EPERM: it is there and is not ours.
            _ => Ok(()),
        }
    }

    fn gone(&self) -> Error {
        Error::bad_input(format!("process {}", self.pid), "no such process")
    }

    /// Opens a file below /proc/PID; the name follows proc(5).
    fn open_at(&self, name: &str, flags: OFlags) -> Result<OwnedFd> {
        match rustix::fs::openat(&self.proc, name, flags | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => Ok(fd),
            Err(rustix::io::Errno::SRCH) => Err(self.gone()),
            Err(e) => {
                let error = Error::call(format!("open(\"/proc/{}/{name}\")", self.pid), e);
                Err(match Errno::from_raw(e.raw_os_error()) {
                    Errno::EACCES | Errno::EPERM => error.hint(
                        "this needs ptrace access to the process: its user, or CAP_SYS_PTRACE in its user namespace",
                    ),
                    _ => error,
                })
            }
        }
    }

    /// Opens one of its namespaces. `None`: the kernel does not have the kind.
    ///
    /// # Errors
    /// EACCES without ptrace access to the process; when it has ended.
    pub fn namespace(&self, kind: Kind) -> Result<Option<OwnedFd>> {
        match self.open_at(&format!("ns/{}", kind.proc_name()), OFlags::RDONLY) {
            Ok(fd) => Ok(Some(fd)),
            Err(e) if e.errno() == Some(Errno::ENOENT as i32) => {
                // An exiting process has none left; a kernel without the kind never had one.
                self.check_alive()?;
                if kind.is_available() { Err(self.gone()) } else { Ok(None) }
            }
            Err(e) => Err(e),
        }
    }

    /// The identity of one of its namespaces.
    ///
    /// # Errors
    /// As [`Process::namespace`], and when the kernel lacks the kind.
    pub fn namespace_id(&self, kind: Kind) -> Result<NamespaceId> {
        match self.namespace(kind)? {
            Some(fd) => NamespaceId::of_fd(fd.as_fd()),
            None => Err(kind.require().err().unwrap_or_else(|| self.gone())),
        }
    }

    /// A copy of one of its descriptors (pidfd_getfd(2), Linux 5.6).
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] if it has no such descriptor; EPERM without ptrace access.
    pub fn descriptor(&self, number: i32) -> Result<OwnedFd> {
        let flags = rustix::process::PidfdGetfdFlags::empty();
        rustix::process::pidfd_getfd(&self.pidfd, number, flags).map_err(|e| {
            let error = Error::call(format!("pidfd_getfd({}, {number}, 0)", self.pid), e);
            match e {
                rustix::io::Errno::BADF => {
                    Error::bad_input(format!("process {}", self.pid), format!("has no descriptor {number}"))
                }
                rustix::io::Errno::PERM => {
                    error.hint("this needs ptrace access to the process, and Linux 5.6")
                }
                _ => error,
            }
        })
    }

    /// Its root directory, as a descriptor that stays valid after joining its namespaces.
    ///
    /// # Errors
    /// EACCES without ptrace access.
    pub fn root(&self) -> Result<OwnedFd> {
        self.open_at("root", OFlags::PATH | OFlags::DIRECTORY)
    }

    /// Its working directory.
    ///
    /// # Errors
    /// EACCES without ptrace access; ENOENT if the directory is gone.
    pub fn cwd(&self) -> Result<OwnedFd> {
        self.open_at("cwd", OFlags::PATH | OFlags::DIRECTORY)
    }

    /// A file of /proc/PID as bytes, at most 4 MiB.
    ///
    /// # Errors
    /// When it cannot be opened or read.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        let file = std::fs::File::from(self.open_at(name, OFlags::RDONLY)?);
        // The kernel makes these files anew for each beginning of a read.
        let mut bytes = Vec::with_capacity(4096);
        match file.take(4 << 20).read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(e) if e.raw_os_error() == Some(Errno::ESRCH as i32) => Err(self.gone()),
            Err(e) => Err(Error::call(format!("read(\"/proc/{}/{name}\")", self.pid), e)),
        }
    }

    fn stat(&self) -> Result<Stat> {
        let bytes = self.read("stat")?;
        parse_stat(&String::from_utf8_lossy(&bytes))
            .ok_or_else(|| Error::failed(format!("/proc/{}/stat", self.pid), "not as proc(5) describes it"))
    }
}

fn hidden_or_gone(name: &str) -> Error {
    Error::bad_input(name, "no such process in /proc")
        .hint("it has ended, or /proc belongs to another pid namespace or hides it (hidepid)")
}

/// The command name stands in parentheses and may contain anything, so fields are counted from the last one.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        flags: fields.get(6)?.parse().ok()?,
        start_time: fields.get(19)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_of_a_hostile_name() {
        let text = "7 (a) Z 1 (b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 99 0";
        assert_eq!(parse_stat(text), Some(Stat { state: 'S', flags: 4_194_560, start_time: 12345 }));
        assert_eq!(parse_stat("7 (a) S"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn who_can_be_opened() {
        let me = i32::try_from(std::process::id()).unwrap();
        let process = Process::open(me).unwrap();
        assert_eq!(process.namespace_id(Kind::Uts).unwrap(), NamespaceId::of_self(Kind::Uts).unwrap());
        for bad in [0, -1, i32::MIN, i32::MAX] {
            assert_eq!(Process::open(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }
}
