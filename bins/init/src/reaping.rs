//! The options of `init` as PID 1 that stays: signals, what it waits for, what it says.

use drydock_core::{Error, Result, text};
use drydock_supervise::signals::{SignalMap, parse_signal};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::path::PathBuf;
use std::time::Duration;

/// How `init` stays.
#[derive(clap::Args, Clone, Debug, Default, PartialEq, Eq)]
#[group(skip)]
pub struct Reaping {
    /// Reap orphans although not PID 1 (PR_SET_CHILD_SUBREAPER); also by $TINI_SUBREAPER
    #[arg(short = 's', long, help_heading = "Staying")]
    pub subreaper: bool,
    /// Forward signals to the command's whole process group; also by $TINI_KILL_PROCESS_GROUP
    #[arg(short = 'g', long, help_heading = "Staying")]
    pub group: bool,
    /// Run the command as the leader of a session of its own, and forward signals to its group (setsid(2))
    #[arg(long, help_heading = "Staying")]
    pub session: bool,
    /// Send another signal than the one that came, or with 0 none: TERM:QUIT, 15:3, HUP:0; may be given again
    #[arg(short = 'r', long, visible_alias = "rewrite", value_name = "FROM:TO", help_heading = "Staying")]
    pub signal_map: Vec<String>,
    /// Exit with another code than the command's: 143:0; may be given again
    #[arg(long, value_name = "FROM:TO", help_heading = "Staying")]
    pub exit_map: Vec<String>,
    /// Milliseconds that other processes may take after the command has ended: SIGTERM, then SIGKILL
    #[arg(long, value_name = "MS", allow_negative_numbers = true, value_parser = grace, help_heading = "Staying")]
    pub grace: Option<u64>,
    /// After the command, wait for all other processes without asking them to end; with --grace at most so long
    #[arg(long, help_heading = "Staying")]
    pub wait_all: bool,
    /// The signal to get when the parent dies, which is then forwarded (PR_SET_PDEATHSIG)
    #[arg(short = 'p', long, value_name = "SIGNAL", help_heading = "Staying")]
    pub parent_death: Option<String>,
    /// Run this first; if it fails, so does init. Words as in a shell, but no shell; may be given again
    #[arg(long, value_name = "COMMAND", help_heading = "Staying")]
    pub pre: Vec<String>,
    /// Run this when all is over, with $INIT_EXIT_CODE and $INIT_SIGNAL; may be given again
    #[arg(long, value_name = "COMMAND", help_heading = "Staying")]
    pub post: Vec<String>,
    /// No command: stay, reap, and end with 0 at SIGTERM, SIGINT or SIGQUIT
    #[arg(long, help_heading = "Staying")]
    pub pause: bool,
    /// Write "READY=1" to this descriptor when the command runs, and close it
    #[arg(long, value_name = "FD", value_parser = descriptor, help_heading = "Staying")]
    pub ready_fd: Option<i32>,
    /// Tell $NOTIFY_SOCKET: READY=1 when the command runs, STOPPING=1 and EXIT_STATUS= at its end (sd_notify(3))
    #[arg(long, help_heading = "Staying")]
    pub sd_notify: bool,
    /// The command itself says that it is ready, by writing a line to this descriptor, which it gets (as for s6)
    #[arg(long, value_name = "FD", value_parser = descriptor, help_heading = "Staying")]
    pub notify_fd: Option<i32>,
    /// Write the command's PID to FILE when it is started, and remove FILE when it has ended
    #[arg(long, value_name = "FILE", help_heading = "Staying")]
    pub pid_file: Option<PathBuf>,
    /// Say on stderr which orphans were reaped
    #[arg(long, help_heading = "Staying")]
    pub warn_reaped: bool,
}

fn descriptor(word: &str) -> Result<i32, String> {
    let number = word.parse::<i32>().ok().filter(|n| (3..=1023).contains(n) && !word.starts_with('+'));
    number.ok_or_else(|| "not a descriptor (allowed: 3 to 1023)".to_string())
}

fn grace(word: &str) -> Result<u64, String> {
    let number = word.parse::<u64>().ok().filter(|ms| *ms <= 3_600_000 && !word.starts_with('+'));
    number.ok_or_else(|| "no time in milliseconds (allowed: 0 to 3600000)".to_string())
}

/// The options, checked.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Signals.
    pub signals: SignalMap,
    /// Exit codes.
    pub exits: BTreeMap<u8, u8>,
    /// See [`Reaping::grace`].
    pub grace: Option<Duration>,
    /// A signal number.
    pub parent_death: Option<i32>,
    /// Commands in words.
    pub pre: Vec<Vec<String>>,
    /// The same.
    pub post: Vec<Vec<String>>,
}

