//! Hostile archives and layers: nothing outside the root is touched, what cannot be is refused in one sentence, and
//! nothing of it is left.
#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on fails

mod common;
#[path = "common/image.rs"]
mod image;
#[path = "common/tar.rs"]
mod tar;

use common::{command, listing, rootfs};
use drydock_testkit::{Output, Sandbox, is_root, require};
use image::Layout;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tar::{Tar, entry};

/// A place with a canary outside of the root.
struct Place {
    sandbox: Sandbox,
    before: Vec<String>,
}

impl Place {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let outside = sandbox.join("outside");
        std::fs::create_dir_all(outside.join("dir")).unwrap();
        std::fs::write(outside.join("canary"), "alive").unwrap();
        std::fs::write(outside.join("dir/x"), "alive").unwrap();
        std::fs::set_permissions(outside.join("dir"), std::fs::Permissions::from_mode(0o700)).unwrap();
        let before = listing(&outside);
        Self { sandbox, before }
    }

    fn outside(&self, name: &str) -> String {
        self.sandbox.join("outside").join(name).display().to_string()
    }

    fn root(&self) -> PathBuf {
        self.sandbox.join("r")
    }

    /// Unpacks layers as an image; the outside must be as it was.
    #[track_caller]
    fn layers(&self, layers: &[&Tar]) -> Output {
        let _ = std::fs::remove_dir_all(self.sandbox.join("img"));
        let mut layout = Layout::new(&self.sandbox.join("img"));
        for layer in layers {
            layout.layer(&layer.end());
        }
        layout.finish();
        let _ = std::fs::remove_dir_all(self.root());
        let output = rootfs(&self.sandbox, &["unpack", "oci:img", "r"]);
        self.untouched(&output);
        output
    }

    #[track_caller]
    fn untouched(&self, output: &Output) {
        assert_eq!(listing(&self.sandbox.join("outside")), self.before, "{}", output.describe());
        assert!(!output.stderr.contains("panicked"), "{}", output.describe());
        let left = names(self.sandbox.path()).into_iter().filter(|n| n.starts_with('.')).collect::<Vec<_>>();
        assert!(left.is_empty(), "left: {left:?}");
    }

    #[track_caller]
    fn refused(&self, layers: &[&Tar], says: &str) {
        let output = self.layers(layers).exits(2);
        assert!(output.stderr.contains(says), "wanted '{says}': {}", output.describe());
        assert_eq!(output.stderr.lines().count(), 1, "{}", output.describe());
        assert!(!self.root().exists(), "a root is there");
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut all: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    all.sort();
    all
}

#[test]
fn links_lead_nowhere_but_within_the_root() {
    let place = Place::new();
    let outside = place.outside("dir");
    // Absolute and relative links to directories, then files through them: the write lands within the root.
    let up = format!("{}{}", "../".repeat(20), &outside[1..]);
    for target in [&outside, &up, &"..".to_string(), &"/".to_string()] {
        place.layers(&[Tar::default().symlink("a", target).file("a/evil", "x")]).success();
        assert!(place.root().join("a").is_symlink());
    }
    assert!(place.root().join("evil").is_file(), "a link to / is one to the root");
    // The same across layers, through two links, and with `.` and doubled slashes in the name.
    let first = Tar::default().symlink("one", &outside).symlink("two", "one").clone();
    place.layers(&[&first, Tar::default().file("two/.//evil", "x")]).success();
    // A link to a file is replaced, not written through.
    let canary = place.outside("canary");
    place.layers(&[Tar::default().symlink("f", &canary).file("f", "mine")]).success();
    assert_eq!(std::fs::read_to_string(place.root().join("f")).unwrap(), "mine");
    // A directory over a link replaces it; modes and times go to what is new (CVE-2021-32760).
    place.layers(&[Tar::default().symlink("d", &outside).dir("d", 0o777).file("d/x", "")]).success();
    assert!(place.root().join("d").symlink_metadata().unwrap().is_dir());
    // Links in a circle are refused.
    place.refused(&[Tar::default().symlink("l", "m").symlink("m", "l").file("l/x", "")], "loop");
}

