//! Doing the steps, in the child, which has one thread.

use crate::capabilities::Capabilities;
use crate::capset::{CapSet, last_cap, name_of};
use crate::plan::{Action, Plan};
use crate::request::Rlimit;
use crate::seccomp::Handover;
use crate::{list, procfs, rlimit};
use drydock_core::error::CallExt;
use drydock_core::{Ctx, Error, Result, sys};
use nix::libc::{EACCES, EPERM, SCHED_DEADLINE};
use rustix::process::{Gid, Resource, Uid};
use rustix::thread;
use std::os::fd::AsFd;

/// What the steps gave.
#[derive(Debug, Default)]
pub struct Report {
    /// Capabilities that were asked for and that this process does not have itself: left out.
    pub unavailable: CapSet,
    /// Supplementary groups were asked for where the user namespace denies setgroups(2): left out, as runc does.
    pub groups_denied: bool,
}

impl Report {
    /// What was left out, a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let caps = (!self.unavailable.is_empty()).then(|| {
            format!("capabilities {} are left out: the caller does not have them", self.unavailable)
        });
        let groups = self
            .groups_denied
            .then(|| "supplementary groups are left out: the user namespace denies them".into());
        caps.into_iter().chain(groups).collect()
    }
}

impl Plan {
    /// What the parent can do for a child that is in a user namespace already, where privileges of the host no longer
    /// count: limits above the hard ones, and /proc/PID/oom_score_adj. No limit is lowered: that is the child's own step,
    /// when it has done what may need more. Call it while the child waits.
    ///
    /// # Errors
    /// As [`Plan::apply_settings`].
    pub fn apply_outside(&self, ctx: &Ctx<'_>, child: i32) -> Result<()> {
        let mut outer = self.actions.iter();
        outer.try_for_each(|action| match action {
            Action::OomScoreAdj(score) => {
                ctx.perform(action, |_| oom_score(&procfs::Of::Process(child), *score))
            }
            Action::Rlimit { resource, limit } => limit.raised(*resource).map_or(Ok(()), |raised| {
                ctx.perform(action, |_| set_rlimit(rustix::process::Pid::from_raw(child), *resource, &raised))
            }),
            _ => Ok(()),
        })
    }

    /// Moves the process to the CPUs on which it is to run before it is moved into its cgroup
    /// (`execCPUAffinity.initial`); call it before that.
    ///
    /// # Errors
    /// EINVAL when none of them may be used.
    pub fn apply_before_cgroup(&self, ctx: &Ctx<'_>) -> Result<()> {
        let step = self.first_cpus.as_ref();
        step.map_or(Ok(()), |step| ctx.perform(step, |step| perform(step, &mut Report::default())))
    }
}

pub(crate) fn perform(action: &Action, report: &mut Report) -> Result<()> {
    match action {
        Action::OomScoreAdj(score) => oom_score(&procfs::Of::Myself, *score),
        Action::Nice(nice) => rustix::process::setpriority_process(None, *nice)
            .call(|| format!("setpriority(PRIO_PROCESS, 0, {nice})")),
        Action::Affinity(cpus) => affinity(cpus),
        // The kernel leaves out what the cgroup does not allow. A host that refuses leaves the caller's choice.
        Action::AllCpus => affinity(&(0..thread::CpuSet::MAX_CPU).collect::<Vec<_>>()).or(Ok(())),
        Action::Scheduler(attributes) => scheduler(0, *attributes),
        Action::IoPriority(value) => io_priority(*value),
        Action::MemoryPolicy(mode, nodes) => memory_policy(*mode, nodes),
        Action::Personality(persona) => {
            sys::personality::set(*persona).call(|| format!("personality({persona:#x})"))
        }
        Action::Rlimit { resource, limit } => set_rlimit(None, *resource, limit),
        Action::Keyring { name, label } => keyring(name, label.as_deref()),
        Action::OwnStreams(uid) => own_streams(*uid),
        Action::AppArmor(profile) => apparmor(profile),
        Action::Selinux(label) => procfs::write_self("attr/exec", label),
        Action::Bounding(keep) => drop_bounding(*keep),
        Action::Groups(groups) => {
            report.groups_denied = set_groups(groups)?;
            Ok(())
        }
        Action::Ids { uid, gid, keep_caps } => set_ids(*uid, *gid, *keep_caps),
        Action::Umask(mask) => {
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(*mask));
            Ok(())
        }
        Action::CapabilitiesForFilter(caps) => for_filter(caps, report),
        Action::Capabilities(caps) => capset(caps, report),
        Action::Ambient(set) => ambient(*set - report.unavailable),
        Action::NoNewPrivs => thread::set_no_new_privs(true).call(|| "prctl(PR_SET_NO_NEW_PRIVS, 1)"),
        Action::Seccomp(filter) => install(filter, None),
    }
}

