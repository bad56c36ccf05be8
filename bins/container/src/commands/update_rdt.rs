//! The part of `container update` that is about Intel RDT: other lines for the container's resctrl group.

use drydock_bundle::{Entry, State};
use drydock_core::error::CallExt;
use drydock_core::{Ctx, Journal, Object, Result, Silent};
use drydock_security::rdt::Request;

/// Writes the lines to the container's own group; one that has none gets one.
///
/// # Errors
/// When the machine has no resctrl, or the kernel refuses a line.
pub fn apply(request: &Request, entry: &Entry, state: &State) -> Result<()> {
    let own = Journal::read(&entry.dir)?.into_iter().find_map(|object| match object {
        Object::ResctrlGroup { path } => Some(path.join("schemata")),
        _ => None,
    });
    let Some(schemata) = own.filter(|path| path.exists()) else {
        let plan = request.validate(&entry.id)?;
        let journal = Journal::create(&entry.dir)?;
        return plan.apply(&Ctx::new(&Silent, Some(&journal)), state.pid.unwrap_or(0));
    };
    for line in [&request.l3_cache_schema, &request.mem_bw_schema].into_iter().flatten() {
        std::fs::write(&schemata, format!("{line}\n"))
            .call(|| format!("write({schemata:?}, {line:?})"))
            .map_err(|e| {
                e.in_stage("security").hint("see info/last_cmd_status of the resctrl file system")
            })?;
    }
    Ok(())
}
