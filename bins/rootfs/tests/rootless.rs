//! An ordinary user with subordinate ids, and without: whose the files of an image become.
#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on fails

mod common;
#[path = "common/image.rs"]
mod image;
#[path = "common/tar.rs"]
mod tar;

use drydock_testkit::{Output, Sandbox, have, is_root, require};
use image::{Layout, gzip};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use tar::{Tar, entry};

/// Becomes the user, who has a name, and ids from 200000 on where GRANT says so: in a mount namespace of its own.
const BECOME: &str = r#"
for name in passwd group subuid subgid; do mount --bind "$FILES/$name" "/etc/$name" || exit; done
exec setpriv --reuid 54321 --regid 54321 --clear-groups -- "$@"
"#;

fn place() -> Sandbox {
    let sandbox = Sandbox::new();
    for name in ["passwd", "group"] {
        let text = std::fs::read_to_string(format!("/etc/{name}")).unwrap();
        let line = if name == "passwd" { "ddtest:x:54321:54321::/:/bin/sh\n" } else { "ddtest:x:54321:\n" };
        std::fs::write(sandbox.join(name), text + line).unwrap();
    }
    let mut owned = entry(b'0', b"owned");
    (owned.uid, owned.mode) = (1000, 0o4755);
    let mut secret = entry(b'5', b"secret");
    (secret.uid, secret.mode) = (33, 0o700);
    let tar = Tar::default()
        .raw(&owned, b"")
        .raw(&secret, b"")
        .file("secret/x", "x")
        .file("roots", "")
        .device("null", b'3', 1, 3)
        .end();
    let mut layout = Layout::new(&sandbox.join("img"));
    layout.packed(&tar, &gzip(&tar), "application/vnd.oci.image.layer.v1.tar+gzip").finish();
    let all = Command::new("chown").args(["-R", "54321:54321"]).arg(sandbox.path()).status().unwrap();
    assert!(all.success());
    sandbox
}

fn user(sandbox: &Sandbox, grant: &str, words: &[&str]) -> Output {
    for name in ["subuid", "subgid"] {
        std::fs::write(sandbox.join(name), grant).unwrap();
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", BECOME, "become"]);
    command.arg(env!("CARGO_BIN_EXE_rootfs")).args(words).current_dir(sandbox.path());
    command.env("FILES", sandbox.path());
    command.env("DRYDOCK_ROOT", sandbox.state()).env("DRYDOCK_DATA", sandbox.data());
    drydock_testkit::run(&mut command)
}

const GRANT: &str = "ddtest:200000:65536\n";

#[test]
fn granted_ids_are_the_images_owners() {
    require!(is_root() && have("setpriv") && have("newuidmap"), "needs root, setpriv and newuidmap");
    let sandbox = place();
    let output = user(&sandbox, GRANT, &["unpack", "oci:img", "r"]).success().says("1 device nodes left out");
    assert!(!output.stderr.contains("note"), "{}", output.describe());
    let owner = |name: &str| {
        let meta = sandbox.join(name).symlink_metadata().unwrap();
        (meta.uid(), meta.gid(), meta.permissions().mode() & 0o7777)
    };
    assert_eq!(owner("r/owned"), (200_999, 54_321, 0o4755));
    assert_eq!(owner("r/secret"), (200_032, 54_321, 0o700));
    assert_eq!(owner("r/roots"), (54_321, 54_321, 0o644));
    // And back: the archive has the owners that the image had.
    user(&sandbox, GRANT, &["pack", "r", "oci:img2:a"]).success();
    user(&sandbox, GRANT, &["export", "r", "r.tar"]).success();
    let listed =
        drydock_testkit::run(Command::new("tar").args(["-tvf"]).arg(sandbox.join("r.tar"))).success();
    assert!(listed.stdout.contains("1000/0 ") && listed.stdout.contains("33/0 "), "{}", listed.describe());
    user(&sandbox, GRANT, &["unpack", "oci:img2:a", "again"]).success();
    assert_eq!(owner("again/owned"), (200_999, 54_321, 0o4755));
    user(&sandbox, GRANT, &["diff", "./r", "./again"]).success();
    // What is no id of the user's is told of, and nothing is left.
    let mut far = entry(b'0', b"far");
    far.uid = 0o300_000;
    std::fs::write(sandbox.join("far.tar"), Tar::default().file("first", "").raw(&far, b"").end()).unwrap();
    user(&sandbox, GRANT, &["import", "far.tar", "far"])
        .fails_with(2)
        .says("belongs to user 98304")
        .says("--mine");
    assert!(!sandbox.join("far").exists());
    user(&sandbox, GRANT, &["import", "--mine", "far.tar", "far"]).success();
    // What a killed one has left of other users' files goes as well.
    let place = sandbox.join(".k.drydock-unpack-1-0");
    std::fs::rename(sandbox.join("r"), &place).unwrap();
    let words = sandbox.data().join("unfinished");
    std::fs::write(words.join("1-0"), place.as_os_str().as_encoded_bytes()).unwrap();
    std::os::unix::fs::chown(words.join("1-0"), Some(54_321), Some(54_321)).unwrap();
    user(&sandbox, GRANT, &["gc"]).success().stdout_has("unfinished");
    assert!(!place.exists());
}

#[test]
fn without_ids_all_files_are_the_users_and_it_is_said() {
    require!(is_root() && have("setpriv"), "needs root and setpriv");
    let sandbox = place();
    let output = user(&sandbox, "other:1:2\n", &["unpack", "oci:img", "r"]).success();
    assert!(output.stderr.contains("/etc/subuid: has no line for user ddtest"), "{}", output.describe());
    assert!(output.stderr.contains("usermod --add-subuids"), "{}", output.describe());
    for name in ["r/owned", "r/secret", "r/roots"] {
        assert_eq!(sandbox.join(name).symlink_metadata().unwrap().uid(), 54_321, "{name}");
    }
    user(&sandbox, "", &["unpack", "--mine", "oci:img", "q"]).success();
    // Packed again they are root's.
    user(&sandbox, "", &["export", "r", "r.tar"]).success();
    let listed =
        drydock_testkit::run(Command::new("tar").args(["-tvf"]).arg(sandbox.join("r.tar"))).success();
    assert!(!listed.stdout.contains("54321"), "{}", listed.describe());
}
