//! What a hostile root file system, command or caller's state cannot do. Named by the rows of the field's known breaks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::tree;
use drydock_testkit::{Output, Sandbox, Terminal, have, in_vm, is_root, require, run};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

struct Place {
    sandbox: Sandbox,
}

impl Place {
    fn new() -> Place {
        Place { sandbox: Sandbox::new() }
    }

    fn container(&self, words: &[&str]) -> Output {
        self.sandbox.run("container", words)
    }

    fn sh(&self, options: &[&str], script: &str) -> Output {
        self.container(&[&["run", "--rm"], options, &["--", "sh", "-c", script]].concat())
    }

    fn start(&self, name: &str, options: &[&str]) -> String {
        let id = self.sandbox.unique(name);
        self.container(&[&["run", "-d", "--name", &id], options, &["--", "sleep", "60"]].concat()).success();
        id
    }

    /// A root file system with a shell and a few programs, and a directory of the host with a marker.
    fn root(&self, name: &str) -> PathBuf {
        let root = self.sandbox.join(name);
        let text = root.display().to_string();
        self.sandbox.run("rootfs", &["new", &text]).success();
        for program in ["sh", "ls", "cat"] {
            self.sandbox.run("rootfs", &["copy", &text, program]).success();
        }
        root
    }

    fn host_directory(&self, name: &str) -> PathBuf {
        let dir = self.sandbox.join(name);
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("marker"), "HOST").unwrap();
        dir
    }
}

macro_rules! place {
    () => {{
        require!(is_root(), "needs root");
        Place::new()
    }};
}

/// A directory of the host, as it was: names, contents of small files, modes.
fn photograph(dir: &Path) -> Vec<String> {
    let facts = |path: &String| {
        let full = dir.join(path.trim_end_matches('/'));
        let meta = std::fs::symlink_metadata(&full).unwrap();
        let text =
            if meta.is_file() { std::fs::read_to_string(&full).unwrap_or_default() } else { String::new() };
        format!("{path} {:o} {} {text}", meta.mode(), meta.uid())
    };
    tree(dir).iter().map(facts).collect()
}

/// SEC-03 (CVE-2024-21626): no descriptor leads out through the working directory.
#[test]
fn a_working_directory_through_a_descriptor() {
    let place = place!();
    let id = place.start("cwd", &[]);
    for n in (3..32).step_by(if in_vm() { 7 } else { 1 }) {
        let dir = format!("/proc/self/fd/{n}");
        for words in [
            vec!["run", "--rm", "-w", &dir, "--", "sh", "-c", "pwd; ls -d ../../../../tmp/dd-*"],
            vec!["exec", "-w", &dir, &id, "--", "sh", "-c", "pwd; ls -d ../../../../tmp/dd-*"],
        ] {
            let output = place.container(&words);
            assert!(output.code != Some(0) && !output.stdout.contains("dd-"), "{}", output.describe());
        }
    }
    place.container(&["delete", "--force", &id]).success();
}

/// SEC-04: a command has its three streams and nothing else, whatever its caller had open.
#[test]
fn no_descriptor_is_inherited() {
    let place = place!();
    let id = place.start("fds", &[]);
    let tool = drydock_testkit::bin("container");
    for words in ["run --rm --", &format!("exec {id} --")] {
        let script =
            format!("exec 7</etc/passwd 9</; exec {} {words} sh -c 'ls /proc/$$/fd; true'", tool.display());
        let mut command = Command::new("bash");
        command
            .args(["-c", &script])
            .env("DRYDOCK_ROOT", place.sandbox.state())
            .env("DRYDOCK_DATA", place.sandbox.data());
        let output = drydock_testkit::run(&mut command).success();
        let fds: Vec<&str> = output.stdout.split_whitespace().collect();
        // bash keeps none open for a script in an argument; dash may keep its own at 10.
        assert_eq!(fds, ["0", "1", "2"], "{words}: {}", output.describe());
    }
    place.container(&["delete", "--force", &id]).success();
}

