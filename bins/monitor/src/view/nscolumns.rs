//! The columns of `monitor ns ls`: those of lsns(8), and what keeps a namespace alive.

use crate::Session;
use crate::model::inspect::netns_names;
use crate::model::namespaces::Namespace;
use crate::model::relations::{self, Relation};
use crate::model::scan::Id;
use crate::model::target::read_stat;
use drydock_namespaces::Kind;
use drydock_network::rtnl::Rtnl;
use serde::Serialize;
use std::collections::BTreeMap;
use std::os::fd::AsFd;

/// One namespace; `ns`, `type`, `path`, `nprocs`, `pid`, `ppid`, `command`, `uid`, `user`, `netnsid`, `nsfs`, `pns` and `ons`
/// mean the same as in `lsns --json`.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Inode number.
    pub ns: u64,
    /// Type.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// A path by which it can be opened.
    pub path: Option<String>,
    /// Processes in it.
    pub nprocs: usize,
    /// The lowest pid in it.
    pub pid: Option<u32>,
    /// That process's parent.
    pub ppid: Option<u32>,
    /// Its command.
    pub command: Option<String>,
    /// Its user.
    pub uid: Option<u32>,
    /// That user's name.
    pub user: Option<String>,
    /// The number by which our network namespace calls it.
    pub netnsid: Option<i32>,
    /// Where it is mounted, as we see it.
    pub nsfs: Vec<String>,
    /// Parent namespace.
    pub pns: Option<u64>,
    /// Owning user namespace.
    pub ons: Option<u64>,
    /// What keeps it alive.
    pub held_by: Holders,
    /// Owner, or why that is not known.
    pub owner: Relation,
    /// Parent, or why that is not known.
    pub parent: Relation,
}

/// What keeps a namespace alive.
#[derive(Debug, Serialize)]
pub struct Holders {
    /// Processes in it.
    pub processes: usize,
    /// Threads in it whose process is not.
    pub threads: Vec<Thread>,
    /// Descriptors open on it.
    pub fds: Vec<Descriptor>,
    /// Sockets in it whose process is not.
    pub sockets: Vec<Descriptor>,
    /// Processes whose next children will be in it.
    pub for_children_of: Vec<u32>,
    /// Bind mounts of it.
    pub mounts: Vec<Mounted>,
}

/// A thread.
#[derive(Debug, Serialize)]
pub struct Thread {
    pid: u32,
    tid: u32,
}

/// An open descriptor.
#[derive(Debug, Serialize)]
pub struct Descriptor {
    pid: u32,
    fd: u32,
}

/// A bind mount.
#[derive(Debug, Serialize)]
pub struct Mounted {
    /// Path as `seen_by` shows it, or as it is in the mount namespace `inside`.
    path: String,
    /// A process in a mount namespace that has the mount.
    seen_by: Option<u32>,
    /// The mount namespace, if no process is in it.
    inside: Option<u64>,
}

macro_rules! columns {
    ($($variant:ident $name:literal,)*) => {
        /// A column.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Column { $(#[doc = $name] $variant,)* }

        impl Column {
            /// All columns, lsns's first.
            pub const ALL: &[Column] = &[$(Column::$variant,)*];

            /// Its heading.
            pub fn name(self) -> &'static str {
                match self { $(Column::$variant => $name,)* }
            }
        }
    };
}

columns! {
    Ns "NS", Type "TYPE", Path "PATH", Nprocs "NPROCS", Pid "PID", Ppid "PPID", Command "COMMAND", Uid "UID", User "USER",
    Netnsid "NETNSID", Nsfs "NSFS", Pns "PNS", Ons "ONS", HeldBy "HELD-BY",
}

