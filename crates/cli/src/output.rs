//! Results on stdout, everything else on stderr.
#![allow(clippy::print_stdout, clippy::print_stderr)] // the one place that prints

use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use serde::Serialize;
use std::io::{IsTerminal, Write};

/// Prints a result as JSON, one document, with a newline.
///
/// # Errors
/// When stdout cannot be written.
pub fn print_json<T: Serialize + ?Sized>(value: &T) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value).map_err(|e| Error::failed("output", e.to_string()))?;
    text.push('\n');
    print_text(&text)
}

/// Prints one line of result; control characters are escaped.
///
/// # Errors
/// When stdout cannot be written.
pub fn print_line(line: &str) -> Result<()> {
    print_text(&format!("{}\n", drydock_core::text::escape(line)))
}

/// Prints text that is already safe for a terminal.
///
/// # Errors
/// When stdout cannot be written: `stdout: writing output: No space left on device (ENOSPC)`.
pub fn print_text(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).call(|| "write(1)").map_err(|e| e.on("stdout"))
}

/// Prints one line on stderr; a closed stderr is not an error.
pub fn print_error_line(line: &str) {
    print_error_text(&format!("{line}\n"));
}

/// Prints text on stderr in one write; a closed stderr is not an error.
pub fn print_error_text(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// A warning: `tool: warning: …` on stderr.
pub fn warn(tool: &str, message: &str) {
    print_error_line(&format!("{tool}: warning: {}", drydock_core::text::escape(message)));
}

/// Something worth knowing that is no danger: `tool: note: …` on stderr.
pub fn note(tool: &str, message: &str) {
    print_error_line(&format!("{tool}: note: {}", drydock_core::text::escape(message)));
}

/// Whether stderr may be coloured: a terminal, and NO_COLOR (no-color.org) is unset or empty.
pub fn colour_on_stderr() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// Whether stdout may be coloured.
pub fn colour_on_stdout() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// A table for people: columns padded to their widest cell, cells escaped, two spaces between, no trailing space.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|r| r.iter().map(|c| drydock_core::text::escape(c)).collect()).collect();
    let width = |i: usize| {
        let cells = rows.iter().filter_map(|r| r.get(i)).map(|c| c.chars().count());
        cells.chain(header.get(i).map(|h| h.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let head: Vec<String> = header.iter().map(ToString::to_string).collect();
    let mut text = String::new();
    for row in std::iter::once(&head).chain(&rows) {
        let padded = row.iter().zip(&widths).map(|(c, w)| format!("{c:<w$}", w = *w));
        text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn tables_align_and_escape() {
        let rows =
            vec![vec!["a".to_string(), "x\x1b".to_string()], vec!["long".to_string(), "y".to_string()]];
        assert_eq!(super::table(&["N", "V"], &rows), "N     V\na     x\\x1b\nlong  y\n");
    }
}
