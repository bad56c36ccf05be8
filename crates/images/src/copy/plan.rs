//! From what was asked to the steps: closures, links on the way, and what the target already has.

use super::{Report, Request, Step, relative_target};
use crate::elf::{Content, Hint, Loader};
use crate::root::{Root, make_parents, shown};
use crate::unfinished::Word;
use crate::view::{Node, View};
use drydock_core::error::{CallExt, errno_text};
use drydock_core::{Ctx, Error, Result};
use rustix::io::Errno;
use serde::Serialize;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Entries copied from one directory tree, at most.
const MAX_TREE: usize = 200_000;

/// What will be made, in order. Nothing has been touched.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Plan {
    root: PathBuf,
    /// Make the root directory itself, if it is missing.
    create: bool,
    steps: Vec<Step>,
    hints: Vec<Hint>,
}

impl Plan {
    /// A plan of given steps in an existing root directory.
    pub fn new(root: PathBuf, steps: Vec<Step>) -> Self {
        Self { root, create: false, steps, hints: Vec::new() }
    }

    /// A plan that also makes the root directory, if it is missing.
    pub fn creating(root: PathBuf, steps: Vec<Step>) -> Self {
        let own = Step::Dir { path: PathBuf::from("/"), mode: 0o755 };
        Self { root, create: true, steps: std::iter::once(own).chain(steps).collect(), hints: Vec::new() }
    }

    /// The same, with what its programs may ask for while they run.
    pub fn with_hints(self, hints: Vec<Hint>) -> Self {
        Self { hints, ..self }
    }

    /// The steps, in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Makes everything in the root directory.
    ///
    /// # Errors
    /// The first step's that fails; what was made before stays.
    pub fn apply(&self, ctx: &Ctx<'_>) -> Result<Report> {
        self.apply_with(ctx, &mut |_| {})
    }

    /// [`Plan::apply`], telling the number of steps done after each.
    ///
    /// # Errors
    /// As [`Plan::apply`].
    pub fn apply_with(&self, ctx: &Ctx<'_>, progress: &mut dyn FnMut(usize)) -> Result<Report> {
        if self.create && std::fs::symlink_metadata(&self.root).is_err() {
            return self.apply_beside(ctx, progress);
        }
        self.fill(&self.root, ctx, progress)
    }

    /// A new root is built beside its place and renamed when it is complete: nobody sees half a root.
    fn apply_beside(&self, ctx: &Ctx<'_>, progress: &mut dyn FnMut(usize)) -> Result<Report> {
        let place: PathBuf = self.root.components().collect();
        let name = place.file_name().ok_or_else(|| {
            Error::bad_input(shown(&self.root), "has no file name (allowed: the path of a new directory)")
        })?;
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".drydock-{}", std::process::id()));
        let temporary = place.with_file_name(temporary);
        if let Some(parent) = temporary.parent().filter(|p| !p.as_os_str().is_empty()) {
            make_parents(parent).map_err(|e| e.on(shown(&self.root)))?;
        }
        let _word = std::path::absolute(&temporary).ok().and_then(|path| Word::of(&path));
        Root::create_new(&temporary).map_err(|e| e.on(shown(&self.root)))?;
        let filled = self.fill(&temporary, ctx, progress).and_then(|report| {
            let flags = rustix::fs::RenameFlags::NOREPLACE;
            let renamed =
                rustix::fs::renameat_with(rustix::fs::CWD, &temporary, rustix::fs::CWD, &place, flags);
            renamed.call(|| format!("renameat2({temporary:?}, {place:?}, RENAME_NOREPLACE)"))?;
            Ok(report)
        });
        if filled.is_err() {
            let _ = std::fs::remove_dir_all(&temporary);
        }
        filled
    }

    fn fill(&self, place: &Path, ctx: &Ctx<'_>, progress: &mut dyn FnMut(usize)) -> Result<Report> {
        let root = Root::open(place)?;
        let host = View::host()?;
        let mut report = Report { root: self.root.clone(), hints: self.hints.clone(), ..Report::default() };
        for (i, step) in self.steps.iter().enumerate() {
            report.bytes += ctx.perform(step, |step| step.act(&host, &root))?;
            match step {
                Step::Dir { .. } => {}
                Step::Link { path, target } => report.links.push((path.clone(), target.clone())),
                Step::Copy { path, .. } | Step::Write { path, .. } => report.files.push(path.clone()),
            }
            progress(i + 1);
        }
        Ok(report)
    }
}

/// Collects what has to be there, by real path.
struct Collector<'a> {
    host: &'a View,
    entries: BTreeMap<PathBuf, Node>,
    /// Paths by which files are asked for: they must lead to the file in the root, too.
    names: Vec<PathBuf>,
    hints: Vec<Hint>,
}

