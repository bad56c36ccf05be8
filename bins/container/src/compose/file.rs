//! Finding and reading a Compose file and what lies beside it.

use crate::compose::tree::{Node, Tree};
use crate::compose::vars::{self, Vars};
use drydock_core::{Error, Result, text};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The names that are looked for, in this order.
pub const NAMES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];
/// A larger file is not a Compose file.
const MAX_BYTES: u64 = 1 << 20;

/// A Compose file, read, its variables replaced.
#[derive(Debug)]
pub struct File {
    /// Its name as given, for errors.
    pub name: String,
    /// Its directory: relative paths in it start there.
    pub dir: PathBuf,
    /// What it says.
    pub tree: Tree,
    /// Variables.
    pub vars: Vars,
}

/// The Compose file of this directory, if there is one.
pub fn find() -> Option<PathBuf> {
    NAMES.iter().map(PathBuf::from).find(|path| std::fs::symlink_metadata(path).is_ok())
}

impl File {
    /// Reads it, and `.env` beside it.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`]: what cannot be read or is no YAML, in one sentence.
    pub fn read(path: &Path) -> Result<Self> {
        let name = text::shorten(&text::escape(&path.display().to_string()), 200);
        let source = read_text(path).map_err(|why| Error::bad_input(name.clone(), why))?;
        let mut tree = Tree::parse(&source).map_err(|why| Error::bad_input(name.clone(), why))?;
        if !matches!(&tree, Tree::Map(map) if !map.is_empty()) {
            return Err(Error::bad_input(name, "is no Compose file: it has no services"));
        }
        let real = std::fs::canonicalize(path).map_err(|e| Error::bad_input(name.clone(), plain(&e)))?;
        let dir = real.parent().map_or_else(|| PathBuf::from("/"), Path::to_path_buf);
        let vars = dot_env(&dir)?;
        vars.expand_tree(&mut tree, &format!("{name}: "))?;
        Ok(Self { name, dir, tree, vars })
    }

    /// Its root.
    pub fn root(&self) -> Node<'_> {
        Node::root(&self.tree, &self.name)
    }

    /// A path of the file's as an absolute one; `~` is the caller's home.
    pub fn path(&self, text: &str) -> PathBuf {
        match (text.strip_prefix('~'), std::env::var_os("HOME")) {
            (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with('/') => {
                PathBuf::from(home).join(rest.trim_start_matches('/'))
            }
            _ => {
                let joined = self.dir.join(text);
                // Without `.` and `..` where the place exists; a place that does not is named as it was given.
                std::fs::canonicalize(&joined).unwrap_or(joined)
            }
        }
    }
}

fn dot_env(dir: &Path) -> Result<Vars> {
    let path = dir.join(".env");
    if !path.exists() {
        return Ok(Vars::default());
    }
    let bad = |why: String| Error::bad_input(path.display().to_string(), why);
    let source = read_text(&path).map_err(bad)?;
    let pairs = vars::parse_env(&source, &Vars::default()).map_err(bad)?;
    Ok(Vars::new(pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()))
}

/// The text of a regular file of at most 1 MiB.
///
/// # Errors
/// Why not, in words.
pub fn read_text(path: &Path) -> std::result::Result<String, String> {
    let open = std::fs::OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path);
    let file = open.map_err(|e| plain(&e))?;
    let meta = file.metadata().map_err(|e| plain(&e))?;
    if !meta.is_file() {
        return Err("is not a regular file".into());
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|e| plain(&e))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err("is larger than 1 MiB".into());
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".into())
}

fn plain(error: &std::io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), drydock_core::error::errno_text)
}
