//! Each action in words: the call as strace shows it, why, and where it is documented.

use crate::action::Action;
use crate::apply::FILE_STORE;
use crate::options::show;
use crate::pivot::Pivot;
use crate::propagation::Propagation;
use crate::request::{Device, DeviceKind};
use drydock_core::{Explain, Step};

impl Explain for Action {
    fn explain(&self) -> Step {
        let (call, why, man) = self.words();
        Step { stage: "mounts".into(), call, why: why.into(), man: man.into(), undo: None }
    }
}

impl Action {
    fn words(&self) -> (String, String, &'static str) {
        match self {
            Self::Tree { propagation: Propagation::Shared, root } => (
                format!("mount(NULL, parent mount of {root:?}, NULL, MS_PRIVATE, NULL)"),
                "pivot_root(2) refuses a root on a shared mount; all else keeps its peers".to_string(),
                "mount_namespaces(7)",
            ),
            Self::Tree { propagation, .. } => (
                propagation.call("/", true),
                "no mount made from here on reaches the host".to_string(),
                "mount_namespaces(7)",
            ),
            Self::BindRoot { path } => (
                format!("move_mount(open_tree({path:?}, OPEN_TREE_CLONE|AT_RECURSIVE), {path:?})"),
                "the new root must be a mount of its own for pivot_root(2)".to_string(),
                "open_tree(2)",
            ),
            Self::Scratch { scratch, dirs } => (
                format!(
                    "mount(\"tmpfs\", {:?}, \"tmpfs\", 0, {:?}); mkdir({dirs:?})",
                    scratch.path,
                    scratch.options().join(",")
                ),
                "what the container writes stays in memory and vanishes with it".to_string(),
                "tmpfs(5)",
            ),
            Self::OverlayRoot { path, overlay } => (
                format!("mount(\"overlay\", {path:?}, \"overlay\", 0, {:?})", overlay.data()),
                "layers stay as they are; what is written goes to the upper one".to_string(),
                "mount(2)",
            ),
            Self::Filesystem { destination, fstype, source, options, .. } => (
                format!(
                    "mount({source:?}, {destination:?}, {fstype:?}, {}, {:?})",
                    show(options.flags.0),
                    options.data_string()
                ),
                why_filesystem(fstype, destination),
                "mount(2)",
            ),
            Self::Bind { destination, source, recursive, options, id_map, .. } => {
                let rec = if *recursive { "|MS_REC" } else { "" };
                let flags = show(options.flags.0);
                let flags = if flags == "0" { String::new() } else { format!("|{flags}") };
                (
                    format!("mount({source:?}, {destination:?}, NULL, MS_BIND{rec}{flags}, NULL)"),
                    match id_map {
                        Some(_) => "the host's files, seen inside with the owners that the maps say",
                        None => "the host's files, seen inside",
                    }
                    .to_string(),
                    "mount(2)",
                )
            }
            Self::OwnCgroup { destination, hierarchy, .. } => (
                format!(
                    "mount({:?} + own cgroup, {destination:?}, NULL, MS_BIND|MS_REC, NULL)",
                    hierarchy.host
                ),
                "the container's own cgroup: without a cgroup namespace a mount would show them all"
                    .to_string(),
                "cgroup_namespaces(7)",
            ),
            Self::Seal { destination, .. } => (
                format!("mount_setattr({destination:?}, MOUNT_ATTR_RDONLY)"),
                "read-only, now that everything in it is made".to_string(),
                "mount_setattr(2)",
            ),
            Self::Remount { destination, options } => {
                let bind = if options.bind.is_some() { "MS_BIND|" } else { "" };
                (
                    format!(
                        "mount(NULL, {destination:?}, NULL, MS_REMOUNT|{bind}{}, NULL)",
                        show(options.flags.0)
                    ),
                    "change the flags of the mount".to_string(),
                    "mount(2)",
                )
            }
            Self::Device { device, bind } => words_of_device(device, *bind),
            Self::Symlink(link) => (
                format!("symlinkat({:?}, root, {:?})", link.target, link.path),
                "programs expect this name".to_string(),
                "symlink(2)",
            ),
            Self::FileStore { dir, .. } => (
                format!("mount(\"tmpfs\", {dir:?}, \"tmpfs\", MS_NOSUID|MS_NODEV|MS_NOEXEC, {FILE_STORE:?})"),
                "copies of the container's own files, which it may write to: bounded, and gone with it"
                    .to_string(),
                "tmpfs(5)",
            ),
            Self::File(file) => (
                format!(
                    "mount({:?}, {:?}, NULL, MS_BIND|MS_NOSUID|MS_NODEV|MS_NOEXEC, NULL)",
                    file.source, file.destination
                ),
                "a file of the container's own in place of the image's".to_string(),
                "mount(2)",
            ),
            Self::Directory(path) => (
                format!("mkdirat(root, {path:?}, 0755)"),
                "the command begins there; later the root cannot be written".to_string(),
                "mkdir(2)",
            ),
            Self::ReadonlyPath(path) => (
                format!("mount_setattr(open_tree({path:?}), AT_RECURSIVE, MOUNT_ATTR_RDONLY)"),
                "these settings belong to the host (left out where this kernel lacks it)".to_string(),
                "mount_setattr(2)",
            ),
            Self::Mask(path) => (
                format!("mount(\"/dev/null\" or an empty tmpfs, {path:?}, NULL, MS_BIND, NULL)"),
                "this tells about the host: it reads as empty (left out where this kernel lacks it)"
                    .to_string(),
                "mount(2)",
            ),
            Self::Pivot { pivot: Pivot::PivotRoot, .. } => (
                "pivot_root(\".\", \".\"); umount2(\".\", MNT_DETACH); chdir(\"/\")".to_string(),
                "the root becomes /, and every mount of the host leaves this namespace".to_string(),
                "pivot_root(2)",
            ),
            Self::Pivot { pivot: Pivot::Chroot, .. } => (
                "chroot(\".\"); chdir(\"/\")".to_string(),
                "the root becomes / for path names only".to_string(),
                "chroot(2)",
            ),
            Self::Pivot { pivot: Pivot::Move, .. } => (
                "move_mount(root, \"/\"); chroot(\".\"); chdir(\"/\")".to_string(),
                "the root covers /, for a host whose root is a ramfs".to_string(),
                "mount(2)",
            ),
            Self::RootPropagation(propagation, recursive) => {
                (propagation.call("/", *recursive), propagation.why().to_string(), "mount_namespaces(7)")
            }
            Self::RootReadonly => (
                "mount_setattr(root, \"\", AT_EMPTY_PATH, MOUNT_ATTR_RDONLY)".to_string(),
                "nothing on / can be changed".to_string(),
                "mount_setattr(2)",
            ),
        }
    }
}