/// SEC-05, SEC-10: a root whose /dev, /proc or /sys is a link to the host's directories changes none of them.
#[test]
fn mount_points_that_are_links() {
    let place = place!();
    for (i, name) in ["dev", "proc", "sys", "dev/pts", "dev/shm", "etc", "tmp"].into_iter().enumerate() {
        for relative in [false, true] {
            let root = place.root(&format!("root-{i}-{relative}"));
            let host = place.host_directory(&format!("host-{i}-{relative}"));
            std::fs::write(host.join("ptmx"), "HOST").unwrap();
            let before = photograph(&host);
            let point = root.join(name);
            let _ = std::fs::remove_dir_all(&point);
            std::fs::create_dir_all(point.parent().unwrap()).unwrap();
            let target = if relative {
                Path::new("../../../../../..").join(host.strip_prefix("/").unwrap())
            } else {
                host.clone()
            };
            symlink(&target, &point).unwrap();
            let output = place.sh(
                &["--rootfs", root.to_str().unwrap()],
                &format!("cat {}/marker; echo x > {}/new", host.display(), host.display()),
            );
            assert!(!output.stdout.contains("HOST"), "{name}: {}", output.describe());
            assert_eq!(photograph(&host), before, "{name}: {}", output.describe());
        }
    }
}

/// SEC-23: files that are put into the root are not written through what an image has in their place.
#[test]
fn injected_files_through_links() {
    let place = place!();
    for (i, name) in ["hosts", "hostname", "resolv.conf"].into_iter().enumerate() {
        for kind in ["link", "relative", "dangling", "directory", "fifo"] {
            let root = place.root(&format!("root-{i}-{kind}"));
            let host = place.host_directory(&format!("host-{i}-{kind}"));
            let before = photograph(&host);
            let planted = root.join("etc").join(name);
            let _ = std::fs::remove_file(&planted);
            match kind {
                "link" => symlink(host.join("marker"), &planted).unwrap(),
                "relative" => symlink(
                    Path::new("../../../../../..").join(host.join("marker").strip_prefix("/").unwrap()),
                    &planted,
                )
                .unwrap(),
                "dangling" => symlink(host.join("absent"), &planted).unwrap(),
                "directory" => std::fs::create_dir(&planted).unwrap(),
                _ => nix::unistd::mkfifo(&planted, nix::sys::stat::Mode::S_IRWXU).unwrap(),
            }
            // It may refuse or go on; it may not hang, nor touch the host.
            let output = place.sh(&["--rootfs", root.to_str().unwrap()], "echo x");
            assert!(
                output.took < Duration::from_secs(if in_vm() { 60 } else { 10 }),
                "{}",
                output.describe()
            );
            assert_eq!(photograph(&host), before, "{name} {kind}: {}", output.describe());
        }
    }
}

/// SEC-13: nothing inheritable, nothing ambient, and the bounding set is the allowed one; the same in exec.
#[test]
fn capabilities_of_run_and_exec() {
    let place = place!();
    let id = place.start("caps", &["--cap-add", "NET_RAW"]);
    let script = "grep Cap /proc/self/status";
    let run = place.sh(&["--cap-add", "NET_RAW"], script).success().stdout;
    let exec = place.container(&["exec", &id, "--", "sh", "-c", script]).success().stdout;
    assert_eq!(run, exec);
    let set = |name: &str| {
        let line = run.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim_start_matches(':').trim(), 16).unwrap()
    };
    assert_eq!((set("CapInh"), set("CapAmb")), (0, 0), "{run}");
    assert_eq!((set("CapBnd"), set("CapEff")), (set("CapPrm"), set("CapPrm")), "{run}");
    // Not one of those that make a container's root the host's: SYS_ADMIN, SYS_MODULE, SYS_RAWIO, SYS_PTRACE, SYS_BOOT.
    for dangerous in [21, 16, 17, 19, 22, 12, 24, 25, 38, 39, 40] {
        assert_eq!(set("CapBnd") >> dangerous & 1, 0, "capability {dangerous}: {run}");
    }
    // Another user has none in effect.
    place.sh(&["-u", "1000"], "grep CapEff /proc/self/status").success().stdout_has("0000000000000000");
    place.container(&["delete", "--force", &id]).success();
}

