//! `monitor ns types|show|diff|owner|parent|map`.

use crate::Session;
use crate::model::inspect::{Link, links};
use crate::model::relations::{Relation, has_parent, relation};
use crate::model::target::{Target, unreadable};
use crate::model::types::types as all_types;
use crate::procfs::idmap::{self, Extent};
use drydock_cli::output::{print_line, print_text, table};
use drydock_core::sys::ns as ioctl;
use drydock_core::{Error, Result};
use drydock_namespaces::{Kind, NamespaceId, nsfile};
use serde::Serialize;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// `monitor ns types`.
///
/// # Errors
/// Output errors.
pub fn types(session: &Session) -> Result<()> {
    let rows = all_types();
    if session.json {
        return session.print(&rows);
    }
    let cells = rows.iter().map(|t| {
        let enabled = if t.enabled { "yes" } else { "no" };
        [t.name, t.flag, &t.hex, t.man, t.since, enabled, t.isolates].map(ToString::to_string).to_vec()
    });
    let header = ["TYPE", "FLAG", "HEX", "MAN", "SINCE", "ENABLED", "ISOLATES"];
    print_text(&table(&header, &cells.collect::<Vec<_>>()))
}

/// `monitor ns show`.
#[derive(Serialize)]
struct Shown<'a> {
    pid: u32,
    container: Option<&'a str>,
    namespaces: Vec<Link>,
}

/// `monitor ns show`.
///
/// # Errors
/// When the process has gone or is closed to us.
pub fn show(session: &Session, target: &Target) -> Result<()> {
    let namespaces = links(&session.proc, target.pid)?;
    let container = target.container.as_ref().map(|c| c.id.as_str());
    if session.json {
        return session.print(&Shown { pid: target.pid, container, namespaces });
    }
    let row = |link: &Link| vec![link.name.to_string(), super::or_dash(link.link.clone())];
    print_text(&table(&["NAME", "NAMESPACE"], &namespaces.iter().map(row).collect::<Vec<_>>()))
}

/// One row of `monitor ns diff`.
#[derive(Serialize)]
struct Compared {
    #[serde(rename = "type")]
    kind: &'static str,
    a: Option<NamespaceId>,
    b: Option<NamespaceId>,
    /// Null when one of them has no such namespace.
    same: Option<bool>,
}

/// `monitor ns diff`.
#[derive(Serialize)]
struct Diff {
    a: u32,
    b: u32,
    types: Vec<Compared>,
}

/// `monitor ns diff`.
///
/// # Errors
/// When a process has gone or is closed to us.
pub fn diff(session: &Session, a: &Target, b: &Target) -> Result<()> {
    // One that is closed to us compares as unknown; one that is not there is an error.
    let read = |target: &Target| match links(&session.proc, target.pid) {
        Err(error) if error.kind() == drydock_core::Kind::Failed => {
            super::notes(&[error.to_string()]);
            Ok(Vec::new())
        }
        other => other,
    };
    let (left, right) = (read(a)?, read(b)?);
    let id = |links: &[Link], kind: Kind| {
        let link = links.iter().find(|l| l.name == kind.proc_name())?;
        Some(NamespaceId { dev: link.dev?, ino: link.inode? })
    };
    let compare = |kind: Kind| {
        let (a, b) = (id(&left, kind), id(&right, kind));
        Compared { kind: kind.proc_name(), a, b, same: a.zip(b).map(|(a, b)| a == b) }
    };
    let types: Vec<Compared> = Kind::ALL.into_iter().map(compare).collect();
    if session.json {
        return session.print(&Diff { a: a.pid, b: b.pid, types });
    }
    let row = |c: &Compared| {
        let verdict = match c.same {
            Some(true) => "same",
            Some(false) => "different",
            None => "unknown",
        };
        let inode = |id: Option<NamespaceId>| super::or_dash(id.map(|id| id.ino));
        vec![c.kind.to_string(), inode(c.a), inode(c.b), verdict.to_string()]
    };
    let (a, b) = (title(a), title(b));
    print_text(&table(&["TYPE", &a, &b, "VERDICT"], &types.iter().map(row).collect::<Vec<_>>()))
}

fn title(target: &Target) -> String {
    target.container.as_ref().map_or(target.pid.to_string(), |c| c.id.clone())
}

/// `monitor ns owner` and `monitor ns parent`.
#[derive(Serialize)]
struct Related {
    /// What was asked about.
    namespace: String,
    /// `owner` or `parent`.
    relation: &'static str,
    /// Type of the answer.
    #[serde(rename = "type")]
    kind: &'static str,
    /// Inode number of the answer; null when it is outside our view.
    inode: Option<u64>,
    /// True: the kernel does not show it to us (EPERM), or there is nothing above.
    outside: bool,
    /// For a user namespace: the uid that created it.
    creator_uid: Option<u32>,
}

