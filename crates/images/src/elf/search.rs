//! Where the dynamic loader looks for libraries. Sources: ld.so(8), ldconfig(8), musl's manual.

use crate::elf::cache::{self, Cache};
use crate::elf::facts::Facts;
use crate::view::View;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// ld.so.conf and its includes, each at most this long.
const MAX_CONF: u64 = 1 << 20;
/// Files read for one configuration, at most: they include each other up to this deep, so the stack is bounded, too.
const MAX_CONF_FILES: u32 = 128;

/// What one root's configuration says, read when it is first needed.
#[derive(Debug, Default)]
pub struct Places {
    cache: Option<Cache>,
    conf: Vec<PathBuf>,
}

impl Places {
    /// Reads /etc/ld.so.cache, or, where there is none, what ldconfig would make it from: /etc/ld.so.conf.
    pub fn read(view: &View) -> Self {
        match view.read(Path::new("/etc/ld.so.cache"), cache::MAX_BYTES) {
            Ok(bytes) => Self { cache: Some(cache::parse(&bytes)), conf: Vec::new() },
            Err(_) => {
                let mut conf = Vec::new();
                let mut files = MAX_CONF_FILES;
                read_conf(view, Path::new("/etc/ld.so.conf"), &mut conf, &mut files);
                Self { cache: None, conf }
            }
        }
    }

    /// The cache's paths for a name, in its order.
    pub fn cached(&self, name: &OsStr) -> &[PathBuf] {
        self.cache.as_ref().and_then(|cache| cache.get(name)).map_or(&[], Vec::as_slice)
    }

    /// The configured directories, when there is no cache.
    pub fn configured(&self) -> &[PathBuf] {
        &self.conf
    }
}

fn read_conf(view: &View, file: &Path, dirs: &mut Vec<PathBuf>, files: &mut u32) {
    // Files may include each other, and themselves.
    let Some(left) = files.checked_sub(1) else { return };
    *files = left;
    let Ok(text) = view.read(file, MAX_CONF) else { return };
    for line in text.split(|b| *b == b'\n') {
        let line = line.split(|b| *b == b'#').next().unwrap_or_default().trim_ascii();
        match line.strip_prefix(b"include ").or(line.strip_prefix(b"include\t")) {
            Some(pattern) => {
                for file in glob(view, Path::new(OsStr::from_bytes(pattern.trim_ascii()))) {
                    read_conf(view, &file, dirs, files);
                }
            }
            None if line.starts_with(b"/") && dirs.len() < 1024 => {
                dirs.push(PathBuf::from(OsString::from_vec(line.to_vec())));
            }
            _ => {}
        }
    }
}

/// The files that match `DIR/PREFIX*SUFFIX`; one star, in the last component, is what ld.so.conf uses.
fn glob(view: &View, pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().unwrap_or_default().as_bytes();
    let Some(star) = name.iter().position(|b| *b == b'*') else { return vec![pattern.to_path_buf()] };
    let (prefix, suffix) = (name.get(..star).unwrap_or_default(), name.get(star + 1..).unwrap_or_default());
    let dir = pattern.parent().unwrap_or(Path::new("/"));
    let fits = |n: &OsString| {
        let n = n.as_bytes();
        n.len() >= prefix.len() + suffix.len() && n.starts_with(prefix) && n.ends_with(suffix)
    };
    view.list(dir).iter().filter(|n| fits(n)).map(|n| dir.join(n)).collect()
}

/// Debian's name for the machine, which names its library directories.
fn triplet(facts: &Facts) -> Option<&'static str> {
    Some(match (facts.machine, facts.is_64) {
        (object::elf::EM_X86_64, true) => "x86_64-linux-gnu",
        (object::elf::EM_X86_64, false) => "x86_64-linux-gnux32",
        (object::elf::EM_386, _) => "i386-linux-gnu",
        (object::elf::EM_AARCH64, _) => "aarch64-linux-gnu",
        (object::elf::EM_ARM, _) => "arm-linux-gnueabihf",
        (object::elf::EM_RISCV, true) => "riscv64-linux-gnu",
        (object::elf::EM_PPC64, _) if facts.little => "powerpc64le-linux-gnu",
        (object::elf::EM_S390, true) => "s390x-linux-gnu",
        (object::elf::EM_LOONGARCH, true) => "loongarch64-linux-gnu",
        _ => return None,
    })
}

