//! Which devices a cgroup's processes may open and make.

use crate::limits::bad;
use drydock_core::Result;
use serde::{Deserialize, Serialize};

/// The devices that a rule is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceType {
    /// `a`: every device; the rule's numbers and access do not matter, and all rules before it are forgotten.
    #[default]
    All,
    /// `b`.
    Block,
    /// `c`.
    Char,
}

/// One rule of a device list. Source: the kernel's admin-guide/cgroup-v1/devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeviceRule {
    /// Whether it allows or denies.
    pub allow: bool,
    /// Block, character, or all.
    pub kind: DeviceType,
    /// `None` is `*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub major: Option<u32>,
    /// `None` is `*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minor: Option<u32>,
    /// Of `r` (read), `w` (write), `m` (mknod), at least one.
    pub access: String,
}

impl DeviceRule {
    /// What OCI runtimes allow on top of the configuration's own rules: making any node, and using the devices that each
    /// container has (null, zero, full, random, urandom, tty, ptmx and the ptys behind it) and /dev/net/tun.
    pub fn container_defaults() -> Vec<Self> {
        let rule = |kind, major, minor, access: &str| Self {
            allow: true,
            kind,
            major,
            minor,
            access: access.to_string(),
        };
        let mut rules = vec![
            rule(DeviceType::Char, None, None, "m"),
            rule(DeviceType::Block, None, None, "m"),
            rule(DeviceType::Char, Some(136), None, "rwm"),
        ];
        let single = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (10, 200)];
        rules.extend(single.map(|(a, b)| rule(DeviceType::Char, Some(a), Some(b), "rwm")));
        rules
    }

    /// Checks the access letters.
    pub(crate) fn check(&self) -> Result<()> {
        let known = !self.access.is_empty() && self.access.chars().all(|c| "rwm".contains(c));
        if known {
            return Ok(());
        }
        Err(bad("device access", &self.access, "not an access (allowed: some of r, w and m)"))
    }
}
