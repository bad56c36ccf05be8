//! `--userns`, and containers of an unprivileged user: who is root inside, and whose the files are.

use drydock_testkit::{Sandbox, bin, have, require, run};
use std::os::unix::fs::MetadataExt;
use std::process::Command;

#[test]
fn auto_maps_a_block_of_ids_and_the_files_with_it() {
    require!(drydock_testkit::is_root(), "needs root");
    let sandbox = Sandbox::new();
    let script = "id -u; cat /proc/self/uid_map; stat -c %u /etc /bin/sh /root; touch /etc/new && stat -c %u /etc/new; \
                  chown 7:7 /etc/new && stat -c %u:%g /etc/new";
    let out =
        sandbox.run("container", &["run", "--rm", "--userns", "auto", "--", "sh", "-c", script]).success();
    let lines: Vec<&str> = out.stdout.lines().collect();
    assert_eq!(lines.first(), Some(&"0"), "{out:?}");
    let map: Vec<u32> = lines[1].split_whitespace().map(|n| n.parse().unwrap()).collect();
    assert!(map[0] == 0 && map[1] >= 65_536 && map[2] == 65_536, "ids of its own: {map:?}");
    assert_eq!(
        &lines[2..],
        ["0", "0", "0", "0", "7:7"],
        "the shared root is shifted, and what is written too"
    );
}

#[test]
fn a_directory_as_root_is_shifted_and_stays_as_it_is_outside() {
    require!(drydock_testkit::is_root(), "needs root");
    let sandbox = Sandbox::new();
    let dir = sandbox.join("root").display().to_string();
    sandbox.run("rootfs", &["new", &dir]).success();
    sandbox
        .run("rootfs", &["copy", &dir, "/bin/sh", "/usr/bin/id", "/usr/bin/stat", "/usr/bin/touch"])
        .success();
    let script = "id -u; stat -c %u /etc; touch /etc/made";
    let out = sandbox.run(
        "container",
        &["run", "--rm", "--rootfs", &dir, "--userns", "0:70000:1000", "--", "sh", "-c", script],
    );
    out.success().stdout_is("0\n0");
    let made = std::fs::metadata(format!("{dir}/etc/made")).unwrap();
    assert_eq!((made.uid(), made.gid()), (0, 0), "written through the map, owned as on the host");
}

/// Where the container's root is the host's, the host's device nodes can be used, but their modes are not its to change.
#[test]
fn an_identity_map_does_not_open_the_hosts_devices() {
    require!(drydock_testkit::is_root(), "needs root");
    let sandbox = Sandbox::new();
    let mode = || std::fs::metadata("/dev/null").unwrap().mode();
    let before = mode();
    // The same mode again: a broken build must not break the host.
    let script = format!(
        "echo x > /dev/null && echo written; chmod {:o} /dev/null 2>/dev/null || echo refused",
        before & 0o7777
    );
    let args = ["run", "--rm", "--userns", "0:0:65536", "--", "sh", "-c", &script];
    sandbox.run("container", &args).success().stdout_is("written\nrefused");
    assert_eq!(mode(), before);
}

#[test]
fn bad_maps_are_refused() {
    let sandbox = Sandbox::new();
    for map in ["x", "0:1", "5:70000:10", "0:70000:0", "0:4294967295:5", ""] {
        sandbox.run("container", &["run", "--userns", map, "--", "true"]).fails_with(2).says("--userns");
    }
}

#[test]
fn an_unprivileged_user_runs_stops_and_deletes() {
    require!(drydock_testkit::is_root(), "needs root, to become somebody else");
    require!(have("setpriv"), "needs setpriv");
    let home = std::env::temp_dir().join(drydock_testkit::unique("rootless"));
    std::fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(54_321), Some(54_321)).unwrap();
    let as_user = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", "54321", "--regid", "54321", "--clear-groups", "--"])
            .arg(bin("container"))
            .args(args);
        command
            .env("XDG_RUNTIME_DIR", &home)
            .env("HOME", &home)
            .env_remove("DRYDOCK_ROOT")
            .env_remove("DRYDOCK_DATA");
        run(command.env_remove("XDG_DATA_HOME").current_dir(&home))
    };
    let first = as_user(&["run", "--rm", "--", "sh", "-c", "id -u; touch /etc/x; cat /proc/self/uid_map"]);
    let allowed = !first.stderr.contains("user namespace") && first.code != Some(125);
    if allowed {
        assert!(first.stdout.starts_with("0\n"), "{first:?}");
        assert!(first.stdout.contains("54321"), "{first:?}");
        as_user(&["run", "-d", "--name", "r", "--", "sleep", "100"]).exits(0);
        as_user(&["exec", "r", "--", "id", "-u"]).exits(0);
        as_user(&["stop", "r"]).exits(0);
        as_user(&["delete", "r"]).exits(0);
        as_user(&["gc", "--check"]).exits(0);
        as_user(&["run", "--net", "bridge", "--", "true"]).exits(2);
    }
    std::fs::remove_dir_all(&home).unwrap();
    if !allowed {
        drydock_testkit::skip(&format!("user namespaces are not allowed here: {}", first.stderr.trim()));
    }
}
