//! What users of runc(8) find beside the specification: its log, its words, its defaults.

use crate::bundle::{Bundle, busybox};
use crate::needs;
use drydock_testkit::{have, require};
use serde_json::json;
use std::path::Path;

fn two_maps(bundle: Bundle) -> Bundle {
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    // Its files belong to root inside.
    let shift = |path: &Path| std::os::unix::fs::lchown(path, Some(100_000), Some(100_000)).unwrap();
    let mut places = vec![bundle.dir().join("rootfs")];
    while let Some(place) = places.pop() {
        shift(&place);
        if place.symlink_metadata().unwrap().is_dir() {
            places.extend(place.read_dir().unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    bundle
        .with("/linux/namespaces/-", json!({ "type": "user" }))
        .with("/linux/uidMappings", map.clone())
        .with("/linux/gidMappings", map)
}

/// The log of `--debug` has the steps of the parent, of the container's first process and of `exec`; stderr has none.
#[test]
fn debug_log() {
    needs!();
    let bundle = Bundle::script("echo out; echo err >&2");
    bundle.write();
    let (log, dir) = (bundle.sandbox.join("log"), bundle.dir());
    let file = log.to_str().unwrap();
    let run = ["run", "--bundle", dir.to_str().unwrap(), &bundle.id];
    let output = bundle.container(&[&["--debug", "--log", file, "--log-format", "json"][..], &run].concat());
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
    let text = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let sound = |line: &serde_json::Value| line["level"] != "error" && line["time"].is_string();
    assert!(lines.iter().all(sound), "{text}");
    let told = |words: &str| lines.iter().position(|line| line["msg"].as_str().unwrap().contains(words));
    let order = ["nsexec container setup", "child process in init()", "mounts: ", "init: closing the pipe"];
    let places: Vec<_> =
        order.iter().map(|words| told(words).unwrap_or_else(|| panic!("{words}: {text}"))).collect();
    assert!(places.is_sorted(), "{places:?}: {text}");
    // As text, and of exec.
    let bundle = Bundle::new().with("/process/args", json!(["sleep", "1000"]));
    bundle.create().success();
    bundle.start().success();
    let words = ["--debug", "--log", file, "exec", &bundle.id, "echo", "x"];
    let output = bundle.container(&words).success();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("x\n", ""));
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.contains("level=debug msg=\"setns_init: about to exec\""), "{text}");
    // Without a file: on stderr, where it does not get into the command's output.
    let output = bundle.container(&["--debug", "exec", &bundle.id, "echo", "x"]).success();
    assert!(output.stdout == "x\n" && output.stderr.contains("level=debug"), "{}", output.describe());
}

/// A hook that fails is told by its kind and its place; createContainer's hooks start in the container's root.
#[test]
fn hooks_are_counted() {
    needs!();
    let hook = |script: &str| json!({ "path": busybox().unwrap(), "args": ["sh", "-c", script] });
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"] {
        let (good, bad) = match kind {
            "startContainer" => {
                (json!({ "path": "/bin/true" }), json!({ "path": "/bin/busybox", "args": ["false"] }))
            }
            _ => (hook("exit 0"), hook("exit 3")),
        };
        let bundle = Bundle::new().with("/hooks", json!({ kind: [good, bad] }));
        let output = bundle.run();
        assert_ne!(output.code, Some(0), "{kind}");
        output.says(&format!("error running {kind} hook #1: "));
        bundle.is_gone();
    }
    let bundle = Bundle::new();
    let log = bundle.sandbox.join("log");
    let bundle =
        bundle.with("/hooks", json!({ "createContainer": [hook(&format!("pwd > {}", log.display()))] }));
    bundle.run().success();
    let root = bundle.dir().join("rootfs").canonicalize().unwrap();
    assert_eq!(std::fs::read_to_string(&log).unwrap().trim(), root.to_str().unwrap());
}

