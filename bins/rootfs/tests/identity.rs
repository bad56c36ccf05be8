//! An image unpacked by us and by umoci is the same tree: path, kind, mode, owner, size, content, attributes, times, links.
#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on fails

mod common;
#[path = "common/image.rs"]
mod image;
#[path = "common/tar.rs"]
mod tar;

use common::rootfs;
use drydock_testkit::{Sandbox, have, is_root, require};
use image::{Layout, gzip, hex};
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tar::{Tar, entry};

/// Everything that an image says of a file. Times in whole seconds for links and directories, too.
fn facts(root: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut first: BTreeMap<u64, String> = BTreeMap::new();
    let mut todo = vec![PathBuf::new()];
    let mut paths = Vec::new();
    while let Some(dir) = todo.pop() {
        for e in std::fs::read_dir(root.join(&dir)).unwrap() {
            let path = dir.join(e.unwrap().file_name());
            if root.join(&path).symlink_metadata().unwrap().is_dir() {
                todo.push(path.clone());
            }
            paths.push(path);
        }
    }
    paths.sort();
    for path in paths {
        let full = root.join(&path);
        let m = full.symlink_metadata().unwrap();
        let name = drydock_core::text::escape_bytes(path.as_os_str().as_bytes());
        let kind = m.file_type();
        let content = if kind.is_file() {
            hex(&std::fs::read(&full).unwrap())
        } else if kind.is_symlink() {
            format!("-> {:?}", std::fs::read_link(&full).unwrap())
        } else if kind.is_char_device() || kind.is_block_device() {
            format!("{:x}", m.rdev())
        } else {
            String::new()
        };
        let size = if kind.is_dir() { 0 } else { m.size() };
        let link =
            if kind.is_dir() { String::new() } else { first.entry(m.ino()).or_insert(name.clone()).clone() };
        let text = format!(
            "{:o} {}:{} {size} {}.{} {content} {link} {}",
            m.mode(),
            m.uid(),
            m.gid(),
            m.mtime(),
            m.mtime_nsec(),
            attributes(&full)
        );
        all.insert(name, text);
    }
    all
}

fn attributes(path: &Path) -> String {
    let mut names = vec![0; 4096];
    let n = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    let mut found: Vec<String> = names[..n]
        .split(|b| *b == 0)
        .filter(|name| !name.is_empty() && *name != b"security.selinux")
        .map(|name| {
            let name = std::ffi::OsStr::from_bytes(name);
            let mut value = vec![0; 4096];
            let n = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap_or(0);
            format!("{name:?}={:?}", &value[..n])
        })
        .collect();
    found.sort();
    found.join(",")
}

/// Unpacks with both and compares.
#[track_caller]
fn same(sandbox: &Sandbox, layout: &str, tag: &str, least: usize) {
    let image = format!("{layout}:{tag}");
    let umoci = Command::new("umoci")
        .current_dir(sandbox.path())
        .args(["unpack", "--image", &image, "theirs"])
        .output()
        .unwrap();
    assert!(umoci.status.success(), "umoci: {}", String::from_utf8_lossy(&umoci.stderr));
    rootfs(sandbox, &["unpack", &format!("oci:{image}"), "ours"]).success();
    let (ours, theirs) = (facts(&sandbox.join("ours")), facts(&sandbox.join("theirs/rootfs")));
    assert!(ours.len() >= least, "only {} files", ours.len());
    let names: std::collections::BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    let mut differ: Vec<String> = names
        .into_iter()
        .filter(|n| ours.get(*n) != theirs.get(*n))
        .map(|n| format!("{n}\n  ours   {:?}\n  theirs {:?}", ours.get(n), theirs.get(n)))
        .collect();
    let count = differ.len();
    differ.truncate(10);
    assert!(differ.is_empty(), "{count} differ:\n{}", differ.join("\n"));
    std::fs::remove_dir_all(sandbox.join("ours")).unwrap();
    std::fs::remove_dir_all(sandbox.join("theirs")).unwrap();
}

#[test]
fn busybox() {
    require!(is_root() && have("umoci"), "needs root and umoci");
    let sandbox = Sandbox::new();
    require!(
        drydock_testkit::run(common::command(&sandbox).args(["busybox", "bb"])).code == Some(0),
        "no static busybox"
    );
    for compress in ["gzip", "none"] {
        rootfs(&sandbox, &["pack", "bb", &format!("oci:img:{compress}"), "--compress", compress]).success();
        same(&sandbox, "img", compress, 200);
    }
}