fn oom_score(of: &procfs::Of, score: i32) -> Result<()> {
    // Lowering needs CAP_SYS_RESOURCE even when nothing changes.
    if of.read("oom_score_adj").is_ok_and(|now| now == score.to_string()) {
        return Ok(());
    }
    of.write("oom_score_adj", &score.to_string())
        .map_err(|e| e.hint("lowering oom_score_adj needs CAP_SYS_RESOURCE, in the initial user namespace"))
}

fn affinity(cpus: &[usize]) -> Result<()> {
    let mut set = thread::CpuSet::new();
    cpus.iter().filter(|cpu| **cpu < thread::CpuSet::MAX_CPU).for_each(|cpu| set.set(*cpu));
    thread::sched_setaffinity(None, &set).call(|| format!("sched_setaffinity(0, {cpus:?})"))
}

pub(crate) fn scheduler(pid: i32, attributes: sys::sched::Attributes) -> Result<()> {
    sys::sched::set(pid, attributes).call(|| format!("sched_setattr({pid}, {attributes:?}, 0)")).map_err(
        |e| match e.errno() {
            // runc's words for the second cause, which are looked for in logs.
            Some(EPERM) if attributes.policy == SCHED_DEADLINE.unsigned_abs() => e.hint(
                "SCHED_DEADLINE needs CAP_SYS_NICE, and every CPU: this process scheduler can't be used together with \
                 AllowedCPUs (/linux/resources/cpu/cpus)",
            ),
            Some(EPERM) => {
                e.hint("this policy needs CAP_SYS_NICE, and on v1 a cgroup with cpu.rt_runtime_us")
            }
            Some(nix::libc::EBUSY) => e.hint("the kernel cannot promise these deadlines beside the others"),
            Some(nix::libc::EINVAL) => e.hint("this kernel does not have the policy or flag"),
            _ => e,
        },
    )
}

fn io_priority(value: u16) -> Result<()> {
    sys::sched::set_io_priority(value)
        .call(|| format!("ioprio_set(IOPRIO_WHO_PROCESS, 0, {value:#x})"))
        .map_err(|e| if e.errno() == Some(EPERM) { e.hint("IOPRIO_CLASS_RT needs CAP_SYS_NICE") } else { e })
}

fn memory_policy(mode: u32, nodes: &[usize]) -> Result<()> {
    let mut mask = vec![0u64; nodes.last().map_or(0, |last| last / 64 + 1)];
    for node in nodes {
        if let Some(word) = mask.get_mut(node / 64) {
            *word |= 1 << (node % 64);
        }
    }
    let call = || format!("set_mempolicy({mode:#x}, nodes {})", list::show(nodes));
    sys::numa::set_policy(mode, &mask).call(call).map_err(|e| match e.errno() {
        Some(nix::libc::EINVAL) => e.hint("the nodes must have memory (/sys/devices/system/node/has_memory)"),
        Some(nix::libc::ENOSYS) => e.hint("this kernel lacks CONFIG_NUMA"),
        _ => e,
    })
}

pub(crate) fn set_rlimit(of: Option<rustix::process::Pid>, resource: Resource, limit: &Rlimit) -> Result<()> {
    let set = |soft: u64, hard: u64| {
        let new = rustix::process::Rlimit { current: rlimit::raw(soft), maximum: rlimit::raw(hard) };
        rustix::process::prlimit(of, resource, new).map(drop)
    };
    let result = match set(limit.soft, limit.hard) {
        Err(rustix::io::Errno::PERM) if limit.best_effort => {
            let most = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
            set(limit.soft.min(most), limit.hard.min(most))
        }
        other => other,
    };
    let pid = of.map_or(0, |pid| pid.as_raw_nonzero().get());
    result.call(|| format!("prlimit64({pid}, {}, {{{}, {}}})", limit.name, limit.soft, limit.hard)).map_err(
        |e| match e.errno() {
            Some(EPERM) if matches!(resource, Resource::Nofile) => e.hint(
                "raising a hard limit needs CAP_SYS_RESOURCE, and none may be above /proc/sys/fs/nr_open",
            ),
            Some(EPERM) => e.hint("raising a hard limit needs CAP_SYS_RESOURCE"),
            _ => e,
        },
    )
}

