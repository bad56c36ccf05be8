//! The eight namespace types under all their names, and sets of them. Source: namespaces(7), clone(2).

use drydock_core::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// One namespace type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Ids and capabilities (user_namespaces(7)).
    User,
    /// Mount points (mount_namespaces(7)).
    Mount,
    /// Process ids (pid_namespaces(7)).
    Pid,
    /// Network devices, addresses, routes, ports (network_namespaces(7)).
    Network,
    /// System V IPC and POSIX message queues (ipc_namespaces(7)).
    Ipc,
    /// Host and domain name (uts_namespaces(7)).
    Uts,
    /// The view of the cgroup tree (cgroup_namespaces(7)).
    Cgroup,
    /// Boot and monotonic clocks (time_namespaces(7)).
    Time,
}

impl Kind {
    /// Every kind, the user namespace first: it owns the others.
    pub const ALL: [Kind; 8] =
        [Kind::User, Kind::Mount, Kind::Pid, Kind::Network, Kind::Ipc, Kind::Uts, Kind::Cgroup, Kind::Time];

    /// The clone(2) flag.
    pub const fn flag(self) -> u32 {
        match self {
            Kind::Time => 0x0000_0080,
            Kind::Mount => 0x0002_0000,
            Kind::Cgroup => 0x0200_0000,
            Kind::Uts => 0x0400_0000,
            Kind::Ipc => 0x0800_0000,
            Kind::User => 0x1000_0000,
            Kind::Pid => 0x2000_0000,
            Kind::Network => 0x4000_0000,
        }
    }

    /// The flag's name in C.
    pub const fn flag_name(self) -> &'static str {
        match self {
            Kind::Time => "CLONE_NEWTIME",
            Kind::Mount => "CLONE_NEWNS",
            Kind::Cgroup => "CLONE_NEWCGROUP",
            Kind::Uts => "CLONE_NEWUTS",
            Kind::Ipc => "CLONE_NEWIPC",
            Kind::User => "CLONE_NEWUSER",
            Kind::Pid => "CLONE_NEWPID",
            Kind::Network => "CLONE_NEWNET",
        }
    }

    /// The kind of a CLONE_NEW* flag.
    pub fn from_flag(flag: u32) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.flag() == flag)
    }

    /// The name under /proc/PID/ns: `mnt`, `net`, …
    pub const fn proc_name(self) -> &'static str {
        match self {
            Kind::User => "user",
            Kind::Mount => "mnt",
            Kind::Pid => "pid",
            Kind::Network => "net",
            Kind::Ipc => "ipc",
            Kind::Uts => "uts",
            Kind::Cgroup => "cgroup",
            Kind::Time => "time",
        }
    }

    /// The name in the OCI runtime specification: `mount`, `network`, …
    pub const fn oci_name(self) -> &'static str {
        match self {
            Kind::Mount => "mount",
            Kind::Network => "network",
            other => other.proc_name(),
        }
    }

    /// The man page.
    pub const fn man(self) -> &'static str {
        match self {
            Kind::User => "user_namespaces(7)",
            Kind::Mount => "mount_namespaces(7)",
            Kind::Pid => "pid_namespaces(7)",
            Kind::Network => "network_namespaces(7)",
            Kind::Ipc => "ipc_namespaces(7)",
            Kind::Uts => "uts_namespaces(7)",
            Kind::Cgroup => "cgroup_namespaces(7)",
            Kind::Time => "time_namespaces(7)",
        }
    }

    /// The first Linux release that has it complete.
    pub const fn since(self) -> &'static str {
        match self {
            Kind::Mount => "2.4.19",
            Kind::Uts | Kind::Ipc => "2.6.19",
            Kind::Pid => "2.6.24",
            Kind::Network => "2.6.29",
            Kind::User => "3.8",
            Kind::Cgroup => "4.6",
            Kind::Time => "5.6",
        }
    }

    /// What one of them isolates, in a few words.
    pub const fn isolates(self) -> &'static str {
        match self {
            Kind::User => "user and group ids, capabilities",
            Kind::Mount => "mount points",
            Kind::Pid => "process ids",
            Kind::Network => "network devices, addresses, routes, ports",
            Kind::Ipc => "System V IPC, POSIX message queues",
            Kind::Uts => "host and domain name",
            Kind::Cgroup => "the view of the cgroup tree",
            Kind::Time => "boot and monotonic clocks",
        }
    }

    /// Whether the running kernel has it: whether /proc/self/ns shows it.
    pub fn is_available(self) -> bool {
        std::fs::symlink_metadata(format!("/proc/self/ns/{}", self.proc_name())).is_ok()
    }

    /// An error if the running kernel lacks it.
    ///
    /// # Errors
    /// [`drydock_core::Kind::Failed`] that names the kernel option.
    pub fn require(self) -> Result<()> {
        if self.is_available() {
            return Ok(());
        }
        let option = match self {
            Kind::Mount => "CONFIG_NAMESPACES".to_string(),
            Kind::Cgroup => "CONFIG_CGROUPS".to_string(),
            other => format!("CONFIG_{}_NS", other.proc_name().to_uppercase()),
        };
        Err(Error::failed(format!("{self} namespace"), "this kernel has none")
            .hint(format!("it needs Linux {} or newer with {option}=y, and /proc mounted", self.since())))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.proc_name())
    }
}

