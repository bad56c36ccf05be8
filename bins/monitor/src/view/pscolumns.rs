//! The columns of `monitor ps -o`: ps(1)'s, and what container engines show of a process's privileges.

use crate::Session;
use crate::model::inspect::label;
use crate::model::processes::Row;
use crate::model::users;
use crate::procfs::idmap;
use crate::procfs::status::{self, Status};
use drydock_core::size::show;
use drydock_core::text::{escape, shorten};
use drydock_core::{Error, Result};
use drydock_security::capset::CapSet;

/// A process with what the columns need.
#[derive(Debug)]
pub struct Shown<'a> {
    session: &'a Session,
    row: &'a Row,
    status: Status,
}

/// One column: its names, the first being the heading in lower case; what it is; and its text.
#[derive(Clone, Copy)]
pub struct Column {
    names: &'static [&'static str],
    about: &'static str,
    value: fn(&Shown<'_>) -> String,
}

impl std::fmt::Debug for Column {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

const fn column(
    names: &'static [&'static str],
    about: &'static str,
    value: fn(&Shown<'_>) -> String,
) -> Column {
    Column { names, about, value }
}

const COLUMNS: [Column; 26] = [
    column(&["pid", "hpid"], "as we see it", |p| p.row.pid.to_string()),
    column(&["inside", "nspid"], "in its own pid namespace", |p| super::or_dash(p.row.inside_pid)),
    column(&["ppid"], "its parent", |p| p.row.ppid.to_string()),
    column(&["uid"], "user id as we see it", |p| super::or_dash(p.row.uid)),
    column(&["user"], "user id inside its user namespace", |p| p.inside("uid_map", p.row.uid)),
    column(&["huser"], "user as we see it", |p| p.row.uid.map_or("-".to_string(), name)),
    column(&["group"], "group id inside its user namespace", |p| p.inside("gid_map", p.status.gid)),
    column(&["hgroup", "gid"], "group id as we see it", |p| super::or_dash(p.status.gid)),
    column(&["stat", "state"], "R runs, S sleeps, D cannot be disturbed, Z has ended, T is stopped", |p| {
        p.row.state.to_string()
    }),
    column(&["%cpu", "pcpu", "cpu"], "over its life", |p| format!("{:.1}", p.row.cpu_percent)),
    column(&["%mem", "pmem", "mem"], "of the machine", |p| format!("{:.1}", p.row.memory_percent)),
    column(&["rss"], "resident memory", |p| show(p.row.rss_bytes)),
    column(&["time"], "processor time", |p| format!("{:.1}s", p.row.cpu_seconds)),
    column(&["threads", "nlwp"], "threads", |p| p.row.threads.to_string()),
    column(&["capeff"], "effective capabilities", |p| caps(p.status.cap_effective)),
    column(&["capprm"], "permitted", |p| caps(p.status.cap_permitted)),
    column(&["capinh"], "inheritable", |p| caps(p.status.cap_inheritable)),
    column(&["capbnd"], "bounding", |p| caps(p.status.cap_bounding)),
    column(&["capamb"], "ambient", |p| caps(p.status.cap_ambient)),
    column(&["seccomp"], "disabled, strict or filter", |p| {
        match p.status.seccomp {
            Some(0) => "disabled",
            Some(1) => "strict",
            Some(2) => "filter",
            _ => "-",
        }
        .to_string()
    }),
    column(&["filters"], "number of seccomp filters", |p| super::or_dash(p.status.seccomp_filters)),
    column(&["nnp"], "no_new_privs", |p| {
        p.status.no_new_privs.map_or("-", |on| if on { "yes" } else { "no" }).to_string()
    }),
    column(&["label"], "of AppArmor or SELinux", |p| super::or_dash(label(&p.session.proc, p.row.pid))),
    column(&["ns"], "types of namespaces that begin with it", |p| {
        if p.row.new_namespaces.is_empty() { "-".to_string() } else { p.row.new_namespaces.join(",") }
    }),
    column(&["comm"], "its short name", |p| escape(&p.row.comm)),
    column(&["command", "args", "cmd"], "its command line", |p| p.row.command.clone()),
];

/// What is shown when nothing was asked.
const USUAL: &str = "pid,inside,ppid,uid,stat,%cpu,%mem,rss,time,command";

impl Column {
    /// Its name in lower case.
    pub fn name(&self) -> &'static str {
        self.names.first().copied().unwrap_or_default()
    }

