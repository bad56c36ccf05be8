//! What the programs of a root lack: every ELF file's interpreter and libraries, looked for in the root, never on the
//! host. Nothing is changed, nothing is run.

use crate::elf::{Content, Loader, Missing, Need};
use crate::root::Root;
use crate::view::{Node, View};
use drydock_core::Result;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Which root to look at.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Request {
    /// The root directory.
    pub root: PathBuf,
}

/// What was found. Paths are within the root.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The root directory.
    pub root: PathBuf,
    /// ELF files looked at.
    pub elf_files: usize,
    /// What is missing, and which files are damaged.
    pub unresolved: Vec<Missing>,
    /// Executable scripts whose interpreter is not in the root: they cannot run, but the root may do without them.
    pub scripts: Vec<Missing>,
}

/// Problems that are named, at most: a hostile root could have any number.
const MAX_UNRESOLVED: usize = 10_000;

/// Kernel file systems, which may be mounted in the root.
const NOT_FILES: [&str; 3] = ["/proc", "/sys", "/dev"];

impl Request {
    /// Looks at every file below the root, links not followed.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] if the root cannot be used. What the root lacks is no error: see [`Report`].
    pub fn run(&self) -> Result<Report> {
        let root = Root::open(&self.root)?;
        let view = View::inside(root.as_fd(), root.path())?;
        let mut look = Look {
            loader: Loader::new(&view),
            view: &view,
            seen: HashSet::new(),
            report: Report { root: self.root.clone(), ..Report::default() },
        };
        let (programs, libraries) = look.files();
        programs.iter().for_each(|path| look.resolve(path));
        // A library that a program loads was checked with the program's own search path; the rest stand for themselves.
        for path in libraries {
            if !look.seen.contains(&path) {
                look.resolve(&path);
            }
        }
        Ok(look.report)
    }
}

struct Look<'a> {
    loader: Loader<'a>,
    view: &'a View,
    seen: HashSet<PathBuf>,
    report: Report,
}

impl Look<'_> {
    fn files(&mut self) -> (Vec<PathBuf>, Vec<PathBuf>) {
        let (mut programs, mut libraries) = (Vec::new(), Vec::new());
        let mut todo = vec![PathBuf::from("/")];
        while let Some(dir) = todo.pop() {
            for name in self.view.list(&dir) {
                let path = dir.join(name);
                match self.view.node(&path) {
                    Ok(Node::Dir) if !NOT_FILES.iter().any(|d| path == Path::new(d)) => todo.push(path),
                    Ok(Node::File { mode }) => self.sort_in(path, mode, &mut programs, &mut libraries),
                    _ => {}
                }
            }
        }
        programs.sort();
        libraries.sort();
        (programs, libraries)
    }

    fn sort_in(
        &mut self,
        path: PathBuf,
        mode: u32,
        programs: &mut Vec<PathBuf>,
        libraries: &mut Vec<PathBuf>,
    ) {
        let Ok(content) = self.loader.content(&path) else { return };
        match content.as_ref() {
            Ok(Content::Elf(facts)) => {
                self.report.elf_files += 1;
                let program = facts.fixed || facts.interpreter.is_some();
                if program { programs.push(path) } else { libraries.push(path) }
            }
            Ok(Content::Script { .. }) if mode & 0o111 != 0 => {
                if let Ok(closure) = self.loader.closure(&path) {
                    let own = |m: &Missing| matches!(m.need, Need::ScriptInterpreter(_));
                    let room = MAX_UNRESOLVED.saturating_sub(self.report.scripts.len());
                    self.report.scripts.extend(closure.missing.into_iter().filter(own).take(room));
                }
            }
            Err(damage) => {
                self.report.elf_files += 1;
                if self.report.unresolved.len() < MAX_UNRESOLVED {
                    self.report
                        .unresolved
                        .push(Missing { object: path, need: Need::Damaged(damage.clone()) });
                }
            }
            _ => {}
        }
    }

    fn resolve(&mut self, path: &Path) {
        let Ok(closure) = self.loader.closure(path) else { return };
        for file in closure.files.iter().chain(&closure.extra) {
            if let Ok(walk) = self.view.walk(file) {
                self.seen.insert(walk.real);
            }
        }
        for missing in closure.missing {
            if self.report.unresolved.len() < MAX_UNRESOLVED && !self.report.unresolved.contains(&missing) {
                self.report.unresolved.push(missing);
            }
        }
    }
}