/// SEC-24: an id is a name, never a path.
#[test]
fn ids_are_names() {
    let place = place!();
    let before = tree(place.sandbox.path());
    for id in [
        "..",
        ".",
        "../x",
        "/x",
        "a/../b",
        "a/b",
        "x/",
        "",
        " ",
        "a b",
        "a\tb",
        "a\nb",
        "-",
        "-a",
        "--",
        "@lock",
        "@networks",
        "a@b",
        "é",
        "\u{202e}",
        "a\\b",
        "a:b",
        "a,b",
        "a*",
        "$(x)",
        "`x`",
        "a;b",
        "a|b",
        "~",
        "%2e%2e",
        &"a".repeat(256),
        &"a".repeat(5000),
    ] {
        for words in [
            vec!["run", "--rm", "--name", id, "--", "true"],
            vec!["inspect", "--", id],
            vec!["delete", "--", id],
            vec!["stop", "--", id],
        ] {
            let output = place.container(&words);
            assert_eq!(output.code, Some(2), "{}", output.describe());
        }
        // --force says nothing of what is not there; it must not remove anything either.
        place.container(&["delete", "--force", "--", id]);
    }
    assert_eq!(tree(place.sandbox.path()), before);
}

/// SEC-25: a keyring of its own; and the calls to reach others are refused.
#[test]
fn a_keyring_of_its_own() {
    let place = place!();
    place.sh(&[], "cat /proc/keys | wc -c").success().stdout_is("0");
    require!(have("python3") && Path::new("/usr/lib").is_dir(), "python3 is not installed");
    // keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0) by number: 250 on x86_64.
    require!(cfg!(target_arch = "x86_64"), "knows the number of keyctl(2) on x86_64 only");
    let probe = "import ctypes,os\nl=ctypes.CDLL(None,use_errno=True)\nprint(l.syscall(250,0,-3,0))";
    let ask = |options: &[&str]| {
        let words =
            [&["run", "--rm", "-v", "/usr:/usr:ro"], options, &["--", "python3", "-c", probe]].concat();
        place.container(&words).success().stdout.trim().parse::<i64>().unwrap()
    };
    let host = drydock_testkit::run(Command::new("python3").args(["-c", probe]))
        .success()
        .stdout
        .trim()
        .parse::<i64>()
        .unwrap();
    let open = ["--security-opt", "seccomp=unconfined"];
    let (a, b) = (ask(&open), ask(&open));
    assert!(a > 0 && b > 0 && a != b && a != host, "{a} {b} {host}");
    assert_eq!(ask(&[]), -1);
}

/// SEC-26: nothing is pushed into the caller's terminal.
#[test]
fn no_input_for_the_callers_terminal() {
    let place = place!();
    require!(have("python3") && have("setsid"), "python3 and setsid(1) are not installed");
    let push = "import fcntl\nfor r in (0x5412,0x5412|1<<32):\n  for f in (0,1,2):\n    try:\n      fcntl.ioctl(f,r&0xffffffff,b'X'); print('pushed')\n    except Exception as e: print('refused')";
    let file = place.sandbox.join("push.py");
    std::fs::write(&file, push).unwrap();
    let tool = drydock_testkit::bin("container");
    for flags in ["-i", "-it"] {
        let mut command = Command::new(&tool);
        command.args(["run", "--rm", flags, "-v", "/usr:/usr:ro", "-v"]);
        command.arg(format!("{}:/push.py:ro", file.display())).args(["--", "python3", "/push.py"]);
        command.env("DRYDOCK_ROOT", place.sandbox.state()).env("DRYDOCK_DATA", place.sandbox.data());
        Terminal::start(&command).end().stdout_has("refused").stdout_lacks("pushed");
    }
}