impl Reaping {
    /// Checks what clap does not.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] naming the option.
    pub fn check(&self) -> Result<Checked> {
        let words = |option: &str, lines: &[String]| {
            lines.iter().map(|l| split(option, l)).collect::<Result<Vec<_>>>()
        };
        let death = self.parent_death.as_deref().map(parse_signal).transpose();
        if self.notify_fd.is_some() && self.ready_fd == self.notify_fd {
            return Err(Error::bad_input("--notify-fd", "is --ready-fd's descriptor (allowed: another)"));
        }
        if self.notify_fd.is_some() && self.ready_fd.is_none() && !self.sd_notify {
            return Err(Error::bad_input(
                "--notify-fd",
                "tells nobody (allowed: with --ready-fd or --sd-notify)",
            ));
        }
        Ok(Checked {
            signals: SignalMap::parse(&self.signal_map)?,
            exits: exits(&self.exit_map)?,
            grace: self.grace.filter(|ms| *ms > 0 || self.wait_all).map(Duration::from_millis),
            parent_death: death.map_err(|e| e.on("--parent-death"))?,
            pre: words("--pre", &self.pre)?,
            post: words("--post", &self.post)?,
        })
    }

    /// The options again, for the reaper inside of new namespaces.
    pub fn words(&self) -> Vec<CString> {
        let flags = [
            ("-g", self.group),
            ("-s", self.subreaper),
            ("--session", self.session),
            ("--wait-all", self.wait_all),
            ("--warn-reaped", self.warn_reaped),
            ("--pause", self.pause),
        ];
        let mut words: Vec<String> =
            flags.iter().filter(|(_, on)| *on).map(|(word, _)| (*word).to_string()).collect();
        words.extend(self.grace.map(|ms| format!("--grace={ms}")));
        let lists = [
            ("--signal-map", &self.signal_map),
            ("--exit-map", &self.exit_map),
            ("--pre", &self.pre),
            ("--post", &self.post),
        ];
        for (option, values) in lists {
            words.extend(values.iter().map(|value| format!("{option}={value}")));
        }
        words.into_iter().filter_map(|word| CString::new(word).ok()).collect()
    }

    /// The first option that speaks to somebody outside, whom a container does not reach.
    pub fn speaks(&self) -> Option<&'static str> {
        let given = [
            ("--ready-fd", self.ready_fd.is_some()),
            ("--sd-notify", self.sd_notify),
            ("--notify-fd", self.notify_fd.is_some()),
        ];
        given.iter().find(|(_, on)| *on).map(|(option, _)| *option)
    }
}

fn exits(words: &[String]) -> Result<BTreeMap<u8, u8>> {
    let mut map = BTreeMap::new();
    for word in words {
        let bad = |problem: &str| {
            let shown = text::shorten(&text::escape(word), 40);
            Error::bad_input("--exit-map", format!("'{shown}': {problem}"))
        };
        let code = |text: &str| text.parse::<u8>().ok().filter(|_| !text.starts_with('+'));
        let pair = word.split_once(':').and_then(|(from, to)| Some((code(from)?, code(to)?)));
        let (from, to) =
            pair.ok_or_else(|| bad("no rule (allowed: FROM:TO, each 0 to 255, such as 143:0)"))?;
        if map.insert(from, to).is_some() {
            return Err(bad("a second rule for this code (allowed: one)"));
        }
    }
    Ok(map)
}

/// A line's words: divided by spaces, with '…', "…" and \\ as in a shell, and nothing else of a shell.
fn split(option: &str, line: &str) -> Result<Vec<String>> {
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = line.chars();
    let open = || {
        Error::bad_input(option, format!("'{}': an open quotation", text::shorten(&text::escape(line), 60)))
    };
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().push(chars.next().ok_or_else(open)?),
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(open());
    }
    words.extend(word);
    match words.first() {
        Some(first) if !first.is_empty() => Ok(words),
        _ => Err(Error::bad_input(option, "empty (allowed: a program and its arguments)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_line() {
        let split = |line| split("--pre", line).unwrap();
        assert_eq!(split("a b  c"), ["a", "b", "c"]);
        assert_eq!(split(r#"sh -c 'echo "x y"; $z' "" a\ b"#), ["sh", "-c", r#"echo "x y"; $z"#, "", "a b"]);
        for bad in ["", "  ", "''", "a 'b", "a \\", "\"x"] {
            assert!(super::split("--pre", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn exit_codes() {
        assert_eq!(exits(&["143:0".into(), "0:5".into()]).unwrap(), [(143, 0), (0, 5)].into_iter().collect());
        for bad in ["300:1", "1", "1:", ":1", "1:256", "-1:0", "1:2:3", "+1:0"] {
            assert_eq!(exits(&[bad.into()]).unwrap_err().exit_code(), 2, "{bad}");
        }
        assert!(exits(&["1:2".into(), "1:3".into()]).is_err());
    }
}
