//! Cache and memory bandwidth: OCI's `linux.intelRdt`. Source: the kernel's Documentation/filesystems/resctrl.rst.
//!
//! The group is made and the process put into it by the parent: the file system is the host's.

use drydock_core::error::CallExt;
use drydock_core::journal::Object;
use drydock_core::{ContainerId, Ctx, Error, Explain, Result, Step, text};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// The file system's magic number (linux/magic.h RDTGROUP_SUPER_MAGIC).
const MAGIC: u64 = 0x0765_5821;
/// Where it is mounted unless the administrator chose another place.
const USUAL: &str = "/sys/fs/resctrl";

/// `linux.intelRdt`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Request {
    /// The group: `/` is the root's; absent, one of the container's own is made.
    #[serde(rename = "closID")]
    pub clos_id: Option<String>,
    /// `L3:0=7f0;1=1f`.
    pub l3_cache_schema: Option<String>,
    /// `MB:0=20;1=70`.
    pub mem_bw_schema: Option<String>,
    /// Lines of the group's `schemata` file.
    pub schemata: Option<Vec<String>>,
    /// Make a monitoring group of the container's name.
    pub enable_monitoring: bool,
}

impl Request {
    /// Checks the values and that the file system is there, and gives the steps for the container `id`.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] with the field; when no resctrl file system is mounted; for a `closID` without
    /// schemas that does not exist.
    pub fn validate(&self, id: &ContainerId) -> Result<Plan> {
        self.check()?;
        let root = root()
            .ok_or_else(|| Error::bad_input("intelRdt", "no resctrl file system is mounted here (allowed: without this)").hint(
                "needs a CPU with RDT, a kernel with CONFIG_X86_CPU_RESCTRL, and: mount -t resctrl resctrl /sys/fs/resctrl",
            ))?;
        self.plan(&root, id.as_str())
    }

    fn plan(&self, root: &Path, id: &str) -> Result<Plan> {
        let group = match self.clos_id.as_deref() {
            None => root.join(id),
            Some("/") => root.to_path_buf(),
            Some(name) => root.join(name),
        };
        let schemas = [&self.l3_cache_schema, &self.mem_bw_schema].into_iter().flatten();
        let lines: Vec<&str> = schemas.chain(self.schemata.iter().flatten()).map(String::as_str).collect();
        let exists = group.is_dir();
        if !exists && self.clos_id.is_some() && lines.is_empty() {
            let problem = format!(
                "{} does not exist (allowed: an existing group, or schemas for a new one)",
                group.display()
            );
            return Err(Error::bad_input("intelRdt.closID", problem));
        }
        let mut steps = Vec::new();
        if !exists {
            steps.push(RdtStep::Group { path: group.clone(), owned: self.clos_id.is_none() });
        }
        if !lines.is_empty() {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            // A group that others use is not changed under them.
            let path = group.join("schemata");
            steps.push(if exists && self.clos_id.is_some() {
                RdtStep::Compare { path, text }
            } else {
                RdtStep::Schemata { path, text }
            });
        }
        steps.push(RdtStep::Tasks(group.join("tasks")));
        if self.enable_monitoring {
            let path = group.join("mon_groups").join(id);
            steps.push(RdtStep::Group { path: path.clone(), owned: true });
            steps.push(RdtStep::Tasks(path.join("tasks")));
        }
        Ok(Plan { root: root.to_path_buf(), steps })
    }

    /// Checks the values, without touching anything.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] with the field.
    pub fn check(&self) -> Result<()> {
        if let Some(id) = &self.clos_id {
            let part = !id.is_empty() && !id.contains('/') && !id.starts_with('.') && id.len() < 256;
            let reserved = ["info", "mon_groups", "mon_data"].contains(&id.as_str());
            if id != "/" && (!part || reserved || id.chars().any(char::is_control)) {
                return refuse("closID", id, "/ or the name of one directory");
            }
        }
        let lines = |field: &str, text: &str, prefix: &str, allowed: &str| {
            let fits = text.starts_with(prefix) && !text.contains(['\n', '\0']) && !text.is_empty();
            if fits { Ok(()) } else { refuse(field, text, allowed) }
        };
        if let Some(schema) = &self.l3_cache_schema {
            lines("l3CacheSchema", schema, "", "one line such as L3:0=7f0;1=1f")?;
        }
        if let Some(schema) = &self.mem_bw_schema {
            lines("memBwSchema", schema, "MB:", "one line such as MB:0=20;1=70")?;
        }
        for schema in self.schemata.iter().flatten() {
            lines("schemata", schema, "", "lines of a resctrl schemata file, one each")?;
        }
        Ok(())
    }
}

