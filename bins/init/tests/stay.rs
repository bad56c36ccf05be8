//! `init` as PID 1 that stays: what it does with signals, with what is left, before and after, and whom it tells.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that cannot go on should stop

use drydock_testkit::{Sandbox, Terminal, have, in_vm, is_root, require, run, run_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const INIT: &str = env!("CARGO_BIN_EXE_init");

fn init(args: &[&str]) -> Command {
    let mut command = Command::new(INIT);
    command.arg("-s").args(args).stdin(Stdio::null());
    command
}

fn shell(options: &[&str], script: &str) -> Command {
    init(&[options, &["--", "sh", "-c", script]].concat())
}

/// As PID 1 of a pid namespace of its own.
fn as_pid_1(options: &[&str], script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", INIT]).args(options).args(["--", "sh", "-c", script]);
    command.stdin(Stdio::null());
    command
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(if in_vm() { 100 } else { 20 });
    while !holds() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Starts it and reads its first line.
fn started(command: &mut Command) -> (Child, BufReader<ChildStdout>, String) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    (child, reader, line.trim().to_string())
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
}

fn report(stderr: &str) -> Value {
    serde_json::from_str(stderr.lines().last().unwrap_or_default())
        .unwrap_or_else(|e| panic!("{e}: {stderr}"))
}

/// A field of /proc/PID/stat: 3 is the state, 4 the parent, 5 the group, 6 the session, 8 the terminal's group.
fn stat(pid: &str, field: usize) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(')')?.1.split_whitespace().nth(field - 3).map(str::to_string)
}

fn children(pid: u32) -> Vec<(String, String)> {
    let names =
        std::fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().into_string().ok());
    let pids = names.filter(|name| name.bytes().all(|b| b.is_ascii_digit()));
    let own = pid.to_string();
    pids.filter(|p| stat(p, 4).as_ref() == Some(&own)).filter_map(|p| Some((stat(&p, 3)?, p))).collect()
}

#[test]
fn signals_are_rewritten_and_dropped() {
    let script = "trap 'echo INT; exit 5' INT; trap 'echo TERM; exit 6' TERM; trap 'echo HUP; exit 7' HUP; \
        echo ready; while :; do sleep 0.02; done";
    for (rules, sent, code) in [
        (&["-r", "TERM:INT"][..], &[Signal::SIGTERM][..], 5),
        (&["--signal-map", "15:2"], &[Signal::SIGTERM], 5),
        (&["--rewrite", "HUP:0", "-r", "USR1:TERM"], &[Signal::SIGHUP, Signal::SIGUSR1], 6),
        (&[], &[Signal::SIGHUP], 7),
    ] {
        let (mut child, _reader, line) = started(&mut shell(rules, script));
        assert_eq!(line, "ready");
        sent.iter().for_each(|number| signal(&child, *number));
        assert_eq!(child.wait().unwrap().code(), Some(code), "{rules:?}");
    }
}

#[test]
fn exit_codes_are_mapped() {
    run(&mut shell(&["--exit-map", "143:0", "--exit-map", "3:9"], "kill -TERM $$")).success();
    run(&mut shell(&["--exit-map", "143:0", "--exit-map", "3:9"], "exit 3")).exits(9);
    run(&mut shell(&["--exit-map", "143:0"], "exit 4")).exits(4);
}

#[test]
fn what_is_left_is_waited_for_or_killed() {
    // A subreaper finds its descendants; an orphan of the second generation among them.
    let stubborn =
        "(trap '' TERM; (sleep 300 & echo on >&9; wait) & wait) & while ! read -r x; do :; done; exit 3";
    let sandbox = Sandbox::new();
    let fifo = sandbox.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let script = format!("exec 9<>{0} <{0}; {stubborn}", fifo.display());
    let output = run(&mut shell(&["--json", "--grace", "200"], &script)).exits(3);
    let told = report(&output.stderr);
    assert!(told["killed"].as_u64().unwrap() >= 1, "{told}");
    assert!(told["reaped"]["count"].as_u64().unwrap() >= 1, "{told}");
    assert_eq!(told["main"]["exit_code"], 3);
    // --wait-all does not ask them to end.
    let mark = sandbox.path().join("mark");
    let script = format!("(trap 'echo asked' TERM; sleep 0.3; echo done > {}) & exit 4", mark.display());
    run(&mut shell(&["--wait-all"], &script)).exits(4).stdout_is("");
    assert_eq!(std::fs::read_to_string(&mark).unwrap(), "done\n");
    // With a deadline it does not wait for ever.
    let output = run(&mut shell(&["--wait-all", "--grace", "100", "--json"], "sleep 300 & exit 5")).exits(5);
    assert_eq!(report(&output.stderr)["killed"], 1);
    // Signals that come meanwhile go to those who are left.
    let script = "(trap 'exit 0' TERM; echo $$; while :; do sleep 0.02; done) & exit 6";
    let (mut child, _reader, command) = started(&mut shell(&["--wait-all"], script));
    until("the command has ended", || !Path::new("/proc").join(&command).exists());
    signal(&child, Signal::SIGTERM);
    let mut status = None;
    until("it has ended too", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.and_then(|s| s.code()), Some(6));
}

