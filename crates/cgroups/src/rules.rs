//! Which devices a cgroup's processes may open and make.

use crate::limits::bad;
use drydock_core::Result;
use serde::{Deserialize, Serialize};
use std::fmt;

pub(crate) const READ: u8 = 1;
pub(crate) const WRITE: u8 = 2;
pub(crate) const MKNOD: u8 = 4;
const LETTERS: [(u8, char); 3] = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];

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

    /// As the kernel's files write it: `c 1:3 rwm`, `b *:* m`, `a`.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] with what is allowed.
    pub fn parse(allow: bool, text: &str) -> Result<Self> {
        let wrong = || {
            bad(
                "device rule",
                text,
                "not a rule (allowed: a, or b or c, MAJOR:MINOR or *, and rwm: c 1:3 rwm)",
            )
        };
        let words: Vec<&str> = text.split_whitespace().collect();
        let number = |t: &str| match t {
            "*" => Some(None),
            _ if t.bytes().all(|b| b.is_ascii_digit()) => t.parse().ok().map(Some),
            _ => None,
        };
        let (kind, numbers, access) = match words.as_slice() {
            ["a"] | ["a", "*:*", "rwm"] => (DeviceType::All, "*:*", "rwm"),
            ["b", numbers, access] => (DeviceType::Block, *numbers, *access),
            ["c", numbers, access] => (DeviceType::Char, *numbers, *access),
            _ => return Err(wrong()),
        };
        let (major, minor) = numbers.split_once(':').ok_or_else(wrong)?;
        let (major, minor) = number(major).zip(number(minor)).ok_or_else(wrong)?;
        let rule = Self { allow, kind, major, minor, access: access.to_string() };
        rule.check().map(|()| rule)
    }

    /// The rule for every device.
    pub fn all(allow: bool) -> Self {
        Self { allow, access: "rwm".to_string(), ..Self::default() }
    }

    /// As people write them, separated by `,` or `;`: `allow /dev/null rw`, `deny b 8:* rwm`, `allow all`. Without an
    /// access it is all three.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] with what is allowed; a path that is no device.
    pub fn parse_words(text: &str) -> Result<Vec<Self>> {
        let parts = text.split([',', ';', '\n']).map(str::trim);
        let rules = parts.filter(|p| !p.is_empty()).map(Self::parse_one).collect::<Result<Vec<_>>>()?;
        if rules.is_empty() {
            return Err(bad(
                "devices",
                text,
                "without a rule (allowed: allow or deny, a device, and of rwm)",
            ));
        }
        Ok(rules)
    }

    fn parse_one(text: &str) -> Result<Self> {
        let wrong = || {
            let allowed = "not a rule (allowed: 'allow /dev/null rw', 'deny c 1:3 rwm', 'allow all')";
            bad("devices", text, allowed)
        };
        let words: Vec<&str> = text.split_whitespace().collect();
        let (allow, rest) = match words.split_first() {
            Some((&"allow", rest)) => (true, rest),
            Some((&"deny", rest)) => (false, rest),
            _ => return Err(wrong()),
        };
        match rest {
            ["all" | "a" | "*"] => Ok(Self::all(allow)),
            [path] | [path, _] if path.starts_with('/') => {
                let (kind, major, minor) = crate::device::node(path)?;
                let access = rest.get(1).copied().unwrap_or("rwm").to_string();
                let rule = Self { allow, kind, major: Some(major), minor: Some(minor), access };
                rule.check().map(|()| rule)
            }
            [kind, numbers] => Self::parse(allow, &format!("{kind} {numbers} rwm")),
            [kind, numbers, access] => Self::parse(allow, &format!("{kind} {numbers} {access}")),
            _ => Err(wrong()),
        }
    }

    pub(crate) fn bits(&self) -> u8 {
        LETTERS.iter().filter(|(_, letter)| self.access.contains(*letter)).map(|(bit, _)| bit).sum()
    }

    /// Checks the access letters. An `a` beside one of them means nothing, but configurations have it.
    pub(crate) fn check(&self) -> Result<()> {
        let letters = |allowed: &str| self.access.chars().all(|c| allowed.contains(c));
        let known = self.bits() != 0 && self.access.len() <= 8 && letters("rwma");
        if known {
            return Ok(());
        }
        Err(bad("device access", &self.access, "not an access (allowed: some of r, w and m)"))
    }
}

/// Devices by type and numbers; `None` is `*`.
pub(crate) type Which = (DeviceType, Option<u32>, Option<u32>);

pub(crate) fn line((kind, major, minor): Which, bits: u8) -> String {
    let letter = match kind {
        DeviceType::All => return "a".to_string(),
        DeviceType::Block => 'b',
        DeviceType::Char => 'c',
    };
    let number = |n: Option<u32>| n.map_or("*".to_string(), |n| n.to_string());
    let access: String =
        LETTERS.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, letter)| letter).collect();
    format!("{letter} {}:{} {access}", number(major), number(minor))
}

/// As the kernel's files write it.
impl fmt::Display for DeviceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&line((self.kind, self.major, self.minor), self.bits()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        for text in ["c 1:3 rwm", "b *:* m", "c 136:* rw", "a"] {
            assert_eq!(DeviceRule::parse(true, text).unwrap().to_string(), text);
        }
        for wrong in [
            "x *:* rwm",
            "c 1:-2 r",
            "c 1:3 z",
            "c 1:3",
            "c 1 r",
            "",
            "c 1:3 ",
            "c 4294967296:0 r",
            "a 1:3 r",
        ] {
            assert_eq!(DeviceRule::parse(true, wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }
}
