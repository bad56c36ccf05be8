//! `netsetup gc` and `reload`.

use crate::args::{Common, Gc};
use crate::owner::{Owner, lease_dir};
use crate::pending::{self, Orphan, Undo};
use crate::print;
use drydock_cli::Outcome;
use drydock_core::{Result, paths};
use drydock_network::{forward, gc, repair};
use serde_json::json;
use std::path::Path;

/// Exit code of a check that finds something.
pub const FOUND: u8 = 1;

/// What was found; with `check` nothing is touched.
struct Sweep<'a> {
    common: &'a Common,
    check: bool,
    found: Vec<String>,
}

pub fn run(args: &Gc, common: &Common) -> Outcome {
    let root = paths::state_root(common.root.as_deref())?;
    let mut sweep = Sweep { common, check: args.check, found: Vec::new() };
    // As `container gc`: nothing that is being made is taken for a leak.
    let lock = std::fs::File::open(root.join("@lock"));
    if let Ok(lock) = &lock {
        let _ = lock.lock();
    }
    let names = owners(&root);
    for name in &names {
        sweep.killed(name)?;
    }
    sweep.leases()?;
    for name in &names {
        sweep.empty(name)?;
    }
    if forward::mend(&lease_dir(common)?, args.check, &drydock_core::Ctx::silent())? {
        sweep.found.push("half of what a killed 'forward allow' was about".into());
    }
    let checks = gc::dead_checks()?;
    sweep.found.extend(checks.iter().map(|link| format!("check of {link}, which is gone")));
    if !args.check {
        gc::forget_checks(&checks)?;
    }
    let code = if args.check && !sweep.found.is_empty() { FOUND } else { 0 };
    let verb = if args.check { "left behind" } else { "removed" };
    let text = match sweep.found.as_slice() {
        [] => "nothing left behind".to_string(),
        found => found.iter().map(|f| format!("{verb}: {f}")).collect::<Vec<_>>().join("\n"),
    };
    match common.json {
        true => drydock_cli::print_json(&json!({ "found": sweep.found, "removed": !args.check }))?,
        false => drydock_cli::print_text(&format!("{text}\n"))?,
    }
    Ok(code)
}

fn owners(root: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .filter_map(|e| e.file_name().into_string().ok())
        .filter(|name| drydock_network::name::check_owner(name).is_ok())
        .collect();
    names.sort();
    names
}

impl Sweep<'_> {
    fn owner(&self, name: &str) -> Result<Owner> {
        Owner::of(self.common, name)
    }

    /// Commands that were killed.
    fn killed(&mut self, name: &str) -> Result<()> {
        let owner = self.owner(name)?;
        for orphan in pending::orphans(&owner.dir) {
            self.found.push(format!("what a killed command of '{name}' has left"));
            if !self.check {
                finish(&owner, &orphan)?;
                let _ = std::fs::remove_file(&orphan.path);
                owner.forget_if_empty()?;
            }
        }
        Ok(())
    }

    /// Addresses whose links are gone.
    fn leases(&mut self) -> Result<()> {
        let dir = lease_dir(self.common)?;
        for (network, lease) in gc::dead_leases(&dir)? {
            self.found.push(format!("{} of '{}' in network '{network}'", lease.address, lease.owner));
            if !self.check {
                gc::take_back(&lease, &dir, &self.owner(&lease.owner)?.ctx())?;
            }
        }
        Ok(())
    }

    /// Owners of whom nothing is left but a journal: their namespaces were deleted by other means.
    fn empty(&mut self, name: &str) -> Result<()> {
        let owner = self.owner(name)?;
        if !owner.is_only_a_journal() {
            return Ok(());
        }
        let objects = owner.objects()?;
        if owner.is_container()? || gc::has_anything(name, &objects, &owner.lease_dir)? {
            return Ok(());
        }
        self.found.push(format!("the journal of '{name}', of whom nothing is there"));
        if !self.check {
            owner.undo()?;
        }
        Ok(())
    }
}

/// Does what the killed command would have done on its way out.
fn finish(owner: &Owner, orphan: &Orphan) -> Result<()> {
    let Some(note) = &orphan.note else { return Ok(()) };
    let objects = owner.objects()?;
    let fresh = note.before == Some(0);
    match (&note.undo, note.before) {
        (Undo::Everything, _) => remove_all(owner, &objects),
        _ if fresh && !owner.is_container()? => remove_all(owner, &objects),
        (undo, _) => undo.run(&owner.id, &owner.lease_dir, &owner.ctx()),
    }
}

fn remove_all(owner: &Owner, objects: &[drydock_core::Object]) -> Result<()> {
    if owner.is_container()? {
        return Ok(());
    }
    drydock_network::remove(&owner.id, objects, &owner.lease_dir, &owner.ctx())?;
    owner.forget_journal()
}

pub fn reload(common: &Common) -> Outcome {
    let owner = Owner::new(common, || "reload".into())?;
    let report = repair::reload(&owner.lease_dir, &owner.ctx())?;
    let whole = report.rules == 0 && report.checks == 0 && report.settings.is_empty();
    let line = if whole {
        "nothing was missing".to_string()
    } else {
        format!(
            "made anew: {} rules, {} checks of ports, {} settings",
            report.rules,
            report.checks,
            report.settings.len()
        )
    };
    print::result(common, &report, &line, &report.warnings)?;
    Ok(0)
}
