//! The execution domain: OCI's `linux.personality`. Source: personality(2).

use crate::scheduling::named;
use drydock_core::Result;
use serde::{Deserialize, Serialize};

/// Domains: OCI's names. LINUX32 makes uname(2) say `i686`.
pub const DOMAINS: [(&str, u32); 2] = [("LINUX", 0), ("LINUX32", 8)];

/// Flags of personality(2). OCI names none yet; these are the kernel's.
pub const FLAGS: [(&str, u32); 11] = [
    ("UNAME26", 0x002_0000),
    ("ADDR_NO_RANDOMIZE", 0x004_0000),
    ("FDPIC_FUNCPTRS", 0x008_0000),
    ("MMAP_PAGE_ZERO", 0x010_0000),
    ("ADDR_COMPAT_LAYOUT", 0x020_0000),
    ("READ_IMPLIES_EXEC", 0x040_0000),
    ("ADDR_LIMIT_32BIT", 0x080_0000),
    ("SHORT_INODE", 0x100_0000),
    ("WHOLE_SECONDS", 0x200_0000),
    ("STICKY_TIMEOUTS", 0x400_0000),
    ("ADDR_LIMIT_3GB", 0x800_0000),
];

/// `linux.personality`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Personality {
    /// One of [`DOMAINS`].
    pub domain: String,
    /// Of [`FLAGS`].
    pub flags: Option<Vec<String>>,
}

impl Personality {
    /// What personality(2) takes.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] with the field.
    pub fn check(&self) -> Result<u32> {
        let domain = self.domain.strip_prefix("PER_").unwrap_or(&self.domain);
        let domain = named("personality.domain", domain, &DOMAINS)?;
        self.flags
            .iter()
            .flatten()
            .try_fold(domain, |all, flag| named("personality.flags", flag, &FLAGS).map(|one| all | one))
    }
}
