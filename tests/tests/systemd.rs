//! `--systemd-cgroup` with a real systemd, started by the test as PID 1 of namespaces of its own: from create to delete, as
//! systemd and the kernel show it. Each test runs itself once more in there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test that cannot go on should stop

#[path = "conformance/bundle.rs"]
#[allow(dead_code)] // a part of it is used here
mod bundle;

use bundle::Bundle;
use drydock_testkit::systemd::{self, Systemd, show};
use drydock_testkit::{Output, Sandbox, require};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const ROOT: &str = "/sys/fs/cgroup";

/// Goes on only in the namespaces of a systemd.
macro_rules! inside {
    ($test:literal) => {
        if !systemd::is_inside() {
            needs!();
            require!(systemd::available(), "needs systemd and cgroup v2 alone");
            let sandbox = Sandbox::new();
            Systemd::boot(&sandbox).run($test);
            return;
        }
    };
}

fn kernel(dir: &Path, file: &str) -> String {
    let path = dir.join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path:?}: {e}")).trim().to_string()
}

/// A verb with systemd's driver.
fn driven(bundle: &Bundle, words: &[&str]) -> Output {
    bundle.container(&[&["--systemd-cgroup"], words].concat())
}

/// The container keeps its creator's streams: files, as a pipe would not end.
fn make(bundle: &Bundle, words: &[&str]) {
    bundle.write();
    let file = |name: &str| std::fs::File::create(bundle.sandbox.join(name)).unwrap();
    let mut command = bundle.sandbox.command("container");
    command.arg("--systemd-cgroup").args(words).arg("--bundle").arg(bundle.dir()).arg(&bundle.id);
    let status = command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr")).status().unwrap();
    let said = std::fs::read_to_string(bundle.sandbox.join("stderr")).unwrap();
    assert!(status.success(), "{words:?}: {status}: {said}");
}

fn run(bundle: &Bundle) -> Output {
    bundle.write();
    driven(bundle, &["run", "--bundle", bundle.dir().to_str().unwrap(), &bundle.id])
}

fn has(unit: &str, lines: &[&str]) {
    let shown = show(unit);
    for line in lines {
        assert!(shown.lines().any(|l| l == *line), "{line} is missing:\n{shown}");
    }
}

fn is_forgotten(unit: &str, cgroup: &Path) {
    assert!(show(unit).contains("LoadState=not-found"), "{unit} is still known");
    assert!(!cgroup.exists(), "{cgroup:?}");
}

fn bundle(script: &str, path: &str) -> Bundle {
    Bundle::script(script).with("/linux/cgroupsPath", json!(path))
}

fn limits() -> Value {
    json!({
        "memory": { "limit": 64 << 20, "reservation": 16 << 20 },
        "cpu": { "quota": 25_000, "period": 100_000, "shares": 512 },
        "pids": { "limit": 77 },
        "devices": [
            { "allow": false, "access": "rwm" },
            { "allow": true, "type": "c", "major": 10, "minor": 200, "access": "rw" }
        ]
    })
}

