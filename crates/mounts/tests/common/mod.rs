//! What the tests of plans share. A test starts its own executable again as the child that a plan is for: in a new mount
//! namespace it applies the request from its environment and execs a shell script in the new root.
#![allow(dead_code)] // not every test binary needs every helper

use drydock_core::Ctx;
use drydock_mounts::{InjectedFile, Request, Root};
use drydock_testkit::{Output, Sandbox, run};
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The child. Returns at once where there is no request.
pub fn child() {
    let Ok(request) = std::env::var("DRYDOCK_TEST_REQUEST") else { return };
    let request: Request = serde_json::from_str(&request).unwrap();
    if std::env::var("DRYDOCK_TEST_JOINED").is_err() {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    }
    let applied = request.validate().and_then(|plan| plan.apply(&Ctx::silent()));
    let say = |line: String| std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
    match applied {
        Ok(report) => report.notes.iter().for_each(|note| say(format!("note: {note}\n"))),
        Err(e) => {
            say(format!("refused: {e}\n"));
            std::process::exit(125);
        }
    }
    let script = std::env::var("DRYDOCK_TEST_SCRIPT").unwrap();
    panic!("exec: {}", Command::new("/bin/sh").args(["-c", &script]).exec());
}

/// A root with busybox, a directory of the host that nothing may touch, and a file of ours.
pub struct Case(pub Sandbox);

impl Case {
    pub fn new() -> Self {
        let case = Self(Sandbox::new());
        for dir in ["r/bin", "victim"] {
            fs::create_dir_all(case.at(dir)).unwrap();
        }
        let busybox = ["/usr/bin/busybox", "/bin/busybox"].iter().find(|p| Path::new(p).exists());
        // Copied by another process: a write descriptor of ours would be inherited by what other tests start meanwhile,
        // and the kernel executes no file that is open for writing (ETXTBSY).
        run(Command::new("cp").arg(busybox.expect("busybox")).arg(case.at("r/bin/busybox"))).exits(0);
        for applet in [
            "sh", "cat", "ls", "touch", "stat", "grep", "wc", "readlink", "mount", "test", "id", "find",
            "sleep", "umount",
        ] {
            symlink("busybox", case.at("r/bin").join(applet)).unwrap();
        }
        fs::write(case.at("victim/marker"), "host").unwrap();
        fs::write(case.at("ours"), "ours").unwrap();
        case
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn root(&self) -> Root {
        Root::directory(self.at("r"))
    }

    pub fn files(&self) -> Request {
        let file = InjectedFile { destination: "/etc/hosts".into(), source: self.at("ours") };
        Request { root: self.root(), files: vec![file], ..Request::default() }
    }

    pub fn child(&self, before: &[&str], request: &Request, script: &str) -> Output {
        let exe = std::env::current_exe().unwrap();
        let words = [before, &[exe.to_str().unwrap(), "child", "--exact", "-q"]].concat();
        let (first, rest) = words.split_first().unwrap();
        let mut command = Command::new(first);
        let text = serde_json::to_string(request).unwrap();
        command.args(rest).env("DRYDOCK_TEST_REQUEST", text).env("DRYDOCK_TEST_SCRIPT", script);
        run(&mut command)
    }

    pub fn apply(&self, request: &Request, script: &str) -> Output {
        self.child(&[], request, script)
    }

    pub fn untouched(&self) {
        assert_eq!(
            fs::read_dir(self.at("victim")).unwrap().count(),
            1,
            "the host's directory was written to"
        );
        assert_eq!(fs::read_to_string(self.at("victim/marker")).unwrap(), "host");
    }
}
