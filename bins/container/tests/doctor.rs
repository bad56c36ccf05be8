//! `container doctor` by what it says and what it leaves: on this machine, and where something is refused.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that cannot go on should stop

use drydock_core::sys::fd::keep_over_exec;
use drydock_core::sys::seccomp::{FLAG_NEW_LISTENER, Instruction, install};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

const CONTAINER: &str = env!("CARGO_BIN_EXE_container");
/// `NUMBER=ERRNO,…`: what [`exec_under_filter`] refuses; with [`HANG`] for an errno, what never returns.
const HANG: i32 = -1;
const DENY: &str = "DOCTOR_TEST_DENY";

fn skip(name: &str, reason: &str) {
    let _ = std::io::stderr().write_all(format!("SKIP {name}: {reason}\n").as_bytes());
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

macro_rules! need_root {
    ($name:expr) => {
        if !is_root() {
            return skip($name, "needs root");
        }
    };
}

/// State and data of this test, removed when dropped.
struct Place(PathBuf);

impl Place {
    fn new() -> Place {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("drydock-doctor-test-{}-{n}", std::process::id()));
        for dir in ["state", "data"] {
            std::fs::create_dir_all(path.join(dir)).unwrap();
        }
        Place(path)
    }

    /// Anybody may write here.
    fn open(self) -> Place {
        for dir in ["", "state", "data"] {
            let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
            std::fs::set_permissions(self.0.join(dir), open).unwrap();
        }
        self
    }

    fn command(&self, before: &[&str], args: &[&str]) -> Command {
        let words: Vec<&str> =
            before.iter().copied().chain([CONTAINER]).chain(args.iter().copied()).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).stdin(Stdio::null());
        command.env("DRYDOCK_ROOT", self.0.join("state")).env("DRYDOCK_DATA", self.0.join("data"));
        command
    }

    /// doctor's report and its exit code; `before`: words that run it.
    fn doctor(&self, before: &[&str]) -> (Value, i32) {
        report(&self.command(before, &["doctor", "--json"]).output().unwrap())
    }

    /// The same where a seccomp filter refuses calls.
    fn doctor_without(&self, deny: &[(i64, i32)]) -> (Value, i32) {
        report(&self.filtered(deny, &["doctor", "--json"]))
    }

    fn filtered(&self, deny: &[(i64, i32)], args: &[&str]) -> Output {
        let list: Vec<String> = deny.iter().map(|(call, errno)| format!("{call}={errno}")).collect();
        // The test program becomes container, under the filter: see exec_under_filter.
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "exec_under_filter", "--nocapture", "--test-threads=1"]);
        command.env(DENY, list.join(",")).env("DOCTOR_TEST_ARGS", args.join(" ")).stdin(Stdio::null());
        command.env("DRYDOCK_ROOT", self.0.join("state")).env("DRYDOCK_DATA", self.0.join("data"));
        command.output().unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn report(output: &Output) -> (Value, i32) {
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(errors, "", "{text}");
    // libtest's own first line stands before it when it ran under a filter.
    let json = text.find('{').map(|at| &text[at..]).unwrap_or_else(|| panic!("no JSON: {text}"));
    (serde_json::from_str(json).unwrap(), output.status.code().expect("an exit code"))
}

/// One probe of a report.
fn probe<'a>(report: &'a Value, id: &str) -> &'a Value {
    let probes = report["probes"].as_array().unwrap();
    probes.iter().find(|p| p["id"] == id).unwrap_or_else(|| panic!("no probe {id:?}"))
}

fn needed_and_missing(report: &Value) -> Vec<String> {
    let probes = report["probes"].as_array().unwrap();
    let bad = probes.iter().filter(|p| p["needed"] == true && p["status"] == "missing");
    bad.map(|p| format!("{}: {}", p["id"], p["detail"])).collect()
}

/// Not a test by itself: with the environment of [`Place::filtered`] it becomes container, under a filter.
#[test]
fn exec_under_filter() {
    let Ok(deny) = std::env::var(DENY) else { return };
    let at = |code: u16, jt: u8, jf: u8, k: u32| Instruction { code, jt, jf, k };
    let mut hang = false;
    let mut program = vec![at(0x20, 0, 0, 0)]; // the call's number
    for word in deny.split(',') {
        let (call, errno) = word.split_once('=').unwrap();
        program.push(at(0x15, 0, 1, call.parse().unwrap()));
        let errno: i32 = errno.parse().unwrap();
        hang |= errno == HANG;
        let action = if errno == HANG { 0x7fc0_0000 } else { 0x0005_0000 | errno.cast_unsigned() };
        program.push(at(0x06, 0, 0, action));
    }
    program.push(at(0x06, 0, 0, 0x7fff_0000));
    let listener = install(&program, if hang { FLAG_NEW_LISTENER } else { 0 }).unwrap();
    if let Some(fd) = &listener {
        // Open, and never read from.
        keep_over_exec(fd.as_raw_fd()).unwrap();
    }
    let args = std::env::var("DOCTOR_TEST_ARGS").unwrap();
    panic!("{}", Command::new(CONTAINER).args(args.split(' ')).env_remove(DENY).exec());
}

