//! `monitor record`, `replay`, `serve`, `perf`, `syscalls`; and what is seen with hidepid.
// A helper that cannot go on fails its test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Placed, Running, json, monitor, wait_comm};
use drydock_testkit::{Sandbox, bin, have, is_root, require};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

#[test]
fn what_is_recorded_is_replayed() {
    let sandbox = Sandbox::new();
    let file = sandbox.join("all.rec");
    let name = file.to_str().unwrap();
    monitor(&sandbox, &["record", "-o", name, "-n", "3", "--interval", "200ms", "--all"]).success();
    let lines = monitor(&sandbox, &["replay", name, "--json"]).success().stdout;
    let samples: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(samples.len(), 3);
    let row = |sample: &Value| sample["containers"].as_array().unwrap().first().cloned().unwrap();
    assert!(row(&samples[0])["cpu_percent"].is_null(), "nothing before it: {}", samples[0]);
    assert!(samples[2]["time"].as_f64().unwrap() > samples[0]["time"].as_f64().unwrap());
    let text = monitor(&sandbox, &["replay", name, "--filter", "procs > 0"]).success().stdout;
    assert_eq!(text.matches("NAME").count(), 3, "{text}");
    // A recording that was cut off is played as far as it goes; something else is none.
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 3]).unwrap();
    let lines = monitor(&sandbox, &["replay", name, "--json"]).success().stdout;
    assert_eq!(lines.lines().count(), 2);
    monitor(&sandbox, &["record", "-o", name]).fails_with(2).says("there already");
    monitor(&sandbox, &["replay", "/etc/passwd"]).fails_with(2).says("not a recording");
    monitor(&sandbox, &["replay", "/dev/null"]).fails_with(2).says("regular file");
}

struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start() -> Self {
        let mut command = Command::new(bin("monitor"));
        command.args(["serve", "--prometheus", "127.0.0.1:0", "--all"]).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address =
            line.trim().strip_prefix("http://").unwrap().strip_suffix("/metrics").unwrap().to_string();
        Self { process, address }
    }

    fn say(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        // The server may have answered and gone already.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn metrics_are_served_whoever_else_is_there() {
    let server = Server::start();
    // Slow ones that never finish their request, and one that never reads: all at once.
    // More than are served at once.
    let slow: Vec<TcpStream> = (0..40)
        .map(|_| {
            let mut stream = TcpStream::connect(&server.address).unwrap();
            stream.write_all(b"GET /metrics HTTP/1.1\r\nX-Slow: ").unwrap();
            stream
        })
        .collect();
    let text =
        server.say(b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text\r\n\r\n");
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("# EOF\n"), "{text}");
    // It did not have to wait until the time of those before it was over.
    let mut middle = slow.get(25).unwrap();
    middle.set_nonblocking(true).unwrap();
    let still = middle.read(&mut [0u8; 16]).map_err(|e| e.kind());
    assert_eq!(still, Err(std::io::ErrorKind::WouldBlock), "the slow ones are still there");
    assert!(text.contains("application/openmetrics-text; version=1.0.0"), "{text}");
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let length = head.lines().find_map(|l| l.strip_prefix("Content-Length: ")).unwrap();
    assert_eq!(length.parse::<usize>().unwrap(), body.len());
    for line in body.lines() {
        let is_sample =
            line.starts_with("drydock_") && line.rsplit_once(' ').unwrap().1.parse::<f64>().is_ok();
        assert!(line.starts_with("# ") || is_sample, "{line}");
    }
    assert!(
        body.contains("drydock_processes{name=\"") && body.contains("# TYPE drydock_cpu_seconds counter"),
        "{body}"
    );
    for (request, status) in [
        (&b"GET /../../etc/passwd HTTP/1.1\r\n\r\n"[..], "404"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", "405"),
        (b"rubbish\r\n\r\n", "400"),
        (b"\xff\xfe\x00\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n", "200"),
        (b"HEAD /metrics HTTP/1.0\r\n\r\n", "200"),
    ] {
        let answer = server.say(request);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{:?}: {answer}",
            String::from_utf8_lossy(request)
        );
    }
    let huge = [b"GET / HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; 1 << 20]].concat();
    let answer = server.say(&huge);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    // A head without an end is not waited for: one byte more than is allowed, and there is an answer.
    let endless = [b"GET / HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; 8193 - 19]].concat();
    let answer = server.say(&endless);
    assert!(answer.starts_with("HTTP/1.1 431"), "{} bytes: {answer}", endless.len());
    let again = server.say(b"GET /metrics HTTP/1.1\r\n\r\n");
    assert!(again.starts_with("HTTP/1.1 200"), "{again}");
    drop(slow);
}

#[test]
fn only_this_machine_is_served_unless_asked() {
    let sandbox = Sandbox::new();
    monitor(&sandbox, &["serve", "--prometheus", "0.0.0.0:0"]).fails_with(2).says("--listen-any");
    monitor(&sandbox, &["serve", "--prometheus", "nowhere"]).fails_with(2).says("127.0.0.1");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    monitor(&sandbox, &["serve", "--prometheus", &address]).fails_with(125).says("in use");
}

#[test]
fn the_usual_address_is_this_machine_alone() {
    require!(is_root() && have("unshare"), "needs root and unshare");
    let sandbox = Sandbox::new();
    // In a network of its own, where the usual port is free.
    let listens = |args: &[&str]| {
        let server = Running::start(Command::new("unshare").arg("-n").arg(bin("monitor")).args(args));
        let mut found = Vec::new();
        sandbox.wait_until("the server to listen", || {
            found = listeners(server.pid());
            !found.is_empty()
        });
        found
    };
    assert_eq!(listens(&["serve"]), ["0100007F:24C9"]);
    assert_eq!(listens(&["serve", "--prometheus", ":8000"]), ["0100007F:1F40"]);
    assert_eq!(listens(&["serve", "--prometheus", "0.0.0.0:8000", "--listen-any"]), ["00000000:1F40"]);
}

/// Addresses and ports that are listened on in the network of a process, of either version. Source: proc_pid_net(5).
fn listeners(pid: u32) -> Vec<String> {
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    if std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap() == own {
        return Vec::new();
    }
    let text = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/net/{file}")).unwrap_or_default();
    let all = [text("tcp"), text("tcp6")].concat();
    let rows = all.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row.get(3) == Some(&"0A")).map(|row| row[1].to_string()).collect()
}

#[test]
fn a_name_cannot_forge_a_sample() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    // The kernel takes no line feed in a name.
    let name = "docker-q\"} 1 drydock_forged{a=\"\\\x1b[31m.scope";
    let placed = Placed::new(&sandbox, name);
    require!(!placed.dirs.is_empty(), "needs a cgroup file system");
    let server = Server::start();
    let text = server.say(b"GET /metrics HTTP/1.1\r\n\r\n");
    let body = text.split_once("\r\n\r\n").unwrap().1;
    assert!(body.contains("forged"), "it is listed: {body}");
    for line in body.lines().filter(|line| !line.starts_with('#')) {
        assert!(!line.contains('\x1b') && is_sample(line), "{line:?}");
    }
}

