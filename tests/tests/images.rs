//! `container run IMAGE`: what an image says about its command holds, unless the command line says otherwise; an image
//! reaches nothing of the host.
#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on fails

use drydock_testkit::registry::Wants;
use drydock_testkit::{Output, Registry, Sandbox, have, is_root, require};
use std::os::unix::fs::{PermissionsExt, symlink};

/// An image of busybox in a layout, `img:v1`, as these words of `rootfs config` have it. False without a busybox.
fn image(sandbox: &Sandbox, prepare: impl FnOnce(&std::path::Path), words: &[&str]) -> bool {
    let root = sandbox.join("root").display().to_string();
    if sandbox.run("rootfs", &["busybox", &root]).code != Some(0) {
        return false;
    }
    prepare(&sandbox.join("root"));
    let layout = reference(sandbox);
    sandbox.run("rootfs", &["pack", &root, &layout]).success();
    sandbox.run("rootfs", &[&["config", layout.as_str()], words].concat()).success();
    true
}

fn reference(sandbox: &Sandbox) -> String {
    format!("oci:{}:v1", sandbox.join("img").display())
}

#[track_caller]
fn run(sandbox: &Sandbox, words: &[&str]) -> Output {
    sandbox.run("container", &[&["run", "--rm", "--net", "none"], words].concat())
}

#[test]
fn what_an_image_says_holds_unless_the_command_line_says_otherwise() {
    let sandbox = Sandbox::new();
    let prepare = |root: &std::path::Path| {
        std::fs::create_dir_all(root.join("srv/data")).unwrap();
        std::fs::write(root.join("srv/data/seed"), "seed").unwrap();
        std::fs::set_permissions(root.join("srv/data"), std::fs::Permissions::from_mode(0o750)).unwrap();
        std::fs::create_dir(root.join("job")).unwrap();
        let passwd = std::fs::read_to_string(root.join("etc/passwd")).unwrap();
        std::fs::write(root.join("etc/passwd"), passwd + "joe:x:1000:1000::/:/bin/sh\n").unwrap();
    };
    let config = [
        "--entrypoint",
        "[\"/bin/echo\",\"entry\"]",
        "--cmd",
        "[\"a\",\"b\"]",
        "-e",
        "FOO=image",
        "-e",
        "BAR=image",
        "-w",
        "/job",
        "--volume",
        "/srv/data",
        "--label",
        "org.systemd.property.X=1",
        "--label",
        "io.kubernetes.cri-o.Devices=/dev/kmsg",
    ];
    require!(image(&sandbox, prepare, &config), "no static busybox");
    let oci = reference(&sandbox);
    assert_eq!(run(&sandbox, &[&oci]).success().stdout, "entry a b\n");
    assert_eq!(run(&sandbox, &[&oci, "c"]).success().stdout, "entry c\n");
    assert_eq!(run(&sandbox, &["--entrypoint", "", &oci, "pwd"]).success().stdout, "/job\n");
    assert_eq!(
        run(&sandbox, &["--entrypoint", "pwd", "-w", "/etc", "--image", &oci]).success().stdout,
        "/etc\n"
    );
    std::fs::write(sandbox.join("env"), "BAR=file\n").unwrap();
    let env = sandbox.join("env").display().to_string();
    let script = "echo $FOO $BAR; cat /srv/data/seed; stat -c ' %a' /srv/data; echo x >/srv/data/new && echo wrote; ls /dev/kmsg";
    let words =
        ["--read-only", "--env-file", &env, "-e", "FOO=mine", "--entrypoint", "sh", &oci, "-c", script];
    let output = run(&sandbox, &words);
    assert_eq!(output.stdout, "mine file\nseed 750\nwrote\n", "{}", output.describe());
    // From the store, from archives, by an ambiguous word and not.
    sandbox.run("rootfs", &["pull", &oci, "app:v1"]).success();
    let (docker, archive) =
        (sandbox.join("d.tar").display().to_string(), sandbox.join("o.tar").display().to_string());
    sandbox.run("rootfs", &["push", "app:v1", &format!("docker-archive:{docker}:app:v1")]).success();
    sandbox.run("rootfs", &["push", "app:v1", &format!("oci-archive:{archive}")]).success();
    for image in
        ["app:v1", "store:app:v1", &format!("docker-archive:{docker}"), &format!("oci-archive:{archive}")]
    {
        assert_eq!(run(&sandbox, &[image, "c"]).success().stdout, "entry c\n", "{image}");
    }
    run(&sandbox, &["--", "app:v1"]).fails_with(127);
    run(&sandbox, &["--pull", "never", "--image", "nobody"]).fails_with(2).says("rootfs pull");
    run(&sandbox, &["--image", "app:v1", "--rootfs", "/x"]).fails_with(2);
    // A directory as the first word is a root.
    let root = sandbox.join("root").display().to_string();
    assert_eq!(run(&sandbox, &[&root, "/bin/echo", "hello"]).success().stdout, "hello\n");
    // What a container writes is not in the image.
    run(&sandbox, &["--entrypoint", "", "app:v1", "rm", "-rf", "/etc/passwd"]).success();
    let passwd = run(&sandbox, &["--entrypoint", "", "app:v1", "cat", "/etc/passwd"]).success();
    assert!(passwd.stdout.contains("joe"), "{}", passwd.describe());
    if is_root() {
        let id = |words: &[&str]| run(&sandbox, words).success().stdout;
        sandbox.run("rootfs", &["config", "app:v1", "-u", "joe"]).success();
        assert_eq!(id(&["--entrypoint", "id", "app:v1", "-u"]), "1000\n");
        assert_eq!(id(&["--entrypoint", "id", "-u", "0", "app:v1", "-u"]), "0\n");
        assert_eq!(id(&["--userns", "0:700000:65536", "--entrypoint", "id", "app:v1", "-u"]), "1000\n");
    }
    assert!(sandbox.census().is_empty());
}

