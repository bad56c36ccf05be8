//! `monitor mounts`.

use crate::Session;
use crate::model::mounts as model;
use crate::model::target::Target;
use crate::procfs::mountinfo::Mount;
use drydock_cli::output::{print_text, table};
use drydock_core::Result;

/// `monitor mounts`: target, source, file system, options, propagation.
///
/// # Errors
/// When the process has gone or is closed to us.
pub fn mounts(session: &Session, target: &Target, tree: bool) -> Result<()> {
    let mounts = model::mounts(&session.proc, target.pid)?;
    if session.json {
        return session.print(&mounts);
    }
    let listed: Vec<(usize, &Mount)> =
        if tree { model::tree(&mounts) } else { mounts.iter().map(|m| (0, m)).collect() };
    let row = |(depth, m): &(usize, &Mount)| {
        let source = if m.root == "/" { m.source.clone() } else { format!("{}[{}]", m.source, m.root) };
        let target = format!("{}{}", "  ".repeat(*depth), m.target);
        vec![target, source, m.fstype.clone(), m.propagation.clone(), options(m)]
    };
    let header = ["TARGET", "SOURCE", "FSTYPE", "PROPAGATION", "OPTIONS"];
    print_text(&table(&header, &listed.iter().map(row).collect::<Vec<_>>()))
}

/// The mount's options, then those of the file system that it does not have itself (as findmnt shows them).
fn options(mount: &Mount) -> String {
    let own: Vec<&str> = mount.options.split(',').collect();
    let more = mount.super_options.split(',').filter(|o| !o.is_empty() && !own.contains(o));
    own.iter().copied().chain(more).collect::<Vec<_>>().join(",")
}