#[test]
fn a_scope_lives_from_create_to_delete() {
    inside!("a_scope_lives_from_create_to_delete");
    let bundle = bundle("sleep 600", "dd-one.slice:pre:web").with("/linux/resources", limits()).with(
        "/annotations",
        json!({
            "org.systemd.property.TimeoutStopSec": "7",
            "org.systemd.property.CollectMode": "'inactive-or-failed'",
            "other": "ignored"
        }),
    );
    make(&bundle, &["create"]);
    let (unit, cgroup) = ("pre-web.scope", Path::new(ROOT).join("dd.slice/dd-one.slice/pre-web.scope"));
    has(
        unit,
        &[
            "ActiveState=active",
            "Slice=dd-one.slice",
            "Delegate=yes",
            "TimeoutStopUSec=7s",
            "CollectMode=inactive-or-failed",
            "MemoryMax=67108864",
            "MemoryLow=16777216",
            "CPUQuotaPerSecUSec=250ms",
            "CPUWeight=59",
            "TasksMax=77",
            "DevicePolicy=strict",
            "MemoryAccounting=yes",
        ],
    );
    let shown = show(unit);
    let line = |name: &str| shown.lines().find(|l| l.starts_with(name)).unwrap_or_default().to_string();
    assert!(line("Description=").contains(&bundle.id), "{shown}");
    assert!(
        shown.lines().any(|l| l.starts_with("DeviceAllow=") && l.contains("/dev/char/10:200")),
        "{shown}"
    );
    for (file, value) in [
        ("memory.max", "67108864"),
        ("memory.low", "16777216"),
        ("cpu.max", "25000 100000"),
        ("cpu.weight", "59"),
        ("pids.max", "77"),
    ] {
        assert_eq!(kernel(&cgroup, file), value, "{file}");
    }
    let pid = bundle.state()["pid"].to_string();
    assert_eq!(kernel(&cgroup, "cgroup.procs"), pid);
    bundle.start().success();
    driven(&bundle, &["exec", &bundle.id, "sh", "-c", "cat /proc/self/cgroup"])
        .success()
        .stdout_has("dd.slice/dd-one.slice/pre-web.scope");
    let listed = driven(&bundle, &["ps", "-f", "json", &bundle.id]).success().stdout;
    assert!(listed.contains(&pid), "{listed}");
    let stats: Value =
        serde_json::from_str(&driven(&bundle, &["events", "--stats", &bundle.id]).success().stdout).unwrap();
    assert_eq!(stats["data"]["memory"]["usage"]["limit"], json!(64 << 20), "{stats}");
    driven(&bundle, &["pause", &bundle.id]).success();
    assert_eq!((bundle.status().as_str(), kernel(&cgroup, "cgroup.freeze")), ("paused", "1".into()));
    driven(&bundle, &["resume", &bundle.id]).success();
    let words =
        ["update", "--memory", "32M", "--pids-limit", "33", "--cpu-quota", "50000", "--cpu-period", "100000"];
    driven(&bundle, &[&words[..], &[&bundle.id]].concat()).success();
    has(unit, &["MemoryMax=33554432", "TasksMax=33", "CPUQuotaPerSecUSec=500ms"]);
    assert_eq!(
        (kernel(&cgroup, "memory.max"), kernel(&cgroup, "pids.max")),
        ("33554432".into(), "33".into())
    );
    let file = bundle.sandbox.join("limits.json");
    std::fs::write(&file, json!({ "pids": { "limit": 44 }, "cpu": { "shares": 1024 } }).to_string()).unwrap();
    driven(&bundle, &["update", "-r", file.to_str().unwrap(), &bundle.id]).success();
    has(unit, &["MemoryMax=33554432", "TasksMax=44", "CPUWeight=100"]);
    // What systemd has in mind is what is there after it has read everything again.
    drydock_testkit::run(Command::new("systemctl").arg("daemon-reload")).success();
    for (file, value) in [("memory.max", "33554432"), ("pids.max", "44"), ("cpu.max", "50000 100000")] {
        assert_eq!(kernel(&cgroup, file), value, "{file}");
    }
    driven(&bundle, &["kill", &bundle.id, "KILL"]).success();
    bundle.wait_for("stopped");
    driven(&bundle, &["delete", &bundle.id]).success();
    bundle.is_gone();
    is_forgotten(unit, &cgroup);
}

