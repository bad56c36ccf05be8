//! Architectures and the names of their system calls.

use super::table::TABLE;
use drydock_core::{Error, Result, text};
use serde::{Deserialize, Serialize};

/// An architecture whose system calls we can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Arch {
    /// 64-bit x86.
    #[serde(rename = "SCMP_ARCH_X86_64")]
    X86_64,
    /// i386, also reached on x86-64 by `int 0x80`.
    #[serde(rename = "SCMP_ARCH_X86")]
    X86,
    /// x32: x86-64's entry with bit 30 set in the number.
    #[serde(rename = "SCMP_ARCH_X32")]
    X32,
    /// 64-bit ARM.
    #[serde(rename = "SCMP_ARCH_AARCH64")]
    Aarch64,
    /// 32-bit ARM (EABI).
    #[serde(rename = "SCMP_ARCH_ARM")]
    Arm,
}

/// The bit that marks an x32 call.
pub const X32_BIT: u32 = 0x4000_0000;

/// Architectures that profiles may name and that we do not filter for: a profile's rules for them do not apply here.
const FOREIGN: [&str; 16] = [
    "LOONGARCH64",
    "M68K",
    "MIPS",
    "MIPS64",
    "MIPS64N32",
    "MIPSEL",
    "MIPSEL64",
    "MIPSEL64N32",
    "PARISC",
    "PARISC64",
    "PPC",
    "PPC64",
    "PPC64LE",
    "RISCV64",
    "S390",
    "S390X",
];

impl Arch {
    /// Those that filters are made for.
    const OURS: [(&'static str, Arch); 5] = [
        ("X86_64", Arch::X86_64),
        ("X86", Arch::X86),
        ("X32", Arch::X32),
        ("AARCH64", Arch::Aarch64),
        ("ARM", Arch::Arm),
    ];

    /// The names that [`Arch::parse`] knows, in profiles' spelling.
    pub fn known() -> impl Iterator<Item = String> {
        let bare = Self::OURS.iter().map(|(name, _)| *name).chain(FOREIGN);
        bare.map(|name| format!("SCMP_ARCH_{name}"))
    }

    /// The architecture of this program.
    pub const NATIVE: Arch = if cfg!(target_arch = "aarch64") { Arch::Aarch64 } else { Arch::X86_64 };

    /// `SCMP_ARCH_X86_64` (or `x86_64`); `None` for one that Linux has but we do not filter for.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] for a name that is no architecture.
    pub fn parse(name: &str) -> Result<Option<Arch>> {
        let bare = name.strip_prefix("SCMP_ARCH_").unwrap_or(name).to_ascii_uppercase();
        Ok(match bare.as_str() {
            "NATIVE" => Some(Arch::NATIVE),
            other if FOREIGN.contains(&other) => None,
            other => {
                if let Some((_, arch)) = Self::OURS.iter().find(|(name, _)| *name == other) {
                    return Ok(Some(*arch));
                }
                let shown = text::shorten(&text::escape(name), 60);
                return Err(Error::bad_input(
                    "seccomp architecture",
                    format!(
                        "'{shown}' is not one (allowed: {})",
                        Self::known().collect::<Vec<_>>().join(", ")
                    ),
                ));
            }
        })
    }

    /// What `struct seccomp_data` carries in `arch` (linux/audit.h AUDIT_ARCH_*).
    pub fn audit(self) -> u32 {
        match self {
            Arch::X86_64 | Arch::X32 => 0xc000_003e,
            Arch::X86 => 0x4000_0003,
            Arch::Aarch64 => 0xc000_00b7,
            Arch::Arm => 0x4000_0028,
        }
    }

    /// The name that Docker's `includes.arches` uses.
    pub fn docker_name(self) -> &'static str {
        match self {
            Arch::X86_64 => "amd64",
            Arch::X86 => "x86",
            Arch::X32 => "x32",
            Arch::Aarch64 => "arm64",
            Arch::Arm => "arm",
        }
    }

