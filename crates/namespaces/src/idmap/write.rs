//! Writing the maps of a process from outside, directly or through the set-uid helpers.

use super::{IdMap, validate};
use drydock_core::error::CallExt;
use drydock_core::{Ctx, Error, Explain, Result, Step};
use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// What setgroups(2) may do in the namespace (/proc/PID/setgroups).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Setgroups {
    /// Allowed, if the gid map is written with CAP_SETGID.
    Allow,
    /// Denied, so that a group that takes rights away cannot be dropped (CVE-2014-8989).
    Deny,
}

/// Which maps to write for which process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// User ids.
    pub uid: Vec<IdMap>,
    /// Group ids.
    pub gid: Vec<IdMap>,
    /// What setgroups(2) may do. `None`: denied when the gid map has a single id, else left as it is.
    pub setgroups: Option<Setgroups>,
}

impl Request {
    /// Checks both maps.
    ///
    /// # Errors
    /// As [`validate`]; setgroups allowed for an unprivileged single-id gid map.
    pub fn validate(&self) -> Result<()> {
        validate("uid map", &self.uid)?;
        validate("gid map", &self.gid)?;
        if self.setgroups == Some(Setgroups::Allow) && !self.gid.is_empty() && !privileged() {
            let own = is_own(&self.gid, nix::unistd::getegid().as_raw());
            if own {
                return Err(Error::bad_input(
                    "setgroups",
                    "cannot be allowed for a gid map that an unprivileged user writes",
                )
                .hint("map a range of /etc/subgid, or leave setgroups denied; user_namespaces(7)"));
            }
        }
        Ok(())
    }

    /// The steps for process `pid`, which is in the new user namespace and has written no map.
    ///
    /// # Errors
    /// As [`Request::validate`]; when a helper is needed and missing, or /etc/subuid does not grant the range.
    pub fn plan(&self, pid: i32) -> Result<Plan> {
        self.validate()?;
        let privileged = privileged();
        let single = matches!(self.gid.as_slice(), [line] if line.count == 1);
        let setgroups = self.setgroups.or(single.then_some(Setgroups::Deny));
        let mut steps = Vec::new();
        if setgroups == Some(Setgroups::Deny) {
            steps.push(MapStep::Setgroups { pid });
        }
        steps.extend(map_step(pid, Ids::User, &self.uid, privileged)?);
        steps.extend(map_step(pid, Ids::Group, &self.gid, privileged)?);
        Ok(Plan { steps })
    }
}

/// The steps of writing maps.
#[derive(Clone, Debug)]
pub struct Plan {
    steps: Vec<MapStep>,
}

impl Plan {
    /// What will be done, in order.
    pub fn steps(&self) -> &[MapStep] {
        &self.steps
    }

    /// Writes the maps.
    ///
    /// # Errors
    /// The kernel's or the helper's, with the reason where it is known.
    pub fn apply(&self, ctx: &Ctx<'_>) -> Result<()> {
        self.steps.iter().try_for_each(|step| ctx.perform(step, MapStep::act))
    }
}

/// Writes the maps of process `pid` from outside: straight into /proc where that is allowed, else through
/// newuidmap/newgidmap, which grant what /etc/subuid and /etc/subgid list. An empty map is not written.
///
/// The process must be dumpable (prctl(2)), or an unprivileged parent may not open its files.
///
/// # Errors
/// As [`Request::plan`] and [`Plan::apply`].
pub fn write_maps(pid: i32, uid: &[IdMap], gid: &[IdMap], ctx: &Ctx<'_>) -> Result<()> {
    Request { uid: uid.to_vec(), gid: gid.to_vec(), setgroups: None }.plan(pid)?.apply(ctx)
}

/// User or group ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ids {
    /// uid_map, /etc/subuid, newuidmap.
    User,
    /// gid_map, /etc/subgid, newgidmap.
    Group,
}

