//! `container why`: the last failure of a container: where, what the kernel said, what shows it, and what helps.

use crate::commands::{signals, when};
use crate::kmsg::Kmsg;
use crate::told;
use drydock_bundle::events::{Event, all};
use drydock_bundle::{Entry, Life, State, Store};
use drydock_cli::Outcome;
use drydock_core::size::show;
use drydock_core::text::{escape, shorten};
use drydock_core::{ContainerId, Result};
use serde::Serialize;
use serde_json::{Map, Value};

/// Arguments of `container why`.
#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Also of a container that is gone, as long as the file of events in the state root reaches back.\\n\
    What is told: the stage and the call that failed with its errno; or how the command ended, whether a limit was hit and\n\
    whose (its own or that of a cgroup above), whether a seccomp filter refused a call; and what helps."
)]
pub struct Args {
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// The container
    pub name: String,
}

/// The answer.
#[derive(Clone, Debug, Default, Serialize)]
struct Answer {
    id: String,
    /// As `container list` has it; `gone` when there is no record any more.
    status: String,
    /// `failed` (it could not be made, started or entered), `ended`, `running`.
    what: &'static str,
    /// When, in seconds since the epoch.
    time: Option<f64>,
    /// In one sentence.
    reason: String,
    /// The stage that failed.
    stage: Option<String>,
    /// The call with its arguments.
    call: Option<String>,
    /// `No such file or directory (ENOENT)`.
    errno: Option<String>,
    exit_code: Option<u64>,
    signal: Option<String>,
    /// What shows it.
    evidence: Vec<String>,
    /// What helps.
    fix: Option<String>,
}

/// Says why.
///
/// # Errors
/// Nothing is known of such a container.
pub fn run(args: &Args, store: &Store) -> Outcome {
    let found = store.find(&args.name);
    let id = match &found {
        Ok(entry) => entry.id.clone(),
        Err(_) => ContainerId::parse(&args.name)?,
    };
    let events: Vec<Event> = all(store.root()).0.into_iter().filter(|e| e.id == id.as_str()).collect();
    let entry = match found {
        Err(error) if events.is_empty() => {
            return Err(error.hint("container list shows them; nothing is written down of it either").into());
        }
        other => other.ok(),
    };
    let answer = answer(&id, entry.as_ref(), &events);
    if args.json {
        drydock_cli::print_json(&answer)?;
    } else {
        print(&answer)?;
    }
    Ok(0)
}

fn answer(id: &ContainerId, entry: Option<&Entry>, events: &[Event]) -> Answer {
    let state = entry.and_then(|e| e.state.as_ref().ok());
    let life = entry.map(|e| e.life().map_or("corrupt", Life::name)).unwrap_or("gone");
    let last = events.iter().rev().find(|e| matches!(e.kind.as_str(), "fail" | "exit" | "start"));
    let mut answer = Answer { id: id.to_string(), status: life.to_string(), ..Answer::default() };
    let runs = entry.is_some_and(|e| signals::running(e).is_ok());
    match (state, last) {
        (Some(state), _) if runs => running(&mut answer, state),
        // A command in it that could not be run is no end.
        (_, Some(event)) if event.kind == "fail" => failed(&mut answer, event),
        (_, Some(event)) if event.kind == "exit" => ended(&mut answer, &event.more, event.time, events),
        (Some(state), _) => from_record(&mut answer, state, events),
        _ => {
            answer.what = "ended";
            answer.reason = "it is gone, and nobody has seen how it ended".to_string();
            answer.fix = Some(
                "a container of an engine is watched by that engine: ask it; `container run` keeps a record"
                    .to_string(),
            );
        }
    }
    if let Some(error) = state.and_then(|s| s.error.clone()) {
        answer.evidence.push(format!("its owner ended badly: {error}"));
    }
    for sentence in state.map(|s| s.lacking.clone()).unwrap_or_default() {
        answer.evidence.push(format!("not had on this machine: {sentence}"));
    }
    answer
}

