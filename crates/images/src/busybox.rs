//! A root file system out of one static file: busybox, and a relative link for each of its applets.
//!
//! The file is not run: the applets' names stand in it as one sorted table of NUL-terminated words.

use crate::copy::{Plan, Step};
use crate::elf::{Content, facts};
use crate::root::{Root, shown};
use crate::skeleton;
use crate::view::{Node, View};
use drydock_core::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Larger files are not busybox.
pub const MAX_BYTES: u64 = 64 << 20;
/// Where hosts keep a busybox, the static ones first.
const HOST: [&str; 6] = [
    "/bin/busybox.static",
    "/usr/lib/busybox/busybox-static",
    "/usr/bin/busybox",
    "/bin/busybox",
    "/sbin/busybox",
    "/usr/local/bin/busybox",
];

/// Which busybox, and where to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Request {
    /// The root directory; made if missing.
    pub root: PathBuf,
    /// The busybox file; `None`: the host's.
    pub from: Option<PathBuf>,
    /// What its SHA-256 must be, as 64 hexadecimal digits.
    pub sha256: Option<String>,
}

/// The file that a `file://` URL names.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] for other schemes, hosts, and relative paths.
pub fn file_of_url(url: &str) -> Result<PathBuf> {
    let shown = || format!("'{}'", drydock_core::text::shorten(&drydock_core::text::escape(url), 200));
    match url.split_once("://") {
        Some(("file", path)) => {
            let path = path.strip_prefix("localhost").unwrap_or(path);
            if path.starts_with('/') && path.len() > 1 && !path.contains('\0') {
                return Ok(PathBuf::from(path));
            }
            Err(Error::bad_input(shown(), "is not a local file (allowed: file:///absolute/path)"))
        }
        Some(("http" | "https", _)) => {
            Err(Error::bad_input(shown(), "rootfs does not download (allowed: file:///path)")
                .hint("fetch it with: curl -O URL, then give --from FILE --sha256 DIGEST"))
        }
        _ => Err(Error::bad_input(shown(), "is not a URL (allowed: file:///path)")),
    }
}

impl Request {
    /// Checks what can be checked without reading the file.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] for a digest that is none, or a directory that cannot be used.
    pub fn validate(&self) -> Result<()> {
        let good = |d: &&String| d.len() == 64 && d.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if let Some(digest) = self.sha256.as_ref().filter(|d| !good(d)) {
            let shown = drydock_core::text::shorten(&drydock_core::text::escape(digest), 80);
            let problem = format!("'{shown}' is not a SHA-256 (allowed: 64 of 0-9 a-f)");
            return Err(Error::bad_input("--sha256", problem));
        }
        if self.root.as_os_str().is_empty() || std::fs::symlink_metadata(&self.root).is_ok() {
            Root::open(&self.root)?;
        }
        Ok(())
    }

    /// Reads the busybox file and finds its applets; changes nothing. Files that the directory has already stay.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`]: no busybox, not a busybox, not static, another digest than asked for.
    pub fn plan(&self) -> Result<Plan> {
        self.validate()?;
        let host = View::host()?;
        let from = match &self.from {
            Some(path) => path.clone(),
            None => of_host(&host)?,
        };
        let bytes = host.read(&from, MAX_BYTES).map_err(|e| bad_file(&from, e))?;
        let found = digest(&bytes);
        if let Some(wanted) = self.sha256.as_ref().filter(|wanted| **wanted != found) {
            return Err(Error::bad_input(shown(&from), format!("sha256 expected {wanted}, got {found}")));
        }
        let file = host.open(&from).map_err(|e| bad_file(&from, e))?;
        check_static(&from, &file)?;
        let names = applets(&bytes).ok_or_else(|| {
            Error::bad_input(shown(&from), "is not busybox, or has no applets (allowed: a static busybox)")
        })?;
        let mut steps = skeleton::steps(false, "busybox")?;
        let old = Root::open(&self.root).ok();
        let has = |path: &Path| old.as_ref().is_some_and(|root| !matches!(root.kind(path), Ok(None)));
        steps.retain(|step| matches!(step, Step::Dir { .. }) || !has(step.path()));
        steps.push(Step::Copy { from, path: "/bin/busybox".into(), mode: 0o755, sha256: Some(found) });
        let links = names.iter().filter(|n| *n != "busybox").map(|n| Path::new("/bin").join(n));
        // A program that is there already is not hidden behind an applet.
        let taken = |path: &PathBuf| {
            old.as_ref().is_some_and(
                |root| matches!(root.kind(path), Ok(Some(kind)) if kind != rustix::fs::FileType::Symlink),
            )
        };
        steps.extend(
            links.filter(|p| !taken(p)).map(|path| Step::Link { path, target: PathBuf::from("busybox") }),
        );
        Ok(Plan::creating(self.root.clone(), steps))
    }
}