impl Ids {
    /// The file's name under /proc/PID.
    pub const fn map_file(self) -> &'static str {
        match self {
            Ids::User => "uid_map",
            Ids::Group => "gid_map",
        }
    }

    const fn helper(self) -> &'static str {
        match self {
            Ids::User => "newuidmap",
            Ids::Group => "newgidmap",
        }
    }

    /// The file that grants ranges.
    pub const fn grants(self) -> &'static str {
        match self {
            Ids::User => "/etc/subuid",
            Ids::Group => "/etc/subgid",
        }
    }

    fn own(self) -> u32 {
        match self {
            Ids::User => nix::unistd::geteuid().as_raw(),
            Ids::Group => nix::unistd::getegid().as_raw(),
        }
    }
}

/// One step of writing maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapStep {
    /// `deny` into /proc/PID/setgroups.
    Setgroups {
        /// The process.
        pid: i32,
    },
    /// Lines into /proc/PID/uid_map or gid_map.
    Write {
        /// The process.
        pid: i32,
        /// Which map.
        ids: Ids,
        /// The lines.
        map: Vec<IdMap>,
    },
    /// The set-uid helper writes them.
    Helper {
        /// The process.
        pid: i32,
        /// Which map.
        ids: Ids,
        /// The helper's absolute path.
        program: PathBuf,
        /// The lines.
        map: Vec<IdMap>,
    },
}

impl MapStep {
    fn act(&self) -> Result<()> {
        match self {
            MapStep::Setgroups { pid } => write_file(&format!("/proc/{pid}/setgroups"), "deny"),
            MapStep::Write { pid, ids, map } => {
                let path = format!("/proc/{pid}/{}", ids.map_file());
                write_file(&path, &lines(map, '\n')).map_err(|e| explain_map(e, *ids, map))
            }
            MapStep::Helper { pid, ids, program, map } => run_helper(*pid, *ids, program, map),
        }
    }
}

impl Explain for MapStep {
    fn explain(&self) -> Step {
        let (call, why) = match self {
            MapStep::Setgroups { pid } => (
                format!("write(\"/proc/{pid}/setgroups\", \"deny\")"),
                "a single-id gid map needs it: dropping a group must not give access",
            ),
            MapStep::Write { pid, ids, map } => (
                format!("write(\"/proc/{pid}/{}\", {:?})", ids.map_file(), lines(map, '\n')),
                "which ids inside are which outside; written by the parent, which has ids on both sides",
            ),
            MapStep::Helper { pid, ids, program, map } => (
                format!("execve({program:?}, [\"{}\", \"{pid}\", \"{}\"])", ids.helper(), lines(map, ' ')),
                "the set-uid helper may map the ranges that are granted to us",
            ),
        };
        let man = if matches!(self, MapStep::Helper { .. }) { "newuidmap(1)" } else { "user_namespaces(7)" };
        Step { stage: "user".into(), call, why: why.into(), man: man.into(), undo: None }
    }
}

fn map_step(pid: i32, ids: Ids, map: &[IdMap], privileged: bool) -> Result<Option<MapStep>> {
    if map.is_empty() {
        return Ok(None);
    }
    let map = map.to_vec();
    if privileged || is_own(&map, ids.own()) {
        return Ok(Some(MapStep::Write { pid, ids, map }));
    }
    crate::subid::check_granted(ids, &map)?;
    let program = find_helper(ids)?;
    Ok(Some(MapStep::Helper { pid, ids, program, map }))
}

/// Whether the map is the one that anybody may write: the own id alone.
fn is_own(map: &[IdMap], own: u32) -> bool {
    matches!(map, [line] if line.count == 1 && line.outside == own)
}

/// Whether we may write any map: CAP_SETUID and CAP_SETGID in our own user namespace.
pub fn privileged() -> bool {
    use rustix::thread::CapabilitySet;
    let needed = CapabilitySet::SETUID | CapabilitySet::SETGID;
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(needed))
}