/// One change of the resctrl file system.
#[derive(Clone, Debug, PartialEq, Eq)]
enum RdtStep {
    /// A new group.
    Group {
        /// Its directory.
        path: PathBuf,
        /// Removed with the container.
        owned: bool,
    },
    /// What the group may use.
    Schemata {
        /// The group's file.
        path: PathBuf,
        /// Its lines.
        text: String,
    },
    /// An existing group must have these.
    Compare {
        /// The group's file.
        path: PathBuf,
        /// The lines.
        text: String,
    },
    /// The process, and what it starts, belongs to the group.
    Tasks(PathBuf),
}

/// The steps for one container. Made by [`Request::validate`]; nothing has been touched yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    root: PathBuf,
    steps: Vec<RdtStep>,
}

impl Plan {
    /// The steps in words, in order.
    pub fn steps(&self) -> Vec<Step> {
        self.steps.iter().map(Explain::explain).collect()
    }

    /// Makes the group and puts the process into it. To be called by the parent, before the command is executed.
    ///
    /// # Errors
    /// [`drydock_core::Kind::Failed`] with the kernel's reason from `info/last_cmd_status`.
    pub fn apply(&self, ctx: &Ctx<'_>, pid: i32) -> Result<()> {
        self.steps.iter().try_for_each(|step| {
            ctx.perform(step, |step| act(step, pid)).map_err(|e| match last_status(&self.root) {
                Some(status) => e.hint(format!("the kernel says: {status}")),
                None => e,
            })
        })
    }
}

impl Explain for RdtStep {
    fn explain(&self) -> Step {
        let (call, why) = match self {
            RdtStep::Group { path, .. } => {
                (format!("mkdir({path:?}, 0755)"), "a group of processes that share cache and bandwidth")
            }
            RdtStep::Schemata { path, text } => {
                (format!("write({path:?}, {text:?})"), "how much cache and memory bandwidth the group has")
            }
            RdtStep::Compare { path, .. } => {
                (format!("read({path:?})"), "a group that exists already is used as it is")
            }
            RdtStep::Tasks(path) => {
                (format!("write({path:?}, container)"), "the container's processes belong to the group")
            }
        };
        Step {
            stage: "security".into(),
            call,
            why: Cow::Borrowed(why),
            man: Cow::Borrowed("Documentation/filesystems/resctrl.rst"),
            undo: None,
        }
    }

    fn leaves(&self) -> Option<Object> {
        match self {
            RdtStep::Group { path, owned: true } => Some(Object::ResctrlGroup { path: path.clone() }),
            _ => None,
        }
    }
}

fn act(step: &RdtStep, pid: i32) -> Result<()> {
    let write = |path: &Path, text: &str| {
        let file = std::fs::OpenOptions::new().write(true).open(path);
        let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
        written.call(|| format!("write({path:?}, {text:?})"))
    };
    match step {
        RdtStep::Group { path, .. } => match std::fs::create_dir(path) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
            other => other.call(|| format!("mkdir({path:?}, 0755)")).map_err(|e| match e.errno() {
                Some(nix::libc::ENOSPC) => {
                    e.hint("the hardware has no more groups: info/L3/num_closids, info/L3_MON/num_rmids")
                }
                _ => e,
            }),
        },
        RdtStep::Schemata { path, text } => write(path, text),
        RdtStep::Compare { path, text } => compare(path, text),
        RdtStep::Tasks(path) => write(path, &pid.to_string()),
    }
}

fn compare(path: &Path, wanted: &str) -> Result<()> {
    let mut text = String::new();
    let file = std::fs::File::open(path).and_then(|file| file.take(1 << 20).read_to_string(&mut text));
    file.call(|| format!("read({path:?})"))?;
    let (has, wants) = (values(&text), values(wanted));
    match wants.iter().find(|(key, value)| has.get(*key) != Some(*value)) {
        None => Ok(()),
        Some(((resource, domain), value)) => Err(Error::failed(
            "intelRdt.closID",
            format!("{} exists and has not {resource}:{domain}={value}", path.display()),
        )
        .hint("choose another closID, or leave the schemas out to use the group as it is")),
    }
}

/// `L3:0=7f0;1=1f` as (L3, 0) = 7f0 and so on; leading zeros, blanks and order mean nothing.
fn values(text: &str) -> BTreeMap<(String, String), String> {
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let Some((resource, domains)) = line.split_once(':') else { continue };
        for (domain, value) in domains.split(';').filter_map(|d| d.split_once('=')) {
            let plain = |word: &str| {
                let bare = word.trim().trim_start_matches('0').to_ascii_lowercase();
                if bare.is_empty() { "0".to_string() } else { bare }
            };
            found.insert((resource.trim().to_string(), plain(domain)), plain(value));
        }
    }
    found
}

