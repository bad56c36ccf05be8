//! What this program was called as. Help and version name it so, and what takes it for runc(8) by that name, as an
//! engine does that looks for `runc` in PATH, gets runc's exit codes where the command has none of its own.

use drydock_cli::Failure;
use drydock_core::{Error, Kind, text};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// The last part of the name that the program was called by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// This process's.
    pub fn find() -> Self {
        Self::of(std::env::args_os().next().map(PathBuf::from).as_deref())
    }

    fn of(called: Option<&Path>) -> Self {
        let name = called.and_then(Path::file_name).map(|name| name.to_string_lossy());
        // Braces are help templates' own.
        let plain =
            |name: &str| !name.is_empty() && !name.contains(['{', '}']) && !name.contains(char::is_control);
        Self(name.filter(|name| plain(name)).map_or_else(|| "container".into(), Cow::into_owned))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is taken for runc.
    pub fn is_runc(&self) -> bool {
        self.0 == "runc"
    }

    /// An error of a verb in one line, as it is logged: in runc's words for those who look for them.
    pub fn sentence(&self, verb: &str, error: &Failure) -> String {
        let sentence = drydock_cli::sentence(error);
        if !self.is_runc() {
            return sentence;
        }
        if let Some(line) = exec_line(error) {
            return line;
        }
        // Of stages whose words are looked for.
        let inside = match sentence.split_once(": ") {
            Some(("mounts", rest)) => format!("error during container init: error mounting {rest}"),
            Some(("cgroup", rest)) if rest.starts_with("write(") && rest.contains(r#", "0")"#) => {
                format!("unable to apply cgroup configuration: error adding pid 0 to cgroups: {rest}")
            }
            Some(("cgroup", rest)) => format!("unable to apply cgroup configuration: {rest}"),
            _ => sentence,
        };
        match verb {
            "run" | "create" | "restore" => {
                format!("runc {verb} failed: unable to start container process: {inside}")
            }
            "exec" => format!("exec failed: unable to start container process: {inside}"),
            _ => inside,
        }
    }

    /// Prints an error once, as one line on stderr, and returns the exit code.
    pub fn report(&self, verb: &str, error: &Failure) -> u8 {
        if !self.is_runc() {
            return drydock_cli::report("container", error);
        }
        let sentence = self.sentence(verb, error);
        drydock_cli::output::print_error_line(&match exec_line(error) {
            // The command's own place in the output: it was about to take over.
            Some(line) => line,
            None if sentence.starts_with("runc ") => sentence,
            None => format!("runc: {sentence}"),
        });
        let code =
            drydock_cli::core(error).map_or(drydock_core::exit::FAILED, drydock_core::Error::exit_code);
        self.exit_code(verb, code)
    }

    /// The exit code for a verb that failed with ours. runc has one for everything, and another for `exec`, whose command
    /// may well end with that one.
    fn exit_code(&self, verb: &str, code: u8) -> u8 {
        match verb {
            _ if !self.is_runc() => code,
            "exec" => 255,
            _ => 1,
        }
    }
}

/// A verb that is none, in the words that runc's users look for.
pub fn unknown_verb(error: Error) -> Error {
    let sentence = error.sentence();
    let Some((_, rest)) = sentence.split_once("unrecognized subcommand '") else { return error };
    let (verb, guess) = rest.split_once('\'').unwrap_or((rest, ""));
    let shown = text::shorten(&text::escape(verb), 60);
    Error::bad_input("command", format!("No help topic for '{shown}': there is no such command{guess}"))
        .hint("container --help lists them")
}

/// `exec PATH: reason`: execve(2) itself failed, of a program that is there.
fn exec_line(error: &Failure) -> Option<String> {
    let core = drydock_cli::core(error).filter(|core| core.kind() == Kind::CannotExecute)?;
    let sentence = core.sentence();
    let (_, line) = sentence.split_once("': exec /")?;
    Some(drydock_core::text::escape(&format!("exec /{line}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_exit_codes() {
        let of = |path: &str| Name::of(Some(Path::new(path)));
        assert_eq!(of("/usr/sbin/runc"), Name("runc".into()));
        assert_eq!(of("runc-1.1").as_str(), "runc-1.1");
        for odd in ["", "/", "a{b}", "a\nb"] {
            assert_eq!(of(odd).as_str(), "container", "{odd:?}");
        }
        assert_eq!(Name::of(None).as_str(), "container");
        for (name, verb, wanted) in
            [("runc", "run", 1), ("runc", "exec", 255), ("runc", "", 1), ("container", "exec", 126)]
        {
            assert_eq!(of(name).exit_code(verb, 126), wanted, "{name} {verb}");
        }
    }

    #[test]
    fn words() {
        let said = |name: &str, verb: &str, sentence: &str, kind: Kind| {
            let error = drydock_core::Error::told(sentence).with_kind(kind).hint("look");
            Name::of(Some(Path::new(name))).sentence(verb, &error.into())
        };
        let mounts = "mounts: /mnt: x";
        assert_eq!(said("container", "run", mounts, Kind::Failed), "mounts: /mnt: x; hint: look");
        assert_eq!(
            said("runc", "run", mounts, Kind::Failed),
            "runc run failed: unable to start container process: error during container init: error mounting /mnt: x; \
             hint: look"
        );
        assert!(
            said("runc", "exec", "'x': no", Kind::Failed)
                .starts_with("exec failed: unable to start container")
        );
        assert_eq!(said("runc", "kill", "'x': no", Kind::Failed), "'x': no; hint: look");
        let busy = r#"cgroup: write("/g/cgroup.procs", "0"): Device or resource busy (EBUSY)"#;
        assert!(said("runc", "exec", busy, Kind::Failed).contains(r#" adding pid 0 to cgroups: write("/g/"#));
        let exec = "process: '/a': exec /a: no such file or directory";
        assert_eq!(said("runc", "run", exec, Kind::CannotExecute), "exec /a: no such file or directory");
        assert!(said("container", "run", exec, Kind::CannotExecute).starts_with("process: "));
    }
}
