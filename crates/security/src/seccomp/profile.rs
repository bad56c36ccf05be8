//! Profiles as JSON: Docker's format, of which OCI's `linux.seccomp` is a part.
//! Source: docs.docker.com/engine/security/seccomp, the OCI runtime specification (config-linux, "Seccomp").

use super::action::Action;
use drydock_core::error::CallExt;
use drydock_core::{Error, Result, text};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A larger file is not a profile.
const MAX_BYTES: u64 = 4 << 20;

/// A filter in words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Profile {
    /// What happens to a call that no rule matches.
    pub default_action: Action,
    /// Errno of the default action; EPERM if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u32>,
    /// The same as a name (`ENOSYS`), as podman's profiles have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_errno: Option<String>,
    /// Architectures besides the native one (OCI).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architectures: Option<Vec<String>>,
    /// Architectures by native architecture (Docker).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch_map: Option<Vec<ArchMap>>,
    /// `SECCOMP_FILTER_FLAG_*` (OCI).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<String>>,
    /// Socket that takes the notify descriptor (OCI); needed by SCMP_ACT_NOTIFY.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener_path: Option<String>,
    /// Text sent with the notify descriptor (OCI).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener_metadata: Option<String>,
    /// The rules. The first that matches decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syscalls: Option<Vec<Rule>>,
}

/// Docker's list of architectures for one native architecture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ArchMap {
    /// The native one: `SCMP_ARCH_X86_64`.
    pub architecture: String,
    /// Those that it also runs.
    #[serde(default)]
    pub sub_architectures: Option<Vec<String>>,
}

/// One rule: all of `args` must hold for it to match.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// The calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<Cow<'static, str>>,
    /// One call: the older spelling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What happens.
    pub action: Action,
    /// Errno of SCMP_ACT_ERRNO, message of SCMP_ACT_TRACE; EPERM if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u32>,
    /// The errno's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<String>,
    /// Conditions on arguments; several on the same argument are a range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<Arg>>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<Cow<'static, str>>,
    /// The rule applies only if all of this holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub includes: Option<Selector>,
    /// The rule applies only if none of this holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excludes: Option<Selector>,
}

/// One condition on one argument, compared as unsigned 64-bit numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Arg {
    /// Which argument, 0 to 5.
    pub index: u32,
    /// What it is compared with; the mask of SCMP_CMP_MASKED_EQ.
    pub value: u64,
    /// What the masked argument must be (SCMP_CMP_MASKED_EQ).
    #[serde(default)]
    pub value_two: u64,
    /// How.
    pub op: Operator,
}

/// A comparison `argument OP value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operator {
    /// Not equal.
    #[serde(rename = "SCMP_CMP_NE")]
    Ne,
    /// Less.
    #[serde(rename = "SCMP_CMP_LT")]
    Lt,
    /// Less or equal.
    #[serde(rename = "SCMP_CMP_LE")]
    Le,
    /// Equal.
    #[serde(rename = "SCMP_CMP_EQ")]
    Eq,
    /// Greater or equal.
    #[serde(rename = "SCMP_CMP_GE")]
    Ge,
    /// Greater.
    #[serde(rename = "SCMP_CMP_GT")]
    Gt,
    /// `argument & value == valueTwo & value`.
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEq,
}

impl Operator {
    /// All of them.
    pub const ALL: [Operator; 7] = [
        Operator::Ne,
        Operator::Lt,
        Operator::Le,
        Operator::Eq,
        Operator::Ge,
        Operator::Gt,
        Operator::MaskedEq,
    ];
}

/// When a rule applies (Docker).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Selector {
    /// Capabilities of the container's bounding set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caps: Option<Vec<Cow<'static, str>>>,
    /// Native architectures by Docker's names (`amd64`, `arm64`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arches: Option<Vec<Cow<'static, str>>>,
    /// Lowest kernel release (`4.8`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_kernel: Option<String>,
}

impl Profile {
    /// Reads a profile file: regular, at most 4 MiB.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] with the path when it cannot be read or is not a profile.
    pub fn read(path: &Path) -> Result<Profile> {
        let object = || format!("seccomp profile {}", text::escape(&path.to_string_lossy()));
        let bad = |e: Error| e.with_kind(drydock_core::Kind::BadInput).on(object());
        let file = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY | nix::libc::O_CLOEXEC)
            .open(path)
            .call(|| format!("open({path:?}, O_RDONLY)"))
            .map_err(bad)?;
        let meta = file.metadata().call(|| format!("fstat({path:?})")).map_err(bad)?;
        if !meta.is_file() || meta.len() > MAX_BYTES {
            return Err(Error::bad_input(
                object(),
                "not a profile (allowed: a regular file of at most 4 MiB)",
            ));
        }
        let mut bytes = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut bytes).call(|| format!("read({path:?})")).map_err(bad)?;
        Profile::parse(&bytes).map_err(|e| Error::bad_input(object(), e.sentence()))
    }

    /// Reads a profile's JSON text.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] with line and column of what is wrong; a field that we do not know is refused,
    /// because ignoring a part of a filter would allow what it denies.
    pub fn parse(json: &[u8]) -> Result<Profile> {
        serde_json::from_slice(json).map_err(|e| {
            Error::bad_input("seccomp profile", text::shorten(&text::escape(&e.to_string()), 300))
        })
    }
}

impl Rule {
    /// The calls that the rule names, in either spelling.
    pub fn calls(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(AsRef::as_ref).chain(self.name.as_deref())
    }
}