/// The steps for a request; `root` is looked at for directories that are links on the host.
pub(crate) fn steps(request: &Request, root: Option<&Root>, host: &View) -> Result<(Vec<Step>, Vec<Hint>)> {
    let loader = Loader::new(host);
    let mut all = Collector { host, entries: BTreeMap::new(), names: Vec::new(), hints: Vec::new() };
    let mut needs_cache = false;
    for asked in &request.programs {
        let path = locate(&loader, asked)?;
        check_program(host, &path)?;
        needs_cache |= all.closure(&loader, &path)?;
    }
    for asked in &request.with {
        needs_cache |= all.extra(&loader, asked)?;
    }
    all.name_service();
    if request.name_service {
        needs_cache |= all.modules(&loader)?;
    }
    if needs_cache {
        // A library is in a directory that only the cache names.
        for file in ["/etc/ld.so.cache", "/etc/ld.so.conf"] {
            let _ = all.file(Path::new(file));
        }
    }
    let hints = all.open_hints();
    Ok((all.steps(root)?, hints))
}

fn locate(loader: &Loader<'_>, asked: &Path) -> Result<PathBuf> {
    if asked.is_absolute() {
        return Ok(asked.to_path_buf());
    }
    loader.program(asked.as_os_str()).ok_or_else(|| {
        Error::bad_input(
            shown(asked),
            "no such program (allowed: a path, or a name in /usr/bin, /bin, /usr/sbin, …)",
        )
    })
}

fn unusable(path: &Path, errno: Errno) -> Error {
    let why = match errno {
        Errno::NOENT => "does not exist (allowed: a file of this host)".to_string(),
        Errno::LOOP => "is a loop of symbolic links".to_string(),
        other => errno_text(other.raw_os_error()),
    };
    Error::bad_input(shown(path), why)
}

fn check_program(host: &View, path: &Path) -> Result<()> {
    let problem = match host.walk(path).map_err(|e| unusable(path, e))?.node {
        Node::File { mode } if mode & 0o111 != 0 => return Ok(()),
        Node::File { .. } => "is not executable (allowed: a program; for other files there is --with FILE)",
        Node::Dir => "is a directory (allowed: a program)",
        _ => "is not a regular file (allowed: a program)",
    };
    Err(Error::bad_input(shown(path), problem))
}