/// SEC-28, SEC-29: no mounts, no namespaces, no host settings.
#[test]
fn what_is_out_of_reach() {
    let place = place!();
    for script in [
        "mount -t tmpfs none /mnt",
        "mount -t proc proc /mnt",
        "mount -t cgroup -o memory c /mnt",
        "mount -t cgroup2 c /mnt",
        "mount --bind / /mnt",
        "mount -o remount,rw /sys",
        "mount -o remount,rw /proc/sys",
        "umount /proc",
        "umount /sys",
        "unshare -m true",
        "unshare -Ur true",
        "unshare -UrC true",
        "unshare -n true",
        "for f in $(find /sys/fs/cgroup -name release_agent -o -name notify_on_release -o -name cgroup.procs); do echo 1 > $f && exit 0; done; exit 1",
        "mkdir /sys/fs/cgroup/x",
        "echo 1 > /proc/sys/kernel/panic",
        "echo x > /proc/sys/kernel/core_pattern",
        "echo h > /proc/sysrq-trigger",
        "echo 1 > /sys/kernel/profiling",
        "echo x > /sys/module/kernel/parameters/panic",
        "hostname changed",
        "date -s 2001-01-01",
        "dd if=/dev/mem bs=1 count=1",
        "mknod /x b 8 0",
        "nsenter -t 1 -m true",
        "chroot / unshare -m true",
    ] {
        let output = place.sh(&[], script);
        assert_ne!(output.code, Some(0), "{}", output.describe());
    }
    for path in ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/kallsyms", "/proc/interrupts"] {
        place
            .sh(&[], &format!("test ! -e {path} || cat {path} 2>/dev/null | wc -c"))
            .stdout_lacks("1")
            .stdout_lacks("2");
    }
    for path in ["/proc/acpi", "/sys/firmware", "/proc/scsi", "/sys/kernel/debug", "/sys/kernel/security"] {
        place.sh(&[], &format!("ls -A {path} 2>/dev/null")).stdout_is("");
    }
    place.sh(&[], "find /proc/sys -type f -perm /222 -exec sh -c 'echo >> $1' _ {} \\; 2>&1 | grep -vc -e Read-only -e denied").stdout_is("0");
}

/// SEC-31: exactly the groups that were asked for.
#[test]
fn groups() {
    let place = place!();
    place.sh(&[], "id -G").success().stdout_is("0");
    place.sh(&["-u", "1234:5678"], "id -u; id -G").success().stdout_is("1234\n5678");
    place.sh(&["-u", "1234"], "id -G").success().stdout_is("0");
    let mut command = Command::new("setpriv");
    require!(have("setpriv"), "setpriv is not installed");
    command.args(["--groups", "0,4,27,999"]).arg(drydock_testkit::bin("container"));
    command
        .args(["run", "--rm", "--", "id", "-G"])
        .env("DRYDOCK_ROOT", place.sandbox.state())
        .env("DRYDOCK_DATA", place.sandbox.data());
    drydock_testkit::run(&mut command).success().stdout_is("0");
}

/// SEC-33: the state is its owner's alone, whatever the umask.
#[test]
fn modes_do_not_follow_the_umask() {
    let place = place!();
    let mut seen = Vec::new();
    for umask in ["000", "022", "077", "777"] {
        let state = place.sandbox.join(&format!("state-{umask}"));
        let id = place.sandbox.unique("modes");
        let tool = drydock_testkit::bin("container");
        let sh = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("umask {umask}; exec {} {script}", tool.display())]);
            command.env("DRYDOCK_ROOT", &state).env("DRYDOCK_DATA", place.sandbox.data());
            drydock_testkit::run(&mut command).success()
        };
        sh(&format!("run -d --name {id} -- sleep 60"));
        let modes: Vec<String> = tree(&state)
            .iter()
            // The supervisor makes it when the command runs already.
            .filter(|path| !path.ends_with("/attach"))
            .map(|path| {
                let mode = std::fs::symlink_metadata(state.join(path.trim_end_matches('/'))).unwrap().mode();
                format!("{path} {mode:o}")
            })
            .collect();
        assert_eq!(std::fs::metadata(&state).unwrap().mode() & 0o777, 0o700);
        assert_eq!(std::fs::metadata(state.join(&id)).unwrap().mode() & 0o777, 0o700);
        sh(&format!("exec {id} -- sh -c 'umask | grep -q 0022'"));
        sh(&format!("delete --force {id}"));
        seen.push(modes);
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:#?}");
}

