//! config.md.

use crate::bundle::Bundle;
use crate::needs;
use serde_json::json;

/// "MUST be in SemVer v2.0.0 format"
#[test]
fn configuration_specification_version_is_semver() {
    needs!();
    for version in ["1.0", "x", "01.0.0", "9.0.0"] {
        Bundle::new().with("/ociVersion", json!(version)).is_refused("/ociVersion");
    }
    for version in ["1.0.0", "1.0.2-dev", "1.2.1+dev", "1.9.0"] {
        Bundle::new().with("/ociVersion", json!(version)).run().success();
    }
}

/// "A directory MUST exist at the path declared by the field."
#[test]
fn config_root_is_a_directory_that_exists() {
    needs!();
    for path in ["nosuch", "config.json", ""] {
        Bundle::new().with("/root/path", json!(path)).is_refused("/root/path");
    }
}

/// The bundle's own directory may be the root, as runc's users have it.
#[test]
fn config_root_is_the_bundle() {
    needs!();
    let bundle = Bundle::new().with("/root/path", json!("."));
    bundle.write();
    let root = bundle.dir().join("rootfs");
    std::fs::copy(bundle.dir().join("config.json"), root.join("config.json")).unwrap();
    bundle.container(&["run", "--bundle", root.to_str().unwrap(), &bundle.id]).success();
}

/// "If true then the root filesystem MUST be read-only inside the container, defaults to false."
#[test]
fn config_root_readonly() {
    needs!();
    Bundle::script("touch /x && echo made").run().success().stdout_has("made");
    let bundle = Bundle::script("touch /x || echo refused").with("/root/readonly", json!(true));
    bundle.run().success().stdout_has("refused");
}

/// "The runtime MUST mount entries in the listed order."
#[test]
fn config_mounts_in_the_listed_order() {
    needs!();
    let tmpfs = |at: &str, size: &str| json!({ "destination": at, "type": "tmpfs", "source": size, "options": [format!("size={size}")] });
    let bundle = Bundle::script("cat /proc/self/mountinfo; ls -d /mnt/a")
        .with("/mounts/-", tmpfs("/mnt", "64k"))
        .with("/mounts/-", tmpfs("/mnt/a", "32k"));
    bundle.run().success().stdout_has("/mnt/a\n");
}

/// "it MAY be a relative path, in which case it MUST be interpreted as relative to \"/\""
#[test]
fn config_mounts_relative_destination() {
    needs!();
    let mount = json!({ "destination": "mnt", "type": "tmpfs", "source": "tmpfs" });
    let bundle = Bundle::script("cat /proc/self/mountinfo").with("/mounts/-", mount);
    bundle.run().success().stdout_has(" /mnt ");
}

/// "Runtimes MUST implement the following option strings for Linux"
#[test]
fn config_mounts_options() {
    needs!();
    let must = "async atime defaults dev diratime dirsync exec iversion lazytime loud noatime nodev nodiratime noexec \
        noiversion nolazytime norelatime nostrictatime nosuid private relatime ro rprivate rshared rslave runbindable rw \
        shared silent slave strictatime suid sync unbindable";
    let words: Vec<&str> = must.split_whitespace().collect();
    let mounts = words.iter().enumerate().map(|(n, word)| {
        json!({ "destination": format!("/mnt/{n}"), "type": "tmpfs", "source": "tmpfs", "options": [word] })
    });
    let bundle = Bundle::script("exec cat /proc/self/mountinfo");
    let bundle = mounts.fold(bundle, |bundle, mount| bundle.with("/mounts/-", mount));
    let shown = bundle.run().success().stdout;
    let options = |word: &str| {
        let n = words.iter().position(|w| *w == word).unwrap();
        let line = shown.lines().find(|line| line.contains(&format!(" /mnt/{n} "))).unwrap();
        line.split(' ').nth(5).unwrap().split(',').map(String::from).collect::<Vec<_>>()
    };
    for word in ["ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime"] {
        assert!(options(word).iter().any(|option| option == word), "{word}: {:?}", options(word));
    }
    assert!(shown.contains("shared:"), "shared and rshared: {shown}");
}

/// "If specified, it MUST be specified along with `gidMappings`."
#[test]
fn config_mounts_mappings_come_in_pairs() {
    needs!();
    let map = json!([{ "containerID": 0, "hostID": 0, "size": 1 }]);
    for field in ["uidMappings", "gidMappings"] {
        let mut mount = json!({ "destination": "/mnt", "source": "/tmp", "options": ["bind"] });
        mount[field] = map.clone();
        Bundle::new().with("/mounts/-", mount).is_refused("/mounts/2");
    }
}

/// "Runtimes MUST ignore `consoleSize` if `terminal` is `false` or unset."
#[test]
fn config_process_console_size_without_terminal() {
    needs!();
    Bundle::new().with("/process/consoleSize", json!({ "height": 9, "width": 9 })).run().success();
}

/// "This value MUST be an absolute path."
#[test]
fn config_process_cwd_is_absolute() {
    needs!();
    Bundle::new().with("/process/cwd", json!("tmp")).is_refused("/process/cwd");
    Bundle::script("pwd").with("/process/cwd", json!("/tmp")).run().success().stdout_is("/tmp");
}

