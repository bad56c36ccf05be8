//! Running a command to its end, within a time, and saying what is expected of it.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a command may take unless the test says otherwise; ten times that in the VM, which is emulated.
pub const TIME: Duration = Duration::from_secs(30);

/// How a command ended and what it printed.
#[derive(Clone, Debug)]
pub struct Output {
    /// What was run, for messages.
    pub command: String,
    /// Exit code, if it exited.
    pub code: Option<i32>,
    /// Signal that ended it, if one did.
    pub signal: Option<i32>,
    /// Standard output (bytes that are not UTF-8 replaced).
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
    /// Wall time.
    pub took: Duration,
}

impl Output {
    /// It exited with 0.
    #[track_caller]
    pub fn success(self) -> Self {
        self.exits(0)
    }

    /// It exited with this code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.describe());
        self
    }

    /// It exited with this code, which is not 0, and printed exactly one line on stderr, and nothing on stdout.
    #[track_caller]
    pub fn fails_with(self, code: i32) -> Self {
        assert_ne!(code, 0, "a failure has a code");
        assert_eq!(self.code, Some(code), "{}", self.describe());
        assert_eq!(self.stderr.lines().count(), 1, "one sentence expected: {}", self.describe());
        assert_eq!(self.stdout, "", "{}", self.describe());
        self
    }

    /// This signal ended it.
    #[track_caller]
    pub fn killed_by(self, signal: i32) -> Self {
        assert_eq!(self.signal, Some(signal), "{}", self.describe());
        self
    }

    /// Its stderr contains this.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "stderr lacks {text:?}: {}", self.describe());
        self
    }

    /// Its stdout contains this.
    #[track_caller]
    pub fn stdout_has(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "stdout lacks {text:?}: {}", self.describe());
        self
    }

    /// Its stdout does not contain this.
    #[track_caller]
    pub fn stdout_lacks(self, text: &str) -> Self {
        assert!(!self.stdout.contains(text), "stdout has {text:?}: {}", self.describe());
        self
    }

    /// Its stdout, without white space around it, is this.
    #[track_caller]
    pub fn stdout_is(self, text: &str) -> Self {
        assert_eq!(self.stdout.trim(), text, "{}", self.describe());
        self
    }

    /// Command, end and both streams, for messages.
    pub fn describe(&self) -> String {
        let end = match (self.code, self.signal) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "no status".to_string(),
        };
        format!(
            "`{}` ended with {end} after {:?}\n--- stdout\n{}\n--- stderr\n{}\n---",
            self.command, self.took, self.stdout, self.stderr
        )
    }
}

/// Runs a command with nothing on stdin, for at most [`TIME`].
#[track_caller]
pub fn run(command: &mut Command) -> Output {
    run_for(command, b"", TIME)
}

/// Runs a command with `input` on stdin, for at most `time`; then it and its process group are killed and the test fails.
#[track_caller]
pub fn run_for(command: &mut Command, input: &[u8], time: Duration) -> Output {
    let text = describe_command(command);
    let started = Instant::now();
    // A group of its own, so that a timeout ends its children too.
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot start `{text}`: {e}"));
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let mut stdin = child.stdin.take();
    let input = input.to_vec();
    std::thread::spawn(move || {
        // A command that does not read its input closes the pipe: no fault of the test.
        let _ = stdin.as_mut().map(|pipe| pipe.write_all(&input));
    });
    let limit = if crate::in_vm() { time * 10 } else { time };
    let status = wait(&mut child, started + limit);
    let (stdout, stderr) = (stdout.finish(), stderr.finish());
    let output = Output {
        command: text,
        code: status.and_then(|s| s.code()),
        signal: status.and_then(|s| s.signal()),
        stdout,
        stderr,
        took: started.elapsed(),
    };
    assert!(status.is_some(), "not over within {limit:?}: {}", output.describe());
    output
}

/// The command's words.
pub fn describe_command(command: &Command) -> String {
    let name = |word: &OsStr| word.to_string_lossy().into_owned();
    let words: Vec<String> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(name).collect();
    words.join(" ")
}

/// The status, or `None` after killing the group at the deadline.
pub(crate) fn wait(child: &mut Child, deadline: Instant) -> Option<std::process::ExitStatus> {
    loop {
        if let Some(status) = child.try_wait().expect("wait for a child") {
            return Some(status);
        }
        if Instant::now() >= deadline {
            let group = nix::unistd::Pid::from_raw(-i32::try_from(child.id()).expect("a pid"));
            let _ = nix::sys::signal::kill(group, nix::sys::signal::Signal::SIGKILL);
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Reads a stream to its end on a thread.
struct Collector {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: std::thread::JoinHandle<()>,
}

fn collect(stream: Option<impl Read + Send + 'static>) -> Collector {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let shared = bytes.clone();
    let thread = std::thread::spawn(move || {
        let Some(mut stream) = stream else { return };
        let mut buffer = [0u8; 8192];
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            if let (Ok(mut all), Some(new)) = (shared.lock(), buffer.get(..n)) {
                all.extend_from_slice(new);
            }
        }
    });
    Collector { bytes, thread }
}

impl Collector {
    /// What was read. A daemon that kept the stream open is not waited for longer than half a second.
    fn finish(self) -> String {
        let until = Instant::now() + Duration::from_millis(500);
        while !self.thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        let bytes = self.bytes.lock().map(|b| b.clone()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Output {
        run(Command::new("sh").args(["-c", script]))
    }

    #[test]
    fn tells_codes_signals_and_streams() {
        sh("echo a; echo b >&2; exit 3").fails_with_code_and_stdout();
        sh("kill -9 $$").killed_by(9);
        sh("echo no >&2; exit 2").fails_with(2).says("no");
        let echoed = run_for(&mut Command::new("cat"), b"x", TIME);
        echoed.success().stdout_is("x");
    }

    impl Output {
        fn fails_with_code_and_stdout(self) {
            let output = self.exits(3).stdout_has("a").says("b").stdout_lacks("b");
            assert!(output.describe().contains("exit code 3"));
        }
    }

    #[test]
    #[should_panic(expected = "not over within")]
    fn ends_what_hangs() {
        run_for(Command::new("sh").args(["-c", "sleep 1000 & wait"]), b"", Duration::from_millis(100));
    }

    #[test]
    fn does_not_wait_for_a_daemon() {
        assert!(sh("sleep 2 & echo up").success().took < Duration::from_secs(2));
    }
}
