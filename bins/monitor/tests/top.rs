//! `monitor top`, on a terminal and as text; containers of other engines by the paths of their cgroups.
// A helper that cannot go on fails its test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Placed, Running, json, monitor};
use drydock_testkit::terminal::Terminal;
use drydock_testkit::{Sandbox, bin, have, is_root, require};
use std::process::Command;

fn top(args: &[&str]) -> Command {
    let mut command = Command::new(bin("monitor"));
    command.arg("top").args(args).env("TERM", "xterm").env_remove("NO_COLOR");
    command
}

#[test]
fn keys_on_a_terminal_and_the_terminal_is_put_back() {
    require!(have("setsid") && have("stty"), "needs setsid and stty");
    let script =
        format!("TERM=xterm {} top --interval 250ms; echo code $?; stty -a", bin("monitor").display());
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]);
    let mut terminal = Terminal::start(&shell);
    terminal.shows("\x1b[?1049h").shows("monitor top").shows("▼CPU%").shows("q quit");
    terminal.types("?").shows("choose columns");
    terminal.types("x").types("c").shows("[x] NAME");
    terminal.types("\r").types("M").shows("▼MEMORY");
    terminal.types("r").shows("▲MEMORY");
    terminal.types("\r").shows("pressure");
    terminal.types("/no such name\r").shows("nothing fits");
    terminal.types("/\x15cpu >\r").shows("wanted");
    terminal.types("\x1b[B\x1b[A\x1b[6~tt").types("q");
    let output = terminal.end();
    let text = output.stdout;
    let after = text.rsplit("\x1b[?1049l").next().unwrap();
    assert!(text.contains("\x1b[?25h") && after.contains("code 0"), "{after}");
    // Raw mode is over.
    assert!(after.contains(" icanon") && after.contains(" echo ") && after.contains("isig"), "{after}");
}

#[test]
fn a_signal_ends_it_and_the_terminal_is_put_back() {
    require!(have("setsid") && have("stty"), "needs setsid and stty");
    let mut shell = Command::new("sh");
    let script = format!("TERM=xterm {} top --interval 1h; echo code $?; stty -a", bin("monitor").display());
    shell.args(["-c", &script]);
    let mut terminal = Terminal::start(&shell);
    terminal.shows("q quit");
    let me = std::process::id();
    let mine = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|b| *b == 0).collect();
        words.get(1) == Some(&&b"top"[..]) && words.get(3) == Some(&&b"1h"[..]) && *pid != me
    };
    let pid = common::pids().into_iter().find(mine).expect("the running top");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), nix::sys::signal::Signal::SIGTERM)
        .unwrap();
    let text = terminal.end().stdout;
    let after = text.rsplit("\x1b[?1049l").next().unwrap();
    assert!(after.contains("code 143") && after.contains(" icanon"), "{after}");
}

#[test]
fn without_a_terminal_it_says_what_to_do() {
    let sandbox = Sandbox::new();
    monitor(&sandbox, &["top"]).fails_with(2).says("--once");
    let mut dumb = top(&[]);
    dumb.env("TERM", "dumb");
    let output = Terminal::start(&dumb).end();
    assert!(output.code == Some(2) && output.stdout.contains("--once"), "{}", output.describe());
    for (args, word) in [
        (&["top", "--once", "--sort", "nope"][..], "allowed: NAME"),
        (&["top", "--once", "-o", "nope"], "allowed: NAME"),
        (&["top", "--once", "--filter", "a==b"], "allowed: name"),
        (&["top", "--once", "--interval", "1ns"], "100ms"),
        (&["top", "--snapshot", "0x0"], "1x1"),
        (&["top", "-n", "0"], "0"),
    ] {
        monitor(&sandbox, args).fails_with(2).says(word);
    }
}

#[test]
fn every_size_can_be_drawn() {
    let sandbox = Sandbox::new();
    for (size, lines) in [("80x24", 24), ("1x1", 1), ("2x2", 2), ("20x5", 5), ("1000x60", 60)] {
        let args = ["top", "--snapshot", size, "--interval", "100ms", "--details", "--tree"];
        let text = monitor(&sandbox, &args).success().stdout;
        let width: usize = size.split_once('x').unwrap().0.parse().unwrap();
        assert!(text.lines().all(|line| line.chars().count() <= width), "{size}: {text}");
        assert!(text.lines().count() <= lines, "{size}: {text}");
    }
    let text = monitor(&sandbox, &["top", "--snapshot", "80x24", "--interval", "100ms"]).success().stdout;
    assert!(text.lines().last().unwrap().contains("? help"), "{text}");
}