    /// Those that a kernel of this architecture can also run.
    pub fn sub_architectures(self) -> &'static [Arch] {
        match self {
            Arch::X86_64 => &[Arch::X86, Arch::X32],
            Arch::Aarch64 => &[Arch::Arm],
            _ => &[],
        }
    }

    /// Whether arguments are 32 bits wide: then only those are looked at, as libseccomp does (x32 has 32-bit pointers).
    pub fn is_32_bit(self) -> bool {
        matches!(self, Arch::X86 | Arch::X32 | Arch::Arm)
    }

    fn column(self) -> usize {
        match self {
            Arch::X86_64 => 0,
            Arch::X86 => 1,
            Arch::X32 => 2,
            Arch::Aarch64 => 3,
            Arch::Arm => 4,
        }
    }

    /// The number that a call has here, as `seccomp_data.nr` shows it (with x32's bit); `None` if it has none.
    pub fn number(self, name: &str) -> Option<u32> {
        let index = TABLE.binary_search_by(|(known, _)| (*known).cmp(name)).ok()?;
        TABLE.get(index).and_then(|(_, row)| self.in_row(row))
    }

    /// The name of a number.
    pub fn name(self, number: u32) -> Option<&'static str> {
        TABLE.iter().find(|(_, row)| self.in_row(row) == Some(number)).map(|(name, _)| *name)
    }

    fn in_row(self, row: &[i32; 5]) -> Option<u32> {
        let number = u32::try_from(*row.get(self.column())?).ok()?;
        Some(if self == Arch::X32 { number | X32_BIT } else { number })
    }
}

/// Whether any architecture that we know has a call of this name.
pub fn is_known(name: &str) -> bool {
    TABLE.binary_search_by(|(known, _)| (*known).cmp(name)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::libc;

    #[test]
    fn table_is_sorted_and_numbers_are_unique() {
        assert!(TABLE.windows(2).all(|w| w[0].0 < w[1].0));
        for arch in [Arch::X86_64, Arch::X86, Arch::X32, Arch::Aarch64, Arch::Arm] {
            let mut numbers: Vec<u32> = TABLE.iter().filter_map(|(n, _)| arch.number(n)).collect();
            numbers.sort_unstable();
            // i386 and ARM have a few historic aliases; the 64-bit tables have none.
            if matches!(arch, Arch::X86_64 | Arch::Aarch64) {
                assert!(numbers.windows(2).all(|w| w[0] < w[1]), "{arch:?}");
            }
            assert!(numbers.len() > 290, "{arch:?}");
            assert!(arch.number("file_setattr").is_some(), "{arch:?}");
        }
    }

    #[test]
    fn native_numbers_are_libcs() {
        for (name, number) in [
            ("read", libc::SYS_read),
            ("openat2", libc::SYS_openat2),
            ("clone3", libc::SYS_clone3),
            ("keyctl", libc::SYS_keyctl),
            ("socket", libc::SYS_socket),
            ("mount_setattr", libc::SYS_mount_setattr),
            ("io_uring_setup", libc::SYS_io_uring_setup),
            ("mseal", libc::SYS_mseal),
            ("newfstatat", libc::SYS_newfstatat),
            ("process_vm_readv", libc::SYS_process_vm_readv),
        ] {
            assert_eq!(Arch::NATIVE.number(name).map(i64::from), Some(number), "{name}");
        }
    }

    #[test]
    fn known_differences() {
        assert_eq!(Arch::X86_64.number("openat"), Some(257));
        assert_eq!(Arch::Aarch64.number("openat"), Some(56));
        assert_eq!(Arch::X86.number("openat"), Some(295));
        assert_eq!(Arch::Arm.number("openat"), Some(322));
        assert_eq!(Arch::X32.number("openat"), Some(257 | X32_BIT));
        assert_eq!(Arch::X32.number("execve"), Some(520 | X32_BIT));
        assert_eq!(Arch::Aarch64.number("open"), None);
        assert_eq!(Arch::X86_64.name(59), Some("execve"));
        assert!(Arch::parse("SCMP_ARCH_S390X").unwrap().is_none());
        assert!(Arch::parse("SCMP_ARCH_Z80").is_err());
    }
}
