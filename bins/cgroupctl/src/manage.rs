//! add, move, freeze, thaw, kill, delete, cleanup.

use crate::args::{Add, Cleanup, Delete, Move, Name};
use crate::names::{guard_name, open_ours, pid, seconds};
use drydock_cgroups::{Cgroup, Layout, check_name};
use drydock_cli::{Explainer, Outcome, print_json};
use drydock_core::text::escape;
use drydock_core::{Ctx, Error, Result};
use nix::errno::Errno;
use serde_json::json;

/// `cgroupctl add`.
pub fn add(args: &Add) -> Outcome {
    check_name(&args.name)?;
    let pids = args.pids.iter().map(|p| pid(p)).collect::<Result<Vec<i32>>>()?;
    let cgroup = Cgroup::open(&args.name, &Layout::detect()?)?;
    for pid in &pids {
        if !std::path::Path::new(&format!("/proc/{pid}")).exists() {
            return Err(Error::failed(format!("process {pid}"), "no such process").in_stage("cgroup").into());
        }
    }
    pids.iter().try_for_each(|pid| cgroup.add(*pid))?;
    if args.json {
        print_json(&json!({ "name": args.name, "added": pids }))?;
    }
    Ok(0)
}

/// `cgroupctl move`.
pub fn move_all(args: &Move) -> Outcome {
    check_name(&args.from)?;
    check_name(&args.to)?;
    let layout = Layout::detect()?;
    let from = Cgroup::open(&args.from, &layout)?;
    let to = Cgroup::open(&args.to, &layout)?;
    let mut moved = std::collections::BTreeSet::new();
    // Processes may fork while they are moved; children are born where their parents are.
    for _ in 0..100 {
        let pids = from.pids()?;
        if pids.is_empty() {
            if args.json {
                print_json(&json!({ "from": args.from, "to": args.to, "moved": moved }))?;
            }
            return Ok(0);
        }
        for pid in pids {
            match to.add(pid) {
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

/// `cgroupctl freeze`.
pub fn freeze(args: &Name) -> Outcome {
    open_ours(&args.name, &Layout::detect()?, "freeze")?.freeze()?;
    done(args, "frozen")
}

/// `cgroupctl thaw`.
pub fn thaw(args: &Name) -> Outcome {
    Cgroup::open(&args.name, &Layout::detect()?)?.thaw()?;
    done(args, "thawed")
}

/// `cgroupctl kill`.
pub fn kill(args: &Name) -> Outcome {
    open_ours(&args.name, &Layout::detect()?, "kill")?.kill()?;
    done(args, "killed")
}

fn done(args: &Name, what: &str) -> Outcome {
    if args.json {
        print_json(&json!({ "name": args.name, what: true }))?;
    }
    Ok(0)
}

/// `cgroupctl delete`: what is gone already is fine.
pub fn delete(args: &Delete) -> Outcome {
    guard_name(&args.name, "delete")?;
    let layout = Layout::detect()?;
    let cgroup = open_if_there(&args.name, &layout)?;
    match &cgroup {
        Some(cgroup) if args.recursive => cgroup.remove_tree_if_empty()?,
        Some(cgroup) => cgroup.remove_if_empty()?,
        None => {}
    }
    if args.json {
        print_json(&json!({ "name": args.name, "removed": cgroup.is_some() }))?;
    }
    Ok(0)
}

/// `cgroupctl cleanup`: what is gone already is fine.
pub fn cleanup(args: &Cleanup) -> Outcome {
    guard_name(&args.name, "clean up")?;
    let timeout = seconds("--timeout", &args.timeout, 0.0, 3600.0)?;
    let layout = Layout::detect()?;
    let cgroup = open_if_there(&args.name, &layout)?;
    if let Some(cgroup) = &cgroup {
        crate::names::guard_processes(cgroup, &args.name, "clean up")?;
        cgroup.clean_up(&Ctx::new(&Explainer { on: args.explain }, None), timeout)?;
    }
    if args.json {
        print_json(&json!({ "name": args.name, "removed": cgroup.is_some() }))?;
    }
    Ok(0)
}

fn open_if_there(name: &str, layout: &Layout) -> Result<Option<Cgroup>> {
    let dirs = layout.hierarchies().iter().filter(|h| h.name.is_none()).map(|h| h.place().join(name));
    let cgroup = Cgroup::at(dirs)?;
    Ok(cgroup.exists().then_some(cgroup))
}
