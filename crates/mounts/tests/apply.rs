//! The plan carried out, judged from inside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod common;

use common::Case;
use drydock_mounts::{Device, DeviceKind, Mount, Overlay, Pivot, Propagation, Request, Root, Symlink};
use drydock_testkit::{is_root, require};
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

/// Not a test: the child. Passes at once when it is run as one.
#[test]
fn child() {
    common::child();
}

#[test]
fn injected_files_never_reach_the_host() {
    require!(is_root(), "needs root");
    let case = Case::new();
    let hosts = case.at("r/etc/hosts");
    let script = "cat /etc/hosts; grep -c hosts /proc/self/mountinfo";
    // Missing, with its directory.
    case.apply(&case.files(), script).stdout_has("ours");
    for target in ["../../victim/marker", "../../../victim/nowhere", "/run/nowhere/hosts"] {
        fs::remove_file(&hosts).unwrap();
        symlink(target, &hosts).unwrap();
        case.apply(&case.files(), script).stdout_has("ours");
        case.untouched();
    }
    for target in [case.at("victim/marker"), case.at("victim/new")] {
        fs::remove_file(&hosts).unwrap();
        symlink(target, &hosts).unwrap();
        case.apply(&case.files(), script).stdout_has("ours");
        case.untouched();
    }
    fs::remove_file(&hosts).unwrap();
    nix::unistd::mkfifo(&hosts, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    case.apply(&case.files(), script).stdout_has("ours");
    fs::remove_file(&hosts).unwrap();
    fs::create_dir(&hosts).unwrap();
    case.apply(&case.files(), script).exits(125).says("refused").says("/etc/hosts");
    // The directory itself a link out of the root: clamped to the root.
    fs::remove_dir_all(case.at("r/etc")).unwrap();
    symlink(case.at("victim"), case.at("r/etc")).unwrap();
    case.apply(&case.files(), script).stdout_has("ours");
    case.untouched();
    // Not a file of ours.
    fs::remove_file(case.at("ours")).unwrap();
    symlink("/etc/passwd", case.at("ours")).unwrap();
    case.apply(&case.files(), script).exits(125).says("refused");
}

#[test]
fn masks_do_not_trust_the_images_null() {
    require!(is_root(), "needs root");
    let case = Case::new();
    fs::create_dir(case.at("r/dev")).unwrap();
    for name in ["secret", "dir/file"] {
        let path = case.at("r").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "secret").unwrap();
    }
    symlink("secret", case.at("r/alias")).unwrap();
    let masked_paths = ["/secret", "/dir", "/missing", "/alias"].map(String::from).to_vec();
    let request = Request { root: case.root(), masked_paths, ..Request::default() };
    let null = case.at("r/dev/null");
    for plant in 0..4 {
        match plant {
            0 => {}
            1 => fs::write(&null, "fake").unwrap(),
            2 => symlink(case.at("victim/marker"), &null).unwrap(),
            _ => symlink("/secret", &null).unwrap(),
        }
        let output = case.apply(&request, "cat /secret /alias; ls /dir; touch /dir/x; stat -c %t:%T /secret");
        assert!(
            !output.stdout.contains("secret") && !output.stdout.contains("file"),
            "{}",
            output.describe()
        );
        let output = output.stdout_has("1:3").says("Read-only file system");
        assert!(!output.stdout.contains("fake"), "{}", output.describe());
        let _ = fs::remove_file(&null);
        case.untouched();
    }
    // And the same without the mask reads the secret: the test can tell.
    let open = Request { masked_paths: vec![], ..request };
    case.apply(&open, "cat /secret").stdout_has("secret");
}

#[test]
fn readonly_paths_hold_below_too() {
    require!(is_root(), "needs root");
    let case = Case::new();
    fs::create_dir_all(case.at("r/a/b")).unwrap();
    let mount = Mount::tmpfs("/a/b", &["size=1m"]);
    let readonly_paths = vec!["/a".to_string(), "/missing".to_string()];
    let request = Request { root: case.root(), mounts: vec![mount], readonly_paths, ..Request::default() };
    let output = case.apply(&request, "touch /a/x; touch /a/b/x; touch /y && echo ok").stdout_has("ok");
    assert_eq!(output.stderr.matches("Read-only file system").count(), 2, "{}", output.describe());
}