#[test]
fn before_and_after() {
    let options = [
        "--pre",
        "sh -c 'echo one  two'",
        "--pre",
        "echo three",
        "--post",
        "sh -c 'echo $INIT_EXIT_CODE $INIT_SIGNAL'",
    ];
    run(&mut shell(&options, "echo main; kill -KILL $$")).exits(137).stdout_is("one two\nthree\nmain\n137 9");
    let output = run(&mut shell(&["--pre", "false", "--post", "echo post"], "echo ran")).fails_with(125);
    assert!(output.stderr.contains("'false' ended with 1") && output.stdout.is_empty(), "{output:?}");
    let output = run(&mut shell(&["--post", "/no/such"], "exit 2")).exits(2);
    assert!(output.stderr.contains("/no/such"), "{}", output.stderr);
}

#[test]
fn readiness_is_told() {
    let sandbox = Sandbox::new();
    let file = sandbox.path().join("ready");
    let at = |options: &str, script: &str| {
        let line = format!("exec {INIT} -s {options} -- {script} 5>{}", file.display());
        let mut command = Command::new("sh");
        command.args(["-c", &line]).stdin(Stdio::null());
        command
    };
    // Not before the exec, and the command does not get the descriptor.
    run(&mut at("--ready-fd 5", "sh -c 'test ! -e /proc/self/fd/5'")).success();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "READY=1\n");
    run(&mut at("--ready-fd 5", "no-such-command")).exits(127);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "");
    // The command says when, as s6's services do.
    let script = format!(
        "sh -c 'test ! -s {0} || exit 9; echo >&4; exec 4>&-; while [ ! -s {0} ]; do sleep 0.02; done'",
        file.display()
    );
    run(&mut at("--ready-fd 5 --notify-fd 4", &script)).success();
    // A service manager's socket, which is not the command's any more.
    let name = sandbox.path().join("socket");
    let socket = UnixDatagram::bind(&name).unwrap();
    run(shell(&["--sd-notify"], "test -z \"$NOTIFY_SOCKET\" && exit 4").env("NOTIFY_SOCKET", &name)).exits(4);
    let hear = || {
        let mut buffer = [0u8; 200];
        let n = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..n]).into_owned()
    };
    assert!(hear().starts_with("READY=1\nMAINPID="));
    assert_eq!(hear(), "STOPPING=1\nEXIT_STATUS=4\n");
    let output = run(shell(&["--sd-notify"], "true").env_remove("NOTIFY_SOCKET")).success();
    assert!(output.stderr.contains("NOTIFY_SOCKET"), "{}", output.stderr);
}

#[test]
fn a_passed_socket_is_the_commands() {
    let mut command = Command::new("sh");
    let line = format!(
        "LISTEN_PID=$$ LISTEN_FDS=1 exec {INIT} -s -- sh -c 'test $LISTEN_PID = $$ && test -e /proc/self/fd/3' 3</dev/null"
    );
    run(command.args(["-c", &line]).stdin(Stdio::null())).success();
}

#[test]
fn nothing_of_the_callers_is_held() {
    let sandbox = Sandbox::new();
    let mut command = Command::new("sh");
    let line =
        format!("cd {}; exec {INIT} -s -- sh -c 'pwd; exec sleep 300' 7</etc", sandbox.path().display());
    let (child, _reader, cwd) = started(command.args(["-c", &line]).stdin(Stdio::null()));
    assert_eq!(Path::new(&cwd), sandbox.path());
    let own = format!("/proc/{}", child.id());
    until("init has left the directory", || {
        std::fs::read_link(format!("{own}/cwd")).unwrap() == Path::new("/")
    });
    until("the descriptor is closed", || !Path::new(&format!("{own}/fd/7")).exists());
    signal(&child, Signal::SIGTERM);
    child.wait_with_output().unwrap();
}