/// What is permitted and not in the bounding set goes with the exec; ambient capabilities that cannot be are told.
#[test]
fn capabilities_beyond_the_bounding_set() {
    needs!();
    let caps = json!({ "bounding": ["CAP_SYS_ADMIN"], "permitted": ["CAP_SYS_ADMIN", "CAP_KILL"], "ambient": ["CAP_KILL"] });
    let bundle = Bundle::script("busybox grep -E '^Cap(Prm|Bnd|Amb)' /proc/self/status")
        .with("/process/capabilities", caps);
    let output =
        bundle.run().success().says("can't raise ambient capability CAP_KILL: ").says("CAP_KILL is lost");
    let values: Vec<&str> = output.stdout.lines().filter_map(|line| line.split('\t').nth(1)).collect();
    assert_eq!(values, ["0000000000200000", "0000000000200000", "0000000000000000"]);
    let caps = json!({ "bounding": [], "inheritable": ["CAP_KILL"] });
    Bundle::new().with("/process/capabilities", caps).is_refused("/process/capabilities/inheritable");
}

/// The CPUs to which the caller confines itself are its own business, for `run` and for `exec`.
#[test]
fn cpu_affinity_of_the_caller() {
    needs!();
    require!(have("taskset"), "taskset is not installed");
    let allowed =
        |text: &str| text.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:\t")).unwrap().to_string();
    let bundle = Bundle::new().with("/process/args", json!(["cat", "/proc/self/status"]));
    // Of the container's cgroup, which need not be ours.
    let own = allowed(&bundle.run().success().stdout);
    require!(own.contains(['-', ',']), "needs two CPUs");
    let ours = allowed(&std::fs::read_to_string("/proc/self/status").unwrap());
    let first = ours.split(['-', ',']).next().unwrap();
    let tool = drydock_testkit::bin("container").display().to_string();
    let confined = |bundle: &Bundle, words: &[&str]| {
        let plain = bundle.sandbox.command("container");
        let mut command = std::process::Command::new("taskset");
        command.args(["-c", first, &tool]).args(words);
        command.envs(plain.get_envs().filter_map(|(key, value)| Some((key, value?))));
        drydock_testkit::run(&mut command).success().stdout
    };
    assert_eq!(
        allowed(&confined(&bundle, &["run", "--bundle", bundle.dir().to_str().unwrap(), &bundle.id])),
        own
    );
    let bundle = Bundle::new().with("/process/args", json!(["sleep", "1000"]));
    bundle.create().success();
    bundle.start().success();
    assert_eq!(allowed(&confined(&bundle, &["exec", &bundle.id, "cat", "/proc/self/status"])), own);
}

/// An empty HOME is none.
#[test]
fn home_is_never_empty() {
    needs!();
    let bundle = Bundle::script("echo $HOME; busybox env | busybox grep -c ^HOME=")
        .with("/process/env", json!(["PATH=/bin", "HOME=/x", "HOME="]));
    std::fs::write(bundle.dir().join("rootfs/etc/passwd"), "root:x:0:0::/srv/root:/bin/sh\n").unwrap();
    bundle.run().success().stdout_is("/srv/root\n1");
}

/// Lines end as the program ends them: the terminal at which the caller sits adds what it needs.
#[test]
fn lines_of_a_terminal() {
    needs!();
    let bundle = Bundle::script("tty >/dev/null && echo one; echo two").with("/process/terminal", json!(true)).with(
        "/mounts/-",
        json!({ "destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"] }),
    );
    assert_eq!(bundle.run().success().stdout, "one\ntwo\n");
}

/// A user by name has the groups of that name, a number those of the first process.
#[test]
fn groups_of_execs_user() {
    needs!();
    let user = json!({ "uid": 0, "gid": 0, "additionalGids": [7] });
    let bundle = Bundle::new().with("/process/args", json!(["sleep", "1000"])).with("/process/user", user);
    std::fs::write(bundle.dir().join("rootfs/etc/passwd"), "five:x:5:99::/:/bin/sh\n").unwrap();
    std::fs::write(bundle.dir().join("rootfs/etc/group"), "more:x:77:five\n").unwrap();
    bundle.create().success();
    bundle.start().success();
    let groups = |words: &[&str]| {
        let words = [&["exec"][..], words, &[&bundle.id, "id", "-G"]].concat();
        bundle.container(&words).success().stdout.trim().to_string()
    };
    assert_eq!(groups(&["-u", "five"]), "99 77");
    assert_eq!(groups(&["-u", "five", "-g", "8"]), "99 8 77");
    assert_eq!(groups(&["-u", "5"]), "0 7");
    assert_eq!(groups(&["-u", "5:6", "--additional-gids", "8"]), "6 7 8");
}

