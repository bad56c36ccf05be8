//! Plans applied to real processes: what the kernel shows afterwards.
//!
//! The harness has threads, so each case runs in this binary started again with `CHILD_REQUEST` set: the child applies
//! the plan and execs the command, whose output the test reads.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests fail as tests do

use drydock_core::Ctx;
use drydock_security::{CapSet, Capabilities, ExecCpuAffinity, Request, Rlimit, Seccomp, User};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};

const REQUEST: &str = "DRYDOCK_TEST_REQUEST";
const COMMAND: &str = "DRYDOCK_TEST_COMMAND";

/// Not a test of its own: what the other tests start.
#[test]
fn child() {
    let Ok(json) = std::env::var(REQUEST) else { return };
    let command: Vec<String> = serde_json::from_str(&std::env::var(COMMAND).unwrap()).unwrap();
    let request: Request = serde_json::from_str(&json).unwrap();
    let plan = request.validate().unwrap();
    worst_caller();
    drydock_security::reset_inherited().unwrap();
    match plan.apply(&Ctx::silent()) {
        Ok(report) => {
            for warning in report.warnings() {
                let _ = writeln!(std::io::stderr(), "warning: {warning}");
            }
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "apply: {error}");
            std::process::exit(100);
        }
    }
    let error = Command::new(&command[0]).args(&command[1..]).env_remove(REQUEST).env_remove(COMMAND).exec();
    let _ = writeln!(std::io::stderr(), "exec: {error}");
    std::process::exit(101);
}

/// State that a careless caller leaves behind, and that must not reach the command.
fn worst_caller() {
    use nix::sys::signal::{SigSet, Signal};
    let _ = rustix::thread::set_thread_groups(&[4, 24].map(rustix::process::Gid::from_raw));
    if let Ok(now) = rustix::thread::capabilities(None) {
        let sets = rustix::thread::CapabilitySets { inheritable: now.permitted, ..now };
        let _ = rustix::thread::set_capabilities(None, sets);
        for number in 0..41 {
            let one = rustix::thread::CapabilitySet::from_bits_retain(1 << number);
            let _ = rustix::thread::configure_capability_in_ambient_set(one, true);
        }
    }
    for signal in [Signal::SIGCHLD, Signal::SIGUSR1, Signal::SIGPIPE] {
        drydock_core::sys::signal::ignore(signal as i32);
    }
    SigSet::all().thread_set_mask().unwrap();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o777));
}

fn skip(test: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "SKIP {test}: {reason}");
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn there(program: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|dir| dir.join(program).exists())
}

fn child_command(request: &Request, command: &[&str], prefix: &[&str]) -> Command {
    let exe = std::env::current_exe().unwrap();
    let args = ["child", "--exact", "--test-threads=1", "--nocapture", "--quiet"];
    let mut child = match prefix.split_first() {
        Some((first, rest)) => {
            let mut child = Command::new(first);
            child.args(rest).arg(exe);
            child
        }
        None => Command::new(exe),
    };
    child.args(args).stdin(Stdio::null());
    child.env(REQUEST, serde_json::to_string(request).unwrap());
    child.env(COMMAND, serde_json::to_string(command).unwrap());
    child
}

fn run(request: &Request, command: &[&str]) -> Output {
    child_command(request, command, &[]).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A field of /proc/self/status of the exec'd command.
fn status(request: &Request) -> impl Fn(&str) -> String + use<> {
    let output = run(request, &["cat", "/proc/self/status"]);
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    move |field: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(&format!("{field}:")));
        line.unwrap_or_else(|| panic!("{field} in {text}")).split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

fn hex(set: CapSet) -> String {
    format!("{:016x}", set.0)
}

fn hardened() -> Request {
    Request {
        capabilities: Some(Capabilities::uniform(CapSet::DEFAULT)),
        no_new_privs: true,
        seccomp: Seccomp::Default,
        user: Some(User { umask: Some(0o027), ..User::default() }),
        ..Request::default()
    }
}

fn with_user(uid: u32, gid: u32, groups: &[u32]) -> Option<User> {
    Some(User { uid, gid, additional_gids: groups.to_vec(), umask: None })
}

#[test]
fn root_gets_exactly_the_eight() {
    if !is_root() {
        return skip("root_gets_exactly_the_eight", "not root");
    }
    let field = status(&hardened());
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        assert_eq!(field(set), hex(CapSet::DEFAULT), "{set}");
    }
    assert_eq!((field("CapInh"), field("CapAmb")), (hex(CapSet::EMPTY), hex(CapSet::EMPTY)));
    assert_eq!(
        (field("NoNewPrivs"), field("Seccomp"), field("Seccomp_filters")),
        ("1".into(), "2".into(), "1".into())
    );
    assert_eq!((field("Groups"), field("Umask")), (String::new(), "0027".into()));
    assert_eq!((field("SigBlk"), field("SigIgn")), ("0".repeat(16), "0".repeat(16)));
}

