//! create and set.

use crate::args::{Create, Making, Set, settings_into};
use crate::names::layout_for;
use crate::{delegate, owner, say};
use drydock_cgroups::{Cgroup, IfExists, Limits, Plan, Report, Request};
use drydock_cli::output::{print_json, print_text, table};
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
    let owner = args.delegate.as_deref().map(delegate::Owner::parse).transpose()?;
    let asked = match &args.request {
        Some(json) => from_json(json, args)?,
        None => request(&args.name, &args.making, if_exists)?,
    };
    let replace = asked.if_exists == IfExists::Replace;
    if replace {
        crate::names::guard_name(&args.name, "replace")?;
    }
    let layout = layout_for(&args.name)?;
    check_disks(&asked.limits)?;
    let plan = asked.validate(&layout)?;
    if replace {
        // Only an existing one can hold somebody.
        if let Ok(old) = Cgroup::open(&args.name, &layout) {
            crate::names::guard_processes(&old, &args.name, "replace")?;
        }
    }
    let report = apply(&plan, &args.making)?;
    if let Some(owner) = owner {
        let explainer = Explainer { on: args.making.explain };
        delegate::give(&Cgroup::at(report.dirs.clone())?, owner, &Ctx::new(&explainer, None))?;
    }
    print(&report, args.json, true)
}

/// Disks that are not there, before anything is touched; and what limiting a partition means.
pub fn check_disks(limits: &Limits) -> Result<()> {
    let named = limits.io_max.iter().map(|io| ("io.max", io.device.as_str()));
    let latency = limits.raw.get("io.latency").into_iter().flat_map(|text| text.lines());
    let latency = latency.filter_map(|line| Some(("io.latency", line.split(' ').next()?)));
    let weights = limits.io_weight_device.keys().map(|device| ("io.weight", device.as_str()));
    let unknown =
        named.chain(latency).chain(weights).find(|(_, device)| !drydock_cgroups::device::is_there(device));
    unknown.map_or(Ok(()), |(file, device)| {
        let problem = format!("no block device {device} (allowed: those of /proc/partitions, or a path)");
        Err(Error::bad_input(file, problem))
    })
}

/// Says what a limit for a partition is.
fn tell_of_partitions<'a>(specs: impl Iterator<Item = &'a str>) {
    for word in specs.filter_map(|spec| spec.split_whitespace().next()) {
        if let Some(note) = drydock_cgroups::device::disk(word).ok().and_then(|disk| disk.note()) {
            say::note(&note);
        }
    }
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
    tell_of_partitions(making.limits.io_max.iter().map(String::as_str));
    let report = plan.apply(&Ctx::new(&Explainer { on: making.explain }, owner.as_ref().map(|o| &o.journal)));
    if let Some(owner) = owner {
        owner.forget_if_nothing(plan, report.is_ok());
    }
    let report = report?;
    note_devices(plan, &report)?;
    Ok(report)
}

/// The rules cannot be read back from what enforces them.
pub fn note_devices(plan: &Plan, report: &Report) -> Result<()> {
    if let Some(rules) = &plan.request().limits.devices {
        Cgroup::at(report.dirs.iter().cloned())?.note_devices(rules);
    }
    Ok(())
}

/// `cgroupctl set`.
pub fn set(args: &Set) -> Outcome {
    let mut limits = Limits::default();
    settings_into(&mut limits, &args.settings)?;
    check_disks(&limits)?;
    let layout = layout_for(&args.name)?;
    let mut names = vec![args.name.clone()];
    if args.recursive {
        Cgroup::open(&args.name, &layout)?;
        let below = format!("{}/", args.name);
        names.extend(layout.survey(Some(&args.name)).into_keys().filter(|n| n.starts_with(&below)));
    }
    // All are checked before the first is touched.
    let plan = |name: &String| change(args, name, limits.clone()).validate(&layout);
    let plans = names.iter().map(plan).collect::<Result<Vec<_>>>()?;
    for name in &names {
        check_files(&Cgroup::open(name, &layout)?, limits.raw.keys())?;
    }
    let disks = args.settings.iter().filter_map(|s| s.split_once('=')).filter(|(k, _)| k.starts_with("io."));
    tell_of_partitions(disks.map(|(_, value)| value));
    let mut reports = Vec::new();
    for plan in &plans {
        let report = plan.apply(&Ctx::new(&Explainer { on: args.say.explain }, None))?;
        note_devices(plan, &report)?;
        reports.push(report);
    }
    match (reports.as_slice(), args.recursive) {
        ([one], false) => print(one, args.say.json, false),
        (all, _) if args.say.json => {
            all.iter().for_each(warn_lacking);
            print_json(all)?;
            Ok(0)
        }
        (all, _) => {
            for (name, report) in names.iter().zip(all) {
                print_text(&format!("{}\n", escape(name)))?;
                print(report, false, false)?;
            }
            Ok(0)
        }
    }
}

/// A controller that is there has all of its files: one that it lacks is no setting of this kernel.
fn check_files<'a>(cgroup: &Cgroup, files: impl Iterator<Item = &'a String>) -> Result<()> {
    for file in files {
        let controller = file.split('.').next().unwrap_or_default();
        let there = |dir: &std::path::Path| {
            let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
            let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
            let own: Vec<String> =
                names.filter(|name| name.split_once('.').is_some_and(|(c, _)| c == controller)).collect();
            (!own.is_empty()).then(|| own.contains(file))
        };
        let seen: Vec<bool> = cgroup.dirs().filter_map(there).collect();
        if !seen.is_empty() && !seen.contains(&true) {
            let problem =
                "is no file of this controller here (allowed: those that `cgroupctl get NAME -a` lists)";
            return Err(Error::bad_input(escape(file), problem));
        }
    }
    Ok(())
}

fn change(args: &Set, name: &str, limits: Limits) -> Request {
    Request {
        name: name.to_string(),
        limits,
        if_exists: IfExists::Require,
        lenient: args.lenient,
        make_leaf: args.make_leaf,
        lean: false,
        dirs: vec![],
        complete: false,
        place: drydock_cgroups::Place::Base,
    }
}

/// A report, as JSON or as tables.
pub fn print(report: &Report, json: bool, with_dirs: bool) -> Outcome {
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
        let rounded = report.settings.iter().any(|s| s.rounded);
        let row = |s: &drydock_cgroups::Setting| {
            let mut cells = vec![s.file.clone(), s.asked.clone(), s.kernel.clone()];
            cells.extend(s.rounded.then(|| "rounded by the kernel".to_string()));
            cells
        };
        let rows: Vec<Vec<String>> = report.settings.iter().map(row).collect();
        let head = ["FILE", "ASKED", "KERNEL", "NOTE"];
        text.push_str(&table(if rounded { &head } else { &head[..3] }, &rows));
    }
    print_text(&text)?;
    Ok(0)
}

/// What the kernel lacks is said, whatever the output format is.
pub fn warn_lacking(report: &Report) {
    report.lacking.iter().for_each(|lack| say::warn(lack));
}
