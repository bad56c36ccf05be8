//! Limits and the like, on a throw-away cgroup.

use super::place::{Facts, is_a_doctor};
use super::{Finding, Need, Probe};
use drydock_cgroups::{
    Cgroup, CpuMax, IfExists, Layout, Limits, Mode, Report, Request, SHARED_PARENT, Version,
};
use drydock_core::error::CallExt;
use drydock_core::exit::Ended;
use drydock_core::sys::process::{Child, clone_child};
use drydock_core::sys::signal::pidfd_kill;
use drydock_core::{Ctx, Error, Result};
use std::os::fd::AsFd;
use std::time::Duration;

const MOUNT: &str = "mount -t cgroup2 cgroup2 /sys/fs/cgroup";
const MEMORY: u64 = 64 << 20;
const DELEGATE: &str =
    "run as root, or in a delegated cgroup: systemd-run --user --scope -p Delegate=yes container doctor";

macro_rules! probe {
    ($id:literal, $what:literal, $lost:literal, $fix:expr, $options:expr, $test:expr) => {
        Probe {
            id: $id,
            group: "cgroups",
            what: $what,
            lost: $lost,
            fix: $fix,
            options: $options,
            need: Need::None,
            test: $test,
        }
    };
}

pub(super) const PROBES: &[Probe] = &[
    probe!(
        "cgroup-mode",
        "cgroup hierarchies",
        "limits, statistics, freezing and killing of containers",
        MOUNT,
        &["CONFIG_CGROUPS"],
        mode
    ),
    probe!(
        "cgroup-controllers",
        "controllers cpu, memory, pids, io, cpuset",
        "the options of the missing ones: --cpus, --memory, --pids, --io, --cpuset",
        "boot without cgroup_disable=, and enable them in the parent's cgroup.subtree_control",
        &["CONFIG_MEMCG", "CONFIG_CGROUP_PIDS", "CONFIG_CFS_BANDWIDTH"],
        controllers
    ),
    probe!(
        "cgroup-limits",
        "cpu, memory and pids limits",
        "--cpus, --memory, --pids: a container runs without them and says so",
        DELEGATE,
        &["CONFIG_MEMCG", "CONFIG_CGROUP_PIDS", "CONFIG_CFS_BANDWIDTH"],
        limits
    ),
    probe!(
        "cgroup-swap",
        "swap limit",
        "--swap; memory is still limited, swap is not",
        "boot with swapaccount=1",
        &["CONFIG_SWAP", "CONFIG_MEMCG_SWAP"],
        swap
    ),
    probe!(
        "cgroup-freezer",
        "freezer",
        "cgroupctl freeze; killing v1 cgroups that fork all the time",
        DELEGATE,
        &["CONFIG_CGROUP_FREEZER"],
        freezer
    ),
    probe!(
        "cgroup-kill",
        "cgroup.kill",
        "killing a cgroup in one write; else its processes are frozen and killed one by one",
        "cgroup v2 and Linux 5.14",
        &[],
        kill
    ),
    probe!(
        "clone-into-cgroup",
        "CLONE_INTO_CGROUP",
        "a process is moved into its cgroup after its birth instead of being born there",
        "cgroup v2 and Linux 5.7",
        &[],
        born
    ),
];

/// A cgroup that goes away again. Controllers that had to be enabled above it stay enabled, as after any container: turned
/// off, they would be missing for a container that is being started at the same time.
struct Throwaway {
    cgroup: Cgroup,
    report: Report,
}

impl Throwaway {
    fn new(facts: &Facts, limits: Limits) -> Result<Self> {
        let layout = facts.layout.clone()?;
        if layout.hierarchies().iter().all(|h| h.base.is_none()) {
            return Err(match layout.mode() {
                Mode::None => Error::failed("cgroup", "no cgroup file system is mounted").hint(MOUNT),
                _ => Error::failed("cgroup", "none can be made by this user").hint(DELEGATE),
            });
        }
        sweep(&layout);
        let request = Request {
            name: format!("{SHARED_PARENT}/{PREFIX}{}", std::process::id()),
            limits,
            if_exists: IfExists::Replace,
            lenient: true,
            lean: true,
            dirs: vec![],
            complete: false,
            place: drydock_cgroups::Place::Base,
            make_leaf: false,
        };
        let report = request.validate(&layout)?.apply(&Ctx::silent())?;
        if report.dirs.is_empty() {
            return Err(Error::failed("cgroup", report.lacking.join("; ")).hint(DELEGATE));
        }
        Ok(Self { cgroup: Cgroup::at(report.dirs.iter().cloned())?, report })
    }

    /// A process in it that does nothing for a second.
    fn sleeper(&self) -> Result<Child> {
        let child = clone_child(0, None, || {
            let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
            std::thread::sleep(Duration::from_secs(1));
            0
        })
        .call(|| "clone3(CLONE_PIDFD)")?;
        self.cgroup.add(child.pid)?;
        Ok(child)
    }
}

impl Drop for Throwaway {
    fn drop(&mut self) {
        // What cannot be removed now is by the next doctor's sweep.
        let _ = self.cgroup.remove(Duration::from_millis(500));
    }
}

