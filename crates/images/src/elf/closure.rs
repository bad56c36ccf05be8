//! The files that a program needs: a walk over libraries in the order in which the loader would load them.

use crate::elf::asks::{self, Hint, What};
use crate::elf::facts::{self, Content, Damage, Facts};
use crate::elf::search::{Places, default_dirs, expand, expand_list, musl_dirs, musl_path_file};
use crate::root::shown;
use crate::view::{Node, View};
use drydock_core::{Error, Result};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Objects in one program, at most.
const MAX_OBJECTS: usize = 4096;
/// Files whose headers are remembered, at most.
const MAX_REMEMBERED: usize = 2048;
/// Paths tried for one program, at most; real programs need a few hundred.
const MAX_LOOKUPS: u32 = 100_000;
/// Directories of one object's RPATH chain, at most.
const MAX_RUN_PATHS: usize = 256;
/// Scripts that interpret scripts, as deep as the kernel goes (execve(2)).
const MAX_SCRIPTS: u32 = 5;
/// Where programs are looked up by name. The caller's PATH is not asked: a root must not depend on it.
pub const PROGRAM_DIRS: [&str; 6] =
    ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/local/sbin"];

/// What could not be found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// The dynamic loader (PT_INTERP).
    Interpreter(PathBuf),
    /// A library (DT_NEEDED).
    Library(String),
    /// The program that runs a script (`#!`).
    ScriptInterpreter(PathBuf),
    /// The file itself makes no sense.
    Damaged(String),
}

impl std::fmt::Display for Need {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Need::Interpreter(path) => write!(f, "interpreter {}", path.display()),
            Need::Library(name) => write!(f, "library {name}"),
            Need::ScriptInterpreter(path) => write!(f, "script interpreter {}", path.display()),
            Need::Damaged(why) => f.write_str(why),
        }
    }
}

/// A file and what it lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Who needs it.
    pub object: PathBuf,
    /// What.
    pub need: Need,
}

/// All that a program needs to run.
#[derive(Clone, Debug, Default)]
pub struct Closure {
    /// The program, its interpreter and libraries, by the paths they were found by, in loading order.
    pub files: Vec<PathBuf>,
    /// Further files that the loader may take instead on other processors (glibc-hwcaps), or reads (path files).
    pub extra: Vec<PathBuf>,
    /// What was not found.
    pub missing: Vec<Missing>,
    /// A library is where only /etc/ld.so.cache tells.
    pub needs_cache: bool,
    /// What it may ask for while it runs.
    pub hints: Vec<Hint>,
}

impl Closure {
    fn add(&mut self, path: &Path) -> bool {
        let new = !self.files.iter().any(|f| f == path);
        if new {
            self.files.push(path.to_path_buf());
        }
        new
    }

    fn lacks(&mut self, object: &Path, need: Need) {
        let missing = Missing { object: object.to_path_buf(), need };
        if !self.missing.contains(&missing) {
            self.missing.push(missing);
        }
    }

    fn merge(&mut self, other: Closure) {
        for file in &other.files {
            self.add(file);
        }
        self.extra.extend(other.extra);
        self.missing.extend(other.missing);
        self.needs_cache |= other.needs_cache;
        self.hints.extend(other.hints);
    }
}

/// The dynamic loader's view of one root: what it would load for a program there.
#[derive(Debug)]
pub struct Loader<'v> {
    view: &'v View,
    contents: RefCell<HashMap<PathBuf, Rc<Result<Content, Damage>>>>,
    lookups: Cell<u32>,
    places: OnceCell<Places>,
}

/// One loaded object.
struct Object {
    path: PathBuf,
    facts: Facts,
    /// Who asked for it first (always an earlier one): RPATHs are searched along this chain.
    parent: Option<usize>,
}

struct Found {
    path: PathBuf,
    facts: Facts,
    by_cache: bool,
}

impl<'v> Loader<'v> {
    /// A loader that finds files in `view`.
    pub fn new(view: &'v View) -> Self {
        Self { view, contents: RefCell::default(), lookups: Cell::new(0), places: OnceCell::new() }
    }

