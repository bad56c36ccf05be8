//! `--tools`: the programs of this machine beside a target's files, for one that has none.
//!
//! The command gets a copy of the target's mount namespace whose root is a small tmpfs: the target's own directories are
//! bound into it, and below `/.drydock` lie this machine's programs and libraries, read-only. Nobody else sees it, and it ends
//! with the command. The programs are started through [`crate::launcher`], by their own loader with their own libraries.

use crate::launcher::{self, DIRECTORIES, HOST, LAUNCHER, TOOLS};
use drydock_core::error::CallExt;
use drydock_core::sys::mount::{ATTR_NODEV, ATTR_NOSUID, ATTR_RDONLY, Attributes, EMPTY_PATH, mount_setattr};
use drydock_core::{Error, Result};
use drydock_namespaces::{Kind, NamespaceId, join};
use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, mkdirat, open, openat, readlinkat, statat, symlinkat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// This machine's directories that hold programs and libraries, where they are no links to another of them.
const TREES: [&str; 5] = ["usr", "bin", "sbin", "lib", "lib64"];

/// The trees, not mounted anywhere yet.
#[derive(Debug)]
pub struct Tools {
    /// What becomes `/.drydock`.
    top: OwnedFd,
    trees: Vec<(&'static str, OwnedFd)>,
}

impl Tools {
    /// Makes them; nothing is mounted where anybody sees it.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] if no other root is joined; without CAP_SYS_ADMIN here; when joinns itself needs
    /// a loader.
    pub fn open(join: &join::Plan, other_files: bool) -> Result<Tools> {
        if !other_files {
            let why =
                "brings programs beside another's files (allowed: with -m or -a, and without --privileged)";
            return Err(Error::bad_input("--tools", why));
        }
        if launcher::interpreter(Path::new("/proc/self/exe")).is_some() {
            return Err(Error::failed(
                "--tools",
                "this joinns needs a loader itself, which the target may not have",
            )
            .hint("build it static, as scripts/cargo.sh does"));
        }
        let own_user = owned_by_us(join)?;
        let needs =
            |e: Error| e.on("--tools").hint("this needs CAP_SYS_ADMIN in your own user namespace: root");
        let top = tmpfs("64m").map_err(needs)?;
        fill(&top)?;
        let mut trees = Vec::new();
        for name in TREES {
            let path = Path::new("/").join(name);
            if let Ok(to) = std::fs::read_link(&path) {
                symlinkat(to, &top, format!("host/{name}")).call(|| format!("symlink(host/{name})"))?;
            } else if path.is_dir() {
                make_dir(top.as_fd(), &format!("host/{name}"))?;
                trees.push((name, tree(&path, own_user)?));
            }
        }
        Ok(Tools { top, trees })
    }

    /// Puts the programs into PATH, before the target's own.
    pub fn set_path(&self, env: &mut Vec<(OsString, OsString)>) {
        let mut path = OsString::from(format!("{TOOLS}/bin"));
        if let Some(at) = env.iter().position(|(name, _)| name == "PATH") {
            let (_, rest) = env.swap_remove(at);
            path.push(":");
            path.push(rest);
        }
        env.push(("PATH".into(), path));
        let places =
            ["usr/share/terminfo", "usr/lib/terminfo", "lib/terminfo"].map(|p| format!("{HOST}/{p}"));
        env.push(("TERMINFO_DIRS".into(), format!(":{}", places.join(":")).into()));
    }

    /// In the command's process, whose root is the target's: makes the copy and goes there.
    ///
    /// # Errors
    /// The call that failed; without CAP_SYS_ADMIN in the target's user namespace.
    pub fn attach(&self) -> Result<()> {
        nix::sched::unshare(CloneFlags::CLONE_NEWNS).call(|| "unshare(CLONE_NEWNS)").map_err(|e| {
            e.on("--tools").hint("this needs CAP_SYS_ADMIN in the user namespace that the command is in")
        })?;
        let none = None::<&str>;
        nix::mount::mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)
            .call(|| "mount(NULL, \"/\", NULL, MS_REC|MS_SLAVE)")?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let old = open("/", flags, Mode::empty()).call(|| "open(\"/\", O_PATH)")?;
        let entries = entries(&old)?;
        let root = tmpfs("1m")?;
        place(&root, rustix::fs::CWD, "/")?;
        rustix::process::fchdir(&root).call(|| "fchdir(new root)")?;
        rustix::process::chroot(".").call(|| "chroot(\".\")")?;
        for name in entries.iter().filter(|name| name.as_bytes() != b".drydock") {
            carry(&old, &root, name)?;
        }
        make_dir(root.as_fd(), ".drydock")?;
        place(&self.top, root.as_fd(), ".drydock")?;
        for (name, tree) in &self.trees {
            place(tree, root.as_fd(), &format!(".drydock/host/{name}"))?;
        }
        // What is written to / would be lost with the command: better refused.
        read_only(&root)?;
        nix::unistd::chdir("/").call(|| "chdir(\"/\")")
    }
}

/// Whether the mount namespace that is joined belongs to our own user namespace.
fn owned_by_us(join: &join::Plan) -> Result<bool> {
    let Some(file) = join.file(Kind::Mount) else { return Ok(true) };
    let owner = drydock_core::sys::ns::owner(file).call(|| "ioctl(NS_GET_USERNS)")?;
    Ok(NamespaceId::of_fd(owner.as_fd())? == NamespaceId::of_self(Kind::User)?)
}

fn tmpfs(size: &str) -> Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).call(|| "fsopen(\"tmpfs\")")?;
    for (key, value) in [("size", size), ("mode", "0755"), ("source", "drydock-tools")] {
        fsconfig_set_string(&context, key, value).call(|| format!("fsconfig({key}={value})"))?;
    }
    fsconfig_create(&context).call(|| "fsconfig(FSCONFIG_CMD_CREATE)")?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).call(|| "fsmount(tmpfs)")
}