/// A low limit is the command's: what is open while a container with a user namespace is made does not count.
#[test]
fn a_low_limit_of_open_files() {
    needs!();
    let limits = json!([{ "type": "RLIMIT_NOFILE", "soft": 12, "hard": 12 }]);
    let mut bundle = two_maps(Bundle::script("ulimit -n; ulimit -Hn")).with("/process/rlimits", limits);
    for n in 0..16 {
        let source = bundle.sandbox.join(&format!("source-{n}"));
        std::fs::create_dir(&source).unwrap();
        let mount = json!({ "destination": format!("/mnt/{n}"), "type": "bind", "source": source, "options": ["bind"] });
        bundle = bundle.with("/mounts/-", mount);
    }
    open_to_all(&bundle);
    bundle.run().success().stdout_is("12\n12");
}

/// In a user namespace the limits of what enters it are set from outside, where the privilege to raise them counts.
#[test]
fn limits_of_exec_in_a_user_namespace() {
    needs!();
    require!(drydock_testkit::probe::capability(24), "needs CAP_SYS_RESOURCE");
    let limits = json!([{ "type": "RLIMIT_NOFILE", "soft": 200, "hard": 300 }]);
    let args = json!(["sleep", "1000"]);
    let bundle = two_maps(Bundle::new().with("/process/args", args)).with("/process/rlimits", limits);
    open_to_all(&bundle);
    bundle.create().success();
    bundle.start().success();
    let plain = bundle.sandbox.command("container");
    let mut command = std::process::Command::new("sh");
    let script = "ulimit -n 100; exec \"$0\" exec \"$1\" sh -c 'ulimit -n; ulimit -Hn'";
    command.args(["-c", script]).arg(plain.get_program()).arg(&bundle.id);
    command.envs(plain.get_envs().filter_map(|(key, value)| Some((key, value?))));
    drydock_testkit::run(&mut command).success().stdout_is("200\n300");
}