fn keyring(name: &std::ffi::CStr, label: Option<&str>) -> Result<()> {
    if let Some(label) = label {
        procfs::write_self("attr/keycreate", label)?;
    }
    let joined = sys::keyring::join_new_session(name);
    if label.is_some() {
        // Keys that the command makes have its own label again.
        procfs::write_self("attr/keycreate", "\n")?;
    }
    match joined {
        // A kernel without keys has none to share.
        Err(e) if e.raw_os_error() == Some(nix::libc::ENOSYS) => return Ok(()),
        other => other.call(|| format!("keyctl(KEYCTL_JOIN_SESSION_KEYRING, {name:?})")).map_err(|e| {
            let full = e.errno() == Some(nix::libc::EDQUOT);
            if full {
                e.hint("the user's key quota is used up: see /proc/key-users and /proc/sys/kernel/keys")
            } else {
                e
            }
        })?,
    }
    sys::keyring::possessor_only().call(|| "keyctl(KEYCTL_SETPERM, KEY_SPEC_SESSION_KEYRING, KEY_POS_ALL)")
}

fn apparmor(profile: &str) -> Result<()> {
    // The first since Linux 5.8, so that other modules can have attr/exec.
    let file = if procfs::has_self("attr/apparmor/exec") { "attr/apparmor/exec" } else { "attr/exec" };
    procfs::write_self(file, &format!("exec {profile}")).map_err(|e| {
        if e.errno() == Some(nix::libc::ENOENT) {
            e.hint("load the profile with apparmor_parser(8)")
        } else {
            e
        }
    })
}

fn drop_bounding(keep: CapSet) -> Result<()> {
    for number in (0..=last_cap()).filter(|n| !keep.contains(CapSet::of(*n))) {
        let one = CapSet::of(number).raw();
        let Err(errno) = thread::remove_capability_from_bounding_set(one) else { continue };
        // Reading needs no privilege: a set that is small enough already is no error for an ordinary user.
        if matches!(thread::capability_is_in_bounding_set(one), Ok(false)) {
            continue;
        }
        let error = Error::call(format!("prctl(PR_CAPBSET_DROP, {})", name_of(number)), errno);
        return Err(error.hint("dropping from the bounding set needs CAP_SETPCAP"));
    }
    Ok(())
}

/// Standard streams belong to the command's user, so that it can open them again by /dev/stdout (runc does the same).
fn own_streams(uid: u32) -> Result<()> {
    // By its number: what a container has at /dev/null may be something else, or nothing.
    let null = rustix::fs::makedev(1, 3);
    let (input, output, errors) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    for (name, stream) in [input.as_fd(), output.as_fd(), errors.as_fd()].into_iter().enumerate() {
        // A closed stream has no owner; the null device is everybody's.
        let Ok(stat) = rustix::fs::fstat(stream) else { continue };
        if stat.st_uid == uid
            || (stat.st_rdev == null && rustix::fs::FileType::from_raw_mode(stat.st_mode).is_char_device())
        {
            continue;
        }
        match rustix::fs::fchown(stream, Some(Uid::from_raw(uid)), None) {
            // The host's file of an owner that this user namespace does not know, or a read-only file system.
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::PERM | rustix::io::Errno::ROFS) => {}
            Err(errno) => return Err(Error::call(format!("fchown({name}, {uid}, -1)"), errno)),
        }
    }
    Ok(())
}

/// True if the user namespace denies groups, and some were asked for.
fn set_groups(groups: &[u32]) -> Result<bool> {
    let raw: Vec<Gid> = groups.iter().map(|g| Gid::from_raw(*g)).collect();
    let Err(errno) = thread::set_thread_groups(&raw) else { return Ok(false) };
    let same = || rustix::process::getgroups().is_ok_and(|now| now == raw);
    // Without CAP_SETGID, nothing to do is no error.
    if errno == rustix::io::Errno::PERM && same() {
        return Ok(false);
    }
    // A process that is not in the pid namespace whose /proc it sees cannot read its own file there: with the capability,
    // nothing else can be the reason then.
    let may = || {
        thread::capabilities(None).is_ok_and(|caps| caps.effective.contains(thread::CapabilitySet::SETGID))
    };
    let denied = || procfs::read_self("setgroups").map_or_else(|_| may(), |setting| setting == "deny");
    if errno == rustix::io::Errno::PERM && denied() {
        return Ok(!groups.is_empty());
    }
    let error = Error::call(format!("setgroups({}, {groups:?})", groups.len()), errno);
    Err(match errno {
        rustix::io::Errno::INVAL => {
            error.hint("a group is not mapped in this user namespace: see /proc/self/gid_map")
        }
        _ => error.hint("changing groups needs CAP_SETGID"),
    })
}

