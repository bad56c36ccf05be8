//! `monitor top`'s shell in the selected container, on a terminal.
#![allow(clippy::unwrap_used)] // a test that cannot go on should stop

use drydock_testkit::terminal::Terminal;
use drydock_testkit::{Sandbox, bin, have, is_root, require};
use std::process::{Child, Command, Stdio};

fn top(sandbox: &Sandbox, filter: &str) -> Terminal {
    let script =
        format!("{} top --interval 250ms --filter \"$0\"; echo code $?; stty -a", bin("monitor").display());
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, filter]).env("TERM", "xterm").env("DRYDOCK_ROOT", sandbox.state());
    Terminal::start(&shell)
}

/// Waits for the prompt of the shell that is the `n`-th.
fn prompt(sandbox: &Sandbox, terminal: &Terminal, n: usize) {
    sandbox.wait_until("a prompt", || {
        let screen = terminal.screen();
        let parts: Vec<&str> = screen.split("\x1b[?1049l").collect();
        parts.len() == n + 1 && parts.last().is_some_and(|text| text.contains("# "))
    });
}

fn back(sandbox: &Sandbox, terminal: &Terminal, n: usize) {
    sandbox.wait_until("top is back", || terminal.screen().matches("\x1b[?1049h").count() == n + 1);
}

fn left(terminal: Terminal) {
    let output = terminal.end();
    let after = output.stdout.rsplit("\x1b[?1049l").next().unwrap().to_string();
    assert!(after.contains("code 0") && after.contains(" icanon") && after.contains(" echo "), "{after}");
}

#[test]
fn a_shell_in_ours_by_exec() {
    require!(is_root() && have("setsid") && have("stty"), "needs root, setsid and stty");
    let sandbox = Sandbox::new();
    let id = sandbox.unique("shell");
    let run = ["run", "-d", "--name", &id, "--hostname", "in-there", "--", "sleep", "600"];
    sandbox.run("container", &run).success();
    let mut terminal = top(&sandbox, &format!("name == {id}"));
    terminal.shows(&id).shows("e shell");
    terminal.types("e");
    prompt(&sandbox, &terminal, 1);
    terminal.types("echo $((40+2)) at $(hostname)\r").shows("42 at in-there");
    terminal.types("exit 3\r");
    // Back on the second screen, which heeds keys again.
    back(&sandbox, &terminal, 1);
    terminal.types("?").shows("a shell in the selected container").types("xe");
    prompt(&sandbox, &terminal, 2);
    // A code that may be the tool's own stays to be read.
    terminal.types("exit 127\r").shows("ended with 127; Enter goes back").types("\r");
    back(&sandbox, &terminal, 2);
    terminal.types("q");
    left(terminal);
    sandbox.run("container", &["delete", "--force", &id]).success();
}

struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_shell_in_anothers_by_its_namespaces() {
    require!(is_root() && have("unshare") && have("stty"), "needs root, unshare and stty");
    let sandbox = Sandbox::new();
    let args = ["-pfu", "--mount-proc", "--kill-child", "sh", "-c", "hostname elsewhere; exec sleep 600"];
    let mut unshare = Command::new("unshare");
    let parent = Ends(unshare.args(args).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
    let children = format!("/proc/{0}/task/{0}/children", parent.0.id());
    let mut space = None;
    sandbox.wait_until("its pid namespace", || {
        let child = std::fs::read_to_string(&children).unwrap_or_default().trim().to_string();
        let named = std::fs::read_to_string(format!("/proc/{child}/comm")).unwrap_or_default() == "sleep\n";
        let link = std::fs::read_link(format!("/proc/{child}/ns/pid")).ok();
        space = link.filter(|_| named).map(|link| link.display().to_string());
        space.is_some()
    });
    let space = space.unwrap();
    let mut terminal = top(&sandbox, &format!("id == '{space}'"));
    terminal.shows(&space).types("e");
    prompt(&sandbox, &terminal, 1);
    terminal.types("echo $((40+2)) at $(hostname)\r").shows("42 at elsewhere").types("exit\r");
    back(&sandbox, &terminal, 1);
    terminal.types("q");
    left(terminal);
    drop(parent);
    // A service is none.
    let mut terminal = top(&sandbox, "container == false");
    terminal.shows("CPU%").types("e").shows("is no container").types("q");
    left(terminal);
}
