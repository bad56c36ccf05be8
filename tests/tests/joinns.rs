//! `joinns` into containers of ours: their filters, cgroups, ids, terminals, and programs that they do not have.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use drydock_testkit::{Output, Sandbox, Terminal, have, is_root, require};
use std::path::{Path, PathBuf};

struct Running<'a> {
    sandbox: &'a Sandbox,
    id: String,
    pid: String,
}

impl<'a> Running<'a> {
    fn start(sandbox: &'a Sandbox, options: &[&str], command: &[&str]) -> Self {
        let id = sandbox.unique("joined");
        let words = [&["run", "-d", "--name", &id], options, &["--"], command].concat();
        sandbox.run("container", &words).success();
        let shown = sandbox.run("container", &["inspect", &id]).success().stdout;
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        let pid = shown.pointer("/0/pid").or(shown.pointer("/pid")).unwrap().to_string();
        Self { sandbox, id, pid }
    }

    fn join(&self, args: &[&str]) -> Output {
        self.sandbox.run("joinns", args)
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.pid)).unwrap()
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.sandbox.run("container", &["delete", "--force", &self.id]);
    }
}

fn field<'a>(status: &'a str, key: &str) -> &'a str {
    status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim()
}

#[test]
fn filters_privileges_and_cgroups_of_a_container() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    for options in [&[][..], &["--security-opt", "no-new-privileges=false"], &["--userns", "auto"]] {
        let web = Running::start(&sandbox, options, &["sleep", "1000"]);
        let wanted = web.proc("status");
        let found = web.join(&["-t", &web.pid, "-a", "--", "cat", "/proc/self/status"]).success().stdout;
        for key in [
            "CapPrm:",
            "CapEff:",
            "CapBnd:",
            "CapInh:",
            "CapAmb:",
            "NoNewPrivs:",
            "Seccomp:",
            "Seccomp_filters:",
        ] {
            assert_eq!(field(&found, key), field(&wanted, key), "{options:?} {key}");
        }
        assert_eq!(field(&found, "Groups:"), "", "none of the caller's groups");
        // The filter works: a call that the container may not make, with the errno that the container gets.
        let call = ["unshare", "--user", "true"];
        let inside = sandbox.run("container", &[&["exec", &web.id, "--"], &call[..]].concat());
        let joined = web.join(&[&["-t", &web.id, "--"], &call[..]].concat());
        assert_eq!((joined.code, &joined.stderr), (inside.code, &inside.stderr), "{options:?}");
        // From outside: its cgroups are the container's.
        let fifo = sandbox.join("fifo");
        let _ = nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU);
        let mut command = sandbox.command("joinns");
        command.args(["-t", &web.pid, "-a", "--", "sleep", "1001"]);
        let mut child = command.spawn().unwrap();
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        sandbox.wait_until("the command runs", || {
            std::fs::read_to_string(&children).is_ok_and(|pids| {
                let pid = pids.trim();
                std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
                    .is_ok_and(|line| line.starts_with("sleep"))
            })
        });
        let pid = std::fs::read_to_string(&children).unwrap();
        let cgroups = std::fs::read_to_string(format!("/proc/{}/cgroup", pid.trim())).unwrap();
        assert_eq!(cgroups, web.proc("cgroup"));
        let raw = nix::unistd::Pid::from_raw(child.id().cast_signed());
        nix::sys::signal::kill(raw, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(143));
    }
}

