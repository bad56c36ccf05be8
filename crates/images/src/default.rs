//! The root file system that containers share when none is given: the recipe `host-tools`, built once, never changed
//! afterwards. Each build has its own directory, named by a digest of what it was made from; containers that use an older
//! one keep it.
//!
//! `<data>/rootfs/default` is a stamp: the recipe, the directory's name, and what stat(2) said about each source. While
//! these say the same, a call only stats.

use crate::copy::{Plan, Step};
use crate::recipe::{DEFAULT, Recipe, SHIPPED};
use crate::root::Root;
use drydock_core::error::CallExt;
use drydock_core::{Ctx, Error, Result};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::fs::File;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Version of the stamp and of how roots are built.
const FORMAT: &str = "drydock-rootfs 1";
const STAMP: &str = "default";
const LOCK: &str = "default.lock";
/// Builds that are not finished; never used, removed by the next build.
const UNFINISHED: &str = ".build-";

/// The default root file system, ready to be used as a read-only lower layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultRootfs {
    /// Its directory; it stays as it is for as long as anybody uses it.
    pub path: PathBuf,
    /// It was built by this call.
    pub built: bool,
}

/// Returns the default root file system below `data_root`, building it if there is none or if a source has changed.
/// Concurrent callers wait for the one that builds.
///
/// # Errors
/// When `data_root` cannot be written, or the host lacks a tool that the recipe needs.
pub fn default_rootfs(data_root: &Path, ctx: &Ctx<'_>) -> Result<DefaultRootfs> {
    let dir = data_root.join("rootfs");
    match fresh(&dir) {
        Some(path) => Ok(DefaultRootfs { path, built: false }),
        None => build(data_root, false, ctx, &mut |_, _| {}),
    }
}

/// [`default_rootfs`] that builds even if nothing has changed (`again`), and tells how far it is (steps done, of all).
///
/// # Errors
/// As [`default_rootfs`].
pub fn default_rootfs_with(
    data_root: &Path,
    again: bool,
    ctx: &Ctx<'_>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<DefaultRootfs> {
    let known = if again { None } else { fresh(&data_root.join("rootfs")) };
    if let Some(path) = known {
        return Ok(DefaultRootfs { path, built: false });
    }
    build(data_root, again, ctx, progress)
}

/// Where the default root file system is, without building it: its directory if it is there and fresh, else the name
/// under which [`default_rootfs`] would put its stamp.
pub fn default_path(data_root: &Path) -> PathBuf {
    let dir = data_root.join("rootfs");
    fresh(&dir).unwrap_or_else(|| dir.join(STAMP))
}

/// Directories of earlier builds, which are not the default any more.
pub fn outdated(data_root: &Path) -> Vec<PathBuf> {
    let dir = data_root.join("rootfs");
    let stamp = std::fs::read_to_string(dir.join(STAMP)).unwrap_or_default();
    let current = header(&stamp).map(|(_, name)| name);
    let entries = std::fs::read_dir(&dir).into_iter().flatten().filter_map(Result::ok);
    let names = entries.filter_map(|e| e.file_name().into_string().ok());
    let old = |n: &String| n.starts_with(&format!("{DEFAULT}-")) && Some(n.as_str()) != current;
    names.filter(old).map(|n| dir.join(n)).collect()
}

/// Removes what unfinished builds left and the outdated directories but those `in_use`. Returns what was removed.
/// Waits for a build that is going on.
///
/// # Errors
/// When something cannot be removed.
pub fn remove_outdated(data_root: &Path, in_use: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let dir = data_root.join("rootfs");
    if !dir.join(LOCK).exists() {
        return Ok(Vec::new());
    }
    let _lock = lock(&dir)?;
    sweep(&dir)?;
    let old: Vec<PathBuf> = outdated(data_root).into_iter().filter(|path| !in_use.contains(path)).collect();
    for (n, path) in old.iter().enumerate() {
        // First out of sight: nobody must find half of one.
        let gone = dir.join(format!("{UNFINISHED}gone-{n}"));
        std::fs::rename(path, &gone).call(|| format!("rename({path:?}, {gone:?})"))?;
    }
    sweep(&dir)?;
    Ok(old)
}

/// The directory that the stamp names, if nothing has changed since.
fn fresh(dir: &Path) -> Option<PathBuf> {
    let stamp = std::fs::read_to_string(dir.join(STAMP)).ok()?;
    let (recipe, name) = header(&stamp)?;
    if recipe != recipe_digest() || !stamp.ends_with("\nend\n") {
        return None;
    }
    // After a boot the files are looked at once: a crash may have come before they were on the disk.
    if stamp.lines().nth(1)? != boot() {
        return None;
    }
    let sources = stamp.lines().skip(2).take_while(|line| *line != "end");
    let mut now = String::with_capacity(80);
    for line in sources {
        let (facts, path) = line.split_once('\t')?;
        write_facts(Path::new(path), &mut now);
        if facts != now {
            return None;
        }
    }
    let path = dir.join(name);
    std::fs::symlink_metadata(&path).ok()?.is_dir().then_some(path)
}