#[test]
fn a_user_has_none_and_exactly_its_groups() {
    if !is_root() {
        return skip("a_user_has_none_and_exactly_its_groups", "not root");
    }
    // What a caller left behind is gone even where nothing is asked for instead.
    assert_eq!(status(&Request { user: with_user(0, 0, &[]), ..Request::default() })("Umask"), "0022");
    let field = status(&Request { user: with_user(1234, 1235, &[7, 8, 4_294_967_294]), ..hardened() });
    assert_eq!(field("Uid"), "1234 1234 1234 1234");
    assert_eq!(field("Gid"), "1235 1235 1235 1235");
    assert_eq!(field("Groups"), "7 8 4294967294");
    assert_eq!((field("CapEff"), field("CapPrm")), (hex(CapSet::EMPTY), hex(CapSet::EMPTY)));
    assert_eq!((field("CapBnd"), field("CapInh")), (hex(CapSet::DEFAULT), hex(CapSet::EMPTY)));
}

#[test]
fn ambient_survives_exec_and_the_change_of_user() {
    if !is_root() {
        return skip("ambient_survives_exec_and_the_change_of_user", "not root");
    }
    let bind = CapSet::parse("NET_BIND_SERVICE").unwrap();
    let caps = Capabilities { inheritable: bind, ambient: bind, ..Capabilities::uniform(CapSet::DEFAULT) };
    for no_new_privs in [true, false] {
        let request = Request {
            capabilities: Some(caps),
            user: with_user(1000, 1000, &[]),
            no_new_privs,
            seccomp: Seccomp::Default,
            ..Request::default()
        };
        let field = status(&request);
        for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
            assert_eq!(field(set), hex(bind), "{set} {no_new_privs}");
        }
        assert_eq!((field("CapBnd"), field("Seccomp")), (hex(CapSet::DEFAULT), "2".into()));
    }
}

#[test]
fn without_no_new_privs_the_filter_comes_before_the_drop() {
    if !is_root() {
        return skip("without_no_new_privs_the_filter_comes_before_the_drop", "not root");
    }
    for user in [None, with_user(0, 0, &[]), with_user(1000, 1000, &[1])] {
        for capabilities in
            [Some(Capabilities::uniform(CapSet::DEFAULT)), Some(Capabilities::default()), None]
        {
            let request = Request { no_new_privs: false, user: user.clone(), capabilities, ..hardened() };
            let field = status(&request);
            assert_eq!((field("NoNewPrivs"), field("Seccomp")), ("0".into(), "2".into()), "{user:?}");
            if let Some(caps) = capabilities {
                assert_eq!(field("CapBnd"), hex(caps.bounding));
                let root = user.as_ref().is_none_or(|u| u.uid == 0);
                assert_eq!(field("CapEff"), hex(if root { caps.effective } else { CapSet::EMPTY }));
            }
        }
    }
}

