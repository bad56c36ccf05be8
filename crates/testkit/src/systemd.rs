//! A systemd of a test's own: PID 1 of new namespaces, in a cgroup of its own.

use crate::Sandbox;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const ROOT: &str = "/sys/fs/cgroup";
/// Set for what [`Systemd::run`] runs.
const INSIDE: &str = "DRYDOCK_TEST_INSIDE_SYSTEMD";
const PROGRAM: &str = "/lib/systemd/systemd";

/// PID 1 of new namespaces: mounts what systemd wants to have for itself, and becomes it. Its one target is nothing, so
/// that nothing else of the machine's is started.
///
/// Only it enters the cgroup: with another process in there, it could enable no controllers for those below.
const BOOT: &str = r#"
exec unshare --pid --fork --kill-child sh -c 'echo 0 > "$1/cgroup.procs" && exec unshare --mount --mount-proc --cgroup sh -c "$2"' \
    boot "$1" '
    mount --make-rprivate / && mount -t tmpfs -o mode=755 tmpfs /run &&
    umount -l /sys/fs/cgroup && mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup &&
    mkdir -p /run/systemd/system &&
    printf "[Unit]\nDefaultDependencies=no\n" > /run/systemd/system/nothing.target &&
    exec env container=drydock SYSTEMD_GENERATOR_PATH=/nowhere \
        SYSTEMD_UNIT_PATH=/run/systemd/system:/run/systemd/transient:/run/systemd/system.control \
        /lib/systemd/systemd --system --unit=nothing.target --log-target=console --show-status=no'
"#;

/// The manager of a user, as a service of the system's.
const USER: &str = r#"
dir=/run/user/$1; mkdir -p "$dir" && chown "$1" "$dir" && chmod 700 "$dir" &&
systemd-run --unit="manager-$1.service" --uid="$1" -p Delegate=yes -p Type=notify -p DefaultDependencies=no \
    -p StandardOutput="file:$dir.log" -p StandardError=inherit -E XDG_RUNTIME_DIR="$dir" -E HOME="$dir" \
    -E SYSTEMD_UNIT_PATH="/run/systemd/system:$dir/systemd/transient" -E SYSTEMD_GENERATOR_PATH=/nowhere \
    /lib/systemd/systemd --user --unit=nothing.target --log-target=console || { cat "$dir.log"; exit 1; } >&2
"#;

/// Whether there is a systemd to start, and cgroups for it.
pub fn available() -> bool {
    Path::new(PROGRAM).exists() && crate::cgroup_mode() == crate::CgroupMode::V2
}

/// Whether this is the test that [`Systemd::run`] has started.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// The running systemd; it ends with the value.
#[derive(Debug)]
pub struct Systemd {
    unshare: Child,
    pid: i32,
    cgroup: PathBuf,
    log: PathBuf,
}

impl Systemd {
    /// Starts it and waits until it listens.
    ///
    /// # Panics
    /// When it does not.
    pub fn boot(sandbox: &Sandbox) -> Self {
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

    /// The named test of this program again, in systemd's namespaces.
    pub fn run(&self, test: &str) {
        // From a cgroup below systemd's own: it may not move processes in from outside of its namespace.
        let enter =
            "mkdir -p \"$1/test\" && echo $$ > \"$1/test/cgroup.procs\" && shift && exec nsenter -t \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", enter, "enter"]).arg(&self.cgroup);
        command.args([&self.pid.to_string(), "-p", "-m", "-C", "--"]);
        command.arg(std::env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
        crate::run(&mut command).success().stdout_has("1 passed");
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read(&self.log).unwrap_or_default();
            let _ = std::io::stderr().write_all(&log);
        }
        // Whatever it has started dies with it, as PID 1 of its namespace.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        let _ = std::fs::write(self.cgroup.join("cgroup.kill"), "1");
        let remove = "i=0; while [ -d \"$1\" ] && [ $i -lt 300 ]; do find \"$1\" -depth -type d -exec rmdir {} + \
                      2>/dev/null; i=$((i + 1)); sleep 0.1; done";
        let _ = Command::new("sh").args(["-c", remove, "remove"]).arg(&self.cgroup).status();
    }
}

/// From inside: starts the manager of this user, and gives its runtime directory.
pub fn start_user_manager(sandbox: &Sandbox, uid: u32) -> PathBuf {
    let uid = uid.to_string();
    crate::run(Command::new("sh").args(["-c", USER, "user", &uid])).success();
    let dir = Path::new("/run/user").join(uid);
    sandbox.wait_until("the user's systemd listens", || dir.join("systemd/private").exists());
    dir
}

/// From inside: what systemd knows of a unit, a line a property.
pub fn show(unit: &str) -> String {
    let output = Command::new("systemctl").args(["show", unit]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}
