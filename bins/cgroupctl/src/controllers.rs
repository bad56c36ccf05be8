//! controllers: what a cgroup has and hands on.

use crate::args::Controllers;
use crate::names::layout_for;
use crate::say::explainer;
use drydock_cgroups::{Cgroup, Controller, Layout, Version};
use drydock_cli::Outcome;
use drydock_cli::output::{print_json, print_text, table};
use drydock_core::text::{escape, shorten};
use drydock_core::{Ctx, Error, Result};

/// `cgroupctl controllers`.
pub fn controllers(args: &Controllers) -> Outcome {
    let (layout, cgroup) = match &args.name {
        Some(name) => {
            let layout = layout_for(name)?;
            let cgroup = Cgroup::open(name, &layout)?;
            (layout, cgroup)
        }
        None => {
            let layout = Layout::detect()?;
            let cgroup = Cgroup::root(&layout)?;
            (layout, cgroup)
        }
    };
    let all = layout.controllers_of(args.name.as_deref());
    let (on, off) = (known(&args.enable, &all)?, known(&args.disable, &all)?);
    if let Some(both) = on.iter().find(|c| off.contains(c)) {
        return Err(Error::bad_input("controllers", format!("'{both}' is to be enabled and disabled")).into());
    }
    let explainer = explainer(&args.say);
    let ctx = Ctx::new(&explainer, None);
    if !on.is_empty() {
        cgroup.hand_on(&on, true, args.make_leaf, &ctx)?;
    }
    if !off.is_empty() {
        cgroup.hand_on(&off, false, false, &ctx)?;
    }
    let now = layout.controllers_of(args.name.as_deref());
    if args.say.json {
        print_json(&now)?;
        return Ok(0);
    }
    let yes = |b: bool| if b { "yes" } else { "no" }.to_string();
    let row = |c: &Controller| {
        let version = if c.version == Version::V2 { "v2" } else { "v1" };
        let dir = c.dir.to_string_lossy().into_owned();
        vec![c.name.clone(), version.to_string(), yes(c.available), yes(c.for_children), dir]
    };
    let head = ["CONTROLLER", "VERSION", "HERE", "BELOW", "CGROUP"];
    print_text(&table(&head, &now.iter().map(row).collect::<Vec<_>>()))?;
    Ok(0)
}

/// The names that v2 can switch; v1's controllers are always handed on.
fn known(asked: &[String], all: &[Controller]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for word in asked {
        let name = word.trim_start_matches(['+', '-']);
        match all.iter().find(|c| c.name == name || (c.name == "blkio" && name == "io")) {
            Some(found) if found.version == Version::V2 => names.push(name.to_string()),
            Some(_) => crate::say::note(&format!("{name}: a v1 controller, cgroups below always have it")),
            None => {
                let there: Vec<&str> = all.iter().map(|c| c.name.as_str()).collect();
                let shown = shorten(&escape(name), 40).to_string();
                let problem = format!("'{shown}' is not one of this machine (allowed: {})", there.join(", "));
                return Err(Error::bad_input("controller", problem));
            }
        }
    }
    Ok(names)
}