impl Column {
    /// The column of this name, in any case.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|c| c.name().eq_ignore_ascii_case(name))
    }

    /// Which figures have to be read.
    pub fn needs(columns: &[Column], all: bool) -> Needs {
        let has = |c: Column| all || columns.contains(&c);
        Needs { parent: has(Column::Ppid), netnsid: has(Column::Netnsid), user: has(Column::User) }
    }

    /// Its text in a row; `None` if there is none.
    pub fn value(self, row: &Row) -> Option<String> {
        match self {
            Column::Ns => Some(row.ns.to_string()),
            Column::Type => Some(row.kind.to_string()),
            Column::Path => row.path.clone(),
            Column::Nprocs => Some(row.nprocs.to_string()),
            Column::Pid => row.pid.map(|n| n.to_string()),
            Column::Ppid => row.ppid.map(|n| n.to_string()),
            Column::Command => Some(row.command.clone().unwrap_or_else(|| row.held_by.describe())),
            Column::Uid => row.uid.map(|n| n.to_string()),
            Column::User => row.user.clone(),
            Column::Netnsid if row.kind != "net" => None,
            Column::Netnsid => Some(row.netnsid.map_or("unassigned".to_string(), |n| n.to_string())),
            Column::Nsfs => (!row.nsfs.is_empty()).then(|| row.nsfs.join(",")),
            Column::Pns => row.pns.map(|n| n.to_string()),
            Column::Ons => row.ons.map(|n| n.to_string()),
            Column::HeldBy => Some(row.held_by.words()),
        }
    }
}

/// What costs a look that not everybody needs.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    parent: bool,
    netnsid: bool,
    user: bool,
}

/// What one process, that often stands for several namespaces, adds to a row.
#[derive(Clone, Debug)]
struct Known {
    uid: Option<u32>,
    ppid: Option<u32>,
    command: String,
}

/// Makes rows.
pub struct Rows<'a> {
    session: &'a Session,
    needs: Needs,
    known: BTreeMap<u32, Known>,
    users: BTreeMap<u32, Option<String>>,
    rtnl: Option<Rtnl>,
    own_mounts: Option<u64>,
}

impl<'a> Rows<'a> {
    /// With nothing read yet.
    pub fn new(session: &'a Session, needs: Needs) -> Self {
        let rtnl = needs.netnsid.then(|| Rtnl::here().ok()).flatten();
        let own = drydock_namespaces::NamespaceId::of_self(Kind::Mount).ok().map(|id| id.ino);
        Self { session, needs, known: BTreeMap::new(), users: BTreeMap::new(), rtnl, own_mounts: own }
    }

    /// The row of a namespace.
    pub fn row(&mut self, id: Id, ns: &Namespace) -> Row {
        let (kind, inode) = id;
        let process = ns.pid.map(|pid| self.process(pid));
        let uid = process.as_ref().and_then(|p| p.uid);
        let user = uid.filter(|_| self.needs.user).and_then(|uid| self.user(uid));
        let rtnl = self.rtnl.as_ref().filter(|_| kind == Kind::Network);
        let opened = rtnl.and_then(|_| relations::open(&self.session.proc, id, ns));
        Row {
            ns: inode,
            kind: kind.proc_name(),
            path: path(kind, ns),
            nprocs: ns.nprocs,
            pid: ns.pid,
            ppid: process.as_ref().and_then(|p| p.ppid),
            command: process.map(|p| p.command),
            uid,
            user,
            netnsid: rtnl.zip(opened).and_then(|(rtnl, fd)| rtnl.namespace_id(fd.as_fd()).ok().flatten()),
            nsfs: self.nsfs(id, ns),
            pns: ns.parent.inode(),
            ons: ns.owner.inode(),
            held_by: Holders::of(ns),
            owner: ns.owner,
            parent: ns.parent,
        }
    }

    fn process(&mut self, pid: u32) -> Known {
        let proc = &self.session.proc;
        let parent = self.needs.parent;
        let look = || Known {
            // The owner of /proc/PID is its effective uid, or root when it is not dumpable; lsns shows the same.
            uid: rustix::fs::statat(proc.root(), pid.to_string(), rustix::fs::AtFlags::empty())
                .ok()
                .map(|stat| stat.st_uid),
            ppid: parent.then(|| read_stat(proc, pid).ok()).flatten().map(|stat| stat.ppid),
            command: proc.command(pid),
        };
        self.known.entry(pid).or_insert_with(look).clone()
    }

    fn user(&mut self, uid: u32) -> Option<String> {
        self.users.entry(uid).or_insert_with(|| crate::model::users::name(uid)).clone()
    }