#[test]
fn setuid_programs_give_nothing() {
    if !is_root() || !there("su") {
        return skip("setuid_programs_give_nothing", "needs root and su");
    }
    // A setuid copy of id, run by an ordinary user.
    let dir = std::env::temp_dir().join(format!("drydock-setuid-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let id = dir.join("id");
    std::fs::copy("/usr/bin/id", &id).unwrap();
    std::fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&id, std::os::unix::fs::PermissionsExt::from_mode(0o4755)).unwrap();
    let euid = |no_new_privs| {
        let request = Request { no_new_privs, user: with_user(1000, 1000, &[]), ..hardened() };
        text(&run(&request, &[id.to_str().unwrap(), "-u"]))
    };
    let (without, with) = (euid(false), euid(true));
    std::fs::remove_dir_all(&dir).unwrap();
    if !without.contains("\n0\n") {
        return skip("setuid_programs_give_nothing", "the temporary directory is nosuid");
    }
    assert!(with.contains("1000"), "{with}");
}

#[test]
fn limits_score_and_keyring() {
    if !is_root() {
        return skip("limits_score_and_keyring", "not root");
    }
    let limit = |name: &str, soft, hard| Rlimit { name: name.into(), soft, hard, best_effort: false };
    let name = format!("_ses.test-{}", std::process::id());
    let request = Request {
        rlimits: vec![
            limit("nofile", 100, 200),
            limit("RLIMIT_CORE", 0, 0),
            Rlimit { best_effort: true, ..limit("stack", u64::MAX, u64::MAX) },
            // More than the kernel gives anybody: lowered, because nobody asked for it.
            Rlimit { best_effort: true, ..limit("nproc", 77, u64::MAX) },
        ],
        oom_score_adj: Some(555),
        nice: Some(3),
        keyring: Some(name.clone()),
        ..hardened()
    };
    let files = ["cat", "/proc/self/limits", "/proc/self/oom_score_adj", "/proc/self/stat", "/proc/keys"];
    let output = text(&run(&request, &files));
    let row = |name: &str| {
        let line = output.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("{name}: {output}"));
        line.split_whitespace().map(str::to_string).collect::<Vec<_>>()
    };
    assert_eq!(row("Max open files")[3..5], ["100", "200"]);
    assert_eq!(row("Max core file size")[4..6], ["0", "0"]);
    assert_eq!(row("Max processes")[2], "77");
    assert!(output.lines().any(|l| l == "555"), "{output}");
    let stat = output.lines().find(|l| l.contains("(cat)")).unwrap();
    assert_eq!(stat.rsplit(") ").next().unwrap().split(' ').nth(16), Some("3"), "nice in {stat}");
    if std::path::Path::new("/proc/keys").exists() {
        assert!(output.contains(&name), "{output}");
        let other =
            text(&run(&Request { keyring: Some(format!("{name}-b")), ..hardened() }, &["cat", "/proc/keys"]));
        assert!(
            !other.contains(&format!("{name}:")),
            "another container sees the first one's keyring: {other}"
        );
    }
}

#[test]
fn refused_calls_fail_with_the_profiles_errno() {
    if !is_root() || !there("python3") {
        return skip("refused_calls_fail_with_the_profiles_errno", "needs root and python3");
    }
    let script = r#"
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
x86 = platform.machine() == "x86_64"
n = dict(ptrace=101, keyctl=250, socket=41, ioctl=16, clone=56, personality=135, unshare=272, mount=165) if x86 else \
    dict(ptrace=117, keyctl=219, socket=198, ioctl=29, clone=220, personality=92, unshare=97, mount=40)
def call(name, nr, *args):
    ctypes.set_errno(0)
    r = libc.syscall(ctypes.c_long(nr), *[ctypes.c_ulong(a) for a in args])
    print(name, 0 if r >= 0 else ctypes.get_errno(), flush=True)
call("ptrace", n["ptrace"], 0, 0, 0, 0)
call("keyctl", n["keyctl"], 0, 0, 0)
call("io_uring", 425, 1, 0)
call("bpf", 321 if x86 else 280, 0, 0, 0)
call("clone3", 435, 0, 0)
call("future", 9999)
call("alg", n["socket"], 38, 5, 0)
call("packet", n["socket"], 17, 3, 0)
call("vsock", n["socket"], 40, 1, 0)
call("audit", n["socket"], 16, 3, 9)
call("unix", n["socket"], 1, 1, 0)
call("inet", n["socket"], 2, 1, 0)
call("route", n["socket"], 16, 3, 0)
call("tiocsti", n["ioctl"], 0, 0x5412, 0)
call("tiocsti_upper", n["ioctl"], 0, 0x5412 | 1 << 32, 0)
call("tiocgwinsz", n["ioctl"], 0, 0x5413, 0)
call("clone_newuser", n["clone"], 0x10000011, 0, 0, 0, 0)
call("unshare_files", n["unshare"], 0x400)
call("unshare_user", n["unshare"], 0x10000000)
call("mount", n["mount"], 0, 0, 0, 0, 0)
call("personality_norandom", n["personality"], 0x40000)
call("personality_get", n["personality"], 0xffffffff)
if x86: call("x32_getpid", 39 | 0x40000000)
"#;
    let output = text(&run(&hardened(), &["python3", "-c", script]));
    let errno = |name: &str| {
        let line = output.lines().find_map(|l| l.strip_prefix(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("{name}: {output}")).trim().parse::<i32>().unwrap()
    };
    for name in [
        "ptrace",
        "keyctl",
        "io_uring",
        "bpf",
        "alg",
        "packet",
        "vsock",
        "tiocsti",
        "tiocsti_upper",
        "clone_newuser",
        "unshare_user",
        "mount",
        "personality_norandom",
    ] {
        assert_eq!(errno(name), 1, "{name}");
    }
    assert_eq!((errno("clone3"), errno("future"), errno("audit")), (38, 38, 93));
    for name in ["unix", "inet", "route", "unshare_files", "personality_get"] {
        assert_eq!(errno(name), 0, "{name}");
    }
    assert_ne!(errno("tiocgwinsz"), 1, "an ordinary terminal request reaches the kernel");
    if cfg!(target_arch = "x86_64") {
        assert_eq!(errno("x32_getpid"), 38);
    }
}

#[test]
fn profiles_from_files_answer_their_errno_and_can_kill() {
    if !is_root() {
        return skip("profiles_from_files_answer_their_errno_and_can_kill", "not root");
    }
    let path = std::env::temp_dir().join(format!("drydock-profile-{}.json", std::process::id()));
    let run_with = |action: &str| {
        let json = format!(
            r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{"names":["mkdir","mkdirat"],{action}}}]}}"#
        );
        std::fs::write(&path, json).unwrap();
        run(&Request { seccomp: Seccomp::Profile(path.clone()), ..hardened() }, &["mkdir", "/drydock-never"])
    };
    let refused = run_with(r#""action":"SCMP_ACT_ERRNO","errnoRet":122"#);
    let killed = run_with(r#""action":"SCMP_ACT_KILL_PROCESS""#);
    std::fs::remove_file(&path).unwrap();
    assert!(text(&refused).contains("Disk quota exceeded"), "{}", text(&refused));
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&killed.status), Some(nix::libc::SIGSYS));
    assert!(!std::path::Path::new("/drydock-never").exists());
}

