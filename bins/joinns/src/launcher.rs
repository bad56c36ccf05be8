//! Starting this machine's programs inside another root: `/.drydock/bin/NAME` is this program under another name, which
//! executes the real one by its own loader with its own libraries. Nothing of that is passed on to what it starts.

use drydock_core::exec::join_pairs;
use drydock_core::{Error, Kind, Result};
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

/// Where everything lies, in the command's own mount namespace.
pub const TOOLS: &str = "/.drydock";
/// This machine's trees.
pub const HOST: &str = "/.drydock/host";
/// The program that `bin`'s names lead to.
pub const LAUNCHER: &str = "launcher";
/// Where programs are sought, as they lie on this machine.
pub const DIRECTORIES: [&str; 6] = ["usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin"];

#[cfg(target_arch = "x86_64")]
const TRIPLET: &str = "x86_64-linux-gnu";
#[cfg(not(target_arch = "x86_64"))]
const TRIPLET: &str = "aarch64-linux-gnu";

/// Whether this process was started as one of the tools.
pub fn is_meant() -> bool {
    let name = std::env::args_os().next().unwrap_or_default();
    Path::new(&name).file_name() != Some(OsStr::new("joinns")) && Path::new(TOOLS).join(LAUNCHER).is_file()
}

/// Becomes the program. Returns only its error.
pub fn run() -> Error {
    let mut words: Vec<OsString> = std::env::args_os().collect();
    let called = words.first().cloned().unwrap_or_default();
    let name = Path::new(&called).file_name().map(OsStr::to_os_string).unwrap_or_default();
    let Some(path) = find(Path::new(HOST), &name) else {
        return Error::failed(name.to_string_lossy(), "not found among the tools of this machine")
            .with_kind(Kind::NotFound);
    };
    words.drain(..1);
    match command(Path::new(HOST), &path, &called, words, 0) {
        Ok((program, words)) => exec(&program, words),
        Err(error) => error,
    }
}

fn find(host: &Path, name: &OsStr) -> Option<PathBuf> {
    let paths = DIRECTORIES.iter().map(|dir| Path::new("/").join(dir).join(name));
    paths.filter_map(|path| resolve(host, &path)).find(|path| path.is_file())
}

/// What a path of this machine is called inside: links are followed as they are meant there.
fn resolve(host: &Path, path: &Path) -> Option<PathBuf> {
    let mut todo: Vec<OsString> = parts(path);
    let mut at: Vec<OsString> = Vec::new();
    let mut links = 0;
    while let Some(part) = todo.pop() {
        if part == ".." {
            at.pop();
            continue;
        }
        let here: PathBuf =
            host.iter().map(OsStr::to_os_string).chain(at.iter().cloned()).chain([part.clone()]).collect();
        match std::fs::read_link(&here) {
            Ok(target) => {
                links += 1;
                if links > 40 {
                    return None;
                }
                if target.is_absolute() {
                    at.clear();
                }
                todo.extend(parts(&target));
            }
            Err(_) => at.push(part),
        }
    }
    let found: PathBuf = host.iter().map(OsStr::to_os_string).chain(at).collect();
    found.exists().then_some(found)
}

/// A path's parts, the last first.
fn parts(path: &Path) -> Vec<OsString> {
    let part = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_os_string()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().rev().filter_map(part).collect()
}

/// The program to execute and its words: the loader of an ELF file, the interpreter of a script.
fn command(
    host: &Path,
    path: &Path,
    called: &OsStr,
    rest: Vec<OsString>,
    depth: u32,
) -> Result<(PathBuf, Vec<OsString>)> {
    let cannot = |why: &str| Error::failed(path.display().to_string(), why).with_kind(Kind::CannotExecute);
    if let Some((script, argument)) = script(path).filter(|_| depth < 5) {
        let interpreter = resolve(host, &script).ok_or_else(|| cannot("its interpreter is not there"))?;
        let words = argument.into_iter().chain([path.as_os_str().to_os_string()]).chain(rest).collect();
        return command(host, &interpreter, script.as_os_str(), words, depth + 1);
    }
    let Some(loader) = interpreter(path) else {
        return Ok((path.to_path_buf(), [called.to_os_string()].into_iter().chain(rest).collect()));
    };
    let loader = resolve(host, &loader).ok_or_else(|| cannot("its loader is not there"))?;
    let own = [
        loader.as_os_str().to_os_string(),
        "--argv0".into(),
        called.to_os_string(),
        "--library-path".into(),
        libraries(host),
        path.as_os_str().to_os_string(),
    ];
    Ok((loader, own.into_iter().chain(rest).collect()))
}