#[test]
fn pause_reaps_and_ends() {
    require!(is_root(), "needs root");
    for (number, code) in [(Signal::SIGTERM, 0), (Signal::SIGINT, 0)] {
        // The orphans of a process that joins come to it, as to any PID 1.
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc", INIT, "--pause", "--json"]).stdin(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        until("it runs", || {
            children(child.id())
                .iter()
                .any(|(_, p)| std::fs::read_to_string(format!("/proc/{p}/comm")).is_ok_and(|c| c == "init\n"))
        });
        let pid = children(child.id())[0].1.clone();
        let enter = ["-t", pid.as_str(), "-p", "-m", "sh", "-c", "(sh -c 'exit 7' &) ; exit 0"];
        assert!(Command::new("nsenter").args(enter).status().unwrap().success());
        until("no zombie stays", || children(pid.parse().unwrap()).is_empty());
        kill(Pid::from_raw(pid.parse().unwrap()), number).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code));
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let told = report(&stderr);
        assert_eq!((&told["main"], &told["exit_code"]), (&Value::Null, &Value::from(0)), "{told}");
    }
}

#[test]
fn the_parents_death_is_a_signal() {
    let script = "trap 'echo told > $0; exit 0' USR1; echo $PPID; while :; do sleep 0.02; done";
    let sandbox = Sandbox::new();
    let mark = sandbox.path().join("mark");
    let mark_text = mark.display().to_string();
    let line = format!("{INIT} -s -p USR1 -- sh -c \"$1\" \"$2\" & wait");
    let mut parent = Command::new("sh");
    parent.args(["-c", &line, "sh", script, &mark_text]).stdin(Stdio::null());
    let (mut parent, _reader, pid) = started(&mut parent);
    parent.kill().unwrap();
    parent.wait().unwrap();
    until("the command was told", || std::fs::read_to_string(&mark).is_ok_and(|text| text == "told\n"));
    until("init has ended", || stat(&pid, 3).is_none_or(|state| state == "Z"));
}

#[test]
fn a_session_of_its_own() {
    let script = "cut -d' ' -f1,5,6 /proc/$$/stat; trap 'echo main' TERM; (trap 'echo child; exit' TERM; echo ready; while :; do sleep 0.02; done) & wait; wait; exit 4";
    let (mut child, mut reader, ids) = started(&mut shell(&["--session"], script));
    let ids: Vec<&str> = ids.split(' ').collect();
    assert!(ids[0] == ids[1] && ids[1] == ids[2], "leads its group and session: {ids:?}");
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    signal(&child, Signal::SIGTERM);
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("main") && rest.contains("child"), "{rest}");
    assert_eq!(child.wait().unwrap().code(), Some(4));
}

#[test]
fn the_terminal_is_the_commands_and_stops_are_jobs() {
    require!(have("bash"), "needs bash(1)");
    let mut bash = Command::new("bash");
    bash.args(["--norc", "--noprofile", "-i"]).env("PS1", "").env("TERM", "dumb");
    let mut terminal = Terminal::start(&bash);
    let script = "cut -d\" \" -f5,8 /proc/$$/stat; echo up; while :; do sleep 0.05; done";
    // The command leads the group in the foreground: its group is the terminal's.
    terminal.types(&format!("{INIT} -s -- sh -c '{script}'\n")).shows("up\r\n");
    let screen = terminal.screen();
    let line = screen
        .lines()
        .rfind(|l| l.trim().split(' ').all(|w| !w.is_empty() && w.bytes().all(|b| b.is_ascii_digit())))
        .unwrap();
    let ids: Vec<&str> = line.trim().split(' ').collect();
    assert_eq!((ids.len(), ids.first()), (2, ids.last()), "{screen:?}");
    let leader = ids[0];
    // Ctrl-Z stops both, so that the shell takes over; fg goes on; Ctrl-C ends it.
    terminal.types("\x1a").shows("Stopped");
    terminal.types("echo back-$((40+2))\n").shows("back-42");
    terminal.types("fg\n").shows("init -s");
    until("the terminal is the command's again", || stat(leader, 8).is_some_and(|group| group == leader));
    terminal.types("\x03");
    terminal.types("echo code-$?\n").shows("code-130");
    terminal.types("exit\n");
    terminal.end();
}