/// "`rlim.rlim_cur` MUST match the configured value", and rlim_max
#[test]
fn posix_process_rlimits_match() {
    needs!();
    let limits = json!([{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 }]);
    let bundle = Bundle::script("ulimit -Sn; ulimit -Hn").with("/process/rlimits", limits);
    bundle.run().success().stdout_is("100\n200");
}

/// "If `rlimits` contains duplicated entries with same `type`, the runtime MUST generate an error", and so for types that
/// cannot be mapped
#[test]
fn posix_process_rlimits_errors() {
    needs!();
    let one = |name: &str| json!({ "type": name, "soft": 100, "hard": 200 });
    let twice = json!([one("RLIMIT_NOFILE"), one("RLIMIT_NOFILE")]);
    Bundle::new().with("/process/rlimits", twice).is_refused("/process/rlimits/1");
    Bundle::new().with("/process/rlimits", json!([one("RLIMIT_X")])).is_refused("/process/rlimits/0/type");
}

/// "Any value which cannot be mapped … or cannot be granted otherwise MUST be logged as a warning by the runtime."
#[test]
fn linux_process_capabilities_that_are_unknown() {
    needs!();
    let sets = json!({ "bounding": ["CAP_KILL", "CAP_BOGUS"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"] });
    let bundle = Bundle::script("exec cat /proc/self/status").with("/process/capabilities", sets);
    let output = bundle.run().success();
    assert!(output.stderr.contains("warning") && output.stderr.contains("CAP_BOGUS"), "{}", output.stderr);
    output.stdout_has("CapBnd:\t0000000000000020");
}

/// "If `oomScoreAdj` is set, the runtime MUST set `oom_score_adj` to the given value. If … not set, … MUST NOT change"
#[test]
fn linux_process_oom_score_adj() {
    needs!();
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    let script = "cat /proc/self/oom_score_adj";
    Bundle::script(script).run().success().stdout_is(own.trim());
    Bundle::script(script).with("/process/oomScoreAdj", json!(1000)).run().success().stdout_is("1000");
    Bundle::new().with("/process/oomScoreAdj", json!(1001)).is_refused("/process/oomScoreAdj");
}

/// The ids of the process are exactly the configuration's
#[test]
fn posix_platform_user() {
    needs!();
    let user = json!({ "uid": 5, "gid": 6, "additionalGids": [7, 8], "umask": 0o077 });
    let bundle = Bundle::script("id -u; id -g; id -G; umask; echo $HOME").with("/process/user", user);
    std::fs::write(bundle.dir().join("rootfs/etc/passwd"), "five:x:5:99::/srv/five:/bin/sh\n").unwrap();
    std::fs::write(bundle.dir().join("rootfs/etc/group"), "more:x:77:five\n").unwrap();
    bundle.run().success().stdout_is("5\n6\n6 7 8\n0077\n/srv/five");
}

/// hostname and domainname are the container's
#[test]
fn config_hostname_and_domainname() {
    needs!();
    let bundle = Bundle::script("hostname; cat /proc/sys/kernel/domainname")
        .with("/hostname", json!("conformant"))
        .with("/domainname", json!("example.org"));
    bundle.run().success().stdout_is("conformant\nexample.org");
}

/// "Keys MUST NOT be an empty string." "Values MUST be strings."
#[test]
fn config_annotations() {
    needs!();
    Bundle::new().with("/annotations", json!({ "": "x" })).is_refused("/annotations");
    Bundle::new().with("/annotations", json!({ "a": 1 })).is_refused("/annotations/a");
    let bundle = Bundle::new().with("/annotations", json!({ "org.example.key": "value" }));
    bundle.create().success();
    assert_eq!(bundle.state()["annotations"]["org.example.key"], "value");
}

/// "Runtimes MAY log unknown properties but MUST otherwise ignore them."
#[test]
fn config_extensibility() {
    needs!();
    let bundle = Bundle::new().with("/unknown", json!({ "a": [1] })).with("/process/unknown", json!(5));
    bundle.with("/linux/unknown", json!("x")).run().success();
}

/// "Runtimes MUST generate an error when invalid or unsupported values are encountered."
#[test]
fn config_valid_values() {
    needs!();
    for (pointer, value) in [
        ("/process/terminal", json!("yes")),
        ("/process/args", json!([])),
        ("/process/user/uid", json!(-1)),
        ("/process/scheduler", json!({ "policy": "SCHED_X" })),
        ("/process/ioPriority", json!({ "class": "IOPRIO_CLASS_X" })),
        ("/linux/rootfsPropagation", json!("x")),
        ("/linux/personality", json!({ "domain": "X" })),
        ("/linux/resources", json!({ "memory": { "limit": -2 } })),
        ("/linux/devices", json!([{ "type": "z", "path": "/dev/z", "major": 1, "minor": 3 }])),
    ] {
        Bundle::new().with(pointer, value).is_refused(pointer);
    }
}
