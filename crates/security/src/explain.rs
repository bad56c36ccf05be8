//! The steps in words.

use crate::list;
use crate::plan::Action;
use crate::request::Rlimit;
use drydock_core::{Explain, Step};
use std::borrow::Cow;

impl Explain for Action {
    fn explain(&self) -> Step {
        let (call, why, man) = words(self);
        Step { stage: "security".into(), call, why: Cow::Borrowed(why), man: Cow::Borrowed(man), undo: None }
    }
}

fn words(action: &Action) -> (String, &'static str, &'static str) {
    match action {
        Action::OomScoreAdj(score) => (
            format!("write(\"/proc/self/oom_score_adj\", \"{score}\")"),
            "how early the OOM killer chooses this process",
            "proc_pid_oom_score_adj(5)",
        ),
        Action::Nice(nice) => (
            format!("setpriority(PRIO_PROCESS, 0, {nice})"),
            "not the caller's CPU priority",
            "setpriority(2)",
        ),
        Action::Affinity(cpus) => (
            format!("sched_setaffinity(0, {})", list::show(cpus)),
            "not the caller's choice of CPUs",
            "sched_setaffinity(2)",
        ),
        Action::AllCpus => (
            "sched_setaffinity(0, all)".into(),
            "the cgroup's CPUs, not the caller's choice of them",
            "sched_setaffinity(2)",
        ),
        Action::Scheduler(attributes) => (
            format!("sched_setattr(0, {}, 0)", sched_attr(attributes)),
            "how the kernel shares out the CPUs",
            "sched_setattr(2)",
        ),
        Action::IoPriority(value) => (
            format!("ioprio_set(IOPRIO_WHO_PROCESS, 0, {value:#x})"),
            "its place among those that wait for a disk",
            "ioprio_set(2)",
        ),
        Action::MemoryPolicy(mode, nodes) => (
            format!("set_mempolicy({mode:#x}, nodes {})", list::show(nodes)),
            "from which NUMA nodes its memory comes",
            "set_mempolicy(2)",
        ),
        Action::Personality(persona) => (
            format!("personality({persona:#x})"),
            "the execution domain that the command is run in",
            "personality(2)",
        ),
        Action::Rlimit { limit, .. } => rlimit(limit),
        Action::Keyring { name, .. } => (
            format!("keyctl(KEYCTL_JOIN_SESSION_KEYRING, {name:?})"),
            "keys of the caller's session stay out of reach",
            "keyctl(2)",
        ),
        Action::AppArmor(profile) => (
            format!("write(\"/proc/self/attr/apparmor/exec\", \"exec {profile}\")"),
            "AppArmor confines the command from its exec on",
            "apparmor(7)",
        ),
        Action::Selinux(label) => (
            format!("write(\"/proc/self/attr/exec\", {label:?})"),
            "SELinux confines the command from its exec on",
            "selinux(8)",
        ),
        Action::Bounding(keep) => (
            format!("prctl(PR_CAPBSET_DROP, all but {keep})"),
            "no later exec, setuid or not, can gain other capabilities",
            "capabilities(7)",
        ),
        _ => privileges(action),
    }
}

fn privileges(action: &Action) -> (String, &'static str, &'static str) {
    match action {
        Action::OwnStreams(uid) => (
            format!("fchown(0, 1 and 2, {uid}, -1)"),
            "the command's user can open /dev/stdout again",
            "fchown(2)",
        ),
        Action::Groups(groups) => (
            format!("setgroups({}, {groups:?})", groups.len()),
            "exactly these groups: the caller's are not inherited",
            "setgroups(2)",
        ),
        Action::Ids { uid, gid, keep_caps } => {
            let keep = if *keep_caps && *uid != 0 { "prctl(PR_SET_KEEPCAPS, 1); " } else { "" };
            let call = format!("{keep}setresgid({gid}, {gid}, {gid}); setresuid({uid}, {uid}, {uid})");
            (call, "the command's user; group first, while that is still allowed", "setresuid(2)")
        }
        Action::Umask(mask) => (format!("umask(0{mask:03o})"), "modes of new files", "umask(2)"),
        Action::CapabilitiesForFilter(caps) => (
            format!("capset({} and CAP_SYS_ADMIN)", caps.permitted),
            "without no_new_privs only CAP_SYS_ADMIN may install a filter",
            "capset(2)",
        ),
        Action::Capabilities(caps) => (
            format!(
                "capset(effective={}, permitted={}, inheritable={})",
                caps.effective, caps.permitted, caps.inheritable
            ),
            "what this process itself may do",
            "capset(2)",
        ),
        Action::Ambient(set) => (
            format!("prctl(PR_CAP_AMBIENT, clear all, raise {set})"),
            "what a command of an ordinary user keeps over exec",
            "capabilities(7)",
        ),
        Action::Seccomp(filter) => (
            format!("seccomp(SECCOMP_SET_MODE_FILTER, {:#x}, {})", filter.flags, filter.summary),
            "calls that ordinary programs do not need are refused",
            "seccomp(2)",
        ),
        _ => (
            "prctl(PR_SET_NO_NEW_PRIVS, 1)".to_string(),
            "setuid programs and file capabilities give nothing from here on",
            "PR_SET_NO_NEW_PRIVS(2const)",
        ),
    }
}

/// `struct sched_attr` as strace shows it: what the policy does not use is left out.
fn sched_attr(attributes: &drydock_core::sys::sched::Attributes) -> String {
    let name = crate::scheduling::POLICIES.iter().find(|(_, number)| *number == attributes.policy);
    let policy = name.map_or_else(|| attributes.policy.to_string(), |(name, _)| (*name).to_string());
    let used = [
        ("flags", i128::from(attributes.flags)),
        ("nice", i128::from(attributes.nice)),
        ("priority", i128::from(attributes.priority)),
        ("runtime", i128::from(attributes.runtime)),
        ("deadline", i128::from(attributes.deadline)),
        ("period", i128::from(attributes.period)),
    ];
    let used =
        used.iter().filter(|(_, value)| *value != 0).map(|(name, value)| format!(", sched_{name}={value}"));
    format!("{{sched_policy={policy}{}}}", used.collect::<String>())
}

fn rlimit(limit: &Rlimit) -> (String, &'static str, &'static str) {
    let show = |v: u64| if v == u64::MAX { "RLIM_INFINITY".to_string() } else { v.to_string() };
    let name = limit.name.to_ascii_uppercase();
    let name = name.strip_prefix("RLIMIT_").unwrap_or(&name);
    (
        format!("prlimit64(0, RLIMIT_{name}, {{{}, {}}})", show(limit.soft), show(limit.hard)),
        "a limit of its own, not the caller's",
        "prlimit(2)",
    )
}