#[test]
fn any_user_and_a_read_only_root() {
    require!(is_root() && have("setpriv"), "needs root and setpriv(1)");
    let copy = Sandbox::new();
    let program = copy.path().join("init");
    std::fs::copy(INIT, &program).unwrap();
    std::fs::set_permissions(copy.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let script = format!(
        "mount -o remount,ro,bind / && mount -o bind,ro {0} {0} && exec setpriv --reuid 64123 --regid 64123 --clear-groups \
         {0}/init --grace 1000 -- sh -c 'touch {0}/x 2>/dev/null && exit 9; id -u; exit 8'",
        copy.path().display()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", &script]).stdin(Stdio::null());
    run(&mut command).exits(8).stdout_is("64123");
}

/// FI-15. In the emulated machine a tenth of it.
#[test]
fn a_storm_of_zombies() {
    require!(is_root() && have("perl"), "needs root and perl(1)");
    let count: u32 = if in_vm() { 5_000 } else { 50_000 };
    // Each child leaves a hundred orphans, which end at once; the command's own end must not be lost among them.
    let storm = format!(
        "$| = 1; for (1..{}) {{ my $p = fork; if (!$p) {{ for (1..100) {{ fork or exit 3 }} exit 0 }} waitpid $p, 0 }} print qq(over\\n); <STDIN>; exit 42",
        count / 100
    );
    let mut command = Command::new("unshare");
    command
        .args(["--pid", "--fork", "--mount-proc", INIT, "--json", "--", "perl", "-e", &storm])
        .stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    until("init runs", || children(child.id()).iter().any(|(_, p)| !children(p.parse().unwrap()).is_empty()));
    let pid: u32 = children(child.id())[0].1.parse().unwrap();
    let memory = || {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = text.lines().find(|l| l.starts_with("RssAnon:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = memory();
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert_eq!(line, "over\n");
    let zombies = || children(pid).iter().filter(|(state, _)| state == "Z").count();
    until("at rest no more than ten zombies", || zombies() < 10);
    std::thread::sleep(Duration::from_millis(200));
    assert!(zombies() < 10);
    let after = memory();
    assert!(after <= before + 64, "memory is flat: {before} KiB, then {after} KiB");
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(42));
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    let told = report(&stderr);
    assert_eq!(told["reaped"]["count"], count, "every one was reaped");
    assert!(told["reaped"]["first"].as_array().unwrap().len() <= 64);
}

#[test]
fn little_memory() {
    let (child, _reader, line) = started(&mut shell(&[], "echo up; exec sleep 300"));
    assert_eq!(line, "up");
    // Unoptimised, a program is several times as large, and how much of its file is mapped is the page cache's choice.
    let (field, most) = if cfg!(debug_assertions) { ("Anonymous:", 1024) } else { ("Rss:", 1024) };
    let resident = || {
        // The counters of /proc/PID/status are off by up to a batch of pages for each processor.
        let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", child.id())).unwrap();
        let line = text.lines().find(|l| l.starts_with(field)).unwrap().to_string();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    until(&format!("{field} under {most} KiB"), || resident() < most);
    signal(&child, Signal::SIGTERM);
    child.wait_with_output().unwrap();
}

#[test]
fn the_report_names_signals() {
    require!(is_root(), "needs root");
    let script = "(sh -c 'kill -USR1 $$' &); (sh -c 'exit 6' &); sleep 0.3; kill -40 $$";
    let output = run(&mut as_pid_1(&["--json", "--warn-reaped"], script)).exits(168);
    let told = report(&output.stderr);
    assert_eq!(
        (&told["main"]["signal"], &told["exit_code"]),
        (&Value::from("SIGRTMIN+6"), &Value::from(168))
    );
    let first = told["reaped"]["first"].as_array().unwrap();
    assert!(
        first.iter().any(|r| r["signal"] == "SIGUSR1") && first.iter().any(|r| r["exit_code"] == 6),
        "{told}"
    );
    assert!(
        output.stderr.contains("killed by SIGUSR1") && output.stderr.contains("exited 6"),
        "{}",
        output.stderr
    );
}

#[test]
fn bad_options_are_refused_before_anything_runs() {
    let cases: &[(&[&str], &str)] = &[
        (&["--signal-map", "15:"], "FROM:TO"),
        (&["--signal-map", "15:99"], "'99'"),
        (&["-r", "FOO:TERM"], "'FOO'"),
        (&["-r", "9:15"], "cannot be caught"),
        (&["-r", "TERM:2", "-r", "15:3"], "second rule"),
        (&["--exit-map", "300:1"], "0 to 255"),
        (&["--exit-map", "1:2", "--exit-map", "1:3"], "second rule"),
        (&["--grace", "-1"], "--grace"),
        (&["--grace", "abc"], "no time in milliseconds (allowed: 0 to 3600000)"),
        (&["--grace", "+1"], "allowed: 0 to 3600000"),
        (&["--grace", "3600001"], "allowed: 0 to 3600000"),
        (&["--pid-file", "/no/such/file"], "No such file or directory"),
        (&["--pid-file", "/tmp"], "no regular file"),
        (&["--pid-file", ".."], "names no file"),
        (&["--pid-file", ""], "--pid-file"),
        (&["--exec", "--pid-file", "/tmp/x"], "--exec"),
        (&["--pre", ""], "--pre"),
        (&["--post", "'open"], "open quotation"),
        (&["-p", "NOPE"], "NOPE"),
        (&["--ready-fd", "9"], "not open"),
        (&["--ready-fd", "2"], "3 to 1023"),
        (&["--ready-fd", "x"], "3 to 1023"),
        (&["--notify-fd", "9"], "tells nobody"),
        (&["--pause"], "without a command"),
        (&["--unshare", "uts", "--sd-notify"], "plain init"),
        (&["--exec", "--pre", "true"], "--exec"),
    ];
    for (options, says) in cases {
        let output = run_for(&mut shell(options, "echo ran"), b"", Duration::from_secs(60)).fails_with(2);
        assert!(output.stderr.contains(says) && output.stdout.is_empty(), "{options:?}: {output:?}");
        assert!(!output.stderr.contains("invalid digit"), "{options:?}: {output:?}");
    }
}

#[test]
fn a_file_with_the_pid() {
    let sandbox = Sandbox::new();
    let dir = sandbox.path().join("pids");
    std::fs::create_dir(&dir).unwrap();
    let path = dir.join("pid");
    let file = path.to_string_lossy().into_owned();
    let names = || std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>();
    let for_long = Duration::from_secs(60);
    let mut command = shell(&["--pid-file", &file], "echo $$; read line; exit 3");
    let (mut child, _out, said) = started(command.stdin(Stdio::piped()));
    until("the file is there", || path.exists());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{said}\n"));
    assert_eq!(names(), ["pid"], "nothing but the file");
    drop(child.stdin.take());
    until("it ends", || child.try_wait().unwrap().is_some());
    assert!(names().is_empty(), "{:?}", names());
    // What cannot be executed or is wrong with other options leaves none.
    run_for(&mut init(&["--pid-file", &file, "--", "/no/such/program"]), b"", for_long).fails_with(127);
    run_for(&mut shell(&["--pid-file", &file, "-r", "x"], ""), b"", for_long).fails_with(2);
    run_for(&mut shell(&["--pid-file", &file, "--pre", "false"], ""), b"", for_long).fails_with(125);
    assert!(names().is_empty(), "{:?}", names());
    // A link is not followed, and what it leads to stays as it is.
    let other = dir.join("other");
    std::fs::write(&other, "mine").unwrap();
    std::os::unix::fs::symlink(&other, &path).unwrap();
    let output = run_for(&mut shell(&["--pid-file", &file], "echo ran"), b"", for_long).fails_with(2);
    assert!(output.stderr.contains("symbolic link") && output.stdout.is_empty(), "{output:?}");
    assert_eq!(std::fs::read_to_string(&other).unwrap(), "mine");
}

#[test]
fn a_file_with_the_pid_outside() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    let file = sandbox.path().join("pid");
    let words = ["--unshare", "pid", "--pid-file", file.to_str().unwrap(), "--", "cat"];
    let mut child = init(&words).stdin(Stdio::piped()).spawn().unwrap();
    until("the file is there", || file.exists());
    let pid = std::fs::read_to_string(&file).unwrap();
    let inside = std::fs::read_link(format!("/proc/{}/ns/pid", pid.trim())).unwrap();
    assert_ne!(inside, std::fs::read_link("/proc/self/ns/pid").unwrap());
    drop(child.stdin.take());
    until("it ends", || child.try_wait().unwrap().is_some());
    assert!(!file.exists());
}
