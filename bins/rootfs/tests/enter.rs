//! `rootfs enter`, judged by what the kernel shows inside, and by what is left of the host.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use drydock_testkit::{Output, Sandbox, in_vm, is_root, require, run};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const TOOL: &str = env!("CARGO_BIN_EXE_rootfs");

/// A sandbox with a root file system `r` of busybox, and a host directory `victim` that nothing may touch.
struct Case(Sandbox);

impl Case {
    fn new() -> Self {
        let case = Self(Sandbox::new());
        let bin = case.root().join("bin");
        fs::create_dir_all(&bin).unwrap();
        let busybox = ["/usr/bin/busybox", "/bin/busybox"].iter().find(|p| Path::new(p).exists());
        fs::copy(busybox.expect("busybox"), bin.join("busybox")).unwrap();
        let applets = "sh cat ls touch mkdir stat hostname sleep df ps head dd grep mount umount wc id pwd kill mknod test true readlink";
        for applet in applets.split(' ') {
            symlink("busybox", bin.join(applet)).unwrap();
        }
        fs::create_dir(case.victim()).unwrap();
        fs::write(case.victim().join("marker"), "host").unwrap();
        case
    }

    fn root(&self) -> PathBuf {
        self.0.join("r")
    }

    fn victim(&self) -> PathBuf {
        self.0.join("victim")
    }

    fn enter(&self, options: &[&str], script: &str) -> Output {
        let before = self.host_mounts();
        let mut command = Command::new(TOOL);
        command.arg("enter").args(options).arg(self.root()).args(["--", "sh", "-c", script]);
        let output = run(&mut command);
        assert_eq!(self.host_mounts(), before, "the host's mounts changed");
        output
    }

    /// What a leak would show in: the host's own kernel file systems, and anything below the sandbox. Other tests mount
    /// elsewhere meanwhile.
    fn host_mounts(&self) -> Vec<String> {
        let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let sandbox = self.0.path().to_str().unwrap();
        let mine = |line: &&str| {
            let point = line.split(' ').nth(4).unwrap_or_default();
            let top = ["/proc", "/dev", "/sys"].iter().any(|t| point.starts_with(t));
            top || point == "/" || line.contains(sandbox)
        };
        text.lines().filter(mine).map(String::from).collect()
    }

    /// The host's directory is as it was.
    fn untouched(&self) {
        let names: Vec<_> = fs::read_dir(self.victim()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["marker"], "the host's directory was written to");
        assert_eq!(fs::read_to_string(self.victim().join("marker")).unwrap(), "host");
    }
}

#[test]
fn only_our_mounts_are_left() {
    require!(is_root(), "needs root");
    let case = Case::new();
    let table = case.enter(&[], "cat /proc/self/mountinfo; ls /").success().stdout;
    let mounts: Vec<Vec<&str>> =
        table.lines().filter(|l| l.contains(" - ")).map(|l| l.split(' ').collect()).collect();
    assert!(mounts.len() > 8, "{table}");
    for fields in &mounts {
        let point = fields[4];
        let known = ["/", "/proc", "/dev", "/sys"].contains(&point)
            || ["/proc/", "/dev/", "/sys/"].iter().any(|top| point.starts_with(top));
        assert!(known && !table.contains("oldroot"), "not ours: {point}\n{table}");
        assert!(!fields.contains(&"devtmpfs"), "the host's /dev: {table}");
        assert!(!fields.iter().any(|f| f.starts_with("shared:") || f.starts_with("master:")), "{table}");
    }
    assert_eq!(mounts.iter().filter(|m| m[4] == "/").count(), 1, "{table}");
    // Without the defaults, the root is all there is.
    fs::create_dir_all(case.root().join("proc")).unwrap();
    let table =
        case.enter(&["--no-defaults"], "mount -t proc proc /proc; cat /proc/self/mountinfo").success().stdout;
    assert_eq!(table.lines().count(), 2, "{table}");
}

#[test]
fn processes_devices_and_kernel_file_systems_work() {
    require!(is_root(), "needs root");
    let case = Case::new();
    case.enter(&[], "echo $$; ps | wc -l").success().stdout_has("1\n");
    case.enter(&[], "echo x > /dev/null && head -c 3 /dev/zero | wc -c && head -c 4 /dev/urandom | wc -c")
        .success()
        .stdout_is("3\n4");
    case.enter(&[], "echo x > /dev/full").exits(1).says("No space left");
    case.enter(&[], "for l in fd stdin ptmx; do readlink /dev/$l; done; test -c /dev/ptmx && ls /dev/pts")
        .success()
        .stdout_is("/proc/self/fd\n/proc/self/fd/0\npts/ptmx\nptmx");
    case.enter(&[], "stat -c '%F %a %t:%T' /dev/null /dev/tty")
        .success()
        .stdout_is("character special file 666 1:3\ncharacter special file 666 5:0");
    case.enter(&[], "ls /sys/class && ls /sys/fs/cgroup && id")
        .success()
        .stdout_has("net")
        .stdout_has("uid=0");
    case.enter(
        &[],
        "mkdir /sys/fs/cgroup/x; for d in /sys/fs/cgroup/*/; do mkdir $d/x; done; ls -d /sys/fs/cgroup/*/x",
    )
    .exits(1)
    .stdout_is("");
}