#[test]
fn every_probe_says_what_is_lost_and_what_helps() {
    let (report, code) = Place::new().doctor(&[]);
    let probes = report["probes"].as_array().unwrap();
    assert!(probes.len() >= 45, "{}", probes.len());
    let ids: BTreeSet<&str> = probes.iter().map(|p| p["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), probes.len(), "an id names one probe");
    for p in probes {
        let status = p["status"].as_str().unwrap();
        assert!(["ok", "degraded", "missing"].contains(&status), "{p}");
        for key in ["group", "what", "detail"] {
            assert!(p[key].is_string(), "{key} of {p}");
        }
        for key in ["lost", "fix"] {
            assert_eq!(p[key].as_str().is_some_and(|s| !s.is_empty()), status != "ok", "{key} of {p}");
        }
        assert!(p["needed"].is_boolean());
    }
    for key in ["summary", "kernel", "architecture", "mode"] {
        assert!(report[key].as_str().is_some_and(|s| !s.is_empty()), "{key}");
    }
    assert_eq!(report["works"], needed_and_missing(&report).is_empty());
    assert_eq!(code, i32::from(report["works"] == false));
}

#[test]
fn all_that_run_needs_works_here() {
    need_root!("all_that_run_needs_works_here");
    let (report, code) = Place::new().doctor(&[]);
    assert_eq!(needed_and_missing(&report), Vec::<String>::new());
    assert_eq!((code, &report["works"], &report["mode"]), (0, &Value::Bool(true), &Value::from("root")));
    for id in ["mnt namespace", "pivot_root", "overlay", "nftables", "seccomp", "user namespace", "devpts"] {
        assert_eq!(probe(&report, id)["status"], "ok", "{}", probe(&report, id));
    }
    let limit = if std::env::var_os("DRYDOCK_VM").is_some() { 20_000 } else { 2_000 };
    // A loaded machine is slow; what must never happen is a probe that waits for its time to be up.
    let took = report["milliseconds"].as_u64().unwrap();
    assert!(took < limit * 3, "{took} ms");
    let late =
        report["probes"].as_array().unwrap().iter().any(|p| p["detail"].to_string().contains("no answer"));
    assert!(!late, "{report}");
}

#[test]
fn the_limits_are_the_kernels() {
    need_root!("the_limits_are_the_kernels");
    let (report, _) = Place::new().doctor(&[]);
    let limits = probe(&report, "cgroup-limits");
    if limits["status"] == "missing" {
        return skip("the_limits_are_the_kernels", "no cgroup can be made here");
    }
    let detail = limits["detail"].as_str().unwrap();
    assert!(detail.contains("67108864") && detail.contains("=64"), "{detail}");
}

#[test]
fn text_is_a_table_without_colours() {
    let output = Place::new().command(&[], &["doctor"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!text.contains('\x1b'), "{text}");
    for heading in ["namespaces", "mounts", "cgroups", "network", "security"] {
        assert!(text.lines().any(|l| l == heading), "{heading} in {text}");
    }
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("container run "), "{last}");
    assert_eq!(last.contains("works here"), output.status.success());
}

/// Everything that a probe could leave.
fn traces() -> Vec<String> {
    let mut all: Vec<String> =
        std::fs::read_to_string("/proc/self/mountinfo").unwrap().lines().map(str::to_string).collect();
    let names = |dir: &str| {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|e| e.path().display().to_string()).collect::<Vec<_>>()
    };
    all.extend(names("/sys/class/net"));
    for hierarchy in names("/sys/fs/cgroup") {
        all.extend(names(&format!("{hierarchy}/drydock")).into_iter().filter(|n| n.contains("/doctor-")));
    }
    all.extend(names("/sys/fs/cgroup/drydock").into_iter().filter(|n| n.contains("/doctor-")));
    all.sort();
    all
}

#[test]
fn nothing_is_left() {
    let place = Place::new();
    // Other tests of this file have throw-away cgroups at the same time: their pids are not of this one's children.
    let ours = |lines: Vec<String>| lines.into_iter().filter(|l| !l.contains("/doctor-")).collect::<Vec<_>>();
    let forward = || std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap_or_default();
    let before = (ours(traces()), forward());
    place.doctor(&[]);
    assert_eq!((ours(traces()), forward()), before);
    let left = |dir: &str| std::fs::read_dir(place.0.join(dir)).unwrap().count();
    assert_eq!((left("state"), left("data")), (0, 0));
}

#[test]
fn what_a_killed_doctor_left_goes_with_the_next() {
    need_root!("what_a_killed_doctor_left_goes_with_the_next");
    let place = Place::new();
    for delay in [5u64, 20, 60, 120, 200, 300] {
        let mut child = place.command(&[], &["doctor", "--json"]).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(delay));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // Probes die with their parent, but not before the kernel has told them.
    std::thread::sleep(std::time::Duration::from_millis(300));
    place.doctor(&[]);
    let left: Vec<_> = std::fs::read_dir(place.0.join("data")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_refused_call_that_run_needs_is_named_and_exits_1() {
    need_root!("a_refused_call_that_run_needs_is_named_and_exits_1");
    let eperm = nix::libc::EPERM;
    let cases: [(&str, i64, &[&str]); 5] = [
        ("mount", nix::libc::SYS_mount, &["tmpfs", "proc", "overlay"]),
        ("pivot_root", nix::libc::SYS_pivot_root, &["pivot_root"]),
        ("clone3", nix::libc::SYS_clone3, &["mnt namespace", "new-container"]),
        ("pidfd_open", nix::libc::SYS_pidfd_open, &["pidfd"]),
        ("open_tree", nix::libc::SYS_open_tree, &["open_tree"]),
    ];
    for (name, call, ids) in cases {
        let (report, code) = Place::new().doctor_without(&[(call, eperm)]);
        assert_eq!((code, &report["works"]), (1, &Value::Bool(false)), "{name}");
        assert!(report["summary"].as_str().unwrap().contains("cannot work"), "{}", report["summary"]);
        for id in ids {
            let p = probe(&report, id);
            let detail = p["detail"].as_str().unwrap();
            assert_eq!(p["status"], "missing", "{name}: {p}");
            assert!(detail.contains(name) && detail.contains("EPERM"), "{name}: {p}");
            assert!(p["fix"].as_str().unwrap().contains("seccomp"), "{name}: {p}");
        }
    }
}

#[test]
fn a_call_that_never_returns_is_bounded() {
    need_root!("a_call_that_never_returns_is_bounded");
    let started = std::time::Instant::now();
    let (report, code) = Place::new().doctor_without(&[(nix::libc::SYS_pivot_root, HANG)]);
    let hung = probe(&report, "pivot_root");
    assert_eq!((code, &hung["status"]), (1, &Value::from("missing")), "{hung}");
    assert!(hung["detail"].as_str().unwrap().contains("no answer"), "{hung}");
    let limit = if std::env::var_os("DRYDOCK_VM").is_some() { 100 } else { 15 };
    assert!(started.elapsed().as_secs() < limit, "{:?}", started.elapsed());
}

#[test]
fn the_sysctl_behind_a_refused_user_namespace_is_named() {
    let place = Place::new().open();
    // The limit belongs to the user namespace, so this one is thrown away.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";
    let before = ["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh"];
    if !Command::new("unshare").args(["--user", "--map-root-user", "true"]).status().unwrap().success() {
        return skip("the_sysctl_behind_a_refused_user_namespace_is_named", "no user namespaces");
    }
    let (report, _) = place.doctor(&before);
    let own = probe(&report, "user namespace");
    assert_eq!(own["status"], "missing", "{own}");
    assert!(own["detail"].as_str().unwrap().contains("max_user_namespaces is 0"), "{own}");
    assert!(own["fix"].as_str().unwrap().starts_with("sysctl -w user.max_user_namespaces"), "{own}");
}

#[test]
fn without_proc_or_cgroups_that_is_named() {
    need_root!("without_proc_or_cgroups_that_is_named");
    let place = Place::new();
    let hidden = |script: &str| place.doctor(&["unshare", "--mount", "sh", "-c", script, "sh"]);
    let (report, code) = hidden("mount -t tmpfs none /proc && exec \"$@\"");
    assert_eq!((code, &probe(&report, "procfs")["status"]), (1, &Value::from("missing")));
    let (report, code) = hidden("umount -R -l /sys/fs/cgroup && exec \"$@\"");
    let limits = probe(&report, "cgroup-limits");
    assert_eq!((code, &limits["status"]), (0, &Value::from("missing")), "{limits}");
    assert!(limits["detail"].as_str().unwrap().contains("no cgroup file system"), "{limits}");
}

#[test]
fn a_missing_call_with_another_way_degrades_only_its_own() {
    need_root!("a_missing_call_with_another_way_degrades_only_its_own");
    let cases = [
        ("openat2", nix::libc::SYS_openat2, "openat2", "degraded"),
        ("mount_setattr", nix::libc::SYS_mount_setattr, "mount_setattr", "degraded"),
        ("clone3", nix::libc::SYS_clone3, "clone3", "degraded"),
        ("keyctl", nix::libc::SYS_keyctl, "keyring", "degraded"),
        ("landlock", nix::libc::SYS_landlock_create_ruleset, "landlock", "missing"),
    ];
    for (name, call, id, status) in cases {
        let (report, code) = Place::new().doctor_without(&[(call, nix::libc::ENOSYS)]);
        assert_eq!(probe(&report, id)["status"], status, "{name}: {}", probe(&report, id));
        assert_eq!(needed_and_missing(&report), Vec::<String>::new(), "{name}");
        assert_eq!(code, 0, "{name}");
    }
}

#[test]
fn what_doctor_says_is_what_run_does() {
    need_root!("what_doctor_says_is_what_run_does");
    let place = Place::new();
    let root = place.0.join("root");
    std::fs::create_dir(&root).unwrap();
    // An empty root is refused before any call, so a file stands in it; what is run need not exist to see what is refused.
    std::fs::write(root.join("file"), "").unwrap();
    let rootfs = root.display().to_string();
    let run = ["run", "--rm", "--net", "none", "--rootfs", &rootfs, "--", "/nothing"];
    for (call, errno, works) in [
        (nix::libc::SYS_openat2, nix::libc::ENOSYS, true),
        (nix::libc::SYS_mount_setattr, nix::libc::ENOSYS, true),
        (nix::libc::SYS_mount, nix::libc::EPERM, false),
        (nix::libc::SYS_pivot_root, nix::libc::EPERM, false),
        (nix::libc::SYS_clone3, nix::libc::EPERM, false),
    ] {
        let output = place.filtered(&[(call, errno)], &run);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        // 127: everything was set up, and the command was not found.
        assert_eq!(output.status.code(), Some(if works { 127 } else { 125 }), "call {call}: {text}");
        assert_eq!(place.doctor_without(&[(call, errno)]).1, i32::from(!works), "call {call}");
    }
}

#[test]
fn an_ordinary_user_is_told_what_rootless_can_do() {
    need_root!("an_ordinary_user_is_told_what_rootless_can_do");
    let place = Place::new().open();
    let (report, code) = place.doctor(&["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    assert_eq!(report["mode"], "rootless");
    assert_eq!(probe(&report, "veth")["needed"], false);
    assert_eq!(probe(&report, "user namespace")["needed"], true);
    assert_eq!(code, i32::from(!needed_and_missing(&report).is_empty()));
    let limits = probe(&report, "cgroup-limits");
    assert!(
        limits["status"] != "missing" || limits["fix"].as_str().unwrap().contains("Delegate"),
        "{limits}"
    );
}

#[test]
fn a_user_namespace_without_maps_is_named() {
    let place = Place::new().open();
    let (report, code) = place.doctor(&["unshare", "--user"]);
    let own = probe(&report, "user namespace");
    assert_eq!((code, &own["status"]), (1, &Value::from("missing")), "{own}");
    assert!(own["detail"].as_str().unwrap().contains("no id"), "{own}");
    assert!(own["fix"].as_str().unwrap().contains("map"), "{own}");
}

#[test]
fn without_an_own_capability_the_capability_is_named() {
    need_root!("without_an_own_capability_the_capability_is_named");
    let (report, code) =
        Place::new().doctor(&["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-all"]);
    let caps = probe(&report, "capabilities");
    assert_eq!((code, &caps["status"]), (1, &Value::from("missing")), "{caps}");
    assert!(caps["detail"].as_str().unwrap().contains("CAP_SYS_ADMIN"), "{caps}");
}

#[test]
fn few_descriptors_are_a_finding_not_a_crash() {
    let output = Place::new().command(&["prlimit", "--nofile=4:4"], &["doctor", "--json"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(matches!(output.status.code(), Some(0 | 1)), "{:?}: {text}", output.status);
    let (report, code) = report(&output);
    assert!(code == 0 || report.to_string().contains("EMFILE"), "{report}");
}

#[test]
fn bad_input_is_one_sentence() {
    for args in [&["doctor", "--no-such"][..], &["doctor", "more"], &["--root", "relative", "doctor"]] {
        let output = Command::new(CONTAINER).args(args).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), text.lines().count()), (Some(2), 1), "{args:?}: {text}");
        assert!(output.stdout.is_empty());
    }
}
