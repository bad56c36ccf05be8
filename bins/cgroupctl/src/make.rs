//! create and set.

use crate::args::{Create, Making, Set};
use crate::{TOOL, owner};
use drydock_cgroups::{IfExists, Layout, Limits, Plan, Report, Request};
use drydock_cli::output::{print_json, print_text, table, warn};
use drydock_cli::{Explainer, Outcome};
use drydock_core::text::{escape, shorten};
use drydock_core::{Ctx, Error, Result};

/// `cgroupctl create`.
pub fn create(args: &Create) -> Outcome {
    let if_exists = match (args.reuse, args.replace) {
        (true, _) => IfExists::Reuse,
        (_, true) => IfExists::Replace,
        _ => IfExists::Fail,
    };
    let layout = Layout::detect()?;
    let asked = match &args.request {
        Some(json) => from_json(json, args)?,
        None => request(&args.name, &args.making, if_exists)?,
    };
    let replace = asked.if_exists == IfExists::Replace;
    if replace {
        crate::names::guard_name(&args.name, "replace")?;
    }
    let plan = asked.validate(&layout)?;
    if replace {
        // Only an existing one can hold somebody.
        if let Ok(old) = drydock_cgroups::Cgroup::open(&args.name, &layout) {
            crate::names::guard_processes(&old, &args.name, "replace")?;
        }
    }
    let report = apply(&plan, &args.making)?;
    print(&report, args.json, true)
}

/// A request as it is printed.
fn from_json(json: &str, args: &Create) -> Result<Request> {
    let flags = request(&args.name, &args.making, IfExists::Fail)?;
    if flags != (Request { name: args.name.clone(), ..Request::default() }) {
        return Err(Error::bad_input("--request", "says everything itself (allowed: no limit flags)"));
    }
    let request: Request =
        serde_json::from_str(json).map_err(|e| Error::bad_input("--request", e.to_string()))?;
    if request.name.is_empty() || request.name == args.name {
        return Ok(Request { name: args.name.clone(), ..request });
    }
    Err(Error::bad_input(
        "--request",
        format!("is for '{}', not for this cgroup", shorten(&escape(&request.name), 60)),
    ))
}

/// The request that the flags describe.
pub fn request(name: &str, making: &Making, if_exists: IfExists) -> Result<Request> {
    Ok(Request {
        name: name.to_string(),
        limits: making.limits.limits()?,
        if_exists,
        lenient: making.lenient,
        make_leaf: making.make_leaf,
        lean: making.lean,
        dirs: vec![],
        complete: false,
        place: drydock_cgroups::Place::Base,
    })
}

/// Carries a plan out, explained and recorded as the flags say.
pub fn apply(plan: &Plan, making: &Making) -> Result<Report> {
    let owner = owner::open(owner::directory(making)?)?;
    let report = plan.apply(&Ctx::new(&Explainer { on: making.explain }, owner.as_ref().map(|o| &o.journal)));
    if let Some(owner) = owner {
        owner.forget_if_nothing(plan, report.is_ok());
    }
    report
}

/// `cgroupctl set`.
pub fn set(args: &Set) -> Outcome {
    let mut limits = Limits::default();
    for setting in &args.settings {
        let Some((key, value)) = setting.split_once('=') else {
            let shown = shorten(&escape(setting), 60);
            return Err(Error::bad_input(
                "set",
                format!("'{shown}' is not a setting (allowed: FILE=VALUE such as memory.max=100M)"),
            )
            .into());
        };
        limits.set(key, value)?;
    }
    let request = Request {
        name: args.name.clone(),
        limits,
        if_exists: IfExists::Require,
        lenient: args.lenient,
        make_leaf: args.make_leaf,
        lean: false,
        dirs: vec![],
        complete: false,
        place: drydock_cgroups::Place::Base,
    };
    let plan = request.validate(&Layout::detect()?)?;
    let report = plan.apply(&Ctx::new(&Explainer { on: args.explain }, None))?;
    print(&report, args.json, false)
}

fn print(report: &Report, json: bool, with_dirs: bool) -> Outcome {
    warn_lacking(report);
    if json {
        print_json(report)?;
        return Ok(0);
    }
    let mut text = String::new();
    if with_dirs {
        for dir in &report.dirs {
            text.push_str(&format!("{}\n", escape(&dir.to_string_lossy())));
        }
    }
    if !report.settings.is_empty() {
        let row = |s: &drydock_cgroups::Setting| vec![s.file.clone(), s.asked.clone(), s.kernel.clone()];
        let rows: Vec<Vec<String>> = report.settings.iter().map(row).collect();
        text.push_str(&table(&["FILE", "ASKED", "KERNEL"], &rows));
    }
    print_text(&text)?;
    Ok(0)
}

/// What the kernel lacks is said, whatever the output format is.
pub fn warn_lacking(report: &Report) {
    report.lacking.iter().for_each(|lack| warn(TOOL, lack));
}