#[test]
fn masked_and_readonly_paths() {
    require!(is_root(), "needs root");
    let case = Case::new();
    let script = "for f in kcore kallsyms keys timer_list interrupts kpagecount sched_debug; do \
        test -e /proc/$f && test -n \"$(head -c 1 /proc/$f | wc -c | grep -v ^0)\" && echo leak $f; done; \
        for d in /proc/acpi /proc/scsi /sys/firmware /sys/dev/block /sys/kernel/debug /sys/kernel/tracing; do \
        test -d $d && test -n \"$(ls $d)\" && echo leak $d; touch $d/x 2>/dev/null && echo written $d; done; echo end";
    case.enter(&[], script).success().stdout_is("end");
    assert!(!fs::read("/proc/interrupts").unwrap().is_empty(), "on the host it has something to tell");
    for path in ["/proc/sys/kernel/core_pattern", "/proc/sys/vm/swappiness", "/proc/irq/default_smp_affinity"]
    {
        if Path::new(path).exists() {
            let before = fs::read(path).unwrap();
            case.enter(&[], &format!("echo 1 > {path}")).exits(1).says("Read-only file system");
            assert_eq!(fs::read(path).unwrap(), before);
        }
    }
    case.enter(&[], "umount /proc/kallsyms; mount -o remount,rw /sys 2>&1; echo").success();
}

#[test]
fn readonly_root() {
    require!(is_root(), "needs root");
    let case = Case::new();
    fs::create_dir(case.root().join("tmp")).unwrap();
    case.enter(&["--read-only"], "touch /x").exits(1).says("Read-only file system");
    case.enter(&["--read-only", "--tmpfs", "/tmp"], "touch /tmp/x && ls /tmp").success().stdout_is("x");
    assert!(!case.root().join("tmp/x").exists() && !case.root().join("x").exists());
    case.enter(&[], "touch /x").success();
    assert!(case.root().join("x").exists());
}

#[test]
fn hostile_roots_do_not_reach_the_host() {
    require!(is_root(), "needs root");
    for name in ["dev", "proc", "sys"] {
        for absolute in [true, false] {
            let case = Case::new();
            fs::write(case.victim().join("marker"), "host").unwrap();
            let target = if absolute { case.victim() } else { PathBuf::from("../victim") };
            symlink(&target, case.root().join(name)).unwrap();
            case.enter(&[], "true")
                .fails_with(125)
                .says(&format!("/{name}"))
                .says("must be mounted on ordinary directory");
            case.untouched();
        }
    }
    let case = Case::new();
    fs::write(case.root().join("dev"), "").unwrap();
    case.enter(&[], "true").fails_with(125).says("/dev");
    fs::remove_file(case.root().join("dev")).unwrap();
    // Below the mount points nothing of the image is seen.
    fs::create_dir(case.root().join("dev")).unwrap();
    for name in ["null", "pts", "shm", "ptmx", "fd"] {
        symlink(case.victim(), case.root().join("dev").join(name)).unwrap();
    }
    case.enter(&[], "echo x > /dev/null; touch /dev/shm/x; ls /dev/pts").success();
    case.untouched();
}

