//! The systemd cgroup driver with a real systemd: started by the test as PID 1 of namespaces of its own, in a cgroup of
//! its own. The test then runs itself once more in there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test that cannot go on should stop

use drydock_cgroups::systemd::{Request, Value, properties_of_annotations, stop, update};
use drydock_cgroups::{CpuMax, IfExists, Layout, Limits, Mode};
use drydock_core::{Ctx, Journal, Object, Silent};
use drydock_testkit::systemd::{Systemd, available, is_inside, show};
use drydock_testkit::{Sandbox, is_root, require};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

const ROOT: &str = "/sys/fs/cgroup";

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
    if is_inside() {
        return inside();
    }
    require!(is_root(), "needs root");
    require!(available(), "needs systemd and cgroup v2 alone");
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

fn tempfile_dir() -> PathBuf {
    let dir = Path::new("/run").join(format!("drydock-systemd-test-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    dir
}
