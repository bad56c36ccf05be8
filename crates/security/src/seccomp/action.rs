//! What a filter can answer. Source: seccomp(2), "Filter return values".

use serde::{Deserialize, Serialize};

/// An action as profiles name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// The thread dies of SIGSYS.
    #[serde(rename = "SCMP_ACT_KILL", alias = "SCMP_ACT_KILL_THREAD")]
    KillThread,
    /// The process dies of SIGSYS.
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    /// SIGSYS, which a handler can catch.
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    /// The call fails with an errno.
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    /// A tracer decides; ENOSYS without one.
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    /// The holder of the notify descriptor decides.
    #[serde(rename = "SCMP_ACT_NOTIFY")]
    Notify,
    /// Allowed, and logged.
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
    /// Allowed.
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
}

/// The filter kills the whole process.
pub const RET_KILL_PROCESS: u32 = 0x8000_0000;
/// The filter kills the thread.
pub const RET_KILL_THREAD: u32 = 0;
/// The filter sends SIGSYS.
pub const RET_TRAP: u32 = 0x0003_0000;
/// The filter answers the errno in the low 16 bits.
pub const RET_ERRNO: u32 = 0x0005_0000;
/// The filter asks the notify descriptor.
pub const RET_USER_NOTIF: u32 = 0x7fc0_0000;
/// The filter asks the tracer.
pub const RET_TRACE: u32 = 0x7ff0_0000;
/// The filter allows and logs.
pub const RET_LOG: u32 = 0x7ffc_0000;
/// The filter allows.
pub const RET_ALLOW: u32 = 0x7fff_0000;

impl Action {
    /// The other name of [`Action::KillThread`].
    pub const KILL_THREAD: &'static str = "SCMP_ACT_KILL_THREAD";

    /// All, from the strictest.
    pub const ALL: [Action; 8] = [
        Action::KillProcess,
        Action::KillThread,
        Action::Trap,
        Action::Errno,
        Action::Notify,
        Action::Trace,
        Action::Log,
        Action::Allow,
    ];

    /// Whether `errnoRet` means something.
    pub fn takes_errno(self) -> bool {
        matches!(self, Action::Errno | Action::Trace)
    }

    /// The filter's return value; `data` is the errno (or the tracer's message) where there is one.
    pub fn code(self, data: u16) -> u32 {
        match self {
            Action::KillProcess => RET_KILL_PROCESS,
            Action::KillThread => RET_KILL_THREAD,
            Action::Trap => RET_TRAP,
            Action::Errno => RET_ERRNO | u32::from(data),
            Action::Notify => RET_USER_NOTIF,
            Action::Trace => RET_TRACE | u32::from(data),
            Action::Log => RET_LOG,
            Action::Allow => RET_ALLOW,
        }
    }

    /// The kernel's name, as in /proc/sys/kernel/seccomp/actions_avail.
    pub fn kernel_name(self) -> &'static str {
        match self {
            Action::KillProcess => "kill_process",
            Action::KillThread => "kill_thread",
            Action::Trap => "trap",
            Action::Errno => "errno",
            Action::Notify => "user_notif",
            Action::Trace => "trace",
            Action::Log => "log",
            Action::Allow => "allow",
        }
    }
}

/// The actions that the running kernel offers, by its own names; empty without seccomp filters.
pub fn available_actions() -> Vec<&'static str> {
    let offered = Action::ALL.iter().filter(|a| drydock_core::sys::seccomp::action_available(a.code(0)));
    offered.map(|a| a.kernel_name()).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn kernel_agrees() {
        let file = std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
        for action in super::available_actions() {
            assert!(file.is_empty() || file.split_whitespace().any(|a| a == action), "{action}");
        }
    }
}
