//! `container list`: every container of the state root.

use drydock_bundle::{Entry, Life, State, Store};
use drydock_cli::Outcome;
use drydock_core::Error;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// Arguments of `container list`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Only names
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// As a table with bundles, or as JSON in the way of runc(8)
    #[arg(short = 'f', long, value_enum, conflicts_with = "json")]
    pub format: Option<Format>,
    /// Everything, also stopped ones (the default; for those who are used to it)
    #[arg(short = 'a', long, hide = true)]
    pub all: bool,
}

/// How containers are listed.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people
    Table,
    /// The specification's state of each
    Json,
}

/// Lists containers.
///
/// # Errors
/// When the state root cannot be read.
pub fn run(args: &Args, store: &Store) -> Outcome {
    let entries = store.entries()?;
    if args.quiet {
        for entry in &entries {
            drydock_cli::print_line(entry.id.as_str())?;
        }
    } else if args.format == Some(Format::Json) {
        // One line, as runc prints it.
        let all = serde_json::to_string(&crate::commands::oci::state::all(&entries));
        drydock_cli::print_line(&all.map_err(|e| Error::failed("list", e.to_string()))?)?;
    } else if args.json {
        drydock_cli::print_json(&entries.iter().map(to_json).collect::<Vec<Value>>())?;
    } else {
        let bundles = args.format.is_some() || entries.iter().any(|entry| bundle(entry).is_some());
        let rows: Vec<Vec<String>> = entries.iter().map(|entry| row(entry, bundles)).collect();
        let header: &[&str] = match bundles {
            true => &["ID", "PID", "STATUS", "BUNDLE", "CREATED", "NETWORK", "ADDRESS", "COMMAND"],
            false => &["NAME", "PID", "STATUS", "CREATED", "NETWORK", "ADDRESS", "COMMAND"],
        };
        drydock_cli::print_text(&drydock_cli::output::table(header, &rows))?;
    }
    Ok(0)
}

/// `running`, `stopped (3)`, `by hand`, `corrupt`.
pub fn status(entry: &Entry) -> String {
    match &entry.state {
        Err(_) if entry.is_by_hand() => "by hand".to_string(),
        Err(_) => "corrupt".to_string(),
        Ok(state) => match (state.life(), state.ended) {
            (Life::Stopped, Some(ended)) => format!("stopped ({})", ended.code()),
            (life, _) => life.name().to_string(),
        },
    }
}

/// The bundle that a container is of.
fn bundle(entry: &Entry) -> Option<String> {
    let oci = entry.state.as_ref().ok()?.oci.as_ref()?;
    Some(oci.bundle.display().to_string())
}

fn row(entry: &Entry, bundles: bool) -> Vec<String> {
    let state = entry.state.as_ref().ok();
    let of = |f: &dyn Fn(&State) -> String| state.map_or_else(|| "-".to_string(), f);
    let running = state.is_some_and(|s| s.life() != Life::Stopped);
    let mut row = vec![
        entry.id.to_string(),
        of(&|s| s.pid.filter(|_| running).map_or("-".into(), |pid| pid.to_string())),
        status(entry),
        of(&|s| age(s.created)),
        of(&|s| s.network.clone()),
        of(&|s| if running && !s.addresses.is_empty() { s.addresses.join(" ") } else { "-".into() }),
        of(&|s| drydock_core::text::shorten(&s.command.join(" "), 50)),
    ];
    if bundles {
        row.insert(3, bundle(entry).unwrap_or_else(|| "-".to_string()));
    }
    row
}

fn age(since: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    match now.saturating_sub(since) {
        s @ 0..60 => format!("{s}s ago"),
        s @ 60..3600 => format!("{}m ago", s / 60),
        s @ 3600..86_400 => format!("{}h ago", s / 3600),
        s => format!("{}d ago", s / 86_400),
    }
}

/// A container as JSON: its state file, with the status as it is now.
pub fn to_json(entry: &Entry) -> Value {
    match &entry.state {
        Err(_) if entry.is_by_hand() => json!({ "id": entry.id, "status": "by-hand" }),
        Err(error) => json!({ "id": entry.id, "status": "corrupt", "error": error.to_string() }),
        Ok(state) => {
            let mut value = json!(state);
            let life = state.life();
            if let Some(map) = value.as_object_mut() {
                map.insert("status".into(), json!(life.name()));
                map.insert("exit_code".into(), json!(state.ended.map(drydock_core::exit::Ended::code)));
                if life == Life::Stopped {
                    map.insert("pid".into(), json!(0));
                }
                map.remove("version");
                map.remove("ended");
            }
            value
        }
    }
}
