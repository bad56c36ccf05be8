//! Arguments by clap, with errors as one sentence and exit code 2.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use drydock_core::{Error, text};
use std::ffi::OsString;

/// What parsing gave: the arguments, or a code to exit with because `--help` or `--version` was printed.
pub enum Parsed<T> {
    /// Go on with these.
    Args(T),
    /// Everything has been said; exit with this code.
    Done(u8),
}

/// Parses the process's own arguments.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] as one sentence: the problem, a suggestion if there is one, where help is.
pub fn parse<T: clap::Parser>() -> Result<Parsed<T>, Error> {
    parse_from(std::env::args_os())
}

/// Parses given arguments, the first being the program's name.
///
/// # Errors
/// As [`parse`].
pub fn parse_from<T: clap::Parser>(args: impl IntoIterator<Item = OsString>) -> Result<Parsed<T>, Error> {
    parse_with(T::command(), args)
}

/// Parses given arguments by a command line that is `T`'s but for the looks of its help.
///
/// # Errors
/// As [`parse`].
pub fn parse_with<T: clap::FromArgMatches>(
    mut command: clap::Command,
    args: impl IntoIterator<Item = OsString>,
) -> Result<Parsed<T>, Error> {
    let parsed = command.try_get_matches_from_mut(args).and_then(|mut matches| {
        T::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
    });
    match parsed {
        Ok(args) => Ok(Parsed::Args(args)),
        Err(error) => finish(&error),
    }
}

fn finish<T>(error: &clap::Error) -> Result<Parsed<T>, Error> {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            crate::output::print_text(&error.render().to_string())?;
            Ok(Parsed::Done(0))
        }
        // No arguments at all: the help is the answer, but it is still a usage error.
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            crate::output::print_error_text(&error.render().to_string());
            Ok(Parsed::Done(drydock_core::exit::USAGE))
        }
        _ => Err(sentence(error)),
    }
}

/// What the standard library says of a number, in words for who has typed it.
const WORDS: [(&str, &str); 5] = [
    ("invalid digit found in string", "not a whole number"),
    ("cannot parse integer from empty string", "empty (allowed: a whole number)"),
    ("number too large to fit in target type", "too large a number"),
    ("number too small to fit in target type", "too small a number"),
    ("invalid float literal", "not a number"),
];

/// clap's message is several lines: keep the problem, and the suggestion if it has one.
fn sentence(error: &clap::Error) -> Error {
    if let Some(told) = wrong_value(error) {
        return told.hint("see --help");
    }
    let text = error.render().to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let problem = lines.next().unwrap_or("bad arguments").trim_start_matches("error: ").to_string();
    // Missing arguments and possible values stand on the lines that follow, up to the usage.
    let details: Vec<&str> =
        lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more")).collect();
    let mut sentence = problem;
    for detail in details {
        let detail = detail.strip_prefix("tip: ").map_or(detail.to_string(), |tip| format!("({tip})"));
        sentence = format!("{sentence} {detail}");
    }
    let object = match (error.kind(), text_of(error, ContextKind::InvalidArg)) {
        // It says its name itself.
        (ErrorKind::UnknownArgument, _) | (_, None) => "arguments",
        (_, Some(arg)) => arg.split_whitespace().next().unwrap_or("arguments"),
    };
    Error::bad_input(object, sentence).hint("see --help")
}

fn text_of(error: &clap::Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text),
        _ => None,
    }
}

/// A value that an option does not take: clap would name option and value, and then the parser both again.
fn wrong_value(error: &clap::Error) -> Option<Error> {
    let arg = text_of(error, ContextKind::InvalidArg)?;
    let object = arg.split(['=', ' ']).next().unwrap_or(arg);
    let value = text_of(error, ContextKind::InvalidValue)?;
    let shown = text::shorten(&text::escape(value), 60);
    let problem = match error.kind() {
        ErrorKind::InvalidValue if value.is_empty() => "a value is missing".to_string(),
        ErrorKind::InvalidValue => {
            let Some(ContextValue::Strings(known)) = error.get(ContextKind::ValidValue) else { return None };
            format!("'{shown}' is none of its values (allowed: {})", known.join(", "))
        }
        ErrorKind::ValueValidation => {
            use std::error::Error as _;
            problem_of(&shown, value, &error.source()?.to_string())
        }
        _ => return None,
    };
    Some(Error::bad_input(object, problem))
}

