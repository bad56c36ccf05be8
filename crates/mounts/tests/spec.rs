//! What the OCI runtime specification and its runtimes' customs ask of mounts, judged from inside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod common;

use common::Case;
use drydock_mounts::{Device, DeviceKind, Mount, Pivot, Propagation, Request, Root, Symlink};
use drydock_testkit::{Output, is_root, require, skip};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// Not a test: the child. Passes at once when it is run as one.
#[test]
fn child() {
    common::child();
}

fn request(case: &Case, mounts: Vec<Mount>) -> Request {
    let mounts = [vec![Mount::of("proc", "/proc", &[])], mounts].concat();
    Request { root: case.root(), mounts, pass_unknown: true, ..Request::default() }
}

fn mount(fstype: Option<&str>, source: &str, destination: &str, options: &str) -> Mount {
    Mount {
        fstype: fstype.map(str::to_string),
        source: Some(source.to_string()),
        destination: destination.to_string(),
        options: options.split_whitespace().map(str::to_string).collect(),
        ..Mount::default()
    }
}

/// The mount's own options and its optional fields, from the last line of /proc/self/mountinfo for a mount point.
fn options_of(output: &Output, destination: &str) -> String {
    let mut lines = output.stdout.lines().filter(|l| l.split(' ').nth(4) == Some(destination));
    let line =
        lines.next_back().unwrap_or_else(|| panic!("{destination} is not mounted: {}", output.describe()));
    line.split(" - ").next().unwrap().split(' ').skip(5).collect::<Vec<_>>().join(" ")
}

const TABLE: &str = "cat /proc/self/mountinfo";

#[test]
fn binds_take_exactly_the_flags_that_are_asked_for() {
    require!(is_root(), "needs root");
    let case = Case::new();
    fs::create_dir(case.at("flagged")).unwrap();
    let source = case.at("flagged").to_str().unwrap().to_string();
    let setup = format!(
        "mount -t tmpfs -o size=64k,nr_inodes=16 x {source} && \
         mount -o remount,bind,ro,nosuid,nodev,noatime {source} && exec \"$@\""
    );
    let host = ["unshare", "-m", "sh", "-c", &setup, "sh"];
    let wanted = [
        ("bind", "ro,nosuid,nodev,noatime"),
        ("bind dev", "rw,noatime"),
        ("bind noexec", "rw,noexec,noatime"),
        ("bind ro rw nodev", "rw,nodev,noatime"),
        ("bind atime", "rw,noatime"),
        ("bind relatime", "rw,relatime"),
        ("bind ro strictatime nodiratime", "ro,nodiratime"),
        ("bind ro relatime nosymfollow", "ro,relatime,nosymfollow"),
    ];
    let mounts = wanted.iter().enumerate();
    let mounts = mounts.map(|(i, (words, _))| mount(None, &source, &format!("/m/{i}"), words)).collect();
    let output = case.child(&host, &request(&case, mounts), TABLE).exits(0);
    for (i, (words, shown)) in wanted.iter().enumerate() {
        let options = options_of(&output, &format!("/m/{i}"));
        let mut got: Vec<&str> = options.split(' ').next().unwrap().split(',').collect();
        let mut want: Vec<&str> = shown.split(',').collect();
        got.sort_unstable();
        want.sort_unstable();
        assert_eq!(got, want, "{words}: {}", output.describe());
    }
}

#[test]
fn recursive_words_hold_below_and_plain_ones_do_not() {
    require!(is_root(), "needs root");
    let case = Case::new();
    fs::create_dir_all(case.at("tree/below")).unwrap();
    let source = case.at("tree").to_str().unwrap().to_string();
    let setup = format!("mount -t tmpfs -o size=64k x {source}/below && exec \"$@\"");
    let host = ["unshare", "-m", "sh", "-c", &setup, "sh"];
    let mounts = vec![
        mount(None, &source, "/plain", "rbind ro"),
        mount(None, &source, "/all", "rbind rro rnosuid rnoatime rnoexec rexec"),
        mount(None, &source, "/alone", "bind"),
        mount(None, &source, "/shared", "rbind rshared"),
        mount(None, &source, "/unbindable", "rbind unbindable"),
    ];
    let output = case.child(&host, &request(&case, mounts), TABLE).exits(0);
    let has = |destination: &str, word: &str| {
        options_of(&output, destination).split([' ', ',']).any(|o| o.starts_with(word))
    };
    assert!(has("/plain", "ro") && has("/plain/below", "rw"));
    for at in ["/all", "/all/below"] {
        assert!(has(at, "ro") && has(at, "nosuid") && has(at, "noatime") && !has(at, "noexec"), "{at}");
    }
    assert!(!output.stdout.contains("/alone/below"));
    assert!(has("/shared", "shared:") && has("/shared/below", "shared:"));
    assert!(has("/unbindable", "unbindable") && !has("/unbindable/below", "unbindable"));
}