#[test]
fn every_oddity() {
    require!(is_root() && have("umoci"), "needs root and umoci");
    let sandbox = Sandbox::new();
    let mut owned = entry(b'0', b"owned");
    owned.uid = 0o1_234_567;
    owned.mode = 0o6755;
    let long = "n".repeat(180);
    let base = Tar::default()
        .dir("./", 0o755)
        .dir("d", 0o1777)
        .file("d/a", "a")
        .file("d/b", "b")
        .dir("d/sub", 0o700)
        .file("d/sub/c", "c")
        .dir("opq", 0o755)
        .file("opq/old", "old")
        .dir("closed", 0o000)
        .file("changes", "file")
        .dir("becomes-file", 0o755)
        .file("becomes-file/x", "")
        .symlink("abs", "/d")
        .symlink("rel", "d/sub")
        .symlink("dangling", "/no/where")
        .hard("hard", "d/a")
        .hard("hard-link-to-link", "abs")
        .fifo("fifo")
        .device("null", b'3', 1, 3)
        .device("loop", b'4', 7, 0)
        .raw(&owned, b"")
        .pax(&[("path", long.as_bytes()), ("mtime", b"1500000000.123456789"), ("uid", b"3000000")])
        .file("short", "long name")
        .pax(&[("SCHILY.xattr.user.note", b"with\nnewline")])
        .file("noted", "x")
        .pax(&[(
            "SCHILY.xattr.security.capability",
            &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        )])
        .file("capable", "x")
        .pax(&[
            ("GNU.sparse.major", b"0"),
            ("GNU.sparse.minor", b"1"),
            ("GNU.sparse.name", b"sparse"),
            ("GNU.sparse.size", b"100000"),
            ("GNU.sparse.map", b"0,5,99995,5"),
            ("GNU.sparse.numblocks", b"2"),
        ])
        .file("s", "helloworld")
        .clone();
    let top = Tar::default()
        .file("d/.wh.b", "")
        .file("d/sub/.wh..wh..opq", "")
        .dir("opq", 0o750)
        .file("opq/.wh..wh..opq", "")
        .file("opq/new", "new")
        .dir("changes", 0o711)
        .file("changes/inside", "")
        .file(".wh.becomes-file", "")
        .file("becomes-file", "now a file")
        .file("abs/through-link", "lands in /d")
        .file("d/a", "changed, and hard stays")
        .clone();
    for packed in [false, true] {
        let mut layout = Layout::new(&sandbox.join("img"));
        for tar in [&base, &top] {
            let kind = if packed {
                "application/vnd.oci.image.layer.v1.tar+gzip"
            } else {
                "application/vnd.oci.image.layer.v1.tar"
            };
            let bytes = if packed { gzip(&tar.end()) } else { tar.end() };
            layout.packed(&tar.end(), &bytes, kind);
        }
        let mut manifest = layout.write();
        manifest["annotations"] = serde_json::json!({ "org.opencontainers.image.ref.name": "odd" });
        layout.index(&[manifest]);
        same(&sandbox, "img", "odd", 23);
        std::fs::remove_dir_all(sandbox.join("img")).unwrap();
    }
}

/// A minimal Debian, made once and kept for a month: given by DRYDOCK_TEST_DEBIAN, or made by debootstrap or mmdebstrap where a mirror
/// answers. `None`, with the reason, where there is none.
fn debian() -> Result<PathBuf, String> {
    if let Some(given) = std::env::var_os("DRYDOCK_TEST_DEBIAN") {
        return Ok(given.into());
    }
    if !have("debootstrap") && !have("mmdebstrap") {
        return Err("neither debootstrap nor mmdebstrap is installed".into());
    }
    if drydock_testkit::in_vm() {
        return Err("making a Debian takes too long in an emulated machine".into());
    }
    let kept = std::env::temp_dir().join("drydock-test-debian");
    let age = kept.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
    let ours = kept.symlink_metadata().is_ok_and(|m| m.is_dir() && m.uid() == 0);
    if ours && age.is_some_and(|age| age.as_secs() < 30 * 86_400) {
        return Ok(kept);
    }
    let making = std::env::temp_dir().join(format!("drydock-test-debian-{}", std::process::id()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_rootfs"));
    command.args(["deb", "--suite", "stable"]).arg(&making).process_group(0);
    let child = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn();
    let mut child = child.map_err(|e| e.to_string())?;
    let until = std::time::Instant::now() + std::time::Duration::from_secs(180);
    let made = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status.success();
        }
        if std::time::Instant::now() > until {
            // debootstrap with all that it runs.
            let group = nix::unistd::Pid::from_raw(child.id().cast_signed());
            let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
            let _ = child.wait();
            break false;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    };
    if !made || (kept.exists() && std::fs::remove_dir_all(&kept).is_err()) {
        let _ = std::fs::remove_dir_all(&making);
        return Err("debootstrap makes no Debian here: no mirror answers, or not in time".into());
    }
    std::fs::rename(&making, &kept).map_err(|e| e.to_string())?;
    Ok(kept)
}

#[test]
fn debian_minimal() {
    require!(is_root() && have("umoci"), "needs root and umoci");
    let debian = match debian() {
        Ok(debian) => debian,
        Err(why) => return drydock_testkit::skip(&why),
    };
    let sandbox = Sandbox::new();
    rootfs(&sandbox, &["pack", debian.to_str().unwrap(), "oci:img:debian", "--compress", "none"]).success();
    same(&sandbox, "img", "debian", 3000);
}