    /// The kind and headers of the file at a path, links followed. Remembered.
    ///
    /// # Errors
    /// openat2(2)'s. The inner result: damaged, and how.
    pub fn content(&self, path: &Path) -> Result<Rc<Result<Content, Damage>>, Errno> {
        let walk = self.view.walk(path)?;
        if let Some(known) = self.contents.borrow().get(&walk.real) {
            return Ok(Rc::clone(known));
        }
        if !matches!(walk.node, Node::File { .. }) {
            return Err(if walk.node == Node::Dir { Errno::ISDIR } else { Errno::INVAL });
        }
        let content = Rc::new(facts::read(&self.view.open(&walk.real)?));
        // A hostile root must not use up the memory: beyond this, files are read again.
        let mut contents = self.contents.borrow_mut();
        if contents.len() < MAX_REMEMBERED {
            contents.insert(walk.real, Rc::clone(&content));
        }
        Ok(content)
    }

    /// Everything that the program (or library, or script) at `path` needs, itself first.
    ///
    /// # Errors
    /// When the file itself cannot be read, is damaged, or is neither ELF nor a script. What it lacks is no error: see
    /// [`Closure::missing`].
    pub fn closure(&self, path: &Path) -> Result<Closure> {
        let content = self.content(path).map_err(|e| self.view.error("open", path, e))?;
        let named = || shown(&self.view.outside(path));
        match content.as_ref() {
            Ok(Content::Elf(facts)) => Ok(self.libraries(path, facts)),
            Ok(Content::Script { interpreter, argument }) => {
                let mut closure = Closure { files: vec![path.to_path_buf()], ..Closure::default() };
                self.script(path, interpreter, argument.as_deref(), 1, &mut closure);
                Ok(closure)
            }
            Ok(Content::Other) => Err(Error::bad_input(
                named(),
                "is neither an ELF program nor a script (allowed: files that execve(2) can run)",
            )),
            Err(damage) => Err(Error::bad_input(named(), damage.clone())),
        }
    }

    fn script(&self, script: &Path, by: &Path, argument: Option<&OsStr>, depth: u32, closure: &mut Closure) {
        let lacks = || Need::ScriptInterpreter(by.to_path_buf());
        if !by.is_absolute() || depth > MAX_SCRIPTS {
            return closure.lacks(script, lacks());
        }
        let Ok(content) = self.content(by) else { return closure.lacks(script, lacks()) };
        match content.as_ref() {
            Ok(Content::Elf(facts)) => closure.merge(self.libraries(by, facts)),
            Ok(Content::Script { interpreter, argument }) => {
                closure.add(by);
                self.script(by, interpreter, argument.as_deref(), depth + 1, closure);
            }
            _ => return closure.lacks(script, lacks()),
        }
        // `#!/usr/bin/env NAME`: what env(1) would start.
        let Some(argument) = argument.filter(|_| by.file_name() == Some(OsStr::new("env"))) else { return };
        let mut words = argument.as_bytes().split(u8::is_ascii_whitespace);
        let Some(name) = words.find(|w| !w.is_empty() && !w.starts_with(b"-") && !w.contains(&b'=')) else {
            return;
        };
        let name = OsStr::from_bytes(name);
        match self.program(name) {
            Some(found) => self.script(script, &found, None, depth + 1, closure),
            None => closure.lacks(script, Need::ScriptInterpreter(name.into())),
        }
    }

    /// Where the program of this name is in the usual directories.
    pub fn program(&self, name: &OsStr) -> Option<PathBuf> {
        if name.is_empty() || name.as_bytes().contains(&b'/') {
            return None;
        }
        let paths = PROGRAM_DIRS.iter().map(|dir| Path::new(dir).join(name));
        let runs = |path: &PathBuf| {
            self.view.walk(path).is_ok_and(|w| matches!(w.node, Node::File { mode } if mode & 0o111 != 0))
        };
        paths.into_iter().find(runs)
    }

