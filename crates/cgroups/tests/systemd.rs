//! The systemd cgroup driver with a real systemd: started by the test as PID 1 of namespaces of its own, in a cgroup of
//! its own. The test then runs itself once more in there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test that cannot go on should stop

use drydock_cgroups::systemd::{Request, Value, properties_of_annotations, stop, update};
use drydock_cgroups::{Cgroup, CpuMax, IfExists, Layout, Limits, Mode};
use drydock_core::{Ctx, Journal, Object, Silent};
use drydock_testkit::{Sandbox, is_root, require};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const INSIDE: &str = "DRYDOCK_TEST_INSIDE_SYSTEMD";
const ROOT: &str = "/sys/fs/cgroup";

/// PID 1 of new namespaces: mounts what systemd wants to have for itself, and becomes it. Its one target is nothing, so
/// that nothing else of the machine's is started.
///
/// Only it enters the cgroup: with another process in there, it could enable no controllers for those below.
const BOOT: &str = r#"
exec unshare --pid --fork --kill-child sh -c 'echo 0 > "$1/cgroup.procs" && exec unshare --mount --mount-proc --cgroup sh -c "$2"' \
    boot "$1" '
    mount --make-rprivate / && mount -t tmpfs tmpfs /run &&
    umount -l /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup &&
    mkdir -p /run/systemd/system &&
    printf "[Unit]\nDefaultDependencies=no\n" > /run/systemd/system/nothing.target &&
    exec env container=drydock SYSTEMD_UNIT_PATH=/run/systemd/system SYSTEMD_GENERATOR_PATH=/nowhere \
        /lib/systemd/systemd --system --unit=nothing.target --log-target=console --show-status=no'
"#;

/// A systemd of the test's own; it ends with it.
struct Systemd {
    unshare: Child,
    pid: i32,
    cgroup: PathBuf,
    log: PathBuf,
}

impl Systemd {
    fn boot(sandbox: &Sandbox) -> Self {
        let cgroup = Path::new(ROOT).join(sandbox.unique("systemd"));
        std::fs::create_dir(&cgroup).unwrap();
        let path = sandbox.join("systemd.log");
        let log = std::fs::File::create(&path).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", BOOT, "boot"]).arg(&cgroup).stdin(Stdio::null());
        let unshare = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let mut systemd = Self { unshare, pid: 0, cgroup, log: path };
        sandbox.wait_until("systemd listens", || {
            let children = format!("/proc/{0}/task/{0}/children", systemd.unshare.id());
            let first = std::fs::read_to_string(children).unwrap_or_default();
            systemd.pid = first.split_whitespace().next().and_then(|pid| pid.parse().ok()).unwrap_or(0);
            Path::new(&format!("/proc/{}/root/run/systemd/private", systemd.pid)).exists()
        });
        systemd
    }

    /// The named test again, in systemd's namespaces.
    fn run(&self, test: &str) {
        // From a cgroup below systemd's own: it may not move processes in from outside of its namespace.
        let enter =
            "mkdir -p \"$1/test\" && echo $$ > \"$1/test/cgroup.procs\" && shift && exec nsenter -t \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", enter, "enter"]).arg(&self.cgroup);
        command.args([&self.pid.to_string(), "-p", "-m", "-C", "--"]);
        command.arg(std::env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
        drydock_testkit::run(&mut command).success().stdout_has("1 passed");
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read(&self.log).unwrap_or_default();
            let _ = std::io::Write::write_all(&mut std::io::stderr(), &log);
        }
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        let _ = Cgroup::at([self.cgroup.clone()]).and_then(|c| c.remove(std::time::Duration::from_secs(30)));
    }
}

fn kernel(dir: &Path, file: &str) -> String {
    let path = dir.join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path:?}: {e}")).trim().to_string()
}

/// A process to put into the scope.
struct Sleeper(Child);