/// `name{label="value",…} number`, with quotes and backslashes in values escaped.
fn is_sample(line: &str) -> bool {
    let Some((head, number)) = line.rsplit_once(' ') else { return false };
    let Some((name, labels)) = head.split_once('{') else {
        return head.starts_with("drydock_") && head != "drydock_forged" && number.parse::<f64>().is_ok();
    };
    let Some(mut rest) = labels.strip_suffix('}') else { return false };
    while let Some((label, value)) = rest.split_once("=\"") {
        let mut escaped = false;
        let end = value.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let (Some(end), false) = (end, label.contains(['"', '}'])) else { return false };
        rest = value[end + 1..].trim_start_matches(',');
    }
    rest.is_empty() && name.starts_with("drydock_") && number.parse::<f64>().is_ok()
}

#[test]
fn system_calls_are_counted_and_the_process_goes_on() {
    require!(is_root(), "needs root");
    let sandbox = Sandbox::new();
    let busy = Running::start(Command::new("sh").args(["-c", "while :; do kill -0 $$; done"]));
    wait_comm(&sandbox, busy.pid(), "sh");
    let pid = busy.pid().to_string();
    let found = json(&sandbox, &["syscalls", &pid, "--time", "300ms"]);
    let calls = found["syscalls"].as_array().unwrap();
    let kill = calls.iter().find(|c| c["name"] == "kill").unwrap_or_else(|| panic!("{found}"));
    assert!(kill["count"].as_u64().unwrap() > 5, "{found}");
    // Not traced any more, and not stopped.
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("TracerPid:\t0") && !status.contains("State:\tt"), "{status}");
    monitor(&sandbox, &["syscalls", &std::process::id().to_string(), "--time", "100ms"]).fails_with(2);
}

#[test]
fn counters_or_the_reason() {
    let sandbox = Sandbox::new();
    let busy = Running::start(Command::new("sh").args(["-c", "while :; do :; done"]));
    let pid = busy.pid().to_string();
    let found = json(&sandbox, &["perf", &pid, "--time", "300ms"]);
    let counters = found["counters"].as_array().unwrap();
    assert_eq!(counters.len(), 11);
    for counter in counters {
        assert!(counter["value"].is_u64() != counter["reason"].is_string(), "{counter}");
    }
    let clock = counters.iter().find(|c| c["event"] == "task-clock").unwrap();
    if let Some(nanoseconds) = clock["value"].as_u64() {
        assert!(nanoseconds > 1_000_000, "{found}");
    }
}

#[test]
fn hidden_processes_are_said() {
    require!(is_root() && have("unshare") && have("setpriv"), "needs root, unshare and setpriv");
    let sandbox = Sandbox::new();
    let own = sandbox.join("monitor");
    std::fs::copy(bin("monitor"), &own).unwrap();
    let parents =
        own.ancestors().skip(1).take_while(|p| *p != std::path::Path::new("/tmp") && p.parent().is_some());
    for dir in parents {
        use std::os::unix::fs::PermissionsExt;
        let _ = std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755));
    }
    let script = "mount -t proc -o hidepid=2 proc /proc && exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$0\" \"$@\"";
    let run = |args: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["-mpf", "--propagation", "private", "sh", "-c", script]).arg(&own).args(args);
        drydock_testkit::run(&mut command)
    };
    let listed = run(&["ns", "ls"]);
    require!(
        !listed.stderr.contains("Permission denied (EACCES): open"),
        "needs a directory that others may enter"
    );
    assert_eq!(listed.code, Some(0), "{}", listed.describe());
    assert!(listed.stderr.contains("hidepid"), "{}", listed.describe());
    let top = run(&["top", "--once", "--interval", "100ms"]);
    assert_eq!(top.code, Some(0), "{}", top.describe());
}