#[test]
fn a_tmpfs_takes_the_place_of_what_it_hides() {
    require!(is_root(), "needs root");
    let case = Case::new();
    fs::create_dir_all(case.at("r/full/dir")).unwrap();
    fs::write(case.at("r/full/file"), "kept").unwrap();
    symlink("file", case.at("r/full/link")).unwrap();
    nix::unistd::mkfifo(&case.at("r/full/pipe"), nix::sys::stat::Mode::from_bits_truncate(0o640)).unwrap();
    let mode = |path: &str, mode| {
        fs::set_permissions(case.at(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("r/full/dir", 0o777);
    mode("r/full", 0o710);
    std::os::unix::fs::chown(case.at("r/full/file"), Some(12), Some(34)).unwrap();
    mode("r/full/file", 0o4750);
    let mounts = vec![
        mount(Some("tmpfs"), "x", "/new/dir", "nosuid"),
        mount(Some("tmpfs"), "x", "/full", "tmpcopyup ro size=1m"),
        mount(Some("tmpfs"), "x", "/full2", "mode=1500"),
    ];
    fs::create_dir(case.at("r/full2")).unwrap();
    let script = "stat -c '%n %F %a %u:%g' /new /new/dir /full /full2 /full/*; cat /full/link; touch /full/x";
    let output = case.apply(&request(&case, mounts), script).exits(1).says("Read-only file system");
    for line in [
        "/new directory 755",
        "/new/dir directory 1777",
        "/full directory 710",
        "/full2 directory 1500",
        "/full/dir directory 777",
        "/full/file regular file 4750 12:34",
        "/full/link symbolic link",
        "/full/pipe fifo 640",
        "kept",
    ] {
        assert!(output.stdout.contains(line), "{line}: {}", output.describe());
    }
    // The directory itself is as it was.
    assert_eq!(fs::read_dir(case.at("r/full")).unwrap().count(), 4);
    assert_eq!(fs::read_dir(case.at("r/new/dir")).unwrap().count(), 0);
    case.untouched();
}

#[test]
fn destinations_and_sources_as_runtimes_take_them() {
    require!(is_root(), "needs root");
    let case = Case::new();
    let at = |name: &str| case.at(name).to_str().unwrap().to_string();
    fs::create_dir_all(case.at("deep/x")).unwrap();
    fs::write(case.at("deep/x/f"), "chained").unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(case.at("socket")).unwrap();
    symlink("/nowhere/yet", case.at("r/dangling")).unwrap();
    symlink("ours", case.at("alias")).unwrap();
    let mounts = vec![
        mount(Some("bind"), &at("ours"), "relative/file", "bind"),
        mount(None, &at("socket"), "/run/socket", "bind"),
        mount(None, &at("ours"), "/dangling", "bind"),
        // The root's own path in front, and sources that are there only once the mounts before are.
        mount(None, &at("deep"), &at("r/mnt"), "rbind"),
        mount(None, &at("r/mnt/x"), "/again", "rbind"),
        mount(None, &at("alias"), "/copied", "bind copy-symlink"),
        mount(None, &at("alias"), "/followed", "bind ro"),
    ];
    let script =
        "cat /relative/file /nowhere/yet /again/f /followed; stat -c %F /run/socket; readlink /copied";
    let output = case.apply(&request(&case, mounts), script).exits(0);
    output.stdout_has("oursourschainedours").stdout_has("socket\nours");
    // What leads into /proc is refused, whatever the image says.
    symlink("/proc/self", case.at("r/trap")).unwrap();
    for m in [mount(None, &at("ours"), "/trap/attr/exec", "bind"), mount(Some("tmpfs"), "x", "/trap", "")] {
        case.apply(&request(&case, vec![m]), TABLE).exits(125).says("leads into /proc");
    }
    let over = mount(None, &at("victim"), "/proc", "rbind");
    case.apply(&request(&case, vec![over]), TABLE).exits(125).says("not a procfs");
    // lxcfs's files may be there, and no others.
    let file = mount(None, &at("ours"), "/proc/uptime", "bind");
    case.apply(&request(&case, vec![file]), "cat /proc/uptime").exits(0).stdout_has("ours");
    let file = mount(None, &at("ours"), "/proc/version", "bind");
    case.apply(&request(&case, vec![file]), TABLE).exits(125).says("inside /proc");
    case.untouched();
}

#[test]
fn procfs_is_mounted_on_ordinary_directories_only() {
    require!(is_root(), "needs root");
    for (name, fstype) in [("proc", "proc"), ("sys", "sysfs")] {
        let case = Case::new();
        fs::create_dir(case.at("r/elsewhere")).unwrap();
        symlink("elsewhere", case.at("r").join(name)).unwrap();
        let mounts = vec![mount(Some(fstype), fstype, &format!("/{name}"), "")];
        let request = Request { mounts, ..request(&case, vec![]) };
        case.apply(&request, "true").exits(125).says("must be mounted on ordinary directory");
    }
}

#[test]
fn a_dev_of_the_hosts_is_left_as_it_is() {
    require!(is_root(), "needs root");
    let case = Case::new();
    fs::create_dir(case.at("dev")).unwrap();
    let null = Device { path: "/dev/null".into(), major: 1, minor: 3, mode: 0o666, ..Device::default() };
    let ptmx = || Symlink { path: "/dev/ptmx".into(), target: "pts/ptmx".into() };
    let host = mount(None, case.at("dev").to_str().unwrap(), "/dev", "rbind");
    let mut request = request(&case, vec![host]);
    (request.devices, request.symlinks) = (vec![null], vec![ptmx()]);
    case.apply(&request, "ls -A /dev").exits(0).stdout_is("running 1 test");
    // Without one, the image's directory gets them; the multiplexer is the container's, whatever is there.
    request.mounts.truncate(1);
    let node = |path: &str, kind, minor| Device {
        path: path.into(),
        kind,
        major: 5,
        minor,
        mode: 0o020_640,
        ..Device::default()
    };
    request.devices.push(node("/dev/ptmx", DeviceKind::Char, 2));
    request.devices.push(node("/srv/../node", DeviceKind::Char, 1));
    fs::write(case.at("r/dev/ptmx"), "planted").unwrap();
    let output = case.apply(&request, "readlink /dev/ptmx; stat -c '%F %a %t:%T' /dev/null /node").exits(0);
    output.stdout_has("pts/ptmx").stdout_has("file 666 1:3").stdout_has("file 640 5:1");
}

#[test]
fn read_only_dev_and_tmpfs_are_filled_first() {
    require!(is_root(), "needs root");
    let case = Case::new();
    let mut request = Request { pass_unknown: true, ..Request::container_defaults(case.root()) };
    request.mounts.retain(|m| m.destination.starts_with("/dev") || m.destination == "/proc");
    let dev = request.mounts.iter_mut().find(|m| m.destination == "/dev").unwrap();
    dev.options.push("ro".into());
    request.mounts.push(mount(Some("tmpfs"), "x", "/t", "ro"));
    request.mounts.push(mount(Some("tmpfs"), "x", "/t/below", "size=1m"));
    let script = "touch /dev/shm/x /t/below/x || exit 9; ls /dev/null /dev/pts/ptmx; touch /dev/x /t/x";
    let output = case.apply(&request, script).exits(1).stdout_has("/dev/null");
    assert_eq!(output.stderr.matches("Read-only file system").count(), 2, "{}", output.describe());
}

#[test]
fn without_a_cgroup_namespace_the_own_cgroup_is_shown() {
    require!(is_root(), "needs root");
    let host = Path::new("/sys/fs/cgroup/pids");
    if !host.join("tasks").exists() {
        return skip("needs cgroup v1");
    }
    let case = Case::new();
    let own = host.join(drydock_testkit::unique("mounts"));
    fs::create_dir(&own).unwrap();
    let enter = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", own.display());
    let mut request = request(&case, vec![mount(Some("cgroup"), "cgroup", "/cg", "ro nosuid")]);
    request.host_cgroup_namespace = true;
    let script = "cat /proc/self/mountinfo; cat /cg/pids/cgroup.procs; touch /cg/x";
    let output = case.child(&["sh", "-c", &enter, "sh"], &request, script);
    let name = format!("/{} /cg/pids ro,nosuid", own.file_name().unwrap().to_str().unwrap());
    fs::remove_dir(&own).unwrap();
    output.stdout_has(&name).says("Read-only file system");
}

/// nsdelegate and its like belong to the whole hierarchy, and a mount from the initial cgroup namespace sets them.
#[test]
fn the_hosts_cgroup_options_stay() {
    require!(is_root(), "needs root");
    let table = || fs::read_to_string("/proc/self/mounts").unwrap();
    let Some(before) = table().lines().find(|l| l.contains(" /sys/fs/cgroup cgroup2 ")).map(str::to_string)
    else {
        return skip("needs cgroup v2");
    };
    let case = Case::new();
    let mut request = request(&case, vec![mount(Some("cgroup"), "cgroup", "/cg", "ro nosuid relatime")]);
    for host in [true, false] {
        request.host_cgroup_namespace = host;
        // As runtimes do, but for the process that asks: the namespace first.
        let own: &[&str] = if host { &[] } else { &["unshare", "--cgroup"] };
        let output = case.child(own, &request, "cat /proc/self/mountinfo; ls /cg; touch /cg/x").exits(1);
        let output = output.stdout_has("cgroup.procs").says("Read-only file system");
        assert!(options_of(&output, "/cg").starts_with("ro,nosuid"), "{}", output.describe());
        assert!(table().contains(&before), "{before} is not in {}", table());
    }
}

#[test]
fn a_shared_namespace_keeps_nothing_but_the_root() {
    require!(is_root(), "needs root");
    let case = Case::new();
    let mut request = request(&case, vec![mount(Some("tmpfs"), "x", "/t", "size=4k")]);
    (request.shared_namespace, request.pivot) = (true, Pivot::Chroot);
    request.root.readonly = true;
    let plan = request.clone().validate().unwrap();
    let root = plan.left_mounted().unwrap().to_str().unwrap().to_string();
    // The outer namespace is the one that is shared.
    let around = format!(
        "mount --make-rshared / && grep -c . /proc/self/mountinfo >{0}/before; \
         DRYDOCK_TEST_JOINED=1 \"$@\" || exit; grep {root} /proc/self/mountinfo; umount -l {root} && \
         grep -c . /proc/self/mountinfo >{0}/after; cmp {0}/before {0}/after",
        case.0.path().display()
    );
    let wrapped = ["unshare", "-m", "sh", "-c", &around, "sh"];
    let output = case.child(&wrapped, &request, "touch /x || ls /t /proc/self/mounts").exits(0);
    output.stdout_has("/proc/self/mounts").stdout_has(&format!("{root}/t rw")).says("Read-only file system");
}

#[test]
fn the_root_is_as_propagating_as_asked() {
    require!(is_root(), "needs root");
    let case = Case::new();
    for (propagation, recursive, root, below) in [
        (Propagation::Shared, false, "shared:", false),
        (Propagation::Shared, true, "shared:", true),
        (Propagation::Unbindable, true, "unbindable", true),
        (Propagation::Slave, true, "master:", false),
    ] {
        let mut request = request(&case, vec![mount(Some("tmpfs"), "x", "/t", "rprivate")]);
        request.root = Root { propagation, propagation_recursive: recursive, ..case.root() };
        // The outer namespace stands for the host, and lives as long.
        let shared = ["unshare", "-m", "sh", "-c", "mount --make-rshared /; \"$@\"; exit $?", "sh"];
        let output = case.child(&shared, &request, TABLE).exits(0);
        let (top, inner) = (options_of(&output, "/"), options_of(&output, "/t"));
        assert!(top.contains(root) && inner.contains(root) == below, "{propagation:?}: {top}; {inner}");
    }
}
