//! config.md, Mounts: what the options do; config-linux.md, devices.

use crate::bundle::Bundle;
use crate::needs;
use drydock_testkit::require;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::Command;

/// The fields of mountinfo, from the options on, of each mount below /mnt: by its name.
fn mounted(shown: &str) -> BTreeMap<String, String> {
    let fields = |line: &str| {
        let rest: Vec<&str> = line.split(' ').skip(4).collect();
        Some((rest.first()?.strip_prefix("/mnt/")?.to_string(), rest.get(1..)?.join(" ")))
    };
    shown.lines().filter_map(fields).collect()
}

/// `private`, `slave`, `shared`, `unbindable` and their recursive forms: "Bind mount propagation"
#[test]
fn config_mounts_propagation() {
    needs!();
    let words = ["private", "slave", "shared", "unbindable", "rprivate", "rslave", "rshared", "runbindable"];
    let bundle = Bundle::script("exec cat /proc/self/mountinfo");
    // A source that has peers, with a mount below it.
    let source = bundle.sandbox.join("source");
    std::fs::create_dir(&source).unwrap();
    let mount =
        |args: &[&str]| assert!(Command::new("mount").args(args).status().unwrap().success(), "{args:?}");
    let path = source.to_str().unwrap();
    mount(&["-t", "tmpfs", "dd-source", path]);
    std::fs::create_dir(source.join("below")).unwrap();
    mount(&["-t", "tmpfs", "dd-below", source.join("below").to_str().unwrap()]);
    mount(&["--make-rshared", path]);
    let bundle = words.iter().fold(bundle, |bundle, word| {
        let at = format!("/mnt/{word}");
        bundle.with("/mounts/-", json!({ "destination": at, "source": path, "options": ["rbind", word] }))
    });
    let output = bundle.run();
    assert!(Command::new("umount").args(["-R", path]).status().unwrap().success());
    let shown = mounted(&output.success().stdout);
    let has = |name: String, tag: &str| shown[&name].split(" - ").next().unwrap().contains(tag);
    for word in words {
        let recursive = word.starts_with('r');
        for (tag, kind) in [("shared:", "shared"), ("master:", "slave"), ("unbindable", "unbindable")] {
            // What is bound from a peer of the host's is its slave, too.
            if kind == "slave" && word.ends_with("shared") {
                continue;
            }
            let its = word.trim_start_matches('r') == kind;
            assert_eq!(has(word.to_string(), tag), its, "{word}: {:?}", shown[word]);
            if recursive {
                assert_eq!(has(format!("{word}/below"), tag), its, "{word}, below");
            }
        }
    }
}

/// `sync`, `dirsync`, `lazytime`, `strictatime`, `relatime`, `nodiratime` and their opposites, of which the last counts.
#[test]
fn config_mounts_flags() {
    needs!();
    let cases: [(&str, &[&str], &[&str]); 13] = [
        // Remounted below.
        ("defaults", &["ro"], &[]),
        ("sync", &["sync"], &[]),
        ("async", &[], &["sync"]),
        ("dirsync", &["dirsync"], &[]),
        ("lazytime", &["lazytime"], &[]),
        ("lazytime,nolazytime", &[], &["lazytime"]),
        ("strictatime", &[], &["relatime", "noatime"]),
        ("noatime", &["noatime"], &["relatime"]),
        ("noatime,atime", &[], &["noatime"]),
        ("nodiratime", &["nodiratime"], &[]),
        ("nosuid,nodev,noexec", &["nosuid", "nodev", "noexec"], &[]),
        ("nosuid,suid,nodev,dev,noexec,exec", &[], &["nosuid", "nodev", "noexec"]),
        ("ro,rw", &[], &["ro"]),
    ];
    let bundle = Bundle::script("exec cat /proc/self/mountinfo");
    let bundle = cases.iter().enumerate().fold(bundle, |bundle, (n, (words, ..))| {
        let options: Vec<&str> = words.split(',').collect();
        let at = format!("/mnt/{n}");
        bundle.with(
            "/mounts/-",
            json!({ "destination": at, "type": "tmpfs", "source": "tmpfs", "options": options }),
        )
    });
    // "remount": of the mount that is there.
    let remount =
        json!({ "destination": "/mnt/0", "type": "tmpfs", "source": "tmpfs", "options": ["remount", "ro"] });
    let shown = mounted(&bundle.with("/mounts/-", remount).run().success().stdout);
    for (n, (words, set, unset)) in cases.iter().enumerate() {
        let line = &shown[&n.to_string()];
        let options: Vec<&str> = line.split([' ', ',']).collect();
        assert!(set.iter().all(|word| options.contains(word)), "{words}: {line}");
        assert!(unset.iter().all(|word| !options.contains(word)), "{words}: {line}");
    }
}