#[test]
fn names_that_leave_are_refused() {
    let place = Place::new();
    for bad in ["../x", "a/../../x", "/../x", "a/b/../../../x"] {
        place.refused(&[Tar::default().file(bad, "")], "leaves the root file system");
    }
    place.layers(&[Tar::default().file("/abs/x", "1").file("a/../b", "2")]).success();
    assert!(place.root().join("abs/x").is_file() && place.root().join("b").is_file());
    place.refused(
        &[Tar::default()
            .file(&"d/".repeat(1030), "")
            .clone()
            .pax(&[("path", "d/".repeat(1030).as_bytes())])
            .file("x", "")],
        "deeper than 1024",
    );
    place.refused(&[Tar::default().pax(&[("path", "n".repeat(256).as_bytes())]).file("x", "")], "256 bytes");
    place.refused(&[Tar::default().pax(&[("path", b"a\0b")]).file("x", "")], "NUL");
    place.refused(
        &[Tar::default()
            .symlink("x", "")
            .clone()
            .pax(&[("linkpath", "l".repeat(5000).as_bytes())])
            .symlink("y", "z")],
        "(allowed: 1 to 4095)",
    );
    // Allowed, and escaped in messages.
    place.layers(&[Tar::default().bytes(b"a\nb\x1b[31m\xff", "x")]).success();
    place.refused(&[Tar::default().bytes(b"../\x1b[31m\n", "")], "\\x1b[31m");
}

#[test]
fn hard_links_stay_inside() {
    let place = Place::new();
    let canary = place.outside("canary");
    place.refused(&[Tar::default().hard("h", &canary)], "which is not there");
    place.refused(&[Tar::default().hard("h", "../outside/canary")], "leaves the root");
    place.refused(
        &[Tar::default().symlink("s", &place.outside("")).hard("h", "s/canary")],
        "which is not there",
    );
    place.refused(&[Tar::default().hard("h", "h")], "to itself");
    place.refused(&[Tar::default().dir("d", 0o755).hard("h", "d")], "a directory");
    place.refused(&[Tar::default().hard("h", "later").file("later", "")], "which is not there");
    // To a link itself, not to what it leads to, and then written over.
    place.layers(&[Tar::default().symlink("s", &canary).hard("h", "s").file("h", "mine")]).success();
    assert!(place.root().join("s").is_symlink());
    let gone = Tar::default().file("a", "").clone();
    place.refused(&[&gone, Tar::default().file(".wh.a", "").hard("b", "a")], "which is not there");
}

#[test]
fn whiteouts_remove_what_is_below_and_nothing_else() {
    let place = Place::new();
    let base = Tar::default()
        .file("d/a", "1")
        .file("d/b", "2")
        .file("d/sub/c", "3")
        .symlink("out", &place.outside("dir"))
        .clone();
    place
        .layers(&[&base, Tar::default().file("d/.wh.a", "").file(".wh.missing", "").file("no/.wh.x", "")])
        .success();
    assert_eq!(names(&place.root().join("d")), ["b", "sub"]);
    assert!(!place.root().join("no").exists(), "a whiteout makes no directory");
    // Opaque: what the same layer has, before or after, stays.
    place
        .layers(&[&base, Tar::default().file("d/new", "").file("d/.wh..wh..opq", "").file("d/sub/later", "")])
        .success();
    assert_eq!(names(&place.root().join("d")), ["new", "sub"]);
    assert_eq!(names(&place.root().join("d/sub")), ["later"]);
    place.layers(&[&base, Tar::default().file(".wh..wh..opq", "").file("only", "")]).success();
    assert_eq!(names(&place.root()), ["only"]);
    // A file of its own is not taken away by its own layer.
    place.layers(&[&base, Tar::default().file("d/a", "new").file("d/.wh.a", "")]).success();
    assert_eq!(std::fs::read_to_string(place.root().join("d/a")).unwrap(), "new");
    // Through a link nothing outside is removed, and the link itself can go.
    place.layers(&[&base, Tar::default().file("out/.wh..wh..opq", "").file("out/.wh.x", "")]).success();
    place.layers(&[&base, Tar::default().file(".wh.out", "")]).success();
    assert!(!place.root().join("out").is_symlink());
    for bad in [".wh.", ".wh..", ".wh...", "d/.wh..."] {
        place.refused(&[&base, Tar::default().file(bad, "")], "whiteout of no name");
    }
    place.layers(&[&base, Tar::default().file(".wh..wh.aufs", "").dir(".wh..wh.plnk", 0o700)]).success();
    assert!(!place.root().join(".wh..wh.aufs").exists());
}

