//! The five sets of capabilities of a process, and Docker's `--cap-add` / `--cap-drop`.

use crate::capset::CapSet;
use drydock_core::{Error, Result, text};
use serde::{Deserialize, Serialize};

/// The sets that a process execs with. Source: capabilities(7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Capabilities {
    /// The ceiling over every later exec.
    pub bounding: CapSet,
    /// What the kernel checks.
    pub effective: CapSet,
    /// What can be made effective.
    pub permitted: CapSet,
    /// Passed to files with inheritable capabilities. Empty unless an OCI config asks: CVE-2022-29162's class.
    pub inheritable: CapSet,
    /// Kept by an ordinary exec of a user that is not root. Must be within permitted and inheritable.
    pub ambient: CapSet,
}

/// The five sets by names, as an OCI config has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CapabilityNames {
    /// Names of [`Capabilities::bounding`].
    pub bounding: Vec<String>,
    /// Names of [`Capabilities::effective`].
    pub effective: Vec<String>,
    /// Names of [`Capabilities::permitted`].
    pub permitted: Vec<String>,
    /// Names of [`Capabilities::inheritable`].
    pub inheritable: Vec<String>,
    /// Names of [`Capabilities::ambient`].
    pub ambient: Vec<String>,
}

impl CapabilityNames {
    /// The sets, and a warning for each name that is ignored, as the OCI specification wants it: one that Linux does not
    /// have, one that this kernel does not have, an ambient one that is not permitted and inheritable too (such as
    /// `runc spec` writes).
    pub fn resolve(&self) -> (Capabilities, Vec<String>) {
        let mut warnings = Vec::new();
        let mut set = |field: &str, names: &[String]| {
            names.iter().fold(CapSet::EMPTY, |all, name| match CapSet::exact(name) {
                Some(one) if CapSet::all().contains(one) => all | one,
                Some(_) => {
                    warnings.push(format!(
                        "capabilities.{field}: {name} is ignored: this kernel does not have it"
                    ));
                    all
                }
                None => {
                    let shown = text::shorten(&text::escape(name), 60);
                    warnings.push(format!(
                        "capabilities.{field}: ignoring unknown or unavailable capabilities: [{shown}]"
                    ));
                    all
                }
            })
        };
        let (bounding, effective) = (set("bounding", &self.bounding), set("effective", &self.effective));
        let (permitted, inheritable) =
            (set("permitted", &self.permitted), set("inheritable", &self.inheritable));
        let ambient = set("ambient", &self.ambient);
        let kept = ambient & permitted & inheritable;
        if ambient != kept {
            warnings.extend((ambient - kept).numbers().map(|number| {
                let name = crate::capset::name_of(number);
                format!(
                    "capabilities.ambient: can't raise ambient capability {name}: not both permitted and inheritable"
                )
            }));
        }
        (Capabilities { bounding, effective, permitted, inheritable, ambient: kept }, warnings)
    }
}

impl Capabilities {
    /// The same set as bounding, effective and permitted; inheritable and ambient empty.
    pub fn uniform(set: CapSet) -> Capabilities {
        Capabilities { bounding: set, effective: set, permitted: set, ..Capabilities::default() }
    }

    /// Docker's meaning of `--cap-add` and `--cap-drop`: `--cap-add ALL` is everything but what is dropped,
    /// `--cap-drop ALL` is nothing but what is added, else the base without the dropped, with the added.
    /// Inheritable and ambient stay empty.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] for an unknown name, or ALL both added and dropped.
    pub fn from_add_drop(base: CapSet, add: &[String], drop: &[String]) -> Result<Capabilities> {
        let is_all = |name: &String| matches!(name.to_ascii_uppercase().as_str(), "ALL" | "CAP_ALL");
        let (add_all, drop_all) = (add.iter().any(is_all), drop.iter().any(is_all));
        if add_all && drop_all {
            return Err(Error::bad_input(
                "--cap-add",
                "ALL is both added and dropped (allowed: one of them)",
            ));
        }
        let added = union(add).map_err(|e| Error::bad_input("--cap-add", e.sentence()).hint_of(&e))?;
        let dropped = union(drop).map_err(|e| Error::bad_input("--cap-drop", e.sentence()).hint_of(&e))?;
        let set = match (add_all, drop_all) {
            (true, _) => CapSet::all() - dropped,
            (_, true) => added,
            _ => (base - dropped) | added,
        };
        Ok(Capabilities::uniform(set))
    }

    /// Checks what the kernel would refuse: effective within permitted, ambient within permitted and inheritable.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] that names the capability in the wrong place.
    pub fn check(&self) -> Result<()> {
        within("effective", self.effective, "permitted", self.permitted)?;
        within("ambient", self.ambient, "permitted", self.permitted)?;
        within("ambient", self.ambient, "inheritable", self.inheritable)
    }
}

trait HintOf {
    fn hint_of(self, other: &Error) -> Self;
}

impl HintOf for Error {
    fn hint_of(self, other: &Error) -> Self {
        match other.remedy() {
            Some(hint) => self.hint(hint),
            None => self,
        }
    }
}

fn union(names: &[String]) -> Result<CapSet> {
    names.iter().try_fold(CapSet::EMPTY, |set, name| Ok(set | CapSet::parse(name)?))
}

fn within(inner: &str, set: CapSet, outer: &str, limit: CapSet) -> Result<()> {
    if limit.contains(set) {
        return Ok(());
    }
    let problem = format!("{} is {inner} but not {outer} (allowed: {inner} within {outer})", set - limit);
    Err(Error::bad_input(format!("capabilities.{inner}"), problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(add: &[&str], drop: &[&str]) -> Result<CapSet> {
        let own = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let caps = Capabilities::from_add_drop(CapSet::DEFAULT, &own(add), &own(drop))?;
        assert!(caps.inheritable.is_empty() && caps.ambient.is_empty());
        assert!(caps.bounding == caps.effective && caps.effective == caps.permitted);
        Ok(caps.bounding)
    }

    #[test]
    fn docker_semantics() {
        assert_eq!(set(&[], &[]).unwrap(), CapSet::DEFAULT);
        assert_eq!(set(&["NET_RAW"], &["KILL"]).unwrap(), (CapSet::DEFAULT - CapSet(32)) | CapSet(1 << 13));
        assert_eq!(set(&["ALL"], &["SYS_ADMIN"]).unwrap(), CapSet::all() - CapSet(1 << 21));
        assert_eq!(set(&["CHOWN"], &["all"]).unwrap(), CapSet(1));
        assert_eq!(set(&[], &["ALL"]).unwrap(), CapSet::EMPTY);
        assert_eq!(set(&["KILL"], &["KILL"]).unwrap(), CapSet::DEFAULT);
    }

    #[test]
    fn refusals() {
        assert_eq!(set(&["ALL"], &["ALL"]).unwrap_err().exit_code(), 2);
        let error = set(&[], &["NET_RAWW"]).unwrap_err().to_string();
        assert!(error.starts_with("--cap-drop") && error.contains("did you mean"), "{error}");
        let outside = Capabilities { ambient: CapSet(1), ..Capabilities::uniform(CapSet(1)) };
        assert!(outside.check().unwrap_err().to_string().contains("inheritable"));
        let outside = Capabilities { effective: CapSet(2), ..Capabilities::uniform(CapSet(1)) };
        assert!(outside.check().unwrap_err().to_string().contains("CAP_DAC_OVERRIDE"));
    }
}