/// `idmap` without maps in a container that joins another's user namespace: the maps are that namespace's.
#[test]
fn idmap_of_a_joined_user_namespace() {
    needs!();
    let first = two_maps(Bundle::new().with("/process/args", json!(["sleep", "1000"])));
    open_to_all(&first);
    first.create().success();
    let pid = first.state()["pid"].to_string();
    let source = first.sandbox.join("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("file"), "").unwrap();
    std::os::unix::fs::chown(source.join("file"), Some(7), Some(8)).unwrap();
    let mount =
        json!({ "destination": "/mnt", "type": "bind", "source": source, "options": ["rbind", "idmap"] });
    let second = two_maps(Bundle::script("stat -c %u:%g /mnt/file"))
        .without("/linux/uidMappings")
        .without("/linux/gidMappings")
        .without("/linux/namespaces")
        .with(
            "/linux/namespaces",
            json!([{ "type": "mount" }, { "type": "user", "path": format!("/proc/{pid}/ns/user") }]),
        )
        .with("/mounts", json!([mount]));
    open_to_all(&second);
    let output = second.run();
    require!(!output.stderr.contains("has no id-mapped mounts"), "no id-mapped mounts on this file system");
    output.success().stdout_is("7:8");
}

/// The ids of a user namespace may walk to its root.
fn open_to_all(bundle: &Bundle) {
    use std::os::unix::fs::PermissionsExt;
    for dir in [bundle.sandbox.path(), &bundle.dir()] {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// What cannot be executed, in the words that are looked for; help that names the command first.
#[test]
fn words_of_exec_and_help() {
    needs!();
    let bundle = Bundle::new().with("/process/args", json!(["sleep", "1000"]));
    let script = bundle.dir().join("rootfs/run.sh");
    std::fs::write(&script, "#!/no/interpreter\n").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    bundle.create().success();
    bundle.start().success();
    let output = bundle.container(&["exec", &bundle.id, "/run.sh"]).fails_with(126);
    output.says("exec /run.sh: no such file or directory").says("/no/interpreter");
    for verb in ["run", "exec", "checkpoint", "features"] {
        let output = bundle.container(&[verb, "-h"]).success();
        let lines: Vec<&str> = output.stdout.lines().take(2).collect();
        assert!(
            lines[0] == "NAME:" && lines[1].trim().starts_with(&format!("container {verb} - ")),
            "{lines:?}"
        );
        assert!(output.stdout.contains(&format!("Usage: container {verb}")), "{}", output.stdout);
    }
    bundle.container(&["foo", "-h"]).fails_with(2).says("No help topic for 'foo'");
    bundle.container(&["--help"]).success().stdout_has("container - Open Container Initiative runtime");
}

/// The first process was moved and its cgroup removed: what enters the container goes where that process is.
#[test]
fn exec_follows_the_first_process_to_another_cgroup() {
    needs!();
    let places = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
    let v2 = places.into_iter().find(|place| place.join("cgroup.procs").exists());
    require!(v2.is_some(), "needs cgroup2");
    let v2 = v2.unwrap();
    let bundle = Bundle::new().with("/process/args", json!(["sleep", "1000"]));
    bundle.create().success();
    bundle.start().success();
    let pid = bundle.state()["pid"].to_string();
    let path = |lines: &str| lines.lines().find_map(|line| line.strip_prefix("0::/")).unwrap().to_string();
    let before = v2.join(path(&std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap()));
    let other = v2.join(bundle.sandbox.unique("other"));
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("cgroup.procs"), &pid).unwrap();
    std::fs::remove_dir(&before).unwrap();
    let output = bundle.container(&["exec", &bundle.id, "cat", "/proc/self/cgroup"]);
    bundle.container(&["delete", "-f", &bundle.id]).success();
    bundle.sandbox.wait_until("an empty cgroup", || std::fs::remove_dir(&other).is_ok());
    assert_eq!(v2.join(path(&output.success().stdout)), other);
}

/// A caller that may write no file: an error, and nothing is left.
#[test]
fn a_limit_of_file_sizes() {
    needs!();
    let bundle = Bundle::new();
    bundle.write();
    let line = "ulimit -f 0; exec \"$0\" --root \"$1\" create --bundle \"$2\" \"$3\" </dev/null";
    let mut shell = std::process::Command::new("/bin/sh");
    shell.args(["-c", line]).arg(drydock_testkit::bin("container"));
    shell.arg(bundle.sandbox.state()).arg(bundle.dir()).arg(&bundle.id);
    drydock_testkit::run(&mut shell).exits(125).says("EFBIG");
    bundle.is_gone();
    bundle.container(&["gc", "--check"]).success();
    // The command has the default again.
    let args = json!(["busybox", "grep", "SigIgn", "/proc/self/status"]);
    let bundle = Bundle::new().with("/process/args", args);
    bundle.run().success().stdout_is("SigIgn:\t0000000000000000");
}

/// What is wrong in a process or in limits of their own is told by the name that it has there.
#[test]
fn places_in_other_files() {
    needs!();
    let bundle = Bundle::new().with("/process/args", json!(["sleep", "1000"]));
    bundle.create().success();
    bundle.start().success();
    let file = bundle.sandbox.join("file.json");
    let path = file.to_str().unwrap();
    let process = json!({ "args": ["true"], "cwd": "/", "scheduler": { "policy": "X" } });
    for (text, says) in [
        (process.to_string(), "container: --process: /scheduler/policy: 'X'"),
        (String::new(), "container: --process: empty"),
        ("{\"args\":".to_string(), "container: --process: line 1 column 8: "),
        ("{\"args\":[1]}".to_string(), "container: --process: /args/0: "),
    ] {
        std::fs::write(&file, text).unwrap();
        bundle.container(&["exec", "--process", path, &bundle.id]).fails_with(2).says(says);
    }
    for (text, says) in [
        (json!({ "cpu": { "cpus": "5000" } }).to_string(), "container: --resources: /cpu/cpus: "),
        (json!({ "blockIO": { "weight": 5 } }).to_string(), "container: --resources: /blockIO/weight: "),
        ("[]".to_string(), "container: --resources: is a list"),
    ] {
        std::fs::write(&file, text).unwrap();
        bundle.container(&["update", "--resources", path, &bundle.id]).fails_with(2).says(says);
    }
    for (option, value) in [("--cpuset-cpus", "5000"), ("--cpu-period", "5"), ("--blkio-weight", "5")] {
        let says = format!("container: {option}: ");
        bundle.container(&["update", option, value, &bundle.id]).fails_with(2).says(&says);
    }
    // An engine would look for errors in a log that cannot be.
    bundle.container(&["--log", "/nosuch/log", "list"]).fails_with(2).says("--log: '/nosuch/log': ");
    bundle.container(&["--log", "", "list"]).success();
}