#[test]
fn devices_and_links_are_what_they_say() {
    require!(is_root(), "needs root");
    let case = Case::new();
    fs::create_dir(case.at("r/dev")).unwrap();
    let device = |path: &str, kind, major, minor| Device {
        path: path.into(),
        kind,
        major,
        minor,
        mode: 0o640,
        uid: 12,
        gid: 34,
    };
    let devices =
        vec![device("/dev/zero", DeviceKind::Char, 1, 5), device("/dev/pipe", DeviceKind::Fifo, 0, 0)];
    let symlinks = vec![Symlink { path: "/dev/link".into(), target: "zero".into() }];
    let request = Request { root: case.root(), devices, symlinks, ..Request::default() };
    let script = "stat -c '%F %a %u:%g %t:%T' /dev/zero /dev/pipe; readlink /dev/link";
    let output = case.apply(&request, script).stdout_has("character special file 640 12:34 1:5");
    output.stdout_has("fifo 640 12:34").stdout_has("zero");
    // Again: it is there, and is that device. But not instead of something else.
    case.apply(&request, script).exits(0);
    fs::remove_file(case.at("r/dev/zero")).unwrap();
    symlink(case.at("victim/new"), case.at("r/dev/zero")).unwrap();
    case.apply(&request, script).exits(125).says("something else");
    case.untouched();
}

#[test]
fn overlay_root_and_the_ways_to_enter_it() {
    require!(is_root(), "needs root");
    let case = Case::new();
    for dir in ["m", "u", "w"] {
        fs::create_dir(case.at(dir)).unwrap();
    }
    let overlay = Overlay {
        lower: vec![case.at("r")],
        upper: case.at("u"),
        work: case.at("w"),
        volatile: true,
        scratch: None,
        userxattr: false,
    };
    let root = Root { overlay: Some(overlay), ..Root::directory(case.at("m")) };
    let mut request = Request::container_defaults(root);
    for pivot in [Pivot::PivotRoot, Pivot::Chroot, Pivot::Move] {
        request.pivot = pivot;
        case.apply(&request, "touch /new && cat /proc/self/mountinfo").exits(0).stdout_has("overlay");
        assert!(case.at("u/new").exists() && !case.at("r/new").exists());
        // Volatile: the kernel refuses to use it again after what might have been a crash.
        fs::remove_dir_all(case.at("w")).unwrap();
        fs::create_dir(case.at("w")).unwrap();
    }
    request.root.readonly = true;
    case.apply(&request, "touch /x").exits(1).says("Read-only file system");
}

#[test]
fn nothing_reaches_a_host_whose_mounts_are_shared() {
    require!(is_root(), "needs root");
    let case = Case::new();
    for propagation in
        [Propagation::Private, Propagation::Slave, Propagation::Shared, Propagation::Unbindable]
    {
        let mut request = Request::container_defaults(Root { propagation, ..case.root() });
        request.mounts.retain(|m| m.fstype.as_deref() != Some("cgroup"));
        // The outer namespace stands for the host: all its mounts are shared, and none may come or go.
        let before = format!(
            "mount -t proc p /proc && mount --make-rshared / && cat /proc/self/mountinfo > {0}/before; \"$@\"; code=$?; \
             cat /proc/self/mountinfo > {0}/after; cmp {0}/before {0}/after && exit $code; exit 99",
            case.0.path().display()
        );
        let wrapped = ["unshare", "-m", "sh", "-c", &before, "sh"];
        let output = case.child(&wrapped, &request, "cat /proc/self/mountinfo").exits(0);
        let moved = Request { pivot: Pivot::Move, ..request.clone() };
        case.child(&wrapped, &moved, "cat /proc/self/mountinfo").exits(0);
        let slash = output.stdout.lines().find(|l| l.split(' ').nth(4) == Some("/")).unwrap();
        let optional = slash.split(" - ").next().unwrap();
        match propagation {
            Propagation::Private => {
                assert!(!optional.contains("shared") && !optional.contains("master"), "{slash}")
            }
            Propagation::Slave => assert!(!optional.contains("shared"), "{slash}"),
            Propagation::Shared => assert!(optional.contains("shared"), "{slash}"),
            Propagation::Unbindable => assert!(optional.contains("unbindable"), "{slash}"),
        }
    }
}