#[test]
fn volumes_stay_in_the_root() {
    require!(is_root(), "needs root");
    let case = Case::new();
    let data = case.0.join("data");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("f"), "volume").unwrap();
    let volume = format!("{}:/a/b/c:ro", data.display());
    case.enter(&["-v", &volume], "cat /a/b/c/f; touch /a/b/c/x")
        .exits(1)
        .stdout_is("volume")
        .says("Read-only");
    // A link to the host's directory is one within the root; what it names is made there.
    symlink(case.victim(), case.root().join("link")).unwrap();
    let volume = format!("{}:/link/deep", data.display());
    case.enter(&["-v", &volume], "cat /link/deep/f").success().stdout_is("volume");
    case.untouched();
    // Files: over a file, a FIFO, a dangling link; not over a directory.
    let file = format!("{}:/etc/hosts", data.join("f").display());
    let hosts = case.root().join("etc/hosts");
    fs::create_dir_all(hosts.parent().unwrap()).unwrap();
    case.enter(&["-v", &file], "cat /etc/hosts").success().stdout_is("volume");
    fs::remove_file(&hosts).unwrap();
    symlink(case.victim().join("marker"), &hosts).unwrap();
    case.enter(&["-v", &file], "cat /etc/hosts").success().stdout_is("volume");
    case.untouched();
    fs::remove_file(&hosts).unwrap();
    symlink("../run/missing", &hosts).unwrap();
    case.enter(&["-v", &file], "cat /etc/hosts").success().stdout_is("volume");
    fs::remove_file(&hosts).unwrap();
    nix::unistd::mkfifo(&hosts, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    case.enter(&["-v", &file], "cat /etc/hosts").success().stdout_is("volume");
    fs::remove_file(&hosts).unwrap();
    fs::create_dir(&hosts).unwrap();
    case.enter(&["-v", &file], "true").fails_with(125).says("/etc/hosts").says("directory");
    // Into /proc: neither by name nor by a link.
    let bad = format!("{}:/proc/self/attr", data.display());
    case.enter(&["-v", &bad], "true").fails_with(2).says("/proc");
    symlink("proc/sys", case.root().join("sneaky")).unwrap();
    let bad = format!("{}:/sneaky/kernel", data.display());
    case.enter(&["-v", &bad], "true").fails_with(125).says("/proc");
    let bad = format!("{}:/proc", data.display());
    case.enter(&["-v", &bad], "true").fails_with(125).says("procfs");
}

#[test]
fn every_tmpfs_is_bounded() {
    require!(is_root(), "needs root");
    let case = Case::new();
    fs::create_dir(case.root().join("t")).unwrap();
    let fill =
        |path: &str| format!("dd if=/dev/zero of={path}/big bs=1M count=100 2>&1; stat -c %s {path}/big");
    let size = |output: Output| output.stdout.lines().last().unwrap().parse::<u64>().unwrap();
    assert_eq!(size(case.enter(&[], &fill("/dev/shm"))), 64 << 20);
    assert_eq!(size(case.enter(&[], &fill("/dev"))), 64 << 10);
    assert_eq!(size(case.enter(&["--tmpfs", "/t:size=1m"], &fill("/t"))), 1 << 20);
    let many = "i=0; while touch /t/$i 2>/dev/null; do i=$((i+1)); test $i -gt 99 && break; done; echo $i";
    case.enter(&["--tmpfs", "/t:nr_inodes=50"], many).success().stdout_is("49");
    let table = case.enter(&["--tmpfs", "/t"], "grep ' tmpfs ' /proc/self/mountinfo").success().stdout;
    // The root itself is what the test's directory lies on.
    for line in table.lines().filter(|line| line.split(' ').nth(4) != Some("/")) {
        assert!(line.contains("size=") && line.contains("nr_inodes="), "{line}");
    }
    for bad in ["/t:size=x", "/t:frobnicate", "t", "/", "/t:size=0"] {
        case.enter(&["--tmpfs", bad], "true").fails_with(2);
    }
}

#[test]
fn chroot_works_and_says_why_it_is_weaker() {
    require!(is_root(), "needs root");
    let case = Case::new();
    let output = case.enter(&["--chroot"], "ls /; echo $$").success().stdout_has("bin").stdout_has("1");
    assert!(
        output.stderr.contains("warning") && output.stderr.contains("pivot_root"),
        "{}",
        output.describe()
    );
}

#[test]
fn explain_prints_the_steps_that_run() {
    require!(is_root(), "needs root");
    let case = Case::new();
    let output = case.enter(&["--explain"], "true").success();
    for call in ["clone3(", "CLONE_NEWNS", "\"/proc\", \"proc\"", "mknodat", "pivot_root(\".\", \".\")"] {
        assert!(output.stderr.contains(call), "{call}: {}", output.describe());
    }
}

