//! Container ids: the OCI rule, so that an id is always safe as one path component.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A valid container id: `[A-Za-z0-9_+.-]{1,1024}`, not `.` or `..`, not starting with `-`; at most 255 bytes,
/// because it names a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

impl ContainerId {
    /// Checks the rule.
    ///
    /// # Errors
    /// [`crate::Kind::BadInput`] with what is allowed.
    pub fn parse(text: &str) -> Result<Self> {
        let ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '.' | '-');
        let valid = !text.is_empty()
            && text.len() <= 255
            && text.chars().all(ok)
            && !matches!(text, "." | "..")
            && !text.starts_with('-');
        if valid {
            return Ok(Self(text.to_string()));
        }
        let shown = crate::text::shorten(&crate::text::escape(text), 40);
        Err(Error::bad_input(
            format!("'{shown}'"),
            "error: not a container name (allowed: 1 to 255 of A-Z a-z 0-9 _ + . -, not '.' or '..', not starting with '-')",
        ))
    }

    /// A fresh random id of 12 hexadecimal digits.
    pub fn random() -> Self {
        let mut bytes = [0u8; 6];
        // getrandom(2) cannot fail for so few bytes once the kernel has booted; the pid keeps ids apart if it did.
        if rustix_random(&mut bytes).is_err() {
            bytes[..4].copy_from_slice(&std::process::id().to_ne_bytes());
        }
        Self(bytes.iter().map(|b| format!("{b:02x}")).collect())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn rustix_random(bytes: &mut [u8]) -> std::io::Result<()> {
    use std::io::Read;
    std::fs::File::open("/dev/urandom")?.read_exact(bytes)
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<std::path::Path> for ContainerId {
    fn as_ref(&self) -> &std::path::Path {
        std::path::Path::new(&self.0)
    }
}

impl TryFrom<String> for ContainerId {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> String {
        id.0
    }
}

impl std::str::FromStr for ContainerId {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule() {
        for good in ["a", "web-1", "A_b+c.d", "...", &"x".repeat(255)] {
            assert!(ContainerId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "../x", "é", "a b", "-x", "a\n", "a\0", &"x".repeat(256)] {
            assert_eq!(ContainerId::parse(bad).unwrap_err().exit_code(), 2, "{bad:?}");
        }
    }

    #[test]
    fn random_ids_differ() {
        assert_ne!(ContainerId::random(), ContainerId::random());
        assert_eq!(ContainerId::random().as_str().len(), 12);
    }
}
