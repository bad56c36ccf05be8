//! Mounts of a container in a user namespace: what the parent opens, what is locked, how owners are shown. Parent and
//! child are the example `enter`, because a test has too many threads to make a child.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod common;

use common::Case;
use drydock_mounts::{IdMapping, Mount, Request};
use drydock_testkit::{Output, is_root, require, run};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

const HOST: u32 = 100_000;

fn maps() -> Vec<IdMapping> {
    vec![IdMapping { container_id: 0, host_id: HOST, size: 65_536 }]
}

/// A root that the container's ids can reach, and one directory that they cannot.
fn case() -> Case {
    let case = Case::new();
    for open in ["", "r"] {
        fs::set_permissions(case.at(open), fs::Permissions::from_mode(0o755)).unwrap();
    }
    chown(case.at("r"), Some(HOST), Some(HOST)).unwrap();
    fs::create_dir_all(case.at("closed/in")).unwrap();
    fs::write(case.at("closed/in/file"), "reached").unwrap();
    chown(case.at("closed/in/file"), Some(7), Some(8)).unwrap();
    fs::set_permissions(case.at("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    case
}

fn request(case: &Case, mounts: Vec<Mount>) -> Request {
    Request {
        root: case.root(),
        mounts,
        user_namespace: true,
        uid_mappings: maps(),
        gid_mappings: maps(),
        pass_unknown: true,
        ..Request::default()
    }
}

fn bind(case: &Case, source: &str, destination: &str, options: &[&str]) -> Mount {
    let mut mount = Mount::bind(case.at(source).to_str().unwrap(), destination, &[]);
    mount.options = options.iter().map(ToString::to_string).collect();
    mount
}

fn apply(before: &[&str], request: &Request, script: &str) -> Output {
    let tests = std::env::current_exe().unwrap();
    let example = tests.ancestors().nth(2).unwrap().join("examples/enter");
    assert!(example.exists(), "cargo build -p drydock-mounts --examples");
    let json = serde_json::to_string(request).unwrap();
    let words = [before, &[example.to_str().unwrap(), &json, "/bin/sh", "-c", script]].concat();
    let (first, rest) = words.split_first().unwrap();
    run(Command::new(first).args(rest))
}

#[test]
fn sources_that_only_the_parent_can_open() {
    require!(is_root(), "needs root");
    let case = case();
    let mounts = vec![
        bind(&case, "closed/in", "/a", &["rbind"]),
        bind(&case, "closed/in/file", "/b", &["bind", "ro", "noexec"]),
        // There once the first is mounted.
        bind(&case, "r/a", "/c", &["rbind"]),
    ];
    let script = "cat /a/file /b /c/file; stat -c %u:%g /b; touch /b";
    let output = apply(&[], &request(&case, mounts), script).exits(1);
    output.stdout_has("reachedreachedreached65534:65534").says("Read-only file system");
}

#[test]
fn a_root_that_only_the_parent_can_reach() {
    require!(is_root(), "needs root");
    let case = case();
    fs::set_permissions(case.at(""), fs::Permissions::from_mode(0o700)).unwrap();
    let proc = Mount::bind("/proc", "/proc", &[]);
    let tmpfs = Mount::of("tmpfs", "/t", &["size=4k"]);
    let script = "cat /proc/self/mountinfo; touch /made /t/made";
    let output = apply(&[], &request(&case, vec![proc, tmpfs]), script).exits(0);
    output.stdout_has("/r / rw").stdout_lacks("/sys/kernel");
    assert!(case.at("r/made").exists() && !case.at("r/t/made").exists());
}

#[test]
fn owners_are_shown_by_maps() {
    require!(is_root(), "needs root");
    let case = case();
    let own = |container_id, host_id| vec![IdMapping { container_id, host_id, size: 1000 }];
    let mut shifted = bind(&case, "closed/in", "/own", &["bind"]);
    (shifted.uid_mappings, shifted.gid_mappings) = (own(0, HOST + 50), own(0, HOST + 60));
    let mounts = vec![
        // Inside the root, where only the child sees what the first mount brings.
        bind(&case, "closed/in", "/plain", &["bind"]),
        bind(&case, "r/plain", "/inner", &["rbind", "idmap"]),
        bind(&case, "closed/in", "/containers", &["bind", "idmap"]),
        bind(&case, "closed/in", "/again", &["rbind", "ridmap", "ro"]),
        shifted.clone(),
    ];
    let script = "stat -c %n:%u:%g /*/file";
    let output = apply(&[], &request(&case, mounts), script);
    if output.stderr.contains("has no id-mapped mounts") {
        return drydock_testkit::skip("needs a file system with id-mapped mounts");
    }
    let output = output.exits(0).stdout_has("/containers/file:7:8").stdout_has("/again/file:7:8");
    output.stdout_has("/own/file:57:68").stdout_has("/inner/file:7:8").stdout_has("/plain/file:65534:65534");
    // Without a user namespace of the container's own the child makes them itself, also of what it has just mounted.
    shifted.uid_mappings = own(0, 500);
    let mut inner = bind(&case, "r/own", "/inner", &["rbind"]);
    (inner.uid_mappings, inner.gid_mappings) = (own(7, 7), own(0, 0));
    let plain = bind(&case, "closed/in", "/plain", &["bind"]);
    let mut request = request(&case, vec![shifted, plain]);
    request.user_namespace = false;
    let output = apply(&[], &request, script).exits(0);
    output.stdout_has(&format!("/own/file:507:{}", HOST + 68)).stdout_has("/plain/file:7:8");
    // Bad maps are refused before anything is done.
    request.uid_mappings.clear();
    request.mounts = vec![bind(&case, "closed/in", "/x", &["bind", "idmap"])];
    assert_eq!(request.clone().validate().unwrap_err().exit_code(), 2);
    request.mounts = vec![Mount { uid_mappings: own(0, 1), ..Mount::of("tmpfs", "/x", &["idmap"]) }];
    assert_eq!(request.validate().unwrap_err().exit_code(), 2);
}

#[test]
fn locked_flags_stay_and_cannot_be_asked_away() {
    require!(is_root(), "needs root");
    let case = case();
    fs::create_dir(case.at("flagged")).unwrap();
    let source = case.at("flagged");
    let setup = format!(
        "mount -t tmpfs -o size=64k,mode=755 x {0} && mount -o remount,bind,ro,nosuid,nodev,noatime {0} && \
         exec \"$@\"",
        source.display()
    );
    let host = ["unshare", "-m", "sh", "-c", &setup, "sh"];
    let proc = Mount::bind("/proc", "/proc", &[]);
    let all = |options: &[&str]| request(&case, vec![proc.clone(), bind(&case, "flagged", "/x", options)]);
    let script = "grep ' /x ' /proc/self/mounts";
    let output = apply(&host, &all(&["bind", "noexec"]), script).exits(0);
    output.stdout_has("ro,nosuid,nodev,noexec,noatime");
    apply(&host, &all(&["bind", "dev", "noatime"]), script).exits(125).says("MS_NODEV");
    apply(&host, &all(&["bind", "rw"]), script).exits(125).says("MS_RDONLY");
    apply(&host, &all(&["bind", "relatime"]), script).exits(125).says("MS_NOATIME");
}
