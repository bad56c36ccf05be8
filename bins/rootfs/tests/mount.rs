//! `rootfs mount`, `umount` and `propagation`, judged by the kernel's mount table and by the files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use drydock_testkit::{Output, Sandbox, is_root, require, run};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

const TOOL: &str = env!("CARGO_BIN_EXE_rootfs");

struct Case(Sandbox);

impl Case {
    /// Layers `l1` (over) and `l2`, `u`, `w`, and mount points `m` and `n`.
    fn new() -> Self {
        let case = Self(Sandbox::new());
        for name in ["l1", "l2", "u", "w", "m", "n"] {
            fs::create_dir(case.at(name)).unwrap();
        }
        for (file, text) in [("l1/both", "one"), ("l2/both", "two"), ("l2/low", "low")] {
            fs::write(case.at(file), text).unwrap();
        }
        case
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn tool(&self, words: &[&str]) -> Output {
        let mut command = Command::new(TOOL);
        run(command.args(words).current_dir(self.0.path()).env("DRYDOCK_ROOT", self.0.state()))
    }

    fn is_mounted(&self, name: &str) -> bool {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        table.lines().any(|l| l.split(' ').nth(4) == self.at(name).to_str())
    }
}

#[test]
fn overlay_writes_land_in_the_upper_layer_only() {
    require!(is_root(), "needs root");
    let case = Case::new();
    case.tool(&["mount", "--lower", "l1:l2", "--upper", "u", "--work", "w", "m"])
        .success()
        .stdout_has("overlay");
    assert_eq!(fs::read_to_string(case.at("m/both")).unwrap(), "one");
    fs::write(case.at("m/new"), "new").unwrap();
    fs::write(case.at("m/both"), "changed").unwrap();
    fs::remove_file(case.at("m/low")).unwrap();
    assert!(!case.at("m/low").exists());
    assert_eq!(fs::read_to_string(case.at("u/new")).unwrap(), "new");
    assert_eq!(fs::read_to_string(case.at("u/both")).unwrap(), "changed");
    let whiteout = fs::symlink_metadata(case.at("u/low")).unwrap();
    assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
    assert_eq!(fs::read_to_string(case.at("l1/both")).unwrap(), "one");
    assert_eq!(fs::read_to_string(case.at("l2/low")).unwrap(), "low");
    assert!(!case.at("l1/new").exists() && !case.at("l2/new").exists());
    case.tool(&["umount", "m"]).success();
    assert!(!case.is_mounted("m"));
    // Again: nothing to do is no error.
    case.tool(&["umount", "m"]).success().says("nothing is mounted");
    case.tool(&["umount", "missing"]).success();
}

#[test]
fn overlay_without_upper_is_readonly() {
    require!(is_root(), "needs root");
    let case = Case::new();
    case.tool(&["mount", "--lower", "l1", "--lower", "l2", "m"]).success();
    assert_eq!(fs::write(case.at("m/x"), "").unwrap_err().raw_os_error(), Some(nix::libc::EROFS));
    case.tool(&["umount", "m"]).success();
    case.tool(&["mount", "--lower", "l1", "m"]).fails_with(2).says("layers");
}

#[test]
fn odd_names_are_layers_too() {
    require!(is_root(), "needs root");
    let case = Case::new();
    fs::create_dir(case.at("a:b,c\\d")).unwrap();
    fs::write(case.at("a:b,c\\d/odd"), "").unwrap();
    case.tool(&["mount", "--lower", r"a\:b,c\\d:l1", "m"]).success();
    assert!(case.at("m/odd").exists() && case.at("m/both").exists());
    case.tool(&["umount", "m"]).success();
}

#[test]
fn many_layers() {
    require!(is_root(), "needs root");
    let case = Case::new();
    // More option text than a page: given as descriptors.
    let layers: Vec<String> = (0..100).map(|i| format!("layer-with-a-rather-long-name-{i:03}")).collect();
    for layer in &layers {
        fs::create_dir(case.at(layer)).unwrap();
        fs::write(case.at(layer).join(layer), "").unwrap();
    }
    case.tool(&["mount", "--lower", &layers.join(":"), "m"]).success();
    assert_eq!(fs::read_dir(case.at("m")).unwrap().count(), 100);
    case.tool(&["umount", "m"]).success();
}

#[test]
fn failures_say_why() {
    require!(is_root(), "needs root");
    let case = Case::new();
    let overlay = ["mount", "--lower", "l1", "--upper"];
    let with = |rest: &[&str]| case.tool(&[&overlay[..], rest].concat());
    with(&["u", "m"]).fails_with(2).says("--work");
    with(&["u", "--work", "u/w", "m"]).fails_with(2).says("contain each other");
    with(&["l1", "--work", "w", "m"]).fails_with(2);
    with(&["u", "--work", "missing", "m"]).fails_with(2).says("missing");
    with(&["u", "--work", "w", "missing"]).fails_with(2).says("missing");
    with(&["u", "--work", "w", "l1/both"]).fails_with(2).says("a directory");
    case.tool(&["mount", "m"]).fails_with(2).says("--bind");
    case.tool(&["mount", "--tmpfs=size=x", "m"]).fails_with(2).says("size=x");
    case.tool(&["mount", "--bind", "missing", "m"]).fails_with(2).says("missing");
    case.tool(&["mount", "--bind", "l1/both", "m"]).fails_with(2).says("a file");
    // Nested: an overlay cannot be the upper layer of another.
    with(&["u", "--work", "w", "m"]).success();
    fs::create_dir(case.at("m/u2")).unwrap();
    fs::create_dir(case.at("m/w2")).unwrap();
    case.tool(&["mount", "--lower", "l2", "--upper", "m/u2", "--work", "m/w2", "n"])
        .fails_with(125)
        .says("nested");
    assert!(!case.is_mounted("n"));
    case.tool(&["umount", "m"]).success();
    // Upper and work on different mounts.
    case.tool(&["mount", "--tmpfs", "n"]).success();
    fs::create_dir(case.at("n/w")).unwrap();
    with(&["u", "--work", "n/w", "m"]).fails_with(125).says("same mount");
    case.tool(&["umount", "n"]).success();
}

#[test]
fn bind_and_tmpfs() {
    require!(is_root(), "needs root");
    let case = Case::new();
    case.tool(&["mount", "--bind", "l1", "m", "--read-only"]).success();
    assert_eq!(fs::read_to_string(case.at("m/both")).unwrap(), "one");
    assert!(fs::write(case.at("m/x"), "").is_err() && fs::write(case.at("l1/x"), "").is_ok());
    case.tool(&["umount", "m"]).success();
    case.tool(&["mount", "--tmpfs=size=64k,mode=700", "m", "--json"]).success().stdout_has("size=64k");
    assert!(fs::write(case.at("m/big"), vec![0u8; 1 << 20]).is_err());
    assert_eq!(fs::metadata(case.at("m")).unwrap().mode() & 0o777, 0o700);
    // By a link, as it was mounted.
    std::os::unix::fs::symlink("n", case.at("link")).unwrap();
    case.tool(&["mount", "--tmpfs", "link"]).success();
    assert!(case.is_mounted("n"));
    case.tool(&["umount", "link"]).success();
    assert!(!case.is_mounted("n"));
    // In use: busy, with the remedy; then lazily.
    let open = fs::File::create(case.at("m/held")).unwrap();
    case.tool(&["umount", "m"]).fails_with(125).says("--lazy");
    case.tool(&["umount", "--lazy", "m"]).success();
    assert!(!case.is_mounted("m"));
    drop(open);
}

#[test]
fn an_owned_mount_is_in_the_journal() {
    require!(is_root(), "needs root");
    let case = Case::new();
    let state = case.at("own-state");
    let state = state.to_str().unwrap();
    case.tool(&["mount", "--tmpfs", "m", "--owner", "c1", "--root", state]).success();
    let journal = fs::read_to_string(Path::new(state).join("c1/journal")).unwrap();
    assert!(journal.contains("\"mount\"") && journal.contains(case.at("m").to_str().unwrap()), "{journal}");
    for dir in [Path::new(state).to_path_buf(), Path::new(state).join("c1")] {
        assert_eq!(fs::metadata(dir).unwrap().mode() & 0o777, 0o700);
    }
    case.tool(&["umount", "m"]).success();
    // Bad input leaves nothing, not even the directory.
    case.tool(&["mount", "--tmpfs=frob", "m", "--owner", "c2", "--root", state]).fails_with(2);
    case.tool(&["mount", "--tmpfs", "m", "--owner", "../c3", "--root", state]).fails_with(2);
    assert_eq!(fs::read_dir(state).unwrap().count(), 1);
}

#[test]
fn make_makes_what_is_missing_and_says_whose_it_is() {
    require!(is_root(), "needs root");
    let case = Case::new();
    let own = case.0.data().join("containers/c1");
    let [upper, work] = ["upper", "work"].map(|name| own.join(name).display().to_string());
    let state = case.0.state().join("c1");
    let target = state.join("rootfs").display().to_string();
    let words =
        ["mount", "--make", "--lower", "l1", "--upper", &upper, "--work", &work, "--owner", "c1", &target];
    let tool = |words: &[&str]| {
        let mut command = Command::new("sh");
        command.args(["-c", "umask 077; exec \"$@\"", "sh", TOOL]).args(words).current_dir(case.0.path());
        run(command.env("DRYDOCK_ROOT", case.0.state()).env("DRYDOCK_DATA", case.0.data()))
    };
    tool(&words).success();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!([mode(&own), mode(Path::new(&upper)), mode(Path::new(&target))], [0o700, 0o755, 0o755]);
    assert_eq!(fs::read_to_string(Path::new(&target).join("both")).unwrap(), "one");
    let journal = fs::read_to_string(state.join("journal")).unwrap();
    let (directory, mount) = (journal.find("\"directory\""), journal.find("\"mount\""));
    assert!(directory.is_some() && directory < mount, "{journal}");
    tool(&["umount", &target]).success();
    // What a dead container left is not taken over.
    fs::remove_dir_all(&state).unwrap();
    let refused = tool(&words).exits(125).says("dead container");
    assert_eq!(refused.stdout, "");
    assert!(!state.exists());
    // Nor is anything left when the mount fails, or made on bad input.
    tool(&["mount", "--make", "--lower", "no-such", "--upper", "x/u", "--work", "x/w", "x/m"]).fails_with(2);
    tool(&["mount", "--make", "--lower", "default", "--upper", "x/u", "--work", "x/w", "x/m"]).fails_with(2);
    assert!(!case.at("x").exists());
}

/// Who sees whose mounts, as mount_namespaces(7) has it. Inside: another mount namespace with a copy of the mounts.
#[test]
fn propagation_as_documented() {
    require!(is_root(), "needs root");
    for (kind, inside_sees, outside_sees) in [
        ("private", false, false),
        ("slave", true, false),
        ("shared", true, true),
        ("unbindable", false, false),
    ] {
        let case = Case::new();
        case.tool(&["mount", "--tmpfs", "m"]).success();
        case.tool(&["propagation", "m", "shared"]).success();
        for name in ["m/in", "m/out"] {
            fs::create_dir(case.at(name)).unwrap();
        }
        // The inside waits for a line, so that both sides mount while both namespaces are there.
        let script = format!(
            "{TOOL} propagation m {kind} && {TOOL} mount --tmpfs m/in >/dev/null && echo ready && read x && \
             grep -c ' {}/out ' /proc/self/mountinfo; {TOOL} propagation m",
            case.at("m").display()
        );
        let mut command = Command::new("unshare");
        command.args(["-m", "--propagation", "unchanged", "sh", "-c", &script]).current_dir(case.0.path());
        let mut child =
            command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        assert_eq!(case.is_mounted("m/in"), outside_sees, "{kind}: inside's mount, seen outside");
        case.tool(&["mount", "--tmpfs", "m/out"]).success();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"\n").unwrap();
        assert_eq!(
            lines.next().unwrap().unwrap(),
            if inside_sees { "1" } else { "0" },
            "{kind}: outside's mount, seen inside"
        );
        let shown = lines.next().unwrap().unwrap();
        assert!(shown.contains(kind), "{shown}");
        assert!(child.wait().unwrap().success());
        case.tool(&["umount", "m/out"]).success();
        case.tool(&["umount", "m/in"]).success();
        case.tool(&["umount", "m"]).success();
    }
}

#[test]
fn propagation_shows_and_refuses() {
    require!(is_root(), "needs root");
    let case = Case::new();
    case.tool(&["mount", "--bind", "m", "m"]).success();
    case.tool(&["propagation", "m", "rprivate"]).success();
    case.tool(&["propagation", "m"]).success().stdout_has("private");
    case.tool(&["propagation", "m", "rshared", "--json"]).success().stdout_has("\"propagation\": \"shared\"");
    case.tool(&["propagation", "m", "frob"]).fails_with(2).says("rslave");
    case.tool(&["propagation", "missing"]).fails_with(2);
    case.tool(&["propagation", "l1", "private"]).fails_with(125).says("mount point");
    case.tool(&["umount", "m"]).success();
}