/// One of our trees in a form that nobody inside can write to: an overlay without an upper layer, which no remount makes
/// writable. Where there is no overlayfs, and the target's mounts belong to our own user namespace (so that whoever could
/// remount there could do so here, too), a read-only clone.
fn tree(path: &Path, own_user: bool) -> Result<OwnedFd> {
    let refused = match overlay(path) {
        Ok(tree) => return Ok(tree),
        Err(e) if !own_user => {
            return Err(e.on("--tools").hint("overlayfs is needed for a target in another user namespace"));
        }
        Err(e) => e,
    };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(rustix::fs::CWD, path, flags).map_err(|_| refused)?;
    read_only(&tree)?;
    Ok(tree)
}

fn overlay(path: &Path) -> Result<OwnedFd> {
    // Two layers are the least without an upper one; the second is empty, and gone as soon as it is mounted.
    let empty = std::env::temp_dir().join(format!(".drydock-{}", std::process::id()));
    std::fs::create_dir(&empty).call(|| format!("mkdir({empty:?})"))?;
    let mount = || {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).call(|| "fsopen(\"overlay\")")?;
        let lower = format!("{}:{}", path.display(), empty.display());
        fsconfig_set_string(&context, "lowerdir", lower.as_str())
            .call(|| format!("fsconfig(lowerdir={lower})"))?;
        fsconfig_create(&context).call(|| "fsconfig(FSCONFIG_CMD_CREATE)")?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_RDONLY;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).call(|| "fsmount(overlay)")
    };
    let mounted = mount();
    let _ = std::fs::remove_dir(&empty);
    mounted
}

fn read_only(mount: &OwnedFd) -> Result<()> {
    let attributes = Attributes { set: ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV, ..Attributes::default() };
    mount_setattr(mount.as_fd(), c"", EMPTY_PATH, attributes).call(|| "mount_setattr(MOUNT_ATTR_RDONLY)")
}

/// The launcher, a name for each program, and the links of /etc/alternatives, by which many of them are found.
fn fill(top: &OwnedFd) -> Result<()> {
    for dir in ["bin", "host", "host/etc", "host/etc/alternatives"] {
        make_dir(top.as_fd(), dir)?;
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = openat(top, LAUNCHER, flags, Mode::from_raw_mode(0o755)).call(|| "open(launcher, O_CREAT)")?;
    let mut own = std::fs::File::open("/proc/self/exe").call(|| "open(\"/proc/self/exe\")")?;
    std::io::copy(&mut own, &mut std::fs::File::from(file)).call(|| "write(launcher)")?;
    let target = format!("../{LAUNCHER}");
    for name in programs() {
        let _ = symlinkat(target.as_str(), top, Path::new("bin").join(name));
    }
    let links = std::fs::read_dir("/etc/alternatives").into_iter().flatten().flatten();
    for entry in links {
        if let Ok(to) = std::fs::read_link(entry.path()) {
            let _ = symlinkat(to, top, Path::new("host/etc/alternatives").join(entry.file_name()));
        }
    }
    Ok(())
}

fn programs() -> BTreeSet<OsString> {
    let files = DIRECTORIES
        .iter()
        .flat_map(|dir| std::fs::read_dir(Path::new("/").join(dir)).into_iter().flatten().flatten());
    let runs = |path: &Path| {
        std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    files.filter(|entry| runs(&entry.path())).map(|entry| entry.file_name()).collect()
}

fn entries(dir: &OwnedFd) -> Result<Vec<OsString>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let readable = openat(dir, ".", flags, Mode::empty()).call(|| "open(\"/\", O_DIRECTORY)")?;
    let entries = rustix::fs::Dir::new(readable).call(|| "getdents64(\"/\")")?;
    let names = entries
        .filter_map(|entry| Some(OsStr::from_bytes(entry.ok()?.file_name().to_bytes()).to_os_string()));
    Ok(names.filter(|name| name != "." && name != "..").take(4096).collect())
}

fn make_dir(at: BorrowedFd<'_>, name: &str) -> Result<()> {
    mkdirat(at, name, Mode::from_raw_mode(0o755)).call(|| format!("mkdir({name:?})"))
}

fn place(mount: &OwnedFd, at: BorrowedFd<'_>, name: &str) -> Result<()> {
    move_mount(mount, "", at, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .call(|| format!("move_mount(…, \"\", …, {name:?}, MOVE_MOUNT_F_EMPTY_PATH)"))
}

/// One entry of the target's root, with all that is mounted below it.
fn carry(old: &OwnedFd, root: &OwnedFd, name: &OsStr) -> Result<()> {
    // What vanishes meanwhile is not there.
    let Ok(stat) = statat(old, name, AtFlags::SYMLINK_NOFOLLOW) else { return Ok(()) };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => {
            let Ok(to) = readlinkat(old, name, Vec::new()) else { return Ok(()) };
            return symlinkat(to.as_c_str(), root, name).call(|| format!("symlink({name:?})"));
        }
        FileType::Directory => {
            mkdirat(root, name, Mode::from_raw_mode(0o755)).call(|| format!("mkdir({name:?})"))?
        }
        _ => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            openat(root, name, flags, Mode::from_raw_mode(0o644))
                .map(drop)
                .call(|| format!("open({name:?}, O_CREAT)"))?;
        }
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    let tree =
        open_tree(old, name, flags).call(|| format!("open_tree({name:?}, OPEN_TREE_CLONE|AT_RECURSIVE)"))?;
    move_mount(&tree, "", root, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .call(|| format!("move_mount({name:?})"))
}