/// `monitor ns owner`.
///
/// # Errors
/// When the namespace cannot be opened.
pub fn owner(session: &Session, spec: &str) -> Result<()> {
    let (fd, kind) = open(session, spec)?;
    print_related(session, spec, kind, "owner", Kind::User, ioctl::owner(fd.as_fd()))
}

/// `monitor ns parent`.
///
/// # Errors
/// When the namespace cannot be opened, or has no parents.
pub fn parent(session: &Session, spec: &str) -> Result<()> {
    let (fd, kind) = open(session, spec)?;
    if !has_parent(kind) {
        let shown = drydock_core::text::escape(spec);
        return Err(Error::bad_input(
            shown,
            format!("is a {kind} namespace (only pid and user namespaces have a parent)"),
        ));
    }
    print_related(session, spec, kind, "parent", kind, ioctl::parent(fd.as_fd()))
}

fn print_related(
    session: &Session,
    spec: &str,
    asked: Kind,
    word: &'static str,
    kind: Kind,
    answer: std::io::Result<OwnedFd>,
) -> Result<()> {
    let (answer, fd) = relation(answer);
    let creator_uid = fd.filter(|_| kind == Kind::User).and_then(|fd| ioctl::owner_uid(fd.as_fd()).ok());
    if answer == Relation::Unreadable {
        return Err(Error::failed(
            drydock_core::text::escape(spec),
            format!("the kernel does not tell its {word}"),
        ));
    }
    let inode = answer.inode();
    if session.json {
        let outside = inode.is_none();
        let namespace = drydock_core::text::escape(spec);
        return session.print(&Related {
            namespace,
            relation: word,
            kind: kind.proc_name(),
            inode,
            outside,
            creator_uid,
        });
    }
    match inode {
        Some(inode) => {
            let by = creator_uid.map_or(String::new(), |uid| format!("  created by uid {uid}"));
            print_line(&format!("{kind}:[{inode}]{by}"))
        }
        None => print_line(&format!("the {word} of this {asked} namespace is outside your view")),
    }
}

/// Opens `PID:type`, `ID:type`, or a path.
fn open(session: &Session, spec: &str) -> Result<(OwnedFd, Kind)> {
    if let Some((who, kind)) = spec.rsplit_once(':').filter(|(who, _)| !who.contains('/') && !who.is_empty())
    {
        let kind: Kind = kind.parse()?;
        let pid = session.target(who)?.pid;
        let path = format!("{pid}/ns/{}", kind.proc_name());
        let fd = session.proc.open_at(&path).map_err(|e| unreadable(pid, &format!("ns/{kind}"), e))?;
        return Ok((fd, kind));
    }
    nsfile::open(Path::new(spec), None)
}

/// `monitor ns map`.
#[derive(Serialize)]
struct Maps {
    pid: u32,
    user_namespace: Option<u64>,
    uid_map: Vec<Extent>,
    gid_map: Vec<Extent>,
    /// `allow` or `deny`: whether setgroups(2) may be called inside.
    setgroups: Option<String>,
    /// The same in words.
    words: Vec<String>,
}

/// `monitor ns map`.
///
/// # Errors
/// When the process has gone or is closed to us.
pub fn map(session: &Session, target: &Target) -> Result<()> {
    let pid = target.pid;
    let read = |file: &str| {
        let text = session.proc.text(&format!("{pid}/{file}")).map_err(|e| unreadable(pid, file, e))?;
        Ok::<_, Error>(idmap::parse(&text))
    };
    let (uid_map, gid_map) = (read("uid_map")?, read("gid_map")?);
    let setgroups = session.proc.line(&format!("{pid}/setgroups")).ok();
    let user = links(&session.proc, pid).ok().and_then(|l| l.iter().find(|l| l.name == "user")?.inode);
    let mut words = describe("uid", &uid_map);
    words.extend(describe("gid", &gid_map));
    if session.json {
        return session.print(&Maps { pid, user_namespace: user, uid_map, gid_map, setgroups, words });
    }
    if let Some(inode) = user {
        print_line(&format!("user:[{inode}]"))?;
    }
    words.iter().try_for_each(|line| print_line(line))?;
    setgroups.map_or(Ok(()), |word| print_line(&format!("setgroups: {word}")))
}

fn describe(what: &str, map: &[Extent]) -> Vec<String> {
    match map {
        [] => vec![format!("{what}: no map written: every id appears as the overflow id (65534)")],
        [one] if one.is_identity() => {
            vec![format!("{what}: inside = outside for every id (the initial map)")]
        }
        _ => map.iter().map(|extent| format!("{what}: {}", extent.words())).collect(),
    }
}
