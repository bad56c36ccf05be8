//! How it is printed: a table or sentences for people, JSON for programs. The JSON structs are the documented format.

pub mod counts;
pub mod graph;
pub mod group;
pub mod inspect;
pub mod ipc;
pub mod many;
pub mod mounts;
pub mod ns;
pub mod nscolumns;
pub mod nslist;
pub mod nsmembers;
pub mod nstree;
pub mod process;
pub mod pscolumns;
pub mod record;
pub mod serve;
pub mod table;
pub mod top;
pub mod topcolumns;
pub mod topneeds;
pub mod usage;

use drydock_cli::output::warn;

/// What could not be seen, on stderr: the result on stdout stands without it.
pub fn notes(notes: &[String]) {
    for note in notes {
        warn("monitor", note);
    }
}

/// A value or a dash.
pub fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or("-".to_string(), |v| v.to_string())
}