#[test]
fn names_and_defaults() {
    inside!("names_and_defaults");
    // Nothing said: a scope of the container's name in the default slice.
    let plain = Bundle::script("cat /proc/self/cgroup");
    run(&plain).success().stdout_has(&format!("/system.slice/drydock-{}.scope", plain.id));
    for (path, cgroup) in [
        (":pre:x", "system.slice/pre-x.scope"),
        ("machine.slice::y", "machine.slice/y.scope"),
        ("-.slice:pre:z", "pre-z.scope"),
        ("a-b-c.slice:p:n", "a.slice/a-b.slice/a-b-c.slice/p-n.scope"),
    ] {
        let one = bundle("cat /proc/self/cgroup", path);
        run(&one).success().stdout_has(cgroup);
        is_forgotten(cgroup.rsplit('/').next().unwrap(), &Path::new(ROOT).join(cgroup));
    }
    for path in ["/a/b", "a:b", "x:y:z", "a.slice:b:x/y"] {
        let one = bundle("true", path);
        run(&one).fails_with(2).says("/linux/cgroupsPath");
        one.is_gone();
    }
}

#[test]
fn what_fails_leaves_no_scope() {
    inside!("what_fails_leaves_no_scope");
    let cgroup = Path::new(ROOT).join("system.slice/fail-one.scope");
    // systemd refuses a property; the program is not there; a hook fails.
    let odd = bundle("true", ":fail:one")
        .with("/annotations", json!({ "org.systemd.property.NoSuchThing": "true" }));
    let none = bundle("true", ":fail:one").with("/process/args", json!(["/no/such"]));
    let hook = bundle("true", ":fail:one").with("/hooks", json!({ "prestart": [{ "path": "/bin/false" }] }));
    for (broken, code) in [(&odd, 125), (&none, 127), (&hook, 125)] {
        let output = run(broken);
        assert_eq!(output.code, Some(code), "{}", output.describe());
        broken.is_gone();
        is_forgotten("fail-one.scope", &cgroup);
    }
    // Two containers cannot have one scope: the second is refused, the first goes on.
    let first = bundle("sleep 600", ":fail:one");
    make(&first, &["run", "--detach"]);
    let second = bundle("true", ":fail:one");
    run(&second).fails_with(125);
    assert_eq!(first.status(), "running");
    driven(&first, &["delete", "--force", &first.id]).success();
    is_forgotten("fail-one.scope", &cgroup);
}

#[test]
fn a_killed_create_leaves_no_scope() {
    inside!("a_killed_create_leaves_no_scope");
    let cgroup = Path::new(ROOT).join("system.slice/kill-one.scope");
    // A hook that waits: the scope is there, the container is not finished.
    let one = bundle("true", ":kill:one").with(
        "/hooks",
        json!({ "createRuntime": [
        { "path": "/bin/sh", "args": ["sh", "-c", "while kill -0 $PPID 2>/dev/null; do sleep 0.1; done"] }
    ] }),
    );
    one.write();
    let mut command = one.sandbox.command("container");
    command.args(["--systemd-cgroup", "create", "--bundle"]).arg(one.dir()).arg(&one.id);
    let mut create =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    one.sandbox.wait_until("the scope", || show("kill-one.scope").contains("ActiveState=active"));
    create.kill().unwrap();
    create.wait().unwrap();
    one.sandbox.wait_until("the child ends with its maker", || {
        std::fs::read_to_string(cgroup.join("cgroup.procs")).is_ok_and(|text| text.is_empty())
            || !cgroup.exists()
    });
    one.sandbox.wait_until("the hook ends, too", || {
        drydock_testkit::census::processes(&one.sandbox.scope()).is_empty()
    });
    one.container(&["gc"]).success();
    one.is_gone();
    is_forgotten("kill-one.scope", &cgroup);
}

