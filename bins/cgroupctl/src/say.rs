//! What is told beside results: `--explain`, warnings and errors as text or, with `--log-format json`, as JSON lines.

use crate::TOOL;
use crate::args::Saying;
use drydock_cli::Explainer;
use drydock_cli::output::{colour_on_stderr, print_error_line, print_json, print_line, warn as warn_text};
use drydock_core::{Error, Result};
use serde::Serialize;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set once, by `main`, before anything else runs.
static JSON: AtomicBool = AtomicBool::new(false);

/// From here on warnings and errors are JSON.
pub fn set_json(json: bool) {
    JSON.store(json, Ordering::Relaxed);
}

/// Whether they are.
pub fn is_json() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// Whether text on stderr is coloured: on a terminal, and without NO_COLOR.
pub fn in_colour() -> bool {
    !is_json() && colour_on_stderr()
}

/// A warning.
pub fn warn(message: &str) {
    match (is_json(), in_colour()) {
        (true, _) => line("warning", message, None),
        (_, true) => coloured(33, &format!("warning: {}", drydock_core::text::escape(message))),
        _ => warn_text(TOOL, message),
    }
}

fn coloured(code: u8, text: &str) {
    print_error_line(&format!("\x1b[{code}m{TOOL}:\x1b[0m {text}"));
}

/// Something that is worth knowing, and no warning.
pub fn note(message: &str) {
    let shown = drydock_core::text::escape(message);
    if is_json() { line("info", message, None) } else { print_error_line(&format!("{TOOL}: {shown}")) }
}

/// The one error, as JSON or in colour. Returns its exit code.
pub fn error(error: &anyhow::Error) -> u8 {
    let core = error.chain().find_map(|e| e.downcast_ref::<Error>());
    let code = core.map_or(drydock_core::exit::FAILED, Error::exit_code);
    let sentence = drydock_cli::sentence(error);
    if is_json() {
        line("error", &sentence, Some(code))
    } else {
        coloured(31, &sentence)
    }
    code
}

fn line(level: &str, message: &str, code: Option<u8>) {
    let mut object = serde_json::json!({ "level": level, "tool": TOOL, "msg": message });
    if let (Some(code), Some(map)) = (code, object.as_object_mut()) {
        map.insert("exit_code".into(), code.into());
    }
    print_error_line(&object.to_string());
}

/// Who watches the steps.
pub fn explainer(say: &Saying) -> Explainer {
    Explainer { on: say.explain }
}

/// What was done: JSON, or a line for people.
pub fn done<T: Serialize>(say: &Saying, json: &T, text: &str) -> Result<()> {
    if say.json { print_json(json) } else { print_line(text) }
}

/// One JSON document as one line.
pub fn json_line<T: Serialize>(value: &T) -> Result<()> {
    let line = serde_json::to_string(value).map_err(|e| Error::failed("output", e.to_string()))?;
    drydock_cli::print_text(&format!("{line}\n"))
}
