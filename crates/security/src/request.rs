//! What is asked of the security stage, and its check in the parent.

use crate::capabilities::Capabilities;
use crate::numa::MemoryPolicy;
use crate::personality::Personality;
use crate::plan::Plan;
use crate::scheduling::{ExecCpuAffinity, IoPriority, Scheduler};
use crate::seccomp::profile::Profile;
use drydock_core::Result;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What is dropped and fixed on a process right before it execs the command. Everything left out is left as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Request {
    /// The five capability sets; `None` leaves them.
    pub capabilities: Option<Capabilities>,
    /// No later exec can gain privileges (prctl(2) PR_SET_NO_NEW_PRIVS).
    pub no_new_privs: bool,
    /// The system call filter.
    pub seccomp: Seccomp,
    /// Refused calls are written to the kernel's audit log (SECCOMP_FILTER_FLAG_LOG).
    pub seccomp_log: bool,
    /// Resource limits, each name at most once.
    pub rlimits: Vec<Rlimit>,
    /// Whom the command runs as; `None` leaves ids, groups and umask.
    pub user: Option<User>,
    /// Give the user the standard streams too, as runc does, so that it can open /dev/stdout. Changes the caller's files.
    pub own_streams: bool,
    /// Name of a new session keyring (`_ses.<id>`); must not begin with a dot.
    pub keyring: Option<String>,
    /// AppArmor profile to change to on exec.
    pub apparmor: Option<String>,
    /// SELinux context (`user:role:type:level`) to exec with.
    pub selinux: Option<String>,
    /// Badness for the OOM killer, -1000 to 1000 (proc(5) /proc/PID/oom_score_adj).
    pub oom_score_adj: Option<i32>,
    /// Nice value, -20 to 19.
    pub nice: Option<i32>,
    /// Scheduling policy and its parameters.
    pub scheduler: Option<Scheduler>,
    /// Class and level at the block devices.
    pub io_priority: Option<IoPriority>,
    /// Run on every CPU that the cgroup allows, now and later, whatever the caller's choice is. Of no effect with an
    /// [`Request::exec_cpu_affinity`].
    pub all_cpus: bool,
    /// CPUs before and after the process is moved into its cgroup.
    pub exec_cpu_affinity: Option<ExecCpuAffinity>,
    /// From which NUMA nodes memory comes.
    pub memory_policy: Option<MemoryPolicy>,
    /// Execution domain; `None` is PER_LINUX without flags.
    pub personality: Option<Personality>,
}

/// Which system call filter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seccomp {
    /// No filter.
    #[default]
    None,
    /// [`crate::seccomp::default`]'s allow list.
    Default,
    /// A file with a profile as Docker writes them.
    Profile(PathBuf),
    /// A profile as Docker or an OCI config writes it.
    Inline(Box<Profile>),
}

/// One resource limit. Source: getrlimit(2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rlimit {
    /// `nofile` or `RLIMIT_NOFILE`, in any case.
    pub name: String,
    /// What the kernel enforces; `u64::MAX` is unlimited.
    pub soft: u64,
    /// Up to where the process may raise it itself; `u64::MAX` is unlimited.
    pub hard: u64,
    /// Lower the limit to what the caller may give instead of failing (for defaults that nobody asked for).
    #[serde(default)]
    pub best_effort: bool,
}

/// Whom the command runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct User {
    /// User id, at most 4294967294.
    pub uid: u32,
    /// Group id, at most 4294967294.
    pub gid: u32,
    /// Exactly the supplementary groups; none when empty.
    pub additional_gids: Vec<u32>,
    /// File mode creation mask (umask(2)), at most 0o777; `None` leaves it.
    pub umask: Option<u32>,
}

impl Request {
    /// Checks everything that can be checked without touching anything, compiles the filter, and gives the steps in
    /// order. Runs in the parent, before the clone.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] for a wrong value, profile or combination; [`drydock_core::Kind::Failed`] when
    /// the profile file cannot be read, or a label is asked for and that security module is not active.
    pub fn validate(self) -> Result<Plan> {
        Plan::new(&self)
    }
}