/// Whether the set-uid helper that maps ranges for an ordinary user is installed.
pub fn has_helper(ids: Ids) -> bool {
    find_helper(ids).is_ok()
}

fn find_helper(ids: Ids) -> Result<PathBuf> {
    // Absolute places only: a set-uid program is never looked up by PATH.
    let places = ["/usr/bin", "/bin", "/usr/local/bin", "/run/wrappers/bin"];
    let found = places.iter().map(|dir| Path::new(dir).join(ids.helper())).find(|path| path.is_file());
    found.ok_or_else(|| {
        Error::failed(
            ids.helper(),
            "not installed, and an unprivileged user cannot map a range of ids without it",
        )
        .hint("install the package uidmap (Debian) or shadow-utils (Fedora), or map only your own id")
    })
}

fn lines(map: &[IdMap], separator: char) -> String {
    let mut text = String::new();
    for line in map {
        if !text.is_empty() {
            text.push(separator);
        }
        // Writing to a String cannot fail.
        let _ = write!(text, "{} {} {}", line.inside, line.outside, line.count);
    }
    text
}

/// One write(2): the kernel takes a map in one piece or not at all.
fn write_file(path: &str, text: &str) -> Result<()> {
    use std::io::Write;
    let mut file =
        std::fs::OpenOptions::new().write(true).open(path).call(|| format!("open({path:?}, O_WRONLY)"))?;
    let written = file.write(text.as_bytes()).call(|| format!("write({path:?}, {text:?})"))?;
    if written == text.len() { Ok(()) } else { Err(Error::failed(path, "short write")) }
}

fn explain_map(error: Error, ids: Ids, map: &[IdMap]) -> Error {
    match error.errno().map(Errno::from_raw) {
        Some(Errno::EPERM) if crate::refusal::within_user_namespace().is_some() && !privileged() => {
            match crate::refusal::within_user_namespace() {
                Some(found) => error.because(found.because).hint(found.fix),
                None => error,
            }
        }
        Some(Errno::EPERM) if map.iter().any(|l| l.outside == 0) && ids == Ids::User => error.hint(
            "mapping user 0 of the parent needs CAP_SETFCAP there (Linux 5.12), and an id outside must itself be mapped in the parent",
        ),
        Some(Errno::EPERM) => error.because(format!("{} is not allowed", super::words(map))).hint(
            "each id outside must be mapped in the parent namespace, and a map of more than the own id needs CAP_SETUID and CAP_SETGID there",
        ),
        Some(Errno::EINVAL) => error.hint("the lines overlap or are too many"),
        _ => error,
    }
}

fn run_helper(pid: i32, ids: Ids, program: &Path, map: &[IdMap]) -> Result<()> {
    let mut command = std::process::Command::new(program);
    command.env_clear().arg(pid.to_string()).stdin(std::process::Stdio::null());
    for line in map {
        command.args([line.inside, line.outside, line.count].map(|n| n.to_string()));
    }
    let output = command.output().call(|| format!("execve({program:?})"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = drydock_core::text::shorten(&drydock_core::text::escape(said.trim()), 300);
    let name = program.file_name().unwrap_or(OsStr::new("newuidmap")).to_string_lossy().into_owned();
    Err(Error::failed(name, format!("refused: {said}")).hint(format!(
        "the ranges must be in {}, and {} must be set-uid root",
        ids.grants(),
        ids.helper()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_gid_denies_setgroups_first() {
        let own = [IdMap::new(0, nix::unistd::getegid().as_raw(), 1)];
        let uid = [IdMap::new(0, nix::unistd::geteuid().as_raw(), 1)];
        let request = Request { uid: uid.to_vec(), gid: own.to_vec(), setgroups: None };
        let plan = request.plan(7).unwrap();
        assert!(matches!(
            plan.steps(),
            [MapStep::Setgroups { pid: 7 }, MapStep::Write { .. }, MapStep::Write { .. }]
        ));
    }
}