fn set_ids(uid: u32, gid: u32, keep_caps: bool) -> Result<()> {
    let advise = |e: Error, map: &str| match e.errno() {
        Some(nix::libc::EINVAL) => {
            e.hint(format!("the id is not mapped in this user namespace: see /proc/self/{map}"))
        }
        Some(EPERM) => e.hint("changing ids needs CAP_SETUID and CAP_SETGID"),
        _ => e,
    };
    let keep = keep_caps && uid != 0;
    if keep {
        thread::set_keep_capabilities(true).call(|| "prctl(PR_SET_KEEPCAPS, 1)")?;
    }
    let group = Gid::from_raw(gid);
    thread::set_thread_res_gid(group, group, group)
        .call(|| format!("setresgid({gid}, {gid}, {gid})"))
        .map_err(|e| advise(e, "gid_map"))?;
    let user = Uid::from_raw(uid);
    thread::set_thread_res_uid(user, user, user)
        .call(|| format!("setresuid({uid}, {uid}, {uid})"))
        .map_err(|e| advise(e, "uid_map"))?;
    if keep {
        thread::set_keep_capabilities(false).call(|| "prctl(PR_SET_KEEPCAPS, 0)")?;
    }
    Ok(())
}

fn permitted() -> Result<CapSet> {
    Ok(CapSet(thread::capabilities(None).call(|| "capget()")?.permitted.bits()))
}

fn for_filter(caps: &Capabilities, report: &mut Report) -> Result<()> {
    let admin = CapSet::parse("SYS_ADMIN")? & permitted()?;
    let wider =
        Capabilities { permitted: caps.permitted | admin, effective: caps.effective | admin, ..*caps };
    capset(&wider, report)
}

/// Sets what can be set: a capability that the process does not have cannot be given (runc leaves it out too).
fn capset(caps: &Capabilities, report: &mut Report) -> Result<()> {
    let have = permitted()?;
    report.unavailable = report.unavailable | (caps.permitted - have);
    let sets = thread::CapabilitySets {
        effective: (caps.effective & have).raw(),
        permitted: (caps.permitted & have).raw(),
        inheritable: (caps.inheritable & have).raw(),
    };
    thread::set_capabilities(None, sets).call(|| format!("capset(permitted={})", caps.permitted & have))
}

fn ambient(set: CapSet) -> Result<()> {
    thread::clear_ambient_capability_set().call(|| "prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)")?;
    for number in set.numbers() {
        thread::configure_capability_in_ambient_set(CapSet::of(number).raw(), true)
            .call(|| format!("prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, {})", name_of(number)))?;
    }
    Ok(())
}

pub(crate) fn install(filter: &crate::seccomp::Filter, handover: Option<&Handover>) -> Result<()> {
    if filter.notify && handover.is_none() {
        return Err(Error::failed("seccomp", "nobody takes the notify descriptor (SCMP_ACT_NOTIFY)"));
    }
    handover.filter(|_| filter.notify).map_or(Ok(()), Handover::open)?;
    let listener = sys::seccomp::install(&filter.program, filter.flags)
        .call(|| format!("seccomp(SECCOMP_SET_MODE_FILTER, {:#x}, {})", filter.flags, filter.summary))
        .map_err(|e| match e.errno() {
            Some(EACCES) => e.hint("set no_new_privs, or keep CAP_SYS_ADMIN"),
            Some(nix::libc::ENOSYS) => {
                e.hint("this kernel lacks CONFIG_SECCOMP_FILTER; run with seccomp=unconfined")
            }
            _ => e,
        })?;
    if let (Some(listener), Some(handover)) = (listener, handover) {
        handover.give(&listener)?;
        // Closed by the exec: close(2) may be one of the calls that the filter asks about.
        std::mem::forget(listener);
    }
    Ok(())
}
