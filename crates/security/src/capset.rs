//! Sets of capabilities by name. Source: capabilities(7).

use drydock_core::{Error, Result, text};
use rustix::thread::CapabilitySet;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::ops::{BitAnd, BitOr, Sub};

/// Every capability that Linux names, in the kernel's order: the index is the number (linux/capability.h).
pub const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// A set of capabilities: bit n is capability number n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapSet(pub u64);

impl CapSet {
    /// No capability.
    pub const EMPTY: CapSet = CapSet(0);

    /// What a container gets unless asked otherwise: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID and
    /// NET_BIND_SERVICE. Enough to install packages and serve; nothing that reaches the kernel or other containers.
    pub const DEFAULT: CapSet = CapSet(0b0100_1111_1011);

    /// All that the running kernel has (0 up to [`last_cap`]).
    pub fn all() -> CapSet {
        CapSet(u64::MAX >> (63 - u32::from(last_cap().min(63))))
    }

    /// The set of one capability number; empty above 63.
    pub fn of(number: u8) -> CapSet {
        CapSet(1u64.checked_shl(u32::from(number)).unwrap_or(0))
    }

    /// One name: `CAP_NET_RAW`, `net_raw`, or `ALL` in any case.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] for a name that Linux does not have; the closest name is suggested.
    pub fn parse(name: &str) -> Result<CapSet> {
        let upper = name.to_ascii_uppercase();
        if upper == "ALL" || upper == "CAP_ALL" {
            return Ok(CapSet::all());
        }
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if let Some(number) = NAMES.iter().position(|n| n.strip_prefix("CAP_") == Some(bare)) {
            return Ok(CapSet(1 << number));
        }
        let shown = text::shorten(&text::escape(name), 60);
        let error = Error::bad_input(
            "capability",
            format!("'{shown}' is not one (allowed: ALL, or a name of capabilities(7) such as CAP_NET_RAW)"),
        );
        Err(match closest(bare) {
            Some(close) => error.hint(format!("did you mean {close}?")),
            None => error,
        })
    }

    /// One name exactly as Linux writes it: `CAP_NET_RAW`. Not `ALL`, which in a list of names would give everything.
    pub fn exact(name: &str) -> Option<CapSet> {
        NAMES.iter().position(|known| *known == name).map(|number| CapSet(1 << number))
    }

    /// Whether every capability of `other` is in this set.
    pub fn contains(self, other: CapSet) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The numbers in the set, lowest first.
    pub fn numbers(self) -> impl Iterator<Item = u8> {
        (0..64u8).filter(move |n| self.0 >> n & 1 == 1)
    }

    /// The names in the set; a number that has no name yet is `CAP_<number>`.
    pub fn names(self) -> Vec<String> {
        self.numbers().map(name_of).collect()
    }

    pub(crate) fn raw(self) -> CapabilitySet {
        CapabilitySet::from_bits_retain(self.0)
    }
}

/// `CAP_NET_RAW` for 13; a number without a name is `CAP_<number>`.
pub fn name_of(number: u8) -> String {
    NAMES.get(usize::from(number)).map_or_else(|| format!("CAP_{number}"), |n| (*n).to_string())
}

/// The highest capability number of the running kernel: 40 since Linux 5.9. Asked by prctl(PR_CAPBSET_READ), which
/// answers EINVAL above it, so no /proc is needed.
pub fn last_cap() -> u8 {
    let known = |n: &u8| rustix::thread::capability_is_in_bounding_set(CapSet::of(*n).raw()).is_ok();
    let named = 40u8;
    if known(&named) {
        return (named + 1..64).take_while(known).last().unwrap_or(named);
    }
    (0..named).rev().find(known).unwrap_or(0)
}

/// A name at most two edits away, for the hint.
fn closest(bare: &str) -> Option<&'static str> {
    let scored = NAMES.iter().map(|n| (distance(bare, n.strip_prefix("CAP_").unwrap_or(n)), *n));
    scored.filter(|(d, _)| *d <= 2).min().map(|(_, n)| n)
}

