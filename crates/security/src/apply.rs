//! Doing the steps, in the child, which has one thread.

use crate::capabilities::Capabilities;
use crate::capset::{CapSet, last_cap, name_of};
use crate::plan::{Action, Plan};
use crate::request::Rlimit;
use crate::{list, procfs, rlimit};
use drydock_core::error::CallExt;
use drydock_core::{Ctx, Error, Result, sys};
use nix::libc::{EACCES, EPERM};
use rustix::process::{Gid, Resource, Uid};
use rustix::thread;
use std::os::fd::OwnedFd;

/// What the steps gave.
#[derive(Debug, Default)]
pub struct Report {
    /// The notify descriptor of a filter with SCMP_ACT_NOTIFY: to be sent to the profile's listener before exec.
    pub seccomp_notify: Option<OwnedFd>,
    /// Capabilities that were asked for and that this process does not have itself: left out.
    pub unavailable: CapSet,
}

impl Plan {
    /// Takes the steps, in order. To be called in the child right before exec, single-threaded: ids, capabilities and
    /// filter are a thread's. Allocates little and starts no process.
    ///
    /// # Errors
    /// [`drydock_core::Kind::Failed`] with the call that failed; the steps before it have been taken, so the process
    /// must not exec.
    pub fn apply(&self, ctx: &Ctx<'_>) -> Result<Report> {
        let mut report = Report::default();
        for action in &self.actions {
            ctx.perform(action, |action| perform(action, &mut report))?;
        }
        Ok(report)
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

fn perform(action: &Action, report: &mut Report) -> Result<()> {
    match action {
        Action::OomScoreAdj(score) => oom_score(*score),
        Action::Nice(nice) => rustix::process::setpriority_process(None, *nice)
            .call(|| format!("setpriority(PRIO_PROCESS, 0, {nice})")),
        Action::Affinity(cpus) => affinity(cpus),
        Action::Scheduler(attributes) => scheduler(*attributes),
        Action::IoPriority(value) => io_priority(*value),
        Action::MemoryPolicy(mode, nodes) => memory_policy(*mode, nodes),
        Action::Personality(persona) => {
            sys::personality::set(*persona).call(|| format!("personality({persona:#x})"))
        }
        Action::Rlimit { resource, limit } => set_rlimit(*resource, limit),
        Action::Keyring(name) => keyring(name),
        Action::AppArmor(profile) => apparmor(profile),
        Action::Selinux(label) => procfs::write_self("attr/exec", label),
        Action::Bounding(keep) => drop_bounding(*keep),
        Action::Groups(groups) => set_groups(groups),
        Action::Ids { uid, gid, keep_caps } => set_ids(*uid, *gid, *keep_caps),
        Action::Umask(mask) => {
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(*mask));
            Ok(())
        }
        Action::CapabilitiesForFilter(caps) => for_filter(caps, report),
        Action::Capabilities(caps) => capset(caps, report),
        Action::Ambient(set) => ambient(*set - report.unavailable),
        Action::NoNewPrivs => thread::set_no_new_privs(true).call(|| "prctl(PR_SET_NO_NEW_PRIVS, 1)"),
        Action::Seccomp(filter) => {
            report.seccomp_notify = install(filter)?;
            Ok(())
        }
    }
}

fn oom_score(score: i32) -> Result<()> {
    // Lowering needs CAP_SYS_RESOURCE even when nothing changes.
    if procfs::read_self("oom_score_adj").is_ok_and(|now| now == score.to_string()) {
        return Ok(());
    }
    procfs::write_self("oom_score_adj", &score.to_string())
        .map_err(|e| e.hint("lowering oom_score_adj needs CAP_SYS_RESOURCE"))
}

fn affinity(cpus: &[usize]) -> Result<()> {
    let mut set = thread::CpuSet::new();
    cpus.iter().filter(|cpu| **cpu < thread::CpuSet::MAX_CPU).for_each(|cpu| set.set(*cpu));
    thread::sched_setaffinity(None, &set).call(|| format!("sched_setaffinity(0, {cpus:?})"))
}

fn scheduler(attributes: sys::sched::Attributes) -> Result<()> {
    sys::sched::set(attributes).call(|| format!("sched_setattr(0, {attributes:?}, 0)")).map_err(|e| {
        match e.errno() {
            Some(EPERM) => {
                e.hint("this policy needs CAP_SYS_NICE, and on v1 a cgroup with cpu.rt_runtime_us")
            }
            Some(nix::libc::EBUSY) => e.hint("the kernel cannot promise these deadlines beside the others"),
            Some(nix::libc::EINVAL) => e.hint("this kernel does not have the policy or flag"),
            _ => e,
        }
    })
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

fn set_rlimit(resource: Resource, limit: &Rlimit) -> Result<()> {
    let set = |soft: u64, hard: u64| {
        let new = rustix::process::Rlimit { current: rlimit::raw(soft), maximum: rlimit::raw(hard) };
        rustix::process::setrlimit(resource, new)
    };
    let result = match set(limit.soft, limit.hard) {
        Err(rustix::io::Errno::PERM) if limit.best_effort => {
            let most = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
            set(limit.soft.min(most), limit.hard.min(most))
        }
        other => other,
    };
    result.call(|| format!("prlimit64(0, {}, {{{}, {}}})", limit.name, limit.soft, limit.hard)).map_err(|e| {
        if e.errno() == Some(EPERM) { e.hint("raising a hard limit needs CAP_SYS_RESOURCE") } else { e }
    })
}

fn keyring(name: &std::ffi::CStr) -> Result<()> {
    match sys::keyring::join_new_session(name) {
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

fn set_groups(groups: &[u32]) -> Result<()> {
    let raw: Vec<Gid> = groups.iter().map(|g| Gid::from_raw(*g)).collect();
    let Err(errno) = thread::set_thread_groups(&raw) else { return Ok(()) };
    let same = || rustix::process::getgroups().is_ok_and(|now| now == raw);
    // Without CAP_SETGID, nothing to do is no error.
    if errno == rustix::io::Errno::PERM && same() {
        return Ok(());
    }
    let denied = errno == rustix::io::Errno::PERM
        && procfs::read_self("setgroups").is_ok_and(|setting| setting == "deny");
    if denied && groups.is_empty() {
        return Ok(());
    }
    let error = Error::call(format!("setgroups({}, {groups:?})", groups.len()), errno);
    Err(match errno {
        _ if denied => error
            .hint("this user namespace denies setgroups: map several groups with newgidmap(1), or give none"),
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

fn install(filter: &crate::seccomp::Filter) -> Result<Option<OwnedFd>> {
    sys::seccomp::install(&filter.program, filter.flags)
        .call(|| format!("seccomp(SECCOMP_SET_MODE_FILTER, {:#x}, {})", filter.flags, filter.summary))
        .map_err(|e| match e.errno() {
            Some(EACCES) => e.hint("set no_new_privs, or keep CAP_SYS_ADMIN"),
            Some(nix::libc::ENOSYS) => {
                e.hint("this kernel lacks CONFIG_SECCOMP_FILTER; run with seccomp=unconfined")
            }
            _ => e,
        })
}
