//! Bundles of an unprivileged user: one id or ranges of them, with and without a part of the cgroups, from create to delete.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test that cannot go on should stop

#[path = "conformance/bundle.rs"]
#[allow(dead_code)] // a part of it is used here
mod bundle;

use bundle::Bundle;
use drydock_testkit::{CgroupMode, Output, bin, cgroup_mode, require};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const UID: u32 = 54_321;

/// Becomes the user; a cgroup to enter before may be given. With a name and subordinate ids where the files are given:
/// in a mount namespace of its own, the machine's stay as they are.
const BECOME: &str = r#"
[ -z "$CGROUP" ] || echo $$ > "$CGROUP/cgroup.procs" || exit
if [ -n "$FILES" ]; then
    for name in passwd group subuid subgid; do mount --bind "$FILES/$name" "/etc/$name" || exit; done
fi
exec setpriv --reuid 54321 --regid 54321 --clear-groups -- "$@"
"#;

/// A bundle as `spec --rootless` has it, that belongs to the user.
struct Place {
    bundle: Bundle,
    files: Option<PathBuf>,
    cgroup: Option<PathBuf>,
}

impl Place {
    fn new(script: &str) -> Self {
        let bundle = Bundle::new();
        let mut place = Self { bundle, files: None, cgroup: None };
        place.own();
        let dir = place.bundle.dir();
        place.run(&["spec", "--rootless", "--bundle", dir.to_str().unwrap()]).success();
        let text = std::fs::read_to_string(dir.join("config.json")).unwrap();
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["sh", "-c", script]);
        place.bundle.config = config;
        place
    }

    /// Everything of the sandbox is the user's.
    fn own(&self) {
        let owner = format!("{UID}:{UID}");
        let output = Command::new("chown").args(["-R", &owner]).arg(self.bundle.sandbox.path()).output();
        assert!(output.unwrap().status.success());
    }

    /// A name, and ids from 200000 on.
    fn with_ids(mut self) -> Self {
        let dir = self.bundle.sandbox.join("etc");
        std::fs::create_dir(&dir).unwrap();
        for name in ["passwd", "group"] {
            let text = std::fs::read_to_string(Path::new("/etc").join(name)).unwrap();
            let line =
                if name == "passwd" { "ddtest:x:54321:54321::/:/bin/sh\n" } else { "ddtest:x:54321:\n" };
            std::fs::write(dir.join(name), text + line).unwrap();
        }
        for name in ["subuid", "subgid"] {
            std::fs::write(dir.join(name), "ddtest:200000:65536\n").unwrap();
        }
        let maps = json!([
            { "containerID": 0, "hostID": UID, "size": 1 },
            { "containerID": 1, "hostID": 200_000, "size": 65_536 }
        ]);
        self.bundle.config["linux"]["uidMappings"] = maps.clone();
        self.bundle.config["linux"]["gidMappings"] = maps;
        self.files = Some(dir);
        self
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", BECOME, "become"]);
        command.arg(bin("container")).args(words).current_dir(self.bundle.sandbox.path());
        let path = |path: &Option<PathBuf>| path.clone().unwrap_or_default();
        command.env("FILES", path(&self.files)).env("CGROUP", path(&self.cgroup));
        command
            .env("DRYDOCK_ROOT", self.bundle.sandbox.state())
            .env("DRYDOCK_DATA", self.bundle.sandbox.data());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        drydock_testkit::run(&mut self.command(words))
    }

    fn on(&self, verb: &str) -> Output {
        self.run(&[verb, &self.bundle.id])
    }

    fn exec(&self, words: &[&str]) -> Output {
        self.run(&[&["exec", &self.bundle.id], words].concat())
    }

    fn bundled(&self, verb: &[&str]) -> Command {
        self.bundle.write();
        let dir = self.bundle.dir();
        self.command(&[verb, &["--bundle", dir.to_str().unwrap(), &self.bundle.id]].concat())
    }

    fn create(&self) {
        let file = |name: &str| std::fs::File::create(self.bundle.sandbox.join(name)).unwrap();
        let mut command = self.bundled(&["create"]);
        command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr"));
        let status = command.status().unwrap();
        let said = std::fs::read_to_string(self.bundle.sandbox.join("stderr")).unwrap();
        assert!(status.success(), "{said}");
    }

    fn status(&self) -> String {
        let state: Value = serde_json::from_str(&self.on("state").success().stdout).unwrap();
        state["status"].as_str().unwrap().to_string()
    }

    fn until(&self, status: &str) {
        self.bundle.sandbox.wait_until(status, || self.status() == status);
    }
}