fn libraries(host: &Path) -> OsString {
    let places = [
        format!("/usr/local/lib/{TRIPLET}"),
        "/usr/local/lib".into(),
        format!("/lib/{TRIPLET}"),
        format!("/usr/lib/{TRIPLET}"),
        "/lib64".into(),
        "/usr/lib64".into(),
        "/lib".into(),
        "/usr/lib".into(),
        "/usr/lib/systemd".into(),
        format!("/usr/lib/{TRIPLET}/systemd"),
    ];
    let mut found: Vec<OsString> = Vec::new();
    for place in places.iter().filter_map(|place| resolve(host, Path::new(place))) {
        if !found.contains(&place.as_os_str().to_os_string()) {
            found.push(place.into_os_string());
        }
    }
    found.join(OsStr::new(":"))
}

fn head(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(4096).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The interpreter of a `#!` line and its one argument.
fn script(path: &Path) -> Option<(PathBuf, Option<OsString>)> {
    let bytes = head(path)?;
    let line = bytes.strip_prefix(b"#!")?.split(|b| *b == b'\n').next()?.trim_ascii();
    let end = line.iter().position(|b| matches!(b, b' ' | b'\t')).unwrap_or(line.len());
    let (program, argument) = line.split_at_checked(end)?;
    let argument = argument.trim_ascii();
    let words = (!argument.is_empty()).then(|| OsString::from_vec(argument.to_vec()));
    Some((PathBuf::from(OsStr::from_bytes(program)), words))
}

/// PT_INTERP of a 64-bit little-endian ELF file. Source: elf(5).
pub fn interpreter(path: &Path) -> Option<PathBuf> {
    let bytes = head(path)?;
    let int = |at: usize, length: usize| -> Option<usize> {
        let part = bytes.get(at..at.checked_add(length)?)?;
        Some(part.iter().rev().fold(0usize, |value, byte| value << 8 | usize::from(*byte)))
    };
    if bytes.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let (table, size, count) = (int(32, 8)?, int(54, 2)?, int(56, 2)?);
    (0..count.min(64)).find_map(|index| {
        let header = table.checked_add(index.checked_mul(size)?)?;
        if int(header, 4)? != 3 {
            return None;
        }
        let (offset, length) = (int(header.checked_add(8)?, 8)?, int(header.checked_add(32)?, 8)?);
        let text = bytes.get(offset..offset.checked_add(length)?)?.split(|b| *b == 0).next()?;
        Some(PathBuf::from(OsStr::from_bytes(text)))
    })
}

fn exec(program: &Path, words: Vec<OsString>) -> Error {
    let text = |words: Vec<OsString>| {
        words.into_iter().filter_map(|w| CString::new(w.into_vec()).ok()).collect::<Vec<_>>()
    };
    let env = text(join_pairs(std::env::vars_os()));
    let Ok(path) = CString::new(program.as_os_str().as_bytes()) else {
        return Error::failed("tools", "a path with a NUL byte");
    };
    match nix::unistd::execve(&path, &text(words), &env) {
        Ok(never) => match never {},
        Err(errno) => Error::call(format!("execve({program:?})"), errno).with_kind(Kind::CannotExecute),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_on_this_machine() {
        let host = std::env::temp_dir().join(format!("drydock-launcher-{}", std::process::id()));
        let dir = |name: &str| std::fs::create_dir_all(host.join(name)).unwrap();
        let link = |to: &str, at: &str| std::os::unix::fs::symlink(to, host.join(at)).unwrap();
        dir("usr/bin");
        dir("etc/alternatives");
        std::fs::write(host.join("usr/bin/mawk"), "x").unwrap();
        link("/etc/alternatives/awk", "usr/bin/awk");
        link("/usr/bin/mawk", "etc/alternatives/awk");
        link("usr/bin", "bin");
        link("../../../../../../etc/passwd", "usr/bin/out");
        link("loop", "usr/bin/loop");
        let want = host.join("usr/bin/mawk");
        assert_eq!(resolve(&host, Path::new("/bin/awk")), Some(want.clone()));
        assert_eq!(find(&host, OsStr::new("awk")), Some(want));
        assert_eq!(find(&host, OsStr::new("out")), None);
        assert_eq!(resolve(&host, Path::new("/usr/bin/loop")), None);
        std::fs::remove_dir_all(host).unwrap();
    }
}
