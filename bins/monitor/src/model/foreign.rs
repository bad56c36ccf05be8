//! Containers of other engines as `PID|ID`: by the id in their cgroup's path, or by the name their engine gave them.

use super::target::{Container, Target};
use super::units::{Finder, Unit};
use crate::procfs::Proc;
use drydock_core::text::{escape, shorten};
use drydock_core::{Error, Result};
use std::path::Path;

/// The container that `text` names, by name, id, or an unambiguous beginning of either; `None` if there is none.
///
/// # Errors
/// Bad input when there are several.
pub fn find(proc: &Proc, text: &str, root: Option<&Path>) -> Result<Option<Target>> {
    if text.is_empty() || text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    let units = Finder::new(root).find(proc)?;
    let others: Vec<&Unit> = units.values().filter(|u| u.container.is_none() && u.is_container()).collect();
    let id = |unit: &Unit| unit.maker.as_ref().map(|m| m.id.clone()).unwrap_or_default();
    let exact: Vec<&&Unit> = others.iter().filter(|u| u.name == text || id(u) == text).collect();
    let begins = |u: &&&Unit| u.name.starts_with(text) || id(u).starts_with(text);
    let fitting = if exact.is_empty() { others.iter().filter(begins).collect() } else { exact };
    match fitting.as_slice() {
        [] => Ok(None),
        [one] => Ok(one.pids.first().map(|pid| target(one, *pid))),
        several => {
            let names: Vec<String> = several.iter().take(5).map(|u| escape(&u.name)).collect();
            let shown = shorten(&escape(text), 40);
            Err(Error::bad_input(
                format!("'{shown}'"),
                format!("fits several containers: {}", names.join(", ")),
            ))
        }
    }
}

fn target(unit: &Unit, pid: u32) -> Target {
    let cgroup = if unit.pid_namespace.is_some() { Vec::new() } else { unit.directories.clone() };
    let container = Container { id: unit.name.clone(), pid: Some(pid), status: "running", cgroup };
    Target { pid, container: Some(container) }
}