fn text(map: &Map<String, Value>, key: &str) -> Option<String> {
    map.get(key)?.as_str().map(str::to_string)
}

fn failed(answer: &mut Answer, event: &Event) {
    let more = &event.more;
    answer.what = "failed";
    answer.time = Some(event.time);
    answer.reason = text(more, "error").unwrap_or_else(|| "it failed".to_string());
    answer.stage = text(more, "stage");
    answer.call = text(more, "call");
    answer.errno = text(more, "errno");
    answer.exit_code = more.get("exit_code").and_then(Value::as_u64);
    answer.fix = text(more, "hint");
    let what = text(more, "what").unwrap_or_default();
    answer.evidence.push(match what.as_str() {
        _ if matches!(answer.exit_code, Some(126 | 127)) => {
            "the container was made, its command could not be executed, and all was taken away again"
                .to_string()
        }
        "create" => "it was never made: everything that had been made was taken away again".to_string(),
        _ => "it was made, but its command was never executed".to_string(),
    });
    if let Some(command) = more.get("command").and_then(Value::as_array) {
        let words: Vec<&str> = command.iter().filter_map(Value::as_str).collect();
        answer.evidence.push(format!("command: {}", shorten(&words.join(" "), 200)));
    }
    if answer.fix.is_none() {
        answer.fix = advice(answer.exit_code, answer.errno.as_deref(), answer.stage.as_deref());
    }
}

/// Where the error itself knew no remedy.
fn advice(code: Option<u64>, errno: Option<&str>, stage: Option<&str>) -> Option<String> {
    let advice = match (code, errno, stage) {
        (Some(127), ..) => {
            "look whether the program is in the root file system, and its interpreter and libraries: rootfs check DIR"
        }
        (Some(126), ..) => {
            "make the file executable (chmod +x), for this processor, on a mount without noexec"
        }
        (_, Some(errno), _) if errno.contains("EPERM") || errno.contains("EACCES") => {
            "container doctor says what this user may do on this machine, and what helps"
        }
        (_, Some(errno), _) if errno.contains("ENOSPC") => {
            "a limit of the machine is used up: /proc/sys/user/max_*_namespaces, disk, or memory"
        }
        (_, _, Some("network")) => {
            "netsetup show, and container doctor --json for what the machine's network offers"
        }
        (_, _, Some("cgroup")) => {
            "cgroupctl check shows which controllers there are, and where we may make cgroups"
        }
        _ => "the same command with --explain shows each step before it is made",
    };
    Some(advice.to_string())
}

fn ended(answer: &mut Answer, more: &Map<String, Value>, time: f64, events: &[Event]) {
    answer.what = "ended";
    answer.time = Some(time);
    answer.exit_code = more.get("exit_code").and_then(Value::as_u64);
    answer.signal = text(more, "signal");
    let counted = more.get("counted").and_then(Value::as_object).cloned().unwrap_or_default();
    let oom = more.get("oom_killed").and_then(Value::as_bool).unwrap_or(false);
    judge(answer, oom, &counted, events);
}

/// A container whose end only its record tells.
fn from_record(answer: &mut Answer, state: &State, events: &[Event]) {
    answer.what = "ended";
    #[allow(clippy::cast_precision_loss)] // seconds since the epoch
    let finished = state.finished.map(|n| n as f64);
    answer.time = finished;
    answer.exit_code = state.ended.map(|e| u64::from(e.code()));
    if let Some(drydock_core::exit::Ended::Signaled(signal)) = state.ended {
        answer.signal = Some(drydock_supervise::signals::signal_name(i32::from(signal)));
    }
    // Its cgroup may still be there, when nobody has deleted it.
    judge(answer, state.oom_killed, &told::counted(&state.cgroup), events);
}

