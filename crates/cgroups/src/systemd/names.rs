//! Names of units, and where their cgroups are. Source: systemd.unit(5), systemd.slice(5).

use drydock_core::text::{escape, shorten};
use drydock_core::{Error, Result};

/// systemd's own limit.
const MAX_NAME: usize = 255;

/// The unit that a container becomes, as the OCI configuration's `cgroupsPath` names it for systemd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names {
    /// `machine.slice`.
    pub slice: String,
    /// `PREFIX-NAME.scope`.
    pub unit: String,
    /// The slice's cgroup: `a.slice/a-b.slice`; empty for the root slice.
    pub slice_path: String,
}

impl Names {
    /// From `SLICE:PREFIX:NAME`; without one, a scope of the container's name in the default slice.
    pub fn parse(path: Option<&str>, id: &str, user: bool) -> Result<Self> {
        let default = if user { "user.slice" } else { "system.slice" };
        let Some(path) = path.filter(|p| !p.is_empty()) else {
            return Self::new(default, format!("drydock-{}.scope", systemd_escape(id)));
        };
        let parts: Vec<&str> = path.split(':').collect();
        let [slice, prefix, name] = parts.as_slice() else {
            return Err(bad(
                path,
                "not SLICE:PREFIX:NAME, as the systemd cgroup driver wants it (allowed: such as system.slice:drydock:web)",
            ));
        };
        if name.is_empty() || name.ends_with(".slice") {
            return Err(bad(path, "without a name for the scope (allowed: SLICE:PREFIX:NAME)"));
        }
        let unit = if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
        Self::new(if slice.is_empty() { default } else { slice }, unit)
    }

    fn new(slice: &str, unit: String) -> Result<Self> {
        check_unit(&unit)?;
        Ok(Self { slice: slice.to_string(), slice_path: expand_slice(slice)?, unit })
    }

    /// The scope's cgroup below its manager's.
    pub fn cgroup(&self) -> String {
        match self.slice_path.as_str() {
            "" => self.unit.clone(),
            slice => format!("{slice}/{}", self.unit),
        }
    }
}

fn bad(text: &str, problem: &str) -> Error {
    Error::bad_input("cgroupsPath", format!("'{}' is {problem}", shorten(&escape(text), 80)))
}

/// Checks the name of a scope.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`].
pub(super) fn check_unit(name: &str) -> Result<()> {
    let fits = name.len() <= MAX_NAME && name.bytes().all(is_unit_byte) && !name.starts_with('.');
    if fits && name.strip_suffix(".scope").is_some_and(|stem| !stem.is_empty()) {
        return Ok(());
    }
    Err(bad(name, "not the name of a scope (allowed: at most 255 letters, digits and : - _ . \\ @)"))
}

fn is_unit_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b)
}

/// Characters that a unit's name cannot have, as `\x2b`.
fn systemd_escape(text: &str) -> String {
    let one = |b: u8| {
        let plain = is_unit_byte(b) && b != b'\\';
        if plain { char::from(b).to_string() } else { format!("\\x{b:02x}") }
    };
    text.bytes().map(one).collect()
}

/// The cgroup of a slice: its name says above which it stands: `a-b.slice` is `a.slice/a-b.slice`, `-.slice` the root.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] for what is not a slice's name.
pub(super) fn expand_slice(slice: &str) -> Result<String> {
    let wrong = || bad(slice, "not a slice (allowed: names such as a.slice and a-b.slice)");
    let stem = slice.strip_suffix(".slice").ok_or_else(wrong)?;
    if stem == "-" {
        return Ok(String::new());
    }
    if slice.len() > MAX_NAME || !slice.bytes().all(is_unit_byte) || stem.starts_with('.') {
        return Err(wrong());
    }
    let mut above = String::new();
    let mut path = Vec::new();
    for part in stem.split('-') {
        if part.is_empty() {
            return Err(wrong());
        }
        above = if above.is_empty() { part.to_string() } else { format!("{above}-{part}") };
        path.push(format!("{above}.slice"));
    }
    Ok(path.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_stand_below_each_other() {
        assert_eq!(expand_slice("a.slice").unwrap(), "a.slice");
        assert_eq!(expand_slice("a-b-c.slice").unwrap(), "a.slice/a-b.slice/a-b-c.slice");
        assert_eq!(expand_slice("-.slice").unwrap(), "");
        for wrong in [
            "",
            "a",
            ".slice",
            "-a.slice",
            "a-.slice",
            "a--b.slice",
            "a/b.slice",
            "../x.slice",
            "a.slice/b.slice",
            "a b.slice",
            "..slice",
        ] {
            assert_eq!(expand_slice(wrong).unwrap_err().exit_code(), 2, "{wrong:?}");
        }
    }

    #[test]
    fn cgroups_paths() {
        let names = |path: &str| Names::parse(Some(path), "id", false);
        let one = names("machine-x.slice:libpod:web").unwrap();
        assert_eq!(
            (one.unit.as_str(), one.cgroup().as_str()),
            ("libpod-web.scope", "machine.slice/machine-x.slice/libpod-web.scope")
        );
        assert_eq!(names(":docker:web").unwrap().cgroup(), "system.slice/docker-web.scope");
        assert_eq!(names("-.slice::web").unwrap().cgroup(), "web.scope");
        assert_eq!(Names::parse(None, "a+b", true).unwrap().cgroup(), "user.slice/drydock-a\\x2bb.scope");
        for wrong in [
            "/a/b",
            "a:b",
            "a.slice:b:c:d",
            "a.slice:b:",
            "a.slice:b:x.slice",
            "a.slice:b:x/y",
            "a.slice:b:x\n",
            "b:c:d",
        ] {
            assert_eq!(names(wrong).unwrap_err().exit_code(), 2, "{wrong:?}");
        }
    }
}