macro_rules! needs_rootless {
    () => {
        needs!();
        let allowed = Command::new("setpriv")
            .args(["--reuid", "54321", "--regid", "54321", "--clear-groups", "unshare", "--user", "true"])
            .output();
        require!(allowed.is_ok_and(|o| o.status.success()), "user namespaces are not allowed here");
    };
}

#[test]
fn one_id_from_create_to_delete() {
    needs_rootless!();
    let place = Place::new("id -u; cat /proc/self/uid_map; sleep 600");
    place.create();
    assert_eq!(place.status(), "created");
    // Its first process cannot be seen by others yet, but by its user's exec, as often as it is asked.
    for _ in 0..2 {
        place.exec(&["sh", "-c", "id -u; hostname"]).success().stdout_is("0\ndrydock");
    }
    assert_eq!(place.status(), "created");
    place.on("start").success();
    place.exec(&["cat", "/proc/1/uid_map"]).success().stdout_has("54321");
    place.on("ps").success().stdout_has("sleep 600");
    place.run(&["list", "-q"]).success().stdout_is(&place.bundle.id);
    place.run(&["kill", &place.bundle.id, "KILL"]).success();
    place.until("stopped");
    let output = std::fs::read_to_string(place.bundle.sandbox.join("stdout")).unwrap();
    assert_eq!(output.lines().next(), Some("0"), "{output}");
    place.on("delete").success();
    place.bundle.is_gone();
    drydock_testkit::run(place.bundled(&["run", "--detach"]).stdout(Stdio::null()));
    place.run(&["delete", "--force", &place.bundle.id]).success();
    place.bundle.is_gone();
}

/// The user namespace gives the right to both: to make a time namespace, and to join one.
#[test]
fn a_time_namespace_is_made_and_joined() {
    needs_rootless!();
    require!(Path::new("/proc/self/ns/time").exists(), "no time namespace");
    let offsets = |place: &Place| {
        place
            .exec(&["cat", "/proc/self/timens_offsets"])
            .success()
            .stdout_has("monotonic")
            .stdout_has("7881")
            .stdout_has("1337");
    };
    let mut place = Place::new("sleep 600");
    let namespaces = place.bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({ "type": "time" }));
    place.bundle.config["linux"]["timeOffsets"] =
        json!({ "monotonic": { "secs": 7881 }, "boottime": { "secs": 1337 } });
    place.create();
    place.on("start").success();
    offsets(&place);
    let state: Value = serde_json::from_str(&place.on("state").success().stdout).unwrap();
    let pid = state["pid"].as_i64().unwrap();
    let mut other = Place::new("sleep 600");
    other.bundle.config["linux"]["namespaces"] = json!([
        { "type": "mount" },
        { "type": "user", "path": format!("/proc/{pid}/ns/user") },
        { "type": "pid", "path": format!("/proc/{pid}/ns/pid") },
        { "type": "time", "path": format!("/proc/{pid}/ns/time") }
    ]);
    for name in ["uidMappings", "gidMappings"] {
        other.bundle.config["linux"].as_object_mut().unwrap().remove(name);
    }
    other.bundle.config.as_object_mut().unwrap().remove("hostname");
    other.create();
    other.on("start").success();
    offsets(&other);
    for place in [other, place] {
        place.run(&["delete", "--force", &place.bundle.id]).success();
        place.bundle.is_gone();
    }
}

/// Without a part of the cgroups there are no limits, and who asks for some is told.
#[test]
fn limits_that_cannot_be_are_refused() {
    needs_rootless!();
    let mut place = Place::new("true");
    let quiet = drydock_testkit::run(&mut place.bundled(&["run"])).success();
    assert!(!quiet.stderr.contains("discouraged"), "{}", quiet.describe());
    place.bundle.config["linux"]["resources"] = json!({ "pids": { "limit": 10 } });
    let told = drydock_testkit::run(&mut place.bundled(&["run"])).fails_with(125).says("cgroup");
    told.says("cannot set pids limit: container could not join or create cgroup");
    place.bundle.is_gone();
    place.bundle.config["linux"]["resources"] = json!({});
    // Nothing by which all its processes could be found.
    let config = place.bundle.config.clone();
    let namespaces = place.bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "pid");
    let mounts = place.bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["type"] != "proc");
    drydock_testkit::run(&mut place.bundled(&["run"])).success().says("strongly discouraged");
    place.bundle.is_gone();
    place.bundle.config = config;
    let path = format!("/{}", place.bundle.sandbox.unique("path"));
    place.bundle.config["linux"]["cgroupsPath"] = json!(path);
    drydock_testkit::run(&mut place.bundled(&["run"])).fails_with(125).says("cgroup");
    place.bundle.is_gone();
}