fn judge(answer: &mut Answer, oom: bool, counted: &Map<String, Value>, events: &[Event]) {
    let number = |key: &str| counted.get(key).and_then(Value::as_u64);
    let kills = number("oom_kills").unwrap_or(0);
    let asked = events.iter().rev().take_while(|e| e.kind != "start").find(|e| e.kind == "kill");
    let denied = denials(events);
    evidence(answer, counted);
    let (reason, fix) = match (answer.exit_code, answer.signal.as_deref()) {
        _ if oom || kills > 0 => {
            ("the kernel killed a process of it for want of memory".to_string(), memory_fix(answer, counted))
        }
        (_, Some("SIGSYS")) => (
            "its seccomp filter killed it for a system call".to_string(),
            Some(
                "allow the call: --security-opt seccomp=FILE with it, or unconfined to find out which"
                    .to_string(),
            ),
        ),
        (_, Some(signal)) => match asked {
            Some(event) => {
                let by = text(&event.more, "by")
                    .map_or("container kill".to_string(), |b| format!("container {b}"));
                let sent = text(&event.more, "signal").unwrap_or_default();
                answer.evidence.push(format!("{by} sent {sent} at {}", when::show(event.time)));
                let grace = (sent == "SIGKILL" && by.ends_with("stop"))
                    .then(|| "it did not heed its stop signal in time: handle it, name another by --stop-signal, or give it longer by --stop-timeout".to_string());
                (format!("it was ended by {signal}, as asked"), grace)
            }
            None => (format!("it was ended by {signal}"), signal_fix(signal)),
        },
        (Some(0), _) => ("its command ended well, with exit code 0".to_string(), None),
        (Some(code), _) => (format!("its command ended by itself with exit code {code}"), code_fix(code)),
        (None, _) => (
            "it has ended, and nobody has seen how".to_string(),
            Some(
                "whoever made it (an engine, or `container create`) waits for its process: ask there"
                    .to_string(),
            ),
        ),
    };
    answer.reason = reason;
    answer.evidence.extend(denied);
    answer.fix = fix.or_else(|| forks_fix(counted));
    if number("forks_refused").is_some() && answer.exit_code != Some(0) && !oom {
        answer.fix = forks_fix(counted).or(answer.fix.take());
    }
}

/// What the kernel counted, in sentences.
fn evidence(answer: &mut Answer, counted: &Map<String, Value>) {
    let number = |key: &str| counted.get(key).and_then(Value::as_u64);
    let mut add = |sentence: String| answer.evidence.push(sentence);
    if let Some(kills) = number("oom_kills") {
        add(format!("oom kills: {kills}"));
    }
    let hits = number("memory_limit_hits");
    if hits.is_some() || counted.contains_key("oom_kills") {
        let peak = number("memory_peak").map_or(String::new(), |n| format!(", peak {}", show(n)));
        let max = number("memory_max").map_or("no limit".to_string(), |n| format!("limit {}", show(n)));
        let hits = hits.map_or(String::new(), |n| format!(", the limit was hit {n} times"));
        add(format!("memory: {max}{peak}{hits}"));
    }
    if let Some(limit) = counted.get("memory_limit").and_then(Value::as_object) {
        let bytes = limit.get("bytes").and_then(Value::as_u64).unwrap_or(0);
        add(format!(
            "the limit that was hit: {} of {}",
            show(bytes),
            text(limit, "directory").unwrap_or_default()
        ));
    }
    if let Some(refused) = number("forks_refused") {
        add(format!("forks refused: {refused}, for the limit of {} tasks", number("pids_max").unwrap_or(0)));
    }
    if let Some(periods) = number("throttled_periods") {
        add(format!("held back by its processor limit in {periods} periods"));
    }
}

fn memory_fix(answer: &Answer, counted: &Map<String, Value>) -> Option<String> {
    let limit = counted.get("memory_limit").and_then(Value::as_object);
    let directory = limit.and_then(|l| text(l, "directory")).unwrap_or_default();
    let own = directory.is_empty() || directory.ends_with(&format!("/{}", answer.id));
    Some(if own {
        format!(
            "give it more: container update --memory SIZE {0}, or --memory SIZE; container stats {0} shows what it needs",
            answer.id
        )
    } else {
        format!(
            "the limit of the cgroup above it ({directory}) was hit: raise that one, or start less beside it"
        )
    })
}