#[test]
fn kinds_may_change_and_the_root_stays_a_directory() {
    let place = Place::new();
    let dir = Tar::default().file("x/deep/y", "1").clone();
    place.layers(&[&dir, Tar::default().file("x", "file")]).success();
    assert!(place.root().join("x").is_file());
    place.layers(&[&dir, Tar::default().symlink("x", "elsewhere")]).success();
    place.layers(&[Tar::default().file("x", "1").dir("x", 0o755).file("x/y", "")]).success();
    place.layers(&[Tar::default().file("x", "1").file("x", "22").dir("d", 0o700).dir("d", 0o755)]).success();
    assert_eq!(std::fs::read_to_string(place.root().join("x")).unwrap(), "22");
    place.refused(&[Tar::default().file("x", "").file("x/y", "")], "is not a directory");
    for name in ["./", ".", "/"] {
        place.refused(&[Tar::default().symlink(name, "/etc")], "is the root itself");
    }
    place.layers(&[Tar::default().dir("./", 0o711).file("x", "")]).success();
    assert_eq!(place.root().metadata().unwrap().mode() & 0o7777, 0o711);
    place.refused(&[Tar::default().raw(&entry(b'Q', b"odd"), b"")], "unknown type 'Q'");
}

#[test]
fn devices_fifos_and_modes() {
    let place = Place::new();
    let tar = Tar::default()
        .device("null", b'3', 1, 3)
        .device("wh", b'3', 0, 0)
        .fifo("p")
        .mode("su", 0o4755)
        .clone();
    let output = place.layers(&[&tar]).success();
    assert!(!place.root().join("wh").exists(), "0:0 would hide files in an overlay");
    assert_eq!(place.root().join("su").metadata().unwrap().mode() & 0o7777, 0o4755);
    if !is_root() {
        assert!(output.stderr.contains("2 device nodes left out"), "{}", output.describe());
    }
    rootfs(&place.sandbox, &["unpack", "oci:img", "r2", "--devices", "skip", "--no-setuid"]).success();
    assert!(!place.sandbox.join("r2/null").exists());
    assert_eq!(place.sandbox.join("r2/su").metadata().unwrap().mode() & 0o7777, 0o755);
    rootfs(&place.sandbox, &["unpack", "oci:img", "r3", "--strict"]).fails_with(2);
    assert!(!place.sandbox.join("r3").exists());
    let mut far = entry(b'0', b"far");
    far.size = b"00000000000".to_vec();
    place.refused(&[Tar::default().pax(&[("uid", b"8589934592")]).raw(&far, b"")], "user id 8589934592");
    place
        .layers(&[Tar::default()
            .pax(&[("mtime", b"-1.5")])
            .raw(&far, b"")
            .pax(&[("mtime", b"1099511627776")])
            .file("future", "")])
        .success();
    assert_eq!(place.root().join("far").metadata().unwrap().mtime(), -2);
}

#[test]
fn attributes_of_overlays_and_of_the_kernel_are_left_out() {
    let place = Place::new();
    let records: [(&str, &[u8]); 4] = [
        ("SCHILY.xattr.user.mine", b"yes\n"),
        ("SCHILY.xattr.user.overlay.opaque", b"y"),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("SCHILY.xattr.security.selinux", b"system_u:object_r:shadow_t:s0"),
    ];
    place.layers(&[Tar::default().pax(&records).file("x", "").pax(&records).dir("d", 0o755)]).success();
    for name in ["x", "d"] {
        let path = place.root().join(name);
        let mut list = vec![0; 1000];
        let n = rustix::fs::listxattr(&path, &mut list[..]).unwrap();
        let list = String::from_utf8_lossy(&list[..n]).into_owned();
        if list.is_empty() {
            drydock_testkit::skip("no user attributes on this file system");
            return;
        }
        assert_eq!(list, "user.mine\0");
    }
}

