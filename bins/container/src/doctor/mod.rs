//! `container doctor`: finds out what this machine can do, by doing it where nobody is affected.
//!
//! Each [`Probe`] runs in a child process of its own ([`child`]), bounded in time, mostly in new namespaces; what it
//! makes dies with it. [`place`] gives it a private file tree, [`causes`] knows why the kernel refuses, [`config`] reads
//! the kernel's configuration as further evidence, [`text`] shows the result to people. The other modules are the probes.

/// One probe, without its fields' names.
macro_rules! probe {
    ($group:expr, $id:expr, $what:expr, $lost:expr, $fix:expr, $options:expr, $need:ident, $test:expr) => {
        Probe {
            id: $id,
            group: $group,
            what: $what,
            lost: $lost,
            fix: $fix,
            options: $options,
            need: Need::$need,
            test: $test,
        }
    };
}

mod causes;
mod cgroups;
mod child;
mod clone;
mod config;
mod files;
mod kernel;
mod mounts;
mod namespaces;
mod network;
mod place;
mod security;
pub mod text;
mod tools;
mod users;

use drydock_core::{Error, Result};
use place::Facts;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long one probe may take.
const TIME: Duration = Duration::from_secs(2);

/// How a probe went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It works.
    Ok,
    /// It works in part, or in an older way.
    Degraded,
    /// It does not work.
    Missing,
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Finding {
    status: Status,
    /// What was seen: a value, or the failed call with its errno.
    detail: String,
    /// A remedy that fits what was seen better than the probe's own.
    fix: Option<String>,
}

impl Finding {
    fn ok(detail: impl Into<String>) -> Result<Self> {
        Ok(Self { status: Status::Ok, detail: detail.into(), fix: None })
    }

    fn degraded(detail: impl Into<String>) -> Result<Self> {
        Ok(Self { status: Status::Degraded, detail: detail.into(), fix: None })
    }

    fn missing(detail: impl Into<String>) -> Result<Self> {
        Ok(Self { status: Status::Missing, detail: detail.into(), fix: None })
    }

    fn with_fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// A failed call is a finding too.
    fn of(result: Result<Finding>) -> Self {
        result.unwrap_or_else(|e| Self {
            status: Status::Missing,
            detail: e.sentence(),
            fix: causes::refused(&e).or_else(|| e.remedy().map(str::to_string)),
        })
    }
}

/// For whom a plain `container run` cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// Everybody.
    All,
    /// Root, whose containers have no user namespace by default.
    Root,
    /// Everybody else, whose containers are in a user namespace.
    User,
    /// Nobody: an option or another command needs it.
    None,
}

/// One thing to find out.
struct Probe {
    id: &'static str,
    group: &'static str,
    /// What is probed, in a few words.
    what: &'static str,
    /// Which of our commands and options do not work without it.
    lost: &'static str,
    /// What helps.
    fix: &'static str,
    /// Kernel options behind it.
    options: &'static [&'static str],
    need: Need,
    test: fn(&Facts) -> Result<Finding>,
}

/// One result.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// Stable name.
    pub id: &'static str,
    /// Heading under which it stands.
    pub group: &'static str,
    /// What was probed.
    pub what: &'static str,
    /// How it went.
    pub status: Status,
    /// What was seen: a value, or the failed call with its errno.
    pub detail: String,
    /// What is lost, unless all is well.
    pub lost: Option<&'static str>,
    /// What helps, unless all is well.
    pub fix: Option<String>,
    /// What the kernel's configuration says, unless all is well.
    pub evidence: Option<String>,
    /// A plain `container run` cannot do without.
    pub needed: bool,
}

/// All results.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether a plain `container run` works here for this user.
    pub works: bool,
    /// The same as a sentence.
    pub summary: String,
    /// For whom: `root` or `rootless`.
    pub mode: &'static str,
    /// The kernel's release.
    pub kernel: String,
    /// The machine's architecture.
    pub architecture: String,
    /// How long it took.
    pub milliseconds: u64,
    /// One entry a probe.
    pub probes: Vec<Line>,
}

/// Probes everything. `root`: `--root` as given.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] for a relative `--root`, DRYDOCK_ROOT or DRYDOCK_DATA.
pub fn examine(root: Option<&Path>) -> Result<Report> {
    let started = Instant::now();
    let facts = Facts::gather(root)?;
    let config = config::Config::read();
    let groups = [
        kernel::PROBES,
        clone::PROBES,
        namespaces::PROBES,
        users::PROBES,
        mounts::PROBES,
        files::PROBES,
        cgroups::PROBES,
        network::PROBES,
        security::PROBES,
        tools::PROBES,
    ];
    let probes: Vec<Line> = groups.into_iter().flatten().map(|probe| line(probe, &facts, &config)).collect();
    let uname = rustix::system::uname();
    let works = !probes.iter().any(|line| line.needed && line.status == Status::Missing);
    Ok(Report {
        works,
        summary: summary(&probes, facts.root),
        mode: if facts.root { "root" } else { "rootless" },
        kernel: uname.release().to_string_lossy().into_owned(),
        architecture: uname.machine().to_string_lossy().into_owned(),
        milliseconds: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        probes,
    })
}

fn line(probe: &Probe, facts: &Facts, config: &config::Config) -> Line {
    let found = Finding::of(child::run(0, TIME, || (probe.test)(facts)).map_err(unprobed));
    let well = found.status == Status::Ok;
    Line {
        id: probe.id,
        group: probe.group,
        what: probe.what,
        status: found.status,
        detail: found.detail,
        lost: (!well).then_some(probe.lost),
        fix: (!well).then(|| found.fix.unwrap_or_else(|| probe.fix.to_string())),
        evidence: if well { None } else { config.evidence(probe.options) },
        needed: match probe.need {
            Need::All => true,
            Need::Root => facts.root,
            Need::User => !facts.root,
            Need::None => false,
        },
    }
}

fn unprobed(e: Error) -> Error {
    if e.failed_call().is_some_and(|call| call.starts_with(child::CALL)) {
        return e.on("cannot be probed: no process can be made");
    }
    e
}

fn summary(lines: &[Line], root: bool) -> String {
    let bad: Vec<&Line> = lines.iter().filter(|l| l.needed && l.status == Status::Missing).collect();
    let less = lines.iter().filter(|l| l.status != Status::Ok && !bad.iter().any(|b| b.id == l.id)).count();
    let whom = if root { "" } else { " without root" };
    if bad.is_empty() {
        return match less {
            0 => format!("container run works here{whom}, with everything"),
            1 => format!("container run works here{whom}; 1 other thing does not, or not fully"),
            n => format!("container run works here{whom}; {n} other things do not, or not fully"),
        };
    }
    let names: Vec<&str> = bad.iter().take(5).map(|l| l.what).collect();
    let more = if bad.len() > names.len() {
        format!(" and {} more", bad.len() - names.len())
    } else {
        String::new()
    };
    format!("container run cannot work here{whom}: {}{more}", names.join(", "))
}