/// `idmap`: "If `uidMappings` or `gidMappings` are specified for the mount, the runtime MUST use those values"; "If there are
/// no `uidMappings` and `gidMappings` specified and the container isn't using user namespaces, an error MUST be returned."
#[test]
fn config_mounts_idmap() {
    needs!();
    let bundle = |options: Value| {
        let bundle = Bundle::script("stat -c %u:%g /mnt/file");
        let source = bundle.sandbox.join("source");
        std::fs::create_dir(&source).unwrap();
        std::fs::write(source.join("file"), "").unwrap();
        std::os::unix::fs::chown(source.join("file"), Some(5), Some(6)).unwrap();
        let mut mount = json!({ "destination": "/mnt", "source": source });
        mount.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        bundle.with("/mounts/-", mount)
    };
    for word in ["idmap", "ridmap"] {
        bundle(json!({ "options": ["rbind", word] })).is_refused("/mounts/2");
    }
    let map = |inside: u32, outside: u32| json!([{ "containerID": inside, "hostID": outside, "size": 1 }]);
    let own = json!({ "options": ["bind", "idmap"], "uidMappings": map(5, 77), "gidMappings": map(6, 78) });
    let output = bundle(own).run();
    require!(!output.stderr.contains("EINVAL"), "this file system has no id-mapped mounts");
    output.success().stdout_is("77:78");
    let container = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    let mapped = bundle(json!({ "options": ["bind", "idmap"] }));
    let root = mapped.dir().join("rootfs");
    assert!(Command::new("chown").args(["-R", "100000:100000"]).arg(&root).status().unwrap().success());
    for dir in [mapped.sandbox.path().to_path_buf(), mapped.dir()] {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mapped = mapped
        .with("/linux/namespaces/-", json!({ "type": "user" }))
        .with("/linux/uidMappings", container.clone())
        .with("/linux/gidMappings", container);
    mapped.run().success().stdout_is("5:6");
}

/// "If a file already exists at `path` that does not match the requested device, the runtime MUST generate an error."
#[test]
fn devices_that_do_not_match() {
    needs!();
    let device = |minor: u32| json!([{ "type": "c", "path": "/etc/node", "major": 1, "minor": minor }]);
    let bundle = Bundle::new().with("/linux/devices", device(3));
    let node = bundle.dir().join("rootfs/etc/node");
    std::fs::write(&node, "").unwrap();
    bundle.create().exits(125).says("/etc/node");
    bundle.is_gone();
    std::fs::remove_file(&node).unwrap();
    bundle.run().success();
    assert!(node.exists(), "the device stays");
    bundle.run().success();
    bundle.with("/linux/devices", device(5)).create().exits(125).says("/etc/node");
}

/// "The runtime MUST apply entries in the listed order."
#[test]
fn resources_devices_in_the_listed_order() {
    needs!();
    let node = json!([{ "type": "c", "path": "/dev/odd", "major": 10, "minor": 229 }]);
    let rule =
        |allow: bool| json!({ "allow": allow, "type": "c", "major": 10, "minor": 229, "access": "rwm" });
    let all = json!({ "allow": false, "access": "rwm" });
    let run = |rules: Value| {
        let bundle = Bundle::new().with("/process/args", json!(["busybox", "head", "-c", "0", "/dev/odd"]));
        bundle
            .with("/linux/devices", node.clone())
            .with("/linux/resources", json!({ "devices": rules }))
            .run()
    };
    // Nothing may answer behind the number, which is another error than that of the cgroup.
    let denied = |output: &drydock_testkit::Output| output.stderr.contains("Operation not permitted");
    assert!(!denied(&run(json!([all, rule(false), rule(true)]))), "allowed at last");
    assert!(denied(&run(json!([all, rule(true), rule(false)]))), "denied at last");
    assert!(denied(&run(json!([rule(true), all]))), "all denied at last");
}
