//! copy, save, restore: limits from one cgroup to another, by a file or at once. What is carried is what somebody has set,
//! in terms of both versions: a file written on v1 works on v2.

use crate::args::{Copy, Restore, Save};
use crate::make::{check_disks, note_devices, print, warn_lacking};
use crate::names::{guard_name, guard_processes, layout_for};
use crate::say::{done, explainer};
use drydock_cgroups::{Cgroup, IfExists, Layout, Limits, Plan, Report, Request, check_name};
use drydock_cli::{Outcome, print_json, print_text};
use drydock_core::error::CallExt;
use drydock_core::text::escape;
use drydock_core::{Ctx, Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::io::{Read, Write};
use std::path::Path;

/// A file of limits.
#[derive(Serialize, Deserialize, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
struct Saved {
    version: u32,
    cgroups: Vec<Entry>,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    limits: Limits,
}

const VERSION: u32 = 1;
/// More than any tree of cgroups needs.
const MAX_BYTES: u64 = 16 << 20;

/// `cgroupctl copy`.
pub fn copy(args: &Copy) -> Outcome {
    let from = Cgroup::open(&args.from, &layout_for(&args.from)?)?;
    let layout = layout_for(&args.to)?;
    let if_exists = if args.create { IfExists::Reuse } else { IfExists::Require };
    let plan = request(&args.to, from.limits_set(), if_exists, args.lenient).validate(&layout)?;
    let explainer = explainer(&args.say);
    let report = plan.apply(&Ctx::new(&explainer, None))?;
    note_devices(&plan, &report)?;
    print(&report, args.say.json, false)
}

/// `cgroupctl save`.
pub fn save(args: &Save) -> Outcome {
    let layout = layout_for(&args.name)?;
    Cgroup::open(&args.name, &layout)?;
    let mut names = vec![args.name.clone()];
    if !args.alone {
        let below = format!("{}/", args.name);
        names.extend(layout.survey(Some(&args.name)).into_keys().filter(|n| n.starts_with(&below)));
    }
    let entry = |name: String| Cgroup::open(&name, &layout).map(|c| Entry { limits: c.limits_set(), name });
    // One that has gone meanwhile is left out.
    let (first, rest) = names.split_first().map_or((String::new(), &[][..]), |(f, r)| (f.clone(), r));
    let mut cgroups = vec![entry(first)?];
    cgroups.extend(rest.iter().cloned().filter_map(|name| entry(name).ok()));
    let saved = Saved { version: VERSION, cgroups };
    let mut text = serde_json::to_string_pretty(&saved).map_err(|e| Error::failed("save", e.to_string()))?;
    text.push('\n');
    match args.file.as_deref().filter(|f| *f != Path::new("-")) {
        None => print_text(&text)?,
        Some(file) => {
            write_whole(file, &text)?;
            if args.json {
                let names: Vec<&str> = saved.cgroups.iter().map(|c| c.name.as_str()).collect();
                print_json(&json!({ "name": args.name, "file": file, "cgroups": names }))?;
            }
        }
    }
    Ok(0)
}

/// By a file beside it and a rename: whoever reads it sees the old or the new one. What is no file is written to.
fn write_whole(file: &Path, text: &str) -> Result<()> {
    if std::fs::metadata(file).is_ok_and(|m| !m.is_file()) {
        return std::fs::write(file, text).call(|| format!("write({file:?})"));
    }
    let name = file.file_name().ok_or_else(|| Error::bad_input("save", "not the name of a file"))?;
    let beside = file.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    let written = options
        .open(&beside)
        .and_then(|mut f| f.write_all(text.as_bytes()).and_then(|()| f.sync_all()))
        .call(|| format!("write({beside:?})"))
        .and_then(|()| std::fs::rename(&beside, file).call(|| format!("rename({beside:?}, {file:?})")));
    written.inspect_err(|_| {
        // The error is the one to tell.
        let _ = std::fs::remove_file(&beside);
    })
}

/// `cgroupctl restore`.
pub fn restore(args: &Restore) -> Outcome {
    let saved = parse(&read(&args.file)?, args.name.as_deref())?;
    let top = saved.cgroups.first().map(|c| c.name.clone()).unwrap_or_default();
    let layout = layout_for(&top)?;
    let plans = plans(args, saved, &layout)?;
    if args.replace {
        guard_name(&top, "replace")?;
        if let Ok(old) = Cgroup::open(&top, &layout) {
            guard_processes(&old, &top, "replace")?;
            old.remove_keeping_parents(std::time::Duration::from_secs(10))?;
        }
    }
    let explainer = explainer(&args.say);
    let ctx = Ctx::new(&explainer, None);
    let mut reports: Vec<(String, Report)> = Vec::new();
    for plan in &plans {
        let made = plan.apply(&ctx).and_then(|report| note_devices(plan, &report).map(|()| report));
        match made {
            Ok(report) => reports.push((plan.name().to_string(), report)),
            Err(error) => {
                take_back(args, &reports);
                return Err(error.into());
            }
        }
    }
    reports.iter().for_each(|(_, report)| warn_lacking(report));
    let names: Vec<&str> = reports.iter().map(|(name, _)| name.as_str()).collect();
    let all: Vec<_> = reports.iter().map(|(name, r)| json!({ "name": name, "report": r })).collect();
    done(&args.say, &all, &format!("restored {}", names.join(" ")))?;
    Ok(0)
}

/// What was made before a failure goes again; what was there is kept.
fn take_back(args: &Restore, made: &[(String, Report)]) {
    if args.reuse {
        return;
    }
    for (_, report) in made.iter().rev() {
        // Best effort: the error that brought us here is what the user needs to see.
        let _ = Cgroup::at(report.dirs.iter().cloned()).and_then(|c| c.remove_if_empty());
    }
}

/// All are checked before the first is made.
fn plans(args: &Restore, saved: Saved, layout: &Layout) -> Result<Vec<Plan>> {
    let if_exists = if args.reuse { IfExists::Reuse } else { IfExists::Fail };
    let plan = |entry: Entry| {
        check_disks(&entry.limits)?;
        let plan = request(&entry.name, entry.limits, if_exists, args.lenient).validate(layout)?;
        let there = !args.reuse && !args.replace && plan.dirs().iter().any(|d| d.exists());
        if there {
            return Err(Error::failed(format!("cgroup '{}'", escape(&entry.name)), "exists already")
                .in_stage("cgroup")
                .hint("--reuse gives it the limits, --replace makes it anew, --name makes another"));
        }
        Ok(plan)
    };
    saved.cgroups.into_iter().map(plan).collect()
}

fn request(name: &str, limits: Limits, if_exists: IfExists, lenient: bool) -> Request {
    Request { name: name.to_string(), limits, if_exists, lenient, ..Request::default() }
}

fn read(file: &Path) -> Result<String> {
    let mut text = String::new();
    let from = |source: &mut dyn Read, text: &mut String| source.take(MAX_BYTES + 1).read_to_string(text);
    let read = if file == Path::new("-") {
        from(&mut std::io::stdin(), &mut text)
    } else {
        std::fs::File::open(file).and_then(|mut f| from(&mut f, &mut text))
    };
    let shown = escape(&file.to_string_lossy());
    match read {
        Err(e) if e.kind() == std::io::ErrorKind::InvalidData => Err(Error::bad_input(shown, "not UTF-8")),
        Err(e) => Err(Error::call(format!("read({shown:?})"), e).with_kind(drydock_core::Kind::BadInput)),
        Ok(size) if size as u64 > MAX_BYTES => Err(Error::bad_input(shown, "more than 16 MiB")),
        Ok(_) => Ok(text),
    }
}

/// The file's cgroups, under another name if one is given.
fn parse(text: &str, name: Option<&str>) -> Result<Saved> {
    let wrong = |problem: String| Error::bad_input("restore", problem);
    let mut saved: Saved = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
    if saved.version != VERSION {
        return Err(wrong(format!("version {} is not known (allowed: {VERSION})", saved.version)));
    }
    let Some(top) = saved.cgroups.first().map(|c| c.name.clone()) else {
        return Err(wrong("there is no cgroup in it".to_string()));
    };
    for entry in &mut saved.cgroups {
        check_name(&entry.name)?;
        let below = entry.name.strip_prefix(&top).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        let Some(below) = below else {
            return Err(wrong(format!("'{}' is not below '{}'", escape(&entry.name), escape(&top))));
        };
        if let Some(name) = name {
            entry.name = format!("{name}{below}");
            check_name(&entry.name)?;
        }
    }
    Ok(saved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files() {
        let text =
            r#"{"version":1,"cgroups":[{"name":"a","limits":{"pids_max":5}},{"name":"a/b","limits":{}}]}"#;
        let saved = parse(text, Some("x/y")).unwrap();
        let names: Vec<&str> = saved.cgroups.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["x/y", "x/y/b"]);
        assert_eq!(saved.cgroups[0].limits.pids_max, Some(5));
        for bad in [
            "",
            "{}",
            "[]",
            r#"{"version":2,"cgroups":[]}"#,
            r#"{"version":1,"cgroups":[]}"#,
            r#"{"version":1,"cgroups":[{"name":"../a","limits":{}}]}"#,
            r#"{"version":1,"cgroups":[{"name":"a","limits":{"frob":1}}]}"#,
            r#"{"version":1,"cgroups":[{"name":"a","limits":{}},{"name":"ab","limits":{}}]}"#,
        ] {
            assert_eq!(parse(bad, None).unwrap_err().exit_code(), 2, "{bad}");
        }
        assert_eq!(parse(text, Some("/abs")).unwrap_err().exit_code(), 2);
    }
}