/// SEC-35, FI-08: a state that is not what it was: others are not disturbed, nothing hangs, and deleting always cleans.
#[test]
fn corrupt_state() {
    let place = place!();
    let healthy = place.start("healthy", &[]);
    let id = place.start("corrupt", &[]);
    let file = place.sandbox.state().join(&id).join("state.json");
    let whole = std::fs::read(&file).unwrap();
    let quick = |words: &[&str]| {
        let output =
            run::run_for(place.sandbox.command("container").args(words), b"", Duration::from_secs(5));
        assert!(output.signal.is_none() && output.code != Some(101), "{}", output.describe());
        output
    };
    let step = if in_vm() { 97 } else { 5 };
    for length in (0..whole.len()).step_by(step) {
        std::fs::write(&file, &whole[..length]).unwrap();
        quick(&["list"]).success().stdout_has(&healthy).stdout_has("corrupt");
        quick(&["inspect", &id]);
    }
    let bad: [(&str, &dyn Fn()); 5] = [
        ("fifo", &|| nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap()),
        ("link", &|| symlink("/dev/zero", &file).unwrap()),
        ("directory", &|| std::fs::create_dir(&file).unwrap()),
        ("large", &|| std::fs::write(&file, vec![b' '; 5 << 20]).unwrap()),
        ("binary", &|| std::fs::write(&file, [0xffu8; 300]).unwrap()),
    ];
    for (kind, make) in bad {
        let _ = std::fs::remove_file(&file);
        make();
        quick(&["list"]).success().stdout_has(&healthy);
        for words in [
            &["inspect", &id][..],
            &["stop", &id],
            &["exec", &id, "--", "true"],
            &["ps", &id],
            &["logs", &id],
        ] {
            let output = quick(words);
            assert!(
                output.took < Duration::from_secs(if in_vm() { 100 } else { 10 }),
                "{kind}: {}",
                output.describe()
            );
        }
        if kind == "directory" {
            std::fs::remove_dir(&file).unwrap();
        }
    }
    // The container runs and its record is rubbish: --force finds it by its journal.
    quick(&["delete", "--force", &id]).success();
    quick(&["list"]).success().stdout_lacks(&id).stdout_has(&healthy);
    // The journal itself, cut anywhere.
    for length in [0, 1, 20, 60, 200] {
        let id = place.start("journal", &[]);
        let journal = place.sandbox.state().join(&id).join("journal");
        let text = std::fs::read(&journal).unwrap();
        std::fs::write(&journal, text.get(..length).unwrap_or(&text)).unwrap();
        quick(&["list"]).success();
        quick(&["delete", "--force", &id]).success();
        assert!(!place.sandbox.state().join(&id).exists());
    }
    place.container(&["delete", "--force", &healthy]).success();
    assert!(tree(&place.sandbox.data().join("containers")).is_empty());
}

/// SEC-35: a journal that names what is not ours, directly or through a link: it stays, and `gc` says so; a container
/// directory that cannot be judged keeps `gc` from no other.
#[test]
fn a_journal_that_names_the_hosts_files() {
    let place = place!();
    let host = place.host_directory("host");
    let before = photograph(&host);
    let plant = |name: &str, object: &str, path: &Path| {
        let dir = place.sandbox.state().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("lock"), "").unwrap();
        let line = format!("{{\"object\":\"{object}\",\"path\":{:?}}}\n", path.display().to_string());
        std::fs::write(dir.join("journal"), line).unwrap();
        dir
    };
    let through = plant("through", "directory", &place.sandbox.state().join("through/link/sub"));
    std::fs::create_dir(host.join("sub")).unwrap();
    let with_sub = photograph(&host);
    symlink(&host, through.join("link")).unwrap();
    plant("direct", "directory", &host);
    plant("file", "file", &host.join("marker"));
    let own = place.sandbox.state().join("good/mine");
    plant("good", "directory", &own);
    std::fs::create_dir(&own).unwrap();
    symlink(&host, own.join("link")).unwrap();
    std::fs::create_dir_all(place.sandbox.state().join("broken/lock")).unwrap();
    let output = place.container(&["gc"]);
    assert_eq!(output.code, Some(125), "{}", output.describe());
    assert!(!own.exists(), "what is ours goes, whatever the others are");
    for name in ["through", "direct", "file"] {
        let output = place.container(&["delete", "--force", name]);
        assert_eq!(output.code, Some(125), "{}", output.describe());
    }
    assert_eq!(photograph(&host), with_sub);
    std::fs::remove_dir(host.join("sub")).unwrap();
    assert_eq!(photograph(&host), before);
    assert!(!place.sandbox.state().join("broken").exists(), "what stands for a lock is nobody's");
    for name in ["through", "direct", "file"] {
        std::fs::remove_dir_all(place.sandbox.state().join(name)).unwrap();
    }
}