    fn libraries(&self, program: &Path, facts: &Facts) -> Closure {
        let mut closure = Closure { files: vec![program.to_path_buf()], ..Closure::default() };
        let mut objects = vec![Object { path: program.to_path_buf(), facts: facts.clone(), parent: None }];
        let mut loaded: HashMap<OsString, ()> = HashMap::new();
        let musl = musl_arch(facts);
        self.lookups.set(0);
        if let Some(interpreter) = &facts.interpreter {
            match self.object(interpreter, facts) {
                Some(found) => {
                    closure.add(interpreter);
                    loaded.extend(names_of(interpreter, &found));
                }
                None => closure.lacks(program, Need::Interpreter(interpreter.clone())),
            }
        }
        if let Some(arch) = &musl {
            let file = musl_path_file(arch);
            if self.view.walk(&file).is_ok() {
                closure.extra.push(file);
            }
        }
        let mut next = 0;
        while let Some(needed) = objects.get(next).map(|o| o.facts.needed.clone()) {
            for name in needed {
                if loaded.contains_key(&name) || (musl.is_some() && musl_has(&name)) {
                    continue;
                }
                loaded.insert(name.clone(), ());
                match self.find(&name, next, &objects, musl.as_deref(), &mut closure.extra) {
                    Some(found) if objects.len() < MAX_OBJECTS => {
                        closure.needs_cache |= found.by_cache;
                        loaded.extend(names_of(&found.path, &found.facts));
                        if closure.add(&found.path) {
                            objects.push(Object { path: found.path, facts: found.facts, parent: Some(next) });
                        }
                    }
                    _ => {
                        let object = objects.get(next).map_or(program, |o| &o.path).to_path_buf();
                        closure.lacks(&object, Need::Library(name.to_string_lossy().into_owned()));
                    }
                }
            }
            next += 1;
        }
        closure.hints = self.hints(&objects, musl.as_deref());
        if self.lookups.get() > MAX_LOOKUPS {
            let why = format!("more than {MAX_LOOKUPS} places to look for libraries");
            closure.lacks(program, Need::Damaged(why));
        }
        closure
    }

    /// What the program and its libraries may ask for while they run.
    fn hints(&self, objects: &[Object], musl: Option<&str>) -> Vec<Hint> {
        let mut hints = Vec::new();
        for (n, object) in objects.iter().enumerate().filter(|(_, o)| !asks::is_libc(&o.facts)) {
            let mut hint =
                |what, libraries| hints.push(Hint { object: object.path.clone(), what, libraries });
            if object.facts.asks.opens {
                let names = self.view.open(&object.path).map(|f| asks::library_names(&f)).unwrap_or_default();
                let needed = |name: &OsStr| {
                    objects
                        .iter()
                        .any(|o| o.path.file_name() == Some(name) || o.facts.soname.as_deref() == Some(name))
                };
                let names = names.iter().map(OsStr::new).filter(|name| !needed(name));
                let found = names.filter_map(|name| self.find(name, n, objects, musl, &mut Vec::new()));
                hint(What::Dlopen, asks::few(found.map(|f| f.path).collect()));
            }
            if object.facts.asks.names && musl.is_none() {
                hint(What::NameService, Vec::new());
            }
            if object.facts.asks.converts && musl.is_none() {
                hint(What::Iconv, Vec::new());
            }
        }
        hints
    }

    /// The ELF file at a path, if the loader of a program like `like` would take it.
    fn object(&self, path: &Path, like: &Facts) -> Option<Facts> {
        self.lookups.set(self.lookups.get().saturating_add(1));
        if self.lookups.get() > MAX_LOOKUPS || !path.is_absolute() {
            return None;
        }
        match self.content(path).ok()?.as_ref() {
            Ok(Content::Elf(facts)) if like.fits(facts) => Some(facts.as_ref().clone()),
            _ => None,
        }
    }

    fn find(
        &self,
        name: &OsStr,
        by: usize,
        objects: &[Object],
        musl: Option<&str>,
        extra: &mut Vec<PathBuf>,
    ) -> Option<Found> {
        let object = objects.get(by)?;
        let origin = self.origin(object);
        if name.as_bytes().contains(&b'/') {
            let paths = expand(name, &origin, &object.facts).into_iter().filter(|p| p.is_absolute());
            let mut found = paths.filter_map(|p| self.object(&p, &object.facts).map(|f| (p, f)));
            return found.next().map(|(path, facts)| Found { path, facts, by_cache: false });
        }
        let dirs = self.run_paths(by, objects, musl.is_some());
        if let Some(found) = self.in_dirs(name, dirs, object, extra) {
            return Some(found);
        }
        if let Some(arch) = musl {
            return self.in_dirs(name, musl_dirs(self.view, arch), object, extra);
        }
        let defaults = default_dirs(&object.facts);
        let places = self.places.get_or_init(|| Places::read(self.view));
        let mut best: Option<Found> = None;
        for path in places.cached(name) {
            let Some(facts) = self.object(path, &object.facts) else { continue };
            if path.components().any(|c| c.as_os_str() == "glibc-hwcaps") {
                extra.push(path.clone());
            }
            let plain = best.as_ref().is_none_or(|b| extra.contains(&b.path));
            if plain {
                let by_cache = !path.parent().is_some_and(|dir| defaults.iter().any(|d| d == dir));
                best = Some(Found { path: path.clone(), facts, by_cache });
            }
        }
        if best.is_some() {
            return best;
        }
        let mut dirs = if object.facts.no_default { Vec::new() } else { defaults };
        dirs.extend_from_slice(places.configured());
        self.in_dirs(name, dirs, object, extra)
    }

