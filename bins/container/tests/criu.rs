//! `container checkpoint` and `restore`: what criu is asked, by a program in its place; and with the real one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test that cannot go on should stop

use drydock_testkit::{Output, Sandbox, have, is_root, require};
use std::os::unix::fs::PermissionsExt;

/// In the place of criu: writes down the fields of the request, a line each, tells of a step, and answers.
const FAKE: &str = r#"#!/usr/bin/env python3
import os, socket, sys
def varint(b, i):
    n = s = 0
    while True:
        n |= (b[i] & 127) << s; s += 7; i += 1
        if b[i - 1] < 128: return n, i
def fields(b, at, deep):
    i = 0
    while i < len(b):
        key, i = varint(b, i); name = at + str(key >> 3)
        if key & 7 == 0:
            n, i = varint(b, i); yield name, n
        else:
            n, i = varint(b, i); part = b[i:i + n]; i += n
            if name in deep: yield from fields(part, name + '.', deep)
            else: yield name, part.decode()
assert sys.argv[1] == 'swrk'
talk = socket.socket(fileno=int(sys.argv[2]))
request = dict(fields(talk.recv(65536), '', ('2', '2.11', '2.27')))
with open(os.environ['FAKE_WORDS'], 'w') as words:
    for name, value in request.items(): print(name, value, sep='=', file=words)
kind = request['1']
talk.send(bytes([8, 6, 16, 1, 42, 6, 10, 4]) + b'step')
assert talk.recv(100) == bytes([8, 6, 24, 1]), 'heard'
fails = os.environ['FAKE_FAILS']
if fails:
    work = '/proc/%d/fd/%d' % (os.getppid(), request['2.17'])
    with open(work + '/' + request['2.10'], 'w') as log: print('Error (criu/x.c:1): it broke', file=log)
talk.send(bytes([8, kind, 16, 0 if fails else 1]))
"#;

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

    /// Whether criu was asked so: `FIELD=VALUE`, by rpc.proto's numbers.
    fn asked(&self, lines: &[&str]) {
        let words = std::fs::read_to_string(self.sandbox.join("words")).unwrap();
        for line in lines {
            assert!(words.lines().any(|word| word == *line), "{line} is missing:\n{words}");
        }
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
    place.run(&["checkpoint", "no-such"], "").fails_with(2).says("does not exist");
    place.run(&["restore", "--image-path", "/no/such", "new"], "").fails_with(2).says("--image-path");
    assert!(!place.sandbox.join("words").exists(), "criu was not asked");
    place.sandbox.run("container", &["delete", "-f", &id]).success();
}

/// The record of a container of a bundle, with a process that is its own only in name.
#[test]
fn what_criu_is_asked_and_its_failures() {
    require!(is_root() && have("python3"), "needs root and python3(1)");
    let place = Place::new();
    let id = place.sandbox.unique("bundled");
    place.sandbox.run("container", &["run", "-d", "--name", &id, "--", "sleep", "600"]).success();
    let file = place.sandbox.state().join(&id).join("state.json");
    let mut state: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let own = "/proc/self/ns/net";
    state["oci"] = serde_json::json!({
        "version": "1.2.0", "bundle": "/nowhere", "joined": [["net", own]],
        "annotations": { "org.criu.config": "/some/where" }
    });
    std::fs::write(&file, state.to_string()).unwrap();
    let images = place.sandbox.join("images").display().to_string();
    let options =
        ["checkpoint", "--image-path", &images, "--leave-running", "--tcp-established", "--file-locks"];
    for (parent, problem) in [("/absolute", "absolute"), ("../before", "no directory")] {
        let more = ["--parent-path", parent, &id];
        place.run(&[&options[..], &more].concat(), "").fails_with(2).says("--parent-path").says(problem);
    }
    std::fs::create_dir_all(place.sandbox.join("before")).unwrap();
    std::fs::create_dir_all(place.sandbox.join("images")).unwrap();
    let more = ["--page-server", "10.0.0.1:9999", "--parent-path", "../before", &id];
    place.run(&[&options[..], &more].concat(), "").success();
    let tree = format!("2.2={}", state["pid"]);
    let inode = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(own).unwrap());
    place.asked(&["1=1", &tree, "2.3=1", "2.5=1", "2.8=1"]);
    let external = format!("2.37=net[{inode}]:extRootNetNS");
    place.asked(&["2.14=../before", "2.15=1", "2.34=3", "2.11.1=10.0.0.1", "2.11.2=9999", &external]);
    place.asked(&["2.51=/some/where", "2.10=dump.log", "2.50=1"]);
    let output = place.run(&["checkpoint", "--image-path", &images, &id], "yes");
    output.fails_with(125).says("it broke").says("dump.log");
    // The memory alone: the container goes on.
    place.run(&["checkpoint", "--pre-dump", "--image-path", &images, &id], "").success();
    place.asked(&["1=4", "2.15=1"]);
    // A restore that fails leaves nothing.
    let new = place.sandbox.unique("restored");
    place.run(&["restore", "-d", "--image-path", &images, &new], "yes").fails_with(125).says("criu restore");
    place.asked(&["1=2", "2.26=1", "2.27.1=extRootNetNS", "2.10=restore.log"]);
    assert!(!place.sandbox.state().join(&new).exists());
    // As does one after which criu does not say what it has made.
    place.run(&["restore", "-d", "--image-path", &images, &new], "").fails_with(125).says("did not say");
    assert!(!place.sandbox.state().join(&new).exists());
    place.run(&["restore", "-d", "--console-socket", "/no", "--image-path", &images, &new], "").fails_with(2);
    state["oci"] = serde_json::Value::Null;
    std::fs::write(&file, state.to_string()).unwrap();
    place.sandbox.run("container", &["delete", "-f", &id]).success();
}