const PREFIX: &str = "doctor-";

/// Removes what a doctor that was killed has left.
fn sweep(layout: &Layout) {
    for hierarchy in layout.hierarchies() {
        let Some(parent) = hierarchy.base.as_ref().map(|base| base.join(SHARED_PARENT)) else { continue };
        for entry in std::fs::read_dir(&parent).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let pid = name.to_str().and_then(|n| n.strip_prefix(PREFIX)).and_then(|n| n.parse::<i32>().ok());
            if pid.is_some_and(|pid| !is_a_doctor(pid)) {
                let _ = Cgroup::at([entry.path()]).and_then(|c| c.remove(Duration::from_millis(200)));
            }
        }
    }
}

fn mode(facts: &Facts) -> Result<Finding> {
    let layout = facts.layout.clone()?;
    let writable = layout.hierarchies().iter().filter(|h| h.base.is_some()).count();
    match layout.mode() {
        Mode::None => Finding::missing("no cgroup file system is mounted"),
        _ if writable == 0 => Ok(Finding::degraded("none can be written by this user")?.with_fix(DELEGATE)),
        Mode::V2 => Finding::ok("v2"),
        Mode::Hybrid => Finding::ok("hybrid: controllers in v1, v2 beside them"),
        Mode::V1 => Finding::ok("v1"),
    }
}

fn controllers(facts: &Facts) -> Result<Finding> {
    let layout = facts.layout.clone()?;
    let have = layout.controllers();
    let lack: Vec<&str> = ["cpu", "memory", "pids", "io", "cpuset"]
        .into_iter()
        .filter(|c| !have.iter().any(|h| h == c))
        .collect();
    if lack.is_empty() {
        Finding::ok(have.join(" "))
    } else {
        Finding::degraded(format!("without {}", lack.join(", ")))
    }
}

fn limits(facts: &Facts) -> Result<Finding> {
    let cpu = Some(CpuMax::new(50_000, 100_000));
    let made = Throwaway::new(
        facts,
        Limits { cpu, memory_max: Some(MEMORY), pids_max: Some(64), ..Limits::default() },
    )?;
    read_back(&made)
}

fn swap(facts: &Facts) -> Result<Finding> {
    let made = Throwaway::new(
        facts,
        Limits { memory_max: Some(MEMORY), swap_max: Some(MEMORY), ..Limits::default() },
    )?;
    read_back(&made)
}

/// What the kernel has now, or what it lacks.
fn read_back(made: &Throwaway) -> Result<Finding> {
    let have: Vec<String> = made.report.settings.iter().map(|s| format!("{}={}", s.file, s.kernel)).collect();
    match (made.report.lacking.is_empty(), have.is_empty()) {
        (true, _) => Finding::ok(have.join(" ")),
        (false, false) => Finding::degraded(made.report.lacking.join("; ")),
        (false, true) => Finding::missing(made.report.lacking.join("; ")),
    }
}

fn freezer(facts: &Facts) -> Result<Finding> {
    let made = Throwaway::new(facts, Limits::default())?;
    let child = made.sleeper()?;
    let frozen = made.cgroup.freeze().map(|()| made.cgroup.is_frozen());
    let thawed = made.cgroup.thaw();
    end(&child);
    match frozen? {
        Some(true) => thawed.and_then(|()| Finding::ok("")),
        other => Finding::missing(format!("frozen, and the kernel says {other:?}")),
    }
}

fn kill(facts: &Facts) -> Result<Finding> {
    let made = Throwaway::new(facts, Limits::default())?;
    let child = made.sleeper()?;
    let at_once = made.cgroup.dirs().any(|dir| dir.join("cgroup.kill").exists());
    let killed = made.cgroup.kill();
    if killed.is_err() {
        end(&child);
    }
    killed?;
    match drydock_supervise::wait_exit(&child)? {
        Ended::Signaled(9) if at_once => Finding::ok(""),
        Ended::Signaled(9) => Finding::degraded("no such file: frozen and killed one by one instead"),
        other => Finding::missing(format!("the process ended otherwise: {other:?}")),
    }
}

fn end(child: &Child) {
    let _ = pidfd_kill(child.pidfd.as_fd(), nix::libc::SIGKILL);
    let _ = drydock_supervise::wait_exit(child);
}

fn born(facts: &Facts) -> Result<Finding> {
    if facts.layout.clone()?.v2().is_none_or(|h| h.version != Version::V2) {
        return Finding::degraded("there is no v2 hierarchy");
    }
    let made = Throwaway::new(facts, Limits::default())?;
    let Some(target) = made.cgroup.clone_target()? else {
        return Finding::degraded("no cgroup can be made in the v2 hierarchy");
    };
    let name = format!("/{PREFIX}{}", std::process::id());
    let child = clone_child(0, Some(target.as_fd()), || {
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        u8::from(!own.lines().any(|l| l.starts_with("0::") && l.ends_with(&name)))
    })
    .call(|| "clone3(CLONE_INTO_CGROUP)")?;
    match drydock_supervise::wait_exit(&child)? {
        Ended::Exited(0) => Finding::ok(""),
        other => Finding::missing(format!("the child was born elsewhere ({other:?})")),
    }
}
