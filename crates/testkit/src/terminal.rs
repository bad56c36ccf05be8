//! A command on a terminal of its own, and what a person would do there: read, type, wait for its end.

use crate::run::{Output, TIME, describe_command, wait};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A command whose controlling terminal this is. Nothing is typed, not even the end of input, unless the test says so.
#[derive(Debug)]
pub struct Terminal {
    text: String,
    master: File,
    child: Child,
    shown: Arc<Mutex<Vec<u8>>>,
    reader: Option<std::thread::JoinHandle<()>>,
    started: Instant,
}

impl Terminal {
    /// Starts a command, with its environment and directory, by setsid(1).
    #[track_caller]
    pub fn start(command: &Command) -> Terminal {
        let text = describe_command(command);
        let pty = nix::pty::openpty(None, None).expect("a terminal");
        let stream = || Stdio::from(pty.slave.try_clone().expect("dup of the terminal"));
        let mut wrapper = Command::new("setsid");
        wrapper.args(["--ctty", "--fork", "--wait"]).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => wrapper.env(key, value),
                None => wrapper.env_remove(key),
            };
        }
        if let Some(dir) = command.get_current_dir() {
            wrapper.current_dir(dir);
        }
        wrapper.process_group(0).stdin(stream()).stdout(stream()).stderr(stream());
        let child = wrapper.spawn().unwrap_or_else(|e| panic!("cannot start `{text}`: {e}"));
        // With a copy of the other end open there would be no end.
        drop((wrapper, pty.slave));
        let master = File::from(pty.master);
        let shown = Arc::new(Mutex::new(Vec::new()));
        let reader = read_all(master.try_clone().expect("dup of the master"), shown.clone());
        Terminal { text, master, child, shown, reader: Some(reader), started: Instant::now() }
    }

    /// Types.
    #[track_caller]
    pub fn types(&mut self, text: &str) -> &mut Self {
        self.master.write_all(text.as_bytes()).expect("write to the terminal");
        self
    }

    /// Waits until the terminal has shown this.
    #[track_caller]
    pub fn shows(&mut self, text: &str) -> &mut Self {
        let until = self.deadline();
        while !self.screen().contains(text) {
            let over = self.reader.as_ref().is_none_or(std::thread::JoinHandle::is_finished);
            let late = Instant::now() > until;
            if (over || late) && !self.screen().contains(text) {
                panic!("`{}` on a terminal does not show {text:?}: {:?}", self.text, self.screen());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self
    }

    /// All that it has shown.
    pub fn screen(&self) -> String {
        let bytes = self.shown.lock().map(|b| b.clone()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits for the command's end.
    #[track_caller]
    pub fn end(mut self) -> Output {
        let until = self.deadline();
        let status = wait(&mut self.child, until);
        // What it left in the background may hold the terminal.
        let patience = Instant::now() + Duration::from_millis(500);
        while self.reader.as_ref().is_some_and(|r| !r.is_finished()) && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(1));
        }
        let output = Output {
            command: self.text.clone(),
            code: status.and_then(|s| s.code()),
            signal: status.and_then(|s| s.signal()),
            stdout: self.screen(),
            stderr: String::new(),
            took: self.started.elapsed(),
        };
        assert!(status.is_some(), "not over in time: {}", output.describe());
        output
    }

    fn deadline(&self) -> Instant {
        self.started + if crate::in_vm() { TIME * 20 } else { TIME * 2 }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Only when a test has failed: the session loses its terminal, too.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Reads until nobody has the other end open any more (EIO).
fn read_all(mut from: File, into: Arc<Mutex<Vec<u8>>>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = [0u8; 4096];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            if let (Ok(mut all), Some(new)) = (into.lock(), buffer.get(..n)) {
                all.extend_from_slice(new);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation() {
        if !crate::have("setsid") {
            return crate::skip("setsid(1) is not installed");
        }
        let mut command = Command::new("sh");
        command.args(["-c", "echo ready; read word; echo \"<$word>\"; exit 3"]);
        let mut terminal = Terminal::start(&command);
        terminal.shows("ready").types("hello\n");
        terminal.end().exits(3).stdout_has("<hello>");
    }
}