fn platform(facts: &Facts) -> &'static str {
    triplet(facts).and_then(|t| t.split('-').next()).unwrap_or("unknown")
}

/// What `$LIB` may stand for: it depends on how the loader was built.
fn lib_names(facts: &Facts) -> Vec<String> {
    let mut names: Vec<String> = triplet(facts).map(|t| format!("lib/{t}")).into_iter().collect();
    names.push(if facts.is_64 { "lib64" } else { "lib" }.to_string());
    names.push("lib".to_string());
    names.dedup();
    names
}

/// glibc's default directories, for distributions with and without multiarch; a library of another kind found there is
/// passed over, as the loader does.
pub fn default_dirs(facts: &Facts) -> Vec<PathBuf> {
    let names = lib_names(facts);
    names.iter().flat_map(|n| [format!("/{n}"), format!("/usr/{n}")]).map(PathBuf::from).collect()
}

/// musl's directories: its path file, or the built-in list.
pub fn musl_dirs(view: &View, arch: &str) -> Vec<PathBuf> {
    let bytes = view
        .read(&musl_path_file(arch), MAX_CONF)
        .unwrap_or_else(|_| b"/lib:/usr/local/lib:/usr/lib".to_vec());
    let dirs = bytes.split(|b| matches!(b, b':' | b'\n')).map(<[u8]>::trim_ascii);
    dirs.filter(|d| d.starts_with(b"/")).map(|d| PathBuf::from(OsString::from_vec(d.to_vec()))).collect()
}

/// Where musl's loader of this machine reads its directories from.
pub fn musl_path_file(arch: &str) -> PathBuf {
    PathBuf::from(format!("/etc/ld-musl-{arch}.path"))
}

/// Expands `$ORIGIN`, `$LIB` and `$PLATFORM` (also in braces): every directory list that it may stand for, in order.
/// What is relative or empty is left out: it would mean the working directory of whoever starts the program.
pub fn expand_list(list: &OsStr, origin: &Path, facts: &Facts) -> Vec<PathBuf> {
    let parts = list.as_bytes().split(|b| *b == b':').take(64);
    parts
        .flat_map(|part| expand(OsStr::from_bytes(part), origin, facts))
        .filter(|p| p.is_absolute())
        .collect()
}

/// [`expand_list`] for one path.
pub fn expand(path: &OsStr, origin: &Path, facts: &Facts) -> Vec<PathBuf> {
    if !path.as_bytes().contains(&b'$') {
        return vec![PathBuf::from(path)];
    }
    let once = replace(path.as_bytes(), "ORIGIN", origin.as_os_str().as_bytes());
    let once = replace(&once, "PLATFORM", platform(facts).as_bytes());
    let mut all: Vec<PathBuf> = Vec::new();
    for lib in lib_names(facts) {
        let path = PathBuf::from(OsString::from_vec(replace(&once, "LIB", lib.as_bytes())));
        if !all.contains(&path) && path.as_os_str().len() <= 4096 {
            all.push(path);
        }
    }
    all
}

fn replace(text: &[u8], token: &str, value: &[u8]) -> Vec<u8> {
    let braces = format!("${{{token}}}");
    let plain = format!("${token}");
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(braces.as_bytes()) {
            out.extend_from_slice(value);
            rest = after;
            continue;
        }
        // `$LIBRARY` is not `$LIB`.
        let word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
        match rest.strip_prefix(plain.as_bytes()).filter(|after| !after.first().is_some_and(word)) {
            Some(after) => {
                out.extend_from_slice(value);
                rest = after;
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        let facts = Facts { is_64: true, little: true, machine: object::elf::EM_X86_64, ..Facts::default() };
        let list = OsStr::new("$ORIGIN/../lib::rel:${ORIGIN}/$LIBX:/p/$PLATFORM");
        let dirs = expand_list(list, Path::new("/opt/bin"), &facts);
        let want = ["/opt/bin/../lib", "/opt/bin/$LIBX", "/p/x86_64"].map(PathBuf::from);
        assert_eq!(dirs, want);
        let libs = expand(OsStr::new("/usr/$LIB/x"), Path::new("/"), &facts);
        assert_eq!(libs[0], Path::new("/usr/lib/x86_64-linux-gnu/x"));
        assert!(libs.contains(&PathBuf::from("/usr/lib64/x")));
    }
}
