//! Results: one line for people, or JSON.

use crate::args::Common;
use drydock_core::Result;
use serde::Serialize;

/// Prints `value` as JSON, or `line`, and the warnings on stderr.
pub fn result<T: Serialize>(common: &Common, value: &T, line: &str, warnings: &[String]) -> Result<()> {
    for warning in warnings {
        drydock_cli::output::warn("netsetup", warning);
    }
    if common.json { drydock_cli::print_json(value) } else { drydock_cli::print_line(line) }
}

/// Prints a table, or JSON.
pub fn list<T: Serialize>(common: &Common, value: &T, header: &[&str], rows: &[Vec<String>]) -> Result<()> {
    if common.json {
        return drydock_cli::print_json(value);
    }
    drydock_cli::print_text(&drydock_cli::output::table(header, rows))
}

/// The value or `-`.
pub fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or("-".into(), |v| v.to_string())
}