/// Levenshtein's distance; names longer than 40 are far from everything.
fn distance(a: &str, b: &str) -> usize {
    if a.len() > 40 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut next = vec![i + 1];
        for (j, (y, pair)) in b.bytes().zip(row.windows(2)).enumerate() {
            let (diagonal, up) = (pair.first().copied().unwrap_or(0), pair.last().copied().unwrap_or(0));
            let left = next.get(j).copied().unwrap_or(0);
            next.push((diagonal + usize::from(x != y)).min(up + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

impl fmt::Display for CapSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        f.write_str(&self.names().join(","))
    }
}

impl std::str::FromStr for CapSet {
    type Err = Error;

    /// Names separated by commas; an empty text or `none` is the empty set.
    fn from_str(names: &str) -> Result<CapSet> {
        if names.is_empty() || names.eq_ignore_ascii_case("none") {
            return Ok(CapSet::EMPTY);
        }
        names.split(',').try_fold(CapSet::EMPTY, |set, name| Ok(set | CapSet::parse(name.trim())?))
    }
}

impl BitOr for CapSet {
    type Output = CapSet;
    fn bitor(self, other: CapSet) -> CapSet {
        CapSet(self.0 | other.0)
    }
}

impl BitAnd for CapSet {
    type Output = CapSet;
    fn bitand(self, other: CapSet) -> CapSet {
        CapSet(self.0 & other.0)
    }
}

impl Sub for CapSet {
    type Output = CapSet;
    fn sub(self, other: CapSet) -> CapSet {
        CapSet(self.0 & !other.0)
    }
}

impl Serialize for CapSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_seq(self.numbers().map(name_of))
    }
}

impl<'de> Deserialize<'de> for CapSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let names: Vec<String> = Vec::deserialize(deserializer)?;
        names.iter().try_fold(CapSet::EMPTY, |set, name| {
            CapSet::parse(name).map(|one| set | one).map_err(D::Error::custom)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_is_the_eight() {
        let names = "CHOWN,DAC_OVERRIDE,FOWNER,FSETID,KILL,SETGID,SETUID,NET_BIND_SERVICE";
        assert_eq!(names.parse::<CapSet>().unwrap(), CapSet::DEFAULT);
        assert_eq!(CapSet::DEFAULT.names().len(), 8);
    }

    #[test]
    fn names_agree_with_rustix() {
        assert_eq!(CapSet::parse("CAP_NET_RAW").unwrap().raw(), CapabilitySet::NET_RAW);
        assert_eq!(CapSet::parse("sys_admin").unwrap().raw(), CapabilitySet::SYS_ADMIN);
        assert_eq!(CapSet::parse("Cap_Checkpoint_Restore").unwrap().raw(), CapabilitySet::CHECKPOINT_RESTORE);
        for (number, name) in NAMES.iter().enumerate() {
            assert_eq!(CapSet::parse(name).unwrap(), CapSet(1 << number));
        }
    }

    #[test]
    fn last_cap_is_the_kernels() {
        let file = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap();
        assert_eq!(file.trim(), last_cap().to_string());
        assert_eq!(CapSet::all().numbers().last(), Some(last_cap()));
    }

    #[test]
    fn refuses_what_is_no_capability() {
        for bad in ["", "CAP_", "NET RAW", "CAP_CAP_CHOWN", "ALLL", "41", "cap_net_raw\n", &"x".repeat(5000)]
        {
            let error = CapSet::parse(bad).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{bad}");
            assert!(error.to_string().len() < 300);
        }
        assert!(CapSet::parse("NET_RAWW").unwrap_err().to_string().contains("did you mean CAP_NET_RAW"));
        assert!("CHOWN,,KILL".parse::<CapSet>().is_err());
    }

    #[test]
    fn json_is_a_list_of_names() {
        let json = serde_json::to_string(&CapSet(0b11)).unwrap();
        assert_eq!(json, r#"["CAP_CHOWN","CAP_DAC_OVERRIDE"]"#);
        assert_eq!(serde_json::from_str::<CapSet>(&json).unwrap(), CapSet(3));
        assert!(serde_json::from_str::<CapSet>(r#"["CAP_FOO"]"#).is_err());
    }
}
