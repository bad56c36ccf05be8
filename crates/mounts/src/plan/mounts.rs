//! The mounts of a request as actions.

use super::paths::{below, check_host_path, check_text, inside, quoted};
use super::{Plan, fstypes};
use crate::action::{Action, IdMap};
use crate::cgroup::{self, Layout};
use crate::inside::Links;
use crate::label;
use crate::options::{self, Options, SourceLink, Unknown};
use crate::request::{Mount, Request, Symlink};
use drydock_core::{Error, Result};
use nix::mount::MsFlags;
use std::path::{Path, PathBuf};

/// Files in /proc that tools such as lxcfs replace by better-informed ones; nothing else may be mounted in there.
const IN_PROC: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// Adds a mount's actions to a plan; `late`: those for after everything is in place.
pub(super) fn add(plan: &mut Plan, late: &mut Vec<Action>, request: &Request, mount: &Mount) -> Result<()> {
    let customs = request.pass_unknown.then_some(plan.root.as_path());
    let destination = inside(&mount.destination, customs, "mount destination")?;
    if destination != mount.destination.trim_end_matches('/') {
        plan.notes.push(format!(
            "mount destination '{}' taken as '{destination}' inside the root",
            quoted(&mount.destination)
        ));
    }
    let object = format!("mount {}", quoted(&destination));
    let fstype = mount.fstype.as_deref().filter(|t| !matches!(*t, "bind" | "none" | ""));
    let unknown = if request.pass_unknown { Unknown::Pass } else { Unknown::Refuse };
    let mut options = options::parse(&object, fstype, &mount.options, unknown)?;
    let is_bind = options.bind.is_some() || fstype.is_none();
    check_proc(&destination, fstype, is_bind, &object)?;
    let links = links(&destination, fstype, is_bind, request.pass_unknown);
    if options.remount {
        plan.actions.push(Action::Remount { destination, options });
        return Ok(());
    }
    if is_bind {
        plan.actions.push(bind(&plan.root, request, mount, (destination, object), options, links)?);
        return Ok(());
    }
    if options.id_map.is_some() || !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty() {
        return Err(Error::bad_input(
            object,
            "only bind mounts can be id-mapped (allowed: with bind or rbind)",
        ));
    }
    let fstype = fstype.unwrap_or_default();
    if fstype == "cgroup" {
        add_cgroup(plan, request, mount, &destination, options);
        return Ok(());
    }
    fstypes::check(fstype, &object)?;
    if options.copy_up && fstype != "tmpfs" {
        return Err(Error::bad_input(object, "tmpcopyup is for tmpfs (allowed: with the type tmpfs)"));
    }
    // What has to be made in it is made first.
    if options.flags.0.contains(MsFlags::MS_RDONLY) && (fstype == "tmpfs" || destination == "/dev") {
        options.flags.0 &= !MsFlags::MS_RDONLY;
        late.push(Action::Seal { destination: destination.clone(), links });
    }
    let source = mount.source.clone().filter(|s| !s.is_empty()).unwrap_or_else(|| fstype.to_string());
    check_text(&source, &object)?;
    label::add(&mut options, fstype, plan.label.as_deref());
    let instead = instead_of(fstype).filter(|_| request.user_namespace).map(PathBuf::from);
    plan.actions.push(Action::Filesystem {
        destination,
        fstype: fstype.to_string(),
        source,
        options,
        links,
        instead,
    });
    Ok(())
}

/// Whether symbolic links of the root may lead to a mount point.
fn links(destination: &str, fstype: Option<&str>, is_bind: bool, customs: bool) -> Links {
    let kernels = !is_bind
        && fstype.is_some_and(|t| matches!(t, "proc" | "sysfs" | "cgroup" | "cgroup2" | "devpts" | "mqueue"));
    let places: &[&str] = if customs { &["/proc"] } else { &["/proc", "/sys", "/dev"] };
    // Images have such links as /dev/shm, which runtimes follow inside the root.
    let kernels = if customs { matches!(fstype, Some("proc" | "sysfs")) && !is_bind } else { kernels };
    if kernels || places.iter().any(|top| below(destination, top)) { Links::Refuse } else { Links::Follow }
}

fn bind(
    root: &Path,
    request: &Request,
    mount: &Mount,
    (destination, object): (String, String),
    options: Options,
    links: Links,
) -> Result<Action> {
    let source = mount.source.as_deref().unwrap_or_default();
    check_text(source, &object)?;
    let source = PathBuf::from(source);
    check_host_path(&source, &object)?;
    // What is inside the root may be there only when the mounts before it are.
    if let Err(e) = source.symlink_metadata()
        && !source.starts_with(root)
        && e.kind() != std::io::ErrorKind::PermissionDenied
    {
        let shown = quoted(&source.to_string_lossy());
        return Err(Error::bad_input(
            object,
            format!(
                "source '{shown}' cannot be used: {} (allowed: a path of the host that is there)",
                plain(&e)
            ),
        ));
    }
    if options.copy_up {
        return Err(Error::bad_input(object, "tmpcopyup is for tmpfs (allowed: with the type tmpfs)"));
    }
    let id_map = id_map(request, mount, &options, &object)?;
    if options.source_link == SourceLink::Copy
        && let Ok(target) = std::fs::read_link(&source)
    {
        let target = target.to_string_lossy().into_owned();
        return Ok(Action::Symlink(Symlink { path: destination, target }));
    }
    let recursive = options.bind == Some(true);
    Ok(Action::Bind { destination, source, recursive, options, links, id_map })
}