impl FromStr for Kind {
    type Err = Error;

    /// Accepts the names of /proc, of the OCI specification and of clone(2) (`mnt`, `mount`, `CLONE_NEWNS`, …).
    fn from_str(text: &str) -> Result<Self> {
        let named = |kind: &Kind| {
            [kind.proc_name(), kind.oci_name(), kind.flag_name()].iter().any(|n| n.eq_ignore_ascii_case(text))
        };
        Kind::ALL.into_iter().find(named).ok_or_else(|| {
            let shown = drydock_core::text::shorten(&drydock_core::text::escape(text), 40);
            Error::bad_input(
                format!("'{shown}'"),
                "not a namespace type (allowed: user, mnt, pid, net, ipc, uts, cgroup, time)",
            )
        })
    }
}

/// A set of namespace types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Kind>", into = "Vec<Kind>")]
pub struct Set(u32);

impl Set {
    /// No kind.
    pub const EMPTY: Set = Set(0);

    /// The set with `kind` added.
    #[must_use]
    pub const fn with(self, kind: Kind) -> Set {
        Set(self.0 | kind.flag())
    }

    /// The set with `kind` taken out.
    #[must_use]
    pub const fn without(self, kind: Kind) -> Set {
        Set(self.0 & !kind.flag())
    }

    /// Adds `kind`; false if it was there.
    pub fn insert(&mut self, kind: Kind) -> bool {
        let new = !self.contains(kind);
        *self = self.with(kind);
        new
    }

    /// Whether `kind` is in it.
    pub const fn contains(self, kind: Kind) -> bool {
        self.0 & kind.flag() != 0
    }

    /// Whether it is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The kinds, in the order of [`Kind::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(move |kind| self.contains(*kind))
    }

    /// The CLONE_NEW* flags for clone3(2). Mind [`Kind::Time`]: clone3 enters it at once, so that its offsets can no
    /// longer be set; see [`crate::time`].
    pub const fn flags(self) -> u64 {
        self.0 as u64
    }

    /// `CLONE_NEWNS|CLONE_NEWPID`, or `0`.
    pub fn flag_names(self) -> String {
        let names: Vec<&str> = self.iter().map(Kind::flag_name).collect();
        if names.is_empty() { "0".to_string() } else { names.join("|") }
    }
}

impl FromIterator<Kind> for Set {
    fn from_iter<I: IntoIterator<Item = Kind>>(kinds: I) -> Self {
        kinds.into_iter().fold(Set::EMPTY, Set::with)
    }
}

impl From<Vec<Kind>> for Set {
    fn from(kinds: Vec<Kind>) -> Self {
        kinds.into_iter().collect()
    }
}

impl From<Set> for Vec<Kind> {
    fn from(set: Set) -> Self {
        set.iter().collect()
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(Kind::proc_name).collect();
        f.write_str(&names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling() {
        for (text, kind) in [
            ("mnt", Kind::Mount),
            ("mount", Kind::Mount),
            ("CLONE_NEWNS", Kind::Mount),
            ("network", Kind::Network),
            ("net", Kind::Network),
            ("USER", Kind::User),
            ("time", Kind::Time),
        ] {
            assert_eq!(text.parse::<Kind>().unwrap(), kind);
        }
        assert_eq!("foo".parse::<Kind>().unwrap_err().exit_code(), 2);
    }

    #[test]
    fn sets() {
        let set: Set = [Kind::Pid, Kind::Mount].into_iter().collect();
        assert_eq!(set.flags(), 0x2002_0000);
        assert_eq!(set.flag_names(), "CLONE_NEWNS|CLONE_NEWPID");
        assert_eq!(serde_json::to_string(&set).unwrap(), r#"["mount","pid"]"#);
        assert_eq!(serde_json::from_str::<Set>(r#"["pid","mount"]"#).unwrap(), set);
        assert_eq!(Kind::from_flag(0x80), Some(Kind::Time));
    }
}