#[test]
fn damaged_archives_are_named() {
    let place = Place::new();
    let sandbox = &place.sandbox;
    let good = Tar::default().file("a", "hello").file("b", &"x".repeat(2000)).end();
    let gzip = image::gzip(&good);
    let mut bad_crc = gzip.clone();
    let at = bad_crc.len() - 6;
    bad_crc[at] ^= 0xff;
    let mut trailing = good.clone();
    trailing.extend(b"more data");
    let mut negative = Tar::default();
    let mut odd = entry(b'0', b"neg");
    odd.size = b"-0000000001".to_vec();
    negative.raw(&odd, b"");
    let huge = Tar::default().pax(&[("size", b"4000")]).file("x", "short").clone();
    for (what, bytes, says) in [
        (
            "text",
            b"just some text, long enough to be more than a block".repeat(20),
            "not a tar archive (bad checksum at 0)",
        ),
        ("empty", Vec::new(), "is empty"),
        ("zip", b"PK\x03\x04rest".to_vec(), "zip archive"),
        ("bzip2", b"BZh91AY".to_vec(), "bzip2"),
        ("gzip cut off", gzip[..gzip.len() - 20].to_vec(), "cut off"),
        ("bad CRC", bad_crc, "damaged"),
        ("tar cut off", good[..1600].to_vec(), "truncated"),
        ("trailing data", trailing, "data after its end"),
        ("negative size", negative.end(), "size is not a number"),
        ("pax size beyond the end", huge.0.clone(), "truncated"),
        (
            "a megabyte of extended header",
            {
                let mut tar = Tar::default();
                let mut long = entry(b'x', b"pax");
                long.size = b"00010000001".to_vec();
                tar.raw(&long, b"").end()
            },
            "extended header of 2097153 bytes",
        ),
    ] {
        std::fs::write(sandbox.join("bad.tar"), &bytes).unwrap();
        let output = rootfs(sandbox, &["import", "bad.tar", "r"]).exits(2);
        assert!(output.stderr.contains(says), "{what}: {}", output.describe());
        place.untouched(&output);
        assert!(!place.root().exists(), "{what}");
    }
    // Two members are one archive.
    let two = [image::gzip(&good[..700]), image::gzip(&good[700..])].concat();
    std::fs::write(sandbox.join("two.tar"), two).unwrap();
    rootfs(sandbox, &["import", "two.tar", "r"]).success();
}

#[test]
fn bombs_stop_at_stated_limits() {
    let place = Place::new();
    let sandbox = &place.sandbox;
    // 64 MiB of zeros in a few kilobytes; sparse files of exabytes; too many entries. Under a limit of memory.
    let zeros = Tar::default().file("zeros", &"\0".repeat(64 << 20)).end();
    std::fs::write(sandbox.join("bomb.tar.zst"), image::zstd(&zeros)).unwrap();
    let mut sparse = Tar::default();
    let records: [(&str, &[u8]); 4] = [
        ("GNU.sparse.major", b"0"),
        ("GNU.sparse.name", b"sparse"),
        ("GNU.sparse.size", b"9223372036854775807"),
        ("GNU.sparse.map", b"0,0"),
    ];
    sparse.pax(&records).file("s", "");
    std::fs::write(sandbox.join("sparse.tar"), sparse.end()).unwrap();
    let mut many = Tar::default();
    for n in 0..300 {
        many.file(&format!("f{n}"), "");
    }
    std::fs::write(sandbox.join("many.tar"), many.end()).unwrap();
    for (args, says) in [
        (&["bomb.tar.zst"][..], "200:1"),
        (&["sparse.tar"], "allowed: 32G"),
        (&["many.tar", "--max-entries", "200"], "entry 201"),
        (&["bomb.tar.zst", "--max-ratio", "100000", "--max-size", "1m"], "allowed: 1M"),
    ] {
        let mut limited = std::process::Command::new("sh");
        limited
            .args(["-c", "ulimit -v 600000; exec \"$0\" import \"$@\" r", env!("CARGO_BIN_EXE_rootfs")])
            .args(args);
        let output = drydock_testkit::run(limited.current_dir(sandbox.path())).exits(2);
        assert!(output.stderr.contains(says), "{}", output.describe());
        place.untouched(&output);
        assert!(!place.root().exists());
    }
    rootfs(sandbox, &["import", "bomb.tar.zst", "r", "--max-ratio", "100000"]).success();
    assert_eq!(place.root().join("zeros").metadata().unwrap().len(), 64 << 20);
}