#[test]
fn programs_for_a_container_that_has_none() {
    require!(is_root(), "needs root");
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().map(PathBuf::from).find(|p| p.is_file());
    require!(busybox.is_some() && have("ps"), "needs busybox and ps(1)");
    let sandbox = Sandbox::new();
    let root = sandbox.join("root");
    std::fs::create_dir_all(root.join("app")).unwrap();
    std::fs::copy(busybox.unwrap(), root.join("app/sleep")).unwrap();
    std::fs::write(root.join("app/config"), "secret of the app\n").unwrap();
    let root = root.display().to_string();
    for options in [&["--rootfs", &root][..], &["--rootfs", &root, "--userns", "auto"]] {
        if options.contains(&"--userns") {
            // The container's own users must be able to read it.
            std::fs::set_permissions(&root, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }
        let app = Running::start(&sandbox, options, &["/app/sleep", "1000"]);
        let (mounts, tree) = (app.proc("mountinfo"), tree(Path::new(&root)));
        app.join(&[&app.id, "--", "sh", "-c", "true"]).exits(127);
        let script = "cat /app/config; ps -o comm= -p 1; bash -c 'echo $((6 * 7))'; id -u; ls /";
        let found = app.join(&[&app.id, "--tools", "--", "sh", "-c", script]).success().stdout;
        assert!(found.starts_with("secret of the app\nsleep\n42\n0\n"), "{found}");
        assert!(found.contains("app"), "{found}");
        app.join(&[&app.id, "--tools", "--", "/bin/sh", "-c", "exit 5"]).exits(5);
        // This machine's files cannot be written to from there, whatever is tried.
        let script = "mount -o remount,rw /.drydock/host/usr; mount -o remount,rw,bind /.drydock/host/usr; echo x > /.drydock/host/usr/drydock-was-here; echo x >> /.drydock/host/usr/bin/env";
        app.join(&[&app.id, "--tools", "--cap", "ALL", "--", "sh", "-c", script]);
        assert!(!Path::new("/usr/drydock-was-here").exists());
        assert_eq!(app.proc("mountinfo"), mounts, "nothing is mounted afterwards");
        assert_eq!(self::tree(Path::new(&root)), tree, "nothing is left in its files");
    }
}

fn tree(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        found.push(entry.path());
        if entry.file_type().unwrap().is_dir() {
            found.extend(tree(&entry.path()));
        }
    }
    found.sort();
    found
}

#[test]
fn a_terminal_of_its_own() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    let web = Running::start(&sandbox, &[], &["sleep", "1000"]);
    let mut command = sandbox.command("joinns");
    command.args([
        &web.id,
        "--",
        "sh",
        "-c",
        "tty; test -t 0 && echo is-one; ls -l /proc/self/fd/0 /dev/pts; read x; echo got-$x; exit 6",
    ]);
    let mut terminal = Terminal::start(&command);
    terminal.shows("is-one").types("word\n").shows("got-word");
    let screen = terminal.screen();
    // The container's own devpts, which was empty.
    assert!(screen.contains("/dev/pts/0"), "{screen}");
    terminal.end().exits(6);
    // Ctrl-C goes to the command.
    let mut command = sandbox.command("joinns");
    command.args([
        &web.id,
        "--",
        "sh",
        "-c",
        "trap 'echo caught; exit 7' INT; echo up; while :; do sleep 0.05; done",
    ]);
    let mut terminal = Terminal::start(&command);
    terminal.shows("up").types("\x03").shows("caught");
    terminal.end().exits(7);
}

#[test]
fn a_working_directory_outside_is_not_followed() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    // A process in the container's namespaces whose directory is the host's.
    let web = Running::start(&sandbox, &[], &["sleep", "1000"]);
    let mut outside = sandbox.command("joinns");
    let here = format!("--wd={}", sandbox.path().display());
    outside.args(["-t", &web.pid, "-a", "--privileged", &here, "--", "sleep", "1002"]);
    let mut child = outside.spawn().unwrap();
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let mut pid = String::new();
    sandbox.wait_until("it runs", || {
        pid = std::fs::read_to_string(&children).unwrap_or_default().trim().to_string();
        std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with("sleep"))
    });
    let output = web.join(&["-t", &pid, "-a", "-w", "--", "pwd"]).success();
    assert_eq!(output.stdout.trim(), "/");
    assert!(output.stderr.contains("not below the root"), "{}", output.stderr);
    child.kill().unwrap();
    child.wait().unwrap();
    let _ = nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid.parse().unwrap()),
        nix::sys::signal::Signal::SIGKILL,
    );
}