/// The maps of an id-mapped mount: its own, or the container's.
fn id_map(request: &Request, mount: &Mount, options: &Options, object: &str) -> Result<Option<IdMap>> {
    let own = !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty();
    if !own && options.id_map.is_none() {
        return Ok(None);
    }
    let (uid, gid) = match own {
        true => (mount.uid_mappings.clone(), mount.gid_mappings.clone()),
        false => (request.uid_mappings.clone(), request.gid_mappings.clone()),
    };
    if !own && request.user_namespace && uid.is_empty() && gid.is_empty() {
        // Those of the user namespace that is joined: only the kernel knows them.
        return Ok(Some(IdMap { recursive: options.id_map == Some(true), own, uid, gid }));
    }
    let sound = |maps: &[crate::request::IdMapping]| {
        maps.iter().all(|m| {
            m.size > 0
                && m.container_id.checked_add(m.size).is_some()
                && m.host_id.checked_add(m.size).is_some()
        })
    };
    if uid.is_empty() || gid.is_empty() || !sound(&uid) || !sound(&gid) {
        return Err(Error::bad_input(
            object,
            "an id-mapped mount without sound maps (allowed: uidMappings and gidMappings of the mount, or of the \
             container's user namespace, each of at least one id below 4294967295)",
        ));
    }
    Ok(Some(IdMap { recursive: options.id_map == Some(true), own, uid, gid }))
}

fn plain(error: &std::io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), drydock_core::error::errno_text)
}

/// What a user namespace binds from the host when it may not mount a file system of this type.
fn instead_of(fstype: &str) -> Option<&'static str> {
    match fstype {
        "proc" => Some("/proc"),
        "sysfs" => Some("/sys"),
        "mqueue" => Some("/dev/mqueue"),
        "cgroup2" => Some(cgroup::ROOT),
        _ => None,
    }
}

fn check_proc(destination: &str, fstype: Option<&str>, is_bind: bool, object: &str) -> Result<()> {
    let refused = match destination {
        "/proc" => !(is_bind || fstype == Some("proc")),
        inside if below(inside, "/proc") => !(is_bind && IN_PROC.contains(&inside)),
        _ => false,
    };
    if !refused {
        return Ok(());
    }
    Err(Error::bad_input(object, "mounting inside /proc is not allowed (allowed: proc on /proc itself)"))
}

/// A read-only cgroup file system stays so below too; what is asked of the file system's own is the kernel's on v2 only.
fn add_cgroup(plan: &mut Plan, request: &Request, mount: &Mount, destination: &str, options: Options) {
    let userns = request.user_namespace;
    let filesystem =
        |destination: String, fstype: &str, options: Options, instead: Option<PathBuf>| Action::Filesystem {
            destination,
            source: mount.source.clone().filter(|s| !s.is_empty()).unwrap_or_else(|| fstype.to_string()),
            fstype: fstype.to_string(),
            options,
            links: Links::Refuse,
            instead: instead.filter(|_| userns),
        };
    match cgroup::detect() {
        Layout::None => plan
            .notes
            .push(format!("{destination}: this machine has no cgroup file system mounted: left out")),
        // A mount from the initial cgroup namespace sets the host's options of the hierarchy (nsdelegate, …) anew.
        Layout::Unified if request.host_cgroup_namespace => plan.actions.push(Action::Bind {
            destination: destination.to_string(),
            source: cgroup::ROOT.into(),
            recursive: false,
            options: Options { data: Vec::new(), ..options },
            links: Links::Refuse,
            id_map: None,
        }),
        Layout::Unified => {
            let host = Some(cgroup::ROOT.into());
            plan.actions.push(filesystem(destination.to_string(), "cgroup2", options, host));
        }
        Layout::V1(hierarchies) => {
            // Nothing there is a program or a device, whatever is asked.
            let mut options = options;
            options.flags.0 |= MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            let mut top = options.clone();
            let read_only = top.flags.0.contains(MsFlags::MS_RDONLY);
            top.flags.0 &= !MsFlags::MS_RDONLY;
            top.data = ["mode=755", "size=64k", "nr_inodes=256"].map(String::from).to_vec();
            plan.actions.push(Action::Filesystem {
                destination: destination.to_string(),
                fstype: "tmpfs".into(),
                source: "tmpfs".into(),
                options: top.clone(),
                links: Links::Refuse,
                instead: None,
            });
            for hierarchy in hierarchies {
                let at = format!("{destination}/{}", hierarchy.name);
                let names = hierarchy.name.clone();
                if request.host_cgroup_namespace {
                    let options = Options { data: Vec::new(), ..options.clone() };
                    plan.actions.push(Action::OwnCgroup { destination: at, hierarchy, options });
                } else {
                    let own = Options { data: vec![hierarchy.data.clone()], ..options.clone() };
                    plan.actions.push(filesystem(at, "cgroup", own, Some(hierarchy.host)));
                }
                // Programs look for a controller by its own name.
                for single in names.split(',').filter(|_| names.contains(',')) {
                    let path = format!("{destination}/{single}");
                    plan.actions.push(Action::Symlink(Symlink { path, target: names.clone() }));
                }
            }
            if read_only {
                plan.actions
                    .push(Action::Seal { destination: destination.to_string(), links: Links::Refuse });
            }
        }
    }
}
