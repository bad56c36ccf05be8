//! Containers without a mount namespace of their own: what they mount is the host's to see.

use crate::bundle::Bundle;
use crate::needs;
use serde_json::{Value, json};

/// A bundle in the runtime's mount namespace.
fn shared(args: Value) -> Bundle {
    Bundle::new().with("/process/args", args).with("/linux/namespaces", json!([{ "type": "pid" }]))
}

/// How many mounts are at and below the root.
fn mounted(bundle: &Bundle) -> usize {
    let root = bundle.dir().canonicalize().unwrap().join("rootfs").display().to_string();
    let list = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    list.lines().filter(|line| line.split(' ').nth(4).is_some_and(|point| point.starts_with(&root))).count()
}

/// "Deleting a container MUST delete the resources that were created during the `create` step", and so does a failure; what
/// was mounted there before stays.
#[test]
fn what_is_mounted_goes_with_the_container() {
    needs!();
    let bundle = shared(json!(["sleep", "1000"]));
    let root = bundle.dir().join("rootfs");
    let mount = |what: &[&str]| {
        let status = std::process::Command::new(what[0]).args(&what[1..]).arg(&root).status().unwrap();
        assert!(status.success(), "{what:?}");
    };
    mount(&["mount", "--bind", root.to_str().unwrap()]);
    bundle.create().success();
    bundle.start().success();
    assert!(mounted(&bundle) > 1, "root, /proc, /dev");
    bundle.container(&["delete", "--force", &bundle.id]).success();
    assert_eq!(mounted(&bundle), 1, "the host's own mount");
    let bundle = bundle.with("/process/args", json!(["true"]));
    bundle.run().success();
    assert_eq!(mounted(&bundle), 1, "after a run");
    let bundle = bundle.with("/process/args", json!(["nosuch"]));
    assert_ne!(bundle.run().code, Some(0));
    assert_eq!(mounted(&bundle), 1, "after a failure");
    mount(&["umount"]);
    bundle.container(&["gc", "--check"]).success();
}

/// What enters such a container is in its root, not in the host's.
#[test]
fn exec_is_in_the_containers_root() {
    needs!();
    let bundle = shared(json!(["sleep", "1000"]));
    std::fs::write(bundle.dir().join("rootfs/mine"), "").unwrap();
    bundle.create().success();
    let looks = |what: &str| {
        let shown = bundle
            .container(&["exec", "--cwd", "/tmp", &bundle.id, "sh", "-c", "cd ../..; pwd; ls"])
            .success();
        assert!(
            shown.stdout.starts_with("/\n") && shown.stdout.contains("\nmine\n"),
            "{what}: {}",
            shown.stdout
        );
    };
    looks("created");
    bundle.start().success();
    looks("running");
}