#[test]
fn ranges_through_the_set_uid_helpers() {
    needs_rootless!();
    require!(Path::new("/usr/bin/newuidmap").exists(), "needs newuidmap(1)");
    let script = "cat /proc/self/uid_map; id; stat -c %u:%g /bin/busybox; sleep 600";
    let mut place = Place::new(script).with_ids();
    place.bundle.config["process"]["user"] = json!({ "uid": 5, "gid": 6, "additionalGids": [7, 65_536] });
    place.create();
    place.exec(&["id"]).success().stdout_is("uid=5 gid=6 groups=7,65536");
    place.on("start").success();
    place.exec(&["sh", "-c", "id -u"]).success().stdout_is("5");
    place.run(&["exec", "--user", "1000:1000", &place.bundle.id, "id", "-u"]).success().stdout_is("1000");
    place.run(&["delete", "--force", &place.bundle.id]).success();
    let output = std::fs::read_to_string(place.bundle.sandbox.join("stdout")).unwrap();
    let words: Vec<&str> = output.split_whitespace().collect();
    assert_eq!(words[..6], ["0", "54321", "1", "1", "200000", "65536"], "{output}");
    assert!(output.contains("uid=5 gid=6 groups=7,65536") && output.contains("0:0"), "{output}");
    // More than is granted.
    place.bundle.config["linux"]["uidMappings"][1]["size"] = json!(65_537);
    drydock_testkit::run(&mut place.bundled(&["run"])).says("/etc/subuid");
    place.bundle.is_gone();
    place.bundle.config["linux"]["uidMappings"][1] = json!({ "containerID": 1, "hostID": 0, "size": 1000 });
    drydock_testkit::run(&mut place.bundled(&["run"])).says("/etc/subuid");
    place.bundle.is_gone();
    // A user to whom nothing is granted.
    place.files = None;
    drydock_testkit::run(&mut place.bundled(&["run"])).says("/etc/subuid");
    place.bundle.is_gone();
}

/// A part of cgroup v2 that is the user's: limits hold in it, by a relative path, an absolute one, and without any.
#[test]
fn a_delegated_part_of_the_cgroups() {
    needs_rootless!();
    require!(cgroup_mode() == CgroupMode::V2, "needs cgroup v2 alone");
    let mut place = Place::new("cat /proc/self/cgroup; sleep 600");
    let name = place.bundle.sandbox.unique("part");
    let part = Path::new("/sys/fs/cgroup").join(&name);
    let shell = part.join("shell");
    std::fs::create_dir_all(&shell).unwrap();
    std::fs::write(part.join("cgroup.subtree_control"), "+memory +pids +cpu").unwrap();
    let files =
        ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads", "shell", "shell/cgroup.procs"];
    for file in files {
        std::os::unix::fs::chown(part.join(file), Some(UID), Some(UID)).unwrap();
    }
    place.cgroup = Some(shell.clone());
    place.bundle.config["linux"]["resources"] = json!({ "pids": { "limit": 55 }, "memory": { "limit": 64 << 20 }, "cpu": { "quota": 50_000, "period": 100_000 } });
    let namespaces = place.bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "cgroup");
    let id = place.bundle.id.clone();
    for (path, expected) in [
        (None, format!("/{name}/drydock/{id}")),
        (Some("own/one".to_string()), format!("/{name}/own/one")),
        (Some(format!("/{name}/two")), format!("/{name}/two")),
    ] {
        if let Some(path) = path {
            place.bundle.config["linux"]["cgroupsPath"] = json!(path);
        }
        place.create();
        let dir = Path::new("/sys/fs/cgroup").join(&expected[1..]);
        let read = |file: &str| std::fs::read_to_string(dir.join(file)).unwrap().trim().to_string();
        assert_eq!(
            (read("pids.max"), read("memory.max")),
            ("55".into(), (64 << 20).to_string()),
            "{expected}"
        );
        assert_eq!(read("cpu.max"), "50000 100000");
        place.on("start").success();
        place.exec(&["cat", "/proc/self/cgroup"]).success().stdout_is(&format!("0::{expected}"));
        place.run(&["update", "--pids-limit", "66", &id]).success();
        assert_eq!(read("pids.max"), "66");
        place.on("pause").success();
        assert_eq!(place.status(), "paused");
        place.on("resume").success();
        place.run(&["delete", "--force", &id]).success();
        assert!(!dir.exists(), "{dir:?}");
        place.bundle.is_gone();
    }
    // Beside the part: refused.
    place.bundle.config["linux"]["cgroupsPath"] = json!(format!("/{name}-not-mine"));
    drydock_testkit::run(&mut place.bundled(&["run"])).fails_with(125).says("mkdir");
    place.bundle.is_gone();
    let remove =
        Command::new("find").arg(&part).args(["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"]).status();
    assert!(remove.unwrap().success());
}