#[test]
fn a_sparse_file_keeps_its_holes() {
    let place = Place::new();
    let records: [(&str, &[u8]); 4] = [
        ("GNU.sparse.major", b"0"),
        ("GNU.sparse.name", b"sparse"),
        ("GNU.sparse.size", b"1000000"),
        ("GNU.sparse.map", b"0,5,999990,5"),
    ];
    place.layers(&[Tar::default().pax(&records).file("s", "helloworld")]).success();
    let file = place.root().join("sparse");
    let bytes = std::fs::read(&file).unwrap();
    assert_eq!(
        (bytes.len(), &bytes[..6], &bytes[999_990..999_995]),
        (1_000_000, &b"hello\0"[..], &b"world"[..])
    );
    assert!(file.metadata().unwrap().blocks() * 512 < 100_000);
    let wrong: [(&str, &[u8]); 3] =
        [("GNU.sparse.name", b"s"), ("GNU.sparse.size", b"10"), ("GNU.sparse.map", b"0,5,999990,5")];
    place.refused(&[Tar::default().pax(&wrong).file("s", "helloworld")], "sparse map");
}

#[test]
fn targets_that_are_taken_are_refused() {
    let place = Place::new();
    place.layers(&[Tar::default().file("x", "1")]).success();
    let sandbox = &place.sandbox;
    let output = rootfs(sandbox, &["unpack", "oci:img", "r"]).exits(2);
    assert!(
        output.stderr.contains("is not empty") && output.stderr.contains("--force"),
        "{}",
        output.describe()
    );
    rootfs(sandbox, &["unpack", "--force", "oci:img", "r"]).success();
    std::os::unix::fs::symlink(sandbox.join("outside/dir"), sandbox.join("link")).unwrap();
    rootfs(sandbox, &["unpack", "oci:img", "link"]).fails_with(2).says("symbolic link");
    rootfs(sandbox, &["unpack", "oci:img", "/"]).fails_with(2);
    rootfs(sandbox, &["unpack", "oci:img", "r/x"]).fails_with(2);
    std::fs::create_dir(sandbox.join("empty")).unwrap();
    rootfs(sandbox, &["unpack", "oci:img", "empty"]).success();
    assert_eq!(names(&sandbox.join("empty")), ["x"]);
}

#[test]
fn a_kill_at_any_moment_leaves_nothing_that_looks_like_a_root() {
    let place = Place::new();
    let mut tar = Tar::default();
    for n in 0..400 {
        tar.file(&format!("d{}/f{n}", n % 20), &"data".repeat(500));
    }
    place.layers(&[&tar]).success();
    let sandbox = &place.sandbox;
    std::fs::remove_dir_all(place.root()).unwrap();
    let mut killed = 0;
    for round in 0..20 {
        let mut child = command(sandbox)
            .args(["unpack", "oci:img", "r"])
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_micros(1000 * round));
        child.kill().unwrap();
        let ended = child.wait().unwrap();
        if place.root().exists() {
            // It was faster: then all of it is there.
            let count: usize = names(&place.root()).iter().map(|d| names(&place.root().join(d)).len()).sum();
            assert_eq!(count, 400, "round {round}");
            std::fs::remove_dir_all(place.root()).unwrap();
        } else {
            killed += usize::from(!ended.success());
        }
    }
    assert!(killed > 0, "no kill came in time");
    // What they left goes with the next one.
    rootfs(sandbox, &["unpack", "oci:img", "r"]).success();
    place.untouched(&rootfs(sandbox, &["check", "r"]));
    // An interrupt cleans up by itself.
    std::fs::remove_dir_all(place.root()).unwrap();
    let mut child =
        command(sandbox).args(["import", "-", "r"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut pipe, &tar.0).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), nix::sys::signal::SIGTERM)
        .unwrap();
    let _ = std::io::Write::write_all(&mut pipe, &tar.end());
    drop(pipe);
    assert!(!child.wait().unwrap().success());
    place.untouched(&rootfs(sandbox, &["recipes"]));
    assert!(!place.root().exists());
}

