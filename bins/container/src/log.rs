//! The log that engines ask for: what went wrong, in a file, a line each, in runc's form.

use drydock_core::{Error, Result};
use serde_json::json;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// Options before the verb.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Before the command")]
pub struct Args {
    /// Append errors to this file, too
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    log: Option<OsString>,
    /// The form of its lines
    #[arg(long, value_name = "FORMAT", value_parser = ["text", "json"], default_value = "text")]
    log_format: String,
    /// Log every step that is done, too, with its system call
    #[arg(long)]
    debug: bool,
}

/// Where errors go besides stderr, and how.
#[derive(Debug, Default)]
pub struct Log {
    file: Option<PathBuf>,
    json: bool,
    debug: bool,
    enters: bool,
    verb: Option<OsString>,
}

/// Finds the log's options before anything is parsed: that the arguments are wrong is to be read there, too.
pub fn early(args: impl IntoIterator<Item = OsString>) -> Log {
    let mut log = Log::default();
    let mut args = args.into_iter().skip(1);
    while let Some(arg) = args.next() {
        let bytes = arg.as_bytes();
        if !bytes.starts_with(b"--") {
            log.enters = enters(&arg, args);
            log.verb = Some(arg);
            break;
        }
        let (name, value) = match bytes.iter().position(|b| *b == b'=') {
            Some(at) => {
                let (name, value) = bytes.split_at(at);
                (name, Some(OsStr::from_bytes(value.get(1..).unwrap_or_default()).to_owned()))
            }
            None => (bytes, None),
        };
        match name {
            b"--debug" => log.debug = true,
            b"--log" => {
                let given = value.or_else(|| args.next());
                log.file = given.filter(|path| !path.is_empty()).map(PathBuf::from);
            }
            b"--log-format" => log.json = value.or_else(|| args.next()).is_some_and(|v| v == "json"),
            b"--root" | b"--rootless" | b"--criu" if value.is_none() => drop(args.next()),
            _ => {}
        }
    }
    log
}

/// Whether this verb puts a process of ours into a container that is not ours alone: it executes itself from a protected
/// copy of the program. Known before everything is parsed, so that it is parsed once. When in doubt: no.
fn enters(verb: &OsStr, mut words: impl Iterator<Item = OsString>) -> bool {
    match verb.as_bytes() {
        b"create" | b"exec" => true,
        b"run" => words.any(|word| word == "-b" || word.as_bytes().starts_with(b"--bundle")),
        _ => false,
    }
}

impl Log {
    /// The first word that is no option, which is the verb if the options before it are known.
    pub fn verb(&self) -> Option<&OsStr> {
        self.verb.as_deref()
    }

    /// Whether the program's file is to be protected first of all.
    pub fn enters(&self) -> bool {
        self.enters
    }

    /// That the file can be written, as runc has it: an engine would look for errors in vain.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] naming the file.
    pub fn check(&self) -> Result<()> {
        let Some(path) = &self.file else { return Ok(()) };
        let opened = std::fs::OpenOptions::new().create(true).append(true).open(path);
        opened.map(drop).map_err(|e| {
            let shown = drydock_core::text::escape(&path.to_string_lossy());
            let why = e.raw_os_error().map_or_else(|| e.to_string(), drydock_core::error::errno_text);
            Error::bad_input("--log", format!("'{shown}': {why} (allowed: a file that can be written)"))
        })
    }

    /// With `--debug`: which command this is.
    pub fn note_start(&self) {
        if self.debug {
            let words: Vec<String> = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
            self.line("debug", &words.join(" "));
        }
    }

    /// An error, as it is printed.
    pub fn error(&self, sentence: &str) {
        if self.file.is_some() {
            self.line("error", sentence);
        }
    }

    /// With `--debug`: a fact that a reader may look for.
    pub fn debug(&self, fact: impl FnOnce() -> String) {
        if self.debug {
            self.line("debug", &fact());
        }
    }

    /// Something that is not as it was asked. With a log it is told there alone: the caller's stderr may be the container's.
    pub fn warning(&self, sentence: &str) {
        match &self.file {
            Some(_) => self.line("warning", sentence),
            None => drydock_cli::output::warn("container", sentence),
        }
    }

    /// With `--debug`: the log, for a process that enters namespaces.
    pub fn opened(&self) -> Option<Debug> {
        self.debug.then(|| Debug { file: self.open(), json: self.json })
    }

    fn open(&self) -> Option<File> {
        let path = self.file.as_ref()?;
        std::fs::OpenOptions::new().create(true).append(true).open(path).ok()
    }

    /// A line in the file; on stderr without one. A log that cannot be written is no reason to fail, nor to say more.
    fn line(&self, level: &str, message: &str) {
        let line = line(self.json, level, message);
        let written = match &self.file {
            Some(_) => self.open().map_or(Ok(()), |mut file| file.write_all(line.as_bytes())),
            None => std::io::stderr().write_all(line.as_bytes()),
        };
        drop(written);
    }
}

/// The log, open: its path means another file once a namespace is entered.
#[derive(Debug)]
pub struct Debug {
    file: Option<File>,
    json: bool,
}

impl Debug {
    /// One line.
    pub fn line(&self, message: &str) {
        let line = line(self.json, "debug", &drydock_core::text::shorten(message, 2000));
        let written = match &self.file {
            Some(file) => (&*file).write_all(line.as_bytes()),
            None => std::io::stderr().write_all(line.as_bytes()),
        };
        drop(written);
    }
}

fn line(json: bool, level: &str, message: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format(json, level, message, &drydock_supervise::log::timestamp(now))
}

fn format(json: bool, level: &str, message: &str, time: &str) -> String {
    if json {
        format!("{}\n", json!({ "level": level, "msg": message, "time": time }))
    } else {
        format!("time={} level={level} msg={}\n", json!(time), json!(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(words: &[&str]) -> (Option<PathBuf>, bool, bool) {
        let log = early(words.iter().map(OsString::from));
        (log.file, log.json, log.debug)
    }

    #[test]
    fn found_before_the_verb_only() {
        let file = Some(PathBuf::from("/l"));
        assert_eq!(
            found(&["c", "--root", "/r", "--log=/l", "--log-format", "json", "run"]),
            (file.clone(), true, false)
        );
        assert_eq!(found(&["c", "--debug", "--log", "/l", "state", "--debug"]), (file, false, true));
        assert_eq!(found(&["c", "run", "--log", "/l"]), (None, false, false));
        assert_eq!(found(&["c", "--log"]), (None, false, false));
    }

    #[test]
    fn lines() {
        assert_eq!(
            format(true, "error", "a \"b\"", "T"),
            "{\"level\":\"error\",\"msg\":\"a \\\"b\\\"\",\"time\":\"T\"}\n"
        );
        assert_eq!(format(false, "error", "a", "T"), "time=\"T\" level=error msg=\"a\"\n");
    }
}