#[test]
fn ordinary_programs_work() {
    if !is_root() {
        return skip("ordinary_programs_work", "not root");
    }
    let request = Request {
        capabilities: Some(Capabilities::from_add_drop(CapSet::DEFAULT, &["NET_RAW".into()], &[]).unwrap()),
        ..hardened()
    };
    let place = std::env::temp_dir().join(format!("drydock-copy-{}", std::process::id()));
    let copy = place.to_string_lossy().into_owned();
    let commands: &[&[&str]] = &[
        &["bash", "-c", "set -e; for i in 1 2 3; do (echo $i) | cat > /dev/null; done; wait; echo $((1+1))"],
        &["sh", "-c", "ls -la / && cat /etc/hostname; id; hostname; date; df >/dev/null 2>&1; true"],
        &["ls", "-la", "--color=always", "/proc/self"],
        // Never onto /dev/null: the mode would go there, too.
        &["cp", "--preserve=mode", "/etc/hostname", &copy],
        &["ps", "aux"],
        &["ip", "addr"],
        &["ip", "route"],
        &["ping", "-c", "1", "-W", "1", "127.0.0.1"],
        &[
            "python3",
            "-c",
            "import threading, subprocess, socket, asyncio, ssl, multiprocessing as m\n\
            t=threading.Thread(target=print); t.start(); t.join()\n\
            print(subprocess.check_output(['echo','hi']))\n\
            asyncio.run(asyncio.sleep(0)); p=m.Process(target=print); p.start(); p.join(); assert p.exitcode==0",
        ],
        &["dpkg", "-l"],
        &["apt-get", "--simulate", "autoremove"],
        &["apt-cache", "policy"],
        &["perl", "-e", "fork // die; print `echo x`"],
        &["busybox", "sh", "-c", "ls / | wc -l; ps; sleep 0; nproc"],
        &["tar", "cf", "/dev/null", "/etc/hostname"],
        &["find", "/etc", "-maxdepth", "1"],
        &["git", "--version"],
        &["gcc", "-E", "-x", "c", "/dev/null"],
        &["awk", "BEGIN { \"echo ok\" | getline x; print x }"],
        &["timeout", "5", "true"],
        &["nice", "-n", "5", "true"],
        &["setsid", "-w", "true"],
        &["flock", "/", "true"],
        &["su", "root", "-s", "/bin/sh", "-c", "id"],
        &["chpasswd", "--help"],
        &["top", "-b", "-n", "1"],
        &["ss", "-tln"],
        &["openssl", "rand", "-hex", "8"],
        &["curl", "--version"],
        &["runuser", "-u", "nobody", "id"],
    ];
    for command in commands {
        if !there(command[0]) {
            skip("ordinary_programs_work", &format!("no {}", command[0]));
            continue;
        }
        let plain = Command::new(command[0]).args(&command[1..]).stdin(Stdio::null()).output().unwrap();
        let filtered = run(&request, command);
        assert_eq!(filtered.status.code(), plain.status.code(), "{command:?}: {}", text(&filtered));
    }
    let _ = std::fs::remove_file(&place);
}