fn words_of_device(device: &Device, bind: bool) -> (String, String, &'static str) {
    let Device { path, kind, major, minor, mode, .. } = device;
    if bind {
        let call = format!(
            "mount_setattr(open_tree({path:?}), AT_RECURSIVE, MOUNT_ATTR_RDONLY); move_mount(tree, {path:?})"
        );
        return (
            call,
            "user namespaces may not make device nodes: the host's is bound, to be used but not changed"
                .to_string(),
            "user_namespaces(7)",
        );
    }
    let kind = match kind {
        DeviceKind::Char => "S_IFCHR",
        DeviceKind::Block => "S_IFBLK",
        DeviceKind::Fifo => "S_IFIFO",
    };
    let call = format!("mknodat(root, {path:?}, {kind}|{mode:04o}, makedev({major}, {minor}))");
    (call, "a device that programs expect".to_string(), "mknod(2)")
}

fn why_filesystem(fstype: &str, destination: &str) -> String {
    match fstype {
        "proc" => "the processes of the new pid namespace, and no others",
        "sysfs" => "the kernel's devices and the new network namespace's interfaces",
        "devpts" => "pseudo-terminals of the container's own",
        "mqueue" => "POSIX message queues of the new ipc namespace",
        "cgroup" | "cgroup2" => "the container's own cgroup, as the root of what it sees",
        "tmpfs" if destination == "/dev" => "an empty /dev, to hold only harmless nodes",
        "tmpfs" if destination == "/dev/shm" => "POSIX shared memory of the container's own",
        "tmpfs" => "files in memory that vanish with the container",
        _ => "a file system that was asked for",
    }
    .to_string()
}
