//! add, move, freeze, thaw, kill, delete, cleanup.

use crate::args::{Add, Cleanup, Delete, Move, Name};
use crate::names::{guard_name, guard_processes, layout_for, open_ours, pid, seconds};
use crate::say::{done, explainer, note};
use drydock_cgroups::{Cgroup, Layout, check_name};
use drydock_cli::Outcome;
use drydock_core::text::escape;
use drydock_core::{Ctx, Error, Result};
use nix::errno::Errno;
use serde_json::json;
use std::time::Duration;

/// `cgroupctl add`.
pub fn add(args: &Add) -> Outcome {
    check_name(&args.name)?;
    let pids = args.pids.iter().map(|p| pid(p)).collect::<Result<Vec<i32>>>()?;
    let cgroup = Cgroup::open(&args.name, &layout_for(&args.name)?)?;
    for pid in &pids {
        if !std::path::Path::new(&format!("/proc/{pid}")).exists() {
            let what = if args.thread { "thread" } else { "process" };
            return Err(Error::bad_input(format!("{what} {pid}"), format!("no such {what}")).into());
        }
    }
    let explainer = explainer(&args.say);
    let ctx = Ctx::new(&explainer, None);
    for pid in &pids {
        if args.thread { cgroup.add_thread_as_step(*pid, &ctx)? } else { cgroup.add_as_step(*pid, &ctx)? }
    }
    let list: Vec<String> = pids.iter().map(ToString::to_string).collect();
    let text = format!("{}: added {}", args.name, list.join(" "));
    done(&args.say, &json!({ "name": args.name, "added": pids }), &text)?;
    Ok(0)
}

/// `cgroupctl move`.
pub fn move_all(args: &Move) -> Outcome {
    check_name(&args.from)?;
    let from = Cgroup::open(&args.from, &layout_for(&args.from)?)?;
    let to = Cgroup::open(&args.to, &layout_for(&args.to)?)?;
    let explainer = explainer(&args.say);
    let ctx = Ctx::new(&explainer, None);
    let mut moved = std::collections::BTreeSet::new();
    // Processes may fork while they are moved; children are born where their parents are.
    for _ in 0..100 {
        let pids = from.pids()?;
        if pids.is_empty() {
            let report = json!({ "from": args.from, "to": args.to, "moved": moved });
            let text = format!("{} to {}: moved {}", args.from, args.to, count(moved.len()));
            done(&args.say, &report, &text)?;
            return Ok(0);
        }
        for pid in pids {
            match to.add_as_step(pid, &ctx) {
                // It has ended meanwhile.
                Err(e) if e.errno() == Some(Errno::ESRCH as i32) => {}
                other => {
                    other?;
                    moved.insert(pid);
                }
            }
        }
    }
    let left = drydock_cgroups::describe_pids(&from.pids()?);
    Err(Error::failed(format!("cgroup '{}'", escape(&args.from)), format!("still has {left}"))
        .in_stage("cgroup")
        .into())
}

fn count(processes: usize) -> String {
    if processes == 1 { "1 process".to_string() } else { format!("{processes} processes") }
}

/// `cgroupctl freeze`.
pub fn freeze(args: &Name) -> Outcome {
    let cgroup = open_ours(&args.name, &layout_for(&args.name)?, "freeze")?;
    let explainer = explainer(&args.say);
    cgroup.freeze_as_step(&Ctx::new(&explainer, None))?;
    finished(args, &cgroup, "frozen")
}

/// `cgroupctl thaw`.
pub fn thaw(args: &Name) -> Outcome {
    let cgroup = Cgroup::open(&args.name, &layout_for(&args.name)?)?;
    let explainer = explainer(&args.say);
    cgroup.thaw_as_step(&Ctx::new(&explainer, None))?;
    finished(args, &cgroup, "thawed")
}

fn finished(args: &Name, cgroup: &Cgroup, what: &str) -> Outcome {
    let pids = cgroup.all_pids()?;
    let text = format!("{}: {what} ({})", args.name, count(pids.len()));
    done(&args.say, &json!({ "name": args.name, what: true, "pids": pids }), &text)?;
    Ok(0)
}

/// `cgroupctl kill`.
pub fn kill(args: &Name) -> Outcome {
    let cgroup = open_ours(&args.name, &layout_for(&args.name)?, "kill")?;
    let pids = cgroup.all_pids()?;
    let explainer = explainer(&args.say);
    cgroup.kill_as_step(Duration::from_secs(10), &Ctx::new(&explainer, None))?;
    let text = format!("{}: killed {}", args.name, count(pids.len()));
    done(&args.say, &json!({ "name": args.name, "killed": true, "pids": pids }), &text)?;
    Ok(0)
}

/// `cgroupctl delete`: what is gone already is fine.
pub fn delete(args: &Delete) -> Outcome {
    guard_name(&args.name, "delete")?;
    let cgroup = open_if_there(&args.name, &layout_for(&args.name)?)?;
    if let Some(cgroup) = &cgroup {
        let explainer = explainer(&args.say);
        cgroup.remove_as_step(args.recursive, &Ctx::new(&explainer, None))?;
    }
    removed(&args.name, cgroup.is_some(), &args.say)
}

/// `cgroupctl cleanup`: what is gone already is fine.
pub fn cleanup(args: &Cleanup) -> Outcome {
    guard_name(&args.name, "clean up")?;
    let timeout = seconds("--timeout", &args.timeout, 0.0, 3600.0)?;
    let cgroup = open_if_there(&args.name, &layout_for(&args.name)?)?;
    if let Some(cgroup) = &cgroup {
        guard_processes(cgroup, &args.name, "clean up")?;
        let explainer = explainer(&args.say);
        cgroup.clean_up(&Ctx::new(&explainer, None), timeout)?;
    }
    removed(&args.name, cgroup.is_some(), &args.say)
}

fn removed(name: &str, there: bool, say: &crate::args::Saying) -> Outcome {
    let report = json!({ "name": name, "removed": there });
    match there {
        true => done(say, &report, &format!("{name}: removed"))?,
        false if say.json => drydock_cli::print_json(&report)?,
        false => note(&format!("cgroup '{name}' is not there: nothing to remove")),
    }
    Ok(0)
}

fn open_if_there(name: &str, layout: &Layout) -> Result<Option<Cgroup>> {
    let dirs = layout.hierarchies().iter().filter(|h| h.name.is_none()).map(|h| h.place().join(name));
    let cgroup = Cgroup::at(dirs)?;
    Ok(cgroup.exists().then_some(cgroup))
}