#[test]
fn a_user_namespace_that_denies_setgroups() {
    if !there("unshare") {
        return skip("a_user_namespace_that_denies_setgroups", "no unshare");
    }
    let request = |groups: &[u32]| Request { user: with_user(0, 0, groups), ..hardened() };
    let run = |request: &Request| {
        child_command(request, &["cat", "/proc/self/status"], &["unshare", "--user", "--map-root-user"])
            .output()
            .unwrap()
    };
    let output = run(&request(&[]));
    if text(&output).contains("unshare failed") {
        return skip("a_user_namespace_that_denies_setgroups", "user namespaces are not allowed here");
    }
    let shown = text(&output);
    assert!(
        output.status.success() && shown.contains(&format!("CapEff:\t{}", hex(CapSet::DEFAULT))),
        "{shown}"
    );
    let output = run(&request(&[5]));
    assert!(
        output.status.success() && text(&output).contains("supplementary groups are left out"),
        "{}",
        text(&output)
    );
    let output = run(&Request { user: with_user(5, 5, &[]), ..hardened() });
    assert!(text(&output).contains("not mapped in this user namespace"), "{}", text(&output));
}

#[test]
fn without_privileges_the_error_names_the_remedy() {
    if !is_root() || !there("setpriv") {
        return skip("without_privileges_the_error_names_the_remedy", "needs root and setpriv");
    }
    let exe = std::env::current_exe().unwrap();
    if !Command::new("setpriv")
        .args(["--reuid=65534", "test", "-x"])
        .arg(&exe)
        .status()
        .is_ok_and(|s| s.success())
    {
        return skip("without_privileges_the_error_names_the_remedy", "nobody cannot run this binary");
    }
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let run = |request: &Request| text(&child_command(request, &["true"], &nobody).output().unwrap());
    let error = run(&Request { no_new_privs: false, capabilities: None, user: None, ..hardened() });
    assert!(error.contains("set no_new_privs"), "{error}");
    let error = run(&hardened());
    assert!(error.contains("needs CAP_SETPCAP"), "{error}");
    let error = run(&Request { user: with_user(1, 1, &[]), ..Request::default() });
    assert!(error.contains("CAP_SETUID") || error.contains("CAP_SETGID"), "{error}");
    let high = Rlimit { name: "nofile".into(), soft: 1 << 20, hard: 1 << 30, best_effort: false };
    let error = run(&Request { rlimits: vec![high.clone()], ..Request::default() });
    assert!(error.contains("CAP_SYS_RESOURCE"), "{error}");
    let ok = run(&Request { rlimits: vec![Rlimit { best_effort: true, ..high }], ..Request::default() });
    assert!(!ok.contains("apply:"), "{ok}");
    // Nothing asked that needs a privilege: works.
    let ok = run(&Request { no_new_privs: true, seccomp: Seccomp::Default, ..Request::default() });
    assert!(!ok.contains("apply:"), "{ok}");
}

#[test]
fn the_i386_entry_is_closed() {
    if !cfg!(target_arch = "x86_64") || !there("gcc") {
        return skip("the_i386_entry_is_closed", "needs x86-64 and gcc");
    }
    let base = std::env::temp_dir().join(format!("drydock-int80-{}", std::process::id()));
    let (source, program) = (base.with_extension("c"), base.with_extension("bin"));
    // i386's getpid (20) by the old gate: passes without a filter, which sees another architecture.
    std::fs::write(
        &source,
        "int main(void){long r; __asm__ volatile(\"int $0x80\":\"=a\"(r):\"a\"(20)); return r > 0 ? 0 : 1;}",
    )
    .unwrap();
    let built = Command::new("gcc").arg("-o").args([&program, &source]).status().unwrap().success();
    let request = |seccomp| Request { no_new_privs: true, seccomp, ..Request::default() };
    let path = program.to_str().unwrap().to_string();
    let [open, closed] = [Seccomp::None, Seccomp::Default].map(|s| run(&request(s), &[path.as_str()]).status);
    let _ = (std::fs::remove_file(&source), std::fs::remove_file(&program));
    if !built || !open.success() {
        return skip("the_i386_entry_is_closed", "this kernel has no i386 calls, or nothing can be built");
    }
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&closed), Some(nix::libc::SIGSYS));
}

