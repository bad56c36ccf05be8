//! `container unshare` by its effects, as the kernel shows them.
#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on should stop

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const CONTAINER: &str = env!("CARGO_BIN_EXE_container");
/// An unprivileged user's view: no capability, no group.
const NOBODY: [&str; 6] = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];

fn skip(name: &str, reason: &str) {
    let _ = std::io::stderr().write_all(format!("SKIP {name}: {reason}\n").as_bytes());
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn which(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|d| d.join(name)).find(|p| p.is_file())
}

fn words(before: &[&str], args: &[&str]) -> Command {
    let all: Vec<&str> =
        before.iter().copied().chain([CONTAINER, "unshare"]).chain(args.iter().copied()).collect();
    let mut command = Command::new(all[0]);
    command.args(&all[1..]).stdin(Stdio::null());
    command
}

fn unshare(args: &[&str]) -> Output {
    words(&[], args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_string()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_string()
}

/// Runs and returns stdout; the command must end with 0.
fn ok(args: &[&str]) -> String {
    let output = unshare(args);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    stdout(&output)
}

fn own(kind: &str) -> String {
    std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string()
}

fn refused(args: &[&str], sentence: &str) {
    let output = unshare(&[args, &["echo", "ran"]].concat());
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
    assert!(text.contains(sentence) && text.lines().count() == 1, "want {sentence:?} in {text:?}");
    assert!(stdout(&output).is_empty(), "the command ran");
}

/// A directory of this test, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("drydock-unshare-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

macro_rules! need_root {
    ($name:expr) => {
        if !is_root() {
            return skip($name, "needs root");
        }
    };
}

#[test]
fn pid_1_with_a_proc_of_its_own() {
    need_root!("pid_1_with_a_proc_of_its_own");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    for flags in [&["--pid", "--fork", "--mount-proc"][..], &["--pid", "--mount"]] {
        let text = ok(&[flags, &["--", "sh", "-c", "echo $$; ls -d /proc/[0-9]*"]].concat());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "1");
        assert!(lines.contains(&"/proc/1") && lines.len() <= 4, "{text}");
    }
    assert_eq!(std::fs::read_to_string("/proc/self/mountinfo").unwrap(), mounts);
    // unshare(1)'s own behaviour, when asked for: only the command's children are inside.
    let link = ok(&["--pid", "--no-fork", "--", "readlink", "/proc/self/ns/pid"]);
    assert_eq!(link, own("pid"));
}

#[test]
fn nested() {
    need_root!("nested");
    let text = ok(&[
        "-p",
        "-m",
        "--",
        CONTAINER,
        "unshare",
        "-p",
        "-m",
        "--",
        "sh",
        "-c",
        "echo $$; ls -d /proc/[0-9]*",
    ]);
    assert!(text.starts_with("1\n/proc/1"), "{text}");
}

#[test]
fn every_namespace_is_new() {
    need_root!("every_namespace_is_new");
    let script = "for k in user mnt pid net ipc uts cgroup time; do readlink /proc/self/ns/$k; done";
    let text = ok(&["-m", "-u", "-i", "-n", "-p", "-U", "-C", "-T", "-r", "--", "sh", "-c", script]);
    for (kind, link) in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"].iter().zip(text.lines())
    {
        assert!(link.starts_with(kind) && link != own(kind), "{kind} {link}");
    }
    assert_eq!(text.lines().count(), 8);
}

#[test]
fn hostname_and_ipc_stay_inside() {
    need_root!("hostname_and_ipc_stay_inside");
    let before = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(ok(&["--hostname", "ship-1", "cat", "/proc/sys/kernel/hostname"]), "ship-1");
    ok(&["--uts", "sh", "-c", "echo inside > /proc/sys/kernel/hostname"]);
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), before);
    // One line is the heading.
    assert_eq!(ok(&["--ipc", "cat", "/proc/sysvipc/shm"]).lines().count(), 1);
}