impl Collector<'_> {
    /// A program with all that it needs. True if it needs the loader's cache.
    fn closure(&mut self, loader: &Loader<'_>, path: &Path) -> Result<bool> {
        let closure = loader.closure(path)?;
        if let Some(missing) = closure.missing.first() {
            let hint = "install the package that has it, or leave the program out";
            let problem = format!("needs {}, which is not on this host", missing.need);
            return Err(Error::failed(shown(&missing.object), problem).hint(hint));
        }
        for file in closure.files.iter().chain(&closure.extra) {
            self.file(file)?;
        }
        self.hints.extend(closure.hints);
        Ok(closure.needs_cache)
    }

    fn file(&mut self, path: &Path) -> Result<()> {
        let walk = self.host.walk(path).map_err(|e| unusable(path, e))?;
        self.entries.extend(walk.met.into_iter().map(|m| (m.path, m.node)));
        if path != walk.real && !self.names.iter().any(|n| n == path) {
            self.names.push(path.to_path_buf());
        }
        Ok(())
    }

    /// A file or a whole directory.
    fn extra(&mut self, loader: &Loader<'_>, path: &Path) -> Result<bool> {
        let walk = self.host.walk(path).map_err(|e| unusable(path, e))?;
        match walk.node {
            Node::File { .. } => {}
            Node::Dir if walk.real == Path::new("/") => {
                return Err(Error::bad_input(
                    shown(path),
                    "is the host's whole root (allowed: a file or directory)",
                ));
            }
            Node::Dir => return self.tree(loader, path, &walk.real),
            _ => {
                return Err(Error::bad_input(
                    shown(path),
                    "is a device, socket or FIFO (allowed: a regular file or a directory)",
                ));
            }
        }
        match loader.content(path).map_err(|e| unusable(path, e))?.as_ref() {
            Ok(Content::Elf(_)) => self.closure(loader, path),
            _ => self.file(path).map(|()| false),
        }
    }

    fn tree(&mut self, loader: &Loader<'_>, asked: &Path, real: &Path) -> Result<bool> {
        self.file(asked)?;
        let mut needs_cache = false;
        let mut todo = vec![real.to_path_buf()];
        while let Some(dir) = todo.pop() {
            for name in self.host.list(&dir) {
                let path = dir.join(name);
                if self.entries.len() > MAX_TREE {
                    return Err(Error::bad_input(
                        shown(asked),
                        format!("has too many files (allowed: up to {MAX_TREE})"),
                    ));
                }
                match self.host.node(&path) {
                    Ok(Node::Dir) => {
                        self.entries.insert(path.clone(), Node::Dir);
                        todo.push(path);
                    }
                    // A link is kept; what it points to comes along only if it is in the tree.
                    Ok(Node::Link(target)) => drop(self.entries.insert(path, Node::Link(target))),
                    Ok(Node::File { .. }) => needs_cache |= self.extra(loader, &path)?,
                    _ => {}
                }
            }
        }
        Ok(needs_cache)
    }

    /// glibc before 2.34 opens its name service modules at run time; programs do not name them.
    fn name_service(&mut self) {
        let libc = OsStr::new("libc.so.6");
        let dirs = self.entries.keys().filter(|p| p.file_name() == Some(libc)).filter_map(|p| p.parent());
        let dirs: Vec<PathBuf> = dirs.map(Path::to_path_buf).collect();
        for dir in dirs {
            for name in ["libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2"] {
                let path = dir.join(name);
                if self.host.walk(&path).is_ok_and(|w| matches!(w.node, Node::File { .. })) {
                    let _ = self.file(&path);
                }
            }
        }
    }

    /// The modules that this host's nsswitch.conf names, and the file itself.
    fn modules(&mut self, loader: &Loader<'_>) -> Result<bool> {
        let conf = Path::new("/etc/nsswitch.conf");
        let text = self.host.read(conf, 64 << 10).map_err(|e| unusable(conf, e))?;
        self.file(conf)?;
        let libc = OsStr::new("libc.so.6");
        let dirs = self.entries.keys().filter(|p| p.file_name() == Some(libc)).filter_map(|p| p.parent());
        let dirs: Vec<PathBuf> = dirs.map(Path::to_path_buf).collect();
        let mut needs_cache = false;
        for (dir, module) in dirs.iter().flat_map(|dir| modules(&text).into_iter().map(move |m| (dir, m))) {
            let path = dir.join(format!("libnss_{module}.so.2"));
            if self.host.walk(&path).is_ok() {
                needs_cache |= self.closure(loader, &path)?;
            }
        }
        Ok(needs_cache)
    }

    /// Each hint once, without the libraries that come along anyhow.
    fn open_hints(&mut self) -> Vec<Hint> {
        let mut hints: Vec<Hint> = Vec::new();
        for mut hint in std::mem::take(&mut self.hints) {
            hint.libraries.retain(|path| {
                let real = self.host.walk(path).map_or_else(|_| path.clone(), |w| w.real);
                !self.entries.contains_key(&real)
            });
            if !hints.iter().any(|h| (&h.object, h.what) == (&hint.object, hint.what)) {
                hints.push(hint);
            }
        }
        hints
    }

    fn steps(&self, root: Option<&Root>) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        let mut kept: Vec<&Path> = Vec::new();
        for (path, node) in &self.entries {
            match node {
                Node::Dir => steps.push(Step::Dir { path: path.clone(), mode: directory_mode(path) }),
                Node::File { mode } => steps.push(Step::Copy {
                    from: path.clone(),
                    path: path.clone(),
                    // Never set-user-ID, set-group-ID or writable by others.
                    mode: mode & 0o755,
                    sha256: None,
                }),
                // The root has a directory where the host has a link (/bin): it stays, and each name in it that is
                // asked for becomes a link of its own.
                Node::Link(_) if root.is_some_and(|root| root.has_directory(path)) => kept.push(path),
                Node::Link(target) => {
                    steps.push(Step::Link { path: path.clone(), target: target.clone() });
                }
                Node::Other => {}
            }
        }
        for name in &self.names {
            let walk = self.host.walk(name).map_err(|e| unusable(name, e))?;
            if kept.iter().any(|dir| name.starts_with(dir)) && !self.entries.contains_key(name) {
                let target = relative_target(name, &walk.real);
                steps.push(Step::Link { path: name.clone(), target });
            }
        }
        Ok(steps)
    }
}

/// The services in a nsswitch.conf(5): words behind the colon, without what stands in brackets.
fn modules(text: &[u8]) -> std::collections::BTreeSet<String> {
    let text = String::from_utf8_lossy(text);
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let words = lines.filter_map(|line| line.split_once(':')).flat_map(|(_, words)| words.split_whitespace());
    let plain = |w: &&str| w.len() < 64 && w.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    words.filter(plain).map(str::to_string).collect()
}

/// Directories are 0755, but for those that have other rights by convention (hier(7)).
fn directory_mode(path: &Path) -> u32 {
    match path.to_str() {
        Some("/tmp" | "/var/tmp") => 0o1777,
        Some("/root") => 0o700,
        _ => 0o755,
    }
}