#[test]
fn the_pane_knows_everything_of_a_row_that_has_just_become_the_first() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    let word = format!("{:06x}", std::process::id());
    let (first, second) = (format!("docker-a{word}.scope"), format!("docker-b{word}.scope"));
    let (first, second) = (Placed::new(&sandbox, &first), Placed::new(&sandbox, &second));
    let memory = |file: &str| first.dirs.iter().any(|d| d.join(file).exists());
    require!(memory("memory.peak") || memory("memory.max_usage_in_bytes"), "needs the memory controller");
    // Equal until it is seen how busy they are: then the second one is the first.
    let busy = Running::start(Command::new("sh").args(["-c", "while :; do :; done"]));
    for dir in &second.dirs {
        std::fs::write(dir.join("cgroup.procs"), busy.pid().to_string()).unwrap();
    }
    let filter = format!("id =~ {word}");
    let args = ["top", "--snapshot", "80x24", "--details", "--filter", &filter, "--interval", "1s"];
    let text = monitor(&sandbox, &args).success().stdout;
    drop(busy);
    assert!(text.contains(&format!(" b{word}  docker")), "{text}");
    assert!(text.contains("  peak ") && !text.contains("  peak -"), "{text}");
}

#[test]
fn containers_of_other_engines_are_named() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    let id = format!("{:064x}", 0xd0c5_0000_0000_u64 + u64::from(std::process::id()));
    let placed = Placed::new(&sandbox, &format!("docker-{id}.scope"));
    require!(!placed.dirs.is_empty(), "needs a cgroup file system");
    let pid = placed.process.as_ref().unwrap().pid();
    let args = ["top", "--once", "--interval", "100ms", "--containers", "--filter", "runtime == docker"];
    let rows = json(&sandbox, &args);
    let row = rows.as_array().unwrap().iter().find(|r| r["id"] == id.as_str()).unwrap().clone();
    assert_eq!((row["runtime"].as_str(), row["pid"].as_u64()), (Some("docker"), Some(pid.into())), "{row}");
    assert_eq!((row["nprocs"].as_u64(), row["is_container"].as_bool()), (Some(1), Some(true)));
    let one = json(&sandbox, &["stats", &id[..63], "--once", "--interval", "100ms"]);
    assert_eq!(one["pid"].as_u64(), Some(pid.into()), "{one}");
    let all = json(&sandbox, &["stats", "--once", "--interval", "100ms"]);
    assert!(all.as_array().unwrap().iter().any(|r| r["id"] == id.as_str()), "{all}");
    let inspected = json(&sandbox, &["inspect", &id]);
    assert_eq!(inspected["pid"].as_u64(), Some(pid.into()));
    let line =
        monitor(&sandbox, &["stats", "--once", "--interval", "100ms", "--format", "{{.runtime}} {{.id}}"]);
    assert!(line.success().stdout.contains(&format!("docker {id}\n")));
}

#[test]
fn a_container_without_a_cgroup_is_found_by_its_pid_namespace() {
    require!(is_root() && have("unshare"), "needs root and unshare");
    let sandbox = Sandbox::new();
    let parent =
        Running::unshare(&["-pf", "--mount-proc", "--kill-child", "sh", "-c", "sleep 60 & exec sleep 61"]);
    let inside = common::child(&sandbox, parent.pid(), "sleep");
    let space = common::inode(&inside.to_string(), "pid").unwrap();
    let rows = json(&sandbox, &["stats", "--once", "--interval", "100ms"]);
    let wanted = format!("pid:[{space}]");
    let row = rows.as_array().unwrap().iter().find(|r| r["id"] == wanted.as_str());
    // Where the test itself runs in a container, the cgroup is nobody else's.
    let row = row.unwrap_or_else(|| panic!("{wanted} in {rows}"));
    assert_eq!((row["nprocs"].as_u64(), row["counted_by"].as_str()), (Some(2), Some("processes")), "{row}");
    assert!(row["memory"]["current"].as_u64().unwrap() > 0, "{row}");
}

#[test]
fn dying_processes_do_no_harm() {
    let sandbox = Sandbox::new();
    let busy =
        Running::start(Command::new("sh").args(["-c", "while :; do /bin/true & /bin/true; wait; done"]));
    for _ in 0..3 {
        monitor(&sandbox, &["top", "--once", "--interval", "100ms"]).success();
        monitor(&sandbox, &["ns", "ls"]).success();
        monitor(&sandbox, &["tree"]).success();
    }
    drop(busy);
}