#[test]
fn nobody_until_mapped() {
    need_root!("nobody_until_mapped");
    let ids = ["sh", "-c", "id -u; id -g"];
    assert_eq!(ok(&[&["--user", "--"], &ids[..]].concat()), "65534\n65534");
    assert_eq!(ok(&[&["--user", "-r", "--"], &ids[..]].concat()), "0\n0");
    assert_eq!(ok(&[&["-c", "--"], &ids[..]].concat()), "0\n0");
    assert_eq!(ok(&[&["--map-user=7", "--map-group=8", "--"], &ids[..]].concat()), "7\n8");
    let map = ok(&[
        "--map-users",
        "0:100000:65536",
        "--map-groups=0:200000:10",
        "sh",
        "-c",
        "cat /proc/self/uid_map /proc/self/gid_map; id -u; id -g",
    ]);
    let words: Vec<&str> = map.split_whitespace().collect();
    assert_eq!(words, ["0", "100000", "65536", "0", "200000", "10", "0", "0"]);
}

#[test]
fn an_unprivileged_user_becomes_root_inside() {
    let name = "an_unprivileged_user_becomes_root_inside";
    if !is_root() || which("setpriv").is_none() {
        return skip(name, "needs root and setpriv(1)");
    }
    let script = "id -u; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups; echo $$; hostname x && hostname";
    for flags in [&["-r", "-p", "-m", "-u"][..], &["-r", "-u", "--no-fork"]] {
        let output = words(&NOBODY, &[flags, &["--", "sh", "-c", script]].concat()).output().unwrap();
        if !output.status.success() && stderr(&output).contains("EPERM") {
            return skip(name, &stderr(&output));
        }
        assert!(output.status.success(), "{}", stderr(&output));
        let text = stdout(&output);
        let found: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(found[..8], ["0", "0", "65534", "1", "0", "65534", "1", "deny"], "{text}");
        assert_eq!(found[9], "x");
    }
    // A time namespace inside it, which its exec enters.
    let output =
        words(&NOBODY, &["-r", "--time", "--boottime", "86400", "cat", "/proc/uptime"]).output().unwrap();
    assert!(uptime(&stdout(&output)) > host_uptime() + 86000.0, "{}", stderr(&output));
    // Ranges need a grant, and without new namespaces of its own it needs root: both are said.
    let output = words(&NOBODY, &["--map-users", "0:100000:65536", "echo", "ran"]).output().unwrap();
    assert!(!output.status.success() && stdout(&output).is_empty(), "{}", stderr(&output));
    assert!(["/etc/subuid", "newuidmap"].iter().any(|w| stderr(&output).contains(w)), "{}", stderr(&output));
    let output = words(&NOBODY, &["--net", "echo", "ran"]).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(stderr(&output).contains("--user -r"), "{}", stderr(&output));
}

#[test]
fn the_parent_writes_the_map() {
    let name = "the_parent_writes_the_map";
    if !is_root() || which("strace").is_none() {
        return skip(name, "needs root and strace(1)");
    }
    let scratch = Scratch::new("strace");
    let log = scratch.0.join("log");
    let trace = ["strace", "-f", "-e", "trace=openat,clone3", "-o", log.to_str().unwrap()];
    let output = words(&trace, &["-U", "-r", "true"]).output().unwrap();
    if !output.status.success() {
        return skip(name, &stderr(&output));
    }
    let log = std::fs::read_to_string(&log).unwrap();
    let writer = log.lines().find(|l| l.contains("/uid_map\"")).unwrap().split(' ').next().unwrap();
    let cloner = log.lines().find(|l| l.contains("CLONE_NEWUSER")).unwrap().split(' ').next().unwrap();
    assert_eq!(writer, cloner, "{log}");
}

fn uptime(text: &str) -> f64 {
    text.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0.0)
}

fn host_uptime() -> f64 {
    uptime(&std::fs::read_to_string("/proc/uptime").unwrap())
}