/// Killed after each of 200 entries: the archive comes through a pipe, which is empty when all that was written is read.
#[test]
fn two_hundred_kills_leave_nothing_visible_and_gc_takes_the_rest() {
    let sandbox = Sandbox::new();
    let mut tar = Tar::default();
    let mut ends = Vec::new();
    for n in 0..50 {
        tar.dir(&format!("d{n}"), 0o755);
        ends.push(tar.0.len());
        tar.file(&format!("d{n}/f"), &"data".repeat(n));
        ends.push(tar.0.len());
        tar.symlink(&format!("d{n}/s"), "f");
        ends.push(tar.0.len());
        tar.hard(&format!("d{n}/h"), &format!("d{n}/f"));
        ends.push(tar.0.len());
    }
    assert_eq!(ends.len(), 200);
    for end in ends {
        let mut child = command(&sandbox)
            .args(["import", "-", "place/r"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let pipe = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut &pipe, &tar.0[..end]).unwrap();
        sandbox.wait_until("all of it is read", || rustix::io::ioctl_fionread(&pipe).unwrap() == 0);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!sandbox.join("place/r").exists(), "after {end} bytes");
    }
    let left = names(&sandbox.join("place"));
    assert!(left.iter().all(|n| n.starts_with(".r.drydock-")), "visible: {left:?}");
    let check = rootfs(&sandbox, &["gc", "--check"]).exits(1);
    assert!(left.iter().all(|n| check.stdout.contains(n)), "{}", check.describe());
    rootfs(&sandbox, &["gc"]).success();
    assert_eq!(names(&sandbox.join("place")), [""; 0]);
    rootfs(&sandbox, &["gc", "--check"]).success().stdout_is("nothing that is not needed");
    // One at work is no leftover, and a word that leads elsewhere is not believed.
    let mut child = command(&sandbox)
        .args(["import", "-", "place/r"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut pipe, &tar.0).unwrap();
    sandbox.wait_until("it has begun", || !names(&sandbox.join("place")).is_empty());
    let words = sandbox.data().join("unfinished");
    std::fs::write(words.join("1-0"), sandbox.join("place").as_os_str().as_encoded_bytes()).unwrap();
    std::fs::write(words.join("1-1"), "").unwrap();
    rootfs(&sandbox, &["gc"]).success().stdout_is("nothing to remove");
    std::io::Write::write_all(&mut pipe, &[0; 1024]).unwrap();
    drop(pipe);
    assert!(child.wait().unwrap().success());
    assert_eq!(names(&sandbox.join("place/r")).len(), 50);
    assert_eq!(names(&words), [""; 0]);
}

#[test]
fn a_full_disk_leaves_nothing() {
    require!(is_root(), "needs root: a tmpfs of its own");
    let place = Place::new();
    place.layers(&[Tar::default().file("big", &"x".repeat(4 << 20)).file("second", "")]).success();
    let script = format!(
        "mkdir small && mount -t tmpfs -o size=1m tmpfs small && {{ {} unpack oci:img small/r; echo $?; ls -A small; }}",
        env!("CARGO_BIN_EXE_rootfs")
    );
    let mut run = std::process::Command::new("unshare");
    run.args(["-m", "sh", "-c", &script]).current_dir(place.sandbox.path());
    let output = drydock_testkit::run(&mut run).success();
    assert_eq!(output.stdout.trim(), "125", "{}", output.describe());
    assert!(output.stderr.contains("ENOSPC"), "{}", output.describe());
}