/// The stamp's first line: recipe digest and directory name. The name must be one of ours, not a way out.
fn header(stamp: &str) -> Option<(&str, &str)> {
    let (recipe, name) = stamp.lines().next()?.strip_prefix(FORMAT)?.trim_start().split_once(' ')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    (name.starts_with(DEFAULT) && name.chars().all(plain)).then_some((recipe, name))
}

fn hex(bytes: &[u8], digits: usize) -> String {
    let mut text: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    text.truncate(digits);
    text
}

/// Tells recipes apart, computed by the compiler: FNV-1a of this version and the recipe's text.
const RECIPE: u64 = {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    hash = fnv(hash, env!("CARGO_PKG_VERSION").as_bytes());
    fnv(hash, SHIPPED[0].1.as_bytes())
};

const fn fnv(mut hash: u64, bytes: &[u8]) -> u64 {
    let mut rest = bytes;
    while let [byte, tail @ ..] = rest {
        hash = (hash ^ *byte as u64).wrapping_mul(0x0100_0000_01b3);
        rest = tail;
    }
    hash
}

fn recipe_digest() -> String {
    format!("{RECIPE:016x}")
}

/// This boot's id (random(4)); a file of procfs, so an empty answer only means that it is not mounted.
fn boot() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    format!("boot {}", id.trim())
}

/// Whether every file that was copied is there with its full size.
fn is_whole(root: &Path, steps: &[Step]) -> bool {
    let size = |path: &Path| std::fs::symlink_metadata(path).map(|m| m.size()).ok();
    steps.iter().all(|step| match step {
        Step::Copy { from, path, .. } => {
            let copied = size(&root.join(crate::root::relative(path)));
            copied.is_some() && copied == size(from)
        }
        _ => true,
    })
}

/// What stat(2) says about a source, as one word; `-` if it is not there.
fn facts_of(path: &Path) -> String {
    let mut text = String::new();
    write_facts(path, &mut text);
    text
}

/// [`facts_of`] into a buffer that is used again for each source: this is what every container start waits for.
fn write_facts(path: &Path, text: &mut String) {
    text.clear();
    // Writing to a String cannot fail.
    let _ = match rustix::fs::stat(path) {
        Ok(s) => write!(
            text,
            "{:x}:{:x}:{:x}:{:x}.{:x}",
            s.st_dev, s.st_ino, s.st_size, s.st_mtime, s.st_mtime_nsec
        ),
        Err(_) => write!(text, "-"),
    };
}

/// What could change which programs and libraries are found; their change alone does not change the root.
fn surroundings() -> impl Iterator<Item = PathBuf> {
    crate::elf::closure::PROGRAM_DIRS.into_iter().chain(["/etc/ld.so.cache"]).map(PathBuf::from)
}

fn build(
    data_root: &Path,
    again: bool,
    ctx: &Ctx<'_>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<DefaultRootfs> {
    let dir = data_root.join("rootfs");
    make_dir(data_root, 0o711)?;
    make_dir(&dir, 0o755)?;
    let _lock = lock(&dir)?;
    // Whoever held the lock may just have built it.
    let known = if again { None } else { fresh(&dir) };
    if let Some(path) = known {
        return Ok(DefaultRootfs { path, built: false });
    }
    sweep(&dir)?;
    // Before the plan: a source that changes from now on makes the stamp stale.
    let around: Vec<(String, PathBuf)> = surroundings().map(|p| (facts_of(&p), p)).collect();
    let steps = Recipe::shipped(DEFAULT)?.host_steps()?;
    let sources = sources(&steps);
    let digest = digest(&steps, &sources)?;
    let mut name = format!("{DEFAULT}-{digest}");
    let mut count = 1;
    // One that is damaged is left to those that use it; the new one gets another name.
    while dir.join(&name).exists() && (again || !is_whole(&dir.join(&name), &steps)) {
        count += 1;
        name = format!("{DEFAULT}-{digest}-{count}");
    }
    let path = dir.join(&name);
    let there = std::fs::symlink_metadata(&path).is_ok_and(|m| m.is_dir());
    if !there {
        let temporary = dir.join(format!("{UNFINISHED}{}", std::process::id()));
        let all = steps.len();
        Root::create_new(&temporary)?;
        let plan = Plan::new(temporary.clone(), steps);
        plan.apply_with(ctx, &mut |done| progress(done, all))?;
        std::fs::rename(&temporary, &path).call(|| format!("rename({temporary:?}, {path:?})"))?;
    }
    let mut stamp = format!("{FORMAT} {} {name}\n{}\n", recipe_digest(), boot());
    for (facts, source) in around.iter().chain(&sources) {
        // Writing to a String cannot fail.
        let _ = writeln!(stamp, "{facts}\t{}", source.display());
    }
    stamp.push_str("end\n");
    replace(&dir, &stamp)?;
    Ok(DefaultRootfs { path, built: !there })
}

