//! `monitor ipc`.

use crate::Session;
use crate::model::ipc::{Object, objects};
use crate::model::target::Target;
use drydock_cli::output::{print_text, table};
use drydock_core::Result;

/// `monitor ipc`: the System V objects of the process's ipc namespace.
///
/// # Errors
/// When the namespace cannot be entered.
pub fn ipc(session: &Session, target: &Target) -> Result<()> {
    let found = objects(&session.proc, target.pid)?;
    if session.json {
        return session.print(&found);
    }
    let row = |o: &Object| {
        let numbers = [o.id.to_string(), o.uid.to_string(), o.perms.clone(), o.size.to_string()];
        let mut cells = vec![o.kind.to_string(), o.key.clone()];
        cells.extend(numbers);
        cells.push(super::or_dash(o.attached));
        cells
    };
    let header = ["KIND", "KEY", "ID", "UID", "PERMS", "SIZE", "ATTACHED"];
    print_text(&table(&header, &found.iter().map(row).collect::<Vec<_>>()))
}