    /// `$ORIGIN`: the directory of the program with links resolved (the kernel tells its real path), of a library as it
    /// was found.
    fn origin(&self, object: &Object) -> PathBuf {
        let real = match object.parent {
            None => self.view.walk(&object.path).map_or_else(|_| object.path.clone(), |w| w.real),
            Some(_) => object.path.clone(),
        };
        real.parent().map_or_else(|| PathBuf::from("/"), Path::to_path_buf)
    }

    /// glibc: the RPATHs of the object and of those that loaded it, unless the object has a RUNPATH; then its RUNPATH.
    /// An RPATH beside a RUNPATH is ignored. musl: both alike, along the chain.
    fn run_paths(&self, by: usize, objects: &[Object], musl: bool) -> Vec<PathBuf> {
        let mut dirs = Vec::new();
        let Some(own) = objects.get(by) else { return dirs };
        let mut chain = Some(by);
        while let Some(object) = chain.and_then(|i| objects.get(i)).filter(|_| dirs.len() < MAX_RUN_PATHS) {
            let list = match (&object.facts.runpath, &object.facts.rpath) {
                (Some(run), _) if musl => Some(run),
                (Some(_), _) => None,
                (None, rpath) => rpath.as_ref(),
            };
            if let Some(list) = list.filter(|_| musl || own.facts.runpath.is_none()) {
                dirs.extend(expand_list(list, &self.origin(object), &object.facts));
            }
            chain = object.parent;
        }
        if let Some(list) = own.facts.runpath.as_ref().filter(|_| !musl) {
            dirs.extend(expand_list(list, &self.origin(own), &own.facts));
        }
        dirs
    }

    fn in_dirs(
        &self,
        name: &OsStr,
        dirs: Vec<PathBuf>,
        object: &Object,
        extra: &mut Vec<PathBuf>,
    ) -> Option<Found> {
        for dir in dirs {
            let mut paths = vec![dir.join(name)];
            let capable = dir.join("glibc-hwcaps");
            if self.view.walk(&capable).is_ok() {
                paths.extend(self.view.list(&capable).iter().rev().map(|sub| capable.join(sub).join(name)));
            }
            let found = paths.into_iter().filter_map(|p| self.object(&p, &object.facts).map(|f| (p, f)));
            let mut found = found.collect::<Vec<_>>().into_iter();
            if let Some((path, facts)) = found.next() {
                extra.extend(found.map(|(other, _)| other));
                return Some(Found { path, facts, by_cache: false });
            }
        }
        None
    }
}

fn names_of(path: &Path, facts: &Facts) -> Vec<(OsString, ())> {
    path.file_name().map(OsStr::to_owned).into_iter().chain(facts.soname.clone()).map(|n| (n, ())).collect()
}

/// The machine in `ld-musl-MACHINE.so.1` or `libc.musl-MACHINE.so.1`, if the object is musl's.
fn musl_arch(facts: &Facts) -> Option<String> {
    let interpreter = facts.interpreter.as_ref().and_then(|p| p.file_name());
    let mut names = interpreter.into_iter().chain(facts.needed.iter().map(OsString::as_os_str));
    names.find_map(|name| {
        let name = name.to_str()?;
        let rest = name.strip_prefix("ld-musl-").or(name.strip_prefix("libc.musl-"))?;
        let arch = rest.split('.').next()?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        arch.chars().all(plain).then(|| arch.to_string())
    })
}

/// Libraries that musl's loader is itself.
fn musl_has(name: &OsStr) -> bool {
    let own = ["libc.", "libpthread.", "librt.", "libm.", "libdl.", "libutil.", "libxnet."];
    own.iter().any(|prefix| name.as_bytes().starts_with(prefix.as_bytes()))
}