/// What a parser said of a value, as one problem that names the value once.
fn problem_of(shown: &str, value: &str, said: &str) -> String {
    let said = match (WORDS.iter().find(|(of_std, _)| *of_std == said), said) {
        (Some((_, words)), _) => words,
        (None, other) => match other.split_once(&format!("'{shown}'")) {
            Some((_, rest)) => rest.trim_start_matches(':').trim_start(),
            None => other.strip_prefix(value).unwrap_or(other).trim_start(),
        },
    };
    if said.starts_with("is ") || said.starts_with("has ") || said.starts_with("does ") {
        return format!("'{shown}' {said}");
    }
    let states = ["not ", "no ", "empty", "too "].iter().any(|start| said.starts_with(start));
    if states { format!("'{shown}' is {said}") } else { format!("'{shown}': {said}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser, Debug)]
    struct Demo {
        #[arg(long)]
        cpus: f64,
        #[arg(long, value_parser = ["a", "b"])]
        mode: Option<String>,
        #[arg(long, value_parser = map)]
        map: Option<u32>,
        #[arg(long)]
        count: Option<u8>,
    }

    fn map(text: &str) -> Result<u32, String> {
        Err(format!("id map '{text}': not a map (allowed: A:B:C)"))
    }

    fn fails(args: &[&str]) -> String {
        match parse_from::<Demo>(args.iter().map(OsString::from)) {
            Err(e) => {
                assert_eq!(e.exit_code(), 2);
                e.to_string()
            }
            _ => panic!("accepted {args:?}"),
        }
    }

    #[test]
    fn one_sentence() {
        for args in [&["x"][..], &["x", "--cpus", "y"], &["x", "--cpu", "1"], &["x", "--cpus=1", "--mode=c"]]
        {
            let text = fails(args);
            assert!(!text.contains('\n') && !text.contains("error:"), "{text}");
        }
        assert!(fails(&["x", "--cpu", "1"]).contains("--cpus"));
        assert!(fails(&["x", "--cpus=1", "--mode=c"]).contains("a, b"));
        assert!(fails(&["x"]).contains("--cpus"));
        assert!(fails(&["x", "--cpus", "y"]).contains("not a number"));
        assert!(fails(&["x", "--cpus=1", "--count", "1.5"]).contains("not a whole number"));
        assert!(fails(&["x", "--cpus=1", "--count", "300"]).contains("'300' is not in 0..=255"));
        assert!(fails(&["x", "--cpus=1", "--count="]).contains("--count"));
    }

    #[test]
    fn a_value_is_named_once() {
        for (args, told) in [
            (&["x", "--cpus=1", "--map=q"][..], "--map: 'q' is not a map (allowed: A:B:C); hint: see --help"),
            (
                &["x", "--cpus=1", "--mode=c"],
                "--mode: 'c' is none of its values (allowed: a, b); hint: see --help",
            ),
            (&["x", "--cpus=1", "--count=k"], "--count: 'k' is not a whole number; hint: see --help"),
            (
                &["x", "--cpus=1", "--count="],
                "--count: '' is empty (allowed: a whole number); hint: see --help",
            ),
            (&["x", "--cpus=y"], "--cpus: 'y' is not a number; hint: see --help"),
            (&["x", "--cpus=1", "--nope"], "arguments: unexpected argument '--nope' found; hint: see --help"),
        ] {
            assert_eq!(fails(args), told);
        }
    }
}