/// Removes a group; one that is gone is no error.
///
/// # Errors
/// rmdir(2)'s.
pub fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_dir(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        other => other.call(|| format!("rmdir({path:?})")),
    }
}

/// Where the file system is mounted.
fn root() -> Option<PathBuf> {
    let is_it =
        |path: &str| rustix::fs::statfs(path).is_ok_and(|fs| u64::try_from(fs.f_type).ok() == Some(MAGIC));
    if is_it(USUAL) {
        return Some(USUAL.into());
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let line = mounts.lines().find(|line| line.contains(" - resctrl "))?;
    line.split(' ').nth(4).filter(|path| is_it(path)).map(PathBuf::from)
}

/// What the kernel thought of the last write.
fn last_status(root: &Path) -> Option<String> {
    let text = std::fs::read_to_string(root.join("info/last_cmd_status")).ok()?;
    let line = text.trim();
    (!line.is_empty() && line != "ok").then(|| text::shorten(&text::escape(line), 200))
}

fn refuse(field: &str, value: &str, allowed: &str) -> Result<()> {
    let shown = text::shorten(&text::escape(value), 60);
    Err(Error::bad_input(format!("intelRdt.{field}"), format!("'{shown}' does not fit (allowed: {allowed})")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_values_are_named() {
        let request = |field: &str, value: serde_json::Value| -> Request {
            serde_json::from_value(serde_json::json!({ field: value })).unwrap()
        };
        for (field, value) in [
            ("closID", "a/b".into()),
            ("closID", "..".into()),
            ("closID", "".into()),
            ("closID", "info".into()),
            ("l3CacheSchema", "L3:0=f\nMB:0=1".into()),
            ("memBwSchema", "L3:0=f".into()),
            ("schemata", serde_json::json!(["L3:0=f", "a\nb"])),
        ] {
            let error = request(field, value).check().unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().starts_with(&format!("intelRdt.{field}: ")), "{error}");
        }
        if root().is_none() {
            let id = ContainerId::parse("c").unwrap();
            let error = request("l3CacheSchema", "L3:0=f".into()).validate(&id).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains("resctrl"), "{error}");
        }
    }

    /// Directories stand for groups: what is written where, and what is left for the kernel.
    #[test]
    fn groups_are_made_compared_and_removed() {
        let root = std::env::temp_dir().join(format!("drydock-rdt-{}", std::process::id()));
        let group = |name: &str, schemata: &str| {
            std::fs::create_dir_all(root.join(name)).unwrap();
            std::fs::write(root.join(name).join("schemata"), schemata).unwrap();
            std::fs::write(root.join(name).join("tasks"), "").unwrap();
        };
        let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
        group("gold", "    L3:0=00f;1=0ff\n    MB:0= 20;1= 70\n");
        let gold = Request { clos_id: Some("gold".into()), ..Request::default() };
        let silver = Request { clos_id: Some("silver".into()), ..Request::default() };
        assert!(silver.plan(&root, "c").unwrap_err().to_string().contains("does not exist"));
        gold.plan(&root, "c").unwrap().apply(&Ctx::silent(), 7).unwrap();
        assert_eq!(read("gold/tasks"), "7");
        let same = Request {
            l3_cache_schema: Some("L3:1=ff".into()),
            mem_bw_schema: Some("MB:0=20".into()),
            ..gold.clone()
        };
        same.plan(&root, "c").unwrap().apply(&Ctx::silent(), 8).unwrap();
        let other = Request { l3_cache_schema: Some("L3:1=f".into()), ..gold };
        assert!(other.plan(&root, "c").unwrap().apply(&Ctx::silent(), 9).is_err());
        assert_eq!(read("gold/tasks"), "8");
        assert!(read("gold/schemata").contains("00f"), "an existing group is not changed");
        // Its own: made, written in the order that the specification names, removed.
        let own = Request {
            schemata: Some(vec!["L2:0=3".into()]),
            l3_cache_schema: Some("L3:0=f".into()),
            mem_bw_schema: Some("MB:0=10".into()),
            enable_monitoring: true,
            ..Request::default()
        };
        let plan = own.plan(&root, "c").unwrap();
        let left: Vec<_> = plan.steps.iter().filter_map(Explain::leaves).collect();
        let groups = ["c", "c/mon_groups/c"].map(|path| Object::ResctrlGroup { path: root.join(path) });
        assert_eq!(left, groups);
        assert!(plan.steps()[1].call.contains(r"L3:0=f\nMB:0=10\nL2:0=3\n"), "{:?}", plan.steps());
        std::fs::create_dir(root.join("x")).unwrap();
        remove(&root.join("x")).unwrap();
        remove(&root.join("x")).unwrap();
        std::fs::remove_dir_all(&root).unwrap();
    }
}