#[test]
fn labels_without_their_module_are_refused_before_anything() {
    let active = drydock_security::lsm_active();
    let has = |name: &str| active.iter().any(|m| m == name);
    let apparmor = Request { apparmor: Some("docker-default".into()), ..Request::default() };
    let selinux = Request { selinux: Some("system_u:system_r:container_t:s0".into()), ..Request::default() };
    for (name, request) in [("apparmor", apparmor), ("selinux", selinux)] {
        if has(name) {
            skip("labels_without_their_module_are_refused_before_anything", &format!("{name} is active"));
            continue;
        }
        let error = request.validate().unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("not active in this kernel"), "{error}");
    }
}

#[test]
fn bad_requests_are_refused_by_validate() {
    let bad = |change: fn(&mut Request)| {
        let mut request = hardened();
        change(&mut request);
        let error = request.validate().unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
        error.to_string()
    };
    assert!(bad(|r| r.oom_score_adj = Some(1001)).contains("-1000 to 1000"));
    assert!(bad(|r| r.nice = Some(20)).contains("-20 to 19"));
    assert!(bad(|r| r.user = with_user(u32::MAX, 0, &[])).contains("4294967294"));
    assert!(bad(|r| r.user = with_user(0, 0, &[u32::MAX])).contains("4294967294"));
    assert!(bad(|r| r.user = with_user(0, 0, &vec![1; 65_537])).contains("65536"));
    assert!(bad(|r| r.user = Some(User { umask: Some(0o1000), ..User::default() })).contains("0777"));
    assert!(bad(|r| r.keyring = Some(".dot".into())).contains("keyring"));
    assert!(bad(|r| r.keyring = Some("a\0b".into())).contains("keyring"));
    assert!(
        bad(|r| r.exec_cpu_affinity = Some(ExecCpuAffinity { last: Some("1024".into()), initial: None }))
            .contains("execCPUAffinity.final")
    );
    assert!(bad(|r| r.seccomp = Seccomp::Profile("/nonexistent.json".into())).contains("/nonexistent.json"));
    assert!(bad(|r| r.seccomp = Seccomp::Profile("/".into())).contains("regular file"));
    let limit = |soft, hard| Rlimit { name: "core".into(), soft, hard, best_effort: false };
    let request = Request { rlimits: vec![limit(2, 1)], ..hardened() };
    assert!(request.validate().unwrap_err().to_string().contains("soft 2 is above hard 1"));
    let notify =
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_NOTIFY"}]}"#;
    let profile = drydock_security::seccomp::Profile::parse(notify.as_bytes()).unwrap();
    let request = Request { seccomp: Seccomp::Inline(Box::new(profile)), ..hardened() };
    assert!(request.validate().unwrap_err().to_string().contains("listenerPath"));
    // What serde does not know is refused, not ignored.
    assert!(serde_json::from_str::<Request>(r#"{"no_new_priv":true}"#).is_err());
}

#[test]
fn a_request_and_its_steps_survive_json() {
    let request = Request { rlimits: vec![Rlimit::parse("nofile=1:2").unwrap()], ..hardened() };
    let again: Request = serde_json::from_str(&serde_json::to_string(&request).unwrap()).unwrap();
    assert_eq!(again, request);
    let calls: Vec<String> = request.validate().unwrap().steps().into_iter().map(|s| s.call).collect();
    let position =
        |start: &str| calls.iter().position(|c| c.contains(start)).unwrap_or_else(|| panic!("{start}"));
    let order = [
        "prlimit64",
        "PR_CAPBSET_DROP",
        "setgroups",
        "setresgid",
        "capset",
        "AMBIENT",
        "NO_NEW_PRIVS",
        "seccomp(",
    ];
    assert!(order.windows(2).all(|w| position(w[0]) < position(w[1])), "{calls:?}");
}
