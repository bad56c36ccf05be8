//! `monitor ns ls INODE`: the processes of one namespace, as `lsns INODE` lists them.

use crate::Session;
use crate::args::List;
use crate::model::namespaces::Inventory;
use crate::model::target::read_stat;
use drydock_cli::output::print_text;
use drydock_core::{Error, Result};
use serde::Serialize;

#[derive(Serialize)]
struct Member {
    pid: u32,
    ppid: Option<u32>,
    uid: Option<u32>,
    user: Option<String>,
    command: String,
}

/// The processes in the namespace with this inode number.
///
/// # Errors
/// Bad input when there is no such namespace.
pub fn members(session: &Session, found: &Inventory, inode: u64, options: &List) -> Result<()> {
    let id = found.namespaces.keys().find(|(_, n)| *n == inode);
    let Some((kind, _)) = id else {
        let hint = "monitor ns ls shows all that can be seen";
        return Err(Error::bad_input(format!("namespace {inode}"), "no such namespace").hint(hint));
    };
    let inside = found.scan.processes.iter().filter(|p| p.namespace(*kind) == Some(inode));
    let member = |pid: u32| {
        let stat =
            rustix::fs::statat(session.proc.root(), pid.to_string(), rustix::fs::AtFlags::empty()).ok()?;
        Some(Member {
            pid,
            ppid: read_stat(&session.proc, pid).ok().map(|s| s.ppid),
            uid: Some(stat.st_uid),
            user: crate::model::users::name(stat.st_uid),
            command: session.proc.command(pid),
        })
    };
    let rows: Vec<Member> = inside.filter_map(|p| member(p.pid)).collect();
    if session.json {
        return session.print(&rows);
    }
    let cells = |m: &Member| {
        let user = m.user.clone().or(m.uid.map(|n| n.to_string()));
        vec![m.pid.to_string(), super::or_dash(m.ppid), super::or_dash(user), m.command.clone()]
    };
    let cells: Vec<Vec<String>> = rows.iter().map(cells).collect();
    print_text(&super::table::render(&["PID", "PPID", "USER", "COMMAND"], &cells, &options.look()))?;
    super::notes(&found.notes());
    Ok(())
}
