//! `container checkpoint` and `restore`: what criu is asked, by a program in its place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test that cannot go on should stop

use drydock_testkit::{Output, Sandbox, is_root, require};
use std::os::unix::fs::PermissionsExt;

/// In the place of criu: writes down its words, and fails when told to.
const FAKE: &str = "#!/bin/sh\nfor word; do echo \"$word\"; done > \"$FAKE_WORDS\"\n\
for word; do case $word in --work-dir=*) work=${word#*=};; --log-file=*) log=${word#*=};; esac; done\n\
[ -z \"$FAKE_FAILS\" ] || { echo 'Error (criu/x.c:1): it broke' > \"$work/$log\"; exit 1; }\n";

struct Place {
    sandbox: Sandbox,
    path: String,
}

impl Place {
    fn new() -> Place {
        let sandbox = Sandbox::new();
        let bin = sandbox.join("bin");
        std::fs::create_dir(&bin).unwrap();
        let criu = bin.join("criu");
        std::fs::write(&criu, FAKE).unwrap();
        std::fs::set_permissions(&criu, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:/usr/bin:/bin", bin.display());
        Place { sandbox, path }
    }

    fn run(&self, words: &[&str], fails: &str) -> Output {
        let mut command = self.sandbox.command("container");
        command.args(words).env("PATH", &self.path).env("FAKE_FAILS", fails);
        command.env("FAKE_WORDS", self.sandbox.join("words"));
        drydock_testkit::run(&mut command)
    }
}

#[test]
fn what_cannot_be_checkpointed() {
    require!(is_root(), "needs root");
    let place = Place::new();
    let id = place.sandbox.unique("plain");
    place.sandbox.run("container", &["run", "-d", "--name", &id, "--", "sleep", "600"]).success();
    place.run(&["checkpoint", &id], "").fails_with(125).says("not a bundle's container");
    place.run(&["checkpoint", "--page-server", "x", &id], "").fails_with(2).says("--page-server");
    place.run(&["checkpoint", "--manage-cgroups-mode", "x", &id], "").exits(2);
    place.run(&["checkpoint", "no-such"], "").fails_with(2).says("no such container");
    place.run(&["restore", "--image-path", "/no/such", "new"], "").fails_with(2).says("--image-path");
    assert!(!place.sandbox.join("words").exists(), "criu was not asked");
    place.sandbox.run("container", &["delete", "-f", &id]).success();
}

/// The record of a container of a bundle, with a process that is its own only in name.
#[test]
fn words_for_criu_and_its_failures() {
    require!(is_root(), "needs root");
    let place = Place::new();
    let id = place.sandbox.unique("bundled");
    place.sandbox.run("container", &["run", "-d", "--name", &id, "--", "sleep", "600"]).success();
    let file = place.sandbox.state().join(&id).join("state.json");
    let mut state: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    state["oci"] = serde_json::json!({ "version": "1.2.0", "bundle": "/nowhere" });
    std::fs::write(&file, state.to_string()).unwrap();
    let images = place.sandbox.join("images").display().to_string();
    let options =
        ["checkpoint", "--image-path", &images, "--leave-running", "--tcp-established", "--file-locks"];
    let more = ["--page-server", "10.0.0.1:9999", "--parent-path", "../before", &id];
    for (parent, says) in [("/tmp", "is absolute"), ("../before", "is no directory")] {
        let words = [&options[..], &["--parent-path", parent, &id]].concat();
        place.run(&words, "").fails_with(2).says("--parent-path").says(says);
    }
    std::fs::create_dir(place.sandbox.join("before")).unwrap();
    place.run(&[&options[..], &more].concat(), "").success();
    let words = std::fs::read_to_string(place.sandbox.join("words")).unwrap();
    let words: Vec<&str> = words.lines().collect();
    assert_eq!(words[0], "dump");
    let tree = format!("--tree={}", state["pid"]);
    let dir = format!("--images-dir={images}");
    for word in [
        tree.as_str(),
        &dir,
        "--leave-running",
        "--tcp-established",
        "--file-locks",
        "--address=10.0.0.1",
        "--port=9999",
        "--prev-images-dir=../before",
        "--manage-cgroups=soft",
    ] {
        assert!(words.contains(&word), "{word} is missing: {words:?}");
    }
    let output = place.run(&["checkpoint", "--image-path", &images, &id], "yes");
    output.fails_with(125).says("it broke").says("dump.log");
    // A restore that fails leaves nothing.
    let new = place.sandbox.unique("restored");
    place.run(&["restore", "-d", "--image-path", &images, &new], "yes").fails_with(125).says("criu restore");
    assert!(!place.sandbox.state().join(&new).exists());
    state["oci"] = serde_json::Value::Null;
    std::fs::write(&file, state.to_string()).unwrap();
    place.sandbox.run("container", &["delete", "-f", &id]).success();
}