/// SEC-37: what a caller hands down that a command should not have.
#[test]
fn inherited_state() {
    let place = place!();
    require!(have("python3"), "python3 is not installed");
    let tool = drydock_testkit::bin("container").display().to_string();
    let show = "grep -E '^Sig(Blk|Ign)|^Cpus_allowed_list' /proc/self/status; umask; cat /proc/self/oom_score_adj; ls /proc/$$/fd; ulimit -c; nice";
    let from = |setup: &str| {
        let script = format!(
            "import os,signal,resource\nargs=['container','run','--rm','--','sh','-c',{show:?}]\n{setup}\nos.execv('{tool}',args)"
        );
        let mut command = Command::new("python3");
        command.args(["-c", &script]).current_dir(place.sandbox.path()).stdin(Stdio::null());
        command.env("DRYDOCK_ROOT", place.sandbox.state()).env("DRYDOCK_DATA", place.sandbox.data());
        drydock_testkit::run(&mut command).success().stdout
    };
    // python ignores SIGPIPE for itself and what it executes.
    let plain = from("signal.signal(signal.SIGPIPE,signal.SIG_DFL)");
    assert!(
        plain.contains("SigBlk:\t0000000000000000") && plain.contains("SigIgn:\t0000000000000000"),
        "{plain}"
    );
    assert!(plain.contains("0022") && plain.contains("\n0\n1\n2\n"), "{plain}");
    for setup in [
        "pass",
        "signal.signal(signal.SIGCHLD,signal.SIG_IGN)",
        "[signal.signal(s,signal.SIG_IGN) for s in (1,2,3,10,12,13,15,17,18)]",
        "signal.pthread_sigmask(signal.SIG_BLOCK,range(1,65))",
        "os.umask(0o777)",
        "os.umask(0)",
        "os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')",
        "resource.setrlimit(resource.RLIMIT_CORE,(0,0))",
        "os.dup2(os.open('/',os.O_RDONLY),20); os.set_inheritable(20,True)",
        "signal.alarm(100)",
    ] {
        assert_eq!(from(setup), plain, "{setup}");
    }
    // Closed standard streams are opened on nothing, not on the first file that is opened.
    let mut command = Command::new("sh");
    command.args(["-c", &format!("exec {tool} run --rm -- sh -c 'ls -l /proc/$$/fd >&2' <&- >&-")]);
    command.env("DRYDOCK_ROOT", place.sandbox.state()).env("DRYDOCK_DATA", place.sandbox.data());
    let closed = drydock_testkit::run(&mut command);
    assert!(!closed.stderr.contains("state") && closed.stderr.contains("/dev/null"), "{}", closed.describe());
}

/// The sandbox itself stays closed to others meanwhile.
#[test]
fn a_state_root_of_somebody_else_is_refused() {
    let place = place!();
    let state = place.sandbox.state();
    nix::unistd::chown(&state, Some(1234.into()), None).unwrap();
    place.container(&["run", "--rm", "--", "true"]).exits(125).says("belongs to another user");
    nix::unistd::chown(&state, Some(0.into()), None).unwrap();
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o777)).unwrap();
    place.sh(&[], "true").success();
    assert_eq!(std::fs::metadata(&state).unwrap().mode() & 0o777, 0o700);
}

/// SEC-01 (CVE-2016-9962): root inside with CAP_SYS_PTRACE may follow /proc/PID/root of whatever it sees; it must never see
/// a process of `exec` that is still on the host. The broken build was caught in each of 3 runs of these 40 trials.
#[test]
fn exec_is_never_seen_before_it_is_inside() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    let marker = sandbox.join("marker");
    std::fs::write(&marker, "host").unwrap();
    let name = sandbox.unique("watched");
    let watch = format!(
        "while :; do for p in /proc/[0-9]*; do [ -e $p/root{} ] && echo LEAK; done; done",
        marker.display()
    );
    let start = ["run", "-d", "--name", &name, "--cap-add", "SYS_PTRACE", "--", "sh", "-c", &watch];
    sandbox.run("container", &start).success();
    for _ in 0..if in_vm() { 5 } else { 40 } {
        sandbox.run("container", &["exec", &name, "--", "true"]).success();
    }
    let logs = sandbox.run("container", &["logs", &name]).success();
    sandbox.run("container", &["delete", "--force", &name]).success();
    assert!(!logs.stdout.contains("LEAK"), "the host's root was seen {} times", logs.stdout.lines().count());
}