fn forks_fix(counted: &Map<String, Value>) -> Option<String> {
    counted.get("forks_refused").map(|_| "let it have more processes and threads: --pids N".to_string())
}

fn signal_fix(signal: &str) -> Option<String> {
    let fix = match signal {
        "SIGKILL" => {
            "somebody outside killed it, or the machine ran out of memory: dmesg | grep -i 'out of memory'"
        }
        "SIGSEGV" | "SIGBUS" | "SIGILL" | "SIGFPE" | "SIGABRT" => {
            "the program itself broke: its log (container logs), a core file with --ulimit core=-1"
        }
        "SIGXCPU" | "SIGXFSZ" => "it hit a resource limit: --ulimit",
        _ => return None,
    };
    Some(fix.to_string())
}

fn code_fix(code: u64) -> Option<String> {
    let fix = match code {
        126 => "126 from a shell: something in it could not be executed; its log names it (container logs)",
        127 => {
            "127 from a shell: a command in it was not found; its log names it, rootfs check DIR finds missing libraries"
        }
        1..=125 => "the program itself gave up: container logs (with -d), or its output",
        129..=192 => "over 128 from a shell: signal CODE-128 ended a command in it",
        _ => return None,
    };
    Some(fix.to_string())
}

/// Calls that a seccomp filter refused, as written down while somebody followed, or as the kernel's log still has them.
fn denials(events: &[Event]) -> Vec<String> {
    let told = events.iter().filter(|e| e.kind == "seccomp").filter_map(|e| text(&e.more, "syscall"));
    let mut found: Vec<String> = told.map(|call| format!("seccomp refused {call}()")).collect();
    let pid = events.iter().rev().find(|e| e.kind == "start").and_then(|e| e.more.get("pid")?.as_i64());
    let mut log = Kmsg::at_the_beginning();
    for denial in log.as_mut().map(Kmsg::read).unwrap_or_default() {
        if Some(i64::from(denial.pid)) == pid {
            found.push(format!(
                "the kernel's log: seccomp refused {}() of {} (pid {})",
                denial.syscall(),
                denial.comm,
                denial.pid
            ));
        }
    }
    found.dedup();
    found
}

fn running(answer: &mut Answer, state: &State) {
    answer.what = "running";
    answer.reason = format!("it is {}, nothing has failed", answer.status);
    let counted = told::counted(&state.cgroup);
    evidence(answer, &counted);
    if counted.contains_key("oom_kills") {
        answer.reason =
            format!("it is {}, but the kernel has killed processes of it for want of memory", answer.status);
        answer.fix = memory_fix(answer, &counted);
    } else if counted.contains_key("forks_refused") {
        answer.reason = format!("it is {}, but was refused new processes", answer.status);
        answer.fix = forks_fix(&counted);
    }
}

fn print(answer: &Answer) -> Result<()> {
    let mut rows =
        vec![("container", format!("{} ({})", answer.id, answer.status)), ("why", answer.reason.clone())];
    rows.extend(answer.time.map(|time| ("when", when::show(time))));
    let exit = match (answer.exit_code, &answer.signal) {
        (Some(code), Some(signal)) => Some(format!("{code} ({signal})")),
        (code, _) => code.map(|code| code.to_string()),
    };
    for (name, value) in [
        ("stage", answer.stage.clone()),
        ("call", answer.call.clone()),
        ("errno", answer.errno.clone()),
        ("exit code", exit),
    ] {
        rows.extend(value.map(|value| (name, value)));
    }
    rows.extend(answer.evidence.iter().map(|sentence| ("evidence", sentence.clone())));
    rows.extend(answer.fix.clone().map(|fix| ("fix", fix)));
    let text: String = rows.iter().map(|(name, value)| format!("{name:<10} {}\n", escape(value))).collect();
    drydock_cli::print_text(&text)
}