impl Sleeper {
    fn start() -> Self {
        Self(Command::new("sleep").arg("1000").spawn().unwrap())
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn systemd_makes_changes_and_removes_the_scope() {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    require!(is_root(), "needs root");
    require!(Layout::detect().unwrap().mode() == Mode::V2, "needs cgroup v2 alone");
    require!(Path::new("/lib/systemd/systemd").exists(), "needs systemd");
    let sandbox = Sandbox::new();
    Systemd::boot(&sandbox).run("systemd_makes_changes_and_removes_the_scope");
}

fn inside() {
    let dir = tempfile_dir();
    let journal = Journal::create(&dir).unwrap();
    let ctx = Ctx::new(&Silent, Some(&journal));
    let limits = Limits {
        pids_max: Some(55),
        memory_max: Some(64 << 20),
        cpu: Some(CpuMax::new(25_000, 100_000)),
        cpu_weight: Some(321),
        ..Limits::default()
    };
    let asked =
        [("org.systemd.property.TimeoutStopSec", "7"), ("org.systemd.property.Description", "'ours'")];
    let request = Request {
        path: Some("dd-test.slice:pre:web".into()),
        id: "web".into(),
        limits: limits.clone(),
        properties: properties_of_annotations(asked).unwrap(),
        user: false,
    };
    let scope = request.plan(Mode::V2).unwrap();
    let sleeper = Sleeper::start();
    let name = scope.start(sleeper.pid(), &ctx).unwrap();
    assert_eq!(name, "dd.slice/dd-test.slice/pre-web.scope");
    assert_eq!(
        Journal::read(&dir).unwrap(),
        [Object::SystemdUnit { name: "pre-web.scope".into(), user: false }]
    );
    let cgroup = Path::new(ROOT).join(&name);
    assert_eq!(kernel(&cgroup, "cgroup.procs"), sleeper.pid().to_string());
    assert_eq!(kernel(&cgroup, "pids.max"), "55");
    assert_eq!(kernel(&cgroup, "memory.max"), (64 << 20).to_string());
    assert_eq!(kernel(&cgroup, "cpu.max"), "25000 100000");
    assert_eq!(kernel(&cgroup, "cpu.weight"), "321");
    let shown = show("pre-web.scope");
    for line in [
        "Delegate=yes",
        "Slice=dd-test.slice",
        "Description=ours",
        "TimeoutStopUSec=7s",
        "ActiveState=active",
    ] {
        assert!(shown.lines().any(|l| l == line), "{line}: {shown}");
    }
    // The cgroup is ours as one that we made: the limits' own files, and cgroups below.
    let ours = drydock_cgroups::Request { name, limits, if_exists: IfExists::Reuse, ..Default::default() };
    ours.validate(&Layout::detect().unwrap()).unwrap().apply(&ctx).unwrap();
    let changed = Limits { pids_max: Some(66), memory_max: Some(32 << 20), ..Limits::default() };
    update("pre-web.scope", false, Mode::V2, &changed).unwrap();
    assert_eq!(
        (kernel(&cgroup, "pids.max"), kernel(&cgroup, "memory.max")),
        ("66".into(), (32 << 20).to_string())
    );
    // The name is taken while it lives.
    let other = Sleeper::start();
    let error = scope.start(other.pid(), &ctx).unwrap_err();
    assert!(error.to_string().contains("UnitExists"), "{error}");
    stop("pre-web.scope", false).unwrap();
    assert!(!cgroup.exists(), "with what was in it");
    assert!(show("pre-web.scope").contains("LoadState=not-found"), "forgotten");
    stop("pre-web.scope", false).unwrap();
    // What systemd does not know is told as it says it.
    let odd = Request {
        id: "odd".into(),
        properties: vec![("NoSuch".into(), Value::Bool(true))],
        ..Request::default()
    };
    let error = odd.plan(Mode::V2).unwrap().start(other.pid(), &ctx).unwrap_err();
    assert!(error.to_string().contains("NoSuch"), "{error}");
    std::fs::remove_dir_all(dir).unwrap();
}

fn show(unit: &str) -> String {
    let output = Command::new("systemctl").args(["show", unit]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn tempfile_dir() -> PathBuf {
    let dir = Path::new("/run").join(format!("drydock-systemd-test-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    dir
}
