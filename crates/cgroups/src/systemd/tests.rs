//! The driver against a message bus of the test's own, with a systemd behind it that does as it is told.

use super::bus::Bus;
use super::wire::{FIXED, Kind, Message, message_length, sent};
use super::*;
use crate::Limits;
use drydock_testkit::{Sandbox, have, require};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// How the systemd behind the bus behaves.
#[derive(Clone, Copy, Default)]
struct Manners {
    /// How often the unit is there already.
    exists: usize,
    /// The result of jobs.
    result: &'static str,
    /// A signal before the answer, so that the job ends before it is known.
    hasty: bool,
    /// The user is let in only without a number.
    elsewhere: bool,
}

struct Fake {
    path: PathBuf,
    /// Members that were called, with the texts among their arguments.
    calls: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    fn start(manners: Manners) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("drydock-bus-{}-{number}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let seen = calls.clone();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                serve(stream, manners, &seen);
            }
        });
        Self { path, calls }
    }

    fn bus(&self) -> Bus {
        let bus = Bus::at(&self.path).unwrap();
        std::fs::remove_file(&self.path).unwrap();
        bus
    }

    fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}

fn serve(mut stream: UnixStream, mut manners: Manners, calls: &Mutex<Vec<String>>) {
    let mut line = String::new();
    let mut byte = [0u8];
    while stream.read_exact(&mut byte).is_ok() {
        line.push(char::from(byte[0]));
        if !line.ends_with("\r\n") {
            continue;
        }
        let numbered = line.starts_with("\0AUTH EXTERNAL 3");
        let answer: &[u8] = match line.trim_end() {
            "BEGIN" => break,
            "\0AUTH EXTERNAL" => b"DATA\r\n",
            "DATA" => b"OK 1234\r\n",
            _ if numbered && !manners.elsewhere => b"OK 1234\r\n",
            _ => return stream.write_all(b"REJECTED EXTERNAL\r\n").unwrap(),
        };
        stream.write_all(answer).unwrap();
        line.clear();
    }
    while let Some(message) = next(&mut stream) {
        let texts = message.texts();
        calls.lock().unwrap().push(format!("{} {}", message.member, texts.join(" ")).trim().to_string());
        let text = |t: &str| Value::Text(t.to_string());
        let job = |member: &str| {
            let args = [Value::U32(1), text("/job/1"), text("x.scope"), text(manners.result)];
            sent(Kind::Signal, 0, member, &args)
        };
        let say = |args: &[Value]| sent(Kind::Return, message.serial, "", args);
        let no = |name: &str| {
            sent(
                Kind::Error,
                message.serial,
                &format!("org.freedesktop.systemd1.{name}"),
                &[text("no \x1b[31mway")],
            )
        };
        let bytes = match message.member.as_str() {
            "StartTransientUnit" if manners.exists > 0 => {
                manners.exists -= 1;
                no("UnitExists")
            }
            "StopUnit" if manners.exists > 0 => no("NoSuchUnit"),
            "StartTransientUnit" | "StopUnit" if manners.hasty => {
                [job("JobRemoved"), say(&[text("/job/1")])].concat()
            }
            "StartTransientUnit" | "StopUnit" => {
                [say(&[text("/job/1")]), job("JobNew"), job("JobRemoved")].concat()
            }
            "GetUnit" => say(&[text("/unit/x")]),
            "Get" if texts.contains(&"Version".to_string()) => say(&[text("252")]),
            "Get" => say(&[text("/outer/system.slice/x.scope")]),
            "SetUnitProperties" if manners.exists > 0 => no("PropertyReadOnly"),
            _ => say(&[]),
        };
        stream.write_all(&bytes).unwrap();
    }
}

fn next(stream: &mut UnixStream) -> Option<Message> {
    let mut bytes = vec![0u8; FIXED];
    stream.read_exact(&mut bytes).ok()?;
    bytes.resize(message_length(&bytes)?, 0);
    stream.read_exact(&mut bytes[FIXED..]).ok()?;
    Message::parse(&bytes)
}

fn scope() -> Scope {
    let limits = Limits { pids_max: Some(5), ..Limits::default() };
    Request { path: Some(":p:x".into()), id: "x".into(), limits, ..Request::default() }
        .plan(Mode::V2)
        .unwrap()
}

const GOOD: Manners = Manners { exists: 0, result: "done", hasty: false, elsewhere: false };