fn make_dir(path: &Path, mode: u32) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let made = std::fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    made.call(|| format!("mkdir({path:?}, {mode:04o})"))
        .map_err(|e| e.in_stage("rootfs").hint("set DRYDOCK_DATA to a directory that you can write"))?;
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(path, permissions).call(|| format!("chmod({path:?}, {mode:04o})"))
}

/// Waits for the lock; it is free again when the file is closed, also by death.
fn lock(dir: &Path) -> Result<File> {
    let path = dir.join(LOCK);
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC)
        .open(&path)
        .call(|| format!("open({path:?}, O_WRONLY|O_CREAT)"))
        .map_err(|e| e.in_stage("rootfs").hint("set DRYDOCK_DATA to a directory that you can write"))?;
    loop {
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Error::call(format!("flock({path:?}, LOCK_EX)"), e).in_stage("rootfs")),
        }
    }
}

/// Removes what a killed build left. Only under the lock: then nobody is building.
fn sweep(dir: &Path) -> Result<()> {
    for entry in std::fs::read_dir(dir).call(|| format!("getdents64({dir:?})"))?.filter_map(Result::ok) {
        if !entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            continue;
        }
        let path = entry.path();
        let removed = match entry.file_type() {
            Ok(kind) if kind.is_dir() => std::fs::remove_dir_all(&path),
            _ => std::fs::remove_file(&path),
        };
        removed.call(|| format!("rm({path:?})")).map_err(|e| e.in_stage("rootfs"))?;
    }
    Ok(())
}

fn sources(steps: &[Step]) -> Vec<(String, PathBuf)> {
    let files = steps.iter().filter_map(|step| match step {
        Step::Copy { from, .. } => Some(from.clone()),
        _ => None,
    });
    files.map(|from| (facts_of(&from), from)).collect()
}

fn digest(steps: &[Step], sources: &[(String, PathBuf)]) -> Result<String> {
    let steps = serde_json::to_vec(steps).map_err(|e| Error::failed("rootfs", e.to_string()))?;
    let mut hash = Sha256::new();
    hash.update(recipe_digest());
    hash.update(steps);
    sources.iter().for_each(|(facts, _)| hash.update(facts));
    Ok(hex(&hash.finalize(), 16))
}

fn replace(dir: &Path, stamp: &str) -> Result<()> {
    let temporary = dir.join(format!("{UNFINISHED}stamp"));
    let target = dir.join(STAMP);
    std::fs::write(&temporary, stamp).call(|| format!("write({temporary:?})"))?;
    std::fs::rename(&temporary, &target).call(|| format!("rename({temporary:?}, {target:?})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_the_outdated_but_not_what_is_in_use() {
        let data = std::env::temp_dir().join(format!("drydock-outdated-{}", std::process::id()));
        let dir = data.join("rootfs");
        for name in ["host-tools-a", "host-tools-b", "host-tools-c", ".build-1", "mine"] {
            std::fs::create_dir_all(dir.join(name).join("usr")).unwrap();
        }
        std::fs::write(dir.join(STAMP), format!("{FORMAT} x host-tools-c\nend\n")).unwrap();
        std::fs::write(dir.join(LOCK), "").unwrap();
        assert_eq!(outdated(&data).len(), 2);
        let removed = remove_outdated(&data, &[dir.join("host-tools-a")]).unwrap();
        assert_eq!(removed, [dir.join("host-tools-b")]);
        let mut left: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [STAMP, LOCK, "host-tools-a", "host-tools-c", "mine"]);
        std::fs::remove_dir_all(&data).unwrap();
    }

    #[test]
    fn the_digest_is_of_the_default_recipe() {
        assert_eq!(SHIPPED[0].0, DEFAULT);
        assert_eq!(fnv(0xcbf2_9ce4_8422_2325, b"a"), 0xaf63_dc4c_8601_ec8c);
    }

    #[test]
    fn a_stamp_does_not_lead_out() {
        for bad in
            ["", "drydock-rootfs 1 x ../etc", "drydock-rootfs 1 x host-tools-/..", "drydock-rootfs 1 x"]
        {
            assert_eq!(header(bad), None, "{bad}");
        }
        assert_eq!(header("drydock-rootfs 1 ab host-tools-0\nend"), Some(("ab", "host-tools-0")));
    }
}
