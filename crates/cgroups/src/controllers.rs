//! Which controllers a cgroup has, and which it hands on to those below. Source: cgroups(7).

use crate::files;
use crate::group::Cgroup;
use crate::grow::{explain_enable, make_leaf};
use crate::layout::{Layout, Version};
use crate::step::Act;
use drydock_core::{Ctx, Error, Result};
use nix::errno::Errno;
use serde::Serialize;
use std::path::PathBuf;

/// One controller, as one cgroup has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Controller {
    /// The kernel's name: `memory`, `blkio` on v1.
    pub name: String,
    /// Whose hierarchy it is in.
    pub version: Version,
    /// Whether the cgroup has its files.
    pub available: bool,
    /// Whether cgroups below will have its files; on v1 always.
    pub for_children: bool,
    /// The cgroup's directory in that hierarchy.
    pub dir: PathBuf,
}

impl Layout {
    /// All controllers, as the cgroup of this name has them; without one the place where names begin.
    pub fn controllers_of(&self, name: Option<&str>) -> Vec<Controller> {
        let mut all = Vec::new();
        for hierarchy in self.hierarchies().iter().filter(|h| h.name.is_none()) {
            let dir = name.map_or_else(|| hierarchy.place().to_path_buf(), |n| hierarchy.place().join(n));
            let words = |file: &str| {
                let text = files::read_if_there(&dir.join(file)).unwrap_or_default();
                text.split_whitespace().map(String::from).collect::<Vec<_>>()
            };
            let v2 = hierarchy.version == Version::V2;
            let (here, below) = (words("cgroup.controllers"), words("cgroup.subtree_control"));
            let there = dir.is_dir();
            all.extend(hierarchy.controllers.iter().map(|c| Controller {
                name: c.clone(),
                version: hierarchy.version,
                available: if v2 { here.contains(c) } else { there },
                for_children: if v2 { below.contains(c) } else { there },
                dir: dir.clone(),
            }));
        }
        all
    }
}

impl Cgroup {
    /// v2: has cgroups below this one have these controllers, or no longer have them. `make_leaf`: processes that stand in
    /// the way are moved into a child `leaf`.
    ///
    /// # Errors
    /// EBUSY, naming the processes in the way or the cgroups below that use it; ENOENT for what is not available here.
    pub fn hand_on(&self, controllers: &[String], on: bool, leaf: bool, ctx: &Ctx<'_>) -> Result<()> {
        let Some(dir) = self.entries().iter().find(|d| d.v2).map(|d| d.path.clone()) else {
            return Ok(());
        };
        let path = dir.join("cgroup.subtree_control");
        let sign = if on { '+' } else { '-' };
        let value: Vec<String> = controllers.iter().map(|c| format!("{sign}{c}")).collect();
        let act = if on {
            Act::Enable {
                dir: dir.clone(),
                controllers: controllers.to_vec(),
                required: controllers.to_vec(),
            }
        } else {
            Act::Disable { dir: dir.clone(), controllers: controllers.to_vec() }
        };
        let write = || ctx.perform(&act, |_| files::write(&path, &value.join(" ")));
        match write() {
            Err(e) if on && leaf && e.errno() == Some(Errno::EBUSY as i32) => {
                ctx.perform(&Act::Leaf { dir: dir.clone() }, |_| make_leaf(&dir))?;
                write().map_err(|e| explain_enable(e, &dir))
            }
            Err(e) if on => Err(explain_enable(e, &dir)),
            Err(e) => Err(explain_disable(e)),
            Ok(()) => Ok(()),
        }
    }
}

fn explain_disable(error: Error) -> Error {
    match error.errno().map(Errno::from_raw) {
        Some(Errno::EBUSY) => {
            error.because("a cgroup below hands the controller on itself").hint("disable it there first")
        }
        _ => error,
    }
}