#[test]
fn clocks() {
    need_root!("clocks");
    for flags in [&["--time"][..], &["--time", "--pid"], &["--time", "-U", "-r"], &["--time", "--no-fork"]] {
        let inside = uptime(&ok(&[flags, &["--boottime", "86400", "--", "cat", "/proc/uptime"]].concat()));
        assert!((inside - host_uptime() - 86400.0).abs() < 60.0, "{flags:?} {inside}");
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let date: u64 = ok(&["--time", "--boottime", "86400", "date", "+%s"]).parse().unwrap();
    assert!(date.abs_diff(now) < 60);
}

#[test]
fn a_network_namespace_that_stays() {
    need_root!("a_network_namespace_that_stays");
    struct Pinned(PathBuf);
    impl Drop for Pinned {
        fn drop(&mut self) {
            let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
            let _ = std::fs::remove_file(&self.0);
        }
    }
    let name = format!("drydock-test-{}", std::process::id());
    let pinned = Pinned(Path::new("/run/netns").join(&name));
    let option = format!("--net={}", pinned.0.display());
    let inside = ok(&[&option, "readlink", "/proc/self/ns/net"]);
    assert_ne!(inside, own("net"));
    use std::os::unix::fs::MetadataExt;
    let ino = std::fs::metadata(&pinned.0).unwrap().ino();
    assert_eq!(inside, format!("net:[{ino}]"));
    if which("ip").is_some() {
        let output = Command::new("ip")
            .args(["netns", "exec", &name, "readlink", "/proc/self/ns/net"])
            .output()
            .unwrap();
        assert_eq!(stdout(&output), inside, "{}", stderr(&output));
    }
    // A second one must not be stacked on it.
    refused(&[&option], "holds a net namespace already");
    assert_eq!(std::fs::metadata(&pinned.0).unwrap().ino(), ino);
}

#[test]
fn a_failure_leaves_no_file() {
    need_root!("a_failure_leaves_no_file");
    let scratch = Scratch::new("pins");
    let file = scratch.0.join("net");
    for flags in [&["--fork"][..], &["--pid", "--mount"], &["-U", "-r"]] {
        let option = format!("--net={}", file.display());
        let output = unshare(&[flags, &[&option, "--wd", "/no/such/dir", "true"]].concat());
        assert_eq!(output.status.code(), Some(125), "{}", stderr(&output));
        assert!(!file.exists(), "{flags:?}");
    }
    std::fs::write(&file, "data").unwrap();
    refused(&[&format!("--net={}", file.display())], "is not empty");
    refused(&["--no-fork", "--net=/no/such/file"], "without --no-fork");
}

/// Runs a script in a throw-away mount namespace, with `$C` for `container unshare` and two pipes in `$D`.
fn scripted(name: &str, script: &str) -> Option<String> {
    if !is_root() || which("unshare").is_none() {
        skip(name, "needs root and unshare(1)");
        return None;
    }
    let scratch = Scratch::new(name);
    let head =
        format!("set -e; D={}; C='{CONTAINER} unshare'; mkdir $D/m; mkfifo $D/a $D/b\n", scratch.0.display());
    let output = Command::new("unshare")
        .args([
            "--mount",
            "--propagation",
            "private",
            "--",
            "timeout",
            "30",
            "bash",
            "-c",
            &format!("{head}{script}"),
        ])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    Some(stdout(&output))
}

#[test]
fn propagation() {
    // A marker is mounted on each side; what the other sees is told by mount_namespaces(7).
    let markers = |how: &str, base: &str| {
        let script = format!(
            "mount -t tmpfs base $D/m; mount --make-{base} $D/m; mkdir $D/m/in $D/m/out
             seen() {{ grep -q \" $1 \" /proc/self/mountinfo && echo yes || echo no; }}; export -f seen
             export D; $C --mount --propagation {how} -- bash -c 'mount -t tmpfs in $D/m/in; echo up > $D/a; read x < $D/b; seen $D/m/out' &
             read x < $D/a; seen $D/m/in; mount -t tmpfs out $D/m/out; echo go > $D/b; wait $!"
        );
        scripted(&format!("propagation-{how}-{base}"), &script).map(|text| text.replace('\n', " "))
    };
    for (how, base, want) in [
        ("private", "shared", "no no"),
        ("slave", "shared", "no yes"),
        ("shared", "shared", "yes yes"),
        ("unchanged", "shared", "yes yes"),
        ("unchanged", "private", "no no"),
        ("shared", "private", "no no"),
    ] {
        let Some(found) = markers(how, base) else { return };
        assert_eq!(found, want, "{how} on {base}");
    }
}

#[test]
fn proc_never_appears_outside() {
    let script = "mount --make-rshared /; count() { grep -c ' /proc ' /proc/self/mountinfo; }; before=$(count); export D
        $C --pid --mount --propagation shared -- bash -c 'echo up > $D/a; read x < $D/b; echo $$' &
        read x < $D/a; echo $before $(count); echo go > $D/b; wait $!; mount --make-rprivate /";
    let Some(text) = scripted("proc", script) else { return };
    let counts: Vec<&str> = text.split_whitespace().collect();
    assert_eq!((counts[0], counts[2]), (counts[1], "1"), "{text}");
}

#[test]
fn exit_codes() {
    need_root!("exit_codes");
    for flags in [&["--pid"][..], &["--uts"], &["-U", "-r"]] {
        let code = |command: &[&str]| unshare(&[flags, &["--"], command].concat()).status.code();
        assert_eq!(code(&["sh", "-c", "exit 7"]), Some(7));
        assert_eq!(code(&["no-such-command"]), Some(127));
        assert_eq!(code(&["/etc/passwd"]), Some(126));
    }
    // In a child the signal becomes 128+n; without a fork the process is the command.
    assert_eq!(unshare(&["-U", "sh", "-c", "kill -TERM $$"]).status.code(), Some(143));
    assert_eq!(unshare(&["--fork", "sh", "-c", "kill -40 $$"]).status.code(), Some(168));
    let scratch = Scratch::new("root");
    let output = unshare(&["--root", scratch.0.to_str().unwrap(), "sh"]);
    assert_eq!(output.status.code(), Some(127));
    assert!(stderr(&output).contains("the new root"), "{}", stderr(&output));
}

#[test]
fn signals_and_the_life_of_the_child() {
    need_root!("signals_and_the_life_of_the_child");
    use nix::sys::signal::{Signal, kill};
    // PID 1 does not get SIGTERM unless it handles it: the default action is carried out for it.
    for (script, want) in
        [("echo up; exec sleep 100", 143), ("trap 'exit 5' TERM; echo up; sleep 100 & wait", 5)]
    {
        let mut child =
            words(&[], &["-p", "-m", "--", "sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        wait_for_word(&mut child);
        kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(want), "{script}");
    }
    // Killed, it takes the child with it; with --kill-child=none it does not.
    for (flags, survives) in
        [(&["-p"][..], false), (&["-U", "-r"], false), (&["-u", "--fork", "--kill-child=none"], true)]
    {
        let mut child = words(&[], &[flags, &["--", "sh", "-c", "echo up; exec sleep 100"]].concat())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        wait_for_word(&mut child);
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap();
        let inner: i32 = children.trim().parse().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let pidfd = Path::new("/proc").join(inner.to_string());
        let since = Instant::now();
        let alive = || {
            let stat = std::fs::read_to_string(pidfd.join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
        };
        while alive() && !survives && since.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(alive(), survives, "{flags:?}");
        if survives {
            kill(nix::unistd::Pid::from_raw(inner), Signal::SIGKILL).unwrap();
        }
    }
}

fn wait_for_word(child: &mut std::process::Child) {
    let mut word = [0u8; 3];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut word).unwrap();
}

#[test]
fn nothing_of_the_caller_goes_in() {
    need_root!("nothing_of_the_caller_goes_in");
    let inheritable = if which("setpriv").is_some() { "setpriv --inh-caps +chown" } else { "" };
    let inner = "ls -l /proc/self/fd; grep -E \"^(CapInh|CapAmb|SigIgn|SigBlk)\" /proc/self/status";
    for flags in ["--uts", "--pid --mount", "--user -r"] {
        let script = format!(
            "trap '' HUP INT; exec 7</etc; exec {inheritable} {CONTAINER} unshare {flags} -- sh -c '{inner}'"
        );
        let output = Command::new("bash").args(["-c", &script]).stdin(Stdio::null()).output().unwrap();
        let text = stdout(&output);
        assert!(output.status.success(), "{}", stderr(&output));
        // 0, 1, 2, and the directory that ls reads.
        assert_eq!(text.lines().filter(|l| l.contains(" -> ")).count(), 4, "{flags} {text}");
        assert!(!text.contains("-> /etc"), "{text}");
        for name in ["CapInh", "CapAmb", "SigIgn", "SigBlk"] {
            assert!(text.contains(&format!("{name}:\t0000000000000000")), "{flags} {name} {text}");
        }
    }
}

#[test]
fn explains_who_sees_what() {
    need_root!("explains_who_sees_what");
    let output = unshare(&["--pid", "--fork", "--explain", "--", "true"]);
    let text = stderr(&output);
    for word in ["CLONE_NEWPID", "parent PID", "child PID", "getpid() = 1, getppid() = 0"] {
        assert!(text.contains(word), "want {word} in {text}");
    }
    let output = unshare(&["--pid", "--explain=pid", "--", "sh", "-c", "echo $$"]);
    let text = stderr(&output);
    assert_eq!(stdout(&output), "1");
    let links: Vec<&str> =
        text.lines().filter_map(|l| l.split_once(" = pid:")?.1.split(' ').next()).collect();
    let [before, after, children] = links[..] else { panic!("{text}") };
    assert!(before == after && children != before && own("pid").ends_with(before), "{text}");
    assert!(text.contains("getpid() = 2, getppid() = 0"), "{text}");
}

#[test]
fn bad_requests() {
    refused(&["--no-such-flag"], "--no-such-flag");
    refused(&["--hostname", "a b"], "hostname");
    refused(&["--boottime", "5"], "needs a new time namespace");
    refused(&["--time", "--boottime", "9223372036854775807"], "out of range");
    refused(&["--keep-caps"], "needs a new user namespace");
    refused(&["--propagation", "sideways"], "slave");
    refused(&["--map-users", "0:0:0"], "maps no id");
    refused(&["--map-users", "x"], "INSIDE:OUTSIDE:COUNT");
    refused(&["--map-users", "0:1000:10", "--map-users", "5:5000:1"], "overlap inside");
    refused(&["--map-users", "0:1000:10", "--map-users", "50:1009:1"], "overlap outside");
    refused(&["--map-users", "0:4294967290:10"], "beyond the last id");
    refused(&["--user", "-S", "4294967295"], "not an id");
    refused(&["--pid", "--kill-child=NOPE"], "not a signal");
    refused(&["--explain=pid", "--user", "--pid"], "cannot be combined");
}

#[test]
fn ranges_from_subuid_flow_around_the_own_id() {
    if !Path::new("/etc/subuid").exists() || !Path::new("/etc/subgid").exists() {
        return skip("ranges_from_subuid_flow_around_the_own_id", "no /etc/subuid and /etc/subgid to cover");
    }
    let script =
        "echo root:300000:1000 > $D/sub; mount --bind $D/sub /etc/subuid; mount --bind $D/sub /etc/subgid
        $C -r --map-auto -- cat /proc/self/uid_map; $C --map-auto -- sh -c 'cat /proc/self/gid_map; id -u'";
    let Some(text) = scripted("auto", script) else { return };
    let found: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(found, ["0", "0", "1", "1", "300000", "1000", "0", "300000", "1000", "0"]);
}

#[test]
fn a_limit_of_the_kernel_is_named() {
    let name = "a_limit_of_the_kernel_is_named";
    if !is_root() || which("unshare").is_none() {
        return skip(name, "needs root and unshare(1)");
    }
    // The limits belong to a user namespace, so a new one may be spoiled.
    let script =
        format!("echo 0 > /proc/sys/user/max_net_namespaces && exec {CONTAINER} unshare --net -- echo ran");
    let output = Command::new("unshare")
        .args(["-U", "-r", "sh", "-c", &script])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(125), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("max_*_namespaces") && stdout(&output).is_empty(),
        "{}",
        stderr(&output)
    );
}

#[test]
fn pid_alone_has_a_proc_of_its_own() {
    need_root!("pid_alone_has_a_proc_of_its_own");
    let text = ok(&["--pid", "--", "sh", "-c", "ls -d /proc/[0-9]*; readlink /proc/self/ns/mnt"]);
    assert!(text.starts_with("/proc/1\n") && !text.contains(&own("mnt")), "{text}");
    assert_eq!(ok(&["--pid", "--no-mount-proc", "--", "readlink", "/proc/self/ns/mnt"]), own("mnt"));
}

#[test]
fn kept_namespaces_are_listed_and_removed() {
    need_root!("kept_namespaces_are_listed_and_removed");
    let scratch = Scratch::new("kept");
    // Mounts of this test's own: those of others are listed, too.
    let container = |args: &[&str]| Command::new(CONTAINER).args(args).stdin(Stdio::null()).output().unwrap();
    let path = |kind: &str| scratch.0.join(kind).display().to_string();
    for kind in ["user", "net", "uts", "ipc", "pid", "cgroup", "time"] {
        let option = format!("--{kind}={}", path(kind));
        ok(&[&option, "-r", "--", "true"]);
    }
    let listed = stdout(&container(&["ns", "list"]));
    let json: serde_json::Value =
        serde_json::from_slice(&container(&["ns", "list", "--json"]).stdout).unwrap();
    for kind in ["user", "net", "uts", "ipc", "pid", "cgroup", "time"] {
        let row = json.as_array().unwrap().iter().find(|row| row["path"] == path(kind).as_str()).unwrap();
        assert_eq!(row["type"], kind);
        assert!(listed.contains(&path(kind)) && listed.contains(&row["ns"].to_string()), "{listed}");
    }
    for bad in ["/etc/passwd", "/no/such/file", "/proc/self/ns/net", "no-such-name"] {
        let output = container(&["ns", "rm", &path("net"), bad]);
        assert_eq!(output.status.code(), Some(2), "{bad}: {}", stderr(&output));
        assert!(stdout(&container(&["ns", "list"])).contains(&path("net")), "nothing is removed then");
    }
    // By its name where it lies, too.
    let mut by_name = Command::new(CONTAINER);
    let output = by_name.args(["ns", "rm", "time"]).current_dir(&scratch.0).output().unwrap();
    assert!(output.status.success() && !Path::new(&path("time")).exists(), "{}", stderr(&output));
    for kind in ["user", "net", "uts", "ipc", "pid", "cgroup"] {
        assert!(container(&["ns", "rm", &path(kind)]).status.success());
        assert!(!Path::new(&path(kind)).exists());
    }
    assert!(!stdout(&container(&["ns", "list"])).contains(scratch.0.to_str().unwrap()));
}

#[test]
fn a_user_namespace_for_another_user() {
    need_root!("a_user_namespace_for_another_user");
    if which("nsenter").is_none() || which("setpriv").is_none() {
        return skip("a_user_namespace_for_another_user", "needs nsenter(1) and setpriv(1)");
    }
    let scratch = Scratch::new("owner");
    std::fs::set_permissions(&scratch.0, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let file = scratch.0.join("user").display().to_string();
    let option = format!("--user={file}");
    ok(&[
        &option,
        "--owner",
        "65534:65534",
        "--map-users",
        "0:65534:1",
        "--map-groups",
        "0:65534:1",
        "--",
        "true",
    ]);
    // Its owner may enter it; another user may not.
    let enter = |uid: &str| {
        let user = format!("--user={file}");
        let words = [
            "--reuid",
            uid,
            "--regid",
            uid,
            "--clear-groups",
            "nsenter",
            &user,
            "--preserve-credentials",
            "id",
            "-u",
        ];
        Command::new("setpriv").args(words).output().unwrap()
    };
    assert_eq!(stdout(&enter("65534")), "0");
    assert!(!enter("65533").status.success());
    assert_eq!(ok(&["--owner", "65534:65534", "-r", "--", "id", "-u"]), "0");
    refused(&["--owner", "5"], "UID:GID");
    assert!(Command::new(CONTAINER).args(["ns", "rm", &file]).status().unwrap().success());
}

#[test]
fn ranges_make_room_for_the_own_id() {
    need_root!("ranges_make_room_for_the_own_id");
    let maps = ["--map-users", "0:100000:10", "--map-groups", "0:100000:10"];
    let map =
        |own: &str| ok(&[&["--map-user", own], &maps[..], &["--", "cat", "/proc/self/uid_map"]].concat());
    let words = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(words(map("3")), "0 100000 3 3 0 1 4 100003 6");
    assert_eq!(words(map("nobody")), "0 100000 10 65534 0 1");
    // As unshare(1) took them first: the outside ids come first there.
    let old = ["--map-users=100000,0,10", "--map-groups", "100000,0,10", "--", "cat", "/proc/self/gid_map"];
    assert_eq!(words(ok(&old)), "0 100000 10");
    refused(&["--map-users", "1,2"], "INSIDE:OUTSIDE:COUNT");
    refused(&["--map-user", "no-such-user"], "no such user");
    let name = "ranges_make_room_for_the_own_id";
    if !Path::new("/etc/subuid").exists() || !Path::new("/etc/subgid").exists() {
        return skip(name, "no /etc/subuid and /etc/subgid to cover");
    }
    let script = "echo root:300000:1000 > $D/sub; mount --bind $D/sub /etc/subuid; mount --bind $D/sub /etc/subgid
        $C --map-subids --map-user 0 --map-group 0 -- cat /proc/self/uid_map; $C --map-users subids --map-groups subids -- cat /proc/self/gid_map";
    let Some(text) = scripted("subids", script) else { return };
    assert_eq!(words(text), "0 0 1 300000 300000 1000 300000 300000 1000");
}

#[test]
fn refusals_say_why_and_what_helps() {
    need_root!("refusals_say_why_and_what_helps");
    let ran = |before: &[&str], args: &[&str]| {
        let output = words(before, &[args, &["echo", "ran"]].concat()).output().unwrap();
        assert!(output.status.code() == Some(125) && stdout(&output).is_empty(), "{}", stderr(&output));
        stderr(&output)
    };
    if which("setpriv").is_none() || which("unshare").is_none() {
        return skip("refusals_say_why_and_what_helps", "needs setpriv(1) and unshare(1)");
    }
    assert!(ran(&NOBODY, &["--net"]).contains("run as root"));
    let text = ran(&NOBODY, &["--map-users", "0:100000:10", "--map-groups", "0:100000:10"]);
    assert!(text.contains("usermod --add-subuids") || text.contains("not installed"), "{text}");
    let script =
        format!("echo 0 > /proc/sys/user/max_user_namespaces; exec {CONTAINER} unshare -U -- echo ran");
    let output = Command::new("unshare").args(["-U", "-r", "sh", "-c", &script]).output().unwrap();
    assert!(stderr(&output).contains("sysctl -w user.max_user_namespaces"), "{}", stderr(&output));
    // In words: which ids there are.
    let text = ran(&[], &["--map-users", "0:100000:10", "--map-groups", "0:100000:10", "-S", "77"]);
    assert!(text.contains("inside 0 to 9 = host 100000 to 100009"), "{text}");
    // A filter around us, as an outer container has one.
    let scratch = Scratch::new("filter");
    // A copy: no container may execute the runtime itself.
    let program = scratch.0.join("program");
    std::fs::copy(CONTAINER, &program).unwrap();
    let inside = Command::new(CONTAINER)
        .args([
            "run",
            "--rm",
            "-v",
            &format!("{}:/container:ro", program.display()),
            "--",
            "/container",
            "unshare",
            "-U",
            "--",
            "echo",
            "ran",
        ])
        .env("DRYDOCK_ROOT", scratch.0.join("state"))
        .env("DRYDOCK_DATA", scratch.0.join("data"))
        .output()
        .unwrap();
    assert!(stderr(&inside).contains("seccomp") && stdout(&inside).is_empty(), "{}", stderr(&inside));
}

#[test]
fn help_and_version() {
    for flag in ["-V", "--version"] {
        assert!(stdout(&unshare(&[flag])).contains("version 0."), "{flag}");
    }
    assert!(stdout(&unshare(&["-h"])).contains("--map-root-user"));
}

#[test]
fn a_chroot_and_settings_that_refuse() {
    // What the kernel refuses in a chroot; and beside it what a made-up /proc/sys/kernel says.
    let script = "mkdir -p $D/root/proc; cp $P $D/root/container; mount -t proc proc $D/root/proc
        try() { local code=0; chroot $D/root /container unshare -U -- /container --version 2>&1 || code=$?; echo $code; }
        try; mount -t tmpfs none $D/root/proc/sys/kernel
        echo 1 > $D/root/proc/sys/kernel/apparmor_restrict_unprivileged_userns; try
        echo 0 > $D/root/proc/sys/kernel/unprivileged_userns_clone; try";
    let script = script.replace("$P", CONTAINER);
    let Some(text) = scripted("chroot", &script) else { return };
    let lines: Vec<&str> = text.lines().collect();
    let reasons = [
        "in a chroot",
        "apparmor_restrict_unprivileged_userns is 1",
        "kernel.unprivileged_userns_clone is 0",
    ];
    let fixes = ["rootfs enter", "profile with `userns,`", "sysctl -w kernel.unprivileged_userns_clone=1"];
    assert_eq!(lines.len(), 6, "{text}");
    for ((pair, reason), fix) in lines.chunks(2).zip(reasons).zip(fixes) {
        assert!(pair[0].contains(reason) && pair[0].contains(fix) && pair[1] == "125", "{reason}: {text}");
    }
}