#[test]
fn its_stop_signal_stops_it_and_its_tree_stays_while_it_runs() {
    let sandbox = Sandbox::new();
    let script = "trap 'exit 7' USR1; echo ready; while :; do sleep 0.1; done";
    let cmd = serde_json::to_string(&["sh", "-c", script]).unwrap();
    require!(image(&sandbox, |_| {}, &["--cmd", &cmd, "--stop-signal", "USR1"]), "no static busybox");
    sandbox.run("rootfs", &["pull", &reference(&sandbox), "app"]).success();
    let name = sandbox.unique("stop");
    let mut start = sandbox.command("container");
    start
        .args(["run", "-d", "--net", "none", "--name", &name, "app"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    assert!(start.status().unwrap().success());
    sandbox.wait_until("it runs", || sandbox.run("container", &["logs", &name]).stdout.contains("ready"));
    sandbox.run("rootfs", &["untag", "app"]).success();
    sandbox.run("rootfs", &["gc"]).success();
    sandbox.run("container", &["exec", &name, "ls", "/bin/busybox"]).success();
    sandbox.run("container", &["stop", &name]).success();
    assert_eq!(sandbox.run("container", &["wait", &name]).stdout.trim(), "7");
    sandbox.run("container", &["delete", &name]).success();
    sandbox.run("rootfs", &["gc"]).success();
    let left = std::fs::read_dir(sandbox.data().join("images/trees")).unwrap().count();
    assert_eq!(left, 0, "a tree is left");
}

#[test]
fn an_image_full_of_links_reaches_nothing_outside() {
    let sandbox = Sandbox::new();
    let outside = sandbox.join("outside");
    std::fs::create_dir(&outside).unwrap();
    for name in ["resolv.conf", "hosts", "hostname", "passwd"] {
        std::fs::write(outside.join(name), "the host's\n").unwrap();
    }
    let prepare = |root: &std::path::Path| {
        for name in ["resolv.conf", "hosts", "hostname"] {
            let _ = std::fs::remove_file(root.join("etc").join(name));
            symlink(outside.join(name), root.join("etc").join(name)).unwrap();
        }
        symlink(&outside, root.join("vol")).unwrap();
        symlink(&outside, root.join("job")).unwrap();
    };
    let config = [
        "--cmd",
        "[\"/bin/sh\",\"-c\",\"echo x >/etc/hosts; echo y >file; echo z >/vol/z; echo ran\"]",
        "-w",
        "/job/sub",
        "--volume",
        "/vol",
        "--volume",
        "/proc",
        "--volume",
        "/",
    ];
    require!(image(&sandbox, prepare, &config), "no static busybox");
    let before: Vec<_> = tree(&outside);
    let output = run(&sandbox, &[&reference(&sandbox)]);
    // Whether it runs or is refused: nothing of the host is touched.
    assert_eq!(tree(&outside), before, "{}", output.describe());
    assert!(!output.stderr.contains("panicked"), "{}", output.describe());
    assert!(sandbox.census().is_empty());
}

fn tree(dir: &std::path::Path) -> Vec<(String, String)> {
    let mut all: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .map(|p| (p.display().to_string(), std::fs::read_to_string(&p).unwrap_or_default()))
        .collect();
    all.sort();
    all
}

#[test]
fn an_image_that_is_not_there_is_told_of_as_one() {
    let sandbox = Sandbox::new();
    for word in ["foo:v1", "docker.io/library/x:y", "quay.io/a/b", "docker://x"] {
        sandbox
            .run("container", &["run", "--rm", "--pull", "never", word])
            .exits(2)
            .says("is not in the store");
    }
    sandbox.run("container", &["run", "--rm", "--pull", "sometimes", "x:y"]).exits(2).says("--pull");
    // Nobody listens there.
    sandbox.run("container", &["run", "--rm", "localhost:1/x:y"]).exits(125).says("localhost:1/x:y");
    assert!(sandbox.census().is_empty());
}

#[test]
fn an_image_that_is_not_in_the_store_comes_from_its_registry() {
    require!(have("docker-registry"), "docker-registry is not installed");
    let sandbox = Sandbox::new();
    let registry = Registry::start(&sandbox.join("registry"), Wants { password: true, ..Wants::default() });
    let auth = sandbox.join("auth.json").display().to_string();
    let login = ["login", "--authfile", &auth, "-u", "u", "-p", "p", &registry.host()];
    sandbox.run("rootfs", &login).success();
    require!(image(&sandbox, |_| {}, &["--cmd", "[\"echo\",\"one\"]"]), "no static busybox");
    let name = format!("{}/team/app:v1", registry.host());
    let push = || {
        let words = ["push", "--authfile", &auth, &reference(&sandbox), &name];
        sandbox.run("rootfs", &words).success();
    };
    push();
    let start = |policy: &str| run(&sandbox, &["--authfile", &auth, "--pull", policy, &name]);
    start("never").exits(2).says("is not in the store");
    let first = run(&sandbox, &["--authfile", &auth, &name]).success();
    assert_eq!(
        (first.stdout.as_str(), first.stderr.contains("pulling")),
        ("one\n", true),
        "{}",
        first.describe()
    );
    // It is in the store now, under its whole name; a newer one is taken only when asked for.
    sandbox.run("rootfs", &["list", "-q"]).success().stdout_is(&name);
    sandbox.run("rootfs", &["config", &reference(&sandbox), "--cmd", "[\"echo\",\"two\"]"]).success();
    push();
    let again = start("missing").success();
    assert_eq!((again.stdout.as_str(), again.stderr.as_str()), ("one\n", ""));
    assert_eq!(start("never").success().stdout, "one\n");
    assert_eq!(start("always").success().stdout, "two\n");
    assert_eq!(start("missing").success().stdout, "two\n");
    // A service of a Compose file is started from one as well.
    let up = |service: &str| {
        std::fs::write(
            sandbox.join("compose.yaml"),
            format!("name: {}\nservices:\n  a:\n    network_mode: none\n{service}", sandbox.unique("up")),
        )
        .unwrap();
        sandbox.run("container", &["up"])
    };
    let output = up(&format!("    image: {name}\n"));
    assert!(output.stdout.contains("two"), "{}", output.describe());
    let output = up(&format!(
        "    image: {name}\n    pull_policy: never\n    entrypoint: [echo, entry]\n    command: [word]\n"
    ));
    assert!(output.stdout.contains("entry word"), "{}", output.describe());
    up("    image: nobody:x\n    pull_policy: never\n")
        .exits(2)
        .says("/services/a/image")
        .says("is not in the store");
    up("    image: x\n    pull_policy: weekly\n").exits(2).says("pull_policy");
    up("    image: x\n    x-rootfs: .\n").exits(2).says("x-rootfs");
    drop(registry);
    start("always").exits(125);
    let kept = start("newer").success();
    assert_eq!((kept.stdout.as_str(), kept.stderr.contains("the stored one is taken")), ("two\n", true));
    assert!(sandbox.census().is_empty());
}

#[test]
fn what_a_running_container_has_changed_becomes_a_layer() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    require!(image(&sandbox, |_| {}, &["--cmd", "[\"cat\",\"/new\"]"]), "no static busybox");
    sandbox.run("rootfs", &["pull", &reference(&sandbox), "app"]).success();
    let script = "echo written >/new; chown 5:6 /new; rm /bin/vi; mkdir -p /d/e; echo x >/tmp/x; echo ready; sleep 600";
    for (n, more) in [&[][..], &["--userns", "0:700000:65536"]].into_iter().enumerate() {
        let (name, made) = (sandbox.unique("commit"), format!("made{n}"));
        let start =
            [&["run", "-d", "--net", "none", "--name", &name], more, &["app", "sh", "-c", script]].concat();
        sandbox.run("container", &start).success();
        sandbox.wait_until("it has written", || {
            sandbox.run("container", &["logs", &name]).stdout.contains("ready")
        });
        sandbox.run("rootfs", &["pack", "--container", &name, &made]).success();
        // What is mounted in it (/proc, /etc/hosts, …) is neither in the layer nor taken away by it.
        let diff = sandbox.run("rootfs", &["diff", "app", &made]);
        // Directories in which something has changed may be younger, too.
        let lines: Vec<&str> = diff.stdout.lines().filter(|l| !l.starts_with("C ")).collect();
        assert_eq!(lines, ["D /bin/vi", "A /d", "A /d/e", "A /new", "A /tmp/x"], "{}", diff.describe());
        assert_eq!(run(&sandbox, &[&made]).success().stdout, "written\n");
        assert_eq!(run(&sandbox, &[&made, "stat", "-c", "%u:%g", "/new"]).success().stdout, "5:6\n");
        sandbox.run("container", &["delete", "--force", &name]).success();
        sandbox.run("rootfs", &["pack", "--container", &name, "gone"]).fails_with(2);
    }
    // Of one without an image: its whole root.
    let name = sandbox.unique("whole");
    sandbox
        .run("container", &["run", "-d", "--net", "none", "--name", &name, "--", "sleep", "600"])
        .success();
    sandbox.run("rootfs", &["pack", "--container", &name, "whole"]).success();
    assert_eq!(run(&sandbox, &["whole", "sh", "-c", "echo $0"]).success().stdout, "sh\n");
    sandbox.run("container", &["delete", "--force", &name]).success();
    assert!(sandbox.census().is_empty());
}

/// Becomes a user with a name, and with the ids that the file grants, in a mount namespace of its own.
const BECOME: &str = r#"
for name in passwd group subuid subgid; do mount --bind "$FILES/$name" "/etc/$name" || exit; done
exec setpriv --reuid 54321 --regid 54321 --clear-groups -- "$@"
"#;

#[test]
fn a_users_image_has_files_of_several_users_where_ids_are_granted() {
    require!(is_root() && have("setpriv") && have("newuidmap"), "needs root, setpriv and newuidmap");
    let open = std::fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
    require!(open.trim() != "0", "user namespaces are switched off");
    let prepare = |root: &std::path::Path| {
        std::fs::write(root.join("joes"), "").unwrap();
        std::os::unix::fs::chown(root.join("joes"), Some(1000), Some(1001)).unwrap();
    };
    for (grant, expected) in [("ddtest:200000:65536\n", "1000:1001 1000"), ("other:1:1\n", "0:0 refused")] {
        let sandbox = Sandbox::new();
        require!(image(&sandbox, prepare, &[]), "no static busybox");
        for name in ["passwd", "group"] {
            let text = std::fs::read_to_string(format!("/etc/{name}")).unwrap();
            let line =
                if name == "passwd" { "ddtest:x:54321:54321::/:/bin/sh\n" } else { "ddtest:x:54321:\n" };
            std::fs::write(sandbox.join(name), text + line).unwrap();
        }
        for name in ["subuid", "subgid"] {
            std::fs::write(sandbox.join(name), grant).unwrap();
        }
        let data = sandbox.data();
        let owner = |dir: &std::path::Path| {
            let chown =
                std::process::Command::new("chown").args(["-R", "54321:54321"]).arg(dir).status().unwrap();
            assert!(chown.success());
        };
        let _ = std::fs::remove_dir_all(&data);
        owner(sandbox.path());
        let user = |tool: &str, words: &[&str]| {
            let mut command = std::process::Command::new("unshare");
            command.args(["--mount", "--propagation", "private", "sh", "-c", BECOME, "become"]);
            command.arg(drydock_testkit::bin(tool)).args(words).current_dir(sandbox.path());
            command.env("FILES", sandbox.path());
            command.env("DRYDOCK_ROOT", sandbox.state()).env("DRYDOCK_DATA", sandbox.data());
            drydock_testkit::run(&mut command)
        };
        let first = ["run", "--rm", "--net", "none"];
        let script = "stat -c %u:%g /joes; cat /proc/self/uid_map >/dev/null";
        let inside = user("container", &[&first[..], &[&reference(&sandbox), "sh", "-c", script]].concat());
        assert!(inside.success().stdout.starts_with(expected.split(' ').next().unwrap()));
        let as_joe =
            user("container", &[&first[..], &["-u", "1000", &reference(&sandbox), "id", "-u"]].concat());
        let said = if as_joe.code == Some(0) { as_joe.stdout.trim() } else { "refused" };
        assert_eq!(expected.split(' ').nth(1), Some(said), "{}", as_joe.describe());
        user("rootfs", &["gc"]).success();
        assert_eq!(std::fs::read_dir(data.join("images/trees")).map_or(0, Iterator::count), 0);
    }
}
