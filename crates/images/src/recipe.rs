//! Root file systems as data: what they are made from. The shipped ones are part of the program, so that one file is
//! enough to build them.
//!
//! One directive a line, words separated by blanks, `#` begins a comment:
//! `about TEXT`; `from host|busybox|debian`; `need NAME…` programs that must be there; `any NAME…` the first that is
//! there; `want NAME…` programs taken when there; `with PATH` a file or directory taken when there; `suite`, `variant`,
//! `mirror` for Debian.

use crate::copy::{self, Step};
use crate::elf::Loader;
use crate::skeleton;
use crate::view::View;
use drydock_core::text::{escape, shorten};
use drydock_core::{Error, Result};
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The name of the recipe that containers use by default.
pub const DEFAULT: &str = "host-tools";

/// The shipped recipes: name and text.
pub const SHIPPED: [(&str, &str); 3] = [
    (DEFAULT, include_str!("../../../rootfs/host-tools.recipe")),
    ("busybox", include_str!("../../../rootfs/busybox.recipe")),
    ("debian-minimal", include_str!("../../../rootfs/debian-minimal.recipe")),
];

/// A recipe file has at most this many bytes.
pub const MAX_BYTES: usize = 1 << 20;

/// What a root is made from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum From {
    /// Programs of this host.
    #[default]
    Host,
    /// A static busybox.
    Busybox,
    /// Debian packages, by mmdebstrap or debootstrap.
    Debian,
}

/// A root file system as data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// Its name.
    pub name: String,
    /// One line for people.
    pub about: String,
    /// What it is made from.
    pub from: From,
    /// Programs that must be there.
    pub need: Vec<String>,
    /// Of each list, the first program that is there.
    pub any: Vec<Vec<String>>,
    /// Programs taken when there.
    pub want: Vec<String>,
    /// Files and directories taken when there.
    pub with: Vec<PathBuf>,
    /// Debian: release.
    pub suite: Option<String>,
    /// Debian: variant.
    pub variant: Option<String>,
    /// Debian: where packages come from.
    pub mirror: Option<String>,
}

impl Recipe {
    /// A shipped recipe.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] with the names that there are.
    pub fn shipped(name: &str) -> Result<Self> {
        match SHIPPED.iter().find(|(n, _)| *n == name) {
            Some((name, text)) => Self::parse(name, text),
            None => {
                let names = SHIPPED.map(|(n, _)| n).join(", ");
                let shown = shorten(&escape(name), 60);
                Err(Error::bad_input(
                    format!("'{shown}'"),
                    format!("no such recipe (allowed: {names}, or a file)"),
                ))
            }
        }
    }

    /// Reads a recipe's text.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] with the line and what is allowed.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let mut recipe = Self { name: name.to_string(), ..Self::default() };
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            recipe.directive(word, rest.trim()).map_err(|problem| {
                Error::bad_input(format!("{}:{}", shorten(&escape(name), 200), number + 1), problem)
            })?;
        }
        Ok(recipe)
    }

    fn directive(&mut self, word: &str, rest: &str) -> Result<(), String> {
        if rest.is_empty() {
            return Err(format!("'{}' without a value", shorten(&escape(word), 40)));
        }
        let names = || -> Result<Vec<String>, String> {
            let good = |n: &str| !n.contains('/') && !n.chars().any(char::is_control);
            match rest.split_whitespace().find(|n| !good(n)) {
                Some(bad) => Err(format!("'{}' is not a program's name", shorten(&escape(bad), 40))),
                None => Ok(rest.split_whitespace().map(str::to_string).collect()),
            }
        };
        match word {
            "about" => self.about = escape(rest),
            "from" => {
                self.from = match rest {
                    "host" => From::Host,
                    "busybox" => From::Busybox,
                    "debian" => From::Debian,
                    _ => {
                        return Err(format!(
                            "from '{}' (allowed: host, busybox, debian)",
                            shorten(&escape(rest), 40)
                        ));
                    }
                }
            }
            "need" => self.need.extend(names()?),
            "any" => self.any.push(names()?),
            "want" => self.want.extend(names()?),
            "with" if rest.starts_with('/') => self.with.push(PathBuf::from(rest)),
            "with" => {
                return Err(format!("with '{}' (allowed: an absolute path)", shorten(&escape(rest), 40)));
            }
            "suite" => self.suite = Some(rest.to_string()),
            "variant" => self.variant = Some(rest.to_string()),
            "mirror" => self.mirror = Some(rest.to_string()),
            _ => {
                return Err(format!(
                    "'{}' is not a directive (allowed: about, from, need, any, want, with, suite, variant, mirror)",
                    shorten(&escape(word), 40)
                ));
            }
        }
        Ok(())
    }

    /// The steps of a recipe made from the host: skeleton, then programs with all that they need.
    ///
    /// # Errors
    /// When a program that must be there is not, or lacks a library.
    pub fn host_steps(&self) -> Result<Vec<Step>> {
        let host = View::host()?;
        let loader = Loader::new(&host);
        let mut programs: Vec<PathBuf> = Vec::new();
        let find = |name: &str| loader.program(OsStr::new(name));
        let missing = |name: &str| {
            Error::failed(format!("recipe '{}'", self.name), format!("this host has no '{}'", escape(name)))
                .hint("install it, or give a root file system of your own with --rootfs DIR")
        };
        for name in &self.need {
            programs.push(find(name).ok_or_else(|| missing(name))?);
        }
        for names in &self.any {
            programs.push(names.iter().find_map(|n| find(n)).ok_or_else(|| missing(&names.join("' or '")))?);
        }
        // A program that could not run here cannot run there: it is left out, like one that is not there.
        let whole = |path: &PathBuf| loader.closure(path).is_ok_and(|c| c.missing.is_empty());
        programs.extend(self.want.iter().filter_map(|n| find(n)).filter(whole));
        let with = self.with.iter().filter(|p| host.walk(p).is_ok()).cloned().collect();
        let request = copy::Request { programs, with, ..copy::Request::default() };
        let mut steps = skeleton::steps(true, "host tools")?;
        for step in copy::steps(&request, None, &host)?.0 {
            // What the skeleton makes, it makes with the right mode.
            if !steps.iter().any(|s| s.path() == step.path()) {
                steps.push(step);
            }
        }
        steps.iter_mut().for_each(world_readable);
        Ok(steps)
    }
}

fn world_readable(step: &mut Step) {
    if let Step::Copy { mode, .. } = step {
        *mode |= 0o444;
    }
}

/// True if the word means a file rather than a shipped recipe.
pub fn is_file(word: &Path) -> bool {
    word.components().count() > 1 || word.extension().is_some_and(|e| e == "recipe")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_ones_parse() {
        for (name, _) in SHIPPED {
            let recipe = Recipe::shipped(name).unwrap();
            assert!(!recipe.about.is_empty(), "{name}");
        }
        assert_eq!(Recipe::shipped("x\x1b").unwrap_err().exit_code(), 2);
    }

    #[test]
    fn says_which_line() {
        for bad in ["from nowhere", "need", "need a/b", "with etc", "frobnicate x"] {
            let error = Recipe::parse("r", &format!("# fine\n{bad}")).unwrap_err();
            assert!(error.to_string().starts_with("r:2: "), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
    }
}