fn bad_file(path: &Path, errno: rustix::io::Errno) -> Error {
    let why = match errno {
        rustix::io::Errno::NOENT => "does not exist (allowed: a static busybox)".to_string(),
        rustix::io::Errno::FBIG => format!("is larger than {MAX_BYTES} bytes (allowed: a static busybox)"),
        rustix::io::Errno::INVAL => "is not a regular file (allowed: a static busybox)".to_string(),
        other => drydock_core::error::errno_text(other.raw_os_error()),
    };
    Error::bad_input(shown(path), why)
}

/// A static busybox of this host.
fn of_host(host: &View) -> Result<PathBuf> {
    let usable = |path: &&Path| {
        let is_file = host.walk(path).is_ok_and(|w| matches!(w.node, Node::File { .. }));
        is_file && host.open(path).is_ok_and(|file| check_static(path, &file).is_ok())
    };
    HOST.iter().map(Path::new).find(usable).map(Path::to_path_buf).ok_or_else(|| {
        Error::bad_input("busybox", "this host has no static busybox (allowed: --from FILE)")
            .hint("install one: apt-get install busybox-static")
    })
}

fn check_static(path: &Path, file: &std::fs::File) -> Result<()> {
    let problem = match facts::read(file) {
        Ok(Content::Elf(facts)) if facts.interpreter.is_none() && facts.needed.is_empty() => return Ok(()),
        Ok(Content::Elf(facts)) => match facts.interpreter {
            Some(loader) => {
                format!("is linked dynamically, it needs {} (allowed: a static busybox)", loader.display())
            }
            None => "is linked dynamically (allowed: a static busybox)".to_string(),
        },
        Ok(_) => "is not an ELF program (allowed: a static busybox)".to_string(),
        Err(damage) => damage,
    };
    Err(Error::bad_input(shown(path), problem))
}

/// SHA-256 as hexadecimal digits.
pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// Reads an open file and checks its SHA-256.
pub(crate) fn read_checked(file: std::fs::File, path: &Path, wanted: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = file.take(MAX_BYTES).read_to_end(&mut bytes);
    read.map_err(|e| Error::call(format!("read({path:?})"), e))?;
    let found = digest(&bytes);
    if found == wanted {
        return Ok(bytes);
    }
    Err(Error::failed(
        shown(path),
        format!("sha256 expected {wanted}, got {found}: the file has changed meanwhile"),
    ))
}

/// The applets' names in a busybox file: of the tables of sorted words that it has, the longest one with `sh` or `cat`.
pub fn applets(bytes: &[u8]) -> Option<Vec<String>> {
    let marker = b"BusyBox v";
    bytes.windows(marker.len()).find(|w| w == marker)?;
    let mut best: Vec<&[u8]> = Vec::new();
    let mut run: Vec<&[u8]> = Vec::new();
    let is_better = |run: &Vec<&[u8]>, best: &Vec<&[u8]>| {
        run.len() > best.len() && run.iter().any(|n| matches!(*n, b"sh" | b"cat" | b"ash" | b"busybox"))
    };
    for word in bytes.split(|b| *b == 0) {
        let name = (1..=32).contains(&word.len())
            && word.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"[_-.+".contains(b));
        if !name || run.last().is_some_and(|last| *last >= word) {
            if is_better(&run, &best) {
                best = std::mem::take(&mut run);
            }
            run.clear();
        }
        if name {
            run.push(word);
        }
    }
    if is_better(&run, &best) {
        best = run;
    }
    let names: Vec<String> =
        best.iter().filter_map(|n| std::str::from_utf8(n).ok()).map(str::to_string).collect();
    (names.len() > 1).then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_table() {
        let file = b"junk\0zz\0BusyBox v1.36\0\0xyz\0[\0[[\0cat\0ls\0sh\0yes\0\0abc\0b\0";
        assert_eq!(applets(file).unwrap(), ["[", "[[", "cat", "ls", "sh", "yes"]);
        assert_eq!(applets(b"\0cat\0sh\0"), None);
        assert_eq!(applets(b"BusyBox v\0\0"), None);
    }

    #[test]
    fn urls() {
        assert_eq!(file_of_url("file:///a/b").unwrap(), Path::new("/a/b"));
        for bad in ["https://x/y", "file://host/x", "file://", "x", "ftp://x"] {
            assert_eq!(file_of_url(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }
}