#[test]
fn a_moved_root_leaves_no_proc_of_the_host_to_the_kernels_look() {
    require!(is_root(), "needs root");
    let case = Case::new();
    fs::create_dir(case.at("r/mnt")).unwrap();
    fs::create_dir(case.at("hidden")).unwrap();
    let mut request = Request::container_defaults(case.root());
    request.mounts.retain(|m| m.fstype.as_deref() != Some("cgroup"));
    // A proc that no name leads to, under a mount over its parent.
    let before = format!(
        "mount -t proc p /proc && mount -t tmpfs t {0} && mkdir {0}/proc && mount -t proc p {0}/proc && \
         mount -t tmpfs t {0} && exec \"$@\"",
        case.at("hidden").display()
    );
    let wrapped = ["unshare", "-mpf", "--propagation", "private", "sh", "-c", &before, "sh"];
    let script = "busybox unshare -mrpf busybox mount -t proc p /mnt && echo seen; true";
    for pivot in [Pivot::PivotRoot, Pivot::Move] {
        let output = case.child(&wrapped, &Request { pivot, ..request.clone() }, script).exits(0);
        assert!(!output.stdout.contains("seen"), "{pivot:?}: {}", output.describe());
        output.says("ermission denied");
    }
}

#[test]
fn in_a_user_namespace() {
    require!(is_root(), "needs root");
    let case = Case::new();
    for dir in ["proc", "sys", "dev"] {
        fs::create_dir(case.at("r").join(dir)).unwrap();
    }
    let request = Request { user_namespace: true, ..Request::container_defaults(case.root()) };
    let unshare = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--ipc", "--cgroup"];
    let script =
        "id; echo x > /dev/null && ls /dev /sys/class; stat -c %t:%T /dev/null; touch /sys/x /proc/sys/x";
    let own_net = [&unshare[..], &["--net"]].concat();
    let output = case.child(&own_net, &request, script);
    output.stdout_has("1:3").stdout_has("urandom").stdout_has("net").says("without gid=");
    // Without a network namespace of its own, the host's sysfs, read-only.
    let output = case.child(&unshare, &request, script).stdout_has("1:3").stdout_has("net");
    assert!(output.stderr.contains("/sys: the host's"), "{}", output.describe());
    assert_eq!(output.stderr.matches("touch:").count(), 2, "{}", output.describe());
}

struct Stopper<'a>(&'a AtomicBool);

impl Drop for Stopper<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A process that shares a volume exchanges a directory and a link out of the root, again and again, while a mount is
/// made below it: the mount is in the root, or refused. A build that resolves by plain openat(2) is caught in the first
/// few trials.
#[test]
fn exchanged_links_do_not_lead_out() {
    require!(is_root(), "needs root");
    const TRIALS: usize = 60;
    let case = Case::new();
    fs::create_dir_all(case.at("r/shared/a")).unwrap();
    symlink(case.at("victim"), case.at("r/shared/b")).unwrap();
    let request = Request {
        root: case.root(),
        mounts: vec![
            Mount::of("proc", "/proc", &[]),
            Mount::bind(case.at("ours").to_str().unwrap(), "/shared/a/marker", &["ro"]),
            Mount::tmpfs("/shared/a/deep/er", &["size=4k"]),
        ],
        ..Request::default()
    };
    let stop = AtomicBool::new(false);
    let (a, b) = (case.at("r/shared/a"), case.at("r/shared/b"));
    let swaps = std::thread::scope(|scope| {
        let swapper = scope.spawn(|| {
            let mut swaps = 0u64;
            while !stop.load(Ordering::Relaxed) {
                let flags = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
                nix::fcntl::renameat2(nix::fcntl::AT_FDCWD, &a, nix::fcntl::AT_FDCWD, &b, flags).unwrap();
                swaps += 1;
            }
            swaps
        });
        // Also when an assertion below fails, or the scope would wait for ever.
        let stopper = Stopper(&stop);
        for _ in 0..TRIALS {
            let output = case.apply(&request, "cat /proc/self/mountinfo");
            assert!(matches!(output.code, Some(0 | 125)), "{}", output.describe());
            // The root, proc and both mounts are in the root, whatever they are called by now.
            let mounts = output.stdout.lines().filter(|l| l.contains(" - ")).count();
            assert!(output.code == Some(125) || mounts == 4, "a mount left the root: {}", output.describe());
            case.untouched();
        }
        drop(stopper);
        swapper.join().unwrap()
    });
    assert!(swaps > TRIALS as u64, "the swapper was too slow to race: {swaps}");
    // What was made on the way was made inside: at the clamped place, or in the directory.
    assert!(!case.at("victim/deep").exists());
}