    /// Where it is mounted in our own mount namespace.
    fn nsfs(&self, (kind, inode): Id, ns: &Namespace) -> Vec<String> {
        let here = |(pid, path): &(u32, String)| {
            let link = rustix::fs::statat(
                self.session.proc.root(),
                format!("{pid}/ns/mnt"),
                rustix::fs::AtFlags::empty(),
            );
            (link.ok().map(|s| s.st_ino) == self.own_mounts).then(|| path.clone())
        };
        let mut found: Vec<String> = ns.mounts.iter().filter_map(here).collect();
        if found.is_empty() && kind == Kind::Network && !ns.mounts.is_empty() {
            let dev = drydock_namespaces::NamespaceId::of_self(Kind::Network).ok().map(|id| id.dev);
            let names = dev.map_or_else(Vec::new, |dev| netns_names(inode, dev));
            found.extend(names.into_iter().map(|name| format!("/run/netns/{name}")));
        }
        found
    }
}

/// A path that leads to it, as long as what holds it is there.
fn path(kind: Kind, ns: &Namespace) -> Option<String> {
    let name = kind.proc_name();
    let process = ns.pid.map(|pid| format!("/proc/{pid}/ns/{name}"));
    let thread = ns.threads.first().map(|(pid, tid)| format!("/proc/{pid}/task/{tid}/ns/{name}"));
    let fd = ns.fds.first().map(|(pid, fd)| format!("/proc/{pid}/fd/{fd}"));
    let children = ns.for_children_of.first().map(|pid| format!("/proc/{pid}/ns/{name}_for_children"));
    let mount = ns.mounts.first().map(|(pid, path)| format!("/proc/{pid}/root{path}"));
    process.or(thread).or(fd).or(children).or(mount)
}

impl Holders {
    fn of(ns: &Namespace) -> Self {
        let seen =
            |(pid, path): &(u32, String)| Mounted { path: path.clone(), seen_by: Some(*pid), inside: None };
        let hidden = |(space, path): &(u64, String)| Mounted {
            path: path.clone(),
            seen_by: None,
            inside: Some(*space),
        };
        Holders {
            processes: ns.nprocs,
            threads: ns.threads.iter().map(|(pid, tid)| Thread { pid: *pid, tid: *tid }).collect(),
            fds: ns.fds.iter().map(|(pid, fd)| Descriptor { pid: *pid, fd: *fd }).collect(),
            sockets: ns.sockets.iter().map(|(pid, fd)| Descriptor { pid: *pid, fd: *fd }).collect(),
            for_children_of: ns.for_children_of.clone(),
            mounts: ns.mounts.iter().map(seen).chain(ns.hidden_mounts.iter().map(hidden)).collect(),
        }
    }

    /// The kinds of holders, as one word.
    fn words(&self) -> String {
        let holders = [
            ("process", self.processes > 0),
            ("thread", !self.threads.is_empty()),
            ("fd", !self.fds.is_empty()),
            ("socket", !self.sockets.is_empty()),
            ("children", !self.for_children_of.is_empty()),
            ("mount", !self.mounts.is_empty()),
        ];
        let names: Vec<&str> = holders.iter().filter(|(_, held)| *held).map(|(name, _)| *name).collect();
        if names.is_empty() { "descendant".to_string() } else { names.join(",") }
    }

    /// The first holder of a namespace without processes, in words.
    fn describe(&self) -> String {
        let mount = self.mounts.first().map(|m| match (m.seen_by, m.inside) {
            (Some(pid), _) => format!("mounted at {} (seen by {pid})", m.path),
            (None, space) => format!("mounted at {} in mnt:[{}]", m.path, super::or_dash(space)),
        });
        let thread = self.threads.first().map(|t| format!("thread {} of process {}", t.tid, t.pid));
        let fd = self.fds.first().map(|f| format!("descriptor {} of process {}", f.fd, f.pid));
        let socket = self.sockets.first().map(|f| format!("socket {} of process {}", f.fd, f.pid));
        let child = self.for_children_of.first().map(|pid| format!("for children of process {pid}"));
        let first = mount.or(thread).or(fd).or(socket).or(child);
        first.unwrap_or_else(|| "above another namespace".to_string())
    }
}