    /// Its text for a process.
    pub fn text(&self, shown: &Shown<'_>) -> String {
        (self.value)(shown)
    }

    /// The columns of a list; `+LIST` adds to the usual ones.
    ///
    /// # Errors
    /// Bad input for a name that is none.
    pub fn list(text: Option<&str>) -> Result<Vec<Column>> {
        let (usual, asked) = match text {
            None => (USUAL, ""),
            Some(text) => text.strip_prefix('+').map_or(("", text), |more| (USUAL, more)),
        };
        let words = usual
            .split(',')
            .filter(|w| !w.is_empty())
            .chain(text.map(|_| asked.split(',')).into_iter().flatten());
        words.map(|word| named(word.trim())).collect()
    }

    /// All of them, for `--help`.
    pub fn help() -> String {
        let line = |c: &Column| format!("  {:<9} {}", c.name(), c.about);
        COLUMNS.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

fn named(word: &str) -> Result<Column> {
    let lower = word.to_ascii_lowercase();
    COLUMNS.iter().find(|c| c.names.contains(&lower.as_str())).copied().ok_or_else(|| {
        let shown = shorten(&escape(word), 40);
        let all: Vec<&str> = COLUMNS.iter().map(Column::name).collect();
        Error::bad_input("--output", format!("unknown column '{shown}' (allowed: {})", all.join(", ")))
    })
}

impl<'a> Shown<'a> {
    /// Reads what the row does not have; of one that has ended meanwhile it is missing.
    pub fn new(session: &'a Session, row: &'a Row) -> Self {
        let text = session.proc.text(&format!("{}/status", row.pid)).unwrap_or_default();
        Self { session, row, status: status::parse(&text) }
    }

    /// An id as its own user namespace has it.
    fn inside(&self, map: &str, id: Option<u32>) -> String {
        let text = self.session.proc.text(&format!("{}/{map}", self.row.pid)).unwrap_or_default();
        let within = |id: u32| {
            idmap::parse(&text).into_iter().find_map(|extent| {
                let offset = id.checked_sub(extent.outside).filter(|n| *n < extent.count)?;
                extent.inside.checked_add(offset)
            })
        };
        super::or_dash(id.and_then(within))
    }
}

fn name(uid: u32) -> String {
    users::name(uid).unwrap_or_else(|| uid.to_string())
}

/// `full`, `none`, or the names without `CAP_`.
fn caps(mask: Option<u64>) -> String {
    let Some(mask) = mask else { return "-".to_string() };
    let names = CapSet(mask).names();
    if names.is_empty() {
        return "none".to_string();
    }
    if names.len() == CapSet::all().names().len() {
        return "full".to_string();
    }
    let short: Vec<&str> = names.iter().map(|n| n.strip_prefix("CAP_").unwrap_or(n)).collect();
    short.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let names = |text: Option<&str>| -> Vec<&str> {
            Column::list(text).unwrap().iter().map(Column::name).collect()
        };
        assert_eq!(names(None).len(), 10);
        assert_eq!(names(Some("HPID,args")), ["pid", "command"]);
        assert_eq!(names(Some("+capeff")).last(), Some(&"capeff"));
        for bad in ["", "nope", "pid,,ppid", "+"] {
            assert_eq!(Column::list(Some(bad)).unwrap_err().exit_code(), 2, "{bad}");
        }
        assert_eq!(
            (caps(Some(0)), caps(None), caps(Some(1 << 5))),
            ("none".into(), "-".into(), "KILL".into())
        );
    }
}