#[test]
fn exit_codes() {
    require!(is_root(), "needs root");
    let case = Case::new();
    let enter =
        |dir: &Path, words: &[&str]| run(Command::new(TOOL).arg("enter").arg(dir).arg("--").args(words));
    case.enter(&[], "exit 7").exits(7);
    enter(&case.root(), &["nope"]).fails_with(127).says("nope");
    enter(&case.root(), &["/bin/nope"]).fails_with(127);
    fs::write(case.root().join("bin/plain"), "x").unwrap();
    enter(&case.root(), &["plain"]).fails_with(126);
    enter(&case.root(), &["/bin"]).fails_with(126).says("directory");
    enter(&case.root(), &[""]).fails_with(2);
    enter(&case.root(), &[]).fails_with(2);
    enter(&case.0.join("missing"), &["true"]).fails_with(2).says("No such file or directory");
    enter(&case.root().join("bin/busybox"), &["true"]).fails_with(2).says("not a directory");
    enter(Path::new("/"), &["true"]).fails_with(2);
    case.enter(&["--hostname", "a b"], "true").fails_with(2);
    case.enter(&["-w", "rel"], "true").fails_with(2);
    case.enter(&["-w", "/missing"], "true").fails_with(125).says("/missing");
    case.enter(&["-v", "/missing:/x"], "true").fails_with(2).says("No such file");
    case.enter(&["-v", "/tmp:/x:frob"], "true").fails_with(2).says("frob");
    case.enter(&["--mounts", "/missing"], "true").fails_with(2);
    case.enter(&["--mounts", "/dev/zero"], "true").fails_with(2);
    // As another user: one sentence with the remedy.
    fs::set_permissions(case.0.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let tool = case.0.join("rootfs");
    fs::copy(TOOL, &tool).unwrap();
    let mut command = Command::new(&tool);
    std::os::unix::process::CommandExt::uid(&mut command, 65534);
    run(command.arg("enter").arg(case.root()).args(["--", "true"])).fails_with(125).says("root");
}

#[test]
fn a_request_file_in_place_of_the_defaults() {
    require!(is_root(), "needs root");
    let case = Case::new();
    let file = case.0.join("mounts.json");
    let text = r#"{"mounts": [{"destination": "/proc", "fstype": "proc"},
        {"destination": "/x", "fstype": "tmpfs", "options": ["size=4k", "ro"]}], "masked_paths": ["/proc/uptime"]}"#;
    fs::write(&file, text).unwrap();
    let script = "cat /proc/uptime; touch /x/y; cat /proc/self/mountinfo | wc -l";
    case.enter(&["--mounts", file.to_str().unwrap()], script).success().stdout_is("4").says("Read-only");
    fs::write(&file, r#"{"mounts": [], "frob": 1}"#).unwrap();
    case.enter(&["--mounts", file.to_str().unwrap()], "true").fails_with(2).says("frob");
}

#[test]
fn without_a_fork_the_callers_mounts_are_safe() {
    require!(is_root(), "needs root");
    let case = Case::new();
    case.enter(&["--no-fork"], "ls /; exit 3").exits(3).stdout_has("bin");
}

#[test]
fn hostname_and_working_directory() {
    require!(is_root(), "needs root");
    let case = Case::new();
    let host = fs::read("/proc/sys/kernel/hostname").unwrap();
    case.enter(&["--hostname", "box", "-w", "/bin"], "hostname; pwd").success().stdout_is("box\n/bin");
    assert_eq!(fs::read("/proc/sys/kernel/hostname").unwrap(), host);
    // A descriptor of the host that the caller left open is no way out.
    let mut shell = Command::new("sh");
    let script = format!(
        "exec 7<{}; exec {TOOL} enter -w /proc/self/fd/7 {} -- /bin/cat marker",
        case.victim().display(),
        case.root().display()
    );
    let output = run(shell.args(["-c", &script]));
    assert!(output.code != Some(0) && !output.stdout.contains("host"), "{}", output.describe());
    let script = format!(
        "exec 7<{}; exec {TOOL} enter {} -- /bin/ls /proc/self/fd",
        case.victim().display(),
        case.root().display()
    );
    run(shell_of(&script).arg("x")).success().stdout_is("0\n1\n2\n3");
}

fn shell_of(script: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", script]);
    shell
}

fn start(case: &Case, script: &str) -> std::process::Child {
    let mut command = Command::new(TOOL);
    command.arg("enter").arg(case.root()).args(["--", "sh", "-c", script]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let up = case.root().join("up");
    case.0.wait_until("the command is up", || up.exists());
    child
}

fn kill(child: &std::process::Child, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
}

#[test]
fn signals_are_forwarded() {
    use nix::sys::signal::Signal;
    require!(is_root(), "needs root");
    let case = Case::new();
    let mut child = start(&case, "touch /up; exec sleep 100");
    kill(&child, Signal::SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    fs::remove_file(case.root().join("up")).unwrap();
    let mut child = start(&case, "trap 'exit 9' USR1; touch /up; while true; do sleep 0.05; done");
    kill(&child, Signal::SIGUSR1);
    assert_eq!(child.wait().unwrap().code(), Some(9));
    fs::remove_file(case.root().join("up")).unwrap();
    // Killed, it leaves nothing running.
    let mut child = start(&case, "touch /up; sleep 1234");
    kill(&child, Signal::SIGKILL);
    child.wait().unwrap();
    let root = case.root();
    let alive = || {
        fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .any(|e| fs::read_link(e.path().join("root")).is_ok_and(|r| r == root))
    };
    let limit = Duration::from_secs(if in_vm() { 30 } else { 5 });
    let until = std::time::Instant::now() + limit;
    while alive() {
        assert!(std::time::Instant::now() < until, "the command outlived rootfs");
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut command = Command::new(TOOL);
    let output =
        run(command.arg("enter").arg(case.root()).args(["--", "sh", "-c", "kill -9 $$; sleep 0.1; exit 4"]));
    // Nobody inside can kill PID 1.
    output.exits(4);
}