/// The journal is believed only as far as a scope may be named.
#[test]
fn a_forged_journal_stops_no_service() {
    inside!("a_forged_journal_stops_no_service");
    let run = ["--quiet", "--unit=victim.service", "-p", "DefaultDependencies=no", "sleep", "600"];
    drydock_testkit::run(Command::new("systemd-run").args(run)).success();
    let one = bundle("sleep 600", ":forged:one");
    make(&one, &["run", "--detach"]);
    let journal = one.sandbox.state().join(&one.id).join("journal");
    let text = std::fs::read_to_string(&journal).unwrap();
    assert!(text.contains("forged-one.scope"), "{text}");
    std::fs::write(&journal, text.replace("forged-one.scope", "victim.service")).unwrap();
    let _ = driven(&one, &["delete", "--force", &one.id]);
    has("victim.service", &["ActiveState=active"]);
    std::fs::write(&journal, text).unwrap();
    driven(&one, &["delete", "--force", &one.id]);
    drydock_testkit::run(Command::new("systemctl").args(["stop", "forged-one.scope", "victim.service"]));
}

/// A user's own manager makes the scope; limits of what is delegated to it.
#[test]
fn a_users_own_systemd() {
    inside!("a_users_own_systemd");
    // systemd wants the user to have a name: daemon.
    const UID: u32 = 1;
    let place = Sandbox::new();
    let runtime = systemd::start_user_manager(&place, UID);
    let service = Path::new(ROOT).join(format!("system.slice/manager-{UID}.service"));
    let mut bundle = bundle("cat /proc/self/cgroup; sleep 600", "mine.slice:pre:own")
        .with("/linux/resources", json!({ "pids": { "limit": 55 }, "memory": { "limit": 64 << 20 } }));
    let map = json!([{ "containerID": 0, "hostID": UID, "size": 1 }]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
    bundle = bundle.with("/linux/namespaces/-", json!({ "type": "user" }));
    bundle.write();
    let state = runtime.join("drydock");
    let out = runtime.join("out");
    // From a cgroup of the user's own: who is elsewhere may not move processes into it.
    let script = "mkdir \"$1/test\"; chown \"$2\" \"$1/test\" \"$1/test/cgroup.procs\" && \
                  echo $$ > \"$1/test/cgroup.procs\" && uid=$2 && exec > \"$3\" 2>&1 && shift 3 && \
                  exec setpriv --reuid $uid --regid $uid --clear-groups -- env XDG_RUNTIME_DIR=/run/user/$uid \"$@\"";
    let as_user = |words: &[&str]| {
        let mut command = Command::new("sh");
        command.args(["-c", script, "as-user"]).arg(&service).arg(UID.to_string()).arg(&out);
        command
            .arg(drydock_testkit::bin("container"))
            .arg("--root")
            .arg(&state)
            .arg("--systemd-cgroup")
            .args(words);
        command.env_remove("DRYDOCK_ROOT").env_remove("DBUS_SESSION_BUS_ADDRESS").stdin(Stdio::null());
        let code = command.status().unwrap().code();
        (code, std::fs::read_to_string(&out).unwrap_or_default())
    };
    let dir: PathBuf = bundle.dir();
    let made = as_user(&["run", "--detach", "--bundle", dir.to_str().unwrap(), "own"]);
    let log = || std::fs::read_to_string(runtime.with_extension("log")).unwrap_or_default();
    assert_eq!(made.0, Some(0), "{}; its systemd: {}", made.1, log());
    let cgroup = service.join("mine.slice/pre-own.scope");
    assert_eq!(
        (kernel(&cgroup, "pids.max"), kernel(&cgroup, "memory.max")),
        ("55".into(), (64 << 20).to_string())
    );
    let updated = as_user(&["update", "--pids-limit", "66", "own"]);
    assert_eq!((updated.0, kernel(&cgroup, "pids.max")), (Some(0), "66".into()), "{}", updated.1);
    let inside = as_user(&["exec", "own", "cat", "/proc/self/cgroup"]);
    assert!(inside.0 == Some(0) && inside.1.contains("mine.slice/pre-own.scope"), "{inside:?}");
    let deleted = as_user(&["delete", "--force", "own"]);
    assert_eq!(deleted.0, Some(0), "{}", deleted.1);
    assert!(!cgroup.exists());
    let alone = as_user(&["list", "-q"]);
    assert_eq!(alone.1.trim(), "", "{alone:?}");
}