#[test]
fn a_scope_is_started_waited_for_and_found() {
    for manners in [GOOD, Manners { hasty: true, ..GOOD }, Manners { elsewhere: true, ..GOOD }] {
        let fake = Fake::start(manners);
        let cgroup = scope().start_on(&mut fake.bus(), 42).unwrap();
        assert_eq!(cgroup, "outer/system.slice/x.scope", "where systemd says it is");
        let calls = fake.calls();
        let members: Vec<&str> = calls.iter().map(|c| c.split(' ').next().unwrap()).collect();
        assert_eq!(
            members,
            ["Hello", "Get", "AddMatch", "Subscribe", "StartTransientUnit", "GetUnit", "Get"]
        );
        assert!(calls[4].starts_with("StartTransientUnit p-x.scope replace"), "{calls:?}");
    }
}

#[test]
fn what_a_former_life_left_is_reset_once() {
    let fake = Fake::start(Manners { exists: 1, ..GOOD });
    scope().start_on(&mut fake.bus(), 42).unwrap();
    assert!(fake.calls().contains(&"ResetFailedUnit p-x.scope".to_string()));
    let fake = Fake::start(Manners { exists: 2, ..GOOD });
    let error = scope().start_on(&mut fake.bus(), 42).unwrap_err();
    assert!(error.to_string().contains("p-x.scope: systemd refuses to start it: no \\x1b[31mway"), "{error}");
    assert!(error.to_string().contains("UnitExists") && error.exit_code() == 125, "{error}");
}

#[test]
fn a_job_that_fails_is_an_error() {
    let fake = Fake::start(Manners { result: "failed", ..GOOD });
    let error = scope().start_on(&mut fake.bus(), 42).unwrap_err();
    assert!(error.to_string().contains("the job's result: failed"), "{error}");
}

#[test]
fn stopping_ends_the_unit_and_forgets_its_failure() {
    let fake = Fake::start(GOOD);
    stop_on(&mut fake.bus(), "x.scope").unwrap();
    assert_eq!(fake.calls()[3..], ["StopUnit x.scope replace", "ResetFailedUnit x.scope"]);
    let gone = Fake::start(Manners { exists: 1, ..GOOD });
    stop_on(&mut gone.bus(), "x.scope").unwrap();
}

#[test]
fn changed_limits_are_told() {
    let limits = Limits { pids_max: Some(7), ..Limits::default() };
    let fake = Fake::start(GOOD);
    let mut bus = fake.bus();
    update_on(&mut bus, "x.scope", Mode::V2, &Limits::default()).unwrap();
    update_on(&mut bus, "x.scope", Mode::V2, &limits).unwrap();
    assert_eq!(fake.calls().iter().filter(|c| c.starts_with("SetUnitProperties x.scope")).count(), 1);
    let fake = Fake::start(Manners { exists: 1, ..GOOD });
    assert!(update_on(&mut fake.bus(), "x.scope", Mode::V2, &limits).is_err());
}

#[test]
fn the_last_property_of_a_name_counts() {
    let all =
        vec![("A".to_string(), Value::U32(1)), ("B".into(), Value::U32(2)), ("A".into(), Value::U32(3))];
    assert_eq!(last_of_each(all), [("B".to_string(), Value::U32(2)), ("A".into(), Value::U32(3))]);
}

#[test]
fn bad_names_never_reach_systemd() {
    assert_eq!(stop("../x.scope", false).unwrap_err().exit_code(), 2);
    assert_eq!(stop("ssh.service", false).unwrap_err().exit_code(), 2);
    let request = Request { path: Some("/a/b".into()), id: "x".into(), ..Request::default() };
    assert_eq!(request.plan(Mode::V2).unwrap_err().exit_code(), 2);
}

/// A bus daemon as it is on real machines, without a systemd behind it.
#[test]
fn a_real_bus_lets_us_in_and_says_when_systemd_is_not_there() {
    require!(have("dbus-daemon"), "needs dbus-daemon(1)");
    let sandbox = Sandbox::new();
    let (config, socket) = (sandbox.join("bus.conf"), sandbox.join("bus"));
    let configuration = format!(
        "<busconfig><type>session</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>\
         <policy context='default'><allow send_destination='*' eavesdrop='true'/><allow eavesdrop='true'/><allow own='*'/></policy></busconfig>",
        socket.display()
    );
    std::fs::write(&config, configuration).unwrap();
    let mut daemon = std::process::Command::new("dbus-daemon");
    daemon.arg(format!("--config-file={}", config.display())).args(["--nofork", "--nopidfile", "--nosyslog"]);
    let mut daemon = daemon.stderr(std::process::Stdio::null()).spawn().unwrap();
    sandbox.wait_until("the bus listens", || socket.exists());
    let told = Bus::at(&socket).and_then(|mut bus| {
        bus.listen()?;
        bus.manager("GetUnit", &[text("x.scope")])
    });
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let refused = told.unwrap().unwrap_err();
    assert!(refused.is("ServiceUnknown"), "{refused:?}");
}
