//! Digests: what a blob is called, and what its bytes must be. Source: image-spec, descriptor.md.

use drydock_core::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// `sha256:` and 64 hexadecimal digits: the one algorithm that every registry and tool uses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// Reads one.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`]: another algorithm, upper case, a wrong length, a path.
    pub fn parse(text: &str) -> Result<Self> {
        Self::check(text).map_err(|why| {
            let shown = drydock_core::text::shorten(&drydock_core::text::escape(text), 100);
            Error::bad_input(format!("digest '{shown}'"), why)
        })
    }

    fn check(text: &str) -> Result<Self, String> {
        let allowed = "(allowed: sha256: and 64 of 0-9 a-f)";
        match text.split_once(':') {
            Some(("sha256", hex)) => {
                let good = hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
                if good { Ok(Self(hex.to_string())) } else { Err(format!("is not a SHA-256 {allowed}")) }
            }
            Some((other, _)) => {
                let other = drydock_core::text::shorten(&drydock_core::text::escape(other), 20);
                Err(format!("algorithm '{other}' is not known {allowed}"))
            }
            None => Err(format!("is not ALGORITHM:HEX {allowed}")),
        }
    }

    /// Of hexadecimal digits that we made ourselves.
    pub(crate) fn of_hex(hex: &str) -> Self {
        Self(hex.to_string())
    }

    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect())
    }

    /// The hexadecimal digits: a file name.
    pub fn hex(&self) -> &str {
        &self.0
    }

    /// The first digits, for people.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl TryFrom<String> for Digest {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let shown = drydock_core::text::shorten(&drydock_core::text::escape(&text), 100);
        Self::check(&text).map_err(|why| format!("digest '{shown}' {why}"))
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_way_out() {
        let good = format!("sha256:{}", "0a".repeat(32));
        assert_eq!(Digest::parse(&good).unwrap().to_string(), good);
        let upper = format!("sha256:{}", "0A".repeat(32));
        for bad in ["", "sha256:", "sha256:../../x", "md5:aa", &upper, "sha256:ab", &good[7..]] {
            assert_eq!(Digest::parse(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
        assert_eq!(Digest::of(b"").short(), "e3b0c44298fc");
    }
}
