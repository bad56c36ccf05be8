//! Putting a device list in force: by the devices controller of v1, by a program on v2.

use crate::layout::{Hierarchy, Layout, Version};
use crate::list::List;
use crate::request::IfExists;
use crate::rules::DeviceRule;
use crate::{files, filter};
use drydock_core::error::CallExt;
use drydock_core::sys::bpf::{self, Instruction};
use drydock_core::{Error, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::Mode;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A device list for one cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gate {
    pub dir: PathBuf,
    pub how: How,
    /// What is in force already is looked at first: only a cgroup that was there can have something.
    pub existing: bool,
}

/// The list in the words of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum How {
    V1(List),
    V2(Vec<Instruction>),
}

impl Gate {
    /// The rules for the cgroup at `dir`.
    ///
    /// # Errors
    /// Rules that v1 cannot do.
    pub fn new(rules: &[DeviceRule], dir: PathBuf, version: Version, if_exists: IfExists) -> Result<Self> {
        let how = match version {
            Version::V1 => How::V1(List::of(rules)?),
            Version::V2 => How::V2(filter::program(rules)),
        };
        let existing = matches!(if_exists, IfExists::Require | IfExists::Reuse);
        Ok(Self { dir, how, existing })
    }

    /// The hierarchy that judges devices: v1's controller where it is mounted, else v2.
    pub fn hierarchy(layout: &Layout) -> Option<&Hierarchy> {
        layout.hierarchy_of("devices").or_else(|| layout.v2())
    }

    /// Puts it in force. What the cgroups above do not allow, and that this process may not do it at all, comes back as
    /// text: nothing is allowed by that.
    ///
    /// # Errors
    /// The call that failed.
    pub fn apply(&self) -> Result<Vec<String>> {
        let done = match &self.how {
            How::V1(list) => self.v1(list),
            How::V2(program) => self.v2(program).map(|()| Vec::new()),
        };
        match done {
            Err(e) if e.errno() == Some(Errno::EPERM as i32) && !in_initial_user_namespace() => {
                Ok(vec!["devices: rules can be set by root of the host only, not in a user namespace".into()])
            }
            other => other,
        }
    }

    fn v1(&self, list: &List) -> Result<Vec<String>> {
        // A new cgroup has its parent's list; from whatever that is, closing it first is right.
        let from = if self.existing {
            List::parse(&files::read(&self.dir.join("devices.list"))?)
        } else {
            List::open()
        };
        let mut refused = Vec::new();
        let mut opened: [Option<OwnedFd>; 2] = [None, None];
        for (allow, line) in list.changes(&from) {
            let path = self.dir.join(if allow { "devices.allow" } else { "devices.deny" });
            let slot = if allow { &mut opened[0] } else { &mut opened[1] };
            let fd = match slot {
                Some(fd) => fd,
                None => {
                    slot.insert(files::open_for_writing(&path).call(|| format!("open({path:?}, O_WRONLY)"))?)
                }
            };
            let written = nix::unistd::write(&*fd, line.as_bytes());
            match written.call(|| format!("write({path:?}, {line:?})")) {
                Err(e) if allow && e.errno() == Some(Errno::EPERM as i32) && in_initial_user_namespace() => {
                    refused.push(format!("devices: the cgroup above does not allow '{line}'"));
                }
                other => drop(other?),
            }
        }
        Ok(refused)
    }

    fn v2(&self, program: &[Instruction]) -> Result<()> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let cgroup = open(&self.dir, flags, Mode::empty()).call(|| format!("open({:?})", self.dir))?;
        let loaded = load(program).call(|| "bpf(BPF_PROG_LOAD, CGROUP_DEVICE)").map_err(explain)?;
        replace(cgroup.as_fd(), loaded.as_fd())
            .call(|| format!("bpf(BPF_PROG_ATTACH, {:?}, CGROUP_DEVICE)", self.dir))
            .map_err(explain)
    }
}

/// Before Linux 5.11 programs count against RLIMIT_MEMLOCK, whose default holds few of them.
fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    let first = bpf::load_device_program(program);
    let no_permission = |e: &io::Error| e.raw_os_error() == Some(Errno::EPERM as i32);
    let (true, Ok((soft, hard))) =
        (first.as_ref().is_err_and(no_permission), getrlimit(Resource::RLIMIT_MEMLOCK))
    else {
        return first;
    };
    const ROOM: u64 = 64 << 20;
    if soft >= ROOM || setrlimit(Resource::RLIMIT_MEMLOCK, ROOM, hard.max(ROOM)).is_err() {
        return first;
    }
    let second = bpf::load_device_program(program);
    setrlimit(Resource::RLIMIT_MEMLOCK, soft, hard)?;
    second
}

/// The new program in the place of those that are there. All attached programs must agree for an access to be allowed, so
/// between the two nothing is open that either denies.
fn replace(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let ids = bpf::device_programs(cgroup)?;
    let old: Vec<OwnedFd> = ids.iter().map(|id| bpf::program_by_id(*id)).collect::<io::Result<_>>()?;
    if let [one] = old.as_slice() {
        match bpf::attach_device_program(cgroup, program, Some(one.as_fd())) {
            // Before Linux 5.6 the flag is not known.
            Err(e) if e.raw_os_error() == Some(Errno::EINVAL as i32) => {}
            other => return other,
        }
    }
    bpf::attach_device_program(cgroup, program, None)?;
    old.iter().try_for_each(|old| bpf::detach_device_program(cgroup, old.as_fd()))
}

fn explain(error: Error) -> Error {
    match error.errno().map(Errno::from_raw) {
        Some(Errno::EPERM) => error.hint("needs CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN, of the host"),
        Some(Errno::ENOSYS | Errno::EINVAL) => {
            error.hint("needs a kernel with CONFIG_CGROUP_BPF and CONFIG_BPF_SYSCALL")
        }
        _ => error,
    }
}

/// Only there do the kernel's device rules have an owner.
fn in_initial_user_namespace() -> bool {
    let map = files::read_if_there(Path::new("/proc/self/uid_map")).unwrap_or_default();
    map.split_whitespace().eq(["0", "0", "4294967295"])
}
