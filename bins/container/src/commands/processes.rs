//! `container ps`: the processes of a container.

use crate::commands::ps_columns::{self, Column, Shown};
use crate::commands::signals;
use drydock_bundle::{Entry, Life, Store};
use drydock_cgroups::Cgroup;
use drydock_cli::Outcome;
use drydock_core::{Error, Result, size};
use drydock_monitor::model::processes::{Machine, Row, row};
use drydock_monitor::procfs::Proc;
use serde_json::{Value, json};
use std::path::Path;

/// Arguments of `container ps`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// table: as `ps -ef` prints it; json: an array of pids [default: table for a bundle's container, else one with
    /// the pids inside]
    #[arg(short = 'f', long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Everything of each process, as JSON
    #[arg(long)]
    pub json: bool,
    /// The container
    pub name: String,
    /// Columns as for ps(1): -ef, aux, -o COLUMN,…
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "PS OPTIONS")]
    pub options: Vec<String>,
}

/// How the processes are to be shown.
#[derive(Debug, PartialEq)]
enum Format {
    /// Our own table.
    Own,
    /// Our own table as JSON.
    Json,
    /// An array of pids.
    Pids,
    /// The columns of ps(1).
    Ps(Vec<Column>),
}

/// Lists the processes of a container, those in cgroups below its own included. One that has stopped has none.
///
/// # Errors
/// Unknown container; formats and options that are none.
pub fn run(args: &Args, store: &Store) -> Outcome {
    let format = format(args)?;
    let entry = store.find(&args.name)?;
    let bundle = entry.state.as_ref().is_ok_and(|state| state.oci.is_some());
    let format = match format {
        Format::Own if bundle => Format::Ps(ps_columns::parse(&[])?),
        format => format,
    };
    let pids = match entry.life() {
        Some(Life::Stopped) => Vec::new(),
        _ => pids(&entry)?,
    };
    if format == Format::Pids {
        // One line, as runc prints it.
        let line = serde_json::to_string(&pids).map_err(|e| Error::failed("ps", e.to_string()))?;
        drydock_cli::print_line(&line)?;
        return Ok(0);
    }
    let proc = Proc::open(Path::new("/proc"))?;
    let machine = Machine::read(&proc);
    let rows = pids.iter().filter_map(|pid| row(&proc, &machine, u32::try_from(*pid).ok()?));
    match format {
        Format::Ps(columns) => {
            let shown: Vec<Shown> = rows.filter_map(|row| Shown::read(&proc, row)).collect();
            drydock_cli::print_text(&ps_columns::table(&columns, &shown))?;
        }
        Format::Json => drydock_cli::print_json(&rows.map(|row| to_json(&row)).collect::<Vec<Value>>())?,
        Format::Own | Format::Pids => {
            let cells: Vec<Vec<String>> = rows.map(|row| own_cells(&row)).collect();
            let header = ["PID", "INSIDE", "PPID", "UID", "STATE", "RSS", "COMMAND"];
            drydock_cli::print_text(&drydock_cli::output::table(&header, &cells))?;
        }
    }
    Ok(0)
}

/// Our own options are understood behind the name too.
fn format(args: &Args) -> Result<Format> {
    let words: Vec<&str> = args.options.iter().map(String::as_str).collect();
    let (named, json) = match words.as_slice() {
        ["--json"] => (None, true),
        ["-f" | "--format", format] => (Some(*format), false),
        [one] => (one.strip_prefix("--format="), false),
        _ => (None, false),
    };
    let options: &[&str] = if named.is_some() || json { &[] } else { &words };
    match (args.format.as_deref().or(named), options) {
        (None, []) if args.json || json => Ok(Format::Json),
        (None, []) => Ok(Format::Own),
        (Some("json"), _) => Ok(Format::Pids),
        (None | Some("table"), options) => ps_columns::parse(options).map(Format::Ps),
        (Some(other), _) => Err(Error::bad_input(
            "--format",
            format!("'{}' is not a format (allowed: table, json)", drydock_core::text::escape(other)),
        )),
    }
}

/// The pids of a container's processes, first process first.
///
/// # Errors
/// When it does not run.
pub fn pids(entry: &Entry) -> Result<Vec<i32>> {
    let (state, _) = signals::running(entry)?;
    let mut pids = match Cgroup::at(state.cgroup.iter().cloned()) {
        Ok(group) if group.exists() => group.all_pids()?,
        _ => state.pid.into_iter().collect(),
    };
    pids.sort_unstable();
    pids.sort_by_key(|pid| Some(*pid) != state.pid);
    Ok(pids)
}

fn command(row: &Row) -> String {
    drydock_core::text::shorten(&drydock_core::text::escape(&row.command), 200)
}

fn to_json(row: &Row) -> Value {
    json!({
        "pid": row.pid,
        "inside": row.inside_pid,
        "ppid": row.ppid,
        "uid": row.uid,
        "state": row.state.to_string(),
        "rss": size::show(row.rss_bytes),
        "command": command(row),
    })
}

fn own_cells(row: &Row) -> Vec<String> {
    let or_dash = |n: Option<u32>| n.map_or("-".to_string(), |n| n.to_string());
    vec![
        row.pid.to_string(),
        or_dash(row.inside_pid),
        row.ppid.to_string(),
        or_dash(row.uid),
        row.state.to_string(),
        size::show(row.rss_bytes),
        command(row),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(format: Option<&str>, options: &[&str]) -> Result<Format> {
        super::format(&Args {
            format: format.map(str::to_string),
            json: false,
            name: "x".into(),
            options: options.iter().map(ToString::to_string).collect(),
        })
    }

    #[test]
    fn formats() {
        assert_eq!(parse(None, &[]).unwrap(), Format::Own);
        assert_eq!(parse(None, &["--json"]).unwrap(), Format::Json);
        assert_eq!(parse(Some("json"), &[]).unwrap(), Format::Pids);
        assert_eq!(parse(None, &["-f", "json"]).unwrap(), Format::Pids);
        assert!(matches!(parse(Some("table"), &[]).unwrap(), Format::Ps(c) if c.len() == 8));
        assert!(matches!(parse(None, &["-o", "pid,comm"]).unwrap(), Format::Ps(c) if c.len() == 2));
        assert_eq!(parse(Some("yaml"), &[]).unwrap_err().exit_code(), 2);
        assert_eq!(parse(None, &["--sort=pid"]).unwrap_err().exit_code(), 2);
    }
}
