//! Programs and all that they need, into a root directory, at the paths that they have on the host.

mod plan;
mod step;

pub use plan::Plan;
pub(crate) use plan::steps;
pub use step::Step;

use drydock_core::{Error, Result};
use serde::{Deserialize, Serialize};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What to copy, and where to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Request {
    /// An existing directory: the root.
    pub root: PathBuf,
    /// Programs: absolute paths, or names to be found in the usual directories. Each comes with its closure.
    pub programs: Vec<PathBuf>,
    /// Further files and directories, by absolute path; an ELF file comes with its closure (plug-ins).
    pub with: Vec<PathBuf>,
    /// Also the modules of this host's name service, and its nsswitch.conf.
    #[serde(default)]
    pub name_service: bool,
}

/// What was copied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The root directory.
    pub root: PathBuf,
    /// Files written, by their path in the root.
    pub files: Vec<PathBuf>,
    /// Symbolic links made: path in the root and target.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// Bytes of all files.
    pub bytes: u64,
    /// What the programs may ask for while they run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<crate::elf::Hint>,
}

impl Request {
    /// Checks what can be checked without looking at any file.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] for empty lists, empty or relative paths, NUL bytes.
    pub fn validate(&self) -> Result<()> {
        if self.programs.is_empty() && self.with.is_empty() {
            return Err(Error::bad_input("copy", "nothing to copy (allowed: one or more programs or files)"));
        }
        for path in self.programs.iter().chain(&self.with) {
            let bytes = path.as_os_str().as_bytes();
            let name = bytes.contains(&b'/') || self.programs.contains(path);
            if bytes.is_empty() || bytes.contains(&0) || bytes.len() > 4096 || !name {
                return Err(Error::bad_input(
                    crate::root::shown(path),
                    "not a usable path (allowed: an absolute path, for a program also its name)",
                ));
            }
            if bytes.contains(&b'/') && !path.is_absolute() {
                return Err(Error::bad_input(
                    crate::root::shown(path),
                    "is relative (allowed: an absolute path)",
                ));
            }
        }
        Ok(())
    }

    /// Finds everything that has to be copied; reads the host and the root, changes nothing.
    ///
    /// # Errors
    /// Bad input as in [`Request::validate`]; a program that is missing, not executable or damaged, or whose
    /// libraries are not on this host; a root that is not usable.
    pub fn plan(&self) -> Result<Plan> {
        self.validate()?;
        let root = crate::root::Root::open(&self.root)?;
        let host = crate::view::View::host()?;
        let (steps, hints) = plan::steps(self, Some(&root), &host)?;
        Ok(Plan::new(self.root.clone(), steps).with_hints(hints))
    }
}

/// `to` as a relative link target from the directory of `from`; both absolute.
pub(crate) fn relative_target(from: &Path, to: &Path) -> PathBuf {
    let base: Vec<_> = from.parent().unwrap_or(Path::new("/")).components().collect();
    let goal: Vec<_> = to.components().collect();
    let same = base.iter().zip(&goal).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n(PathBuf::from(".."), base.len() - same);
    let down = goal.iter().skip(same).map(|c| PathBuf::from(c.as_os_str()));
    up.chain(down).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_targets() {
        let target = |a, b| relative_target(Path::new(a), Path::new(b));
        assert_eq!(target("/bin/sh", "/usr/bin/dash"), Path::new("../usr/bin/dash"));
        assert_eq!(target("/usr/bin/sh", "/usr/bin/dash"), Path::new("dash"));
    }

    #[test]
    fn bad_requests() {
        let ask = |programs: &[&str], with: &[&str]| {
            let list = |l: &[&str]| l.iter().map(PathBuf::from).collect();
            Request { root: "/x".into(), programs: list(programs), with: list(with), ..Request::default() }
                .validate()
        };
        assert!(ask(&["/bin/sh"], &[]).is_ok());
        assert!(ask(&["sh"], &["/etc/services"]).is_ok());
        for (programs, with) in
            [(&[""][..], &[][..]), (&["./x"], &[]), (&[], &[]), (&["a\0"], &[]), (&[], &["x"])]
        {
            assert_eq!(ask(programs, with).unwrap_err().exit_code(), 2, "{programs:?} {with:?}");
        }
    }
}
